// The page: what is shown (a model, a puzzle, a thought, a step), and redrawing what depends on what changed.

import { recording, server } from "./api.js";
import { board, used } from "./board.js";
import { clashOf } from "./clash.js";
import { clock, dials } from "./controls.js";
import { at, clamp, fill, h, number, plural, trouble } from "./dom.js";
import { picture, save, standalone, stepsTable } from "./export.js";
import { latentFigure } from "./figures.js";
import { known } from "./known.js";
import { keypad, moved, parse, puzzleForm, typed } from "./puzzle.js";
import { Thought } from "./thought.js";
import { timeline } from "./timeline.js";
import { gallery, offers, spoken, verdict, waiting } from "./verdict.js";

const data = at("data") && JSON.parse(at("data").textContent);
const source = data ? recording(data) : server();
const still = matchMedia("(prefers-reduced-motion: reduce)");
const BEFORE = 450; // milliseconds for which the puzzle itself is seen before it is played
const NONE = { cells: [], said: [] };
const app = { model: null, question: [], clash: NONE, thought: null, selected: null }; // and shown, step, stop, ...
const { classList } = document.body;
const ui = { line: timeline(go), clock: clock(advance) }; // and form, dials, board, gallery: those of a model

// -- a model ------------------------------------------------------------------------------------------------

async function start() {
  const names = (await source.models()).map((m) => m.name);
  const wanted = new URLSearchParams(location.hash.slice(1));
  const name = names.find((n) => n === wanted.get("model")) ?? names[0];
  const options = names.map((n) => h("option", { selected: n === name }, n));
  fill(at("models"), options).parentNode.hidden = names.length < 2;
  await open(name, wanted.get("puzzle") ?? "");
}

async function open(name, puzzle = "") {
  forget();
  classList.add("loading");
  at("solve").disabled = true;
  const model = await source.model(name);
  app.model = model;
  document.title = `${name} · Innerloop`;
  fill(at("title"), source.live ? "Watch it think" : name);
  const what = `${model.system.toUpperCase()} on ${model.task} ${model.rows}×${model.columns}`;
  const trained = model.trained_depth && ` · trained with ${plural(model.trained_depth, "step")}`;
  fill(at("about"), `${what} · ${number(model.parameters)} parameters`, trained);
  fill(at("keypad"), keypad(model, put));
  ui.board = null;
  ui.dials = dials(model);
  ui.form = puzzleForm(model, asked);
  classList.remove("loading");
  at("solve").disabled = false;
  const { cells } = parse(model, puzzle);
  if (cells) ui.form.put(cells);
  else if (model.examples?.length) ui.form.pick(model.start ?? 0);
  else at("clear").click();
  learned(model);
}

/** What is known of the model itself; what is still being measured is asked for again. */
function learned(model) {
  known(model);
  if (!model.measuring) return;
  setTimeout(async () => {
    const fresh = await source.model(model.name).catch(() => null);
    if (fresh && app.model === model) learned(Object.assign(model, fresh));
  }, 4000);
}

// -- a puzzle -----------------------------------------------------------------------------------------------

/** Another puzzle is asked; example: where it comes from, null for one that was typed. */
function asked(cells, example) {
  forget();
  Object.assign(app, { question: cells, clash: NONE, example: example ?? app.example });
  layBoard([cells]);
  waiting(source.live ? "Press solve, and watch." : "No thought is kept for this puzzle.");
  contradicted(cells);
  const request = source.live ? null : source.request(cells.join(""));
  if (request) {
    ui.dials.set(request);
    source.think(app.model.name, request, (event, body) => heard(request, event, body));
  }
  show();
}

/** Mark givens that contradict each other, as soon as they are there. */
async function contradicted(cells) {
  const { model } = app;
  const text = cells.join("");
  if (!model.blank || cells.every((c) => c === model.blank || c === model.pad)) return;
  const { wrong } = await source.check(model.name, text, text).catch(() => ({}));
  if (app.question !== cells || !wrong) return;
  app.clash = clashOf(model, cells, wrong);
  const { said } = app.clash;
  if (said.length && !app.thought) waiting("", false, said);
  if (said.length) fill(at("live"), `Contradiction: ${said.join("; ")}.`);
  if (said.length) show();
}

/** A board for the cells that are used, unless the one there is fits. */
function layBoard(texts) {
  const view = used(app.model, texts);
  if (JSON.stringify(ui.board?.view) === JSON.stringify(view)) return;
  ui.board = board(app.model, view);
  const { node } = ui.board;
  const label = `${app.model.task}, ${view.rows} rows, ${view.columns} columns`;
  const props = { id: "board", role: "grid", tabindex: 0, "aria-label": label };
  for (const pair of Object.entries(props)) node.setAttribute(...pair);
  node.style.maxWidth = `${Math.max(200, view.columns * 84)}px`;
  node.onpointerdown = ({ target }) => select(target.closest("[data-cell]")?.dataset.cell ?? null);
  fill(at("seat"), node);
}

function select(i) {
  app.selected = i === null ? null : Number(i);
  if (i !== null) ui.clock.pause();
  show();
}

/** Write a symbol into the selected cell. The thought that was shown is about another puzzle then, and goes. */
function put(symbol) {
  ui.form.put(app.question.with(app.selected, symbol));
}

// -- a thought ----------------------------------------------------------------------------------------------

function forget() {
  app.stop?.abort();
  ui.clock.pause();
  Object.assign(app, { thought: null, shown: 0, step: 0, stop: null, chosen: false, told: false });
  trouble(null);
}

/** Solve what is asked; more: of the request, besides the dials. The thought before stays until there is another. */
async function solve(more = {}) {
  const model = app.model;
  const puzzle = ui.form.cells()?.join("");
  if (!puzzle) return;
  const request = { puzzle, ...ui.dials.request(), ...more, identifier: app.example?.identifier ?? 0 };
  const stop = new AbortController();
  const mine = () => app.stop === stop;
  const { thought, shown, step, chosen, told } = app;
  forget();
  ui.form.say("");
  Object.assign(app, { stop, selected: null });
  history.replaceState(null, "", `#${new URLSearchParams({ model: model.name, puzzle })}`);
  waiting("Thinking", true);
  show();
  try {
    await source.think(model.name, request, (event, body) => mine() && heard(request, event, body), stop.signal);
  } catch (error) {
    if (!mine()) return;
    if (error.name !== "AbortError") trouble(error, () => solve(more));
    waiting("No answer.", false, app.clash.said);
    if (!app.thought && told) Object.assign(app, { thought, shown, step, chosen, told });
  }
  if (mine()) app.stop = null;
  show(true);
}

/** Try again with more of something: [text, dials, request] as a button. */
function offer([text, dials, request]) {
  const act = () => {
    for (const [id, value] of Object.entries(dials)) ui.dials.turn(id, value);
    solve(request);
  };
  return [text, act];
}

let due = false;
function heard(request, event, body) {
  if (event === "begin") {
    app.thought = new Thought(request, body, app.question);
    layGallery();
    ui.line.show(app.thought, 0);
    if (document.activeElement === at("solve")) ui.line.slider.focus({ preventScroll: true });
    if (source.live && !still.matches) ui.clock.play(BEFORE);
  } else if (event === "step") app.thought.tracks[body.trajectory][body.step - 1] = body;
  else ended(body);
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    show(true);
  });
}

async function ended(body) {
  const { thought } = app;
  thought.done = body;
  if (!app.chosen && body.solution.source === "model") app.shown = body.solution.trajectory;
  if (app.question.includes(app.model.pad)) {
    layBoard([app.question, [...body.solution.answer]]);
    layGallery();
  }
  if (!source.live || still.matches) tell();
  if (body.solution.valid !== false) return;
  const { puzzle } = thought.request;
  const { explanation } = await source.check(app.model.name, puzzle, body.solution.answer).catch(() => ({}));
  thought.explanation = explanation ?? [];
  show();
}

/** The verdict, once the board has come to the answer; at once in a recording, or where the slider was taken. */
function tell(step = app.thought.answered(app.shown) ?? app.thought.depth) {
  app.told = true;
  fill(at("live"), spoken(app.thought.done.solution, app.clash.said.length > 0));
  ui.clock.pause();
  app.step = step;
  show(true);
}

function layGallery() {
  ui.gallery = gallery(app.model, ui.board.view, app.thought.tracks.length, choose);
  fill(at("gallery"), ui.gallery.nodes);
}

function choose(k) {
  Object.assign(app, { shown: k, chosen: true });
  show(true);
}

// -- time ---------------------------------------------------------------------------------------------------

function go(step) {
  ui.clock.pause();
  app.step = clamp(0, step, app.thought?.depth ?? 0);
  if (app.thought?.done && !app.told) tell(app.step);
  show();
}

function jump(move) {
  go({ first: 0, back: app.step - 1, next: app.step + 1, last: app.thought?.depth ?? 0 }[move]);
}

/** Show the answer, or the best guess. */
function showAnswer() {
  const [k, step] = app.thought.earned;
  ui.clock.pause();
  Object.assign(app, { shown: k, chosen: true, step });
  show(true);
}

/** One step of playing: milliseconds to look at it, 0 at answer and end. What changes nothing passes quickly. */
function advance() {
  const { thought, shown } = app;
  if (!thought) return 0;
  if (!thought.done && app.stop && thought.frame(shown, app.step)?.valid) return 60; // this may be the answer: stay
  const answer = thought.done && thought.answered(shown);
  const end = answer && (!app.told || answer > app.step) ? answer : thought.depth;
  if (app.step >= end) {
    if (app.stop && !thought.done) return 60; // the next step is still being thought
    if (thought.done && !app.told) tell();
    return 0;
  }
  app.step += 1;
  show();
  const seen = answer ? clamp(80, 3200 / answer, 420) : clamp(80, 9000 / thought.length, 340);
  return app.step === answer && app.told ? 0 : thought.frame(shown, app.step)?.changed.length ? seen : 40;
}

/** Play or pause; from the puzzle on, where the answer or the end is shown. */
function toggle() {
  const { thought, shown, step } = app;
  if (thought?.done && (step >= thought.depth || step === thought.answered(shown))) app.step = 0;
  show();
  ui.clock.toggle(app.step ? 0 : BEFORE);
}

// -- drawing ------------------------------------------------------------------------------------------------

/** Bring the page up to date; grown: the thought has more steps, or another trajectory of it is shown. */
function show(grown = false) {
  const { thought, question, shown, step, selected, told } = app;
  if (!ui.board) return;
  const frame = thought?.frame(shown, step);
  const { cells } = app.clash;
  ui.board.show({ question, wrong: cells, ...frame, answer: frame ? [...frame.answer] : question, selected });
  at("keypad").hidden = selected === null || !source.live;
  fill(at("solve"), app.stop ? "Stop" : "Solve");
  if (!thought || grown) ui.line.show(thought, shown);
  ui.line.move(step);
  classList.toggle("thought", Boolean(thought));
  at("transport").disabled = !thought?.depth;
  fill(at("count"), thought?.called(step));
  at("export").hidden = !thought?.done;
  latentFigure(thought, shown, step);
  if (!thought) return;
  ui.gallery.show(thought, shown, step, told);
  fill(at("why"), told && `${thought.done.solution.why}.`);
  if (told) judge();
  else if (app.stop || thought.done) waiting(`Thinking, step ${step}`, true);
}

/** The verdict, grey where the board shows another step than the one that earned it. */
function judge() {
  const { model, thought, shown, step, clash } = app;
  const { solution } = thought.done;
  const [k, last] = thought.earned;
  const where = thought.tracks.length > 1 ? `at step ${last} of trajectory ${k + 1}` : `at step ${last}`;
  const elsewhere = !thought.isEarned(shown, step) && (thought.exact ? "by the exact solver" : where);
  const ways = source.live && !clash.said.length ? offers(model, thought.request, solution).map(offer) : [];
  const explanation = clash.said.length ? clash.said : thought.explanation;
  verdict(solution, { explanation, clash: clash.said.length > 0, elsewhere, show: showAnswer, ways });
}

// -- keys, clipboard, colours, files ------------------------------------------------------------------------

/** What a key is for here, as a function; nothing, where it is the browser's. */
function meaning({ key, target, ctrlKey, metaKey, altKey }) {
  if (ctrlKey || metaKey || altKey || !ui.board) return null;
  if (target.id === "board" && source.live) {
    const editing = app.selected !== null;
    const { view } = ui.board;
    if (key === "Escape") return () => select(null);
    if (editing && key.startsWith("Arrow")) return () => select(moved(app.model, view, app.selected, key));
    if (key === "ArrowDown" || key === "Enter") return () => select(view.top * app.model.columns + view.left);
    const symbol = editing && typed(app.model, key);
    if (symbol) return () => put(symbol);
  }
  if (target.closest("input:not(#scrubber), textarea, select")) return null;
  if (key === " " && !target.closest("button, summary, a")) return toggle;
  const move = { ArrowLeft: "back", ArrowRight: "next", Home: "first", End: "last" }[key];
  return move && app.thought && (() => jump(move));
}

function pasted(event) {
  if (!source.live || !ui.form || event.target.closest?.("input, textarea")) return;
  const { cells, problem } = parse(app.model, event.clipboardData.getData("text"));
  event.preventDefault();
  if (cells) ui.form.put(cells);
  else ui.form.say(`What was pasted is no puzzle: ${problem}. The board is as it was.`, true);
}

/** Light and dark: as the system has it, until the reader chooses. */
function colours() {
  const { dataset } = document.documentElement;
  const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = dark ? "light" : "dark";
}

const named = (what) => `${app.model.name}-${what}`;

async function savePage() {
  const { request, begin, tracks, done, explanation } = app.thought;
  const examples = [{ question: request.puzzle }];
  const thoughts = [{ request, begin, steps: tracks.flat(), done, explanation, wrong: app.clash.cells }];
  const model = { ...app.model, examples, start: 0, saved: true, measuring: false };
  const page = await standalone({ model, thoughts });
  save(named("thought.html"), page, "text/html");
}

classList.toggle("recorded", !source.live);
at("dials").disabled = !source.live;
at("text").readOnly = !source.live;
at("solve").onclick = () => (app.stop ? app.stop.abort() : solve());
at("play").onclick = toggle;
at("theme").onclick = colours;
for (const move of ["first", "back", "next", "last"]) at(move).onclick = () => jump(move);
at("models").onchange = () => open(at("models").value).catch((error) => trouble(error, begin));
at("csv").onclick = () => save(named("steps.csv"), stepsTable(app.thought), "text/csv");
at("html").onclick = savePage;
document.onkeydown = (event) => {
  const act = meaning(event);
  if (act) event.preventDefault();
  act?.();
};
document.onclick = ({ target }) => {
  const figure = target.dataset.save && target.closest("figure, #middle");
  if (figure)
    picture(figure.querySelector("svg.chart, svg.board"), named(figure.id || `step${app.step}`), target.dataset.save);
};
document.onpaste = pasted;

function begin() {
  trouble(null);
  start().catch((error) => trouble(error, begin));
}
begin();
