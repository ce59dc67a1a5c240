// Several runs side by side: one colour each, their curves in the same charts.
"use strict";
(() => {
  const { el, by } = ev;
  const MOST = 8;
  const DASHES = { dash: "dash", dot: "dot" };
  const names = () => ev.params().getAll("run").slice(0, MOST);
  let runs = new Map();

  function set(list) {
    ev.keep({ run: list.slice(-MOST) });
    table();
    curves.now();
    columns.now();
  }

  function table() {
    const chosen = names();
    by("hint").hidden = chosen.length > 1;
    by("hint").textContent = chosen.length ? "Add a second run to see them side by side." : "Choose runs: here by name, or with the boxes in the list of runs.";
    if (!chosen.length) { by("table").replaceChildren(); return; }
    const head = ["run", "state", "verdict", "done", "last return", "alarms", ""];
    const lines = chosen.map((name, group) => {
      const run = runs.get(name);
      const swatch = el("span", { class: `swatch ${DASHES[evFigure.dash(group)] || ""}`, "aria-hidden": "true" });
      swatch.style.borderTopColor = evFigure.color(group);
      const cells = run
        ? [ev.stateBadge(run.state), ev.verdictBadge(run.verdict, true), ev.percent(run.done), ev.number(run.last), run.verdict ? String(run.alarms) : "–"]
        : ["", "", "", "", ""];
      const remove = el("button", { type: "button", class: "small", "aria-label": `Remove ${name}`, onclick: () => set(names().filter((one) => one !== name)) }, "Remove");
      const label = run && run.label ? el("span", { class: "label" }, run.label) : null;
      return el("tr", {}, el("th", { scope: "row" }, swatch, el("a", { href: ev.runLink(name) }, name), label),
        ...cells.map((cell, i) => el("td", { class: i > 1 ? "number" : "" }, cell)), el("td", {}, remove));
    });
    const focused = ev.renew(by("table"), el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Runs compared" },
      el("table", {}, el("caption", {}, "Runs compared, each with the colour of its curves"),
        el("thead", {}, el("tr", {}, ...head.map((text, i) => el("th", { scope: "col", class: i > 2 && text ? "number" : "" }, text || el("span", { class: "hidden-visually" }, "Remove"))))),
        el("tbody", {}, ...lines))));
    if (!focused) by("run").focus();
  }

  by("pick").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = by("run").value.trim();
    if (!name) return;
    if (!runs.has(name)) { by("run").setCustomValidity("There is no run of this name."); by("run").reportValidity(); return; }
    by("run").value = "";
    set([...names().filter((one) => one !== name), name]);
  });
  by("run").addEventListener("input", () => by("run").setCustomValidity(""));

  const curves = evCurves({ names, element: by("curves"), told: () => table() });
  let kept = "";
  ev.poll(() => "/api/runs", (data) => {
    runs = new Map(data.runs.map((run) => [run.name, run]));
    const known = [...runs.keys()].join("\n");
    if (known !== kept) by("names").replaceChildren(...[...runs.keys()].map((name) => el("option", { value: name })));
    kept = known;
    table();
  });
  const columns = ev.poll(() => (names().length ? `/api/run?run=${encodeURIComponent(names()[0])}` : ""), (data) => curves.offer(data.columns));
  document.addEventListener("ev-theme", table);
})();
