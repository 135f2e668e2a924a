// Runs of one test set against each other. They are called by letters, which stand before their names.
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const current = () => data.sets[Number(byId("set").value)];
const letters = (set) => set.top.map((_, place) => LETTERS[place]);
const accuracy = (set, place) => rows[set.top[place]].cells.test_acc;
const named = (set, place) => `${LETTERS[place]} ${rows[set.top[place]].run}`;

function pairOf(set, a, b) {
  return set.pairs.find((pair) => (pair.a === a && pair.b === b) || (pair.a === b && pair.b === a));
}

// One value for each two runs, as a square
function square(id, title, value, text, told, colours) {
  const set = current(), all = set.top.map((_, place) => place), marks = letters(set);
  const cells = (of, own) => all.map((a) => all.map((b) => (a === b ? own : of(set, a, b, pairOf(set, a, b)))));
  paint(id, [{ type: "heatmap", x: marks, y: marks, z: cells(value, null), text: cells(text, ""), texttemplate: "%{text}", hoverongaps: false,
    customdata: cells(told, ""), hovertemplate: "%{customdata}<extra></extra>", xgap: 2, ygap: 2, ...colours }],
  { title, yaxis: { autorange: "reversed", showgrid: false }, xaxis: { showgrid: false } });
}

function gaps(id) {
  const gap = (set, a, b) => 100 * (accuracy(set, a) - accuracy(set, b));
  const set = current(), most = Math.max(0.01, ...set.pairs.map(({ a, b }) => Math.abs(gap(set, a, b))));
  square(id, "accuracy of the row less that of the column, in points (*: not noise)", gap,
    (s, a, b, pair) => gap(s, a, b).toFixed(2) + (pair.adjusted < data.alpha ? " *" : ""), (s, a, b, pair) => wrapped(plain(pair.words)),
    { colorscale: [[0, RED], [0.5, "white"], [1, BLUE]], zmin: -most, zmax: most, colorbar: { thickness: 12 } });
}

function wrapped(text) {
  return text.replace(/(.{1,70})(\s|$)/g, "$1<br>");
}

function overlap(id) {
  square(id, "errors that two runs share (Jaccard index)", (s, a, b, pair) => pair.jaccard, (s, a, b, pair) => pair.jaccard?.toFixed(2) ?? "",
    (s, a, b, pair) => `${named(s, a)}<br>${named(s, b)}<br>${pair.jaccard === null ? "no errors" : percent(pair.jaccard, 1) + " of the images that either has wrong, both have wrong"}`,
    { colorscale: [[0, "white"], [1, BLUE]], zmin: 0, zmax: 1, colorbar: { thickness: 12 } });
}

function perClass(id) {
  const set = current(), all = set.classes.map((_, k) => k);
  const spread = (k) => Math.max(...set.recall.map((each) => each[k])) - Math.min(...set.recall.map((each) => each[k]));
  const few = all.length > 20 ? [...all].sort((a, b) => spread(b) - spread(a)).slice(0, 20) : all;
  const traces = set.top.map((place, number) => ({
    type: "bar", x: few.map((k) => plain(set.classes[k])), y: few.map((k) => set.recall[number][k]), name: LETTERS[number],
    marker: { color: colourOf(number) }, hovertemplate: `${plain(named(set, number))}<br>%{x}: %{y:.2%}<extra></extra>`,
  }));
  const lowest = Math.min(...set.recall.flatMap((each) => few.map((k) => each[k])));
  paint(id, traces, {
    title: few.length < all.length ? `accuracy of the 20 classes of ${all.length} that differ most` : "accuracy of each class",
    barmode: "group", bargap: 0.25, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 1, xanchor: "right" },
    yaxis: { tickformat: ".0%", range: [Math.max(0, Math.floor(10 * lowest - 0.5) / 10), 1] }, xaxis: { type: "category" },
  });
}

function reliability(id) {
  const set = current();
  const ideal = { x: [0, 1], y: [0, 1], mode: "lines", line: { color: "#8c8c8c", dash: "dot", width: 1 }, hoverinfo: "skip", showlegend: false };
  const traces = set.reliability.map((bins, number) => ({
    x: bins.confidence, y: bins.accuracy, mode: "lines+markers", connectgaps: true, line: { color: colourOf(number) },
    marker: { size: bins.count.map((n) => 4 + 12 * Math.sqrt(n / set.images)) },
    name: `${LETTERS[number]}: ECE ${percent(rows[set.top[number]].cells.ece)}`, text: bins.count.map((n) => `${n.toLocaleString("en-US")} images`),
    hovertemplate: `${plain(named(set, number))}<br>confidence %{x:.1%}, accuracy %{y:.1%}<br>%{text}<extra></extra>`,
  }));
  paint(id, [ideal, ...traces], { title: "calibration: accuracy of answers by their confidence (below the diagonal: too sure)", showlegend: true,
    xaxis: { title: { text: "confidence" }, tickformat: ".0%", range: [0, 1.02] }, yaxis: { tickformat: ".0%", range: [0, 1.02] } });
}

const classAxis = (set, more) => ({ tickvals: set.classes.map((_, k) => k), ticktext: set.classes.map(plain), showgrid: false,
  tickfont: { size: set.classes.length > 20 ? 7 : 10 }, ...more });

// The diagonal would hide the errors, so it has no colour
function matrix(id, number) {
  const set = current(), counts = set.confusion[number], total = counts.map((line) => Math.max(1, line.reduce((a, b) => a + b, 0)));
  const labels = counts.map((line, i) => line.map((n, j) => (n && set.classes.length <= 10 ? n : "")));
  paint(id, [
    { type: "heatmap", z: counts.map((line, i) => line.map((n, j) => (i === j ? null : Math.sqrt(n / total[i])))), text: labels, texttemplate: "%{text}",
      textfont: { size: 9 }, colorscale: [[0, "white"], [0.3, "#f9c98b"], [1, RED]], zmin: 0, zmax: Math.sqrt(0.2), showscale: false, hoverongaps: true,
      customdata: counts.map((line, i) => line.map((n, j) => `${plain(set.classes[i])} → ${plain(set.classes[j])}: ${n} (${percent(n / total[i], 1)})`)),
      hovertemplate: "%{customdata}<extra></extra>" },
    { x: set.classes.map((_, k) => k), y: set.classes.map((_, k) => k), text: counts.map((line, i) => (set.classes.length <= 10 ? line[i] : "")), mode: "text",
      textfont: { size: 9, color: "#8c8c8c" }, hoverinfo: "skip" },
  ], { title: plain(named(set, number)), margin: { l: 40, r: 8, t: 34, b: 40 }, xaxis: classAxis(set), yaxis: classAxis(set, { autorange: "reversed" }) });
}

function difference(id) {
  const set = current(), [a, b] = chosen();
  const z = set.confusion[a].map((line, i) => line.map((n, j) => n - set.confusion[b][i][j]));
  const most = Math.max(1, ...z.flat().map(Math.abs));
  const flat = z.map((line, i) => line.map((n, j) => (i === j ? -n : n))); // red is worse, on the diagonal, too
  paint(id, [{ type: "heatmap", z: flat, text: z.map((line) => line.map((n) => (n && set.classes.length <= 20 ? (n > 0 ? "+" : "−") + Math.abs(n) : ""))), texttemplate: "%{text}",
    customdata: z.map((line, i) => line.map((n, j) => `${plain(set.classes[i])} → ${plain(set.classes[j])}: ${set.confusion[a][i][j]} and ${set.confusion[b][i][j]}`)),
    hovertemplate: "%{customdata}<extra></extra>", colorscale: [[0, BLUE], [0.5, "white"], [1, RED]], zmin: -most, zmax: most, colorbar: { thickness: 12, title: { text: "images" } } }],
  { title: `confusions of ${LETTERS[a]} less those of ${LETTERS[b]} (blue: ${LETTERS[a]} is better)`, xaxis: classAxis(set, { title: { text: "predicted" } }),
    yaxis: classAxis(set, { autorange: "reversed", title: { text: "true" } }) });
}

const chosen = () => [Number(byId("a").value), Number(byId("b").value)];

function shots(set, a, b) {
  const found = set.shots[`${a}/${b}`] ?? [], pair = pairOf(set, a, b), scale = 96 / Math.max(...set.tile);
  const count = pair.a === a ? pair.only_a : pair.only_b;
  const head = element("h3", { textContent: `${LETTERS[a]} right, ${LETTERS[b]} wrong: ${found.length} of ${count.toLocaleString("en-US")}` });
  const tiles = found.map(({ tile, is, said, sure }) => {
    const picture = element("div", { className: "image" }), [width, height] = set.tile.map((side) => side * scale);
    Object.assign(picture.style, { backgroundImage: `url(${set.sheet})`, width: `${width}px`, height: `${height}px`,
      backgroundSize: `${set.across * width}px auto`, backgroundPosition: `${-(tile % set.across) * width}px ${-Math.floor(tile / set.across) * height}px` });
    return element("div", { className: "shot" }, picture, element("div", { className: "said", textContent: set.classes[is] }),
      element("span", { className: "wrong", textContent: `not ${set.classes[said]} ${(100 * sure).toFixed(0)} %` }));
  });
  return element("div", {}, head, element("div", { className: "sheet" }, ...tiles));
}

function two() {
  const set = current(), [a, b] = chosen(), pair = pairOf(set, a, b);
  byId("verdict").textContent = a === b ? "Choose two different runs." : pair.words;
  byId("shots").replaceChildren(...(a === b ? [] : set.sheet ? [shots(set, a, b), shots(set, b, a)] : [element("p", { className: "note", textContent: set.note })]));
  refresh("plot-difference");
}

function showSet() {
  const set = current(), few = set.top.length < 2;
  byId("pairs-note").textContent = set.about;
  byId("top").replaceChildren(...set.top.map((_, number) => {
    const swatch = element("i");
    swatch.style.borderColor = colourOf(number);
    return element("span", { className: "chip" }, swatch, `${named(set, number)} ${percent(accuracy(set, number))}`, settings(rows[set.top[number]]));
  }));
  byId("pairs-body").hidden = few;
  if (few) return;
  options("a", set.top.map((_, k) => [String(k), named(set, k)]), "0");
  options("b", set.top.map((_, k) => [String(k), named(set, k)]), "1");
  for (const id of [...plots.keys()].filter((key) => key.startsWith("matrix-"))) plots.delete(id);
  const large = !set.confusion;
  byId("matrices").replaceChildren(...(large ? [element("p", { className: "note", textContent: "There are too many classes for matrices that can be read." })] :
    set.top.map((_, number) => element("div", { className: "plot small", id: `matrix-${number}` }))));
  byId("plot-difference").hidden = large;
  if (!large) set.top.forEach((_, number) => register(`matrix-${number}`, (id) => matrix(id, number)));
  two();
  ["plot-gaps", "plot-overlap", "plot-classes", "plot-reliability"].forEach((id) => refresh(id));
}

function startPairs() {
  options("set", data.sets.map((set, place) => [String(place), `${set.title} (${set.runs} runs)`]));
  byId("set-label").hidden = data.sets.length < 2;
  register("plot-gaps", gaps);
  register("plot-overlap", overlap);
  register("plot-classes", perClass);
  register("plot-reliability", reliability);
  register("plot-difference", difference);
  byId("set").addEventListener("change", showSet);
  for (const id of ["a", "b"]) byId(id).addEventListener("change", two);
  showSet();
}

function start() {
  byId("facts").textContent = data.facts.join("\n");
  buildTable();
  filterRows();
  options("costs-metric", metrics.map((key) => [key, column(key).label]), "test_acc");
  register("plot-loss", (id) => curves(id, "loss"));
  register("plot-acc", (id) => curves(id, "acc"));
  SCATTERS.forEach((key) => register(`plot-${key}`, (id) => scatter(id, key)));
  startSwept();
  startPairs();
  chips();
  let waiting;
  byId("filter").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => (filterRows(), redraw()), 120);
  });
  byId("costs-metric").addEventListener("change", redraw);
  byId("draw-shown").addEventListener("click", () => drawOnly(shown.slice(0, 8)));
  byId("draw-none").addEventListener("click", () => drawOnly([]));
  addEventListener("beforeprint", () => plots.forEach((_, id) => refresh(id, true)));
}
