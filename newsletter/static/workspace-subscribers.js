// A search that has not looked at everybody yet goes on by itself, until there is a page
// of hits or nobody is left. Without this, "Look further back" is a link.

const FULL = 50;

async function goOn(found) {
  const link = found.querySelector("[data-further]");
  const rows = found.querySelectorAll(".addresses > li").length;
  if (!link || rows >= FULL || !found.isConnected) return;
  const answer = await fetch(link.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const more = page.getElementById("found");
  if (!more || document.activeElement === link) return;
  const list = found.querySelector(".addresses");
  const theirs = more.querySelector(".addresses");
  if (list && theirs) list.append(...theirs.children);
  else if (theirs) found.prepend(theirs);
  const said = more.querySelector(".lead");
  if (said && !list) found.prepend(said);
  found.querySelector("#further").replaceWith(more.querySelector("#further"));
  await goOn(found);
}

const found = document.getElementById("found");
if (found) goOn(found);
