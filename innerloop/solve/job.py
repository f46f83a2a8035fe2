"""One puzzle in the engine: its trajectories, begun in waves, and the choice among them.

With a verifier most puzzles need one trajectory. So trajectories are begun in waves of 1, 3, 12, 48 ..., each only if
all earlier ones have failed. Every other rule compares all trajectories, so they are begun at once. The answer comes
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
from innerloop.solve.options import Solution, SolveOptions

WAVE_GROWTH = 4  # growth: after a wave, this many times as many trajectories have been begun as before it


def wave(given: int, width: int) -> range:
    """The next wave, out of `width` trajectories, after the first `given` have failed."""
    return range(given, min(width, max(1, WAVE_GROWTH * given)))


@dataclass
class PuzzleJob:
    """One puzzle being solved: the engine jobs of its trajectories, and their results."""

    solver: Any  # solve.solver.Solver
    question: Tokens
    options: SolveOptions
    puzzle: int = 0
    views: Views | None = None  # of trajectories 0 .. width - 1
    priority: float = 0.0
    deadline: float = float("inf")
    watch: Callable[[int, Any], None] | None = None  # called as watch(trajectory, output)
    begun: float = field(default_factory=time.monotonic)
    jobs: list[Job] = field(default_factory=list)
    done: dict[int, Done] = field(default_factory=dict)
    started: int = 0  # trajectories begun or queued so far
    pending: set[int] = field(default_factory=set)  # of these, the ones that may still change the answer
    best: tuple[int, int] | None = None  # (steps, trajectory) of the best valid answer so far

    def wave(self) -> range:
        """Trajectories to begin now; none while earlier ones may still succeed."""
        if self.pending or self.best is not None:
            return range(0)
        whole = self.options.pick != "verified"
        found = range(self.started, self.options.width) if whole else wave(self.started, self.options.width)
        self.started = found.stop
        self.pending.update(found)
        return found

    def limit(self, k: int) -> int:
        """Most steps after which trajectory k could still be the answer."""
        return self.options.depth if self.best is None else self.best[0] - (k > self.best[1])

    def job(self, k: int) -> Job:
        """The engine job of trajectory k, to be submitted."""
        options = self.options
        seen = self.question if self.views is None else self.views.take(np.array([k])).apply(self.question[None])[0]
        watch = None if self.watch is None else (lambda output: self.watch(k, self.in_own_view(k, output)))  # type: ignore[misc]
        halting = options.halting or options.pick == "first"
        job = Job(
            seen, self.limit(k), halting, options.pick == "verified", options.pick == "residual", k, self.puzzle,
            self.priority - k, self.deadline, watch, (self, k),
        )  # fmt: skip
        self.jobs.append(job)
        return job

    def record_done(self, done: Done) -> None:
        """Record an ended trajectory; if it is the best valid one, limit the others to fewer steps than it took."""
        k = done.job.owner[1]
        self.done[k] = done
        self.pending.discard(k)
        if done.end != "verified" or (self.best is not None and self.best <= (done.steps, k)):
            return
        self.best = (done.steps, k)
        self.pending = {other for other in self.pending if self.limit(other) > 0}
        for job in self.jobs:
            job.depth = min(job.depth, max(1, self.limit(job.owner[1])))

    def in_own_view(self, k: int, output: Any) -> Any:
        """The output of trajectory k, mapped back from its symmetry view to the puzzle's own."""
        if self.views is None:
            return output
        view = self.views.take(np.array([k]))
        sure = np.empty_like(output.certainty)
        sure[view.cells[0]] = output.certainty
        return output._replace(answer=view.undo(output.answer[None])[0], certainty=sure)

    @property
    def finished(self) -> bool:
        """Whether no running trajectory could change the answer."""
        return not self.pending and (self.best is not None or self.started >= self.options.width)

    def trajectories(self) -> tuple[list[int], Trajectories]:
        """(numbers of the trajectories that took a step, their results)."""
        order = sorted(k for k, d in self.done.items() if d.result is not None)
        outputs = [self.in_own_view(k, self.done[k].result) for k in order]
        answers = np.stack([m.answer for m in outputs])
        verify = self.solver.verify
        asked = np.repeat(self.question[None], len(answers), 0)
        valid = verify(asked, answers) if verify else np.zeros(len(answers), bool)
        column = lambda name: np.array([getattr(m, name) for m in outputs], float)  # noqa: E731
        sure = np.array([np.log(np.maximum(m.certainty, 1e-12)).mean() for m in outputs])
        steps = np.array([m.step for m in outputs])
        halted = np.array([self.done[k].end == "halted" for k in order])
        return order, Trajectories(
            answers, sure, column("q"), column("value"), column("residual"), steps, halted, valid
        )

    def solution(self) -> Solution:
        """The solution from the trajectories that have ended so far."""
        if not any(d.result is not None for d in self.done.values()):
            return self.unanswered("the budget or deadline ended before its first step")
        order, t = self.trajectories()
        choice = choose(t, self.options.pick)
        i, k = choice.winner, order[choice.winner]
        output = self.in_own_view(k, self.done[k].result)
        valid = bool(t.valid[i]) if self.solver.verify else None
        sure = self.solver.confidence(self.options, choice, valid)
        known = (
            valid is not False and np.isfinite(choice.score) and (sure is None or sure >= self.options.min_confidence)
        )
        why = f"trajectory {k + 1} of {len(order)}: {choice.why}" if np.isfinite(choice.score) else choice.why
        if known and not valid and not self.is_complete(output.answer):
            known, sure, why = False, 0.0, f"{why}, but that is no complete answer"
        nfe = self.solver.calls * sum(d.steps for d in self.done.values())
        return Solution(
            known=bool(known),
            answer=output.answer,
            text=self.solver.task.decode(output.answer),
            valid=valid,
            confidence=sure,
            pick=self.options.pick,
            why=why,
            source="model",
            trajectory=k,
            width=len(order),
            steps=output.step,
            nfe=nfe,
            seconds=time.monotonic() - self.begun,
            certainty=output.certainty,
        )

    def is_complete(self, answer: Tokens) -> bool:
        """Whether the task accepts the answer: givens kept, no blank left, and its rules, where it knows them."""
        return bool(self.solver.task.valid_batch(self.question[None], answer[None])[0])

    def unanswered(self, why: str) -> Solution:
        """The solution of a puzzle without a single step; the question stands in for the answer."""
        sure = np.zeros(len(self.question), np.float32)
        text, spent = self.solver.task.decode(self.question), time.monotonic() - self.begun
        cost = {"trajectory": 0, "width": 0, "steps": 0, "nfe": 0, "seconds": spent, "certainty": sure}
        return Solution(False, self.question, text, None, 0.0, self.options.pick, why, "model", **cost)  # type: ignore[arg-type]
