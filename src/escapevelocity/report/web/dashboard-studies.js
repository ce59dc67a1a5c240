// Folders of runs, and the grid of one: a line per cell, how many of its runs are in which state, and their verdicts.
"use strict";
(() => {
  const { el, by } = ev;
  const store = () => ev.params().get("store");
  const ORDER = ["finished", "running", "interrupted", "failed", "damaged", "missing"];
  const called = (state) => (state === "missing" ? "planned" : state);
  const link = (name) => `/studies?store=${encodeURIComponent(name)}`;

  function meter(counts, total) {
    const told = ORDER.filter((state) => counts[state]).map((state) => `${counts[state]} ${called(state)}`).join(", ");
    const bar = el("div", { class: "meter", role: "img", "aria-label": told });
    for (const state of ORDER) {
      if (!counts[state]) continue;
      const part = el("span", { class: state });
      part.style.flexGrow = String(counts[state] / total);
      bar.append(part);
    }
    return el("div", {}, bar, el("p", { class: "small soft" }, told));
  }

  function pace(one) {
    const left = one.ends ? `, about ${ev.time(one.ends - ev.now())} left` : "";
    return one.speed ? `${ev.number(one.speed)} steps/s${left}` : "";
  }

  function stores(data) {
    by("stores").hidden = false;
    ev.renew(by("stores"), ...data.stores.map((one) => el("article", { class: "card" },
      el("h2", { class: "store" }, el("a", { href: link(one.store) }, one.title)),
      el("p", { class: "soft small" }, `${one.study ? "study" : "folder"} of ${ev.count(one.total, "run")}`),
      meter(one.counts, one.total), pace(one) ? el("p", { class: "small" }, pace(one)) : null)));
    if (!data.stores.length) by("stores").replaceChildren(el("p", { class: "card" }, "No run here yet."));
  }

  function grid(data) {
    by("title").textContent = data.title;
    const states = data.states.filter((state) => data.counts[state]);
    const head = [...data.axes, "seeds", ...states.map(called), "done", "verdicts", "alarms", "last", ""];
    const numbers = new Set(["seeds", ...states.map(called), "done", "alarms", "last"]);
    const lines = data.cells.map((cell) => el("tr", {},
      ...cell.labels.map((label, i) => (i ? el("td", {}, label || "–") : el("th", { scope: "row" }, label || "–"))),
      el("td", { class: "number" }, String(cell.seeds.length || "–")),
      ...states.map((state) => el("td", { class: "number" }, cell.counts[state] ? el("span", { class: `count ${state}` }, String(cell.counts[state])) : "·")),
      el("td", { class: "number" }, ev.percent(cell.done)),
      el("td", {}, ...verdicts(cell)),
      el("td", { class: "number" }, cell.verdicts.length ? String(cell.alarms) : "–"),
      el("td", { class: "number" }, ev.number(cell.last)),
      el("td", {}, cell.runs.length ? el("a", { href: cellLink(cell) }, cell.runs.length > 1 ? "compare" : "open") : "")));
    by("grid").hidden = false;
    ev.renew(by("grid"),
      el("p", { class: "small" }, el("a", { href: "/studies" }, "All studies")),
      meter(data.counts, data.total), pace(data) ? el("p", {}, pace(data)) : "",
      el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Cells and states" },
        el("table", {}, el("caption", {}, "Cells of the grid: runs by state, and what became of them"),
          el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col", class: numbers.has(text) ? "number" : "" }, text || el("span", { class: "hidden-visually" }, "Open"))))),
          el("tbody", {}, ...lines))),
      data.waiting ? el("p", { class: "soft small" }, `${ev.count(data.waiting, "verdict")} to come`) : "");
  }

  function cellLink(cell) {
    if (cell.runs.length === 1) return ev.runLink(cell.runs[0]);
    return `/compare?${cell.runs.slice(0, 8).map((name) => `run=${encodeURIComponent(name)}`).join("&")}`;
  }

  function verdicts(cell) {
    return cell.verdicts.map(({ word, tone, count }) => el("span", { class: `badge ${tone}` }, cell.runs.length > 1 ? `${count} ${word}` : word));
  }

  ev.poll(() => (store() === null ? "/api/studies" : `/api/studies?store=${encodeURIComponent(store())}`),
    (data) => (data.cells ? grid(data) : stores(data)),
    (error) => by("stores").replaceChildren(el("p", { class: "card bad" }, error)));
})();
