// Where thoughts come from: a server that is asked, or a recording that the page carries.

/** What went wrong, in a sentence. status 0: nobody answered; wait: seconds after which to ask again. */
export class Trouble extends Error {
  constructor(message, status = 0, wait = 0) {
    super(message);
    Object.assign(this, { status, wait });
  }
}

export async function ask(path, body, signal) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  const reply = await fetch(path, body ? post : {}).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer. Is innerloop serve still running?");
  });
  if (reply.ok) return reply;
  const { error } = await reply.json().catch(() => ({}));
  const wait = [429, 503].includes(reply.status) ? Number(reply.headers.get("Retry-After")) || 2 : 0;
  throw new Trouble(error?.message ?? error ?? `The server answered with status ${reply.status}.`, reply.status, wait);
}

const told = async (...words) => (await ask(...words)).json();

/** (event, data) pairs of a stream. */
export async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      return { done: true };
    });
    if (done) return;
    const blocks = (left + value).replaceAll("\r\n", "\n").split("\n\n");
    left = blocks.pop();
    for (const block of blocks) {
      const [, name] = block.match(/^event: ?(.*)$/m) ?? [];
      const [, data] = block.match(/^data: ?(.*)$/m) ?? [];
      if (name && data) yield [name, JSON.parse(data)];
    }
  }
}

/** The server that this page came from. */
export function server() {
  const at = (name, verb = "") => `v1/models/${encodeURIComponent(name)}${verb}`;
  return {
    live: true,
    models: async () => (await told("v1/models")).models,
    model: (name) => told(at(name)),
    check: (name, puzzle, answer) => told(at(name, "/check"), { puzzle, answer }),
    async think(name, request, see, signal) {
      let ended = false;
      for await (const [event, data] of events(await ask(at(name, "/think"), request, signal))) {
        if (event === "error") throw new Trouble(data.error, 400);
        ended ||= event === "done";
        see(event, data);
      }
      if (!ended) throw new Trouble("The server went away in the middle of a thought.");
    },
  };
}

/** Thoughts that are in the page itself: {model, thoughts: [{request, begin, steps, done, explanation, wrong}]}. */
export function recording({ model, thoughts }) {
  const kept = (puzzle) => thoughts.find((t) => t.request.puzzle === puzzle);
  return {
    live: false,
    request: (puzzle) => kept(puzzle)?.request,
    models: async () => [model],
    model: async () => model,
    check: async (name, puzzle) => ({ explanation: kept(puzzle)?.explanation ?? [], wrong: kept(puzzle)?.wrong ?? [] }),
    async think(name, { puzzle }, see) {
      const { begin, steps, done } = kept(puzzle);
      see("begin", begin);
      for (const step of steps) see("step", step);
      see("done", done);
    },
  };
}
