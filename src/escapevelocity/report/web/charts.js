// Draws charts of report/charts.py with plotly.js. Needs plotly and charts-figure.js before it; theme.js where themes are
// switched.
//
//   evCharts.draw(element, chart)     draw now, or again with newer values: zoom is kept; gives a promise
//   evCharts.lazy(element, chart)     draw when it comes near to what is seen, or is printed
//   evCharts.drawAll()                draw what still waits
//   evCharts.show(group, visible)     hide or show a group's lines in every chart
//   evCharts.raw(wanted)              show seeds as recorded, or smoothed, where a chart has both
//
// Each drawn element dispatches "ev-drawn", which bubbles. Left and right arrows move the hover of a focused chart.
"use strict";
const evCharts = (() => {
  const drawn = new Map();
  const waiting = new Map();
  const hidden = new Set();
  let rawWanted = false;
  let printing = false;

  const SETTINGS = { displayModeBar: false, responsive: true, doubleClick: "reset", showTips: false };

  function describe(element, chart) {
    element.setAttribute("role", "group");
    element.setAttribute("aria-roledescription", "chart");
    element.setAttribute("aria-label", [chart.title, chart.summary].filter(Boolean).join(": "));
    element.tabIndex = 0;
  }

  async function draw(element, chart) {
    waiting.delete(element);
    watcher.unobserve(element);
    const fresh = !drawn.has(element);
    drawn.set(element, chart);
    describe(element, chart);
    const empty = !chart.heat && !chart.series.some((s) => s.y.some((v) => v != null));
    if (empty) {
      if (!fresh) Plotly.purge(element);
      drawn.delete(element);
      element.textContent = "not measured";
      element.classList.add("soft", "unmeasured");
    } else {
      if (element.classList.contains("unmeasured")) element.textContent = "";
      element.classList.remove("soft", "unmeasured");
      const view = { hidden, raw: rawWanted, printing, height: element.clientHeight || 270 };
      const { data, layout } = evFigure.figure(chart, view);
      await Plotly.react(element, data, layout, SETTINGS);
      if (fresh) element.addEventListener("keydown", step);
    }
    element.dispatchEvent(new CustomEvent("ev-drawn", { bubbles: true, detail: { id: chart.id } }));
  }

  function step(event) {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const element = event.currentTarget, chart = drawn.get(element);
    if (!way || !chart || chart.heat) return;
    event.preventDefault();
    const seen = chart.series.filter((s) => !s.thin && !hidden.has(s.group)), main = seen[0];
    if (!main) return;
    const stride = Math.max(1, Math.round(main.x.length / 50));
    const last = main.x.length - 1;
    const at = Math.min(last, Math.max(0, (element.evAt ?? (way > 0 ? -stride : last + stride)) + way * stride));
    element.evAt = at;
    Plotly.Fx.hover(element, [{ xval: main.x[at], yval: main.y[at] ?? 0 }]);
    const said = seen.map((s) => {
      let near = 0;
      s.x.forEach((v, i) => { if (Math.abs(v - main.x[at]) < Math.abs(s.x[near] - main.x[at])) near = i; });
      return `${s.name} ${s.y[near] == null ? "undefined" : Number(s.y[near].toPrecision(4))}`;
    });
    live().textContent = `${main.x[at].toLocaleString("en")}: ${said.join(", ")}`;
  }

  function live() {
    let region = document.getElementById("ev-live");
    if (!region) {
      region = Object.assign(document.createElement("div"), { id: "ev-live", className: "hidden-visually" });
      region.setAttribute("aria-live", "polite");
      document.body.append(region);
    }
    return region;
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = waiting.get(entry.target);
      if (entry.isIntersecting && chart) draw(entry.target, chart);
    }
  }, { rootMargin: "400px" });

  function lazy(element, chart) {
    describe(element, chart);
    waiting.set(element, chart);
    watcher.observe(element);
  }

  const drawAll = () => Promise.all([...waiting].map(([element, chart]) => draw(element, chart)));
  const redraw = () => Promise.all([...drawn].filter(([e]) => e.isConnected || !drawn.delete(e)).map(([e, c]) => draw(e, c)));

  function show(group, visible) {
    if (visible) hidden.delete(group);
    else hidden.add(group);
    return redraw();
  }

  function raw(wanted) {
    rawWanted = Boolean(wanted);
    return redraw();
  }

  document.addEventListener("ev-theme", redraw);

  // Paper is light and shows everything, also what nobody has scrolled to.
  let screenTheme;
  addEventListener("beforeprint", () => {
    screenTheme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    printing = true;
    redraw();
    drawAll();
  });
  addEventListener("afterprint", () => {
    if (screenTheme) document.documentElement.dataset.theme = screenTheme;
    else delete document.documentElement.dataset.theme;
    printing = false;
    redraw().then(() => { for (const element of drawn.keys()) Plotly.Plots.resize(element); });
  });

  return { draw, lazy, drawAll, redraw, show, raw, drawn };
})();
