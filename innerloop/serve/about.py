"""Responses of GET /v1/models and /v1/models/NAME: task, capabilities, held-out examples, and measured curves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.errors import InputError
from innerloop.files import check_regular
from innerloop.runs.fit import load_data
from innerloop.runs.origin import resolve_paths
from innerloop.runs.single import read_attached
from innerloop.serve import schema
from innerloop.serve.models import Served
from innerloop.serve.work import Work
from innerloop.serve.worker import QueueFull, WorkerClosed, thread_safe_future
from innerloop.show import described
from innerloop.solve.job import PuzzleJob
from innerloop.solve.options import SolveOptions

__all__ = ["DetailCache", "held_out_puzzles", "model_info"]

MAX_EXAMPLES = 12
MAX_MEASURED = 500  # most puzzles for curves.halting
CHUNK = 8  # puzzles measured at once: few, so that requests are hardly delayed
MAX_DEPTH = 64  # most steps of such a puzzle
START_SECONDS = 1.0  # longest wait of a request for `start`
BACKGROUND_PRIORITY = -1e9  # of these measurements


def model_info(served: Served) -> schema.Model:
    """The description of one model, for /v1/models."""
    limits = {name: getattr(served.limits, name) for name in schema.Limits.model_fields}
    return schema.Model(
        **described.model_json(served.name, served.opened, served.solver),
        rules=served.rules,  # type: ignore[arg-type]
        stochastic=served.stochastic,
        views=served.task.views(1, np.random.default_rng(0)) is not None,
        exact=served.exact,
        limits=schema.Limits(**limits),
        identifiers=served.identifiers,
    )


def held_out_puzzles(opened: Any, limit: int) -> tuple[Any, str]:
    """(up to `limit` puzzles that the run was not trained on or None, a description of their source).

    These are its validation puzzles. Where their files are not on this machine, puzzles are generated if the task has a
    generator. Nothing is downloaded.
    """
    task, data = opened.task, resolve_paths(opened.run.data, opened.folder)
    if not data.train:
        puzzles = task.make(min(limit, data.holdout or limit), data.seed + 1_000_003)  # as runs.run.sets makes them
        return puzzles, puzzles.source
    if all(Path(name).exists() for name in (data.train, data.test) if name):
        try:
            for name in (data.train, data.test):
                if name and not Path(name).is_dir():
                    check_regular(name)
            puzzles = load_data(opened.run.data, opened.folder)[2].take(slice(limit))
        except InputError as error:  # a damaged file must not hide the rest of the answer
            return None, str(error)
        return puzzles, Path(puzzles.source).name
    try:
        puzzles = task.make(limit, data.seed + 2_000_003)
    except InputError:
        return None, "the run's puzzles are not on this machine"
    return puzzles, f"{puzzles.source}, since the run's own puzzles are not on this machine"


@dataclass(eq=False)
class DetailCache:
    """The response of /v1/models/NAME. Puzzles are loaded and halting is measured once, on the first request."""

    served: Served
    halting: list[schema.Halted] = field(default_factory=list)
    _puzzles_task: asyncio.Task[Any] | None = None
    _measuring_task: asyncio.Task[None] | None = None
    _start_task: asyncio.Task[int] | None = None

    async def detail(self) -> schema.Detail:
        if self._puzzles_task is None:
            self._puzzles_task = asyncio.create_task(
                asyncio.to_thread(held_out_puzzles, self.served.opened, MAX_MEASURED)
            )
        puzzles, source = await asyncio.shield(self._puzzles_task)
        if self._start_task is None:
            self._start_task = asyncio.create_task(self._find_start(puzzles))
        await asyncio.wait([self._start_task], timeout=START_SECONDS)
        if self._measuring_task is None and puzzles is not None and self.served.can_halt:
            self._measuring_task = asyncio.create_task(self._measure(puzzles))
        measuring = self._measuring_task is not None and not self._measuring_task.done()
        return await asyncio.to_thread(self._detail, puzzles, source, list(self.halting), measuring)

    def _detail(self, puzzles: Any, source: str, halting: list[schema.Halted], measuring: bool) -> schema.Detail:
        opened, task = self.served.opened, self.served.task
        attached, reasons = described.read_objects(
            lambda name: read_attached(opened, f"{name}.json", checked=False), ("eval", "study", "run")
        )
        curves = described.curves_json(attached["eval"], attached["study"], self.served.solver, reasons)
        rows, found = example_rows(task, puzzles), self._start_task
        known = found is not None and found.done() and not found.cancelled() and found.exception() is None
        left_out = {"left out": "; ".join(reasons)} if reasons else {}
        return schema.Detail(
            **model_info(self.served).model_dump(),
            examples=[schema.Example(**described.example_json(task, puzzles, i)) for i in rows],
            start=found.result() if known and found is not None else len(rows) // 2,
            difficulty=described.difficulty(task, puzzles),
            source=source,
            curves=schema.Curves(halting=halting, **curves),  # type: ignore[arg-type]
            measuring=measuring,
            born=described.object_at(attached["run"], "born") | left_out,
        )

    async def _find_start(self, puzzles: Any) -> int:
        """Index of the solved example that took the most steps; the last one on ties."""
        served, shown = self.served, example_rows(self.served.task, puzzles)
        rows = [i for i in shown if puzzles.puzzle[i] < served.identifiers]
        pick = "verified" if "verified" in served.rules else "certainty"
        depth = min(MAX_DEPTH, served.limits.depth)
        options = SolveOptions(depth, 1, pick, halting=served.can_halt, min_confidence=0.0)
        jobs = [PuzzleJob(served.solver, puzzles.inputs[i], options, int(puzzles.puzzle[i])) for i in rows]
        best, most = 0, 0
        for i, solution in zip(rows, await self._solutions(jobs) if jobs else (), strict=False):
            if solution is None or solution.steps < most:
                continue
            if served.solver.is_right(puzzles.inputs[i], puzzles.labels[i], solution.answer[None])[0]:
                best, most = shown.index(i), solution.steps
        return best

    async def _measure(self, puzzles: Any) -> None:
        """Measure where every puzzle halts, a few at a time and at the lowest priority, while the model is served."""
        served = self.served
        options = SolveOptions(min(MAX_DEPTH, served.limits.depth), 1, "certainty", halting=True, min_confidence=0.0)
        known = np.flatnonzero(puzzles.puzzle < served.identifiers)
        for first in range(0, len(known), CHUNK):
            rows = known[first : first + CHUNK]
            puzzle_jobs = [PuzzleJob(served.solver, puzzles.inputs[i], options, int(puzzles.puzzle[i])) for i in rows]
            for i, solution in zip(rows, await self._solutions(puzzle_jobs), strict=False):
                if solution is not None and solution.steps:
                    right = served.solver.is_right(puzzles.inputs[i], puzzles.labels[i], solution.answer[None])[0]
                    self.halting.append(
                        schema.Halted(**described.halting_point(solution.steps, puzzles.rating[i], right))
                    )

    async def _solutions(self, puzzle_jobs: list[PuzzleJob]) -> list[Any]:
        """The solutions of these puzzles; an empty list once the model was reloaded or the server shuts down."""
        done, complete = thread_safe_future()
        worker = self.served.worker
        work = Work(puzzle_jobs, self.served.engine_factory, complete, priority=BACKGROUND_PRIORITY)
        while worker.current is self.served.engine_factory:
            try:
                worker.submit(work)
                await done
                return list(work.solutions)
            except QueueFull:
                await asyncio.sleep(1)
            except WorkerClosed:
                break
        return []


def example_rows(task: Any, puzzles: Any) -> list[int]:
    """Up to MAX_EXAMPLES row indices, spread evenly over the rating; those rated alike by how much of them is empty."""
    if puzzles is None:
        return []
    empty = (puzzles.inputs == task.blank).sum(1)
    order = np.lexsort((empty, puzzles.rating))
    positions = np.unique(np.linspace(0, len(order) - 1, MAX_EXAMPLES).round().astype(int))
    return [int(i) for i in order[positions]]
