"""The worker thread of one model: it owns the model's engines and steps those that have work, round robin.

Puzzles that agree in weights, noise, noise seed and precision share an engine, and so a batch; every other combination
gets its own engine, reloaded weights too. At most 8 engines with noise exist at a time, and requests for another wait;
requests without noise never wait for an engine.
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
from innerloop.serve.orders import EngineFactory, EngineQueue, OpenPuzzle, QueueKey, Work, record_done, release
from innerloop.solve.engine import Job, QueueFull
from innerloop.solve.job import PuzzleJob

__all__ = ["QueueFull", "Worker", "WorkerClosed", "thread_safe_future"]

MAX_NOISY_ENGINES = 8  # engines with noise at once
MAX_IDLE_ENGINES = 4  # engines kept while they have nothing to do
PACE_WINDOW = 10.0  # seconds over which the pace is averaged
STEPPED_ENDS = ("verified", "halted", "depth")  # ends of jobs that took a step in the tick in which they ended

log = logging.getLogger("innerloop.serve")


class WorkerClosed(InputError):
    """The worker accepts no more work: the server is shutting down."""


def thread_safe_future() -> tuple[asyncio.Future[None], Callable[[], None]]:
    """(a future of the running event loop, a function that completes it from any thread)."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def ring() -> None:
        if not future.done():
            future.set_result(None)

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and with it the request
            loop.call_soon_threadsafe(ring)

    return future, tell


class Worker:
    """See the module docstring. `submit`, `cancel`, `keep`, `close`, `hurry` and `wait` may be called from any thread.

    queue    most trajectories that wait or run at once
    """

    def __init__(self, queue: int, name: str = "model") -> None:
        self.queue = queue
        self.current: EngineFactory | None = None  # engines of other weights are dropped once they are idle
        self.waiting = 0  # trajectories of open cases
        self.live = 0  # rows in the engines
        self._wake = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._closed = False
        self._latest_deadline = math.inf  # time.monotonic() at which all must be done
        self._open: dict[int, OpenPuzzle] = {}
        self._orders: dict[int, Work] = {}
        # Requests that have no engine yet: those without noise, those with.
        self._pending: tuple[list[tuple[float, int, Work]], ...] = ([], [])
        self._engine_queues: dict[QueueKey, EngineQueue] = {}
        self._arrivals = count()
        self._left = 0  # trajectories that left so far
        self._gone = self._busy = 0.0  # trajectories done and seconds of work, both with exponential decay
        self.thread = threading.Thread(target=self._run, name=f"innerloop-{name}", daemon=True)
        self.thread.start()

    # -- from any thread ----------------------------------------------------------------------------------------------
    def submit(self, order: Work) -> None:
        """Queue a request. Raises QueueFull where the queue has no room for it, Closed after `close`."""
        with self._wake:
            if self._closed:
                raise WorkerClosed("this model takes no more puzzles: the server is shutting down")
            if self.waiting + order.trajectories > self.queue:
                raise QueueFull(
                    f"{self.waiting} trajectories are under way and {self.queue} is the most: come again in a while"
                )
            self.waiting += order.trajectories
            self._inbox.append(lambda: self._take(order))
            self._wake.notify()

    def cancel(self, order: Work) -> None:
        """Drop what is left of a request; `ended` is not called."""
        self._tell(lambda: self._drop(order))

    def keep(self, factory: EngineFactory) -> None:
        """Use these weights from now on; requests under way finish on theirs."""
        self.current = factory
        self._tell(lambda: None)

    def close(self) -> None:
        """Accept nothing more; the thread ends when all accepted work is done."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def limit_deadlines(self, deadline: float = 0.0) -> None:
        """Cap all deadlines at `deadline` (time.monotonic()); by default everything ends at once."""

        def soon() -> None:
            self._latest_deadline = min(self._latest_deadline, deadline)
            for order in self._orders.values():
                order.deadline = min(order.deadline, deadline)

        self._tell(soon)

    def wait(self, trajectories: int, most: float) -> float:
        """Estimated seconds until so many trajectories fit the queue, at the measured pace; from 1 to `most`."""
        if not self._gone:
            return 1.0
        short = self.waiting + trajectories - self.queue
        return min(max(1.0, math.ceil(short * self._busy / self._gone)), max(1.0, most))

    def _tell(self, what: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(what)
            self._wake.notify()

    # -- in the thread ------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._orders or self._closed):
                    self._wake.wait()
                if self._closed and not (self._inbox or self._orders):
                    self._engine_queues.clear()  # frees the weights, even where the worker is still referenced
                    return
            began, before = time.monotonic(), self._left
            try:
                self._run_inbox()
                self._turn()
            except Exception as error:  # were the thread to die, all requests would wait for ever
                log.exception("a worker failed")
                self._engine_queues.clear()
                for order in list(self._orders.values()):
                    order.engine_queue = None
                    self._fail(order, error)
            seconds = time.monotonic() - began
            fade = math.exp(-seconds / PACE_WINDOW)
            self._gone, self._busy = self._gone * fade + self._left - before, self._busy * fade + seconds

    def _run_inbox(self) -> None:
        """Run the calls that other threads queued, in their order."""
        for _ in range(len(self._inbox)):
            self._inbox.popleft()()  # one that raises leaves the others for the next turn

    def _turn(self) -> None:
        """End requests past their deadline, assign engines, step every engine once."""
        now = time.monotonic()
        for order in [o for o in self._orders.values() if o.deadline <= now]:
            self._end(order)
        self._admit()
        for key, engine_queue in list(self._engine_queues.items()):
            if engine_queue.busy:
                try:
                    self._tick(engine_queue)
                except Exception as error:  # a failing engine fails its own requests, not the server
                    log.exception("an engine failed")
                    self._broken(key, error)
            elif key.engine_factory is not self.current and self.current is not None:
                del self._engine_queues[key]
        self.live = sum(len(engine_queue.engine.live) for engine_queue in self._engine_queues.values())

    def _admit(self) -> None:
        """Assign engines to pending requests in order: while one waits for an engine, so do those behind it."""
        for pending in self._pending:
            while pending:
                order = pending[0][2]
                if id(order) in self._orders:
                    try:
                        engine_queue = self._queue_for(order)
                    except Exception as error:
                        log.exception("an engine could not be made")
                        self._fail(order, error)
                        continue
                    if engine_queue is None:
                        break
                    order.engine_queue = engine_queue
                    engine_queue.add([self._open[id(case)] for case in order.puzzles], self._arrivals)
                heapq.heappop(pending)

    def _tick(self, engine_queue: EngineQueue) -> None:
        engine_queue.used = time.monotonic()
        engine_queue.feed(self._is_open)
        if not len(engine_queue.engine):
            return
        before = (engine_queue.engine.counters.steps, engine_queue.engine.counters.rows)
        ended = engine_queue.engine.tick()
        engine_queue.on_step(
            engine_queue.engine.counters.steps - before[0], engine_queue.engine.counters.rows - before[1]
        )
        for job in [*engine_queue.engine.live, *(d.job for d in ended if d.end in STEPPED_ENDS)]:
            if entry := self._open.get(id(job.owner[0])):
                entry.order.spent += 1
        for done in ended:  # all of them before any puzzle is settled: several of its trajectories may end at once
            record_done(done)
        for case in (done.job.owner[0] for done in ended):
            entry = self._open.get(id(case))
            if entry and case.finished:
                self._solve(entry)
            elif entry:
                engine_queue.more(entry, self._arrivals)
        for order in [o for o in self._orders.values() if o.engine_queue is engine_queue and o.spent >= o.steps]:
            self._end(order)
        if len(engine_queue.waiting_trajectories) > 2 * self.waiting + 64:
            engine_queue.sweep(self._is_open)

    def _is_open(self, case: PuzzleJob) -> bool:
        return id(case) in self._open

    def _take(self, order: Work) -> None:
        order.deadline = min(order.deadline, self._latest_deadline)
        self._orders[id(order)] = order
        for i, case in enumerate(order.puzzles):
            self._open[id(case)] = OpenPuzzle(case, order, i)
        heapq.heappush(self._pending[order.key.kind.noisy], (-order.priority, next(self._arrivals), order))

    def _queue_for(self, order: Work) -> EngineQueue | None:
        """The engine queue for a request; None while the limit of engines is in use."""
        key = order.key
        if key not in self._engine_queues:
            idle = sorted(
                (k for k, engine_queue in self._engine_queues.items() if not engine_queue.busy),
                key=lambda k: self._engine_queues[k].used,
            )
            for k in idle[: 1 - MAX_IDLE_ENGINES]:
                del self._engine_queues[k]
            if (
                key.kind.noisy
                and sum(k.kind.noisy and engine_queue.busy for k, engine_queue in self._engine_queues.items())
                >= MAX_NOISY_ENGINES
            ):
                return None
            self._engine_queues[key] = EngineQueue(
                order.engine_factory.engine(order.puzzles[0].options), order.engine_factory.on_step
            )
        return self._engine_queues[key]

    def _end(self, order: Work) -> None:
        """Settle all puzzles of a request with their best answers so far."""
        for case in order.puzzles:
            if entry := self._open.get(id(case)):
                self._solve(entry)

    def _solve(self, entry: OpenPuzzle) -> None:
        """Settle one puzzle: stop its running trajectories and choose among the results."""
        case, order, place = entry
        try:
            self._stop(order, [case])
            order.solutions[place] = case.solution()
        except Exception as error:
            log.exception("a case failed")
            order.error = error
        self._forget(entry)
        order.left -= 1
        if order.left == 0:
            del self._orders[id(order)]
            order.ended()

    def _stop(self, order: Work, cases: Sequence[PuzzleJob]) -> None:
        """Remove running trajectories of these puzzles from their engine, and record how far they came."""
        running: list[Job] = [job for case in cases for job in case.jobs if job.owner[1] not in case.done]
        if running and order.engine_queue is not None:
            for done in order.engine_queue.engine.cancel(running):
                record_done(done)

    def _forget(self, entry: OpenPuzzle) -> None:
        release(entry.case)
        del self._open[id(entry.case)]
        self._left += entry.case.options.width
        with self._wake:
            self.waiting -= entry.case.options.width

    def _drop(self, order: Work) -> None:
        if self._orders.pop(id(order), None) is None:
            return
        entries = [self._open[id(case)] for case in order.puzzles if self._is_open(case)]
        try:
            self._stop(order, [entry.case for entry in entries])
        finally:
            for entry in entries:
                self._forget(entry)

    def _broken(self, key: QueueKey, error: BaseException) -> None:
        """Fail the requests of an engine that raised, and drop the engine."""
        engine_queue = self._engine_queues.pop(key)
        for order in [o for o in self._orders.values() if o.engine_queue is engine_queue]:
            order.engine_queue = None
            self._fail(order, error)

    def _fail(self, order: Work, error: BaseException) -> None:
        order.error = error
        self._drop(order)
        order.ended()
