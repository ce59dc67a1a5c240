// The list of runs: filtered, sorted, up to date. The address keeps filter, order and choice.
"use strict";
(() => {
  const { el, by } = ev;
  const PAGE = 200; // Rows drawn at first: a thousand would be slow to lay out, and nobody reads so many.
  const MOST = 8;
  const STATES = ["running", "interrupted", "failed", "damaged", "finished"];
  const TEXT = new Set(["name", "task", "state", "verdict"]);
  const body = by("runs").tBodies[0];
  const rows = new Map(); // name → {tr, json}
  let runs = [], waiting = 0, limit = PAGE;

  const asked = () => {
    const p = ev.params();
    return {
      q: p.get("q") || "", state: p.get("state") || "", verdict: p.get("verdict") || "",
      sort: p.get("sort") || "state", down: p.get("order") === "down", pick: p.getAll("pick").slice(0, MOST),
    };
  };

  // ---- filter and order ---------------------------------------------------------------------------------------

  const haystack = (run) => [run.name, run.task, run.label, run.state, run.verdict ? run.verdict.word : "", run.why].join(" ").toLowerCase();
  const word = (run) => (run.verdict ? run.verdict.word : "");

  function chosen({ q, state, verdict }) {
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    return runs.filter((run) => (!state || run.state === state) && (!verdict || word(run) === verdict)
      && words.every((one) => run.haystack.includes(one)));
  }

  function value(run, key) {
    if (key === "state") return STATES.indexOf(run.state);
    if (key === "verdict") return { bad: "0", unsure: "1", good: "2" }[run.verdict && run.verdict.tone] + word(run);
    return run[key];
  }

  function ordered(found, { sort, down }) {
    const way = down ? -1 : 1;
    const known = (run) => (sort === "verdict" ? Boolean(run.verdict) : run[sort] !== null);
    return [...found].sort((a, b) => {
      if (known(a) !== known(b)) return known(a) ? -1 : 1; // What is not known is last, whichever way.
      const left = value(a, sort), right = value(b, sort);
      const difference = typeof left === "string" ? left.localeCompare(right, "en", { numeric: true }) : left - right;
      return way * difference || b.changed - a.changed || a.name.localeCompare(b.name, "en", { numeric: true });
    });
  }

  // ---- rows ---------------------------------------------------------------------------------------------------

  function draw(run, picked) {
    const box = el("input", { type: "checkbox", "aria-label": `Compare ${run.name}`, checked: picked, onchange: () => pick(run.name) });
    const link = el("a", { href: ev.runLink(run.name) }, run.short || run.name);
    const where = [run.store, run.label].filter(Boolean).join(" · ");
    const share = el("progress", { max: 1, value: run.done, "aria-label": `${ev.percent(run.done)} done` });
    const speed = run.speed ? ev.number(run.speed) : "–";
    const left = run.ends ? `${ev.time(run.ends - ev.now())} left` : "";
    const short = [ev.percent(run.done), run.speed && run.state === "running" ? `${speed} steps/s` : "", run.last !== null ? `last ${ev.number(run.last)}` : "", run.alarms ? ev.count(run.alarms, "alarm") : ""];
    return el("tr", {},
      el("td", {}, box),
      el("td", { class: "run" }, link,
        where ? el("span", { class: "label" }, where) : null,
        run.why ? el("span", { class: "why" }, run.why) : null,
        el("span", { class: "narrow" }, ev.stateBadge(run.state), " ", run.verdict ? ev.verdictBadge(run.verdict) : null),
        el("span", { class: "narrow" }, short.filter(Boolean).join(" · "))),
      el("td", { class: "wide" }, ev.stateBadge(run.state)),
      el("td", { class: "wide", title: run.error || null }, ev.verdictBadge(run.verdict, waiting > 0 && !run.error && run.state !== "damaged")),
      el("td", { class: "number wide" }, run.alarms ? String(run.alarms) : run.verdict ? "0" : "–"),
      el("td", { class: "number wide" }, share, ` ${ev.percent(run.done)}`, left ? el("span", { class: "label" }, left) : null),
      el("td", { class: "number wide" }, speed),
      el("td", { class: "number wide" }, ev.number(run.last), run.last_name ? el("span", { class: "label", title: run.last_name }, run.last_name.split("/").pop()) : null),
      el("td", { class: "number wide" }, String(run.seeds || "–")),
      el("td", { class: "wide" }, run.task),
      el("td", { class: "number wide" }, ev.ago(run.changed)));
  }

  function row(run, picked) {
    const json = JSON.stringify([run, picked, ev.ago(run.changed), waiting > 0, run.ends && Math.round(run.ends - ev.now())]);
    const old = rows.get(run.name);
    if (old && old.json === json) return old.tr;
    const tr = draw(run, picked);
    if (old && old.tr.isConnected) old.tr.replaceWith(tr);
    rows.set(run.name, { tr, json });
    return tr;
  }

  // Notes which run's control has the focus, and gives it back when rows have been made anew and moved, which takes it.
  function holdFocus() {
    const held = document.activeElement;
    const [name, one] = [...rows].find(([, { tr }]) => tr.contains(held)) || [];
    const at = one ? [...one.tr.querySelectorAll("a, input")].indexOf(held) : -1;
    return () => {
      const now = at < 0 ? null : rows.get(name).tr.querySelectorAll("a, input")[at];
      if (now && now !== document.activeElement) now.focus({ preventScroll: true });
    };
  }

  function show() {
    const now = asked();
    const found = ordered(chosen(now), now);
    const giveFocus = holdFocus();
    const wanted = found.slice(0, limit).map((run) => row(run, now.pick.includes(run.name)));
    wanted.forEach((tr, i) => { if (body.children[i] !== tr) body.insertBefore(tr, body.children[i] || null); });
    while (body.children.length > wanted.length) body.lastElementChild.remove();
    giveFocus();
    const there = new Set(runs.map((run) => run.name));
    for (const name of rows.keys()) if (!there.has(name)) rows.delete(name);
    tell(found.length, now);
  }

  function tell(shown, now) {
    const counts = STATES.map((state) => [state, runs.filter((run) => run.state === state).length]).filter(([, n]) => n);
    const speed = runs.filter((run) => run.state === "running").reduce((sum, run) => sum + (run.speed || 0), 0);
    const parts = counts.map(([state, n]) => `${n.toLocaleString("en")} ${state}`);
    if (speed) parts.push(`${ev.number(speed)} steps/s together`);
    if (waiting) parts.push(`${ev.count(waiting, "verdict")} to come`);
    const part = shown < runs.length ? `${shown.toLocaleString("en")} of ` : "";
    by("summary").textContent = `${part}${ev.count(runs.length, "run")}: ${parts.join(" · ") || "none yet"}`;
    options(by("state"), counts.map(([state]) => state), now.state);
    options(by("verdict"), [...new Set(runs.map(word).filter(Boolean))].sort(), now.verdict);
    if (by("q").value !== now.q && document.activeElement !== by("q")) by("q").value = now.q;
    for (const th of document.querySelectorAll("th[data-key]")) {
      if (th.dataset.key === now.sort) th.setAttribute("aria-sort", now.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    const compare = by("compare");
    compare.textContent = now.pick.length ? `Compare ${now.pick.length}` : "Compare";
    compare.href = `/compare?${now.pick.map((name) => `run=${encodeURIComponent(name)}`).join("&")}`;
    by("empty").hidden = shown > 0;
    by("box").hidden = shown === 0;
    by("empty").textContent = runs.length ? "No run fits the filter. Clear shows all." : "No run here yet. `ev train Hopper-v4` makes one; it shows up by itself.";
    by("more").hidden = shown <= limit;
    by("more").textContent = `Show all ${shown.toLocaleString("en")}`;
  }

  function options(select, values, current) {
    const wanted = ["", ...new Set([...values, ...(current ? [current] : [])])];
    if ([...select.options].map((o) => o.value).join("\n") !== wanted.join("\n")) {
      select.replaceChildren(...wanted.map((one) => el("option", { value: one }, one || "all")));
    }
    select.value = current;
  }

  // ---- what a person does -------------------------------------------------------------------------------------

  function set(values) {
    ev.keep(values);
    show();
  }

  function pick(name) {
    const { pick: old } = asked();
    set({ pick: old.includes(name) ? old.filter((one) => one !== name) : [...old, name].slice(-MOST) });
  }

  function clear() {
    by("q").value = "";
    set({ q: "", state: "", verdict: "", pick: [] });
  }

  by("q").value = asked().q;
  by("q").addEventListener("input", () => set({ q: by("q").value }));
  by("state").addEventListener("change", () => set({ state: by("state").value }));
  by("verdict").addEventListener("change", () => set({ verdict: by("verdict").value }));
  by("clear").addEventListener("click", clear);
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("more").addEventListener("click", () => { limit = Infinity; show(); });
  addEventListener("popstate", show);
  for (const th of document.querySelectorAll("th[data-key]")) {
    th.firstElementChild.addEventListener("click", () => {
      const { sort, down } = asked(), key = th.dataset.key;
      // Names go up at first, numbers down: the greatest is what one looks for.
      const next = sort === key ? !down : !TEXT.has(key);
      set({ sort: key, order: next ? "down" : "" });
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input[type=search], select, textarea");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      by("q").focus();
    } else if (event.key === "Escape" && event.target === by("q")) {
      clear();
    } else if (by("box").contains(event.target)) {
      inTable(event);
    }
  });

  function inTable(event) {
    const tr = event.target.closest("tbody tr");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      const all = [...body.children], at = tr ? all.indexOf(tr) + step : step > 0 ? 0 : all.length - 1;
      const next = all[Math.min(all.length - 1, Math.max(0, at))];
      if (!next) return;
      event.preventDefault();
      next.querySelector("a").focus();
    } else if (event.key === "x" && tr) {
      tr.querySelector("input").click();
    } else if (event.key === "c" && asked().pick.length) {
      location.href = by("compare").href;
    }
  }

  ev.poll(() => "/api/runs", (data) => {
    runs = data.runs.map((run) => ({ ...run, haystack: haystack(run) }));
    waiting = data.waiting;
    show();
  });
  setInterval(() => { if (!document.hidden && runs.length) show(); }, 15000); // "3 min ago" becomes 4.
})();
