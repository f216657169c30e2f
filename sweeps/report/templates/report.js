"use strict";

for (const source of document.querySelectorAll("script[data-plot]")) {
  const { data, layout } = JSON.parse(source.textContent);
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  const plot = document.getElementById(source.dataset.plot);
  Plotly.newPlot(plot, data, layout, config);
  plot.on("plotly_afterplot", () => skipTools(plot));
  skipTools(plot);
}

// only a pointer can use a figure's dozen tools, so Tab skips them; the figure's conclusion stands in words beside it
function skipTools(plot) {
  for (const tool of plot.querySelectorAll(".modebar-btn")) tool.tabIndex = -1;
}

// figures keep their width on paper, and the browser would shrink all text until the widest figure fits
const PAPER = 680, GAP = 12;
window.addEventListener("beforeprint", () => {
  for (const plot of document.querySelectorAll(".plot")) {
    Plotly.relayout(plot, { width: plot.closest(".many, .beside") ? (PAPER - GAP) / 2 : PAPER });
  }
});
window.addEventListener("afterprint", () => {
  for (const plot of document.querySelectorAll(".plot")) Plotly.relayout(plot, { width: null, autosize: true });
});

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const status = document.getElementById(table.dataset.status);
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const header = button.closest("th");
      const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const cell of table.querySelectorAll("th")) cell.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", order);
      const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], order === "ascending" ? 1 : -1));
      body.append(...rows);
      status.textContent = `Sorted by ${button.textContent}, ${order}`;
    });
  });
}

// numbers by their full value, text alphabetically; cells without a value come last in both orders
function compare(a, b, direction) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x === "" || y === "") return (x === "") - (y === "");
  if (a.classList.contains("number")) return direction * (Number(x) - Number(y));
  return direction * x.localeCompare(y, "en", { numeric: true });
}
