"""Step-by-step trace of one solve, as JSON for server and report.

All trajectories run to their full depth. The answer that `Solver.solve` gives at the same options is reconstructed
afterwards, from the step at which each trajectory would have ended there.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core import Question, map_tensors
from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.noise import salted
from innerloop.show.paths import StatePaths
from innerloop.solve.choose import RULES
from innerloop.solve.engine import CachedRead, Done, StepOutput
from innerloop.solve.job import PuzzleJob, next_wave
from innerloop.solve.options import Solution, SolveOptions
from innerloop.solve.solver import Solver
from innerloop.solve.verify import violating_cells

__all__ = ["Replay", "ReplayStep", "cell_indices", "rounded_or_none", "rounded_shares", "solution_json"]


class ReplayStep(NamedTuple):
    """One step of one trajectory."""

    trajectory: int
    output: StepOutput  # without the state, and in the puzzle's own view
    stops: bool  # the loop's own halting rule holds here for the first time
    seconds: float  # since the solve began


class TrajectoryEnd(NamedTuple):
    """Where `Solver.solve` would have ended a trajectory."""

    output: StepOutput
    end: str  # one of engine.ENDS
    valid: bool | None
    seconds: float


class Replay:
    """Records the steps of one puzzle, in this order:

    1. submit the jobs of `puzzle_job(watch)` to an engine
    2. in `watch`, pass each output to `record`, and what that returns to `step_json`
    3. when all have ended: `solution`, then `end_json`

    `record` may run in another thread than the rest.
    """

    def __init__(self, solver: Solver, question: Tokens, options: SolveOptions, identifier: int = 0) -> None:
        options = solver.resolve(options)
        self.solver, self.question, self.options, self.identifier = solver, question, options, identifier
        self.start_time, self.views = time.monotonic(), solver.views(options)
        self.steps: list[list[ReplayStep]] = [[] for _ in range(options.width)]
        self.halts: list[int | None] = [None] * options.width
        view_cells = None if self.views is None else self.views.cells
        self.paths = StatePaths(options.width, options.depth * options.width, len(question), view_cells)
        engine = solver.engine(options)
        self._halt: Any = engine.halt
        self._loops = [CachedRead(engine.loop.loop) for _ in range(options.width)]  # each state is read once
        self._states: list[Any] = [None] * options.width  # the state before each trajectory's next step
        self._verdicts: dict[bytes, tuple[bool | None, list[int]]] = {}

    def puzzle_job(self, watch: Callable[[int, StepOutput], None]) -> PuzzleJob:
        """The puzzle's job, with no rule that ends a trajectory early."""
        watching = replace(self.options, pick="residual", halting=False)
        job = PuzzleJob(self.solver, self.question, watching, self.identifier, self.views, watch=watch)
        self._job = weakref.ref(job)  # it refers to `watch`, and so to this
        return job

    # -- while it runs ------------------------------------------------------------------------------------------------
    def record(self, k: int, output: StepOutput) -> ReplayStep:
        """Record a step of trajectory k; its state goes to the projection only."""
        stops = self._stops(k, output)
        self.paths.add(k, output.state)
        return ReplayStep(k, output._replace(state=None), stops, time.monotonic() - self.start_time)

    @torch.no_grad()
    def _stops(self, k: int, output: StepOutput) -> bool:
        """Whether the loop's own rule holds after this step, for the first time."""
        if self._halt is None or self.halts[k] is not None:
            return False
        device = self.solver.device
        old, new = self._states[k], map_tensors(lambda t: t[None], output.state)
        if old is None:
            job = self._job()
            assert job is not None, "record is called while the job runs"
            tokens = torch.from_numpy(job.question_of(k)[None].astype(np.int64)).to(device)
            first = self._loops[k].init(Question(tokens, torch.full_like(tokens[:, 0], self.identifier)))
            old = salted(first, torch.full_like(tokens[:, 0], k))
        self._states[k] = new
        try:
            stops = self._halt(self._loops[k], old, new, torch.tensor([output.step], device=device))
        except InputError:  # it has no halting head
            self._halt = None
            return False
        if not bool(torch.as_tensor(stops).all()):
            return False
        self.halts[k], self._states[k] = output.step, None
        return True

    def step_json(self, step: ReplayStep) -> dict[str, Any]:
        """The JSON of a step; the steps of one trajectory must come in order."""
        k, output = step.trajectory, step.output
        before = self.steps[k][-1].output.answer if self.steps[k] else self.question
        self.steps[k].append(step)
        valid, wrong = self._verdict(output.answer)
        return {
            "trajectory": k,
            "step": output.step,
            "answer": self.solver.task.decode(output.answer),
            "certainty": rounded_shares(output.certainty),
            "changed": cell_indices(output.answer != before),
            "wrong": wrong,
            "valid": valid,
            "confidence": rounded_or_none(output.q),
            "residual": rounded_or_none(output.residual, 9),
            "would_halt": step.stops,
        }

    def _verdict(self, answer: Tokens) -> tuple[bool | None, list[int]]:
        """(valid, wrong cells); cached, as a solve repeats the same answer many times."""
        key = answer.tobytes()
        if key not in self._verdicts:
            pair = self.question[None], answer[None]
            valid = bool(self.solver.verify(*pair)[0]) if self.solver.verify is not None else None
            self._verdicts[key] = valid, [] if valid else cell_indices(violating_cells(self.solver.task, *pair)[0])
        return self._verdicts[key]

    # -- when it is over ----------------------------------------------------------------------------------------------
    def solution(self) -> Solution:
        """What `Solver.solve` would have answered; its seconds end at the last step that it needed."""
        ends = self._ends()
        if self.options.pick == "verified":
            ends = self._until_verified(ends)
        solution = self._ended(ends).solution()
        return replace(solution, seconds=max((e.seconds for e in ends.values()), default=solution.seconds))

    def end_json(self, solution: Solution) -> dict[str, Any]:
        """The JSON of the end, for `solution()` or the exact solver's improvement of it."""
        paths, explained = self.paths.drawn()
        answer = solution_json(self.solver.task, self.question, solution)
        return {
            "solution": answer,
            "paths": paths,
            "explained": explained,
            "scores": self._scores(),
            "halts": self.halts,
        }

    def _ends(self) -> dict[int, TrajectoryEnd]:
        """Where each trajectory that took a step would have ended by itself."""
        return {k: self._end(path) for k, path in enumerate(self.steps) if path}

    def _end(self, path: list[ReplayStep]) -> TrajectoryEnd:
        """Where one trajectory would have ended, by the engine's rules."""
        for step in path:
            output, valid = step.output, self._verdict(step.output.answer)[0]
            end = TrajectoryEnd(output, "depth" if output.step == self.options.depth else "late", valid, step.seconds)
            if self.options.pick == "verified" and valid:
                return end._replace(end="verified")
            if step.stops and (self.options.halting or self.options.pick == "first"):
                return end._replace(end="halted")
        return end

    def _until_verified(self, ends: dict[int, TrajectoryEnd]) -> dict[int, TrajectoryEnd]:
        """The ends of the trajectories that `solve` would start, wave by wave, until one is verified."""
        used: dict[int, TrajectoryEnd] = {}
        wave = range(0)
        while wave.stop < self.options.width and not any(e.end == "verified" for e in used.values()):
            wave = next_wave(wave.stop, self.options.width)
            used |= {k: ends[k] for k in wave if k in ends}
        first = min((e.output.step for e in used.values() if e.end == "verified"), default=math.inf)
        for k, end in used.items():
            if k in wave and end.output.step > first:
                step = self.steps[k][int(first) - 1]
                used[k] = TrajectoryEnd(step.output, "cancelled", self._verdict(step.output.answer)[0], step.seconds)
        return used

    def _ended(self, ends: dict[int, TrajectoryEnd]) -> PuzzleJob:
        """A job of the puzzle whose trajectories ended there."""
        options = replace(self.options, guess=False)  # what they were asked plays no part here
        puzzle_job = PuzzleJob(self.solver, self.question, options, self.identifier, start_time=self.start_time)
        for k, end in ends.items():
            job = puzzle_job.make_job(k)
            job.owner = None  # breaks the reference cycle, so that memory is freed at once
            puzzle_job.done[k] = Done(job, end.end, end.output, end.output.step)
        return puzzle_job

    def _scores(self) -> list[dict[str, Any]]:
        """The selection rule's score of each trajectory, where it would have ended."""
        ends = self._ends()
        if not ends:
            return []
        scores = RULES[self.options.pick](self._ended(ends).trajectories()[1])
        return [
            {"trajectory": k, "score": rounded_or_none(s), "steps": e.output.step, "valid": e.valid, "end": e.end}
            for (k, e), s in zip(ends.items(), scores, strict=True)
        ]


# -- plain values -----------------------------------------------------------------------------------------------------


def solution_json(task: Any, question: Tokens, solution: Solution) -> dict[str, Any]:
    """A Solution to a question (S,), as JSON."""
    names = ("known", "valid", "pick", "why", "source", "trajectory", "width", "steps", "nfe")
    wrong = [] if solution.valid else cell_indices(violating_cells(task, question[None], solution.answer[None])[0])
    rest = {"confidence": rounded_or_none(solution.confidence), "seconds": round(solution.seconds, 6), "wrong": wrong}
    fields = {name: getattr(solution, name) for name in names}
    return fields | rest | {"answer": solution.text, "certainty": rounded_shares(solution.certainty)}


def cell_indices(mask: NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.flatnonzero(mask)]


def rounded_shares(certainty: NDArray[np.float32]) -> list[float]:
    """0 .. 1 with three decimals."""
    return [round(c, 3) for c in np.nan_to_num(certainty).astype(float).tolist()]


def rounded_or_none(value: Any, digits: int = 6) -> float | None:
    """A number rounded; None for none, NaN and infinities."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)
