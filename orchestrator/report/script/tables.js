// Tables: sorting by a head, and tab stops on boxes that overflow.

function leafHeads(table) {
  return [...table.querySelectorAll("thead th[data-at]")];
}

function rankOf(row, at) {
  const cell = row.cells[at];
  if (cell.dataset.rank !== undefined) return Number(cell.dataset.rank);
  return cell.textContent.trim();
}

// Numbers before texts, and empty cells last, in both directions.
function inOrder(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const numbers = [a, b].map((rank) => typeof rank === "number");
  if (numbers[0] && numbers[1]) return a === b ? 0 : sign * (a < b ? -1 : 1);
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  return sign * a.localeCompare(b, "en", { numeric: true });
}

function sortBy(table, head) {
  const turned = { none: "ascending", ascending: "descending", descending: "none" };
  const next = turned[head.getAttribute("aria-sort") || "none"];
  for (const other of leafHeads(table)) other.removeAttribute("aria-sort");
  if (next !== "none") head.setAttribute("aria-sort", next);
  const body = table.tBodies[0];
  const rows = [...body.rows];
  rows.forEach((row, i) => (row.dataset.first ??= String(i)));
  const at = Number(head.dataset.at);
  const sign = next === "descending" ? -1 : 1;
  rows.sort((a, b) => Number(a.dataset.first) - Number(b.dataset.first));
  if (next !== "none") rows.sort((a, b) => inOrder(rankOf(a, at), rankOf(b, at), sign));
  body.append(...rows);
}

function makeSortable(table) {
  if (table.tBodies[0].rows.length < 2) return;
  for (const head of leafHeads(table)) {
    // No <button>: Chromium leaves those out of the heads that it repeats on every printed page.
    const button = document.createElement("span");
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.className = "sort";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, head));
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sortBy(table, head);
    });
  }
}

// Only a box that scrolls needs the keyboard's attention.
function markScrolling() {
  for (const box of document.querySelectorAll(".scroll, .plot")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    if (scrolls || box.classList.contains("reads")) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
