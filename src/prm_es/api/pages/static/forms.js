// Dialogs for commands, filters that answer as one types, and whether a customer is free while one registers it.
import { refresh } from "./live.js";
import { drawCharts } from "./charts.js";

const dialog = document.getElementById("dialog");

export function toast(words) {
  const one = document.createElement("div");
  one.className = "toast";
  one.textContent = words;
  document.getElementById("toasts").append(one);
  setTimeout(() => one.remove(), 6000);
}

function whenSwapped(event) {
  if (event.detail.target.id === "dialog-body" && !dialog.open && event.detail.target.childElementCount) {
    dialog.showModal();
    dialog.querySelector("[autofocus], input:not([type=hidden]), select, textarea, button")?.focus();
  }
  if (event.detail.target.id === "content") drawCharts(event.detail.target);
  dialog.querySelector("[aria-invalid]")?.focus();
}

// An empty field says nothing: leave it out of the address.
function leaveOutEmpty(event) {
  if (!event.detail.elt.closest("form.view")) return;
  const given = event.detail.parameters;
  for (const name of Object.keys(given)) if (given[name] === "") delete given[name];
}

export function prepareForms() {
  // What somebody has opened stays open when the page is brought up to date.
  if (window.Idiomorph) window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.localName === "details");
  // What is typed to find is asked for as it is typed; leaving the field asks nothing more.
  document.addEventListener("change", (event) => { if (event.target.type === "search") event.stopPropagation(); }, true);
  document.body.addEventListener("htmx:afterSwap", whenSwapped);
  document.body.addEventListener("htmx:configRequest", (event) => {
    const token = document.querySelector('meta[name="csrf-token"]').content;
    if (event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = token;
    leaveOutEmpty(event);
  });
  document.body.addEventListener("htmx:sendError", () => toast(document.getElementById("live").dataset.away));
  document.body.addEventListener("done", (event) => {
    if (dialog.open) dialog.close();
    document.getElementById("dialog-body").replaceChildren();
    toast(event.detail.words);
    if (event.detail.to) location.assign(event.detail.to);
    else refresh();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) { event.preventDefault(); dialog.close(); }
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => document.getElementById("dialog-body").replaceChildren());
  for (const form of document.querySelectorAll("form.view")) {
    form.addEventListener("submit", () => { for (const field of form.elements) if (!field.value) field.disabled = true; });
  }
}
