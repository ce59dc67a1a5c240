// What Markdown cannot say of tables and code: wide ones scroll by keyboard, each has a name of its own, and the corner
// above row labels is no heading.
addEventListener("load", () => {
  document.querySelectorAll(".md-typeset__scrollwrap").forEach((table, index) => {
    table.tabIndex = 0;
    table.setAttribute("role", "region");
    table.setAttribute("aria-label", `Table ${index + 1}`);
    for (const corner of table.querySelectorAll("th:empty")) {
      corner.replaceWith(Object.assign(document.createElement("td"), { style: corner.style.cssText }));
    }
  });
  document.querySelectorAll(".md-code__nav").forEach((bar, index) => bar.setAttribute("aria-label", `Code ${index + 1}`));
});
