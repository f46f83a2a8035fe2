"""Work of the worker thread: the puzzles of one request, and the queue of trajectories of each engine.

A Work holds the puzzles of one HTTP request, all with the same options. Queueing is fair: a request of few puzzles
overtakes the tail of one of many, and none starves. Further trajectories of a puzzle whose first ones failed
(PuzzleJob.start_wave) wait behind what is left of their request.
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

__all__ = [
    "EngineFactory",
    "EngineQueue",
    "OpenPuzzle",
    "QueueKey",
    "Work",
    "clear_results",
    "queue_key",
    "record_done",
]


@dataclass(eq=False)
class EngineFactory:
    """Makes engines of one set of weights, for given options. on_step(steps, rows) is called after each step."""

    engine: Callable[[SolveOptions], Engine]
    on_step: Callable[[int, int], None] = lambda steps, rows: None


class QueueKey(NamedTuple):
    """What identifies an engine: weights and the options that it depends on."""

    engine_factory: EngineFactory
    engine_key: EngineKey


def queue_key(factory: EngineFactory, options: SolveOptions) -> QueueKey:
    """The key of the engine that these options need."""
    return QueueKey(factory, options.engine_key)


@dataclass(eq=False)
class Work:
    """The puzzles of one request, all with the same options, and their solutions.

    on_done    called once, in the worker's thread, when all are solved or `error` is set; not after a cancellation
    deadline   time.monotonic(); what is unsolved by then gets its best answer so far
    max_steps  over all trajectories together
    """

    puzzles: list[PuzzleJob]
    engine_factory: EngineFactory
    on_done: Callable[[], None]
    deadline: float = math.inf
    priority: float = 0.0
    max_steps: float = math.inf
    solutions: list[Solution | None] = field(default_factory=list)
    error: BaseException | None = None
    unsolved: int = 0  # puzzles without a solution yet
    steps_taken: int = 0  # steps so far
    engine_queue: EngineQueue | None = None

    def __post_init__(self) -> None:
        self.unsolved, self.solutions = len(self.puzzles), [None] * len(self.puzzles)

    @property
    def key(self) -> QueueKey:
        return queue_key(self.engine_factory, self.puzzles[0].options)

    @property
    def trajectories(self) -> int:
        return sum(puzzle_job.options.width for puzzle_job in self.puzzles)


class OpenPuzzle(NamedTuple):
    """An unsolved puzzle: its job, its request, and its index there."""

    puzzle_job: PuzzleJob
    work: Work
    position: int


class EngineQueue:
    """An engine, and the trajectories that wait for it."""

    def __init__(self, engine: Engine, on_step: Callable[[int, int], None]) -> None:
        self.engine, self.on_step = engine, on_step
        # Heap of (-priority, rank, arrival, trajectory, puzzle).
        self.waiting_trajectories: list[tuple[float, float, int, int, OpenPuzzle]] = []
        self.clock = 0.0  # rank of the trajectory that was submitted last
        self.last_used = 0.0  # time.monotonic() of its last step

    def add(self, puzzles: Sequence[OpenPuzzle], arrivals: Iterator[int]) -> None:
        """Queue puzzles of one request: first trajectories of all puzzles first."""
        for i, entry in enumerate(puzzles):
            self._queue(entry, i, len(puzzles), arrivals)

    def add_next_wave(self, entry: OpenPuzzle, arrivals: Iterator[int]) -> None:
        """Queue the next trajectories of a puzzle whose earlier ones failed, if there are any."""
        self._queue(entry, entry.work.unsolved, entry.work.unsolved, arrivals)

    def _queue(self, entry: OpenPuzzle, start: int, stride: int, arrivals: Iterator[int]) -> None:
        for j, k in enumerate(entry.puzzle_job.start_wave()):
            rank = self.clock + start + j * stride
            heapq.heappush(self.waiting_trajectories, (-entry.work.priority, rank, next(arrivals), k, entry))

    def fill(self, is_open: Callable[[PuzzleJob], bool]) -> None:
        """Submit waiting trajectories to the engine until its rows are full."""
        while self.waiting_trajectories and len(self.engine) < self.engine.rows:
            _, rank, _, k, entry = heapq.heappop(self.waiting_trajectories)
            if is_open(entry.puzzle_job) and k in entry.puzzle_job.pending:
                # While small requests keep coming, a wide one gets at least one trajectory per refill of the batch.
                self.clock = max(self.clock + 1 / self.engine.rows, rank)
                self.engine.submit(entry.puzzle_job.make_job(k))

    def sweep(self, is_open: Callable[[PuzzleJob], bool]) -> None:
        """Drop waiting trajectories of puzzles that are solved."""
        self.waiting_trajectories = [t for t in self.waiting_trajectories if is_open(t[4].puzzle_job)]
        heapq.heapify(self.waiting_trajectories)

    @property
    def is_busy(self) -> bool:
        return bool(self.waiting_trajectories) or len(self.engine) > 0


def record_done(done: Done) -> None:
    """Record a finished trajectory at its puzzle, without the state, which is most of its memory and no longer read."""
    output = None if done.result is None else done.result._replace(state=None)
    done.job.owner[0].record_done(done._replace(result=output))


def clear_results(puzzle_job: PuzzleJob) -> None:
    """Break the reference cycle between a puzzle and its jobs, so that memory is freed at once and not by the gc."""
    puzzle_job.jobs.clear()
    puzzle_job.done.clear()
