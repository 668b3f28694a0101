"use strict";
// The plots and the table of a sweep's report. All text goes into the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { points, axes } = data;
  const sign = data.direction === "minimize" ? 1 : -1;
  const byId = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const SVG = "http://www.w3.org/2000/svg";
  const NONE = "—";

  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "g", "path", "line", "rect", "text", "title"].includes(tag);
    const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const short = (value) => {
    if (value === null || value === undefined) return NONE;
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
    return String(Number(value.toPrecision(5)));
  };
  const cutAt = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
  const plain = (value) => Number(value).toLocaleString("en-US");

  // ------------------------------------------------------------ colour: a place between the best and the usual worst

  const rated = points.map((p) => p.best).filter((v) => v !== null).sort((a, b) => sign * (a - b));
  const best = rated[0], median = rated[Math.floor(rated.length / 2)], worst = rated[rated.length - 1];
  // A few points that diverged must not take all colours from the others.
  const limit = rated.length && sign * (worst - best) > 6 * sign * (median - best) && median !== best
    ? best + 4 * (median - best) : worst;
  const place = (value) => limit === best ? 0 : Math.min(1, Math.max(0, (value - best) / (limit - best)));
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  let ramp = [];
  const color = (value) => value === null ? css("--faint") : mixed(place(value));
  const mixed = (share) => {
    const x = share * (ramp.length - 1), i = Math.min(ramp.length - 2, Math.floor(x));
    const [a, b] = [ramp[i], ramp[i + 1]];
    return `rgb(${a.map((part, k) => Math.round(part + (b[k] - part) * (x - i))).join(",")})`;
  };

  // ------------------------------------------------------------ what is kept: brushes of all axes together

  const brushes = new Map(); // axis number -> [low, high], shares of the axis from its foot
  let kept = points.map(() => true);

  const axisScale = (axis, values) => {
    if (axis.kind === "category") {
      const names = axis.values, step = names.length > 1 ? 1 / (names.length - 1) : 0;
      const spots = new Map(names.map((name, i) => [name, names.length > 1 ? i * step : 0.5]));
      return { at: (v) => spots.get(v), ticks: names.map((name) => [spots.get(name), name]) };
    }
    const numbers = values.filter((v) => v !== null).map(Number);
    const steps = axis.few ? inOrder(numbers) : [];
    if (steps.length) {
      const share = (i) => steps.length > 1 ? i / (steps.length - 1) : 0.5;
      const spots = new Map(steps.map((v, i) => [v, share(i)]));
      return { at: (v) => v === null ? undefined : spots.get(Number(v)), ticks: steps.map((v, i) => [share(i), short(v)]) };
    }
    let low = Math.min(...numbers), high = Math.max(...numbers);
    const f = axis.log ? Math.log10 : (v) => v;
    const clipped = axis.high !== undefined && high > axis.high, below = axis.low !== undefined && low < axis.low;
    if (clipped) high = axis.high;
    if (below) low = axis.low;
    const at = (v) => {
      if (v === null) return undefined;
      return f(high) === f(low) ? 0.5 : Math.min(1, Math.max(0, (f(Number(v)) - f(low)) / (f(high) - f(low))));
    };
    const marks = f(high) === f(low) ? [low] : Array.from({ length: 6 }, (_, i) => {
      const mark = f(low) + (f(high) - f(low)) * i / 5;
      return axis.log ? 10 ** mark : mark;
    });
    const ticks = marks.map((v, i) => {
      const text = short(Number(v.toPrecision(4)));
      return [at(v), clipped && i === marks.length - 1 ? `≥ ${text}` : below && i === 0 ? `≤ ${text}` : text];
    });
    return { at, ticks };
  };

  // Numbers of a grid stand at equal distances, whatever they are: 0, 0.01, 0.1.
  const inOrder = (numbers) => [...new Set(numbers)].sort((a, b) => a - b);
  axes.forEach((axis, i) => {
    axis.few = axis.kind === "number" && new Set(points.map((p) => p.label[i])).size <= 12;
  });

  const metricAxis = { name: data.metric, kind: "number", log: false };
  if (limit !== worst) metricAxis[sign > 0 ? "high" : "low"] = limit;
  const columns = axes.map((axis, i) => ({ axis, values: points.map((p) => p.label[i]) }));
  columns.push({ axis: metricAxis, values: points.map((p) => p.best) });
  for (const column of columns) {
    const known = column.values.some((v) => v !== null);
    column.scale = known ? axisScale(column.axis, column.values) : { at: () => undefined, ticks: [] };
  }

  const keep = () => {
    kept = points.map((_, i) => [...brushes].every(([number, [low, high]]) => {
      const share = columns[number].scale.at(columns[number].values[i]);
      return share !== undefined && share >= low && share <= high;
    }));
    const many = kept.filter(Boolean).length;
    const told = byId("kept");
    if (told) told.textContent = brushes.size ? `${plain(many)} of ${plain(points.length)} points kept` : "";
    for (const [i, line] of lines.entries()) line.classList.toggle("off", !kept[i]);
    drawTable();
    showCurves();
    for (const draw of redrawAxes) draw();
  };

  // ------------------------------------------------------------ parallel coordinates

  let lines = [];
  const drawParallel = () => {
    const root = byId("parallel-plot");
    if (!root) return;
    const width = Math.max(root.clientWidth, 150 * columns.length), height = 430;
    const top = 46, foot = height - 40, left = 70, right = width - 90;
    const x = (i) => columns.length === 1 ? left : left + (right - left) * i / (columns.length - 1);
    const y = (share) => share === undefined ? foot + 20 : foot - (foot - top) * share;
    const svg = make("svg", { width, height, role: "img", "aria-label": "parallel coordinates of all points" });
    const order = points.map((_, i) => i).sort((a, b) => {
      const [p, q] = [points[a].best, points[b].best];
      return (q === null) - (p === null) || sign * (q - p);
    });
    // What has no value lies below, the best above all.
    order.sort((a, b) => (points[b].best === null) - (points[a].best === null));
    lines = [];
    svg.classList.toggle("many", points.length > 300);
    for (const i of order) {
      const way = columns.map((column, k) => `${x(k).toFixed(1)},${y(column.scale.at(column.values[i])).toFixed(1)}`);
      const path = make("path", { class: points[i].best === null ? "line none" : "line", d: `M${way.join("L")}` },
        make("title", {}, `${points[i].words}\n${data.metric} ${short(points[i].best)}, ${points[i].state}, ${points[i].run}`));
      if (points[i].best !== null) path.style.stroke = color(points[i].best);
      lines[i] = path;
      svg.append(path);
    }
    columns.forEach((column, k) => {
      svg.append(make("line", { class: "spine", x1: x(k), x2: x(k), y1: top, y2: foot }));
      svg.append(make("text", { class: "name", x: x(k), y: top - 24, "text-anchor": "middle" },
        cutAt(column.axis.name + (column.axis.log && !column.axis.few ? " (log)" : ""), 24)));
      for (const [share, text] of column.scale.ticks) {
        svg.append(make("text", { x: x(k) + 7, y: y(share) + 4 }, cutAt(text, 16)));
      }
      if (column.values.some((v) => v === null)) svg.append(make("text", { x: x(k) + 7, y: foot + 24 }, "none"));
      const mark = make("rect", { class: "brush", x: x(k) - 9, width: 18, y: 0, height: 0 });
      const reach = make("rect", { class: "reach", x: x(k) - 14, width: 28, y: top - 10, height: foot - top + 20 });
      const share = (event) => Math.min(1, Math.max(0, (foot - (event.clientY - svg.getBoundingClientRect().top)) / (foot - top)));
      const show = () => {
        const brush = brushes.get(k);
        mark.setAttribute("y", brush ? y(brush[1]) : 0);
        mark.setAttribute("height", brush ? y(brush[0]) - y(brush[1]) : 0);
      };
      let from = null;
      reach.addEventListener("pointerdown", (event) => { from = share(event); reach.setPointerCapture(event.pointerId); });
      reach.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const to = share(event);
        brushes.set(k, [Math.min(from, to), Math.max(from, to)]);
        show();
      });
      reach.addEventListener("pointerup", (event) => {
        if (from === null) return;
        if (Math.abs(share(event) - from) < 0.02) brushes.delete(k);
        from = null;
        show();
        keep();
      });
      show();
      svg.append(mark, reach);
    });
    root.replaceChildren(svg);
    byId("ramp").replaceChildren(...(rated.length
      ? [make("span", {}, `best ${short(best)}`), make("i"), make("span", {}, `${limit === worst ? "worst" : sign > 0 ? "≥" : "≤"} ${short(limit)}`)] : []));
  };

  // ------------------------------------------------------------ plots by plotly

  const layout = (more) => {
    const axis = { gridcolor: css("--line"), zeroline: false, linecolor: css("--line"), automargin: true, ...more.axis };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif", size: 12, color: css("--soft") },
      margin: { l: 54, r: 14, t: 10, b: 44 }, hoverlabel: { align: "left", namelength: -1 }, dragmode: "zoom",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--line"), activecolor: css("--accent") },
      xaxis: { ...axis, ...more.x }, yaxis: { ...axis, ...more.y },
    };
  };
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  // Plotly reads a little markup in its texts; what comes from YAML must show as it is.
  const literal = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  const shownCurves = {};
  const drawCurves = (name, title) => {
    const root = byId(`curve-${name}`);
    if (!root) return;
    const traces = [], band = data.envelopes[name];
    if (band) {
      const outline = { x: band.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", type: "scatter" };
      traces.push({ ...outline, y: band.low }, { ...outline, y: band.high, fill: "tonexty", fillcolor: css("--band") });
      traces.push({ x: band.x, y: band.median, mode: "lines", line: { color: css("--faint"), width: 1.5 }, name: `median of ${band.count} others`, type: "scatter" });
    }
    const before = traces.length, many = data.curves[name].length;
    const few = Math.max(...data.curves[name].map(([, x]) => x.length)) < 40;
    for (const [rank, [i, x, y]] of data.curves[name].entries()) { // the worst first
      traces.push({
        x, y, type: "scatter", mode: few ? "lines+markers" : "lines", marker: { size: 4 },
        line: { color: points[i].best === null ? css("--faint") : mixed(many > 1 ? 1 - rank / (many - 1) : 0), width: many > 30 ? 1.2 : 1.8 },
        name: literal(points[i].words), hovertemplate: "step %{x:,}: %{y:.4f}<extra>%{fullData.name}</extra>",
        visible: kept[i],
      });
    }
    // The first steps and what diverged would take all room; a double click shows them.
    const usual = data.curves[name].filter(([i]) => points[i].best !== null && sign * points[i].best <= sign * limit);
    const last = Math.max(...usual.map(([, x]) => x[x.length - 1]));
    const late = usual.flatMap(([, x, y]) => y.filter((_, k) => x[k] >= last * 0.08));
    const [low, high] = [late.reduce((a, b) => Math.min(a, b), Infinity), late.reduce((a, b) => Math.max(a, b), -Infinity)];
    const pad = 0.05 * (high - low), logarithmic = byId("log-y")?.checked;
    const range = late.length > 1 && pad > 0 && !logarithmic ? { range: [low - pad, high + pad] } : {};
    shownCurves[name] = { root, before, places: data.curves[name].map(([i]) => i) };
    const type = (axis) => byId(`log-${axis}`)?.checked ? "log" : "linear";
    Plotly.react(root, traces, layout({ x: { title: { text: "step" }, type: type("x") }, y: { type: type("y"), title: { text: literal(title) }, ...range } }), options);
  };
  const showCurves = () => {
    for (const { root, before, places } of Object.values(shownCurves)) {
      if (places.length) Plotly.restyle(root, { visible: places.map((i) => kept[i]) }, places.map((_, k) => before + k));
    }
  };

  const redrawAxes = [];
  const drawAxis = (i) => {
    const root = byId(`axis-${i}`);
    if (!root) return;
    const axis = axes[i], those = points.map((_, k) => k).filter((k) => points[k].best !== null && points[k].label[i] !== null && kept[k]);
    const steps = axis.few ? inOrder(points.filter((p) => p.label[i] !== null).map((p) => Number(p.label[i]))) : [];
    const value = (k) => axis.few ? steps.indexOf(Number(points[k].label[i]))
      : axis.kind === "number" ? Number(points[k].label[i]) : literal(points[k].label[i]);
    const groups = new Map();
    for (const k of those) groups.set(value(k), [...(groups.get(value(k)) || []), points[k].best]);
    const medianOf = (ys) => {
      const ordered = ys.sort((a, b) => a - b), half = ordered.length / 2;
      return (ordered[Math.ceil(half) - 1] + ordered[Math.floor(half)]) / 2;
    };
    const middle = [...groups].map(([x, ys]) => [x, medianOf(ys)]);
    if (axis.kind === "number") middle.sort((a, b) => a[0] - b[0]);
    const traces = [{
      x: those.map(value), y: those.map((k) => points[k].best), mode: "markers", type: "scatter",
      marker: { size: those.length > 400 ? 4 : 7, opacity: those.length > 400 ? 0.5 : 0.85, color: those.map((k) => color(points[k].best)) },
      text: those.map((k) => literal(points[k].words)), hovertemplate: "%{text}<br>%{y:.4f}<extra></extra>",
    }];
    if (middle.length > 1 && middle.length <= 40) {
      traces.push({ x: middle.map((m) => m[0]), y: middle.map((m) => m[1]), mode: axis.kind === "number" ? "lines" : "markers", type: "scatter",
        line: { color: css("--soft"), width: 1.4, dash: "dot" }, marker: { symbol: "line-ew", size: 22, line: { width: 2, color: css("--soft") } }, hovertemplate: "median %{y:.4f}<extra></extra>" });
    }
    const reach = sign > 0 ? [best, limit] : [limit, best], pad = 0.06 * (reach[1] - reach[0] || 1);
    const ticks = axis.few ? { tickvals: steps.map((_, k) => k), ticktext: steps.map(short), range: [-0.4, steps.length - 0.6] }
      : { exponentformat: "power" };
    Plotly.react(root, traces, layout({
      x: { title: { text: literal(axis.key) }, type: axis.kind === "category" ? "category" : axis.log && !axis.few ? "log" : "linear", ...ticks },
      y: { range: [reach[0] - pad, reach[1] + pad] },
    }), { ...options, displayModeBar: false });
  };
  axes.forEach((_, i) => redrawAxes.push(() => drawAxis(i)));

  const drawSeeds = () => {
    const root = byId("seed-plot");
    if (!root) return;
    const groups = data.seeds.slice(0, 20).reverse(), names = groups.map((_, i) => i);
    const label = (g) => cutAt(g.words, 34);
    const near = groups.filter((g) => sign * g.mean <= sign * limit).flatMap((g) => [...g.values, g.mean - (g.sd || 0), g.mean + (g.sd || 0)]);
    const [low, high] = [Math.min(...near), Math.max(...near)], pad = 0.05 * (high - low || 1);
    const spread = groups.flatMap((g, i) => g.values.map((v) => [v, i]));
    Plotly.react(root, [
      { x: spread.map((s) => s[0]), y: spread.map((s) => s[1]), mode: "markers", type: "scatter", marker: { size: 5, color: css("--faint") }, hovertemplate: "%{x:.4f}<extra>one seed</extra>" },
      { x: groups.map((g) => g.mean), y: names, mode: "markers", type: "scatter", marker: { size: 9, color: css("--accent") },
        error_x: { array: groups.map((g) => g.sd || 0), color: css("--accent"), thickness: 1.6 }, text: groups.map((g) => literal(g.words)), hovertemplate: "%{text}<br>mean %{x:.4f}<extra></extra>" },
    ], layout({ x: { title: { text: literal(data.metric) }, ...(near.length ? { range: [low - pad, high + pad] } : {}) }, y: { tickvals: names, ticktext: groups.map((g) => literal(label(g))), tickfont: { size: 10 } } }), { ...options, displayModeBar: false });
  };

  // ------------------------------------------------------------ the table

  const headings = [
    ["#", (p) => p.n, "n"],
    ...(data.stages ? [["stage", (p) => p.stage, ""]] : []),
    ...axes.map((axis, i) => [axis.name, (p) => axis.kind === "number" && p.label[i] !== null ? Number(p.label[i]) : p.label[i], axis.kind === "number" ? "n" : "", (p) => p.label[i]]),
    ["state", (p) => p.state, "state"],
    ["step", (p) => p.step, "n", (p) => p.evaluation ? "evaluation" : p.steps ? `${plain(p.step)}/${plain(p.steps)}` : "no steps"],
    ["loss", (p) => p.loss, "n", (p) => p.loss === null ? null : p.loss.toFixed(4)],
    [data.metric, (p) => p.best, "n", (p) => p.best === null ? null : p.best.toFixed(4)],
    ...(points.some((p) => p.hours !== null) ? [["GPU-hours", (p) => p.hours, "n", (p) => p.hours === null ? null : p.hours.toFixed(1)]] : []),
    ["run", (p) => p.run, ""],
  ];
  let sorted = { column: headings.findIndex(([name]) => name === data.metric), down: sign < 0 };
  const tone = { done: "good", running: "good", failed: "bad", stopped: "bad", gone: "bad" };

  const detail = (p) => {
    const rows = [["directory", p.dir], ["commit", p.commit && p.commit + (p.dirty ? " with changes, which code.patch in the attempt has" : "")],
      ["job", p.job], ["parent", p.parent], ["remark", p.remark], ["best at step", p.at === null || p.evaluation ? null : plain(p.at)]];
    const list = make("dl", {}, ...rows.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, make("code", {}, value))]));
    return make("tr", { class: "detail" }, make("td", { colspan: headings.length }, list, make("pre", {}, p.command)));
  };
  const drawTable = () => {
    const { column, down } = sorted, of = headings[column][1], words = byId("search").value.trim().toLowerCase();
    const those = points.map((_, i) => i).filter((i) => kept[i])
      .filter((i) => !words || `${points[i].words} ${points[i].state} ${points[i].run} ${points[i].stage || ""} ${points[i].remark}`.toLowerCase().includes(words));
    those.sort((a, b) => {
      const [p, q] = [of(points[a]), of(points[b])];
      if (p === null || q === null) return (p === null) - (q === null); // what has no value is last either way
      return (p < q ? -1 : p > q ? 1 : 0) * (down ? -1 : 1);
    });
    const head = make("tr", {}, ...headings.map(([name, , kind], i) => {
      const cell = make("th", { class: kind === "n" ? "n" : null, scope: "col", tabindex: 0, "aria-sort": i === column ? (down ? "descending" : "ascending") : null }, name);
      const sort = () => { sorted = { column: i, down: i === column ? !down : false }; drawTable(); };
      cell.addEventListener("click", sort);
      cell.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
      return cell;
    }));
    const body = those.map((i) => {
      const p = points[i];
      const row = make("tr", { title: p.remark || null }, ...headings.map(([, value, kind, shown]) => {
        const text = (shown || value)(p);
        return make("td", { class: kind === "state" ? `state ${tone[p.state] || ""}` : kind || null }, text === null || text === undefined ? NONE : String(text));
      }));
      row.addEventListener("click", () => {
        if (row.nextSibling?.classList.contains("detail")) row.nextSibling.remove();
        else row.after(detail(p));
      });
      return row;
    });
    byId("table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
  };

  // ------------------------------------------------------------ all of it, anew when colours or width change

  const draw = () => {
    ramp = ["--ramp-0", "--ramp-1", "--ramp-2", "--ramp-3"].map((name) => rgb(css(name)));
    drawParallel();
    keep();
    drawCurves("loss", "training loss");
    drawCurves("metric", data.metric);
    drawSeeds();
  };
  for (const axis of ["x", "y"]) byId(`log-${axis}`)?.addEventListener("change", draw);
  byId("search").addEventListener("input", drawTable);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawParallel(); keep(); } });
  draw();
})();
