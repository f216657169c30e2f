"use strict";

// Figures: drawn when they come into view, in the colours that the reader prefers

const dark = matchMedia("(prefers-color-scheme: dark)");
const inDark = new Map(Object.entries(JSON.parse(document.getElementById("palette").textContent)));
const sources = new Map([...document.querySelectorAll("script[data-plot]")].map((script) => [script.dataset.plot, script]));
const config = {
  responsive: true,
  displaylogo: false,
  displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "sendChartToCloud"],
};

function show(plot) {
  if (isDrawn(plot)) Plotly.Plots.resize(plot);
  else draw(plot);
}

function draw(plot, { inDarkColours = dark.matches, width } = {}) {
  const { data, layout } = JSON.parse(sources.get(plot.id).textContent, (_, value) => inDarkColours ? darkened(value) : value);
  const first = !isDrawn(plot);
  Plotly.react(plot, data, { ...layout, width, uirevision: "kept" }, config);
  if (first) plot.on("plotly_afterplot", () => skipTools(plot));
  skipTools(plot);
}

// a colour's counterpart, with the same opacity; whatever isn't a known colour stays as it is
function darkened(value) {
  if (typeof value !== "string") return value;
  if (inDark.has(value)) return inDark.get(value);
  const rgba = /^rgba\((\d+),(\d+),(\d+),([\d.]+)\)$/.exec(value);
  if (rgba === null) return value;
  const hex = (part) => Number(part).toString(16).padStart(2, "0");
  const known = [...inDark.keys()].find((name) => name.toLowerCase() === "#" + rgba.slice(1, 4).map(hex).join(""));
  if (known === undefined) return value;
  const opacity = Math.round(255 * Math.min(1, Number(rgba[4]) * (Number(rgba[4]) < 0.5 ? 1.5 : 1)));
  return inDark.get(known) + hex(opacity);
}

// only a pointer can use a figure's dozen tools, so Tab skips them; the figure's conclusion stands in words beside it
function skipTools(plot) {
  for (const tool of plot.querySelectorAll(".modebar-btn")) tool.tabIndex = -1;
}

const plots = [...document.querySelectorAll(".plot")];
const isDrawn = (plot) => plot.classList.contains("js-plotly-plot");
const isFolded = (plot) => plot.closest("details:not([open])") !== null;

function showUnfolded() {
  for (const plot of plots) if (!isFolded(plot)) show(plot);
}

showUnfolded();
for (const fold of document.querySelectorAll("details")) {
  fold.addEventListener("toggle", () => {
    if (fold.open) for (const plot of fold.querySelectorAll(".plot")) if (!isFolded(plot)) show(plot);
  });
}
dark.addEventListener("change", () => {
  for (const plot of plots) if (isDrawn(plot)) draw(plot);
});

// a link to a folded part opens it
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}
addEventListener("hashchange", unfold);
unfold();

// Paper: everything unfolded, in light colours, and figures as wide as the page, since the browser would shrink all text
// until the widest figure fits

const PAPER = 680, GAP = 12;
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const fold of opened) fold.open = true;
  for (const plot of plots) draw(plot, { inDarkColours: false, width: plot.closest(".many") ? (PAPER - GAP) / 2 : PAPER });
});
addEventListener("afterprint", () => {
  for (const plot of plots) draw(plot);
  for (const fold of opened) fold.open = false;
  showUnfolded();
});

// Commands: a button beside each copies it; where the browser refuses, the text is selected

const said = document.getElementById("status");
for (const code of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy: " + code.textContent.trim().split("\n")[0]);
  button.addEventListener("click", async () => {
    button.textContent = (await copied(code)) ? "Copied" : "Selected";
    said.textContent = button.textContent === "Copied" ? "Copied" : "Selected; press Ctrl+C to copy";
  });
  button.addEventListener("blur", () => { button.textContent = "Copy"; });
  code.parentElement.append(button);
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
}

// Tables: each header sorts by its column

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const header = button.closest("th");
      const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const cell of table.querySelectorAll("th")) cell.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", order);
      const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], order === "ascending" ? 1 : -1));
      body.append(...rows);
      said.textContent = `Sorted by ${button.textContent}, ${order}`;
    });
  });
}

// numbers by their full value, text alphabetically; cells without a value come last in both orders
function compare(a, b, direction) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x === "" || y === "") return (x === "") - (y === "");
  const difference = Number(x) - Number(y);
  return direction * (Number.isNaN(difference) ? x.localeCompare(y, "en", { numeric: true }) : difference);
}
