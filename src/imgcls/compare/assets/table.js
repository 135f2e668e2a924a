// The table: sorted by a click, filtered by words and comparisons, with a tick for each run that is drawn.
const data = JSON.parse(document.getElementById("data").textContent);
const { columns, rows } = data;
const MOST_DRAWN = 40;
const drawn = new Set(data.drawn);
let shown = rows.map((_, place) => place); // those that pass the filter, in the table's order
let sorted = { key: null, down: true };
const byId = (id) => document.getElementById(id);

function element(name, options = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
}

function say(column, value) {
  if (value === null || value === undefined) return "";
  if (column.kind === "share") return (100 * value).toFixed(2) + " %";
  if (column.kind === "count") return value.toLocaleString("en-US");
  if (column.kind === "seconds") return value.toLocaleString("en-US", { maximumFractionDigits: 1 });
  if (column.kind === "number" && !column.setting) return String(Number(value.toPrecision(4)));
  return String(value);
}

function runCell(row, place) {
  const tick = element("input", { type: "checkbox", checked: drawn.has(place), title: "draw its curves" });
  tick.addEventListener("change", () => (tick.checked ? drawn.add(place) : drawn.delete(place), redraw()));
  row.tick = tick;
  return element("td", { className: "run" },
    element("label", {}, tick, element("a", { href: row.link, textContent: row.run })));
}

function buildTable() {
  const head = byId("table").tHead.rows[0], body = byId("table").tBodies[0];
  for (const column of [{ key: "run", label: "run", kind: "text" }, ...columns]) {
    const button = element("button", { type: "button", textContent: column.label, title: column.key });
    button.addEventListener("click", () => sortBy(column));
    const cell = element("th", { className: className(column) }, button);
    cell.dataset.key = column.key;
    head.append(cell);
  }
  const pictures = rows.some((row) => row.pictures.length);
  if (pictures) head.append(element("th", {}, element("button", { type: "button", textContent: "pictures", disabled: true })));
  rows.forEach((row, place) => {
    row.line = element("tr", {}, runCell(row, place));
    const cells = columns.map((column) => say(column, row.cells[column.key]));
    cells.forEach((text, k) => row.line.append(element("td", { textContent: text, className: className(columns[k]) })));
    if (pictures) row.line.append(element("td", { className: "pictures" }, ...row.pictures.map(
      ([name, link]) => element("a", { href: link, textContent: name }))));
    row.text = [row.run, ...cells].join(" ").toLowerCase();
    body.append(row.line);
  });
}

const className = (column) =>
  (column.key === "run" ? "run " : "") + (column.setting ? "setting " : "") + (column.kind === "text" ? "" : "number");

function sortBy(column) {
  const down = sorted.key === column.key ? !sorted.down : column.kind !== "text";
  sorted = { key: column.key, down };
  const value = (place) => (column.key === "run" ? rows[place].run : rows[place].cells[column.key]);
  const order = rows.map((_, place) => place).sort((one, other) => {
    const [a, b] = [value(one) ?? null, value(other) ?? null];
    if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last, either way
    const sign = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return down ? -sign : sign;
  });
  byId("table").tBodies[0].append(...order.map((place) => rows[place].line));
  for (const cell of byId("table").tHead.rows[0].cells) {
    cell.removeAttribute("aria-sort");
    if (cell.dataset.key === column.key) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
  shown = order.filter((place) => !rows[place].line.hidden);
}

// resnet: any cell has it; lr<0.1, model=vgg11, test_acc>90%: a column does
function test(word) {
  const parts = word.match(/^([\w.-]+?)(<=|>=|=|<|>)(.+)$/);
  const column = parts && [...columns, { key: "run", label: "run" }].find(
    ({ key, label }) => [key, label].map((name) => name.toLowerCase().replaceAll(" ", "_")).includes(parts[1]));
  if (!column) return (row) => row.text.includes(word);
  const [, , sign, typed] = parts;
  const number = typed.endsWith("%") ? parseFloat(typed) / 100 : Number(typed);
  return (row) => {
    const value = column.key === "run" ? row.run : row.cells[column.key];
    if (value === null || value === undefined) return false;
    if (typeof value !== "number") return sign === "=" && String(value).toLowerCase() === typed;
    return { "<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number, "=": value === number }[sign];
  };
}

function filterRows() {
  const tests = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean).map(test);
  for (const row of rows) row.line.hidden = !tests.every((passes) => passes(row));
  const order = [...byId("table").tBodies[0].rows];
  const place = new Map(rows.map((row, index) => [row.line, index]));
  shown = order.filter((line) => !line.hidden).map((line) => place.get(line));
  byId("count").textContent = `${shown.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} runs`;
}

function drawOnly(places) {
  drawn.clear();
  places.forEach((place) => drawn.add(place));
  rows.forEach((row, place) => (row.tick.checked = drawn.has(place)));
  redraw();
}
