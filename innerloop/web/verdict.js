// What came of a thought, in words: verified, answered, or "I don't know"; why; what it cost; and its trajectories.

import { board } from "./board.js";
import { at, fill, finite, h, number, percent, plural } from "./dom.js";

/** What the score of a trajectory is, by the rule that picks. */
const SCORES = {
  verified: "minus the steps it took to an answer that breaks no rule",
  vote: "the share of trajectories that gave the same answer",
  q: "how sure the halting head is that the answer is right, from 0 to 1",
  value: "the output of the value head",
  residual: "minus the logarithm of its last residual, so that a calmer state scores more",
  certainty: "the mean log probability of its cells, 0 where it is sure of all",
  first: "minus the steps until it halted",
};

const more = (few) => [...few.slice(0, 4), ...(few.length > 4 ? [`and ${few.length - 4} more`] : [])];

/** What a solution is called: [kind, sign, title, about]. */
function judged({ known, valid, confidence, source }, clash) {
  const sure = finite(confidence) ? `${percent(confidence)} sure` : "";
  if (known && valid) {
    const who = source === "exact" ? "The exact solver answered; every" : "Every";
    return ["good", "✓", "Verified", `${who} rule of the puzzle holds.`];
  }
  const measured = "Its rules are not known; how sure to be was measured on validation puzzles.";
  if (known) return ["fair", "≈", sure || "Answered", sure ? measured : "Nothing tells how sure to be."];
  const guess = valid === false ? "The best guess breaks rules." : `The best guess${sure && `: ${sure}`}.`;
  return ["unknown", "?", "I don’t know", clash ? "Nobody can: what is given contradicts itself." : guess];
}

/** A solution as one sentence, to be read aloud. */
export function spoken(solution, clash = false) {
  const [, , title, about] = judged(solution, clash);
  return `${title}. ${about} ${solution.why}. ${solution.steps} steps, ${solution.nfe} block calls.`;
}

/** What could be tried where the model does not know: [[text, dials, request], ...], each more than was tried. */
export function offers(model, request, { known }) {
  if (known || !model.limits) return [];
  const { depth, width, noise, views } = request;
  const { limits } = model;
  const longer = Math.min(4 * depth, limits.depth, Math.floor(limits.stream_steps / width));
  const wider = Math.min(4 * width, limits.width, Math.floor(limits.stream_steps / depth));
  const differ = model.stochastic || (model.views && views) || noise.some((v) => v > 0);
  return [
    longer > depth && [`Think longer: ${plural(longer, "step")}`, { depth: longer }, {}],
    wider > width && differ && [`More trajectories: ${number(wider)}`, { width: wider }, {}],
    model.exact && !request.exact && ["Ask the exact solver", {}, { exact: true }],
  ].filter(Boolean);
}

/** Show `text`, or a card with a sign and a title: [kind, sign, title, about]. */
function write(kind, sign, title, about, faults) {
  const card = at("verdict");
  const put = (name, ...what) => fill(card.querySelector(name), ...what);
  Object.assign(card.dataset, { kind, elsewhere: "" });
  put(".sign", sign);
  put("strong", title);
  put(".what", about);
  put(
    ".faults",
    more(faults).map((t) => h("li", null, t)),
  );
  for (const id of ["earned", "offers"]) at(id).hidden = true;
  return { card, put };
}

/** The card without a solution: what is going on; or, where the givens contradict each other, said: how. */
export function waiting(text, busy, said = []) {
  if (busy || !said.length) return write(busy ? "busy" : "idle", "", "", text, []);
  return write("clash", "!", "Contradiction", "What is given allows no answer:", said);
}

/** A sentence and buttons, [text, act] each; those that are there already stay, and with them the focus. */
function buttons(node, text, acts) {
  const told = text + acts.map(([name]) => name).join("");
  if (node.textContent === told) return;
  fill(
    node,
    text && h("span", null, text),
    acts.map(([name, act]) => h("button", { type: "button", onclick: act }, name)),
  );
}

/**
 * The card of a solution. explanation: sentences about what is wrong with a best guess; clash: the givens contradict
 * each other; elsewhere: where the answer was given, when the board shows something else; ways: [text, act] to offer.
 */
export function verdict(solution, { explanation, clash, elsewhere, show, ways }) {
  const { card, put } = write(...judged(solution, clash), explanation);
  const { steps, width, nfe, seconds, why } = solution;
  const time = seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${number(seconds)} s`;
  const costs = { steps: number(steps), width: number(width), nfe: number(nfe), time };
  for (const [name, value] of Object.entries(costs)) fill(at(`cost-${name}`), value);
  put(".why", `${why}.`);
  card.dataset.elsewhere = elsewhere ? "yes" : "";
  at("earned").hidden = !elsewhere;
  buttons(at("earned"), `Given ${elsewhere}.`, [["Show it", show]]);
  at("offers").hidden = !ways.length;
  buttons(at("offers"), "", ways);
}

/** Small boards of all trajectories; choose(k) is called. Its show(thought, shown, step, told) updates them. */
export function gallery(model, view, count, choose) {
  const cards = Array.from({ length: count }, (_, k) => {
    const small = board(model, view, true);
    const note = h("span", { class: "note" });
    const name = h("span", null, `trajectory ${k + 1}`);
    const node = h("button", { class: "track", onclick: () => choose(k) }, small.node, name, note);
    return { node, small, note };
  });

  function show(thought, shown, step, told) {
    const { rule } = thought.begin;
    const scored = told && thought.done.scores.some((x) => finite(x.score));
    fill(at("scored"), scored && `Score: ${SCORES[rule]}. The highest of those needed is picked.`);
    cards.forEach(({ node, small, note }, k) => {
      const now = thought.own(k, step);
      small.show({ question: thought.question, answer: now ? [...now.answer] : thought.question, wrong: now?.wrong });
      const broken = now?.wrong.length ? `✗ ${now.wrong.length} broken` : "✗ not valid";
      const state = now && now.valid !== null && (now.valid ? "✓ valid" : broken);
      const score = told && thought.done.scores.find((x) => x.trajectory === k)?.score;
      const spare = told && k >= thought.done.solution.width;
      const points = finite(score) && `score ${number(score).replace("-", "−")}`;
      const words = [told && thought.won(k) && `★ ${thought.name}`, state, spare ? "not needed" : points];
      fill(
        note,
        words.map((w, i) => w && h("span", { class: i ? null : thought.name }, w)),
      );
      node.setAttribute("aria-pressed", k === shown);
      node.setAttribute("aria-label", [`trajectory ${k + 1}`, ...words.filter(Boolean)].join(", "));
    });
  }
  return { nodes: cards.map((c) => c.node), show };
}
