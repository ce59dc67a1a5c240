// What a chart of report/charts.py is for plotly.js: its traces and its layout, in the page's colours. Draws nothing.
//
//   evFigure.figure(chart, view)      {data, layout}; view: {hidden: Set of groups, raw, printing, height}
//   evFigure.color(group)             a group's colour now; evFigure.dash(group) its pattern (beyond eight groups)
//
// chart: {id, title, unit, x_title, help, summary, healthy: [low|null, high|null]|null, log, legend,
//         series: [{name, group, x, y, low, high, thin, raw}], marks: [{x, label, group}], heat: {x, y, z}|null}
"use strict";
const evFigure = (() => {
  const COLORS = 8;
  const DASHES = ["solid", "dash", "dot"];
  const OWN_LINES = 12; // So many seeds are lines that can be pointed at; more are drawn as one backdrop per run.
  const PRINTED = 320; // Pixels: half of a sheet of A4 or Letter, two charts side by side.

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const place = (group) => Math.max(0, Math.round(Number(group) || 0));
  const color = (group) => token(`--series-${place(group) % COLORS}`);
  const dash = (group) => DASHES[Math.floor(place(group) / COLORS) % DASHES.length];
  const faded = (hex, alpha) => hex + Math.round(alpha * 255).toString(16).padStart(2, "0");
  const positive = (values, log) => (log ? values.map((v) => (v > 0 ? v : null)) : values);
  const isWanted = (series, view) => series.raw == null || series.raw === view.raw;
  const isSeen = (series, view) => isWanted(series, view) && !view.hidden.has(series.group);
  const escaped = (text) =>
    String(text).replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);

  // ---- traces -------------------------------------------------------------------------------------------------

  function band(series, chart, view, foot) {
    // Each stretch without a gap is one polygon; plotly fills them apart where a null stands between.
    const high = positive(series.high, chart.log);
    const low = series.low.map((v) => (v == null ? null : Math.max(v, foot)));
    const x = [], y = [];
    let from = 0;
    const close = (to) => {
      for (let i = from; i < to; i++) { x.push(series.x[i]); y.push(high[i]); }
      for (let i = to - 1; i >= from; i--) { x.push(series.x[i]); y.push(low[i]); }
      if (to > from) { x.push(null); y.push(null); }
    };
    for (let i = 0; i <= series.x.length; i++) {
      if (i === series.x.length || low[i] == null || high[i] == null) { close(i); from = i + 1; }
    }
    return {
      type: "scatter", mode: "lines", x, y, fill: "toself", hoverinfo: "skip", showlegend: false,
      line: { width: 0, color: color(series.group) }, fillcolor: faded(color(series.group), 0.18),
      meta: { group: series.group }, visible: !view.hidden.has(series.group),
    };
  }

  function line(series, chart, view, dashed) {
    const banded = series.low && series.high;
    const trace = {
      type: "scatter", mode: series.x.length > 1 ? "lines" : "markers", x: series.x,
      y: positive(series.y, chart.log), name: escaped(series.name), connectgaps: false,
      meta: { group: series.group }, visible: !view.hidden.has(series.group),
      line: { color: color(series.group), width: series.thin ? 1 : 2.25, dash: dashed || dash(series.group) },
      opacity: series.thin ? 0.5 : 1, showlegend: !series.thin,
      hovertemplate: banded ? "%{y:.3~g} %{customdata}" : "%{y:.3~g}",
    };
    if (banded) {
      const form = (v) => (v == null ? "–" : Number(v.toPrecision(3)).toString());
      trace.customdata = series.low.map((low, i) => `[${form(low)}, ${form(series.high[i])}]`);
    }
    return trace;
  }

  function backdrop(several, chart, view) {
    // All seeds of a run as one line with gaps: a chart of 25 seeds then has 5 traces to lay out, not 25.
    const x = [], y = [];
    for (const one of several) {
      for (const v of one.x) x.push(v);
      for (const v of positive(one.y, chart.log)) y.push(v);
      x.push(null);
      y.push(null);
    }
    return { ...line({ ...several[0], x, y }, chart, view, "solid"), opacity: 0.35, hoverinfo: "skip", hovertemplate: undefined };
  }

  function traces(chart, view) {
    const thin = chart.series.filter((s) => s.thin && isWanted(s, view)), thick = chart.series.filter((s) => !s.thin);
    const groups = new Map();
    for (const one of thin) groups.set(one.group, [...(groups.get(one.group) || []), one]);
    const own = thin.length <= OWN_LINES;
    const seen = new Map(); // A second curve of one run, such as ratios below 1 − ε, gets another pattern.
    const bold = thick.map((one) => {
      const nth = seen.get(one.group) || 0;
      seen.set(one.group, nth + 1);
      return line(one, chart, view, nth ? DASHES[nth % DASHES.length] : undefined);
    });
    // On a logarithmic axis a band that reaches down to 0 goes to the foot of the chart.
    const foot = chart.log ? extent(chart, view)[0] : -Infinity;
    return [
      ...thick.filter((s) => s.low && s.high).map((s) => band(s, chart, view, foot)),
      ...(own ? thin.map((s) => line(s, chart, view, "solid")) : [...groups.values()].map((s) => backdrop(s, chart, view))),
      ...bold,
    ];
  }

  function heat(chart) {
    const z = chart.heat.z.map((row) => row.map((v) => (v == null ? null : Math.log10(Math.max(v, 1e-4)))));
    return [{
      type: "heatmap", x: chart.heat.x, y: chart.heat.y, z, customdata: chart.heat.z, colorscale: "Viridis", zmin: -4, zmax: 0,
      hovertemplate: "%{x:,} · %{y:.3~g}: %{customdata:.2~g}<extra></extra>",
      colorbar: { thickness: 10, tickvals: [-4, -3, -2, -1, 0], ticktext: ["10⁻⁴", "10⁻³", "10⁻²", "0.1", "1"],
        tickfont: { color: token("--soft"), size: 11 }, outlinewidth: 0 },
    }];
  }

  // ---- axes ---------------------------------------------------------------------------------------------------

  // The least and the greatest value of what is seen; on a logarithmic axis of what is positive.
  function extent(chart, view) {
    let low = Infinity, high = -Infinity;
    for (const one of chart.series) {
      if (!isSeen(one, view)) continue;
      for (const values of [one.y, one.low, one.high]) {
        for (const v of values || []) {
          if (v == null || (chart.log && v <= 0)) continue;
          if (v < low) low = v;
          if (v > high) high = v;
        }
      }
    }
    return [low, high];
  }

  function range(chart, view) {
    let [low, high] = extent(chart, view);
    if (low > high) return null;
    const scale = chart.log ? Math.log10 : (v) => v;
    [low, high] = [scale(low), scale(high)];
    let span = high - low || Math.abs(high) * 0.2 || 1;
    // A healthy bound is shown where that does not squeeze the curves into less than half of the chart.
    for (const bound of chart.healthy || []) {
      if (bound == null || (chart.log && bound <= 0)) continue;
      const at = scale(bound);
      if (at < low && low - at <= span) low = at;
      if (at > high && at - high <= span) high = at;
    }
    // A constant, such as no dead neuron: not thousandths around it.
    if (high === low) return [low - 0.05 * span, high + 0.6 * span];
    return [low - 0.05 * (high - low), high + 0.1 * (high - low)];
  }

  function healthyShapes(chart, seen) {
    if (!chart.healthy || !seen) return [];
    const scale = chart.log ? (v) => (v > 0 ? Math.log10(v) : -Infinity) : (v) => v;
    const inside = (v) => Math.min(Math.max(v, seen[0]), seen[1]);
    const [low, high] = chart.healthy;
    const from = inside(low == null ? -Infinity : scale(low)), to = inside(high == null ? Infinity : scale(high));
    const value = (v) => (chart.log ? 10 ** v : v);
    const edge = { color: token("--good"), width: 1, dash: "dot" };
    const shapes = to > from
      ? [{ type: "rect", xref: "paper", x0: 0, x1: 1, yref: "y", y0: value(from), y1: value(to), line: { width: 0 },
        fillcolor: token("--chart-healthy"), layer: "below" }]
      : [];
    for (const bound of [low, high]) {
      if (bound == null || scale(bound) <= seen[0] || scale(bound) >= seen[1]) continue;
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y", y0: bound, y1: bound, line: edge, layer: "below" });
    }
    return shapes;
  }

  const several = (chart) => new Set(chart.series.map((s) => s.group)).size > 1;
  const markColor = (chart, mark) => (several(chart) && mark.group != null ? color(mark.group) : token("--chart-mark"));
  const markLines = (chart, view) => chart.marks.filter((m) => !view.hidden.has(m.group)).map((mark) => ({
    type: "line", x0: mark.x, x1: mark.x, yref: "paper", y0: 0, y1: 1,
    line: { color: markColor(chart, mark), width: 1.25, dash: "dashdot" },
  }));

  function markTexts(chart, view) {
    const most = Math.max(0, ...chart.series.map((s) => s.x[s.x.length - 1] || 0));
    return chart.marks.filter((m) => !view.hidden.has(m.group)).map((mark, row) => ({
      x: mark.x, y: 1 - 0.085 * row, yref: "paper", yanchor: "top", text: escaped(mark.label), showarrow: false,
      xanchor: mark.x > most / 2 ? "right" : "left", xshift: mark.x > most / 2 ? -3 : 3,
      font: { size: 11, color: markColor(chart, mark) }, bgcolor: faded(token("--card"), 0.8),
    }));
  }

  // Marks of a logarithmic axis: whole decades, or 1, 2 and 5 within them where there are few; plotly's own choice
  // within one. Plotly would write 0.5 as a small 5.
  function decades(seen) {
    const span = seen ? seen[1] - seen[0] : 0;
    if (span > 2.2) return { dtick: Math.ceil(span / 7) };
    if (span < 0.7) return {};
    const values = [];
    for (let power = Math.floor(seen[0]); power <= seen[1]; power++) {
      values.push(...[1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
    }
    return { tickmode: "array", tickvals: values, ticktext: values.map(String) };
  }

  function layout(chart, view) {
    const seen = chart.heat ? null : range(chart, view);
    const axis = {
      gridcolor: token("--chart-grid"), linecolor: token("--line"), zeroline: false, automargin: true,
      tickfont: { size: 11, color: token("--soft") }, ticks: "", fixedrange: false,
    };
    const named = new Set(chart.series.filter((s) => !s.thin).map((s) => s.name)).size > 1;
    const coarse = matchMedia("(pointer: coarse)").matches;
    return {
      font: { family: token("--sans") || "sans-serif", size: 12, color: token("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: !view.printing, width: view.printing ? PRINTED : undefined,
      height: view.height, margin: { l: 8, r: 10, t: 8, b: 8, pad: 2 },
      xaxis: { ...axis, title: { text: escaped(chart.x_title || "environment steps"), font: { size: 11, color: token("--soft") }, standoff: 4 },
        tickformat: "~s", hoverformat: ",", rangemode: "tozero", nticks: 6 },
      yaxis: { ...axis, type: chart.log ? "log" : "linear", ...(seen ? { range: seen } : {}), nticks: 6,
        title: { text: escaped(chart.unit || ""), font: { size: 11, color: token("--soft") }, standoff: 4 },
        ...(chart.log ? { exponentformat: "power", ...decades(seen), minor: { ticks: "" } } : {}) },
      hovermode: chart.heat ? "closest" : "x unified",
      hoverlabel: { bgcolor: token("--card"), bordercolor: token("--line"), font: { color: token("--ink"), size: 12 }, namelength: 28 },
      showlegend: chart.legend !== false && named, uirevision: chart.id,
      legend: { orientation: "h", x: 0, yref: "container", y: 0, yanchor: "bottom", font: { size: 11, color: token("--soft") }, itemclick: false, itemdoubleclick: false },
      // A finger that slides over a chart means to scroll the page.
      dragmode: coarse ? false : "zoom",
      shapes: [...healthyShapes(chart, seen), ...markLines(chart, view)], annotations: markTexts(chart, view),
    };
  }

  function figure(chart, view) {
    if (chart.heat) return { data: heat(chart), layout: layout(chart, view) };
    // A logarithm does not show 0: where there is nothing else, as of a variance that has collapsed, the axis is linear.
    const plain = chart.log && extent(chart, view)[0] === Infinity ? { ...chart, log: false } : chart;
    return { data: traces(plain, view), layout: layout(plain, view) };
  }

  return { figure, color, dash };
})();
