// Writing and sending. Every page works without this file; with it the preview follows
// what is typed, posts move without a reload, and nothing typed is lost by leaving.
"use strict";

const TYPING_PAUSE_MS = 500;
const POLL_MS = 1000;

// A form whose preview is a page of the server's, shown in a sandboxed frame. Each new
// preview loads in a frame of its own behind the old one, and then takes its place: no
// flicker, and nothing is added to the browser's history.
function followTyping(form) {
  const button = form.querySelector("[data-preview]");
  const pane = document.querySelector("[data-frames]");
  if (!button || !pane) return;
  let timer = 0;
  let loading = null;
  let again = false;
  let count = 0;

  function scrollOf(frame) {
    try {
      return frame.contentWindow.scrollY;
    } catch {
      return 0; // an error page of the browser's own
    }
  }

  function swap(old, fresh) {
    const y = scrollOf(old);
    try {
      fresh.contentWindow.scrollTo(0, y);
    } catch {
      // nothing to keep
    }
    fresh.classList.remove("is-waiting");
    fresh.removeAttribute("aria-hidden");
    old.remove();
    pane.removeAttribute("data-busy");
    loading = null;
    if (again) refresh();
  }

  function refresh() {
    if (loading) {
      again = true;
      return;
    }
    again = false;
    const old = pane.querySelector("iframe");
    const fresh = old.cloneNode(false);
    fresh.removeAttribute("src");
    fresh.name = `${old.dataset.name}-${(count += 1)}`;
    fresh.classList.add("is-waiting");
    fresh.setAttribute("aria-hidden", "true");
    loading = fresh;
    pane.dataset.busy = "";
    old.after(fresh);
    const before = button.formTarget;
    button.formTarget = fresh.name;
    // A picture that waits to be put in need not travel with each preview.
    const files = [...form.querySelectorAll("input[type=file]")];
    for (const file of files) file.disabled = true;
    form.requestSubmit(button);
    for (const file of files) file.disabled = false;
    button.formTarget = before;
    // Chromium reports the empty first document before the real one.
    fresh.addEventListener("load", () => {
      let empty = false;
      try {
        empty = fresh.contentWindow.location.href === "about:blank";
      } catch {
        empty = false;
      }
      if (!empty && loading === fresh) swap(old, fresh);
    });
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(refresh, TYPING_PAUSE_MS);
  }

  form.addEventListener("input", soon);
  document.addEventListener("change", (event) => {
    const now = event.target.closest("[data-preview-now]");
    if (now && event.target.form === form) {
      clearTimeout(timer);
      refresh();
    }
  });
  form.addEventListener("inkorg:moved", refresh);
}

// "Unsaved changes" beside the button, a question before they are thrown away, Ctrl+S.
function guardUnsaved(form) {
  const status = form.querySelector("[data-saved]");
  const save = form.querySelector("[data-save]");
  let dirty = form.hasAttribute("data-dirty");

  function show() {
    if (status) status.textContent = dirty ? status.dataset.unsaved : status.dataset.saved;
    form.toggleAttribute("data-dirty", dirty);
  }

  function changed(event) {
    if (event.target.closest && event.target.closest("[data-no-save]")) return;
    dirty = true;
    show();
  }

  form.addEventListener("input", changed);
  form.addEventListener("inkorg:moved", changed);
  form.addEventListener("submit", (event) => {
    const to = event.submitter && event.submitter.formTarget;
    if (!to || to === "_self") dirty = false;
  });
  window.addEventListener("beforeunload", (event) => {
    if (dirty) event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const isSave = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    if (isSave && save) {
      event.preventDefault();
      form.requestSubmit(save);
    }
  });
  if (dirty) show();
}

// Posts change places by buttons, or by Alt and an arrow anywhere in the post.
function movePosts(list) {
  const form = list.closest("form");
  const voice = document.querySelector("[data-voice]");

  function number() {
    const rows = [...list.children];
    rows.forEach((row, index) => {
      row.querySelector("[data-place]").textContent = String(index + 1);
      row.querySelector("[data-move=up]").disabled = index === 0;
      row.querySelector("[data-move=down]").disabled = index === rows.length - 1;
    });
  }

  function move(row, direction, focus) {
    const other = direction === "up" ? row.previousElementSibling : row.nextElementSibling;
    if (!other) return;
    if (direction === "up") other.before(row);
    else other.after(row);
    number();
    const here = [...list.children].indexOf(row) + 1;
    voice.textContent = voice.dataset.moved
      .replace("{title}", row.dataset.title)
      .replace("{place}", String(here))
      .replace("{count}", String(list.children.length));
    const reverse = direction === "up" ? "down" : "up";
    if (focus.disabled) row.querySelector(`[data-move=${reverse}]`).focus();
    else focus.focus();
    row.scrollIntoView({ block: "nearest" });
    form.dispatchEvent(new CustomEvent("inkorg:moved"));
  }

  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-move]");
    if (!button) return;
    event.preventDefault();
    move(button.closest("li"), button.dataset.move, button);
  });
  list.addEventListener("keydown", (event) => {
    const direction = { ArrowUp: "up", ArrowDown: "down" }[event.key];
    if (!event.altKey || !direction) return;
    event.preventDefault();
    move(event.target.closest("[data-post]"), direction, event.target);
  });
}

// "41 characters", and a word of warning when it will be cut off.
function countCharacters(output) {
  const field = document.getElementById(output.dataset.counts);
  const limit = Number(output.dataset.limit);

  function show() {
    const length = [...field.value].length;
    const { empty, fits, long } = output.dataset;
    const words = length === 0 ? empty : length > limit ? long : fits;
    output.textContent = words.replace("{count}", String(length));
    output.classList.toggle("warn", length > limit);
  }

  field.addEventListener("input", show);
  show();
}

// An issue on its way: the figures are the server's, fetched each second.
function followProgress(box) {
  const voice = document.querySelector("[data-voice]");
  let spoken = -1;

  async function look() {
    if (!document.hidden) await fetchFigures();
    setTimeout(look, POLL_MS);
  }

  async function fetchFigures() {
    let response;
    try {
      response = await fetch(box.dataset.progress, { credentials: "same-origin" });
    } catch {
      box.classList.add("is-stale"); // the network is away; the next second tries again
      return;
    }
    box.classList.toggle("is-stale", !response.ok);
    if (!response.ok) return;
    if (response.redirected) location.reload(); // logged out meanwhile
    const state = response.headers.get("X-Issue-State");
    if (state !== box.dataset.state) location.reload();
    box.innerHTML = await response.text();
    const bar = box.querySelector("progress");
    const quarter = bar ? Math.floor((4 * bar.value) / (bar.max || 1)) : 0;
    if (quarter > spoken) {
      spoken = quarter;
      voice.textContent = box.querySelector("[data-summary]").textContent;
    }
  }

  setTimeout(look, POLL_MS);
}

// How many readers a letter is for follows what is ticked; the server counts.
function countReaders(part) {
  let timer = 0;
  let asked = 0;

  async function count() {
    const mine = (asked += 1);
    const typed = new FormData(part.form);
    typed.delete("picture");
    const answer = await fetch(part.dataset.audience, { method: "POST", body: typed }).catch(() => null);
    if (!answer?.ok || answer.redirected || mine !== asked) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const old = document.getElementById("audience-count");
    // The line stays, so that those who hear the page hear what is new in it.
    old.replaceChildren(...page.getElementById("audience-count").childNodes);
  }

  part.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(count, TYPING_PAUSE_MS);
  });
}

// A picture is uploaded while one writes, and put in where the cursor stands.
function putPicturesIn(part) {
  const form = part.form;
  const [file, alt, text] = ["picture", "picture_alt", "opening"].map((name) => form.elements[name]);
  const said = part.querySelector("[data-upload-said]");

  function insert(markdown) {
    const before = text.value.slice(0, text.selectionEnd).replace(/\n*$/, "");
    const after = text.value.slice(text.selectionEnd).replace(/^\n*/, "");
    const start = before ? `${before}\n\n` : "";
    text.value = `${start}${markdown}\n\n${after}`;
    text.selectionStart = text.selectionEnd = start.length + markdown.length + 2;
    text.dispatchEvent(new Event("input", { bubbles: true }));
  }

  part.querySelector("[data-upload]").addEventListener("click", async (event) => {
    event.preventDefault();
    const button = event.currentTarget;
    const body = new FormData();
    body.append("csrf_token", form.elements.csrf_token.value);
    body.append("picture_alt", alt.value);
    if (file.files[0]) body.append("picture", file.files[0]);
    button.setAttribute("aria-busy", "true");
    let answer = {};
    try {
      answer = await (await fetch(part.dataset.pictures, { method: "POST", body })).json();
    } catch {
      answer = { error: said.dataset.uploadFailed };
    }
    button.removeAttribute("aria-busy");
    said.textContent = answer.error || said.dataset.uploadSaid;
    said.classList.toggle("good", !answer.error);
    if (answer.error) {
      (answer.field === "picture_alt" ? alt : file).focus();
      return;
    }
    insert(answer.markdown);
    file.value = alt.value = "";
  });
}

for (const form of document.querySelectorAll("form[data-compose]")) {
  followTyping(form);
  guardUnsaved(form);
}
document.querySelectorAll("[data-posts]").forEach(movePosts);
document.querySelectorAll("[data-audience]").forEach(countReaders);
document.querySelectorAll("[data-pictures]").forEach(putPicturesIn);
document.querySelectorAll("[data-counts]").forEach(countCharacters);
document.querySelectorAll("[data-progress]").forEach(followProgress);
