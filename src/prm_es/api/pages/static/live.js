// Shows what changed without a reload: the server says which lists changed, the page asks for itself again.
import { drawCharts } from "./charts.js";

const SOON = 120;
let due = 0;
let asked = false;

export function refresh() {
  const content = document.getElementById("content");
  if (busy(content)) { asked = true; return Promise.resolve(); }
  asked = false;
  const before = positions(content);
  return window.htmx.ajax("GET", location.pathname + location.search, { target: "#content", swap: "morph:innerHTML" }).then(() => {
    mark(content, before);
    drawCharts(content);
  });
}

// Somebody chooses or types, or has typed: what is on its way must not take it away.
function busy(content) {
  const typed = [...content.querySelectorAll("form.keep:not(.view) :is(input[type=text], textarea)")];
  return document.querySelector("details.menu[open]") !== null || content.matches(":has(form.keep :focus)")
    || typed.some((one) => one.value !== one.defaultValue);
}

function positions(content) {
  return new Map([...content.querySelectorAll("[data-key]")].map((row) => [row.dataset.key, row.dataset.position]));
}

function mark(content, before) {
  for (const row of content.querySelectorAll("[data-key]")) {
    if (before.get(row.dataset.key) === row.dataset.position) continue;
    row.classList.remove("changed");
    void row.offsetWidth;
    row.classList.add("changed");
    row.addEventListener("animationend", () => row.classList.remove("changed"), { once: true });
  }
}

function show(state) {
  const sign = document.getElementById("live");
  sign.dataset.state = state;
  sign.querySelector(".words").textContent = state === "live" ? sign.dataset.live : sign.dataset.away;
}

export function watch() {
  document.addEventListener("htmx:beforeSwap", (event) => {
    const own = event.detail.requestConfig?.elt === document.body; // asked for by refresh, not by somebody
    if (own && busy(document.getElementById("content"))) { event.detail.shouldSwap = false; asked = true; }
  });
  const content = document.getElementById("content");
  const sign = document.getElementById("live");
  if (!sign || !content) return;
  const lists = new Set(content.dataset.live.split(" ").filter(Boolean));
  const source = new EventSource(sign.dataset.src);
  source.addEventListener("open", () => show("live"));
  source.addEventListener("error", () => show("away"));
  const shown = Number(content.dataset.position);
  const changed = (event) => {
    const said = JSON.parse(event.data);
    // The first message tells of everything: what this page was made of is no news.
    if (!(said.lists || []).some((one) => lists.has(one) && !(said.as_of?.[one] <= shown))) return;
    clearTimeout(due);
    due = setTimeout(refresh, SOON);
  };
  source.addEventListener("changed", changed);
  source.addEventListener("message", changed);
  document.addEventListener("focusout", () => { if (asked) setTimeout(() => asked && refresh(), SOON); });
  window.addEventListener("pagehide", () => source.close());
}
