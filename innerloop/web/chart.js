// Small charts: two scales, quiet axes, and marks on top; drawn at the width there is, and anew when that changes.

import { at, fill, finite, h, s, stroke, words } from "./dom.js";

const KINDS = {
  linear: [(v) => v, (v) => v],
  log: [Math.log, Math.exp],
  root: [Math.sqrt, (v) => v * v],
};

/** A map from values to pixels. Its back(pixel) is the way back. */
export function scale(domain, range, kind = "linear") {
  const [there, back] = KINDS[kind];
  const [low, high] = domain.map(there);
  const span = high - low || 1;
  const map = (v) => range[0] + ((there(v) - low) / span) * (range[1] - range[0]);
  map.back = (pixel) => back(low + ((pixel - range[0]) / (range[1] - range[0])) * span);
  return map;
}

/** A few round values from 0 to `high`. */
export function ticks(high) {
  const unit = 10 ** Math.floor(Math.log10(high / 2));
  const step = unit * [1, 2, 5].find((m) => high <= 6 * m * unit);
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
}

/** A line through points; it breaks where y is not a number. */
export function path(points) {
  let pen = "M";
  return points
    .map(([x, y]) => {
      const part = finite(y) ? `${pen}${x.toFixed(1)} ${y.toFixed(1)}` : "";
      pen = part ? "L" : "M";
      return part;
    })
    .join("");
}

const SHAPES = {
  circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
  square: "M-3.5 -3.5h7v7h-7Z",
  triangle: "M0 -4.6l4.5 7.8h-9Z",
  diamond: "M0 -5l4.6 5l-4.6 5l-4.6 -5Z",
  star: "M0 -5.8L1.5 -2L5.5 -1.8L2.4 .8L3.4 4.7L0 2.5L-3.4 4.7L-2.4 .8L-5.5 -1.8L-1.5 -2Z",
};

/** A mark of one of the shapes, so that series are told apart without colour. */
export function mark(shape, x, y, size = 1, title = "", kind = "") {
  const transform = `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${size})`;
  return s("path", { class: `mark ${kind}`, d: SHAPES[shape], transform }, title && s("title", null, title));
}

/** The empty chart: {svg, X, Y, inner}. x, y: {domain, kind, ticks: [[value, text], ...], label}. */
export function axes({ width, height, x, y, margin = {} }) {
  const m = { top: 10, right: 12, bottom: x.label ? 42 : 24, left: 46, ...margin };
  const inner = { left: m.left, right: width - m.right, top: m.top, bottom: height - m.bottom };
  const X = scale(x.domain, [inner.left, inner.right], x.kind);
  const Y = scale(y.domain, [inner.bottom, inner.top], y.kind);
  const svg = s("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const [v, label] of y.ticks ?? []) {
    const level = stroke("rule", `M${inner.left} ${Y(v)}H${inner.right}`);
    svg.append(level, words("tick end", inner.left - 8, Y(v), label, { dy: "0.32em" }));
  }
  let end = -Infinity;
  for (const [v, label] of x.ticks ?? []) {
    const half = 3.5 * label.length;
    const middle = Math.min(X(v), width - half); // within the drawing
    if (middle - half < end + 5) continue; // leave out what would run into its neighbour
    end = middle + half;
    svg.append(words("tick middle", middle, inner.bottom + 17, label));
  }
  svg.append(words("label middle", (inner.left + inner.right) / 2, height - 6, x.label ?? ""));
  const turned = { transform: `translate(12 ${(inner.top + inner.bottom) / 2}) rotate(-90)` };
  svg.append(words("label middle", 0, 0, y.label ?? "", turned));
  return { svg, X, Y, inner };
}

/** Draw the card `id` by make(width) -> {svg, keys: [[class, text], ...]}; hide it where there is nothing to draw. */
export function figure(id, there, make) {
  const node = at(id);
  const [place, title] = [node.querySelector(".draw"), node.querySelector("h3").textContent];
  node.hidden = !there;
  if (!node.draw) watch(place, () => node.draw());
  node.draw = () => {
    if (!there || place.clientWidth < 120) return;
    const { svg, keys = [] } = make(place.clientWidth);
    const told = [...svg.querySelectorAll("title")].map((t) => t.textContent);
    svg.setAttribute("aria-label", [title, ...told].join(". "));
    fill(place, svg);
    fill(
      node.querySelector(".keys"),
      keys.map(([kind, text]) => h("li", { class: kind }, text)),
    );
  };
  node.draw();
}

/** Call draw() whenever the width of `place` changes. */
export function watch(place, draw) {
  let seen = 0;
  new ResizeObserver(() => {
    if (place.clientWidth !== seen) draw();
    seen = place.clientWidth;
  }).observe(place);
}
