// The report page: draws its charts as they come into view, hides and shows runs, copies commands.
"use strict";
(() => {
  if (typeof evCharts !== "undefined") {
    for (const chart of JSON.parse(document.getElementById("charts").textContent)) {
      const element = document.getElementById(`chart-${chart.id}`);
      if (element) evCharts.lazy(element, chart);
    }
    const paint = () => {
      for (const swatch of document.querySelectorAll("[data-group]")) {
        const group = Number(swatch.dataset.group);
        swatch.style.borderTopColor = evFigure.color(group);
        swatch.style.borderTopStyle = { solid: "solid", dash: "dashed", dot: "dotted" }[evFigure.dash(group)];
      }
    };
    paint();
    document.addEventListener("ev-theme", paint);
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-raw]")) {
      evCharts.raw(event.target.checked);
      for (const twin of document.querySelectorAll("[data-raw]")) twin.checked = event.target.checked;
      return;
    }
    const group = event.target.dataset.show;
    if (group === undefined) return;
    evCharts.show(Number(group), event.target.checked);
    for (const twin of document.querySelectorAll(`[data-show="${group}"]`)) {
      twin.checked = event.target.checked;
      twin.closest("label").classList.toggle("off", !twin.checked);
    }
  });

  document.addEventListener("click", async (event) => {
    if (event.target.closest("[data-print]")) print();
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // A page that was opened as a file may not write to the clipboard: select the text instead.
      getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  // Who goes to a folded section wants to see it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();

  // Paper cannot be unfolded: what to try is printed whole. Long tables are printed if they are open.
  const unfolded = [];
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll(".verdict details:not([open])")) {
      part.open = true;
      unfolded.push(part);
    }
  });
  addEventListener("afterprint", () => { for (const part of unfolded.splice(0)) part.open = false; });
})();
