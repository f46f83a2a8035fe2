"""One puzzle in the engine: its trajectories, started in waves, and the choice among them.

With a verifier most puzzles need one trajectory. So trajectories are started in waves of 1, 3, 12, 48 ..., each only
if all earlier ones have failed. Every other rule compares all trajectories, so they are started at once. The answer is
from the first wave with a valid one: fewest steps first, then lowest number. It does not depend on the engine's number
of rows, or on the other puzzles in the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from innerloop.data.protocols import Tokens
from innerloop.rules.symmetry import Views
from innerloop.solve.choose import Trajectories, choose
from innerloop.solve.engine import Done, Job
from innerloop.solve.guess import with_guess
from innerloop.solve.options import Solution, SolveOptions

WAVE_GROWTH = 4  # trajectories started after a wave, as a multiple of those started before it


def next_wave(started: int, width: int) -> range:
    """The next wave, out of `width` trajectories, after the first `started` have failed."""
    return range(started, min(width, max(1, WAVE_GROWTH * started)))


@dataclass
class PuzzleJob:
    """One puzzle being solved: the engine jobs of its trajectories, and their results."""

    solver: Any  # solve.solver.Solver
    question: Tokens
    options: SolveOptions
    puzzle: int = 0
    views: Views | None = None  # of trajectories 0 .. width - 1
    priority: float = 0.0
    watch: Callable[[int, Any], None] | None = None  # called as watch(trajectory, StepOutput)
    start_time: float = field(default_factory=time.monotonic)
    jobs: list[Job] = field(default_factory=list)
    done: dict[int, Done] = field(default_factory=dict)
    started: int = 0  # trajectories started or queued so far
    pending: set[int] = field(default_factory=set)  # of these, those that may still change the answer
    best: tuple[int, int] | None = None  # (steps, trajectory) of the best valid answer so far

    def start_wave(self) -> range:
        """Trajectories to start now, counted as started; none while earlier ones may still succeed."""
        if self.pending or self.best is not None:
            return range(0)
        started, width = self.started, self.options.width
        in_waves = self.options.pick == "verified" or (self.options.guess and not started)
        wave = next_wave(started, width) if in_waves else range(started, width)
        self.started = wave.stop
        self.pending.update(wave)
        return wave

    def step_limit(self, k: int) -> int:
        """Most steps after which trajectory k could still be the answer."""
        return self.options.depth if self.best is None else self.best[0] - (k > self.best[1])

    def make_job(self, k: int) -> Job:
        """The engine job of trajectory k, to be submitted."""
        options = self.options
        view = self.view_of(k)
        as_it_is = view is None or getattr(self.solver.task, "symmetric", True)  # a view of a valid answer is valid
        original = None if as_it_is and not (options.guess and k) else (self.question, view)
        watch = None if self.watch is None else (lambda output: self.watch(k, self.in_original_view(k, output)))  # type: ignore[misc]
        halting = options.halting or options.pick == "first"
        job = Job(
            self.question_of(k), self.step_limit(k), halting, options.pick == "verified", options.pick == "residual", k,
            self.puzzle, self.priority - k, watch=watch, owner=(self, k), original=original,
        )  # fmt: skip
        self.jobs.append(job)
        return job

    def question_of(self, k: int) -> Tokens:
        """(S,) what trajectory k sees: the question with a guess, or in its symmetry view, or as it is."""
        if self.options.guess and k:
            first = self.done[0].result
            return with_guess(self.question, first.answer, first.certainty, self.solver.task.blank, k)
        view = self.view_of(k)
        return self.question if view is None else view.apply(self.question[None])[0]

    def view_of(self, k: int) -> Views | None:
        """The symmetry view of trajectory k, one row; None without views."""
        return None if self.views is None else self.views.take(np.array([k]))

    def record_done(self, done: Done) -> None:
        """Record an ended trajectory; if it is the best valid one, limit the others to fewer steps than it took."""
        k = done.job.owner[1]
        self.done[k] = done
        self.pending.discard(k)
        if done.end != "verified" or (self.best is not None and self.best <= (done.steps, k)):
            return
        self.best = (done.steps, k)
        self.pending = {other for other in self.pending if self.step_limit(other) > 0}
        for job in self.jobs:
            job.depth = min(job.depth, max(1, self.step_limit(job.owner[1])))

    def in_original_view(self, k: int, output: Any) -> Any:
        """The output of trajectory k, mapped back from its symmetry view to the puzzle's original cells and symbols."""
        view = self.view_of(k)
        if view is None:
            return output
        certainty = np.empty_like(output.certainty)
        certainty[view.cells[0]] = output.certainty
        return output._replace(answer=view.undo(output.answer[None])[0], certainty=certainty)

    @property
    def finished(self) -> bool:
        """Whether no running trajectory could change the answer."""
        return not self.pending and (self.best is not None or self.started >= self.options.width)

    def trajectories(self) -> tuple[list[int], Trajectories]:
        """(numbers of the trajectories that took a step, their results)."""
        order = sorted(k for k, d in self.done.items() if d.result is not None)
        outputs = [self.in_original_view(k, self.done[k].result) for k in order]
        answers = np.stack([m.answer for m in outputs])
        verify = self.solver.verify
        questions = np.repeat(self.question[None], len(answers), 0)
        valid = verify(questions, answers) if verify else np.zeros(len(answers), bool)
        column = lambda name: np.array([getattr(m, name) for m in outputs], float)  # noqa: E731
        mean_log_prob = np.array([np.log(np.maximum(m.certainty, 1e-12)).mean() for m in outputs])
        steps = np.array([m.step for m in outputs])
        halted = np.array([self.done[k].end == "halted" for k in order])
        return order, Trajectories(
            answers, mean_log_prob, column("q"), column("value"), column("residual"), steps, halted, valid
        )

    def solution(self) -> Solution:
        """The solution from the trajectories that have ended so far."""
        if not any(d.result is not None for d in self.done.values()):
            return self.solution_without_steps("the budget or deadline ended before its first step")
        order, t = self.trajectories()
        choice = choose(t, self.options.pick)
        i, k = choice.winner, order[choice.winner]
        output = self.in_original_view(k, self.done[k].result)
        valid = bool(t.valid[i]) if self.solver.verify else None
        confidence = self.solver.confidence(self.options, choice, valid)
        known = (
            valid is not False
            and np.isfinite(choice.score)
            and (confidence is None or confidence >= self.options.min_confidence)
        )
        why = f"trajectory {k + 1} of {len(order)}: {choice.why}" if np.isfinite(choice.score) else choice.why
        if known and not valid and not self.is_complete(output.answer):
            known, confidence, why = False, 0.0, f"{why}, but the answer is not complete"
        nfe = self.solver.nfe_per_step * sum(d.steps for d in self.done.values())
        return Solution(
            known=bool(known),
            answer=output.answer,
            text=self.solver.task.decode(output.answer),
            valid=valid,
            confidence=confidence,
            pick=self.options.pick,
            why=why,
            source="model",
            trajectory=k,
            width=len(order),
            steps=output.step,
            nfe=nfe,
            seconds=time.monotonic() - self.start_time,
            certainty=output.certainty,
            question=self.question,
            task=self.solver.task,
        )

    def is_complete(self, answer: Tokens) -> bool:
        """Whether the task accepts the answer: it keeps the givens, has no blank, and follows the rules, if known."""
        return bool(self.solver.task.valid_batch(self.question[None], answer[None])[0])

    def solution_without_steps(self, why: str) -> Solution:
        """The solution if no trajectory took a step; its answer is the question."""
        certainty = np.zeros(len(self.question), np.float32)
        text, seconds = self.solver.task.decode(self.question), time.monotonic() - self.start_time
        cost: dict[str, Any] = {
            "trajectory": 0,
            "width": 0,
            "steps": 0,
            "nfe": 0,
            "seconds": seconds,
            "certainty": certainty,
        }
        cost |= {"question": self.question, "task": self.solver.task}
        return Solution(False, self.question, text, None, 0.0, self.options.pick, why, "model", **cost)
