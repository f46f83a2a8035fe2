"""The worker thread of one model: it owns the model's engines and steps those that are not idle, round robin.

Puzzles that agree in weights, noise, noise seed and precision share an engine, and so a batch; every other combination
gets its own engine, reloaded weights too. At most 8 engines with noise are busy at a time, and requests for another
wait; requests without noise never wait for an engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from innerloop.errors import InputError
from innerloop.serve.work import EngineFactory, EngineQueue, OpenPuzzle, QueueKey, Work, clear_results, record_done
from innerloop.solve.engine import Job, QueueFull
from innerloop.solve.job import PuzzleJob

__all__ = ["QueueFull", "Worker", "WorkerClosed", "thread_safe_future"]

MAX_NOISY_ENGINES = 8  # engines with noise that are busy at once
MAX_IDLE_ENGINES = 4  # idle engines kept
RATE_WINDOW = 10.0  # seconds over which the throughput is averaged

log = logging.getLogger("innerloop.serve")


class WorkerClosed(InputError):
    """The worker accepts no more work: the server is shutting down."""


def thread_safe_future() -> tuple[asyncio.Future[None], Callable[[], None]]:
    """(a future of the running event loop, a function that completes it from any thread)."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def set_result() -> None:
        if not future.done():
            future.set_result(None)

    def complete() -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and with it the request
            loop.call_soon_threadsafe(set_result)

    return future, complete


class Worker:
    """See the module docstring. Public methods may be called from any thread.

    queue    most trajectories that wait or run at once
    """

    def __init__(self, queue: int, name: str = "model") -> None:
        self.queue = queue
        self.current: EngineFactory | None = None  # engines of other weights are dropped once they are idle
        self.in_flight = 0  # trajectories that wait or run
        self.live = 0  # rows in the engines
        self._wake = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._closed = False
        self._latest_deadline = math.inf  # time.monotonic() at which all must be done
        self._open: dict[int, OpenPuzzle] = {}
        self._active: dict[int, Work] = {}
        # Requests that have no engine yet: those without noise, those with.
        self._pending: tuple[list[tuple[float, int, Work]], ...] = ([], [])
        self._engine_queues: dict[QueueKey, EngineQueue] = {}
        self._arrivals = count()
        self._finished = 0  # trajectories finished so far
        # trajectories finished and seconds of work, both with exponential decay
        self._recent_finished = self._recent_seconds = 0.0
        self.thread = threading.Thread(target=self._run, name=f"innerloop-{name}", daemon=True)
        self.thread.start()

    # -- from any thread ----------------------------------------------------------------------------------------------
    def submit(self, work: Work) -> None:
        """Queue a request. Raises QueueFull where the queue has no room for it, WorkerClosed after `close`."""
        with self._wake:
            if self._closed:
                raise WorkerClosed("this model takes no more puzzles: the server is shutting down")
            if self.in_flight + work.trajectories > self.queue:
                raise QueueFull(
                    f"{self.in_flight} trajectories wait or run and {self.queue} is the limit: try again later"
                )
            self.in_flight += work.trajectories
            self._inbox.append(lambda: self._accept(work))
            self._wake.notify()

    def cancel(self, work: Work) -> None:
        """Drop what is left of a request; `on_done` is not called."""
        self._run_in_thread(lambda: self._remove(work))

    def use_weights(self, factory: EngineFactory) -> None:
        """Use these weights from now on; accepted requests finish on theirs."""
        self.current = factory
        self._run_in_thread(lambda: None)

    def close(self) -> None:
        """Accept nothing more; the thread ends when all accepted work is done."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def limit_deadlines(self, deadline: float = 0.0) -> None:
        """Cap all deadlines at `deadline` (time.monotonic()); by default everything ends at once."""

        def lower() -> None:
            self._latest_deadline = min(self._latest_deadline, deadline)
            for work in self._active.values():
                work.deadline = min(work.deadline, deadline)

        self._run_in_thread(lower)

    def retry_after(self, trajectories: int, limit: float) -> float:
        """Estimated seconds until so many trajectories fit the queue, at the measured throughput; from 1 to `limit`."""
        if not self._recent_finished:
            return 1.0
        excess = self.in_flight + trajectories - self.queue
        return min(max(1.0, math.ceil(excess * self._recent_seconds / self._recent_finished)), max(1.0, limit))

    def _run_in_thread(self, call: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(call)
            self._wake.notify()

    # -- in the thread ------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._active or self._closed):
                    self._wake.wait()
                if self._closed and not (self._inbox or self._active):
                    self._engine_queues.clear()  # frees the weights, even where the worker is still referenced
                    return
            began, before = time.monotonic(), self._finished
            try:
                self._run_inbox()
                self._run_once()
            except Exception as error:  # if the thread ended, all requests would wait for ever
                log.exception("a worker failed")
                self._engine_queues.clear()
                for work in list(self._active.values()):
                    work.engine_queue = None
                    self._fail(work, error)
            seconds = time.monotonic() - began
            decay = math.exp(-seconds / RATE_WINDOW)
            self._recent_finished = self._recent_finished * decay + self._finished - before
            self._recent_seconds = self._recent_seconds * decay + seconds

    def _run_inbox(self) -> None:
        """Run the calls that other threads queued, in their order."""
        for _ in range(len(self._inbox)):
            self._inbox.popleft()()  # one that raises leaves the others for the next call

    def _run_once(self) -> None:
        """End requests past their deadline, assign engines, step every engine once."""
        now = time.monotonic()
        for work in [w for w in self._active.values() if w.deadline <= now]:
            self._finish_all(work)
        self._admit()
        for key, engine_queue in list(self._engine_queues.items()):
            if engine_queue.is_busy:
                try:
                    self._tick(engine_queue)
                except Exception as error:  # a failing engine fails its own requests, not the server
                    log.exception("an engine failed")
                    self._drop_engine(key, error)
            elif key.engine_factory is not self.current and self.current is not None:
                del self._engine_queues[key]
        self.live = sum(len(engine_queue.engine.live) for engine_queue in self._engine_queues.values())

    def _admit(self) -> None:
        """Assign engines to pending requests in order: while one waits for an engine, so do those behind it."""
        for pending in self._pending:
            while pending:
                work = pending[0][2]
                if id(work) in self._active:
                    try:
                        engine_queue = self._queue_for(work)
                    except Exception as error:
                        log.exception("an engine could not be made")
                        self._fail(work, error)
                        continue
                    if engine_queue is None:
                        break
                    work.engine_queue = engine_queue
                    engine_queue.add([self._open[id(puzzle_job)] for puzzle_job in work.puzzles], self._arrivals)
                heapq.heappop(pending)

    def _tick(self, engine_queue: EngineQueue) -> None:
        engine_queue.last_used = time.monotonic()
        engine_queue.fill(self._is_open)
        if not len(engine_queue.engine):
            return
        before = (engine_queue.engine.counters.steps, engine_queue.engine.counters.rows)
        ended = engine_queue.engine.tick()
        engine_queue.on_step(
            engine_queue.engine.counters.steps - before[0], engine_queue.engine.counters.rows - before[1]
        )
        for job in [*engine_queue.engine.live, *(d.job for d in ended if d.stepped)]:
            if entry := self._open.get(id(job.owner[0])):
                entry.work.steps_taken += 1
        for done in ended:  # all of them before any puzzle is finished: several of its trajectories may end at once
            record_done(done)
        for puzzle_job in (done.job.owner[0] for done in ended):
            entry = self._open.get(id(puzzle_job))
            if entry and puzzle_job.finished:
                self._finish(entry)
            elif entry:
                engine_queue.add_next_wave(entry, self._arrivals)
        here = [w for w in self._active.values() if w.engine_queue is engine_queue]
        for work in [w for w in here if w.steps_taken >= w.max_steps]:
            self._finish_all(work)
        if len(engine_queue.waiting_trajectories) > 2 * self.in_flight + 64:
            engine_queue.sweep(self._is_open)

    def _is_open(self, puzzle_job: PuzzleJob) -> bool:
        return id(puzzle_job) in self._open

    def _accept(self, work: Work) -> None:
        work.deadline = min(work.deadline, self._latest_deadline)
        self._active[id(work)] = work
        for i, puzzle_job in enumerate(work.puzzles):
            self._open[id(puzzle_job)] = OpenPuzzle(puzzle_job, work, i)
        heapq.heappush(self._pending[work.key.engine_key.noisy], (-work.priority, next(self._arrivals), work))

    def _queue_for(self, work: Work) -> EngineQueue | None:
        """The engine queue for a request; None while as many engines with noise are busy as may be."""
        key, found = work.key, self._engine_queues.get(work.key)
        noisy = [q for k, q in self._engine_queues.items() if k.engine_key.noisy and q.is_busy and q is not found]
        if key.engine_key.noisy and not (found and found.is_busy) and len(noisy) >= MAX_NOISY_ENGINES:
            return None
        if found is None:
            idle = sorted(
                (k for k, engine_queue in self._engine_queues.items() if not engine_queue.is_busy),
                key=lambda k: self._engine_queues[k].last_used,
            )
            for k in idle[: 1 - MAX_IDLE_ENGINES]:
                del self._engine_queues[k]
            self._engine_queues[key] = EngineQueue(
                work.engine_factory.engine(work.puzzles[0].options), work.engine_factory.on_step
            )
        return self._engine_queues[key]

    def _finish_all(self, work: Work) -> None:
        """Finish all puzzles of a request with their best answers so far."""
        for puzzle_job in work.puzzles:
            if entry := self._open.get(id(puzzle_job)):
                self._finish(entry)

    def _finish(self, entry: OpenPuzzle) -> None:
        """Finish one puzzle: stop its running trajectories and choose among the results."""
        puzzle_job, work, position = entry
        try:
            self._stop(work, [puzzle_job])
            work.solutions[position] = puzzle_job.solution()
        except Exception as error:
            log.exception("a puzzle failed")
            work.error = error
        self._forget(entry)
        work.unsolved -= 1
        if work.unsolved == 0:
            del self._active[id(work)]
            work.on_done()

    def _stop(self, work: Work, puzzle_jobs: Sequence[PuzzleJob]) -> None:
        """Remove running trajectories of these puzzles from their engine, and record their results so far."""
        running: list[Job] = [
            job for puzzle_job in puzzle_jobs for job in puzzle_job.jobs if job.owner[1] not in puzzle_job.done
        ]
        if running and work.engine_queue is not None:
            for done in work.engine_queue.engine.cancel(running):
                record_done(done)

    def _forget(self, entry: OpenPuzzle) -> None:
        clear_results(entry.puzzle_job)
        del self._open[id(entry.puzzle_job)]
        self._finished += entry.puzzle_job.options.width
        with self._wake:
            self.in_flight -= entry.puzzle_job.options.width

    def _remove(self, work: Work) -> None:
        if self._active.pop(id(work), None) is None:
            return
        entries = [self._open[id(puzzle_job)] for puzzle_job in work.puzzles if self._is_open(puzzle_job)]
        try:
            self._stop(work, [entry.puzzle_job for entry in entries])
        finally:
            for entry in entries:
                self._forget(entry)

    def _drop_engine(self, key: QueueKey, error: BaseException) -> None:
        """Fail the requests of an engine that raised, and drop the engine."""
        engine_queue = self._engine_queues.pop(key)
        for work in [w for w in self._active.values() if w.engine_queue is engine_queue]:
            work.engine_queue = None
            self._fail(work, error)

    def _fail(self, work: Work, error: BaseException) -> None:
        work.error = error
        self._remove(work)
        work.on_done()
