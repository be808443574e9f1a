// Filters: which norms, tasks and sizes the tables and plots show.

const FACETS = ["norm", "task", "size"];
const shown = { norm: null, task: "", size: "" }; // null and "" stand for all

function facetsOf(element) {
  return Object.fromEntries(FACETS.map((name) => [name, element.dataset[name]]));
}

// What the trials are of; a norm that the paper names, say, is not filtered.
function valuesOf(facet) {
  const rows = [...document.querySelectorAll("#trials ~ .scroll tbody tr")];
  return [...new Set(rows.map((row) => row.dataset[facet]).filter(Boolean))];
}

const known = Object.fromEntries(FACETS.map((facet) => [facet, new Set(valuesOf(facet))]));

function isShown(facets) {
  const asked = FACETS.filter((name) => known[name].has(facets[name]));
  return asked.every((name) => {
    if (name === "norm") return shown.norm === null || shown.norm.has(facets.norm);
    return !shown[name] || facets[name] === shown[name];
  });
}

function showTable(box) {
  const table = box.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) row.hidden = !isShown(facetsOf(row));
  const columns = [...table.querySelectorAll("th[data-task][data-at]")];
  const hides = (head) => !isShown(facetsOf(head));
  for (const head of table.querySelectorAll("thead th[data-task]")) head.hidden = hides(head);
  for (const head of columns) {
    for (const row of rows) row.cells[Number(head.dataset.at)].hidden = hides(head);
  }
  const empty = rows.length > 0 && rows.every((row) => row.hidden);
  const bare = columns.length > 0 && columns.every(hides);
  box.hidden = empty || bare || !isShown(facetsOf(table));
}

function applyFilters() {
  document.querySelectorAll(".scroll").forEach(showTable);
  plots.forEach((plot) => plot.show());
  const all = shown.norm === null && !shown.task && !shown.size;
  document.querySelector(".filters .clear").hidden = all;
  markScrolling();
}

function choice(facet, values) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.add(new Option(`all ${facet}s`, ""));
  for (const value of values) select.add(new Option(value, value));
  select.addEventListener("change", () => {
    shown[facet] = select.value;
    applyFilters();
  });
  label.append(`${facet} `, select);
  return label;
}

function toggle(norm, key, isOn) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "key";
  button.setAttribute("aria-pressed", "true");
  button.innerHTML = key;
  button.append(norm);
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pressed));
    isOn(pressed);
  });
  return button;
}

function makeFilters() {
  const norms = [...known.norm];
  const parts = [];
  if (norms.length > 1) {
    const keys = new Map(plots.flatMap((plot) => plot.keys));
    const group = document.createElement("div");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Norms shown");
    for (const norm of norms) {
      const button = toggle(norm, keys.get(norm) ?? "", (isOn) => {
        shown.norm ??= new Set(norms);
        if (isOn) shown.norm.add(norm);
        else shown.norm.delete(norm);
        if (shown.norm.size === norms.length) shown.norm = null;
        applyFilters();
      });
      group.append(button);
    }
    parts.push(group);
  }
  for (const facet of ["task", "size"]) {
    const values = [...known[facet]];
    if (values.length > 1) parts.push(choice(facet, values));
  }
  if (!parts.length) return;
  const bar = document.createElement("form");
  bar.className = "filters";
  bar.setAttribute("aria-label", "Filters");
  const clear = document.createElement("button");
  clear.type = "reset";
  clear.className = "clear";
  clear.textContent = "Show all";
  clear.hidden = true;
  bar.append(...parts, clear);
  bar.addEventListener("reset", () => {
    Object.assign(shown, { norm: null, task: "", size: "" });
    bar.querySelectorAll("[aria-pressed]").forEach((b) => b.setAttribute("aria-pressed", "true"));
    applyFilters();
    bar.querySelector("button, select").focus();
  });
  bar.addEventListener("submit", (event) => event.preventDefault());
  document.querySelector("header").after(bar);
}
