"""Served models by name: loading and reloading runs, the server's limits, and validation of requests."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.files import check_regular
from innerloop.noise import has_key
from innerloop.runs.origin import MAX_NAMES_SEARCHED
from innerloop.runs.single import names_of
from innerloop.runs.solving import solver_of
from innerloop.serve import schema
from innerloop.serve.fallback import Fallback
from innerloop.serve.work import EngineFactory, Work
from innerloop.serve.worker import Worker, WorkerClosed
from innerloop.show import replay
from innerloop.solve.engine import Engine, QueueFull
from innerloop.solve.hybrid import has_exact, need_exact
from innerloop.solve.job import PuzzleJob
from innerloop.solve.options import Solution, SolveOptions
from innerloop.solve.solver import Solver
from innerloop.text import did_you_mean, printable

__all__ = ["Limits", "ModelNotFound", "QueueFull", "Registry", "RequestTooLarge", "Served", "WorkerClosed"]


class ModelNotFound(InputError):
    """No model of that name is served."""


class RequestTooLarge(InputError):
    """A request with more puzzles or trajectories than this server accepts."""


@dataclass(frozen=True)
class Limits:
    """The server's limits; each is checked when a request arrives."""

    depth: int = 1024  # steps of a trajectory
    width: int = 128  # trajectories of a puzzle
    puzzles: int = 1000  # of a request
    seconds: float = 30.0  # of a request
    queue: int = 20_000  # trajectories that wait or run, of a model
    streams: int = 16  # open at once
    stream_steps: int = 4096  # depth x width of a stream
    body: int = 4 << 20  # bytes of a request
    rows: int = 64  # trajectories stepped at once
    connections: int = 512  # open at once

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 or not math.isfinite(value):
                raise InputError(f"the limit of {name} is {value}, which allows nothing: give 1 or more")


@dataclass(eq=False)
class Served:
    """One loaded model."""

    name: str
    source: str  # what it was opened from
    opened: Any  # runs.run.Opened
    solver: Solver
    engine_factory: EngineFactory
    worker: Worker  # shared by all reloads of this model
    limits: Limits
    rules: list[str]  # selection rules that work with this model
    can_halt: bool  # the loop's halting rule works
    stochastic: bool  # its own noise makes trajectories differ
    loaded: str  # ISO time
    about: Any = None  # about.DetailCache, made by the first request

    @property
    def task(self) -> Any:
        return self.opened.task

    @property
    def exact(self) -> bool:
        return has_exact(self.task)

    @property
    def identifiers(self) -> int:
        """Number of puzzle identifiers it was trained on, 0 included."""
        config = getattr(self.opened.run.config, "net", None)
        return int(config.puzzles) if config is not None and config.puzzle_emb_size else 1

    @cached_property
    def identifier_names(self) -> tuple[str, ...]:
        """Names of the puzzle identifiers, by number; empty if the run has none."""
        return names_of(self.opened)

    def identifier_number(self, identifier: int | str) -> int:
        """The number of a puzzle identifier, given by name or number. Raises InputError for one that is not known."""
        if isinstance(identifier, int):
            if identifier >= self.identifiers:
                raise InputError(
                    f"identifier {identifier} is not one that this model was trained on: "
                    f"it has 0 to {self.identifiers - 1}"
                )
            return identifier
        if identifier not in self.identifier_names:
            searchable = 1 < len(self.identifier_names) <= MAX_NAMES_SEARCHED
            hint = (
                did_you_mean(identifier, self.identifier_names[1:])
                if searchable
                else f"it has {len(self.identifier_names)} names"
            )
            raise InputError(
                f'identifier "{printable(identifier, 80)}" is not one that this model was trained on: {hint}'
            )
        return self.identifier_names.index(identifier)

    # -- validation ---------------------------------------------------------------------------------------------------
    def tokens(self, texts: Sequence[str]) -> Tokens:
        """(N, S) of N puzzles. Raises InputError for what is not written in the task's symbols."""
        limit = 4 * math.prod(self.task.shape)  # leaves room for line breaks
        if any(len(text) > limit for text in texts):
            longest = max(map(len, texts))
            raise InputError(
                f"a puzzle of {longest} symbols is too long: this model's have {math.prod(self.task.shape)}"
            )
        for i, text in enumerate(texts, 1):
            if problem := board_problem(self.task, text):
                raise InputError(problem if len(texts) == 1 else f"board {i}: {problem}")
        return self.solver.questions(list(texts))[0]

    def solve_options(self, body: schema.Options) -> SolveOptions:
        """The SolveOptions of a request. Raises InputError for options that this server or model does not support."""
        limits = self.limits
        for name, value, limit in (("depth", body.depth, limits.depth), ("width", body.width, limits.width)):
            if value > limit:
                raise InputError(f"{name} {value} is more than this server allows: give at most {limit}")
        if body.seconds is not None and body.seconds > limits.seconds:
            raise InputError(
                f"seconds {body.seconds:g} is more than this server allows: give at most {limits.seconds:g}"
            )
        self.identifier_number(body.identifier)
        if body.exact:
            need_exact(self.task)
        pick: str = body.pick
        if pick == "auto" and self.solver.verify is None and not self.solver.calibrations:
            pick = "q" if "q" in self.rules else "vote"  # the solution names the rule, and has no confidence
        if pick not in ("auto", *self.rules):
            raise InputError(
                f'this model has no selection rule "{printable(pick, 40)}": use one of {", ".join(self.rules)}, or auto'
            )
        options = self.solver.resolve(
            SolveOptions(
                body.depth, body.width, pick, (body.noise[0], body.noise[1]),
                views=body.views, guess=body.guess, halting=body.halting, min_confidence=body.min_confidence,
                seed=body.seed,
            )
        )  # fmt: skip
        if options.halting and not self.can_halt:
            raise InputError("this model has no halting rule: leave out `halting`, and give a depth")
        return options

    def make_work(
        self, texts: Sequence[str], body: schema.Options, nfe: float | None, on_done: Callable[[], None]
    ) -> Work:
        """The Work for the worker. Raises RequestTooLarge, or InputError for invalid puzzles or options."""
        if len(texts) > self.limits.puzzles:
            raise RequestTooLarge(
                f"{len(texts)} puzzles are more than this server takes at once: {self.limits.puzzles}"
            )
        if len(texts) * body.width > self.limits.queue:
            raise RequestTooLarge(
                f"{len(texts)} puzzles of width {body.width} are more trajectories than this server's queue holds, "
                f"{self.limits.queue}: give a smaller width, or fewer puzzles at once"
            )
        options = self.solve_options(body)
        solver = self.solver
        views = solver.views(options)
        puzzle_jobs = [
            PuzzleJob(solver, q, options, self.identifier_number(body.identifier), views) for q in self.tokens(texts)
        ]
        return Work(
            puzzle_jobs,
            self.engine_factory,
            on_done,
            deadline=time.monotonic() + (body.seconds or self.limits.seconds),
            priority=body.priority,
            max_steps=nfe * len(puzzle_jobs) / solver.nfe_per_step if nfe else math.inf,
        )

    def solution_body(self, solution: Solution, question: Tokens) -> schema.SolutionBody:
        """A Solution as the response body."""
        return schema.SolutionBody(**replay.solution_json(self.task, question, solution))


def board_problem(task: Any, text: str) -> str:
    """What keeps a text from being a board of this task, in a sentence about the board; empty where nothing does."""
    if getattr(task, "words", ()):  # cells of several characters: the task reads them
        return ""
    cells = text.replace("\r", "").replace("\n", "")
    (rows, columns), known = task.shape, {*task.charset, *task.aliases, task.pad_symbol}
    size, found = rows * columns, len(cells)
    if not known.issuperset(cells):
        i = next(i for i, symbol in enumerate(cells) if symbol not in known)
        where = f"row {i // columns + 1}, column {i % columns + 1}"
        return f"“{printable(cells[i])}” in {where} is none of {printable(task.charset, 300)}"
    if found == size:
        return ""
    off = f"{size - found} missing" if found < size else f"{found - size} too many"
    return f"{found} of {size} cells: {off}"


# -- loading ----------------------------------------------------------------------------------------------------------


def load_model(
    name: str, source: str, opener: Callable[[str], Any], limits: Limits, on_step: Callable[[int], Any], worker: Worker
) -> Served:
    """Open a run to serve.

    on_step  called with the block calls (NFE) of a step; returns the callback of the engines for each step
    """
    source_path = Path(source)
    for path in [source_path, *(source_path.glob("*") if source_path.is_dir() else ())]:
        if path.exists() and not path.is_dir():
            check_regular(path)  # opening a pipe would block this thread, and the shutdown, for ever
    opened = opener(source)
    solver = solver_of(opened, rows=limits.rows)
    _ = solver.float32_loop  # made before the first request

    def engine(options: SolveOptions) -> Engine:
        return solver.engine(options, sizes=batch_sizes(limits.rows))

    stochastic = has_key(solver.probe[0])
    loaded = datetime.now(UTC).isoformat(timespec="seconds")
    factory = EngineFactory(engine, on_step(solver.nfe_per_step))
    return Served(
        name, source, opened, solver, factory, worker, limits, solver.rules, solver.can_halt, stochastic, loaded
    )


def batch_sizes(rows: int) -> list[int]:
    """The batch sizes that are run, four per power of two: 1 .. 8, 10, 12, 14, 16, 20 ... rows.

    Kernels are compiled and kept for every size that occurs: about 5 MB and 15 ms each on a CPU, so all of 64 sizes
    take more memory than most models. Padding a batch to the next of these sizes adds less than a quarter.
    """
    return [n for n in range(1, rows) if n % max(1, 2 ** (n.bit_length() - 3)) == 0] + [rows]


class Registry:
    """The models of a server by name, and the exact solver behind them.

    opener  opens a run: called as opener(source) -> runs.run.Opened
    on_step called as on_step(name, block calls of a step); returns the callback that a worker calls after each step
    """

    def __init__(
        self,
        opener: Callable[[str], Any],
        limits: Limits,
        on_step: Callable[[str, int], Any] = lambda name, calls: ignore_step,
    ) -> None:
        self.opener, self.limits, self.on_step = opener, limits, on_step
        self.served: dict[str, Served] = {}
        self.fallback = Fallback()
        self._workers: dict[str, Worker] = {}
        self._loading: dict[str, asyncio.Lock] = {}

    def add(self, run: str) -> Served:
        """Load RUN, or NAME=RUN; without a name the last part of the path, as a URL may have it. Raises InputError."""
        name, separator, source = run.partition("=")
        if not separator or Path(run).exists():
            last = Path(run).resolve().name.removesuffix(".safetensors")
            name, source = re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip("._-") or "model", run
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f'"{name}" cannot be the name of a model in a URL: give one, such as mine={source}')
        if name in self.served:
            raise InputError(
                f'two models would be called "{name}": give one of them another name, such as {name}2={source}'
            )
        self._workers[name], self._loading[name] = Worker(self.limits.queue, name), asyncio.Lock()
        return self._load(name, source)

    def get(self, name: str) -> Served:
        """The model of that name. Raises ModelNotFound."""
        if name not in self.served:
            raise ModelNotFound(f'no model is called "{name[:100]}": the models are {", ".join(self.served)}')
        return self.served[name]

    async def reload(self, name: str) -> Served:
        """Load a model's run again and serve it from now on; active requests finish on the old weights.

        Raises InputError where the run cannot be opened: the model that is served stays.
        """
        source = self.get(name).source
        async with self._loading[name]:
            return await asyncio.to_thread(self._load, name, source)

    def _load(self, name: str, source: str) -> Served:
        worker = self._workers[name]
        model = load_model(name, source, self.opener, self.limits, lambda calls: self.on_step(name, calls), worker)
        worker.use_weights(model.engine_factory)
        self.served[name] = model
        return model

    def workers(self) -> Iterable[tuple[str, Worker]]:
        return self._workers.items()

    def limit_deadlines(self, deadline: float = 0.0) -> None:
        """Cap all deadlines at `deadline` (time.monotonic()); by default everything ends at once."""
        self.fallback.limit_deadlines(deadline)
        for worker in self._workers.values():
            worker.limit_deadlines(deadline)

    def close(self) -> None:
        """Accept nothing more, answer everything at once, join the threads: torch must not outlive Python."""
        for worker in self._workers.values():
            worker.close()
        self.limit_deadlines()
        for worker in self._workers.values():
            worker.thread.join()


def ignore_step(steps: int, rows: int) -> None:
    """The default callback: counts nothing."""
