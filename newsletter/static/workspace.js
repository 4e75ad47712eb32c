// The workspace: keys, and parts of a page that follow what happens. All of it is extra:
// every page works without.

const keysOn = () => localStorage.getItem("keys") !== "off";
const typing = (target) =>
  target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");

function openDialog(id) {
  document.getElementById(id)?.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (document.querySelector("dialog[open]") || !keysOn()) return;
  if (event.key === "?") {
    event.preventDefault();
    openDialog("keys");
  } else if (event.key === "/") {
    const search = document.querySelector("input[type=search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  } else {
    // Pages give a link or a button its key: data-key="n".
    const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (!target) return;
    event.preventDefault();
    target.click();
  }
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) openDialog(opener.dataset.opens);
});

const keysSwitch = document.getElementById("keys-on");
if (keysSwitch) {
  keysSwitch.checked = keysOn();
  keysSwitch.addEventListener("change", () => {
    localStorage.setItem("keys", keysSwitch.checked ? "on" : "off");
  });
}

// A part with data-follow="/address" is fetched anew every two seconds while it says so
// itself: the answer replaces it, and an answer without data-follow is the last. Where
// there is more to do then, data-then="/address" leads to the page that has it.
function follow(part) {
  setTimeout(async () => {
    if (!part.isConnected) return;
    let next = part;
    try {
      const answer = await fetch(part.dataset.follow, { headers: { Accept: "text/html" } });
      if (answer.ok && !answer.redirected && !part.contains(document.activeElement)) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        next = page.body.firstElementChild || part;
        part.replaceWith(next);
      }
    } catch {
      // The network is away for a moment: try again.
    }
    if (next.dataset.follow) follow(next);
    else if (next.dataset.then) location.replace(next.dataset.then);
  }, 2000);
}

document.querySelectorAll("[data-follow]").forEach(follow);

// Now and then the server hears that this session is used; a GET would change nothing.
const { seen, token } = document.body.dataset;
if (seen) fetch(seen, { method: "POST", headers: { "X-CSRFToken": token } }).catch(() => {});

// A pressed button shows that it was.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button) setTimeout(() => button.setAttribute("aria-busy", "true"));
});

// What is typed about the mail is checked when a field is left; the server looks.
const checks = document.querySelector("[data-check]");
if (checks) {
  const asked = ["from_name", "from_email", "reply_to", "language", "timezone"];
  const look = async () => {
    checks.setAttribute("aria-busy", "true");
    const body = new FormData(checks.form);
    const answer = await fetch(checks.dataset.check, { method: "POST", body }).catch(() => null);
    checks.removeAttribute("aria-busy");
    if (!answer?.ok) return;
    const drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("mail-check").replaceWith(drawn.body.firstElementChild);
  };
  checks.form.addEventListener("change", (event) => {
    if (asked.includes(event.target.name)) look();
  });
  checks.addEventListener("click", (event) => {
    event.preventDefault();
    look();
  });
}

// A form that the server judges while one types: what cannot be is said at its field, and
// parts of the page that depend on it follow. Nothing is saved.
const fieldOf = (form, name) => {
  const found = form.elements[name] ?? form.elements[`${name}_url`]; // several in a row
  return found instanceof RadioNodeList ? found[0] : found;
};
const boxOf = (form, name) => fieldOf(form, name)?.closest(".field");

function tellFault(form, name, text) {
  const field = fieldOf(form, name);
  const box = boxOf(form, name);
  if (!box) return;
  const id = `${name}-error`;
  const old = document.getElementById(id);
  if (old?.textContent === text) return;
  old?.remove();
  const others = (field.getAttribute("aria-describedby") ?? "").split(" ").filter((one) => one && one !== id);
  if (text) {
    const said = Object.assign(document.createElement("p"), { className: "error", id, textContent: text });
    said.setAttribute("role", "alert");
    box.append(said);
    others.push(id);
  }
  if (text) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
  if (others.length) field.setAttribute("aria-describedby", others.join(" "));
  else field.removeAttribute("aria-describedby");
}

function judge(form) {
  const told = new Set();
  const touched = new Set(); // a field that nobody has come to yet is not blamed
  let timer = 0;
  let asked = 0;
  for (const error of form.querySelectorAll(".error[id$=-error]")) told.add(error.id.replace(/-error$/, ""));

  async function look() {
    const mine = (asked += 1);
    const body = new FormData(form);
    const answer = await fetch(form.dataset.judge, { method: "POST", body }).catch(() => null);
    if (!answer?.ok || answer.redirected || mine !== asked) return;
    const drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of drawn.body.querySelectorAll("[id]")) {
      const here = document.getElementById(part.id);
      // What stays as it is, is not read out once more.
      if (here && here.innerHTML !== part.innerHTML) here.replaceChildren(...part.childNodes);
    }
    const faults = new Map();
    for (const one of drawn.querySelectorAll("[data-fault]")) {
      const { fault } = one.dataset;
      if (told.has(fault) || touched.has(boxOf(form, fault))) faults.set(fault, one.textContent);
    }
    for (const name of new Set([...told, ...faults.keys()])) tellFault(form, name, faults.get(name) ?? "");
    told.clear();
    for (const name of faults.keys()) told.add(name);
  }

  form.addEventListener("input", (event) => {
    touched.add(event.target.closest(".field"));
    clearTimeout(timer);
    timer = setTimeout(look, 400);
  });
}

document.querySelectorAll("form[data-judge]").forEach(judge);

// The sample beside the colour follows what is typed or picked; the server draws it.
const accent = document.querySelector("[data-sample]");
if (accent) {
  const picker = document.getElementById("accent-picker");
  const show = async () => {
    if (!/^#[0-9a-f]{6}$/i.test(accent.value)) return;
    picker.value = accent.value;
    const query = new URLSearchParams({ accent: accent.value });
    const answer = await fetch(`${accent.dataset.sample}?${query}`).catch(() => null);
    if (!answer?.ok) return;
    const drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("accent-shown").replaceWith(drawn.body.firstElementChild);
  };
  picker.hidden = false;
  accent.addEventListener("input", show);
  picker.addEventListener("change", () => {
    accent.value = picker.value;
    show();
  });
}
