// One board for every puzzle: a grid of symbols, drawn from what a model says of its shape, glyphs and boxes.

import { box, fill, percent, s, stroke, words } from "./dom.js";

const CELL = 40;
let boards = 0; // so that patterns and cells of several boards on a page have names of their own

/** Whether cell i of the answer was given by the question. Without a blank symbol: where nothing was changed. */
export function isGiven(model, question, answer, i) {
  return question[i] !== model.pad && question[i] !== model.blank && (model.blank !== "" || question[i] === answer[i]);
}

/** The part of the board that any of `texts` uses: a puzzle smaller than its board stands among padding. */
export function used(model, texts) {
  const { rows, columns } = model;
  const plain = (c) => c !== model.pad && (c === model.blank || model.colours[c] || model.glyphs[c]);
  const start = texts[0].findIndex(plain);
  if (start < 0 || !texts[0].includes(model.pad)) return { top: 0, left: 0, rows, columns };
  const [top, left] = [Math.floor(start / columns), start % columns];
  const extent = (step, most) => {
    let n = 0;
    while (n < most && texts.some((text) => plain(text[start + n * step]))) n += 1;
    return n;
  };
  return { top, left, rows: extent(columns, rows - top), columns: extent(1, columns - left) };
}

/** "#59616f" is dark: text on it must be light. */
function dark(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b < 140;
}

/** Thin lines between cells, thick ones between boxes, the edge. */
function lines({ boxes = [0, 0] }, { top, left, rows, columns }) {
  const made = { thin: "", thick: "" };
  const kind = (i, box) => (box && i % box === 0 ? "thick" : "thin");
  for (let r = 1; r < rows; r++) made[kind(r + top, boxes[0])] += `M0 ${r * CELL}H${columns * CELL}`;
  for (let c = 1; c < columns; c++) made[kind(c + left, boxes[1])] += `M${c * CELL} 0V${rows * CELL}`;
  const edge = box("edge", 0, 0, columns * CELL, rows * CELL);
  return s("g", { class: "lines" }, stroke("thin", made.thin), stroke("thick", made.thick), edge);
}

/**
 * A board that shows the cells of `view`. small: a picture only, without what cannot be seen at that size. Its
 * show({question, answer, changed, wrong, certainty, selected}) touches only the cells that differ from before.
 */
export function board(model, view, small = false) {
  const id = `board${++boards}`;
  const [wide, high] = [view.columns * CELL, view.rows * CELL];
  const hatch = stroke("hatch", "M-2 2L2 -2M0 10L10 0M8 12L12 8");
  const pattern = s("pattern", { id: `${id}h`, width: 10, height: 10, patternUnits: "userSpaceOnUse" }, hatch);
  const cells = new Map();
  const rows = Array.from({ length: view.rows }, (_, r) => {
    const row = s("g", { role: small ? null : "row" });
    for (let c = 0; c < view.columns; c++) {
      const i = (r + view.top) * model.columns + c + view.left;
      const own = small ? {} : { role: "gridcell", id: `${id}c${i}` };
      const node = s("g", { class: "cell", "data-cell": i, ...own });
      cells.set(i, { node, place: [c * CELL, r * CELL, CELL, CELL], seen: null });
      row.append(node);
    }
    return row;
  });
  const inset = (kind, [x, y]) => box(kind, x + 2, y + 2, CELL - 4, CELL - 4, { rx: 3 });
  const cursor = s("g", null);
  const frame = { class: small ? "board small" : "board", viewBox: `-2 -2 ${wide + 4} ${high + 4}` };
  const node = s("svg", frame, s("defs", null, pattern), rows, lines(model, view), cursor);

  function draw({ node, place }, i, symbol, { given, wrong, changed, peer, sure }) {
    const colour = model.colours[symbol] ?? "";
    const glyph = model.glyphs[symbol] ?? "";
    const block = glyph === "█";
    const kind = (given && glyph && !colour ? " given" : "") + (peer ? " peer" : "");
    const opacity = given || sure === null ? 1 : (0.25 + 0.75 * sure).toFixed(2);
    const haze = given || colour || sure === null ? 0 : 0.62 * (1 - sure);
    const text = block ? "" : glyph || (colour && !small ? symbol : "");
    const ink = `ink ${wrong ? "bad" : given ? "given" : "new"}${glyph ? "" : " hint"}`;
    const on = colour ? (dark(colour) ? " light" : " dim") : "";
    const size = glyph ? Math.min(24, 52 / glyph.length) : 13;
    const middle = [place[0] + CELL / 2, place[1] + CELL / 2 + 1];
    fill(
      node,
      box(`ground${kind}`, ...place),
      (colour || block) && box(colour ? "colour" : "block", ...place, { fill: colour || null, opacity }),
      haze > 0.003 && box("haze", ...place, { opacity: haze.toFixed(3) }),
      wrong && box("wrong", ...place, { fill: `url(#${id}h)` }),
      changed && inset("ring", place),
      text && words(ink + on, ...middle, text, { "font-size": size }),
    );
    if (small) return;
    node.dataset.symbol = symbol;
    const told = symbol === model.blank || symbol === model.pad ? "empty" : block ? "wall" : glyph || symbol;
    const where = `row ${Math.floor(i / model.columns) + 1} column ${(i % model.columns) + 1}: ${told}`;
    const notes = [given ? "given" : sure !== null && `${percent(sure, 0)} sure`, wrong && "breaks a rule"];
    node.setAttribute("aria-label", [where, ...notes.filter(Boolean)].join(", "));
  }

  function show({ question, answer, changed = [], wrong = [], certainty = null, selected = null }) {
    const [fresh, broken] = [new Set(small ? [] : changed), new Set(wrong)];
    const peers = new Set(selected === null ? [] : (model.units ?? []).filter((u) => u.includes(selected)).flat());
    for (const [i, cell] of cells) {
      const how = {
        given: isGiven(model, question, answer, i),
        wrong: broken.has(i),
        changed: fresh.has(i),
        peer: peers.has(i),
        sure: certainty === null || small ? null : certainty[i],
      };
      const seen = [answer[i], ...Object.values(how)].join();
      if (seen !== cell.seen || how.changed) draw(cell, i, answer[i], how);
      cell.seen = seen;
    }
    const chosen = cells.get(selected);
    fill(cursor, chosen && inset("cursor", chosen.place));
    if (chosen) node.setAttribute("aria-activedescendant", chosen.node.id);
    else node.removeAttribute("aria-activedescendant");
  }

  return { node, view, show };
}
