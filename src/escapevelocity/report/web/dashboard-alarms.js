// What the early warning says of every run, the newest of those that train first.
"use strict";
(() => {
  const { el, by } = ev;
  const PAGE = 200;
  let alarms = [], waiting = 0, limit = PAGE;

  function chosen() {
    const words = by("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    return alarms.filter((alarm) => (!by("running").checked || alarm.state === "running")
      && (!by("lasting").checked || alarm.ended === null)
      && words.every((word) => `${alarm.run} ${alarm.sign}`.toLowerCase().includes(word)));
  }

  // Seeds of a run that show the same sign are one line, with the first of them.
  function together(found) {
    const lines = new Map();
    for (const alarm of found) {
      const key = JSON.stringify([alarm.run, alarm.sign, alarm.ended === null]);
      const line = lines.get(key);
      if (!line) lines.set(key, { ...alarm, seeds: [alarm.seed] });
      else lines.set(key, { ...(alarm.since < line.since ? alarm : line), seeds: [...line.seeds, alarm.seed].sort((a, b) => a - b) });
    }
    return [...lines.values()];
  }

  function show() {
    const found = together(chosen());
    const runs = new Set(found.map((alarm) => alarm.run)).size;
    const coming = waiting ? ` · ${ev.count(waiting, "run")} still to be looked at` : "";
    by("summary").textContent = `${ev.count(found.length, "alarm")} in ${ev.count(runs, "run")}${coming}`;
    by("more").hidden = found.length <= limit;
    by("more").textContent = `Show all ${found.length.toLocaleString("en")}`;
    if (!found.length) { by("alarms").replaceChildren(el("p", { class: "card" }, "No alarm fits.")); return; }
    const head = ["run", "state", "seeds", "sign", "since step", "what was seen first", "then"];
    const classes = { "since step": "number", state: "wide", then: "wide" };
    ev.renew(by("alarms"), el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Alarms" },
      el("table", {}, el("caption", {}, "Alarms: runs that train now first, then by the time of their last change"),
        el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col", class: classes[text] || "" }, text)))),
        el("tbody", {}, ...found.slice(0, limit).map(line)))));
  }

  function line(alarm) {
    const share = alarm.total ? ` (${ev.percent(alarm.since / alarm.total)})` : "";
    const follows = alarm.lead ? `a collapse followed after a median of ${ev.percent(alarm.lead)} of training in our study` : "";
    const then = alarm.ended === null ? follows : `gone since ${alarm.ended.toLocaleString("en")}`;
    const at = alarm.run.lastIndexOf("/");
    return el("tr", {}, el("td", { class: "run" }, el("a", { href: ev.runLink(alarm.run) }, alarm.run.slice(at + 1)), at > 0 ? el("span", { class: "label" }, alarm.run.slice(0, at)) : null),
      el("td", { class: "wide" }, ev.stateBadge(alarm.state)),
      el("td", {}, alarm.seeds.join(" ")), el("td", { title: alarm.meaning }, alarm.sign),
      el("td", { class: "number" }, `${alarm.since.toLocaleString("en")}${share}`), el("td", {}, alarm.text), el("td", { class: "soft wide" }, then));
  }

  const p = ev.params();
  by("q").value = p.get("q") || "";
  by("running").checked = p.get("running") === "1";
  by("lasting").checked = p.get("lasting") !== "0";
  function kept() {
    ev.keep({ q: by("q").value, running: by("running").checked ? "1" : "", lasting: by("lasting").checked ? "" : "0" });
    show();
  }
  for (const id of ["q", "running", "lasting"]) by(id).addEventListener("input", kept);
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("more").addEventListener("click", () => { limit = Infinity; show(); });

  ev.poll(() => "/api/alarms", (data) => { alarms = data.alarms; waiting = data.waiting; show(); });
})();
