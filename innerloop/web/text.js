// The page of a language model: a question, a way to think and a budget; what is written; what came of it.

import { ask, events, Trouble } from "./api.js";
import { at, clamp, fill, finite, h, number, percent, plural, trouble } from "./dom.js";
import { cards } from "./text_cards.js";

const KINDS = { number: "a number", choice: "a letter", yesno: "yes or no", text: "a line of text" };
const app = { choices: null, stop: null };

// -- the form -----------------------------------------------------------------------------------------------

async function start() {
  trouble(null);
  app.choices = await (await ask("think")).json();
  const { model, ways, kinds, tokens } = app.choices;
  if (!ways.length) throw new Trouble("This model has no way to think here. Ask it by OpenAI's protocol.");
  const wanted = new URLSearchParams(location.hash.slice(1));
  const option = (name, shown, field) => h("option", { value: name, selected: name === wanted.get(field) }, shown);
  fill(at("way"), ways.map(({ name }) => option(name, name, "way"))); // prettier-ignore
  fill(at("kind"), kinds.map(({ name }) => option(name, KINDS[name], "kind"))); // prettier-ignore
  at("kind").disabled = kinds.length < 2;
  Object.assign(at("tokens"), { max: tokens, value: clamp(1, Number(wanted.get("tokens")) || tokens, tokens) });
  fill(at("tokens-hint"), `at most ${number(tokens)} in all`);
  at("question").value ||= wanted.get("question") ?? "";
  document.title = `${model} · Innerloop`;
  fill(at("about"), model);
  described();
  at("solve").disabled = false;
  document.body.classList.remove("loading");
}

const way = (name = at("way").value) => app.choices.ways.find((w) => w.name === name);

function described() {
  fill(at("way-hint"), way().about);
}

/** The request that the form asks for; null, and what is wrong is said. */
function request() {
  const [question, tokens] = [at("question").value, Number(at("tokens").value)];
  const most = app.choices.tokens;
  const empty = !question.trim() && "Write a question first.";
  const wrong = !(Number.isInteger(tokens) && tokens >= 1 && tokens <= most) && `Give 1 to ${number(most)} tokens.`;
  problem(empty || wrong, empty ? "question" : "tokens");
  return empty || wrong ? null : { question, way: at("way").value, kind: at("kind").value, tokens };
}

function problem(text, id) {
  for (const each of ["question", "tokens"]) at(each).setAttribute("aria-invalid", Boolean(text) && each === id);
  at("problem").classList.toggle("bad", Boolean(text));
  fill(at("problem"), text);
  if (text) at(id).focus();
}

// -- an answer ----------------------------------------------------------------------------------------------

async function think(asked = request()) {
  if (!asked) return;
  app.stop?.abort();
  trouble(null);
  const stop = new AbortController();
  const mine = () => app.stop === stop;
  const noun = asked.way.startsWith("retry") ? "attempt" : "sample";
  const { samples } = way(asked.way);
  const shown = cards(samples, noun);
  history.replaceState(null, "", `#${new URLSearchParams(asked)}`);
  app.stop = stop;
  busy(true);
  document.body.classList.remove("told-yet");
  at("written").hidden = false;
  fill(at("asked"), asked.question);
  verdict("busy", "", "", "Thinking");
  try {
    let done = null;
    for await (const [event, data] of events(await ask("think", asked, stop.signal))) {
      if (!mine()) return;
      if (event === "error") throw new Trouble(data.error.message, 500);
      if (event === "piece") shown.write(data.sample, data.text);
      if (event === "sample") {
        shown.of(data.sample).end(data);
        if (samples) verdict("busy", "", "", `Thinking, ${shown.done} of ${plural(samples, noun)} done`);
      }
      if (event === "done") done = data;
    }
    if (!done) throw new Trouble("The server went away in the middle of an answer.");
    told(asked, done, shown);
  } catch (error) {
    if (!mine()) return;
    shown.close("stopped");
    const stopped = error.name === "AbortError";
    verdict("idle", "", "", stopped ? "Stopped. What was written until then is below." : "No answer.");
    if (stopped) fill(at("live"), "Stopped.");
    else trouble(error, () => think(asked));
  }
  if (mine()) app.stop = null;
  busy(Boolean(app.stop));
}

function busy(is) {
  at("solve").classList.toggle("busy", is);
  fill(at("solve"), is ? "Stop" : "Ask");
}

/** How sure to be of an answer, in a sentence. */
function sure({ confidence, sure_of, tally, answer, samples }) {
  const votes = tally.find((t) => t.answer === answer)?.count;
  if (sure_of === "verified") return "Verified: the check accepts it.";
  if (sure_of === "of the votes") return `${percent(confidence, 0)} of the votes: ${votes} of ${samples}.`;
  if (sure_of === "by the judge" && finite(confidence)) return `${percent(confidence, 0)} sure, says the judge.`;
  if (sure_of === "by the judge") return "The judge prefers it.";
  return "Nothing tells how sure to be: one sample, and no check.";
}

/** The end: cards and verdict of an answer, of "I don't know", or of a thought that was cut off. */
function told(asked, body, shown) {
  const { answer, outcome, winner, text, sure_of, samples, budget, why } = body;
  const verified = answer !== null && sure_of === "verified";
  if (samples || way(asked.way).samples) shown.close(outcome === "cut" ? "cut" : "spare");
  else shown.of([]).end(body);
  if (winner !== null) shown.of([winner]).win(verified);
  document.body.classList.toggle("told-yet", winner !== null);
  if (answer !== null) verdict(verified ? "good" : "fair", verified ? "✓" : "≈", answer, sure(body));
  else if (outcome === "cut") {
    const about = `${number(budget)} tokens, or the limit of ${asked.way}, ended it before it had an answer.`;
    verdict("unknown", "…", "Cut off", about);
  } else verdict("unknown", "?", "I don’t know", `${why[0].toUpperCase()}${why.slice(1)}.`);
  tally(body);
  spent(body.spent);
  offers(asked, body);
  const [title, about] = [".title strong", ".what"].map((part) => at("verdict").querySelector(part).textContent);
  fill(at("live"), `${title}. ${about}`);
}

function verdict(kind, sign, title, about) {
  const card = at("verdict");
  card.dataset.kind = kind;
  const parts = { ".sign": sign, strong: title, ".what": about };
  for (const [part, text] of Object.entries(parts)) fill(card.querySelector(part), text);
  at("offers").hidden = true;
}

function tally({ tally: counts, samples, answer }) {
  const row = (t) => {
    const name = t.answer ?? "no answer";
    const kind = t.answer === null ? "none" : t.answer === answer && "won";
    const bar = h("meter", { min: 0, max: samples, value: t.count, "aria-label": `${name}: ${t.count} of ${samples}` });
    return h("li", { class: kind || null }, h("b", null, name), h("span", null, t.count), bar);
  };
  fill(at("tally"), samples > 1 && counts.map(row));
}

function spent(units) {
  const of = (unit) => number(units[unit] ?? 0);
  const time = units.seconds < 1 ? `${Math.max(1, Math.round(1000 * units.seconds))} ms` : `${number(units.seconds)} s`;
  const read = { "tokens read": of("tokens_in"), "of them cached": of("tokens_cached") };
  const rows = Object.entries({ ...read, "tokens written": of("tokens_out"), completions: of("completions"), time });
  fill(
    at("spent"),
    rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

/** What could be tried where there is no answer: more tokens where the budget ended it, or a vote. */
function offers(asked, { answer, outcome, spent: { tokens = 0 }, budget, samples }) {
  const more = Math.min(4 * budget, app.choices.tokens);
  const short = outcome === "cut" && more > budget && (!tokens || 2 * tokens > budget);
  const vote = !samples && outcome === "unparsed" && app.choices.ways.find((w) => w.name.startsWith("vote"));
  const longer = short && [`Allow ${number(more)} tokens`, "tokens", more];
  const list = answer === null ? [longer, vote && [`Try ${vote.name}`, "way", vote.name]].filter(Boolean) : [];
  const again = (id, value) => {
    at(id).value = value;
    described();
    think({ ...asked, [id]: value });
  };
  at("offers").hidden = !list.length;
  fill(
    at("offers"),
    list.map(([name, id, value]) => h("button", { type: "button", onclick: () => again(id, value) }, name)),
  );
}

// -- keys and colours ---------------------------------------------------------------------------------------

function stopOrAsk(event) {
  event?.preventDefault();
  if (app.stop) app.stop.abort();
  else if (!at("solve").disabled) think();
}

at("asking").onsubmit = stopOrAsk;
at("way").onchange = described;
at("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!app.stop) stopOrAsk();
};
document.onkeydown = ({ key }) => {
  if (key === "Escape") app.stop?.abort();
};
at("theme").onclick = () => {
  const { dataset } = document.documentElement;
  const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = dark ? "light" : "dark";
};

function begin() {
  start().catch((error) => trouble(error, begin));
}
begin();
