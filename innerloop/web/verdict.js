// What came of a thought, in words: verified, answered, or "I don't know"; why; what it cost; and its trajectories.

import { board } from "./board.js";
import { at, fill, finite, h, number, percent } from "./dom.js";

/** What a solution is called: [kind, sign, title, about]. */
function judged({ known, valid, confidence, source }) {
  const sure = finite(confidence) ? `${percent(confidence)} sure` : "";
  if (known && valid) {
    const who = source === "exact" ? "The exact solver answered; every" : "Every";
    return ["good", "✓", "Verified", `${who} rule of the puzzle holds.`];
  }
  const measured = "Its rules are not known; how sure to be was measured on validation puzzles.";
  if (known) return ["fair", "≈", sure || "Answered", sure ? measured : "Nothing tells how sure to be."];
  return [
    "unknown",
    "?",
    "I don’t know",
    valid === false ? "The best guess breaks rules." : `The best guess: ${sure}.`,
  ];
}

/** A solution as one sentence, to be read aloud. */
export function spoken(solution) {
  const [, , title, about] = judged(solution);
  return `${title}. ${about} ${solution.why}. ${solution.steps} steps, ${solution.nfe} block calls.`;
}

/** The card: what is going on, or a solution; explanation: sentences about what is wrong with a best guess. */
export function verdict(text, busy, solution, explanation = []) {
  const [kind, sign, title, about] = solution ? judged(solution) : [busy ? "busy" : "idle", "", "", text];
  const card = at("verdict");
  const put = (name, ...what) => fill(card.querySelector(name), ...what);
  card.dataset.kind = kind;
  put(".sign", sign);
  put("strong", title);
  put(".what", about);
  if (!solution) return;
  const { steps, width, nfe, seconds, why } = solution;
  const time = seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${number(seconds)} s`;
  const costs = { steps: number(steps), width: number(width), nfe: number(nfe), time };
  for (const [name, value] of Object.entries(costs)) fill(at(`cost-${name}`), value);
  put(".why", `${why}.`);
  put(
    ".faults",
    explanation.slice(0, 4).map((t) => h("li", null, t)),
    explanation.length > 4 && h("li", null, `and ${explanation.length - 4} more`),
  );
}

/** Small boards of all trajectories; choose(k) is called. Its show(thought, shown, step, told) updates them. */
export function gallery(model, view, count, choose) {
  const cards = Array.from({ length: count }, (_, k) => {
    const small = board(model, view, true);
    const note = h("span", { class: "note" });
    const node = h(
      "button",
      { class: "track", onclick: () => choose(k) },
      small.node,
      h("span", null, String(k + 1)),
      note,
    );
    return { node, small, note };
  });

  function show(thought, shown, step, told) {
    cards.forEach(({ node, small, note }, k) => {
      const now = thought.frame(k, step);
      small.show({ question: thought.question, answer: now ? [...now.answer] : thought.question, wrong: now?.wrong });
      const broken = now?.wrong.length ? `✗ ${now.wrong.length} broken` : "✗ not valid";
      const state = now && now.valid !== null && (now.valid ? "✓ valid" : broken);
      const score = told && thought.done.scores.find((x) => x.trajectory === k)?.score;
      const words = [told && thought.won(k) && `★ ${thought.name}`, state, finite(score) && `score ${number(score)}`];
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
