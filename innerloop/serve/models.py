"""What is served: loaded models by name, each with its door, its thread, and a successor when its run was reloaded."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.errors import InputError
from innerloop.files import check_regular
from innerloop.learn.evaluate import own_rule
from innerloop.noise import keyed
from innerloop.runs.solving import solver_of
from innerloop.serve import schema
from innerloop.serve.fallback import Fallback
from innerloop.serve.orders import Maker, Order
from innerloop.serve.worker import Closed, Worker
from innerloop.show import replay
from innerloop.solve.choose import RULES
from innerloop.solve.engine import Engine, Full
from innerloop.solve.hybrid import has_exact, need_exact
from innerloop.solve.job import PuzzleJob
from innerloop.solve.options import Solution, SolveOptions
from innerloop.solve.solver import Solver
from innerloop.text import printable

__all__ = ["Closed", "Full", "Limits", "NoModel", "Registry", "Served", "TooLarge"]


class NoModel(InputError):
    """No model of that name is served."""


class TooLarge(InputError):
    """More than this server takes in one request."""


@dataclass(frozen=True)
class Limits:
    """What the server allows at most; each is checked at the door."""

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
    maker: Maker  # of its engines
    worker: Worker  # shared with those that it replaced and that will replace it
    limits: Limits
    rules: list[str]  # that it can pick by
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

    # -- the door -----------------------------------------------------------------------------------------------------
    def tokens(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        """(N, S) of N puzzles. Raises InputError for what is not written in the task's symbols."""
        most = 4 * math.prod(self.task.shape)  # line breaks included, and generously
        if any(len(text) > most for text in texts):
            longest = max(map(len, texts))
            raise InputError(
                f"a puzzle of {longest} symbols is too long: this model's have {math.prod(self.task.shape)}"
            )
        return self.solver.questions(list(texts))[0]

    def settle(self, asked: schema.Dials) -> SolveOptions:
        """The dials that were asked for. Raises InputError for what this server or this model cannot do."""
        limits = self.limits
        for name, value, most in (("depth", asked.depth, limits.depth), ("width", asked.width, limits.width)):
            if value > most:
                raise InputError(f"{name} {value} is more than this server allows: give at most {most}")
        if asked.seconds is not None and asked.seconds > limits.seconds:
            raise InputError(
                f"seconds {asked.seconds:g} is more than this server allows: give at most {limits.seconds:g}"
            )
        if asked.identifier >= self.identifiers:
            raise InputError(
                f"identifier {asked.identifier} is none that this model learned: it has 0 to {self.identifiers - 1}"
            )
        if asked.exact:
            need_exact(self.task)
        pick: str = asked.pick
        if pick == "auto" and self.solver.verify is None and not self.solver.trusts:
            pick = "q" if "q" in self.rules else "vote"  # the answer says so, and has no confidence
        if pick not in ("auto", *self.rules):
            raise InputError(
                f'this model cannot pick by "{printable(pick, 40)}": it can pick by {", ".join(self.rules)}, or auto'
            )
        d = self.solver.settled(
            SolveOptions(
                asked.depth, asked.width, pick, (asked.noise[0], asked.noise[1]),
                views=asked.views, halting=asked.halting, least=asked.least, seed=asked.seed,
            )
        )  # fmt: skip
        if d.halting and not self.stops:
            raise InputError("this model has no halting rule of its own: leave halting out, and give a depth")
        return d

    def order(self, texts: Sequence[str], asked: schema.Dials, nfe: float | None, ended: Callable[[], None]) -> Order:
        """Puzzles as the worker takes them. Raises TooLarge, or InputError for puzzles or dials that make no sense."""
        if len(texts) > self.limits.puzzles:
            raise TooLarge(f"{len(texts)} puzzles are more than this server takes at once: {self.limits.puzzles}")
        if len(texts) * asked.width > self.limits.queue:
            raise TooLarge(
                f"{len(texts)} puzzles of width {asked.width} are more trajectories than this server's queue holds, "
                f"{self.limits.queue}: ask for less width, or for fewer puzzles at once"
            )
        d = self.settle(asked)
        solver = self.solver
        views = solver.views(d)
        cases = [PuzzleJob(solver, q, d, asked.identifier, views) for q in self.tokens(texts)]
        return Order(
            cases,
            self.maker,
            ended,
            deadline=time.monotonic() + (asked.seconds or self.limits.seconds),
            priority=asked.priority,
            steps=nfe * len(cases) / solver.calls if nfe else math.inf,
        )

    def said(self, found: Solution, question: NDArray[np.uint8]) -> schema.SolutionBody:
        """A Solution as it is sent."""
        return schema.SolutionBody(**replay.solution(self.task, question, found))


# -- loading ----------------------------------------------------------------------------------------------------------


def load(
    name: str, source: str, opener: Callable[[str], Any], limits: Limits, ticked: Callable[[int], Any], worker: Worker
) -> Served:
    """Open a run, to think in the thread of `worker`; ticked(calls) gives what is told of its steps of `calls` NFE."""
    place = Path(source)
    for path in [place, *(place.glob("*") if place.is_dir() else ())]:
        if path.exists() and not path.is_dir():
            check_regular(path)  # a thread that opened a pipe would wait for ever, and with it the end of the server
    opened = opener(source)
    solver = solver_of(opened, rows=limits.rows)
    _ = solver.precise  # made before anybody asks

    def engine(d: SolveOptions) -> Engine:
        return solver.engine(d, sizes=sizes(limits.rows))

    rules, stops, varies = abilities(solver)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    maker = Maker(engine, ticked(solver.calls))
    return Served(name, source, opened, solver, maker, worker, limits, rules, stops, varies, at)


def sizes(rows: int) -> list[int]:
    """The batch sizes that are run, four an octave: 1 .. 8, 10, 12, 14, 16, 20 ... rows.

    Kernels are compiled for every size that is met, and kept: some 5 MB and 15 ms each on a CPU, and all of 64 sizes
    take more memory than most models. A batch that is padded to the next of these grows by less than a quarter.
    """
    return [n for n in range(1, rows) if n % max(1, 2 ** (n.bit_length() - 3)) == 0] + [rows]


@torch.no_grad()
def abilities(solver: Solver) -> tuple[list[str], bool, bool]:
    """(rules it can pick by, whether it stops by itself, whether its trajectories differ), found by trying a step."""
    first, question = solver.blank
    second = solver.loop.step(first, question)
    answer = solver.loop.read(second)
    try:
        own_rule(solver.loop)(solver.loop, first, second, torch.ones(1, dtype=torch.long, device=solver.device))
        stops = True
    except InputError:  # it has no halting head
        stops = False
    lacks = {"verified": solver.verify is None, "q": answer.q_halt is None, "value": answer.value is None}
    lacks["first"] = not stops
    return [rule for rule in RULES if not lacks.get(rule)], stops, keyed(first)


class Registry:
    """The models of a server by name, and the exact solver behind them.

    opener  opens a run: called as opener(source) -> runs.run.Opened
    ticked  called as ticked(name, block calls of a step); what it returns is a Worker's `ticked`
    """

    def __init__(
        self, opener: Callable[[str], Any], limits: Limits, ticked: Callable[[str, int], Any] = lambda name, calls: idle
    ) -> None:
        self.opener, self.limits, self.ticked = opener, limits, ticked
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
            raise NoModel(f'no model is called "{name[:100]}": there is {", ".join(self.served)}')
        return self.served[name]

    async def reload(self, name: str) -> Served:
        """Open a model's run anew and serve that from now on; what the old one has taken it finishes.

        Raises InputError where the run cannot be opened: the model that is served stays.
        """
        source = self.get(name).source
        async with self._loading[name]:
            return await asyncio.to_thread(self._load, name, source)

    def _load(self, name: str, source: str) -> Served:
        worker = self._workers[name]
        fresh = load(name, source, self.opener, self.limits, lambda calls: self.ticked(name, calls), worker)
        worker.keep(fresh.maker)
        self.served[name] = fresh
        return fresh

    def workers(self) -> Iterable[tuple[str, Worker]]:
        return self._workers.items()

    def hurry(self, deadline: float = 0.0) -> None:
        """Let nothing take longer than to this time.monotonic(); at once by default."""
        self.fallback.hurry(deadline)
        for worker in self._workers.values():
            worker.hurry(deadline)

    def end(self) -> None:
        """Take nothing more, answer what there is at once, and wait for the threads: torch must not outlive Python."""
        for worker in self._workers.values():
            worker.close()
        self.hurry()
        for worker in self._workers.values():
            worker.thread.join()


def idle(steps: int, rows: int) -> None:
    """Nobody counts."""
