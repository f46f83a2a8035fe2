// What is turned and pressed: the dials of test-time compute, and the clock that plays a thought.

import { at } from "./dom.js";

/** Tie the number field `id` to its slider; doubling: two notches of the slider double the number, from 1 up. */
function tie(id, value, most, doubling) {
  const [field, slider] = [at(id), at(`${id}-slider`)];
  const notch = (v) => (doubling ? 2 * Math.log2(v) : 20 * v);
  const move = () => (slider.value = notch(Number(field.value)));
  Object.assign(field, { min: doubling ? 1 : 0, max: most, value, oninput: move });
  slider.max = Math.ceil(notch(most));
  slider.oninput = () =>
    (field.value = doubling ? Math.min(most, Math.round(2 ** (slider.value / 2))) : slider.value / 20);
  move();
}

/** Fit the dials to a model: {request(), set(request), turn(id, value)}. */
export function dials(model) {
  const { depth = 1024, width = 64 } = model.limits ?? {};
  const rules = [model.verifies || model.calibrated ? "auto" : "", ...(model.rules ?? [])].filter(Boolean);
  const set = ({ depth: deep, width: wide, pick, noise: [start, path], views }) => {
    tie("depth", deep, depth, true);
    tie("width", wide, width, true);
    tie("start", start, 2);
    tie("path", path, 2);
    at("pick").value = pick;
    at("views").checked = views;
  };
  const several = model.views || model.stochastic ? Math.min(4, width) : 1;
  set({ depth: Math.min(64, depth), width: several, pick: rules[0], noise: [0, 0], views: model.views });
  for (const option of at("pick").options) option.hidden = option.disabled = !rules.includes(option.value);
  for (const id of ["views", "exact"]) at(id).closest("label").hidden = !model[id];
  const [number, checked] = [(id) => Number(at(id).value), (id) => at(id).checked];
  const request = () => ({
    ...{ depth: number("depth"), width: number("width"), pick: at("pick").value },
    ...{ noise: [number("start"), number("path")], views: checked("views"), halting: checked("halting") },
    ...{ min_confidence: number("min_confidence"), seed: number("seed"), exact: checked("exact") },
  });
  const turn = (id, value) => {
    at(id).value = value;
    at(id).oninput();
  };
  return { request, set, turn };
}

/** Play and pause. advance() takes a step and says how many milliseconds it is to be looked at; 0: the end. */
export function clock(advance) {
  let timer = null;
  const set = (next) => {
    clearTimeout(timer);
    timer = next;
    at("play").classList.toggle("playing", timer !== null);
    at("play").setAttribute("aria-label", timer === null ? "play" : "pause");
  };
  const tick = () => {
    const wait = advance();
    set(wait ? setTimeout(tick, wait) : null);
  };
  const play = (wait = 0) => set(setTimeout(tick, wait));
  const pause = () => set(null);
  return { play, pause, toggle: (wait) => (timer === null ? play(wait) : pause()) };
}
