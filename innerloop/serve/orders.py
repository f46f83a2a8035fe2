"""What a worker is given to think about, and the lanes in which it does.

An order is a request's puzzles; a lane is an engine with the trajectories that wait for it. They are let in fairly: an
order of few puzzles overtakes the tail of one of many, yet everything comes to its turn. What follows when the first
trajectories of a puzzle have failed (Case.wave) waits behind what its order has left.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from innerloop.solve.engine import Done, Engine
from innerloop.solve.job import PuzzleJob
from innerloop.solve.options import EngineKey, Solution, SolveOptions

__all__ = ["Key", "Lane", "Maker", "Open", "Order", "key_of", "part", "take"]


@dataclass(eq=False)
class Maker:
    """Some weights: makes engines of them for dials, and is told ticked(steps, rows) after each step of these."""

    engine: Callable[[SolveOptions], Engine]
    ticked: Callable[[int, int], None] = lambda steps, rows: None


class Key(NamedTuple):
    """What an engine is made of."""

    maker: Maker
    kind: EngineKey


def key_of(maker: Maker, d: SolveOptions) -> Key:
    """The engine that these dials need."""
    return Key(maker, d.kind)


@dataclass(eq=False)
class Order:
    """What one request wants: its cases, all at the same dials.

    ended    called once in the worker's thread, when all are solved or `error` is set; not after a cancellation
    deadline of time.monotonic(); what is not solved by then comes with the best there is
    steps    that all trajectories together may take
    """

    cases: list[PuzzleJob]
    maker: Maker
    ended: Callable[[], None]
    deadline: float = math.inf
    priority: float = 0.0
    steps: float = math.inf
    solutions: list[Solution | None] = field(default_factory=list)
    error: BaseException | None = None
    left: int = 0  # cases that are not solved
    spent: int = 0  # steps so far
    lane: Lane | None = None

    def __post_init__(self) -> None:
        self.left, self.solutions = len(self.cases), [None] * len(self.cases)

    @property
    def key(self) -> Key:
        return key_of(self.maker, self.cases[0].dials)

    @property
    def trajectories(self) -> int:
        return sum(case.dials.width for case in self.cases)


class Open(NamedTuple):
    """A case that is not solved."""

    case: PuzzleJob
    order: Order
    place: int


class Lane:
    """An engine, and the trajectories that wait for it."""

    def __init__(self, engine: Engine, ticked: Callable[[int, int], None]) -> None:
        self.engine, self.ticked = engine, ticked
        self.tickets: list[tuple[float, float, int, int, Open]] = []  # (-priority, rank, arrival, trajectory, case)
        self.clock = 0.0  # rank of the ticket that was let in last
        self.used = 0.0  # time.monotonic() of its last work

    def add(self, opened: Sequence[Open], arrivals: Iterator[int]) -> None:
        """Let in cases of one order, first trajectories of all first."""
        for i, entry in enumerate(opened):
            self._queue(entry, i, len(opened), arrivals)

    def more(self, entry: Open, arrivals: Iterator[int]) -> None:
        """Let in the trajectories that follow those of a case that have failed, if it is time for any."""
        self._queue(entry, entry.order.left, entry.order.left, arrivals)

    def _queue(self, entry: Open, after: int, apart: int, arrivals: Iterator[int]) -> None:
        for j, k in enumerate(entry.case.wave()):
            rank = self.clock + after + j * apart
            heapq.heappush(self.tickets, (-entry.order.priority, rank, next(arrivals), k, entry))

    def feed(self, is_open: Callable[[PuzzleJob], bool]) -> None:
        """Submit as many as there are rows."""
        while self.tickets and len(self.engine) < self.engine.rows:
            _, rank, _, k, entry = heapq.heappop(self.tickets)
            if is_open(entry.case) and k in entry.case.pending:
                # While small orders keep coming, a wide one gets at least a trajectory for every refill of the batch.
                self.clock = max(self.clock + 1 / self.engine.rows, rank)
                self.engine.submit(entry.case.job(k))

    def sweep(self, is_open: Callable[[PuzzleJob], bool]) -> None:
        """Forget tickets of cases that were solved without them."""
        self.tickets = [t for t in self.tickets if is_open(t[4].case)]
        heapq.heapify(self.tickets)

    @property
    def busy(self) -> bool:
        return bool(self.tickets) or len(self.engine) > 0


def take(done: Done) -> None:
    """Give a case one of its trajectories without its state, which nobody looks at any more and which is most of it."""
    moment = None if done.moment is None else done.moment._replace(state=None)
    done.job.owner[0].took(done._replace(moment=moment))


def part(case: PuzzleJob) -> None:
    """Part a case from its jobs, which point back at it: it leaves at once, not when Python looks for cycles."""
    case.jobs.clear()
    case.done.clear()
