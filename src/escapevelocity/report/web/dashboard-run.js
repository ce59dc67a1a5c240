// One run: state, verdict, curves, signs, settings.
"use strict";
(() => {
  const { el, by } = ev;
  const name = ev.params().get("run") || "";
  const list = (texts) => el("ul", {}, ...texts.map((text) => el("li", {}, text)));
  document.title = `${name.split("/").pop()} · ${document.title}`;
  by("name").textContent = name;

  function facts(data) {
    const { row } = data;
    const left = row.ends ? `${ev.time(row.ends - ev.now())} left` : "";
    const fact = (label, value) => (value ? el("span", { class: "fact" }, el("b", {}, value), ` ${label}`) : null);
    by("state").replaceChildren(...[
      ev.stateBadge(row.state),
      el("span", { class: "fact" }, el("progress", { max: 1, value: row.done, "aria-label": "done" }), " ", el("b", {}, ev.percent(row.done)),
        ` of ${row.steps.toLocaleString("en")} steps`),
      fact("", left),
      fact("steps/s", row.speed ? ev.number(row.speed) : ""),
      fact("", row.task),
      fact(data.seeds.length === 1 ? "seed" : "seeds", data.seeds.length ? String(data.seeds.length) : ""),
      fact("of running", data.wall_time ? ev.time(data.wall_time) : ""),
      fact("", row.label),
      data.parent ? parent(data.parent) : null,
    ].filter(Boolean));
    if (row.why) by("state").append(el("span", { class: "why" }, row.why));
  }

  function parent({ name: known, folder, step }) {
    const who = known ? el("a", { href: ev.runLink(known) }, known) : folder;
    const both = known ? el("a", { href: `/compare?run=${encodeURIComponent(known)}&run=${encodeURIComponent(name)}` }, "beside it") : null;
    return el("span", { class: "fact" }, "branch of ", who, ` at step ${step.toLocaleString("en")} `, both);
  }

  function verdict(data) {
    const card = by("verdict"), judged = data.judged;
    card.hidden = false;
    card.className = "card";
    if (data.row.state === "damaged") {
      card.classList.add("bad");
      card.replaceChildren(el("p", { class: "answer" }, "This folder is damaged"), el("p", {}, data.row.why));
      return;
    }
    if (!judged || judged.error) {
      card.replaceChildren(el("p", { class: "soft" }, judged ? judged.error : "The verdict is being worked out …"));
      return;
    }
    const { told } = judged, many = judged.members > 1;
    card.classList.add(judged.tone);
    const where = many ? ` in ${judged.seeds.length} of ${judged.members} seeds` : "";
    const sure = judged.verdict === "not measured" ? "" : `, confidence ${judged.confidence}`;
    const running = data.row.state === "running" ? "So far: " : "";
    card.replaceChildren(
      el("p", { class: "answer" }, `${running}${told.headline}`), el("p", { class: "soft" }, `Is it healthy? ${told.answer}.`),
      el("p", {}, ev.verdictBadge({ word: judged.verdict, tone: judged.tone, seeds: judged.seeds.length, members: judged.members }),
        `${where}${sure}, up to step ${judged.steps.toLocaleString("en")}. `, told.plain),
      ...section(many ? `Seed ${told.seed}` : "Evidence", [told.reason, ...told.evidence].filter(Boolean)),
      ...section("Other seeds", told.others.map((one) => `seed ${one.seed}: ${one.verdict}${one.confidence ? `, confidence ${one.confidence}` : ""}${one.reason ? `: ${one.reason}` : ""}`)),
      ...section("What would refute it", told.refuted_by),
      ...section("What to try", told.remedies),
      ...section("Not measured", told.not_measured),
      el("p", { class: "small soft" }, "The whole diagnosis: ", el("code", {}, data.command)));
  }

  function section(title, texts) {
    if (!texts.length) return [];
    const long = title === "Not measured" || title === "Other seeds";
    const part = long ? el("details", {}, el("summary", {}, `${title} (${texts.length})`), list(texts)) : null;
    return part ? [part] : [el("h2", {}, title), list(texts)];
  }

  function signs(data) {
    const found = data.judged && data.judged.signs;
    if (!found || !found.length) {
      by("signs").replaceChildren(el("p", { class: "soft" }, found ? "No sign of illness was seen." : "Not looked at yet."));
      return;
    }
    const total = data.row.steps || 1;
    const head = ["seed", "since step", "sign", "what was seen", "what it means", "now"];
    by("signs").replaceChildren(table("Signs, in the order of their onset", head, found.map((sign) => [
      String(sign.seed), `${sign.since.toLocaleString("en")} (${ev.percent(sign.since / total)})`, sign.sign, sign.text, sign.meaning,
      sign.ended === null ? el("span", { class: "badge bad" }, "lasts") : `gone since ${sign.ended.toLocaleString("en")}`,
    ])));
  }

  function table(caption, head, lines) {
    return el("div", { class: "table", tabindex: "0", role: "region", "aria-label": caption },
      el("table", {}, el("caption", {}, caption),
        el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, ...lines.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell)))))));
  }

  function settings(data) {
    const given = data.settings.some(([, , usual]) => usual);
    by("settings").replaceChildren(data.settings.length
      ? table(given ? "Settings that differ from the preset" : "Settings", given ? ["setting", "value", "preset"] : ["setting", "value"],
        data.settings.map(([key, value, usual]) => [el("code", {}, key), value, ...(given ? [usual || "–"] : [])]))
      : el("p", { class: "soft" }, "All settings are those of the preset."));
  }

  const kept = {};
  const once = (key, value, draw) => { // What has not changed keeps the focus and what a person has unfolded.
    const json = JSON.stringify(value);
    if (kept[key] !== json) { kept[key] = json; draw(); }
  };

  const curves = evCurves({ names: () => (name ? [name] : []), element: by("curves") });
  ev.poll(() => `/api/run?run=${encodeURIComponent(name)}`, (data) => {
    facts(data);
    once("verdict", [data.judged, data.row.state, data.row.why], () => verdict(data));
    once("signs", data.judged && data.judged.signs, () => signs(data));
    once("settings", data.settings, () => settings(data));
    curves.offer(data.columns);
  }, (error) => { by("state").replaceChildren(el("p", { class: "card bad" }, error)); });
})();
