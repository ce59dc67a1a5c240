// What all pages of the dashboard share: asking the server, and writing what it says. Text only ever becomes text.
//
//   ev.el("td", {class: "x"}, child, …)   an element; strings among the children are text, never HTML
//   ev.renew(element, child, …)           put new content into an element; the focus stays where it was
//   ev.poll(() => url, show)              ask now and again, show(data) when the answer has changed; .now() asks at once
//   ev.params() / ev.keep({q: "x"})       the page's state, in its address
"use strict";
const ev = (() => {
  const EVERY = 2000;
  const PATIENCE = 30000;

  // ---- elements -----------------------------------------------------------------------------------------------

  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name in made && typeof value === "boolean") made[name] = value;
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return made;
  }

  // Put new content into an element; the focus stays on the control that leads where the old one did, or is called so.
  // Gives false where that has gone.
  function renew(element, ...children) {
    const held = document.activeElement, inside = element.contains(held);
    const called = (one) => one.getAttribute("href") || one.getAttribute("aria-label");
    const alike = () => [...element.querySelectorAll("a, button, [tabindex]")].filter((one) => called(one) === called(held));
    const nth = inside ? alike().indexOf(held) : 0;
    element.replaceChildren(...children);
    if (!inside) return true;
    const same = alike(), next = same[Math.min(nth, same.length - 1)];
    if (next) next.focus({ preventScroll: true });
    return Boolean(next);
  }

  const by = (id) => document.getElementById(id);
  const runLink = (name) => `/run?run=${encodeURIComponent(name)}`;

  // ---- words --------------------------------------------------------------------------------------------------

  function number(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(1).replace("e+", "e");
    if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
    return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
  }

  function time(seconds) {
    if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
    const whole = Math.max(0, Math.round(seconds)), minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
    const two = (n) => String(n).padStart(2, "0");
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  }

  function ago(moment) {
    const gone = now() - moment;
    if (!moment) return "–";
    if (gone < 60) return "just now";
    if (gone < 3600) return `${Math.floor(gone / 60)} min ago`;
    if (gone < 172800) return `${Math.floor(gone / 3600)} h ago`;
    return `${Math.floor(gone / 86400)} days ago`;
  }

  const percent = (share) => `${Math.floor(share * 100)} %`;
  const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

  const TONES = { finished: "good", running: "running", interrupted: "unsure", failed: "bad", damaged: "bad" };
  const stateBadge = (state) => el("span", { class: `badge ${TONES[state] || "none"}` }, state);

  function verdictBadge(verdict, waits) {
    if (!verdict) return el("span", { class: "soft" }, waits ? "…" : "–");
    const { word, tone, seeds, members, confidence } = verdict;
    const of = members > 1 ? `${seeds} of ${members} seeds` : "";
    const told = [of, confidence && `confidence ${confidence}`].filter(Boolean).join(", ");
    return el("span", { class: `badge ${["good", "bad", "unsure"].includes(tone) ? tone : "none"}`, title: told }, word);
  }

  // ---- the server ---------------------------------------------------------------------------------------------

  let offset = 0; // The server's clock against ours: it may be another machine, behind a tunnel.
  const now = () => Date.now() / 1000 + offset;

  function fresh(text, lost) {
    const line = by("fresh");
    if (line.textContent !== text) line.textContent = text;
    line.classList.toggle("lost", Boolean(lost));
  }

  function poll(url, show, failed = () => {}) {
    let etag = "", asked = "", timer = 0, wait = EVERY, running = false, again = false;

    async function ask() {
      clearTimeout(timer);
      if (running) { again = true; return; }
      const address = url();
      if (!address || document.hidden) return;
      running = true;
      if (address !== asked) etag = "";
      try {
        const [answer, data] = await get(address);
        if (data && answer.ok) { show(data); etag = answer.headers.get("etag") || ""; asked = address; }
        else if (data) failed(data.error || "the dashboard gave no answer");
      } finally {
        running = false;
        timer = setTimeout(ask, again ? 0 : wait);
        again = false;
      }
    }

    async function get(address) {
      try {
        const answer = await fetch(address, { cache: "no-store", headers: etag ? { "If-None-Match": etag } : {} });
        const data = answer.status === 304 ? null : await answer.json();
        const date = Date.parse(answer.headers.get("date") || "");
        if (date && Math.abs(date / 1000 - now()) > 2) offset = date / 1000 - Date.now() / 1000;
        fresh("live");
        wait = EVERY;
        return [answer, data];
      } catch {
        fresh("no connection: is `ev dashboard` still running?", true);
        wait = Math.min(PATIENCE, wait * 1.6);
        return [null, null];
      }
    }

    // A page that is not seen asks nothing, and is up to date as soon as it is.
    document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
    ask();
    return { now: ask };
  }

  // ---- the address --------------------------------------------------------------------------------------------

  const params = () => new URLSearchParams(location.search);

  function keep(values) {
    const next = params();
    for (const [name, value] of Object.entries(values)) {
      next.delete(name);
      for (const one of Array.isArray(value) ? value : [value]) if (one) next.append(name, one);
    }
    const text = next.toString();
    if (text !== params().toString()) history.replaceState(null, "", text ? `?${text}` : location.pathname);
  }

  return { el, renew, by, runLink, number, time, ago, percent, count, stateBadge, verdictBadge, now, poll, params, keep };
})();
