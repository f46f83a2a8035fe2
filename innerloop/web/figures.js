// What is known of a model, drawn: accuracy over depth and width, when it stops, how many directions it uses.

import { axes, figure, mark, path, ticks } from "./chart.js";
import { at, box, clamp, fill, finite, h, number, percent, plural, s, stroke, words } from "./dom.js";

const FORMS = ["circle", "square", "triangle", "diamond"];
const SHARES = { domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, percent(v, 0)]) };

const spread = (values) => [Math.min(...values), Math.max(...values)];
const unique = (values) => [...new Set(values)].sort((a, b) => a - b);
const numbered = (values) => values.map((v) => [v, number(v)]);

/** Accuracy over "depth" with a line for each width, or over "width" with a line for each depth. */
export function accuracyFigure({ curves, trained_depth: trained }, along) {
  const deep = along === "depth";
  const by = deep ? "width" : "depth";
  const rows = curves.depth.filter((r) => !r.halting);
  const halted = curves.depth.filter((r) => r.halting);
  const own = halted.filter((r) => deep && r.depth === Math.max(...halted.map((o) => o.depth)));
  const every = unique(rows.map((r) => r[by])).map((v) => rows.filter((r) => r[by] === v));
  const lines = every.filter((line) => deep || line.length > 1).slice(-4);
  const told = (r) => `${percent(r.exact)}, 95 % interval ${percent(r.low)} to ${percent(r.high)}`;
  figure(`${along}-figure`, lines.length, (width) => {
    const shown = unique([...lines.flat(), ...own].map((r) => r[along]));
    const [low, high] = spread(deep && trained ? [...shown, trained] : shown);
    const domain = low === high ? [low / 2, low * 2] : [low, high];
    const x = { domain, kind: "log", ticks: numbered(shown), label: deep ? "steps of thought" : "trajectories" };
    const { svg, X, Y, inner } = axes({ width, height: 260, x, y: SHARES });
    if (deep && trained) {
      svg.append(stroke("trained", `M${X(trained)} ${inner.top}V${inner.bottom}`));
      const side = X(trained) - inner.left > 96 ? ["end", -5] : ["", 5];
      svg.append(words(`tick ${side[0]}`, X(trained) + side[1], inner.bottom - 6, "trained to here"));
    }
    lines.forEach((line, i) => {
      line.sort((a, b) => a[along] - b[along]);
      const points = (key) => line.map((r) => [X(r[along]), Y(r[key])]);
      const band = stroke("band", `${path([...points("high"), ...points("low").reverse()])}Z`);
      const note = (r) => `${plural(r.depth, "step")}, width ${r.width}: ${told(r)}`;
      const dots = line.map((r) => mark(FORMS[i], X(r[along]), Y(r.exact), 0.9, note(r)));
      const curve = stroke("curve", path(points("exact")));
      svg.append(s("g", { class: `series s${i + 1}` }, band, curve, dots));
    });
    for (const r of own) {
      const note = `its own halting, ${number(r.steps)} steps on average: ${told(r)}`;
      svg.append(s("g", { class: "series own" }, mark("star", X(r.steps), Y(r.exact), 1.5, note)));
    }
    const name = (r) => (deep ? `width ${r.width}` : plural(r.depth, "step"));
    const keys = lines.map((line, i) => [`s${i + 1}`, name(line[0])]);
    return { svg, keys: own.length ? [...keys, ["own", "its own halting"]] : keys };
  });
}

/** At most four groups of equally many puzzles by difficulty, easy first; equal ratings stay together. */
function byDifficulty(points) {
  if (!points.every((p) => finite(p.rating))) return [["all puzzles", points]];
  const sorted = points.toSorted((a, b) => a.rating - b.rating);
  const cuts = unique([0, 0.25, 0.5, 0.75].map((q) => sorted[Math.floor(q * sorted.length)].rating));
  return cuts.map((cut, i) => {
    const group = sorted.filter((p) => p.rating >= cut && !(p.rating >= cuts[i + 1]));
    const [low, high] = [group[0].rating, group.at(-1).rating].map(number);
    return [`difficulty ${low === high ? low : `${low} to ${high}`}`, group];
  });
}

/** When the model stops by itself: a histogram of steps for each degree of difficulty, wrong answers striped. */
export function haltingFigure(points, difficulty) {
  const groups = points.length ? byDifficulty(points) : [];
  const rated = groups.length > 0 && points.every((p) => finite(p.rating));
  fill(at("halting-rated"), rated && ` Difficulty: ${difficulty || "the rating in their data, more is harder"}.`);
  figure("halting-figure", groups.length, (width) => {
    const lines = width < 480 ? 2 : 1; // of the text over each histogram
    const [tall, gap] = [34, 15 + 15 * lines];
    const most = Math.max(2, ...points.map((p) => p.steps));
    const whole = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256].filter((v) => v <= most);
    const x = { domain: [0.6, most + 1], kind: "root", ticks: numbered(whole), label: "steps until it halts" };
    const frame = { width, height: groups.length * (tall + gap) + 44, margin: { left: 4, right: 4 } };
    const { svg, X } = axes({ ...frame, x, y: { domain: [0, 1] } });
    const size = { width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" };
    svg.append(s("defs", null, s("pattern", { id: "stripes", ...size }, box("stripe", 0, 0, 2, 5))));
    groups.forEach(([name, group], i) => {
      const base = (i + 1) * (tall + gap);
      const bins = unique(group.map((p) => p.steps)).map((steps) => {
        const here = group.filter((p) => p.steps === steps);
        const thick = clamp(1, 0.8 * (X(steps + 0.5) - X(steps - 0.5)), 20);
        return [X(steps) - thick / 2, thick, here.filter((p) => p.right).length, here.length];
      });
      const unit = tall / Math.max(...bins.map((bin) => bin[3]));
      const bars = bins.flatMap(([left, thick, right, all]) => [
        box("bar", left, base - right * unit, thick, right * unit),
        box("bar striped", left, base - all * unit, thick, (all - right) * unit),
      ]);
      const mean = group.reduce((sum, p) => sum + p.steps, 0) / group.length;
      const right = percent(group.filter((p) => p.right).length / group.length);
      const label = `${name}: ${number(mean)} steps on average, ${right} right`;
      const told = lines === 1 ? [label] : label.split(": ");
      const text = told.map((t, j) => words("name end", width - 4, base - tall - 7 - 15 * (told.length - 1 - j), t));
      const signs = [stroke("rule", `M4 ${base}H${width - 4}`), stroke("mean", `M${X(mean)} ${base + 1}l-4 7h8Z`)];
      svg.append(s("g", null, s("title", null, label), bars, text, signs));
    });
    return { svg, keys: Object.entries({ "s1 area": "right", bad: "wrong" }) };
  });
}

/** Participation ratio of each module's state, with its interval where it is known. */
export function modulesFigure(rows) {
  figure("modules-figure", rows.length, (width) => {
    const most = 1.08 * Math.max(...rows.flatMap((m) => [m.high ?? 1, m.participation_ratio, m.effective_rank ?? 0]));
    const x = { domain: [0, most], ticks: numbered(ticks(most)), label: "directions" };
    const short = (slot) => (slot.length > 14 ? `${slot.slice(0, 13)}…` : slot);
    const left = Math.max(64, 16 + 7.5 * Math.max(...rows.map((m) => short(m.slot).length)));
    const frame = { width, height: rows.length * 44 + 54, margin: { left } };
    const { svg, X } = axes({ ...frame, x, y: { domain: [0, 1] } });
    rows.forEach(({ slot, participation_ratio: ratio, effective_rank: rank, low, high }, i) => {
      const y = 27 + i * 44;
      const bar = box("area", X(0), y - 9, X(ratio) - X(0), 18);
      const label = `module ${slot}: participation ratio ${number(ratio)}, effective rank ${number(rank)}`;
      const span = finite(high) && stroke("whisker", `M${X(low)} ${y}H${X(high)}m0 -5v10M${X(low)} ${y - 5}v10`);
      const spot = finite(rank) && s("g", { class: "series s2" }, mark("square", X(rank), y));
      const name = words("name end", left - 12, y, short(slot), { dy: "0.32em" });
      svg.append(s("g", { class: "series s1" }, s("title", null, label), name, bar, span, spot));
    });
    return { svg, keys: Object.entries({ "s1 area": "participation ratio", s2: "effective rank" }) };
  });
}

/** Accuracy in training and on validation puzzles, over optimizer steps. */
export function learningFigure(points = []) {
  figure("learning-figure", points.length, (width) => {
    const x = { domain: [0, points.at(-1).step], label: "optimizer steps" };
    const { svg, X, Y } = axes({ width, height: 260, x: { ...x, ticks: numbered(ticks(x.domain[1])) }, y: SHARES });
    for (const [key, kind] of Object.entries({ seen: "soft", held: "s1" })) {
      const known = points.filter((p) => p[key] !== null);
      const dot = (p) => mark("circle", X(p.step), Y(p.held), 0.8, `step ${number(p.step)}: ${percent(p.held)}`);
      const dots = kind === "s1" && known.length < 40 ? known.map(dot) : [];
      svg.append(
        s("g", { class: `series ${kind}` }, stroke("curve", path(known.map((p) => [X(p.step), Y(p[key])]))), dots),
      );
    }
    return { svg, keys: Object.entries({ s1: "validation puzzles", soft: "in training" }) };
  });
}

/** What each selection rule's confidence is worth. */
export function trustTable(trust) {
  at("trust-figure").hidden = !trust.length;
  const row = (t) => {
    const values = [percent(t.accuracy), number(t.auroc), number(t.ece)];
    return h(
      "tr",
      null,
      h("th", { scope: "row" }, t.rule),
      values.map((v) => h("td", null, v)),
    );
  };
  fill(at("trust"), trust.map(row));
}

/** Where the trajectories of a thought go in the latent space, with the step shown marked. */
export function latentFigure(thought, shown, step) {
  const { paths, explained } = thought?.done ?? { paths: [] };
  const around = (i) => {
    const [low, high] = spread(paths.flat().map((p) => p[i]));
    const more = 0.06 * (high - low || 1);
    return { domain: [low - more, high + more], label: `component ${i + 1}, ${percent(explained[i], 0)}` };
  };
  figure("latent-figure", paths.flat().length, (width) => {
    const frame = { width, height: clamp(220, width * 0.85, 300), margin: { left: 22, bottom: 26, right: 0 } };
    const { svg, X, Y, inner } = axes({ ...frame, x: around(0), y: around(1) });
    svg.prepend(box("plane", inner.left, inner.top, inner.right - inner.left, inner.bottom - inner.top, { rx: 6 }));
    for (const k of paths.map((_, k) => k).sort((a, b) => (a === shown) - (b === shown))) {
      const points = paths[k].map(([a, b]) => [X(a), Y(b)]);
      if (!points.length) continue;
      const own = k === shown;
      const end = thought.won(k) ? mark("star", ...points.at(-1), 1.2) : mark("circle", ...points.at(-1), 0.6);
      const here = mark("circle", ...points[clamp(0, step - 1, points.length - 1)], own ? 1.3 : 0.8, "", "here");
      const dots = own ? points.map((p) => mark("circle", ...p, 0.4)) : [];
      const start = mark("circle", ...points[0], 0.75, "", "start");
      svg.append(s("g", { class: own ? "route own" : "route" }, stroke("curve", path(points)), dots, start, end, here));
    }
    return { svg };
  });
}
