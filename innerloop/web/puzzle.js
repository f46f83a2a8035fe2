// A puzzle as it is put in: an example that is picked, a text that is pasted, a cell that is clicked and typed into.

import { at, clamp, fill, finite, h, number } from "./dom.js";

/** {cells} of a text, or {problem}: a sentence about the board. What stands between cells is ignored. */
export function parse(model, text) {
  const known = new Set([...model.charset, model.pad]);
  const loose = (c) => (!known.has(c) && model.blank && "0._-*?".includes(c) ? model.blank : c);
  const drawn = text.split(/[\r\n]+/).filter((line) => known.has("+") || !/^[-+|=\s]*[+=][-+|=\s]*$/.test(line));
  const cells = [...drawn.join("")].filter((c) => known.has(c) || !/[\s,;|]/.test(c)).map(loose);
  const bad = cells.findIndex((c) => !known.has(c));
  const size = model.rows * model.columns;
  if (bad >= 0) {
    const where = `row ${Math.floor(bad / model.columns) + 1}, column ${(bad % model.columns) + 1}`;
    return { problem: `“${cells[bad]}” in ${where} is none of ${model.charset}` };
  }
  const off = cells.length < size ? `${size - cells.length} missing` : `${cells.length - size} too many`;
  return cells.length === size ? { cells } : { problem: `${cells.length} of ${size} cells: ${off}` };
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
  const ratings = examples.map((e) => e.rating);
  const ranked = ratings.every(finite) && Math.min(...ratings) < Math.max(...ratings); // else none is easy or hard
  const rated = (i) => (finite(ratings[i]) ? `difficulty ${number(ratings[i])}` : "");
  const buttons = examples.map((_, i) => {
    const label = [`example ${i + 1}`, rated(i)].filter(Boolean).join(", ");
    return h("button", { "aria-label": label, onclick: () => pick(i) }, String(i + 1));
  });
  const meaning = model.difficulty || "its rating in the data, more is harder";
  function pressed(i) {
    buttons.forEach((b, j) => b.setAttribute("aria-pressed", i === j));
    const which = `Example ${i + 1} of ${examples.length}, which it was not trained on`;
    const note = i < 0 ? "A puzzle of your own" : rated(i) ? `${which}; ${rated(i)}: ${meaning}` : which;
    fill(at("which"), model.saved ? "The puzzle of this recording." : `${note}.`);
  }
  text.rows = Math.min(model.rows, 9);
  text.oninput = read;
  text.onchange = () => parse(model, text.value).cells && write(parse(model, text.value).cells);
  at("clear").onclick = () => put(Array(model.rows * model.columns).fill(model.blank || model.pad));
  at("clear").hidden = !model.blank;
  at("examples").style.gridTemplateColumns = `repeat(${clamp(3, examples.length, 6)}, 1fr)`;
  at("ends").hidden = !ranked || examples.length < 3;
  at("examples").setAttribute("aria-label", ranked ? "examples, easy to hard" : "examples");
  fill(at("examples"), buttons.length ? buttons : h("p", { class: "hint" }, "None: type or paste a puzzle."));

  function write(cells) {
    const rows = Array.from({ length: model.rows }, (_, r) => cells.slice(r * model.columns, (r + 1) * model.columns));
    text.value = rows.map((row) => row.join("")).join("\n");
  }
  function put(cells, i = -1) {
    write(cells);
    settle(cells, i);
  }
  function settle(cells, i = -1) {
    pressed(i);
    say("");
    change(cells, examples[i] ?? null);
  }
  function read() {
    const { cells, problem } = parse(model, text.value);
    if (cells) {
      const caret = text.value.slice(0, text.selectionStart).replace(/\s/g, "").length;
      const line = !text.value.trim().includes("\n");
      if (line) write(cells); // a line that is pasted becomes rows
      if (line) text.selectionStart = text.selectionEnd = caret + Math.floor(caret / (model.columns + 0.5));
      return settle(cells);
    }
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
  /** The cells; without a puzzle none, and the field says why. */
  function cells() {
    const { cells, problem } = parse(model, text.value);
    if (!cells) say(`${problem}. The board still shows the last puzzle.`, true);
    if (!cells) text.focus();
    return cells;
  }
  return { put, pick, say, cells };
}
