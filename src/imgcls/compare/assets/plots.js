// Plots: each is drawn when it first comes into view, and again when what it shows has changed.
const plots = new Map(); // id → { draw, seen }
const COLOURS = data.palette;
const BLUE = COLOURS[0], RED = COLOURS[1];
const AXIS = { gridcolor: "#e6e6e6", zeroline: false, automargin: true };
const watcher = new IntersectionObserver(
  (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => refresh(e.target.id, true)), { rootMargin: "300px" });

function register(id, draw) {
  plots.set(id, { draw, seen: false });
  watcher.observe(byId(id));
}

function refresh(id, seen = false) {
  const plot = plots.get(id);
  if (!plot || (!plot.seen && !seen) || (plot.seen && seen)) return;
  plot.seen = true;
  plot.draw(id);
}

function paint(id, traces, layout) {
  const whole = {
    margin: { l: 60, r: 16, t: 36, b: 48 }, font: { family: "system-ui, DejaVu Sans, sans-serif", size: 12, color: "#262626" },
    hovermode: "closest", showlegend: false, ...layout, title: { text: layout.title, font: { size: 14 }, x: 0.01, xanchor: "left" },
    xaxis: { ...AXIS, ...layout.xaxis }, yaxis: { ...AXIS, ...layout.yaxis },
  };
  Plotly.react(id, traces, whole, { responsive: true, displaylogo: false, toImageButtonOptions: { format: "svg", filename: id } });
}

// Plotly reads some HTML in its texts; a class may be called "<5"
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const percent = (value, digits = 2) => (100 * value).toFixed(digits) + " %";
const column = (key) => columns.find((c) => c.key === key);

function hover(row) {
  const told = columns.filter((c) => c.setting || c.key.endsWith("_acc")).map((c) => [c, say(c, row.cells[c.key])]);
  return [`<b>${plain(row.run)}</b>`, ...told.filter(([, text]) => text).map(([c, text]) => `${plain(c.label)}: ${plain(text)}`)].join("<br>");
}

const colourOf = (number) => COLOURS[number % COLOURS.length];

function curves(id, what) {
  const traces = [];
  [...drawn].slice(0, MOST_DRAWN).forEach((place, number) => {
    const known = data.curves[place];
    for (const part of ["train", "val"]) {
      const y = known[`${part}/${what}`];
      if (y) traces.push({
        x: known.epoch, y, mode: known.epoch.length > 1 ? "lines" : "markers", text: plain(rows[place].run),
        line: { color: colourOf(number), width: part === "val" ? 2 : 1.3, dash: part === "val" ? "solid" : "dot" },
        hovertemplate: `<b>%{text}</b><br>epoch %{x}, ${part} ${what} %{y:${what === "acc" ? ".2%" : ".4g"}}<extra></extra>`,
      });
    }
  });
  const values = traces.flatMap((trace) => trace.y).filter((y) => y > 0).sort((a, b) => a - b);
  const wide = what === "loss" && values.at(-1) > 30 * values[Math.floor(values.length / 10)];
  paint(id, traces, {
    title: what === "acc" ? "accuracy" : "loss", xaxis: { title: { text: "epoch" } },
    yaxis: what === "acc" ? { tickformat: ".0%" } : { type: wide ? "log" : "linear" },
  });
}

// A name with a hash in it says little
function settings(row) {
  const told = axes.slice(0, 3).map(({ key, label }) => [label, say(column(key), row.cells[key])]).filter(([, text]) => text);
  return element("small", { textContent: told.map((pair) => pair.join(" ")).join(", ") });
}

function chips() {
  byId("drawn").replaceChildren(...[...drawn].slice(0, MOST_DRAWN).map((place, number) => {
    const swatch = element("i");
    swatch.style.borderColor = colourOf(number);
    const chip = element("button", { className: "chip", type: "button", title: "take it out" }, swatch, `${rows[place].run} ×`, settings(rows[place]));
    chip.addEventListener("click", () => drawOnly([...drawn].filter((other) => other !== place)));
    return chip;
  }));
  if (drawn.size > MOST_DRAWN) byId("drawn").append(`and ${drawn.size - MOST_DRAWN} more, which are not drawn`);
  if (!drawn.size) byId("drawn").append("Tick runs in the table to draw them.");
}

function scatter(id, key) {
  const metric = byId("costs-metric").value, by = column(data.by);
  const groups = new Map();
  for (const place of shown) {
    const { cells } = rows[place];
    if (cells[key] == null || cells[metric] == null) continue;
    const name = by ? say(by, cells[by.key]) : "";
    groups.set(name, [...(groups.get(name) ?? []), rows[place]]);
  }
  const traces = [...groups].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })).map(([name, found], number) => ({
    x: found.map((row) => row.cells[key]), y: found.map((row) => row.cells[metric]), text: found.map(hover),
    name: plain(name), mode: "markers", marker: { color: colourOf(number), size: 8, opacity: 0.75, symbol: Math.floor(number / COLOURS.length) },
    hovertemplate: "%{text}<extra></extra>",
  }));
  const log = ["parameters", "multiply_adds", "seconds"].includes(key);
  const legend = groups.size > 1 && groups.size <= 12;
  paint(id, traces, {
    title: `${column(metric).label} against ${column(key)?.label ?? key}`, showlegend: legend,
    legend: { orientation: "h", y: -0.22 }, xaxis: log ? { type: "log", exponentformat: "SI", ...wideTicks(traces) } : { tickformat: ".0%" },
    yaxis: { tickformat: ".4~p" },
  });
}

// Within a decade all of 1, 2, 5 are named; over more, powers of ten alone
function wideTicks(traces) {
  const values = traces.flatMap((trace) => trace.x).filter((x) => x > 0);
  return Math.max(...values) > 100 * Math.min(...values) ? { dtick: 1 } : { dtick: "D2" };
}

function options(id, choices, chosen) {
  byId(id).replaceChildren(...choices.map(([value, text]) => element("option", { value, textContent: text, selected: value === chosen })));
}

const { axes, lines, grids, metrics } = data.swept;
const sweptValue = (id) => byId(`swept-${id}`).value;

// A value's own name is its tick: they were chosen by hand
function ticks(axis) {
  const values = axis.numeric ? axis.values : axis.values.map((_, place) => place);
  return { tickvals: values, ticktext: axis.values.map(plain), type: axis.log ? "log" : "linear", title: { text: plain(axis.label) } };
}

function linePlot(id) {
  const axis = axes[sweptValue("x")], how = sweptValue("how"), metric = sweptValue("metric");
  const traces = lines[`${metric}/${sweptValue("x")}/${sweptValue("by")}`].map(({ name, points }, number) => ({
    x: points.map(({ at }) => (axis.numeric ? axis.values[at] : at)), y: points.map((point) => point[how]),
    text: points.map((p) => `${plain(name)}<br>${plain(axis.label)}=${plain(axis.values[p.at])}<br>best ${percent(p.best)}, mean ${percent(p.mean)} of ${p.n}`),
    name: plain(name), mode: axis.numeric ? "lines+markers" : "markers", line: { color: colourOf(number) }, marker: { size: 8 },
    hovertemplate: "%{text}<extra></extra>",
  }));
  paint(id, traces, {
    title: `${column(metric).label}, ${how} of the runs`, showlegend: traces.length > 1, legend: { orientation: "h", y: -0.22 },
    xaxis: ticks(axis), yaxis: { tickformat: ".4~p" },
  });
}

function gridPlot(id) {
  const metric = sweptValue("metric"), how = sweptValue("how");
  const [i, j] = [Number(sweptValue("x")), Number(sweptValue("by"))];
  if (j < 0) return paint(id, [], { title: "", xaxis: { visible: false }, yaxis: { visible: false },
    annotations: [{ text: "two settings make a heat map", showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" }] });
  const [x, y] = [Math.min(i, j), Math.max(i, j)];
  const cells = grids[`${metric}/${x}/${y}`];
  const named = (axis) => ({ tickvals: axis.values.map((_, k) => k), ticktext: axis.values.map(plain), title: { text: plain(axis.label) }, showgrid: false });
  return paint(id, [{
    type: "heatmap", z: cells.map((line) => line.map((cell) => cell && cell[how])), colorscale: "Viridis", xgap: 2, ygap: 2,
    text: cells.map((line) => line.map((cell) => (cell ? (100 * cell[how]).toFixed(1) : ""))), texttemplate: "%{text}",
    customdata: cells.map((line) => line.map((cell) => (cell ? `best ${percent(cell.best)}, mean ${percent(cell.mean)} of ${cell.n}` : ""))),
    hovertemplate: "%{customdata}<extra></extra>", colorbar: { tickformat: ".0%", thickness: 12 }, hoverongaps: false,
  }], { title: `${column(metric).label}, ${how} of the runs`, xaxis: named(axes[x]), yaxis: named(axes[y]) });
}

function startSwept() {
  if (!axes.length) {
    byId("swept-none").textContent = "No setting was tried with several values.";
    byId("swept-body").hidden = true;
    return;
  }
  options("swept-metric", metrics.map((key) => [key, column(key).label]));
  options("swept-x", axes.map((axis, place) => [String(place), axis.label]));
  const fill = () => options("swept-by", [...axes.map((axis, place) => [String(place), axis.label])
    .filter(([place]) => place !== sweptValue("x")), ["-1", "– (one line)"]]);
  fill();
  register("plot-lines", linePlot);
  register("plot-grid", gridPlot);
  for (const name of ["metric", "x", "by", "how"]) byId(`swept-${name}`).addEventListener("change", () => {
    if (name === "x") fill();
    ["plot-lines", "plot-grid"].forEach((id) => refresh(id));
  });
}

const SCATTERS = ["train_acc", "parameters", "multiply_adds", "seconds"];

function redraw() {
  chips();
  ["plot-loss", "plot-acc", ...SCATTERS.map((key) => `plot-${key}`)].forEach((id) => refresh(id));
}
