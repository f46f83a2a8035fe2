// Export: a drawing as SVG or PNG, the steps as CSV, and the whole page as one file that needs no server.

import { h, s } from "./dom.js";

const PAINT =
  "fill fill-opacity stroke stroke-width stroke-dasharray stroke-linecap stroke-linejoin opacity visibility";
const TEXT = "font-family font-size font-weight text-anchor dominant-baseline";

/** Hand a file to the reader. */
export function save(name, content, mime) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type: mime }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The text of a drawing that looks the same without this page's style sheet. */
function portrait(svg) {
  const copy = svg.cloneNode(true);
  const [own, copied] = [svg, copy].map((root) => [root, ...root.querySelectorAll("*")]);
  own.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const name of `${PAINT} ${TEXT}`.split(" ")) copied[i].setAttribute(name, style.getPropertyValue(name));
    for (const name of ["class", "style"]) copied[i].removeAttribute(name);
  });
  const [x, y, width, height] = svg.getAttribute("viewBox").split(" ");
  copy.prepend(s("rect", { x, y, width, height, fill: getComputedStyle(document.body).backgroundColor }));
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return new XMLSerializer().serializeToString(copy);
}

/** Save a drawing as "svg" or "png", which has at least 1200 pixels across. */
export async function picture(svg, name, kind) {
  const text = portrait(svg);
  if (kind === "svg") return save(`${name}.svg`, text, "image/svg+xml");
  const [width, height] = svg.getAttribute("viewBox").split(" ").slice(2);
  const zoom = Math.max(2, 1200 / width);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = h("canvas", { width: Math.round(width * zoom), height: Math.round(height * zoom) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(`${name}.png`, blob));
}

/** Every step of every trajectory as CSV. */
export function stepsTable({ tracks }) {
  const names = ["trajectory", "step", "answer", "valid", "confidence", "residual", "changed", "wrong", "would_halt"];
  const value = (v) =>
    Array.isArray(v) ? v.length : typeof v === "string" ? `"${v.replaceAll('"', '""')}"` : (v ?? "");
  const lines = tracks.flat().map((p) => names.map((name) => value(p[name])).join());
  return [names.join(), ...lines, ""].join("\n");
}

/** The page with `data` in it, as one file: as JSON in an element that no browser runs. */
export async function standalone(data) {
  const page = await (await fetch("static/standalone.html")).text();
  const escaped = (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const safe = JSON.stringify(data).replace(/[<>&\u2028\u2029]/g, escaped);
  const slot = 'id="data">';
  return page.replace(`${slot}null<`, () => `${slot}${safe}<`);
}
