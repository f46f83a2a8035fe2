// A thought: the steps of all its trajectories as they come in, and what they came to.

export class Thought {
  constructor(request, begin, question) {
    Object.assign(this, { request, begin, question, done: null, explanation: [] });
    this.tracks = Array.from({ length: begin.width }, () => []);
  }

  /** Steps there are by now. */
  get steps() {
    return Math.max(...this.tracks.map((steps) => steps.length));
  }

  /** Steps there will be. */
  get length() {
    return this.done ? this.steps : Math.max(this.steps, this.begin.depth);
  }

  /** The last step that can be shown: after the model's own comes the answer of the exact solver, if it gave one. */
  get depth() {
    return this.steps + (this.exact ? 1 : 0);
  }

  get exact() {
    return this.done?.solution.source === "exact";
  }

  /** Step `step` of trajectory k, or the last before it; none at step 0, where the puzzle stands. */
  own(k, step) {
    return this.tracks[k][Math.min(step, this.tracks[k].length) - 1] ?? null;
  }

  /** The same, or what the exact solver answered. */
  frame(k, step) {
    const own = this.own(k, step);
    if (!this.exact || step <= this.steps) return own;
    const { answer, certainty, wrong } = this.done.solution;
    const before = own?.answer ?? this.question.join("");
    return { answer, certainty, wrong, changed: [...answer].flatMap((c, i) => (c === before[i] ? [] : [i])) };
  }

  /** What step `step` is called. */
  called(step) {
    return !step ? "the puzzle" : step > this.steps ? "exact solver" : `step ${step} of ${this.length}`;
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
    return this.exact ? this.depth : this.won(k) ? this.done.solution.steps : null;
  }

  /** [trajectory, step] of the answer, or of the best guess. */
  get earned() {
    const k = this.exact ? 0 : this.done.solution.trajectory;
    return [k, this.answered(k)];
  }

  /** Whether what is shown is the answer; where it comes from all trajectories alike, any will do. */
  isEarned(k, step) {
    return this.answered(k) === step;
  }
}
