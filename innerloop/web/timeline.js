// The thought along time: a slider over its steps, and what happened at each: changes, faults, residual, belief.

import { path, scale, watch } from "./chart.js";
import { at, box, clamp, fill, h, number, power, s, stroke, words } from "./dom.js";

const LEFT = 74; // room for the names of the tracks
const RIGHT = 12;
const RAIL = 12; // y of the slider
const MEANINGS = {
  changed: "cells that the step changed",
  broken: "cells that break a rule",
  residual: "how far the state moved, as a share of its size",
  belief: "how sure the model’s halting head is that all is right, from 0 to 1",
};

/** The powers of ten around values. */
function decades(values) {
  const known = values.filter((v) => v > 0);
  const [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0.1, 1];
  const [a, b] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  return [10 ** a, 10 ** Math.max(b, a + 1)];
}

/** The timeline in #timeline. seek(step) is called when somebody moves the slider or drags over the tracks. */
export function timeline(seek) {
  const [place, slider] = [at("tracks"), at("scrubber")];
  const thumb = s("g", { class: "thumb" });
  let [thought, track, X, bottom] = [null, 0, null, 0];
  slider.oninput = () => seek(Number(slider.value));
  place.onpointerdown = (down) => {
    if (!thought) return;
    const left = place.getBoundingClientRect().left;
    const go = (e) => seek(clamp(0, Math.round(X.back(Math.max(LEFT, e.clientX - left))), thought.depth));
    place.setPointerCapture(down.pointerId);
    place.onpointermove = go;
    place.onpointerup = place.onpointercancel = () => (place.onpointermove = null);
    go(down);
  };

  function bars(key, kind, top, tall) {
    const counts = thought.tracks[track].map((p) => p[key].length);
    const most = Math.max(1, ...counts);
    return counts.map((n, i) => {
      if (!n) return null;
      const [width, height] = [clamp(1, 0.62 * (X(i + 1) - X(i)), 9), Math.max(2, (n / most) * tall)];
      return box(kind, X(i + 1) - width / 2, top + tall - height, width, height);
    });
  }

  function line(steps, key, Y, kind) {
    return stroke(`curve ${kind}`, path(steps.map((p) => [X(p.step), p[key] === null ? NaN : Y(p[key])])));
  }

  function residual(top, tall) {
    const [low, high] = decades(thought.tracks.flat().map((p) => p.residual));
    const Y = scale([low, high], [top + tall, top], "log");
    const texts = [low, high].map((v) =>
      words("tick end", LEFT - 6, Y(v), power(v).slice(4), { dy: v > low ? "0.7em" : 0 }),
    );
    const others = thought.tracks.filter((_, k) => k !== track).map((steps) => line(steps, "residual", Y, "other"));
    return [...texts, ...others, line(thought.tracks[track], "residual", Y, "")];
  }

  function flag(step, text, y) {
    const left = X(step) > 92 && (text !== "would halt" || place.clientWidth - X(step) < 90);
    const side = left ? ["end", X(step) - 5] : ["", X(step) + 5];
    const stem = stroke("", `M${X(step)} ${RAIL}V${bottom}`);
    const note = step > thought.steps ? "exact solver" : `${text}, ${step}`;
    return [stem, words(...side, y, note)].map((part) => s("g", { class: `flag ${text}` }, part));
  }

  function draw() {
    const width = place.clientWidth;
    if (!width || !thought) return;
    const steps = thought.tracks[track];
    const end = Math.max(thought.length, thought.depth);
    X = scale([0, end], [LEFT, width - RIGHT], thought.length > 12 ? "root" : "linear");
    const parts = [];
    const names = [];
    let top = 48;
    const add = (name, tall, made) => {
      names.push(name);
      const ground = stroke("rule", `M${LEFT} ${top + tall}H${width - RIGHT}`);
      parts.push(ground, words("name", 0, top + tall / 2, name, { dy: "0.32em" }), ...made(top, tall).filter(Boolean));
      top += tall + 10;
    };
    add("changed", 20, (y, tall) => bars("changed", "bar", y, tall));
    if (thought.tracks.flat().some((p) => p.wrong.length))
      add("broken", 16, (y, tall) => bars("wrong", "bar bad", y, tall));
    add("residual", 50, residual);
    if (steps.some((p) => p.confidence !== null))
      add("belief", 20, (y, tall) => [line(steps, "confidence", scale([0, 1], [y + tall, y]), "")]);
    bottom = top - 10;
    const [halt, answer] = [thought.halt(track), thought.answered(track)];
    const flags = halt ? [flag(halt, "would halt", 32)] : [];
    if (answer) flags.push(flag(answer, thought.name, halt ? 44 : 32));
    for (const f of flags) parts.push(f[0]);
    fill(
      at("meaning"),
      names.flatMap((name) => [h("b", null, name), `: ${MEANINGS[name]}. `]),
    );
    let last = -99;
    for (let v = 1; v <= thought.length; v = thought.length > 12 ? 2 * v : v + 1) {
      if (X(v) - last > 18) parts.push(words("tick middle", (last = X(v)), bottom + 16, String(v)));
    }
    const rail = stroke("rail", `M${LEFT} ${RAIL}H${width - RIGHT}`);
    const size = { width, height: bottom + 22, viewBox: `0 0 ${width} ${bottom + 22}` };
    const label = `${steps.length} steps, the last residual ${number(steps.at(-1)?.residual)}`;
    const notes = flags.map((f) => f[1]);
    fill(place, s("svg", { class: "chart", ...size, role: "img", "aria-label": label }, parts, rail, thumb, notes));
    move(Number(slider.value));
  }

  /** Put the thumb at a step. */
  function move(step) {
    slider.value = step;
    slider.setAttribute("aria-valuetext", thought?.called(step) ?? "the puzzle");
    if (!X || !thought) return;
    const stem = stroke("", `M${X(step)} ${RAIL}V${bottom}`);
    thumb.replaceChildren(stem, s("circle", { cx: X(step), cy: RAIL, r: 7 }));
  }

  /** A thought, as far as it has come, and which of its trajectories; null when there is none. */
  function show(value, k) {
    [thought, track] = [value, k];
    slider.disabled = !thought;
    slider.max = thought ? Math.max(thought.length, thought.depth) : 0;
    if (!thought) fill(place);
    draw();
  }

  watch(place, draw);
  return { slider, show, move };
}
