// Keeps a page current: when something happened, its <main> is asked for again and what differs is changed in place,
// so that focus, scroll positions, open details and what is being typed stay. Without it the pages work as they are.

const ONCE = 1_000; // ms between two updates, at least
const PATIENCE = 10; // and at least so many times as long as the last one took: who watches must not be a burden
const ANYWAY = 20_000; // ms after which a page is updated though nothing was heard: ages and trends change silently
const SOON = 5_000; // ms after which it is tried again when the answer was an error
const AGAIN = 2_000; // ms until an answer is asked for again that does not know yet of what was heard
const TRIES = 20;

const main = document.getElementById("main");
const live = document.getElementById("live");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let shift = Date.now() - Number(main.dataset.now); // how far this machine's clock is ahead of the server's
let heard = 0; // the newest event's moment, by the server's clock
let tries = 0;
let timer, last = 0, took = 0, asking = null;

// --- bringing the page up to date

const key = (node) => (node.nodeType === 1 ? node.id : "");

function alike(from, to) {
  return from.nodeType === to.nodeType && from.nodeName === to.nodeName && key(from) === key(to);
}

function morph(from, to) {
  if (from.nodeType !== 1) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from === document.activeElement && from.matches("input, select, textarea")) return;
  const status = from.getAttribute("class");
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(name === "open" && from.matches("details"))) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  if (from.matches("a.c, .pair, .chip") && status !== to.getAttribute("class") && !calm.matches) {
    from.animate([{ opacity: 0.2 }, { opacity: 1 }], { duration: 900, easing: "ease-out" });
  }
  children(from, to);
}

function children(from, to) {
  const known = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    let match = key(next) ? known.get(key(next)) : at;
    if (match && !alike(match, next)) match = null;
    if (!match) {
      from.insertBefore(document.importNode(next, true), at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else from.insertBefore(match, at);
    morph(match, next);
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function show(text) {
  const next = new DOMParser().parseFromString(text, "text/html").getElementById("main");
  if (!next) return;
  const focused = document.activeElement?.id;
  const before = main.dataset.summary;
  morph(main, next);
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
  shift = Date.now() - Number(main.dataset.now);
  document.title = `${main.dataset.title} · Connector Registry`;
  if (main.dataset.summary !== before) document.getElementById("said").textContent = main.dataset.summary;
  tick();
}

async function update(url = location.href, options = {}) {
  clearTimeout(timer);
  timer = undefined;
  asking?.abort();
  asking = new AbortController();
  last = Date.now();
  let wait = ANYWAY;
  try {
    const answer = await fetch(url, { ...options, headers: { "X-Fragment": "main" }, signal: asking.signal });
    if (answer.status === 401) {
      location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    const text = await answer.text();
    took = Date.now() - last;
    if (answer.status !== 429) show(text);
    if (!answer.ok) wait = SOON;
    if (answer.ok && Number(main.dataset.at) >= heard) tries = 0;
  } catch (error) {
    if (error.name === "AbortError") return;
    say("cut", "no connection");
    wait = SOON;
  }
  later(tries > 0 ? AGAIN : wait);
  tries = Math.max(0, tries - 1);
}

function later(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => { if (!document.hidden) update(); }, Math.max(wait, Math.max(ONCE, PATIENCE * took) - (Date.now() - last)));
}

function hear(moment) {
  heard = Math.max(heard, moment);
  tries = TRIES;
  later(0);
}

// --- what happens is told by a stream

let stream = null, retry;

function say(state, word) {
  if (!live) return;
  live.dataset.state = state;
  live.querySelector(".word").textContent = word;
  live.title = state === "on" ? "This page follows what happens" : "What is shown may be old until the connection is back";
}

function listen() {
  const address = document.body.dataset.stream;
  clearTimeout(retry);
  stream?.close();
  if (!address || document.hidden) return;
  stream = new EventSource(address);
  stream.onopen = () => say("on", "live");
  stream.onerror = () => {
    say("cut", "reconnecting");
    if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    retry = setTimeout(() => { listen(); later(0); }, SOON);
  };
  const now = () => Date.now() - shift;
  stream.addEventListener("gap", () => hear(now()));
  stream.addEventListener("incident", () => hear(now()));
  stream.addEventListener("transition", (event) => hear(Date.parse(JSON.parse(event.data).at)));
}

// A hidden page holds no connection: browsers allow few to one host, and some people open many pages.
document.addEventListener("visibilitychange", () => {
  listen();
  if (document.hidden) say("off", "paused");
  else later(0);
});
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", (event) => { if (event.persisted) { listen(); later(0); } });

// --- ages go on by themselves

const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"]];

function span(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  const at = UNITS.findIndex(([size]) => left >= size);
  if (at < 0) return `${left} s`;
  const [size, unit] = UNITS[at];
  const [smaller, word] = UNITS[at + 1] ?? [0, ""];
  const rest = smaller ? Math.floor((left % size) / smaller) : 0;
  return `${Math.floor(left / size)} ${unit}${rest ? ` ${rest} ${word}` : ""}`;
}

function tick() {
  const now = Date.now() - shift;
  for (const time of main.querySelectorAll("time[data-ago]")) {
    const passed = (now - Date.parse(time.dateTime)) / 1000;
    const kind = time.dataset.ago;
    const text = kind === "future" ? `in ${span(-passed)}` : span(passed) + (kind === "past" ? " ago" : "");
    if (time.textContent !== text) time.textContent = text;
  }
}

// --- forms and the keyboard

main.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-live]");
  if (!form) return;
  event.preventDefault();
  if (form.method === "get") {
    narrow(form);
    return;
  }
  const button = form.querySelector("button");
  button.setAttribute("aria-busy", "true");
  button.textContent = "Checking…";
  update(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
});

function narrow(form) {
  const asked = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  const url = new URL(form.action);
  url.search = asked.toString();
  history.replaceState(null, "", url);
  update(url);
}

let typing;
main.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-live]");
  if (!form || form.method !== "get") return;
  clearTimeout(typing);
  typing = setTimeout(() => narrow(form), event.target.type === "search" ? 250 : 0);
});

main.addEventListener("pointerover", (event) => {
  const cell = event.target.closest?.("a.c");
  if (cell && !cell.title) cell.title = cell.getAttribute("aria-label");
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, select, textarea")) return;
  const search = document.getElementById("find") ?? main.querySelector("input[type=search]");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

setInterval(() => { if (!document.hidden) tick(); }, 1_000);
listen();
if (document.body.dataset.stream) later(ANYWAY);
