// What is known of a model: its curves, its certificate, how it was trained, and commands to go on with.

import { at, fill, h } from "./dom.js";
import { accuracyFigure, haltingFigure, learningFigure, modulesFigure, trustTable } from "./figures.js";

/** Draw all of it; what is not measured says how to measure it. */
export function known(model) {
  const { curves, born, trained, commands } = model;
  accuracyFigure(model, "depth");
  accuracyFigure(model, "width");
  haltingFigure(curves.halting, model.difficulty);
  modulesFigure(curves.modules);
  learningFigure(model.learning);
  trustTable(curves.trust);
  for (const what of ["depth", "modules"]) at(`${what}-missing`).hidden = curves[what].length > 0;
  for (const node of document.querySelectorAll("[data-command]")) {
    node.textContent = commands?.[node.dataset.command] ?? node.textContent;
  }
  for (const [id, pairs] of Object.entries({ born, trained, commands })) {
    const word = (v) => (typeof v === "string" ? v : JSON.stringify(v));
    const line = ([k, v]) => [h("dt", null, k.replaceAll("_", " ")), h("dd", null, word(v))];
    const lines = Object.entries(pairs ?? {}).flatMap(line);
    at(id).hidden = !lines.length;
    fill(at(id).querySelector("dl"), lines);
  }
}
