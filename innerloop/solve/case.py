"""One puzzle on its way: the trajectories it still needs, and what the others came to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.solve.choose import Trajectories, choose
from innerloop.solve.dials import Dials, Solution
from innerloop.solve.engine import Done, Job
from innerloop.tasks.symmetry import Views


@dataclass
class Case:
    """One puzzle on its way: the jobs it still needs, and what its trajectories came to."""

    solver: Any  # solve.solver.Solver
    question: NDArray[np.uint8]
    dials: Dials
    puzzle: int = 0
    views: Views | None = None  # of trajectories 0 .. width - 1
    priority: float = 0.0
    deadline: float = float("inf")
    watch: Callable[[int, Any], None] | None = None  # called as watch(trajectory, moment)
    begun: float = field(default_factory=time.monotonic)
    jobs: list[Job] = field(default_factory=list)
    done: dict[int, Done] = field(default_factory=dict)

    def job(self, k: int) -> Job:
        """Trajectory k, to be submitted."""
        d = self.dials
        seen = self.question if self.views is None else self.views.take(np.array([k])).apply(self.question[None])[0]
        watch = None if self.watch is None else (lambda moment: self.watch(k, self.shown(k, moment)))  # type: ignore[misc]
        job = Job(
            seen, d.depth, d.halting or d.pick == "first", d.pick == "verified", d.pick == "residual", k, self.puzzle,
            self.priority - k, self.deadline, watch, (self, k),
        )  # fmt: skip
        self.jobs.append(job)
        return job

    def took(self, done: Done) -> None:
        self.done[done.job.owner[1]] = done

    def shown(self, k: int, moment: Any) -> Any:
        """A moment of trajectory k, turned back into the puzzle's own view."""
        if self.views is None:
            return moment
        view = self.views.take(np.array([k]))
        sure = np.empty_like(moment.certainty)
        sure[view.cells[0]] = moment.certainty
        return moment._replace(answer=view.undo(moment.answer[None])[0], certainty=sure)

    @property
    def finished(self) -> bool:
        """Nothing that still runs could change the answer."""
        if any(d.end == "verified" for d in self.done.values()):
            return True
        return len(self.done) >= self.dials.width

    def trajectories(self) -> tuple[list[int], Trajectories]:
        """Which trajectories took at least a step, and what they came to."""
        order = sorted(k for k, d in self.done.items() if d.moment is not None)
        moments = [self.shown(k, self.done[k].moment) for k in order]
        answers = np.stack([m.answer for m in moments])
        verify = self.solver.verify
        asked = np.repeat(self.question[None], len(answers), 0)
        valid = verify(asked, answers) if verify else np.zeros(len(answers), bool)
        column = lambda name: np.array([getattr(m, name) for m in moments], float)  # noqa: E731
        sure = np.array([np.log(np.maximum(m.certainty, 1e-12)).mean() for m in moments])
        steps = np.array([m.step for m in moments])
        halted = np.array([self.done[k].end == "halted" for k in order])
        return order, Trajectories(
            answers, sure, column("q"), column("value"), column("residual"), steps, halted, valid
        )

    def solution(self) -> Solution:
        """What is known by now."""
        if not any(d.moment is not None for d in self.done.values()):
            return self.nothing("the budget or deadline ended before its first step")
        order, t = self.trajectories()
        choice = choose(t, self.dials.pick)
        i, k = choice.winner, order[choice.winner]
        moment = self.shown(k, self.done[k].moment)
        valid = bool(t.valid[i]) if self.solver.verify else None
        sure = self.solver.confidence(self.dials, choice, valid)
        known = valid is not False and np.isfinite(choice.score) and (sure is None or sure >= self.dials.least)
        nfe = self.solver.calls * sum(d.steps for d in self.done.values())
        return Solution(
            known=bool(known),
            answer=moment.answer,
            text=self.solver.task.decode(moment.answer),
            valid=valid,
            confidence=sure,
            pick=self.dials.pick,
            why=f"trajectory {k + 1} of {len(order)}: {choice.why}" if np.isfinite(choice.score) else choice.why,
            source="model",
            trajectory=k,
            width=len(order),
            steps=moment.step,
            nfe=nfe,
            seconds=time.monotonic() - self.begun,
            certainty=moment.certainty,
        )

    def nothing(self, why: str) -> Solution:
        """A puzzle that was not thought about: its question is all there is to guess."""
        sure = np.zeros(len(self.question), np.float32)
        text, spent = self.solver.task.decode(self.question), time.monotonic() - self.begun
        cost = {"trajectory": 0, "width": 0, "steps": 0, "nfe": 0, "seconds": spent, "certainty": sure}
        return Solution(False, self.question, text, None, 0.0, self.dials.pick, why, "model", **cost)  # type: ignore[arg-type]
