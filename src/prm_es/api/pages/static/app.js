// Starts what the pages use. Everything works without it but live updates, dialogs, charts and keys.
import { watch } from "./live.js";
import { drawCharts } from "./charts.js";
import { listenToKeys } from "./keys.js";
import { prepareForms } from "./forms.js";

const side = document.getElementById("side");
const menu = document.querySelector("[data-menu]");

function openSide(open) {
  side.classList.toggle("open", open);
  menu.setAttribute("aria-expanded", String(open));
  if (open) side.querySelector("a").focus();
}

menu?.addEventListener("click", () => openSide(!side.classList.contains("open")));
document.addEventListener("click", (event) => {
  if (side?.classList.contains("open") && !side.contains(event.target) && !menu.contains(event.target)) openSide(false);
  for (const one of document.querySelectorAll("details.menu[open]")) if (!one.contains(event.target)) one.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (side?.classList.contains("open")) { openSide(false); menu.focus(); }
  for (const one of document.querySelectorAll("details.menu[open]")) { one.open = false; one.querySelector("summary").focus(); }
});

for (const toast of document.querySelectorAll(".toast")) setTimeout(() => toast.remove(), 6000);

prepareForms();
listenToKeys();
drawCharts(document);
watch();
