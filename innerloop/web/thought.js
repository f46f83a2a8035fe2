// A thought: the steps of all its trajectories as they come in, and what they came to.

export class Thought {
  constructor(request, begin, question) {
    Object.assign(this, { request, begin, question, done: null, explanation: [] });
    this.tracks = Array.from({ length: begin.width }, () => []);
  }

  /** Steps there are by now. */
  get depth() {
    return Math.max(...this.tracks.map((steps) => steps.length));
  }

  /** Steps there will be. */
  get length() {
    return this.done ? this.depth : Math.max(this.depth, this.begin.depth);
  }

  /** Step `step` of trajectory k, or the last before it; none at step 0, where the puzzle stands. */
  frame(k, step) {
    return this.tracks[k][Math.min(step, this.tracks[k].length) - 1] ?? null;
  }

  /** The step at which trajectory k would halt by itself, or null. */
  halt(k) {
    return this.tracks[k].find((p) => p.would_halt)?.step ?? null;
  }

  /** Whether trajectory k gave the answer. */
  won(k) {
    return this.done?.solution.source === "model" && this.done.solution.trajectory === k;
  }

  /** What a solution is called: an answer, or only a guess. */
  get name() {
    return this.done.solution.known ? "answer" : "best guess";
  }

  /** The step at which the answer was taken from trajectory k, or null. */
  answered(k) {
    return this.won(k) ? this.done.solution.steps : null;
  }
}
