// Writing and sending. Every page works without this file; with it the preview follows
// what is typed, posts move without a reload, and nothing typed is lost by leaving.
"use strict";

const TYPING_PAUSE_MS = 500;
const POLL_MS = 1000;
const SAVE_PAUSE_MS = 1500;
const SAVE_AT_LEAST_MS = 8000; // also while somebody types without a pause
const RETRY_MS = 10_000;
const WATCH_MS = 15_000;
const KEEPALIVE_BYTES = 60_000; // what a browser sends of a page that is closed

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
  let leaving = false; // a form submits one thing at a time: a preview would undo a save

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
    if (leaving) return;
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

  form.addEventListener("submit", (event) => {
    const to = event.submitter && event.submitter.formTarget;
    if (!to || to === "_self") leaving = true;
  });
  for (const stays of ["input", "pageshow"]) window.addEventListener(stays, () => (leaving = false));
  form.addEventListener("input", soon);
  document.addEventListener("change", (event) => {
    const now = event.target.closest("[data-preview-now]");
    if (now && event.target.form === form) {
      clearTimeout(timer);
      refresh();
    }
  });
  // Return in a field about the preview shows it, and saves nothing.
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input[data-preview-now]:not([type=radio])");
    if (event.key !== "Enter" || !field || field.form !== form) return;
    event.preventDefault();
    refresh();
  });
  form.addEventListener("inkorg:moved", refresh);
  form.addEventListener("inkorg:taken", refresh);
  // What came back unsaved is not what the frame has loaded.
  if (form.hasAttribute("data-dirty")) window.addEventListener("load", refresh);
}

// "Unsaved changes" beside the button, a question before they are thrown away, Ctrl+S.
// A form that saves itself asks only about what it cannot save.
function guardUnsaved(form) {
  const status = form.querySelector("[data-saved]");
  const save = form.querySelector("[data-save]");
  let dirty = form.hasAttribute("data-dirty");

  function show(words) {
    if (status) status.textContent = words ?? (dirty ? status.dataset.unsaved : status.dataset.saved);
    form.toggleAttribute("data-dirty", dirty);
  }

  function changed(event) {
    if (event.target.closest && event.target.closest("[data-no-save]")) return;
    dirty = true;
    show();
  }

  const keeper = form.dataset.autosave ? saveWhileTyping(form) : null;
  form.addEventListener("input", changed);
  form.addEventListener("inkorg:moved", changed);
  form.addEventListener("inkorg:kept", (event) => {
    dirty = event.detail.dirty;
    show(event.detail.words);
  });
  form.addEventListener("submit", (event) => {
    const to = event.submitter && event.submitter.formTarget;
    if (!to || to === "_self") dirty = false;
  });
  window.addEventListener("beforeunload", (event) => {
    if (dirty && !keeper?.saveWhileLeaving()) event.preventDefault();
  });
  // Return in a line saves and stays there; where a test is sent to, it sends it.
  form.addEventListener("keydown", (event) => {
    const field = event.target.closest("input[type=text], input[data-return]");
    if (event.key !== "Enter" || event.isComposing || !field || !keeper) return;
    event.preventDefault();
    if (field.dataset.return) form.requestSubmit(form.querySelector(`[value=${field.dataset.return}]`));
    else keeper.save();
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

// A form with data-autosave="/address" is sent there in every pause. The answer tells
// which version it is now, or that somebody else changed the same: then both are kept.
function saveWhileTyping(form) {
  const notice = document.querySelector("[data-notice]");
  let typed = 0; // counts changes; `saved` is up to which the server has them
  let saved = 0;
  let sending = null;
  let timer = 0;
  let waiting = 0; // since when something is unsaved
  let failed = form.hasAttribute("data-dirty"); // an error to put right comes first

  function body() {
    const data = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (typeof value === "string" && name !== "add") data.append(name, value);
    }
    return data;
  }

  const hasTicks = () => form.querySelector("[name=add]:checked") !== null;

  function tell(words, { reload = false, choose = false } = {}) {
    const drawn = notice.querySelector("template").content.cloneNode(true);
    drawn.querySelector("[data-notice-reload]").hidden = !reload;
    drawn.querySelector("[data-notice-choose]").hidden = !choose;
    drawn.querySelector("[data-notice-words]").textContent = words;
    clear();
    notice.append(drawn);
  }

  function clear() {
    notice.querySelector(".said")?.remove();
  }

  function say(words, dirty) {
    form.dispatchEvent(new CustomEvent("inkorg:kept", { detail: { words, dirty } }));
  }

  // What the other wrote goes into the form, unless the field has been typed in since.
  function takeUp(answer, sent) {
    for (const [name, value] of Object.entries(answer.fields)) {
      const field = form.elements[name];
      if (!field || field.value !== (sent.get(name) ?? "")) return;
      field.value = value;
    }
    form.elements.fingerprint.value = answer.fingerprint;
    form.elements.version.value = answer.version;
    if (answer.told) {
      tell(answer.told);
      form.dispatchEvent(new CustomEvent("inkorg:taken"));
    } else {
      clear();
    }
  }

  function settle(answer, mine, sent) {
    failed = Boolean(answer.error);
    if (failed) {
      say(answer.error, true);
      return;
    }
    saved = mine;
    if (answer.conflict) tell(answer.conflict, { choose: true });
    if (answer.fingerprint) takeUp(answer, sent);
    if (typed === mine) say(answer.said ?? answer.kept ?? answer.conflict, hasTicks());
    else soon();
  }

  async function save() {
    clearTimeout(timer);
    if (sending || typed === saved) return;
    const mine = typed;
    const sent = body();
    sending = new AbortController();
    waiting = 0;
    let answer;
    try {
      const got = await fetch(form.dataset.autosave, { method: "POST", body: sent, signal: sending.signal });
      const isOurs = got.headers.get("Content-Type")?.startsWith("application/json");
      if (isOurs) answer = await got.json();
      else answer = { error: got.status === 401 ? form.dataset.loggedOut : form.dataset.failed, again: true };
    } catch (error) {
      sending = null;
      if (error.name === "AbortError") return; // the button, or the page that closes, does it
      answer = { error: form.dataset.failed, again: true };
    }
    sending = null;
    settle(answer, mine, sent);
    if (answer.again) timer = setTimeout(save, RETRY_MS);
  }

  function soon() {
    clearTimeout(timer);
    waiting ||= Date.now();
    const left = waiting + SAVE_AT_LEAST_MS - Date.now();
    timer = setTimeout(save, Math.max(0, Math.min(SAVE_PAUSE_MS, left)));
  }

  function changed(event) {
    if (event.target.closest?.("[data-no-save]") || event.target.name === "add") return;
    typed += 1;
    soon();
  }

  // What is there is sent along while the page closes; false where that cannot be.
  function saveWhileLeaving() {
    if (failed || hasTicks()) return false;
    const sent = body();
    if (sent.toString().length > KEEPALIVE_BYTES) return false;
    if (typed !== saved) {
      sending?.abort();
      fetch(form.dataset.autosave, { method: "POST", body: sent, keepalive: true }).catch(() => {});
      saved = typed;
    }
    return true;
  }

  async function watch() {
    setTimeout(watch, WATCH_MS);
    if (document.hidden || sending || typed !== saved) return;
    const got = await fetch(form.dataset.watch).catch(() => null);
    if (!got?.ok || got.redirected) return;
    const now = await got.json();
    const isNews = now.fingerprint !== form.elements.fingerprint.value;
    if (isNews && !sending && typed === saved) tell(now.said, { reload: true });
  }

  form.addEventListener("input", changed);
  form.addEventListener("inkorg:moved", changed);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) save();
  });
  form.addEventListener("submit", (event) => {
    const to = event.submitter && event.submitter.formTarget;
    if (to && to !== "_self") return;
    clearTimeout(timer);
    sending?.abort();
    saved = typed;
  });
  setTimeout(watch, WATCH_MS);
  return { save, saveWhileLeaving };
}

// Where two editors changed the same, a button takes what the other wrote.
function takeTheirs(form) {
  for (const button of form.querySelectorAll("[data-use], [data-use-order]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const { use, value, useOrder } = button.dataset;
      if (useOrder) {
        const list = form.querySelector("[data-posts]");
        for (const id of useOrder.split(" ")) list.append(document.getElementById(`post-${id}`));
        list.dispatchEvent(new CustomEvent("inkorg:ordered"));
        return;
      }
      const field = form.elements[use];
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.focus();
    });
  }
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

  function tell(row) {
    voice.textContent = voice.dataset.moved
      .replace("{title}", row.dataset.title)
      .replace("{place}", String([...list.children].indexOf(row) + 1))
      .replace("{count}", String(list.children.length));
  }

  function move(row, direction, focus) {
    const other = direction === "up" ? row.previousElementSibling : row.nextElementSibling;
    if (!other) return;
    if (direction === "up") other.before(row);
    else other.after(row);
    number();
    tell(row);
    const reverse = direction === "up" ? "down" : "up";
    if (focus.disabled) row.querySelector(`[data-move=${reverse}]`).focus();
    else focus.focus();
    row.scrollIntoView({ block: "nearest" });
    form.dispatchEvent(new CustomEvent("inkorg:moved"));
  }

  list.addEventListener("inkorg:ordered", (event) => {
    number();
    if (event.detail) tell(event.detail);
    form.dispatchEvent(new CustomEvent("inkorg:moved"));
  });
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
  const { phone, limit, empty, fits, cut, long } = output.dataset;

  function show() {
    const length = [...field.value].length;
    const words = length === 0 ? empty : length > limit ? long : length > phone ? cut : fits;
    output.textContent = words
      .replace("{count}", String(length))
      .replace("{phone}", phone)
      .replace("{limit}", limit);
    output.classList.toggle("warn", length > limit);
  }

  field.addEventListener("input", show);
  show();
}

// The row in a list of mails follows what is typed.
function drawInbox(line) {
  const field = document.getElementById(line.dataset.shows);
  const show = () => {
    line.textContent = field.value.trim() || line.dataset.made;
  };
  field.addEventListener("input", show);
  show();
}

// Of ticks that only one post can have, the newest one stays.
function onlyOne(form) {
  form.addEventListener("input", (event) => {
    if (!event.target.matches("[data-only-one]:checked")) return;
    for (const other of form.querySelectorAll("[data-only-one]")) {
      if (other !== event.target) other.checked = false;
    }
  });
}

// Posts are dragged by their handle, with a mouse, a pen or a finger; Escape puts them
// back. Whoever does not drag has the arrows.
function dragPosts(list) {
  let row = null;
  let before = [];

  function putAt(y) {
    const others = [...list.children].filter((other) => other !== row);
    const below = others.find((other) => {
      const box = other.getBoundingClientRect();
      return y < box.top + box.height / 2;
    });
    const place = below ?? null;
    if (row.nextElementSibling !== place) list.insertBefore(row, place);
    const edge = 60;
    if (y < edge) window.scrollBy(0, -12);
    else if (y > window.innerHeight - edge) window.scrollBy(0, 12);
  }

  function end(isKept) {
    if (!row) return;
    const moved = row;
    row = null;
    moved.classList.remove("is-dragged");
    if (!isKept) list.append(...before);
    const isElsewhere = [...list.children].some((other, index) => other !== before[index]);
    if (isElsewhere) list.dispatchEvent(new CustomEvent("inkorg:ordered", { detail: moved }));
  }

  for (const grip of list.querySelectorAll("[data-grip]")) {
    grip.hidden = false;
    grip.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      row = grip.closest("[data-post]");
      before = [...list.children];
      row.classList.add("is-dragged");
    });
  }
  document.addEventListener("pointermove", (event) => row && putAt(event.clientY));
  document.addEventListener("pointerup", () => end(true));
  document.addEventListener("pointercancel", () => end(false));
  document.addEventListener("keydown", (event) => event.key === "Escape" && end(false));
}

// An issue on its way: the figures are the server's, fetched each second.
function followProgress(box) {
  const voice = document.querySelector("[data-voice]");
  let spoken = -1;
  let leaving = false; // a form was sent: its answer is the next page, not a reload
  document.addEventListener("submit", () => (leaving = true));
  addEventListener("pageshow", () => (leaving = false));

  async function look() {
    if (!document.hidden && !leaving) await fetchFigures();
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
    if (!response.ok || leaving) return;
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
  takeTheirs(form);
  onlyOne(form);
}
// The key that leads to the first line leads there from the other side, too.
document.querySelector("label[data-key=e]")?.addEventListener("click", () => {
  const side = document.getElementById("side-words");
  if (side) side.checked = true;
});
document.querySelectorAll("[data-posts]").forEach(movePosts);
document.querySelectorAll("[data-posts]").forEach(dragPosts);
document.querySelectorAll("[data-shows]").forEach(drawInbox);
document.querySelectorAll("[data-audience]").forEach(countReaders);
document.querySelectorAll("[data-pictures]").forEach(putPicturesIn);
document.querySelectorAll("[data-counts]").forEach(countCharacters);
document.querySelectorAll("[data-progress]").forEach(followProgress);
