// Draws each chart from the table beside it, so that both say the same. The library is fetched where there is a chart.
let library;

function load() {
  library ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.chartSrc;
    script.onload = () => done(window.Chart);
    script.onerror = failed;
    document.head.append(script);
  });
  return library;
}

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function series(figure) {
  const found = new Map();
  const labels = [];
  for (const row of figure.querySelectorAll("tbody tr")) {
    labels.push(row.querySelector("th").dataset.label ?? row.querySelector("th").textContent);
    for (const cell of row.querySelectorAll("[data-series]")) {
      if (!found.has(cell.dataset.series)) found.set(cell.dataset.series, { kind: cell.dataset.kind, values: [] });
      found.get(cell.dataset.series).values.push(cell.dataset.value === "" ? null : Number(cell.dataset.value));
    }
  }
  return { labels, found };
}

function money(currency, short) {
  const locale = document.body.dataset.locale;
  const shape = short
    ? { notation: "compact", maximumFractionDigits: 1 }
    : { style: "currency", currency, maximumFractionDigits: 0 };
  const format = new Intl.NumberFormat(locale, shape);
  return (value) => format.format(value);
}

function draw(Chart, figure) {
  const { labels, found } = series(figure);
  const names = [...found.keys()];
  const accent = colour("--accent");
  const quiet = colour("--muted");
  const line = colour("--line");
  const full = money(figure.dataset.currency, false);
  const short = money(figure.dataset.currency, true);
  const sideways = figure.dataset.chart === "sideways";
  const datasets = names.map((name, number) => {
    const one = found.get(name);
    return one.kind === "line"
      ? { type: "line", label: name, data: one.values, borderColor: quiet, borderWidth: 1.5, borderDash: [4, 3], pointRadius: 0, pointHitRadius: 12, tension: 0, order: 0 }
      : { type: "bar", label: name, data: one.values, backgroundColor: number ? colour("--line-strong") : accent, borderRadius: 3, maxBarThickness: 26, order: 1 };
  });
  const value = { beginAtZero: true, border: { display: false }, grid: { color: line }, ticks: { color: quiet, maxTicksLimit: 5, callback: short } };
  const label = { border: { color: line }, grid: { display: false }, ticks: { color: quiet, maxRotation: 0, autoSkip: true, autoSkipPadding: 10 } };
  const options = {
    animation: false, responsive: true, maintainAspectRatio: false, indexAxis: sideways ? "y" : "x",
    interaction: { mode: "index", intersect: false, axis: sideways ? "y" : "x" },
    scales: sideways ? { x: value, y: label } : { x: label, y: value },
    plugins: {
      legend: { display: names.length > 1 && !sideways, align: "start", labels: { color: quiet, boxWidth: 9, boxHeight: 9 } },
      tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${full(sideways ? item.parsed.x : item.parsed.y)}` } },
    },
  };
  const canvas = figure.querySelector("canvas");
  Chart.getChart(canvas)?.destroy();
  new Chart(canvas, { data: { labels, datasets }, options });
}

export async function drawCharts(root) {
  const figures = [...root.querySelectorAll("figure[data-chart]")];
  if (!figures.length) return;
  const Chart = await load();
  await document.fonts.ready;
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.font.size = 11;
  for (const figure of figures) if (figure.isConnected) draw(Chart, figure);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts(document));
