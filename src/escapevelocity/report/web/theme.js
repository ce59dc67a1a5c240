// Light, dark, or as the system has it: every [data-theme-toggle] button goes to the next of the three.
// Listeners hear the event "ev-theme" on document whenever what is seen may have changed.
"use strict";
const evTheme = (() => {
  const KEY = "ev-theme";
  const ORDER = ["system", "light", "dark"];
  const root = document.documentElement;

  // Storage may be forbidden, as for a file that a strict browser opened.
  const read = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem(KEY, theme); } catch { /* only this visit, then */ } };

  const chosen = () => root.dataset.theme || "system";
  const tell = () => document.dispatchEvent(new CustomEvent("ev-theme"));

  function set(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.textContent = `Theme: ${chosen()}`;
    }
    tell();
  }

  set(read());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => set(chosen()));
  document.addEventListener("click", (event) => {
    if (!event.target.closest || !event.target.closest("[data-theme-toggle]")) return;
    const next = ORDER[(ORDER.indexOf(chosen()) + 1) % ORDER.length];
    keep(next);
    set(next);
  });
  return { set, chosen };
})();
