// A puzzle as it is put in: an example that is picked, a text that is pasted, a cell that is clicked and typed into.

import { at, clamp, fill, finite, h, number } from "./dom.js";

/** {cells} of a text, or {problem}: a sentence about what is wrong with it. Line breaks are ignored. */
export function parse(model, text) {
  const known = new Set([...model.charset, model.pad]);
  const loose = (c) => (!known.has(c) && model.blank && "0._".includes(c) ? model.blank : c);
  const cells = [...text.replace(/[\r\n]/g, "")].filter((c) => known.has(c) || !/\s/.test(c)).map(loose);
  const bad = cells.findIndex((c) => !known.has(c));
  const size = model.rows * model.columns;
  if (bad >= 0) {
    const where = `row ${Math.floor(bad / model.columns) + 1}, column ${(bad % model.columns) + 1}`;
    return { problem: `“${cells[bad]}” in ${where} is none of ${model.charset}` };
  }
  return cells.length === size ? { cells } : { problem: `${number(cells.length)} of ${number(size)} cells` };
}

/** The symbol that a key types into a cell, or undefined. Small and capital letters stand in for each other. */
export function typed(model, key) {
  if (model.blank && ["Backspace", "Delete", "0", "."].includes(key) && !model.charset.includes(key))
    return model.blank;
  return [key, key.toUpperCase(), key.toLowerCase()].find((c) => c.length === 1 && model.charset.includes(c));
}

/** The cell that an arrow leads to from cell i, staying in the view. */
export function moved(model, { top, left, rows, columns }, i, key) {
  const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
  const r = clamp(top, Math.floor(i / model.columns) + down, top + rows - 1);
  return r * model.columns + clamp(left, (i % model.columns) + right, left + columns - 1);
}

/** Buttons for every symbol, for those without a keyboard; put(symbol) is called. */
export function keypad(model, put) {
  return [...model.charset].map((c) => {
    const glyph = model.glyphs[c] || (c === model.blank ? "⌫" : model.colours[c] ? "" : c);
    const label = c === model.blank ? "empty" : `put ${c === " " ? "space" : c}`;
    const button = h("button", { "aria-label": label, onclick: () => put(c) }, glyph === "█" ? "" : glyph);
    button.style.background = model.colours[c] || ""; // as a property: the page's policy allows no style attributes
    return button;
  });
}

/** The form of a model. change(cells, example) is called with every new puzzle; example: null where it was typed. */
export function puzzleForm(model, change) {
  const text = at("text");
  const { examples = [] } = model;
  const buttons = examples.map(({ rating }, i) => {
    const note = finite(rating) ? `difficulty ${number(rating)}` : null;
    const label = `example ${i + 1}${note ? `, ${note}` : ""}`;
    return h("button", { "aria-label": label, title: note, onclick: () => pick(i) }, String(i + 1));
  });
  const pressed = (i) => buttons.forEach((b, j) => b.setAttribute("aria-pressed", i === j));
  text.rows = Math.min(model.rows, 9);
  text.oninput = read;
  at("clear").onclick = () => put(Array(model.rows * model.columns).fill(model.blank || model.pad));
  at("clear").hidden = !model.blank;
  at("ends").hidden = examples.length < 3;
  fill(at("examples"), buttons.length ? buttons : h("p", { class: "hint" }, "None: type or paste a puzzle."));

  function put(cells, i = -1) {
    const rows = Array.from({ length: model.rows }, (_, r) => cells.slice(r * model.columns, (r + 1) * model.columns));
    text.value = rows.map((row) => row.join("")).join("\n");
    settle(cells, i);
  }
  function settle(cells, i = -1) {
    pressed(i);
    say("");
    change(cells, examples[i] ?? null);
  }
  function read() {
    const { cells, problem } = parse(model, text.value);
    if (cells) return settle(cells);
    pressed(-1);
    say(problem);
  }
  const pick = (i) => put(parse(model, examples[i].question).cells, i);
  /** A sentence by the field; wrong: the field is at fault. */
  function say(sentence, wrong = false) {
    fill(at("problem"), sentence);
    at("problem").classList.toggle("bad", wrong);
    text.setAttribute("aria-invalid", wrong);
  }
  return { put, pick, say, raw: () => text.value, cells: () => parse(model, text.value).cells };
}
