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

import torch

from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.files import check_regular
from innerloop.learn.evaluate import default_halt
from innerloop.noise import has_key
from innerloop.runs.origin import MAX_NAMES_SEARCHED
from innerloop.runs.single import names_of
from innerloop.runs.solving import solver_of
from innerloop.serve import schema
from innerloop.serve.fallback import Fallback
from innerloop.serve.orders import EngineFactory, Work
from innerloop.serve.worker import Worker, WorkerClosed
from innerloop.show import replay
from innerloop.solve.choose import RULES
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
    """More than this server accepts in one request."""


@dataclass(frozen=True)
class Limits:
    """The server's limits; each is checked when a request arrives."""

    depth: int = 1024  # steps of a trajectory
    width: int = 128  # trajectories of a puzzle
    puzzles: int = 1000  # of a request
    seconds: float = 30.0  # of a request
    queue: int = 20_000  # trajectories that wait or run, of a model
    streams: int = 16  # open at once
    moments: int = 4096  # depth x width of a stream
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
    engine_factory: EngineFactory  # of its engines
    worker: Worker  # shared by all reloads of this model
    limits: Limits
    rules: list[str]  # selection rules that work with this model
    stops: bool  # it has a halting rule of its own
    varies: bool  # trajectories differ without noise and views
    loaded: str  # ISO time
    about: Any = None  # about.About, made when asked for

    @property
    def task(self) -> Any:
        return self.opened.task

    @property
    def exact(self) -> bool:
        return has_exact(self.task)

    @property
    def identifiers(self) -> int:
        """Puzzle identifiers it learned, 0 among them."""
        config = getattr(self.opened.run.config, "net", None)
        return int(config.puzzles) if config is not None and config.puzzle_emb_size else 1

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the puzzle identifiers, by number; empty where none were kept."""
        return names_of(self.opened)

    def number(self, identifier: int | str) -> int:
        """The number of a puzzle identifier that is given by name or number. Raises InputError for one not learned."""
        if isinstance(identifier, int):
            if identifier >= self.identifiers:
                raise InputError(
                    f"identifier {identifier} is none that this model learned: it has 0 to {self.identifiers - 1}"
                )
            return identifier
        if identifier not in self.names:
            few = 1 < len(self.names) <= MAX_NAMES_SEARCHED
            near = did_you_mean(identifier, self.names[1:]) if few else f"it has {len(self.names)} names"
            raise InputError(f'identifier "{printable(identifier, 80)}" is none that this model learned: {near}')
        return self.names.index(identifier)

    # -- validation ---------------------------------------------------------------------------------------------------
    def tokens(self, texts: Sequence[str]) -> Tokens:
        """(N, S) of N puzzles. Raises InputError for what is not written in the task's symbols."""
        most = 4 * math.prod(self.task.shape)  # line breaks included, and generously
        if any(len(text) > most for text in texts):
            longest = max(map(len, texts))
            raise InputError(
                f"a puzzle of {longest} symbols is too long: this model's have {math.prod(self.task.shape)}"
            )
        return self.solver.questions(list(texts))[0]

    def solve_options(self, body: schema.Options) -> SolveOptions:
        """The SolveOptions of a request. Raises InputError for what this server or this model cannot do."""
        limits = self.limits
        for name, value, most in (("depth", body.depth, limits.depth), ("width", body.width, limits.width)):
            if value > most:
                raise InputError(f"{name} {value} is more than this server allows: give at most {most}")
        if body.seconds is not None and body.seconds > limits.seconds:
            raise InputError(
                f"seconds {body.seconds:g} is more than this server allows: give at most {limits.seconds:g}"
            )
        self.number(body.identifier)
        if body.exact:
            need_exact(self.task)
        pick: str = body.pick
        if pick == "auto" and self.solver.verify is None and not self.solver.calibrations:
            pick = "q" if "q" in self.rules else "vote"  # the answer says so, and has no confidence
        if pick not in ("auto", *self.rules):
            raise InputError(
                f'this model cannot pick by "{printable(pick, 40)}": it can pick by {", ".join(self.rules)}, or auto'
            )
        options = self.solver.resolve(
            SolveOptions(
                body.depth, body.width, pick, (body.noise[0], body.noise[1]),
                views=body.views, halting=body.halting, least=body.least, seed=body.seed,
            )
        )  # fmt: skip
        if options.halting and not self.stops:
            raise InputError("this model has no halting rule of its own: leave halting out, and give a depth")
        return options

    def order(self, texts: Sequence[str], body: schema.Options, nfe: float | None, ended: Callable[[], None]) -> Work:
        """The work request for the worker. Raises TooLarge, or InputError for invalid puzzles or options."""
        if len(texts) > self.limits.puzzles:
            raise RequestTooLarge(
                f"{len(texts)} puzzles are more than this server takes at once: {self.limits.puzzles}"
            )
        if len(texts) * body.width > self.limits.queue:
            raise RequestTooLarge(
                f"{len(texts)} puzzles of width {body.width} are more trajectories than this server's queue holds, "
                f"{self.limits.queue}: ask for less width, or for fewer puzzles at once"
            )
        options = self.solve_options(body)
        solver = self.solver
        views = solver.views(options)
        cases = [PuzzleJob(solver, q, options, self.number(body.identifier), views) for q in self.tokens(texts)]
        return Work(
            cases,
            self.engine_factory,
            ended,
            deadline=time.monotonic() + (body.seconds or self.limits.seconds),
            priority=body.priority,
            steps=nfe * len(cases) / solver.calls if nfe else math.inf,
        )

    def said(self, found: Solution, question: Tokens) -> schema.SolutionBody:
        """A Solution as the response body."""
        return schema.SolutionBody(**replay.solution_json(self.task, question, found))


# -- loading ----------------------------------------------------------------------------------------------------------


def load_model(
    name: str, source: str, opener: Callable[[str], Any], limits: Limits, on_step: Callable[[int], Any], worker: Worker
) -> Served:
    """Open a run to be solved in the thread of `worker`. ticked(calls): makes the callback for steps of `calls` NFE."""
    place = Path(source)
    for path in [place, *(place.glob("*") if place.is_dir() else ())]:
        if path.exists() and not path.is_dir():
            check_regular(path)  # opening a pipe would block this thread, and the shutdown, for ever
    opened = opener(source)
    solver = solver_of(opened, rows=limits.rows)
    _ = solver.float32_loop  # made before the first request

    def engine(d: SolveOptions) -> Engine:
        return solver.engine(d, sizes=batch_sizes(limits.rows))

    rules, stops, varies = capabilities(solver)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    maker = EngineFactory(engine, on_step(solver.calls))
    return Served(name, source, opened, solver, maker, worker, limits, rules, stops, varies, at)


def batch_sizes(rows: int) -> list[int]:
    """The batch sizes that are run, four an octave: 1 .. 8, 10, 12, 14, 16, 20 ... rows.

    Kernels are compiled and kept for every size that occurs: about 5 MB and 15 ms each on a CPU, so all of 64 sizes
    take more memory than most models. Padding a batch to the next of these sizes adds less than a quarter.
    """
    return [n for n in range(1, rows) if n % max(1, 2 ** (n.bit_length() - 3)) == 0] + [rows]


@torch.no_grad()
def capabilities(solver: Solver) -> tuple[list[str], bool, bool]:
    """(rules it can pick by, whether it stops by itself, whether its trajectories differ), found by trying a step."""
    first, question = solver.blank
    second = solver.loop.step(first, question)
    answer = solver.loop.read(second)
    try:
        default_halt(solver.loop)(solver.loop, first, second, torch.ones(1, dtype=torch.long, device=solver.device))
        stops = True
    except InputError:  # it has no halting head
        stops = False
    lacks = {"verified": solver.verify is None, "q": answer.q_halt is None, "value": answer.value is None}
    lacks["first"] = not stops
    return [rule for rule in RULES if not lacks.get(rule)], stops, has_key(first)


class Registry:
    """The models of a server by name, and the exact solver behind them.

    opener  opens a run: called as opener(source) -> runs.run.Opened
    ticked  called as ticked(name, block calls of a step); returns the callback that a worker calls after each step
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

    def add(self, given: str) -> Served:
        """Load RUN, or NAME=RUN; without a name the last part of the path. Raises InputError."""
        name, sign, source = given.partition("=")
        if not sign or Path(given).exists():
            name, source = Path(given).resolve().name.removesuffix(".safetensors"), given
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f'"{name}" cannot be the name of a model in an address: give one, such as mine={source}')
        if name in self.served:
            raise InputError(f'two models would be called "{name}": give one another name, such as {name}2={source}')
        self._workers[name], self._loading[name] = Worker(self.limits.queue, name), asyncio.Lock()
        return self._load(name, source)

    def get(self, name: str) -> Served:
        """Raises NoModel."""
        if name not in self.served:
            raise ModelNotFound(f'no model is called "{name[:100]}": there is {", ".join(self.served)}')
        return self.served[name]

    async def reload(self, name: str) -> Served:
        """Load a model's run again and serve it from now on; requests under way finish on the old weights.

        Raises InputError where the run cannot be opened: the model that is served stays.
        """
        source = self.get(name).source
        async with self._loading[name]:
            return await asyncio.to_thread(self._load, name, source)

    def _load(self, name: str, source: str) -> Served:
        worker = self._workers[name]
        fresh = load_model(name, source, self.opener, self.limits, lambda calls: self.on_step(name, calls), worker)
        worker.keep(fresh.engine_factory)
        self.served[name] = fresh
        return fresh

    def workers(self) -> Iterable[tuple[str, Worker]]:
        return self._workers.items()

    def limit_deadlines(self, deadline: float = 0.0) -> None:
        """Cap all deadlines at `deadline` (time.monotonic()); by default everything ends at once."""
        self.fallback.limit_deadlines(deadline)
        for worker in self._workers.values():
            worker.limit_deadlines(deadline)

    def end(self) -> None:
        """Accept nothing more, answer everything at once, join the threads: torch must not outlive Python."""
        for worker in self._workers.values():
            worker.close()
        self.limit_deadlines()
        for worker in self._workers.values():
            worker.thread.join()


def ignore_step(steps: int, rows: int) -> None:
    """The default callback: counts nothing."""
