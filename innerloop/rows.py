"""Continuous batching of any loop over tensors: rows are at different steps, and a finished row is refilled at once.

A static batch waits for its slowest row. Here every tick is one step of all live rows; finished rows leave and queued
jobs take their place. The result of a job does not depend on the other rows of the batch.

    rows = Rows(loop, 64, reader, halt=confident(0.9))
    rows.submit(job) ...;   ended = rows.run()

A `Reader` holds what depends on the kind of question: it builds the batch of questions, ends rows by their answers, and
makes the results. solve/engine.py has one for puzzles.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from innerloop.core import Loop, refill
from innerloop.errors import InputError
from innerloop.halt import Halt, residual
from innerloop.ledger import charge_rows, counted_step
from innerloop.noise import salted
from innerloop.tree import concat, take

__all__ = ["CachedRead", "Counters", "Done", "Job", "QueueFull", "Reader", "Rows"]


WAITING = -1


class QueueFull(InputError):
    """The queue is full; submit again later."""


class Job(Protocol):
    """A job to run in one row; it may have more fields, for its reader."""

    depth: int  # most steps; may be lowered while it runs
    halting: bool  # stop by the halting rule
    wants_residual: bool  # compute the residual of every step
    salt: int  # trajectory number: salt of the noise key, for loops that draw noise
    priority: float  # higher goes first; ties in order of arrival
    deadline: float  # on the clock of time.monotonic(); the job then ends as "late"


class Reader(Protocol):
    """Turns jobs into questions and rows into results. It must keep no state of single rows."""

    def question(self, jobs: Sequence[Any], device: torch.device) -> Any:
        """The questions of these jobs as one batch: a tree of tensors."""

    def ended(self, rows: Rows, old: Any) -> dict[int, str]:
        """Called after each step from state `old`: {live row that ends by its answer: name of the end}.

        `rows.state` is the new state; `rows.loop.read` caches its result. `rows.reader_memory` is for this
        method's use: a tensor with one row for each row of the batch, set by the last call, or None.
        """

    def result(self, rows: Rows, which: Sequence[int]) -> list[Any]:
        """The results of these live rows; each has taken at least one step."""


class Done(NamedTuple):
    """A job that ended."""

    job: Any
    end: str  # "halted", "depth", "cancelled", "late", or a name that the reader gives
    result: Any  # the reader's result; None if it ended before its first step
    steps: int
    stepped: bool = False  # whether it took a step in the tick that ended it


@dataclass
class Counters:
    """Totals so far."""

    ticks: int = 0
    rows: int = 0  # rows stepped, padding included
    steps: int = 0  # steps of jobs
    ended: Counter[str] = field(default_factory=Counter)


class Rows:
    """Runs jobs through `loop`, at most `rows` at once, with at most `queue` waiting.

    halt    halting rule (innerloop.halt) for jobs with halting=True; it must decide per row and keep no state
    ahead   first states of so many queued jobs are made at once, before they have rows: for loops whose `init` is work,
            such as reading a prompt
    sizes   allowed batch sizes, ascending and ending at `rows`; a batch is padded to the next. None: any size. Give a
            few if every size costs a compilation
    Not thread-safe: one thread submits and ticks.
    """

    def __init__(
        self,
        loop: Loop,
        rows: int,
        reader: Reader,
        *,
        halt: Halt | None = None,
        queue: int = 100_000,
        ahead: int = 0,
        sizes: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if rows < 1 or queue < 1:
            raise InputError(f"an engine has {rows} rows and a queue of {queue}: give 1 or more of each")
        if sizes is not None and (list(sizes) != sorted(set(sizes)) or sizes[-1] != rows or sizes[0] < 1):
            raise InputError(f"sizes {list(sizes)} must rise from 1 or more to the number of rows, {rows}")
        self.loop, self.rows, self.reader, self.halt, self.capacity = CachedRead(loop), rows, reader, halt, queue
        self.sizes, self.device, self.counters, self.ahead = sizes, torch.device(device), Counters(), ahead
        self._begun: dict[int, tuple[Any, int]] = {}  # id of a queued job -> ((state, question) of several, its row)
        self.jobs: list[Any] = []  # job of each row of the batch; None: padding or free
        self.steps: list[int] = []  # steps taken by each row
        self.state: Any = None
        self.question: Any = None
        self.residual: Tensor | None = None  # (rows,) residual of the last step, if a job has wants_residual
        self.reader_memory: Tensor | None = None  # (rows, ...) memory of the reader
        self.waiting: list[tuple[float, int, Any]] = []  # heap of (-priority, arrival, job); cancelled ones included
        self._limits: list[tuple[float, int, Any]] = []  # heap of (deadline, arrival, job)
        self._arrivals = count()
        self._open: dict[int, int] = {}  # id of a job -> its row, or WAITING

    # -- queue --------------------------------------------------------------------------------------------------------
    def submit(self, job: Any) -> None:
        """Queue a job. Raises QueueFull if the queue is full, InputError for a job that is not supported."""
        if job.depth < 1:
            raise InputError(f"depth is {job.depth}, but a loop must run at least once: give a depth of 1 or more")
        if job.halting and self.halt is None:
            raise InputError("this engine has no halting rule: give it one, or submit jobs with halting=False")
        if len(self._open) - len(self.live) >= self.capacity:
            raise QueueFull(f"{self.capacity} jobs are waiting: submit again when some have ended")
        arrival = next(self._arrivals)
        self._open[id(job)] = WAITING
        heapq.heappush(self.waiting, (-job.priority, arrival, job))
        if job.deadline < math.inf:
            heapq.heappush(self._limits, (job.deadline, arrival, job))

    def __len__(self) -> int:
        """Number of jobs that have not ended."""
        return len(self._open)

    @property
    def live(self) -> list[Any]:
        """Jobs that have a row."""
        return [job for job in self.jobs if job is not None]

    def cancel(self, jobs: Sequence[Any]) -> list[Done]:
        """End these jobs, queued or running, with their results so far; jobs that have ended are ignored."""
        return self._remove(jobs, "cancelled")

    def _remove(self, jobs: Sequence[Any], end: str) -> list[Done]:
        open_jobs = {id(job): (self._open[id(job)], job) for job in jobs if id(job) in self._open}
        ended = self._end({row: end for row, _ in open_jobs.values() if row != WAITING})
        for row, job in open_jobs.values():
            if row == WAITING:
                ended.append(self._ended(job, end, None, 0))
        return ended

    # -- running ------------------------------------------------------------------------------------------------------
    def run(self) -> list[Done]:
        """Tick until all jobs have ended."""
        ended = []
        while len(self):
            ended += self.tick()
        return ended

    @torch.no_grad()
    def tick(self) -> list[Done]:
        """Admit queued jobs, step every live row once, and return the jobs that ended."""
        ended = self._late() + self._end(self._at_depth())
        self._admit()
        if not self.jobs:
            return ended
        old = self.state
        self.state = counted_step(self.loop, old, self.question)
        self.steps = [n + 1 for n in self.steps]
        live = self.live
        self.residual = residual(old, self.state) if any(job.wants_residual for job in live) else None
        self.counters.ticks += 1
        self.counters.rows += len(self.jobs)
        self.counters.steps += len(live)
        ends = self._at_depth() | self._halted(old) | self.reader.ended(self, old)
        return ended + [done._replace(stepped=True) for done in self._end(ends)]

    def _at_depth(self) -> dict[int, str]:
        """Rows that have taken all their steps."""
        return {i: "depth" for i, job in enumerate(self.jobs) if job is not None and self.steps[i] >= job.depth}

    def _halted(self, old: Any) -> dict[int, str]:
        """Rows that the halting rule stops."""
        with_rule = [i for i, job in enumerate(self.jobs) if job is not None and job.halting]
        if not with_rule or self.halt is None:
            return {}
        steps = torch.tensor(self.steps, device=self.device)
        stop = torch.as_tensor(self.halt(self.loop, old, self.state, steps)).expand(len(steps)).tolist()
        return {i: "halted" for i in with_rule if stop[i]}

    def _late(self) -> list[Done]:
        """End jobs past their deadline, queued or live."""
        expired, now = [], time.monotonic()
        while self._limits and self._limits[0][0] <= now:
            expired.append(heapq.heappop(self._limits)[2])
        return self._remove(expired, "late") if expired else []

    def _end(self, ends: dict[int, str]) -> list[Done]:
        """End the jobs of these rows; the rows are free from the next tick on."""
        if not ends:
            return []
        stepped = [i for i in ends if self.steps[i]]
        results = dict(zip(stepped, self.reader.result(self, stepped), strict=True)) if stepped else {}
        ended = [self._ended(self.jobs[i], end, results.get(i), self.steps[i]) for i, end in ends.items()]
        for i in ends:
            self.jobs[i] = None
        if not any(job is not None for job in self.jobs):
            self._empty()
        return ended

    def _ended(self, job: Any, end: str, result: Any, steps: int) -> Done:
        self.counters.ended[end] += 1
        del self._open[id(job)]
        self._begun.pop(id(job), None)
        return Done(job, end, result, steps)

    def _empty(self) -> None:
        self.jobs, self.steps = [], []
        self.state = self.question = self.residual = self.reader_memory = None
        self.loop.forget()

    # -- the batch ----------------------------------------------------------------------------------------------------
    def _admit(self) -> None:
        """Fill free rows from the queue, then resize the batch to an allowed size."""
        free = [i for i, job in enumerate(self.jobs) if job is None]
        n_free = self.rows - len(self.jobs) + len(free)
        fresh: list[Any] = []
        while self.waiting and len(fresh) < n_free:
            job = heapq.heappop(self.waiting)[2]
            if self._open.get(id(job)) == WAITING:
                self._open[id(job)] = len(self.jobs)  # no longer waiting; `_fill` sets its row
                fresh.append(job)
        if fresh:
            self._fill(free, fresh)
        live = len(self.jobs) - max(0, len(free) - len(fresh))
        size = live if self.sizes is None or not live else next(s for s in self.sizes if s >= live)
        if size != len(self.jobs):
            self._resize(size)

    def _fill(self, free: list[int], fresh: list[Any]) -> None:
        """Give rows to these jobs: free ones first, then new ones at the end."""
        fresh, added = self._first_states(fresh)
        width, k = len(self.jobs), min(len(free), len(fresh))
        batch = (self.state, self.question)
        if k:
            at = torch.tensor(free[:k], device=self.device)
            batch = refill(batch, at, added if k == len(fresh) else take(added, slice(k)))
        if k < len(fresh):
            rest = take(added, slice(k, None)) if k else added
            batch = concat(batch, rest) if width else rest
        self.state, self.question = batch
        rows = [*free[:k], *range(width, width + len(fresh) - k)]
        self.jobs += [None] * (len(fresh) - k)
        self.steps += [0] * (len(fresh) - k)
        for i, job in zip(rows, fresh, strict=True):
            self.jobs[i], self.steps[i], self._open[id(job)] = job, 0, i
        if self.reader_memory is not None and k < len(fresh):
            self.reader_memory = torch.cat(
                [self.reader_memory, self.reader_memory[:1].expand(len(fresh) - k, *self.reader_memory.shape[1:])]
            )

    def _first_states(self, fresh: list[Any]) -> tuple[list[Any], Any]:
        """(these jobs in an order of our own, their (state, question))."""
        new = [job for job in fresh if id(job) not in self._begun]
        if new and self.ahead:
            following = (job for *_, job in heapq.nsmallest(self.ahead, self.waiting))
            new += [j for j in following if id(j) not in self._begun and self._open.get(id(j)) == WAITING]
        if new == fresh:
            return fresh, self._init(fresh)
        if new:
            begun = self._init(new)
            self._begun |= {id(job): (begun, row) for row, job in enumerate(new)}
        batches: dict[int, tuple[Any, list[int], list[Any]]] = {}
        for job in fresh:
            begun, row = self._begun.pop(id(job))
            _, rows, jobs = batches.setdefault(id(begun), (begun, [], []))
            rows.append(row)
            jobs.append(job)
        parts = [take(b, torch.tensor(rows, device=self.device)) for b, rows, _ in batches.values()]
        ordered = [job for *_, jobs in batches.values() for job in jobs]
        return ordered, parts[0] if len(parts) == 1 else concat(*parts)

    def _init(self, jobs: list[Any]) -> Any:
        """(first state, question) of these jobs."""
        question = self.reader.question(jobs, self.device)
        state, salts = self.loop.init(question), [job.salt for job in jobs]
        charge_rows("calls", state)
        if any(salts):  # salt 0 changes nothing
            state = salted(state, torch.tensor(salts, device=self.device))
        return state, question

    def _resize(self, size: int) -> None:
        """Resize the batch to `size` rows: live rows beyond it move to free ones; rows still free are padding."""
        index = [i if i < len(self.jobs) else -1 for i in range(size)]
        free = [i for i in range(size) if index[i] < 0 or self.jobs[i] is None]
        for i, row in zip(free, [i for i in range(size, len(self.jobs)) if self.jobs[i] is not None], strict=False):
            index[i] = row
        filler = next(i for i, job in enumerate(self.jobs) if job is not None)
        source = [filler if i < 0 else i for i in index]
        rows = torch.tensor(source, device=self.device)
        self.state, self.question = take((self.state, self.question), rows)
        if self.reader_memory is not None:
            self.reader_memory = self.reader_memory[rows.to(self.reader_memory.device)]
        self.jobs = [None if i < 0 else self.jobs[i] for i in index]
        self.steps = [self.steps[i] for i in source]
        self.residual = None
        for i, job in enumerate(self.jobs):
            if job is not None:
                self._open[id(job)] = i


class CachedRead:
    """Wraps a loop and caches `read` of the last two states, which rules, reader and watchers all read."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self._cache: list[tuple[Any, Any]] = []

    def init(self, x: Any) -> Any:
        return self.loop.init(x)

    def step(self, s: Any, x: Any) -> Any:
        return self.loop.step(s, x)

    def read(self, s: Any) -> Any:
        cached = [answer for state, answer in self._cache if state is s]
        answer = cached[0] if cached else self.loop.read(s)
        others = [entry for entry in self._cache if entry[0] is not s]
        self._cache = [*others[-1:], (s, answer)]  # the two latest: the states before and after a step
        return answer

    def forget(self) -> None:
        """Clear the cache."""
        self._cache = []
