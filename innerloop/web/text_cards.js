// What is written: a card for each sample, which grows while it is written and then says its answer.

import { at, fill, h } from "./dom.js";

const ENDS = { answered: "", unparsed: "no answer found in it", cut: "cut off before an answer" };
const NEVER = { spare: "not needed", stopped: "stopped", cut: "no tokens left for it" }; // a judge says nothing more

/** A card. its: the path of the sample, [] for a way without samples. */
function card(its, noun) {
  const numbers = its.filter(Number.isInteger).map((i) => i + 1);
  const names = [numbers.length > 0 && `${noun} ${numbers.join(".")}`, its.includes("judge") && "the judge"];
  const title = names.filter(Boolean).join(", ") || "answer";
  const note = h("span", null);
  const text = document.createTextNode("");
  const pre = h("pre", { tabindex: 0, role: "group", "aria-label": `text of ${title}` });
  const found = h("p", { class: "found" });
  pre.append(text);
  const node = h("article", { class: "card sample", "aria-label": title }, h("h3", null, title, note), pre, found);
  const state = (name, says) => {
    node.dataset.state = name;
    fill(note, says);
  };
  state("waiting", "waiting");
  let left = ""; // is written, and not shown yet

  return {
    node,
    get blank() {
      return !text.length && !left;
    },
    get open() {
      return ["waiting", "writing"].includes(node.dataset.state);
    },
    write: (more) => (left += more),
    /** Show what was written since; where the reader has scrolled up, the text stays where it is. */
    show() {
      if (!left) return;
      state("writing", "writing");
      const follows = pre.scrollTop + pre.clientHeight > pre.scrollHeight - 12;
      text.appendData(text.length ? left : left.trimStart());
      left = "";
      if (follows) pre.scrollTop = pre.scrollHeight;
    },
    /** Its result: the whole text, and the answer that was found in it. */
    end({ answer, outcome, text: whole }) {
      this.show();
      if (whole) text.data = whole.trimStart();
      state(outcome, "");
      fill(found, answer === null ? ENDS[outcome] : [h("span", { class: "hint" }, "answer "), answer]);
    },
    /** It gets no result. */
    leave(why) {
      this.show();
      state(why, "");
      fill(found, NEVER[why]);
    },
    win(verified) {
      node.dataset.won = verified ? "verified" : "yes";
      fill(note, verified ? "✓ verified" : "★ chosen");
    },
  };
}

/** All cards of a question; `expected` samples are there from the start. */
export function cards(expected, noun) {
  const all = new Map();
  const seat = fill(at("cards"));
  let due = false;

  function of(its) {
    const key = its.join(".");
    const alone = all.get("");
    if (key && alone?.blank) {
      alone.node.remove();
      all.delete("");
    }
    if (!all.has(key)) {
      const made = card(its, noun);
      all.set(key, made);
      seat.append(made.node);
      seat.classList.toggle("alone", all.size === 1 && !key);
    }
    return all.get(key);
  }

  if (expected) for (let i = 0; i < expected; i++) of([i]);
  else of([]);

  return {
    of,
    write(its, text) {
      of(its).write(text);
      if (due) return;
      due = true;
      requestAnimationFrame(() => {
        due = false;
        for (const each of all.values()) if (each.open) each.show();
      });
    },
    /** Nothing more is written: `why` for those that have no result. */
    close(why) {
      for (const [key, each] of all) if (each.open) each.leave(key.includes("judge") ? "judge" : why);
    },
    get done() {
      return [...all.values()].filter((each) => !each.open).length;
    },
  };
}
