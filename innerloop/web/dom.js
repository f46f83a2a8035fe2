// Elements and words: the smallest way to make a node, and numbers as people read them.

function make(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return fill(node, ...children);
}

/** An HTML element: h("button", {class: "go", onclick: f}, "Go"). */
export function h(tag, props, ...children) {
  return make(document.createElement(tag), props, children);
}

/** An SVG element, likewise. */
export function s(tag, props, ...children) {
  return make(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

export const stroke = (kind, d, more) => s("path", { class: kind, d, ...more });
export const box = (kind, x, y, width, height, more) => s("rect", { class: kind, x, y, width, height, ...more });
export const words = (kind, x, y, text, more) => s("text", { class: kind, x, y, ...more }, text);

/** The element with this id. */
export function at(id) {
  return document.getElementById(id);
}

/** Put `children` in place of whatever `node` held; null and false are left out. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** Whether this is a number, and not null, NaN or infinite. */
export const finite = Number.isFinite;

export const clamp = (low, value, high) => Math.max(low, Math.min(high, value));

export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(share > 0 && share < 1 ? digits : 0)} %`;
}

/** Three significant digits, thousands set apart. */
export function number(value) {
  if (!finite(value)) return "–";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return value !== 0 && Math.abs(value) < 0.001 ? power(value) : String(Number(value.toPrecision(3)));
}

/** 0.00023 as 2.3 × 10⁻⁴. */
export function power(value) {
  const [lead, exponent] = value.toExponential(1).split("e");
  const raised = String(Number(exponent)).replace(/[-\d]/g, (d) => (d === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]));
  return `${lead.replace(/\.0$/, "")} × 10${raised}`;
}

export function plural(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

let timer;

/** An error, with a way on; null: none. */
export function trouble(error, again) {
  clearTimeout(timer);
  at("trouble").hidden = !error;
  if (!error) return;
  const [text, retry] = at("trouble").children;
  fill(text, error.message, error.wait > 0 && ` Trying again in ${error.wait} s.`);
  retry.onclick = again;
  if (error.wait) timer = setTimeout(again, 1000 * error.wait);
}
