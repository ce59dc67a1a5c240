// Curves of one run or several: charts that follow their records, with columns that a person adds.
//
//   evCurves({names, element, told})   names() gives the runs; told(data) hears what came with the charts
"use strict";
const evCurves = ({ names, element, told = () => {} }) => {
  const { el, by } = ev;
  const cards = new Map(); // id → {figure, chart, json}

  const columns = () => ev.params().getAll("column");

  function address() {
    if (!names().length) return "";
    const asked = [...names().map((name) => ["run", name]), ...columns().map((name) => ["column", name])];
    return `/api/curves?${asked.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&")}`;
  }

  function card(chart) {
    const found = cards.get(chart.id);
    if (found) return found;
    const drawing = el("div", { class: "chart" });
    const help = el("p", { class: "small soft" });
    const title = el("h3", {});
    const figure = el("figure", { class: "card chart-card" },
      el("figcaption", {}, title, el("span", { class: "small soft unit" })), drawing,
      el("details", { class: "small" }, el("summary", {}, "What is this?"), help));
    const made = { figure, drawing, help, title, json: "" };
    cards.set(chart.id, made);
    return made;
  }

  async function show(data) {
    const groups = data.runs.length;
    const wanted = data.charts.map((chart) => {
      const one = card(chart), json = JSON.stringify(chart);
      one.title.textContent = chart.title;
      one.help.textContent = chart.help;
      if (one.json !== json) {
        const shown = groups > 1 ? { ...chart, legend: false } : chart;
        if (one.json && evCharts.drawn.has(one.drawing)) evCharts.draw(one.drawing, shown);
        else evCharts.lazy(one.drawing, shown);
        one.json = json;
      }
      return one.figure;
    });
    wanted.forEach((figure, i) => { if (element.children[i] !== figure) element.insertBefore(figure, element.children[i] || null); });
    while (element.children.length > wanted.length) element.lastElementChild.remove();
    for (const [id, one] of cards) if (!one.figure.isConnected) cards.delete(id);
    if (!wanted.length) element.append(el("p", { class: "soft" }, "These runs have no chart in common: add a column."));
    const faults = by("faults");
    faults.hidden = !data.faults.length;
    faults.textContent = data.faults.join("\n");
    told(data);
  }

  function failed(text) {
    cards.clear();
    element.replaceChildren();
    const faults = by("faults");
    faults.hidden = false;
    faults.textContent = text;
  }

  function chips() {
    by("added").replaceChildren(...columns().map((name) => el("button", {
      type: "button", "aria-label": `Remove ${name}`,
      onclick: () => { ev.keep({ column: columns().filter((one) => one !== name) }); chips(); poll.now(); },
    }, `${name} ×`)));
  }

  by("add").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = by("column").value.trim();
    if (!name) return;
    ev.keep({ column: [...new Set([...columns(), name])].slice(-12) });
    by("column").value = "";
    chips();
    poll.now();
  });

  function offer(list) {
    const options = by("columns");
    if (options.children.length !== list.length) options.replaceChildren(...list.map((name) => el("option", { value: name })));
  }

  chips();
  if (names().length) element.append(el("p", { class: "soft" }, "Reading the records …"));
  const poll = ev.poll(address, show, failed);
  return { now: () => { chips(); poll.now(); }, offer };
};
