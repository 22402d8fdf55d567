// Keys: / finds, j and k walk the rows, Enter opens, g and a letter goes to a page, ? shows them all.
const PAGES = { o: "/", p: "/pipeline", d: "/opportunities", l: "/leads", r: "/registrations", c: "/conflicts", b: "/protected-customers", a: "/partners", s: "/scorecards", t: "/deadlines", n: "/register" };
let going = 0;

function rows() {
  return [...document.querySelectorAll("#content [data-key]")].filter((row) => row.offsetParent !== null);
}

function walk(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("at"));
  const next = all[Math.min(all.length - 1, Math.max(0, at + step))];
  all[at]?.classList.remove("at");
  next.classList.add("at");
  (next.matches("a") ? next : next.querySelector("a"))?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    if (going && Date.now() - going < 1200) {
      going = 0;
      const to = PAGES[event.key];
      if (to && document.querySelector(`a[href="${to}"]`)) { event.preventDefault(); location.assign(to); }
      return;
    }
    switch (event.key) {
      case "g": going = Date.now(); break;
      case "j": walk(1); break;
      case "k": walk(-1); break;
      case "/": {
        const find = document.querySelector('input[type="search"]');
        if (find) { event.preventDefault(); find.focus(); find.select(); }
        break;
      }
      case "?": event.preventDefault(); document.querySelector('a[href="/keys"]')?.click(); break;
      default:
    }
  });
}
