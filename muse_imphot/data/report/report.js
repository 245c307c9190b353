// Tables of the class "sortable" are sorted by clicking on the head of a column: up, down, and back.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    if ("v" in cell.dataset) return cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
    return cell.textContent.trim();
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    return a - b;
  };
  const sort = (column, direction) => {
    const rows = original.map((row) => [key(row, column), row]);
    // What has no value comes last, whichever way the others are sorted.
    const known = rows.filter(([value]) => !Number.isNaN(value));
    const unknown = rows.filter(([value]) => Number.isNaN(value));
    if (direction !== "none") known.sort(([a], [b]) => compare(a, b));
    if (direction === "descending") known.reverse();
    const sorted = direction === "none" ? original : [...known, ...unknown].map(([, row]) => row);
    body.append(...sorted);
  };
  heads.forEach((head, column) => {
    // A button is reached by the keyboard, and told as such by screen readers.
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const act = () => {
      const direction = next[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", direction);
      sort(column, direction);
    };
    button.addEventListener("click", act);
  });
}
// A link to a result opens what it is folded into.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();
