"""Continuous depth batching: rows of one batch stand at different depths, and a row that is done is filled at once.

A batch that waits for its hardest puzzle spends most of its work on puzzles that were done long ago. Here every tick is
one step of all live rows; those that are done leave, waiting ones take their places, and no row is ever idle while
anything waits. An answer does not depend on who else is in the batch.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerloop.core import Loop, Question, map_tensors
from innerloop.errors import InputError
from innerloop.halt import Halt, halting_margin, residual
from innerloop.noise import salted
from innerloop.solve.verify import Verifier

ENDS = ("verified", "halted", "depth", "cancelled", "late")


class Full(InputError):
    """The engine's queue is full: come again later."""


class Moment(NamedTuple):
    """What one row says after one step."""

    step: int
    answer: NDArray[np.uint8]  # (S,)
    certainty: NDArray[np.float32]  # (S,) probability of each cell's token
    q: float  # belief of the halting head that it is right, 0 .. 1; NaN without one
    value: float  # of the value head; NaN without one
    residual: float  # relative change of the state in this step; NaN unless the job is `measured`
    state: Any  # this row's state, for watchers; one that keeps it keeps its memory. None at a job's end


@dataclass(eq=False)
class Job:
    """One trajectory of one puzzle."""

    question: NDArray[np.uint8]  # (S,)
    depth: int  # steps at most
    halting: bool = False  # stop by the engine's halting rule
    verify: bool = False  # stop as soon as the answer is valid
    measured: bool = False  # know the residual of every step; a watched job does
    salt: int = 0  # which trajectory, for loops with noise of their own
    puzzle: int = 0  # identifier
    priority: float = 0.0  # higher goes first; among equals the earlier
    deadline: float = float("inf")  # of time.monotonic(); what is not done by then ends as "late"
    watch: Callable[[Moment], None] | None = None  # called after each step, in the engine's thread
    owner: Any = None  # whatever the caller wants to find again


class Done(NamedTuple):
    """How a job ended."""

    job: Job
    end: str  # one of ENDS; "late" and "cancelled" may have taken no step at all, and have no moment then
    moment: Moment | None
    steps: int


@dataclass
class Tally:
    """What an engine has done so far."""

    ticks: int = 0
    rows: int = 0  # rows stepped, padding included: what was paid
    steps: int = 0  # steps of jobs: what was wanted
    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDS, 0))


class Engine:
    """Runs jobs through `loop`, at most `rows` at once, with at most `queue` waiting.

    halt    rule for jobs that ask for `halting`; it must decide row by row and keep nothing between calls
    verify  for jobs that ask for `verify`
    sizes   batch sizes it may run, ascending and ending at `rows`; a batch is padded to the next. None: any size. Give
            a few where every size costs a compilation
    Not thread-safe: one thread submits and ticks (serve/worker.py).
    """

    def __init__(
        self,
        loop: Loop,
        rows: int = 64,
        *,
        halt: Halt | None = None,
        verify: Verifier | None = None,
        queue: int = 100_000,
        sizes: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if rows < 1 or queue < 1:
            raise InputError(f"an engine of {rows} rows and a queue of {queue} can do nothing: give 1 or more of each")
        if sizes is not None and (list(sizes) != sorted(set(sizes)) or sizes[-1] != rows or sizes[0] < 1):
            raise InputError(f"sizes {list(sizes)} must rise from 1 or more to the number of rows, {rows}")
        self.loop, self.rows, self.halt, self.verify, self.capacity = Once(loop), rows, halt, verify, queue
        self.sizes, self.device, self.tally = sizes, torch.device(device), Tally()
        self.live: list[Job] = []
        self.waiting: list[tuple[float, int, Job]] = []
        self._arrivals = count()
        self._gone: set[int] = set()  # ids of waiting jobs that were cancelled
        self._state: Any = None  # the first len(live) rows count, the rest is padding
        self._question: Any = None
        self._steps: Tensor = torch.zeros(0, dtype=torch.long)
        self._said: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)  # last answer of each live row
        self._moved: Tensor = torch.zeros(0)  # (rows,) residual of the last step, where anybody asked

    # -- coming and going ---------------------------------------------------------------------------------------------
    def submit(self, job: Job) -> None:
        """Queue a job. Raises Full, or InputError for a job this engine cannot do."""
        if job.depth < 1:
            raise InputError(f"depth is {job.depth}, but a loop must run at least once: give a depth of 1 or more")
        if job.halting and self.halt is None:
            raise InputError("this engine has no halting rule: give it one, or ask for the full depth")
        if job.verify and self.verify is None:
            raise InputError("this engine has no verifier: give it one, or ask for the full depth")
        if len(self) - len(self.live) >= self.capacity:
            raise Full(f"{self.capacity} jobs are waiting: come again when some are done")
        heapq.heappush(self.waiting, (-job.priority, next(self._arrivals), job))

    def __len__(self) -> int:
        """Jobs that are not done."""
        return len(self.live) + len(self.waiting) - len(self._gone)

    def cancel(self, jobs: Sequence[Job]) -> list[Done]:
        """Take these out, wherever they stand, with what they have so far; jobs that are done are passed over."""
        wanted = {id(job) for job in jobs}
        mine = [i for i, job in enumerate(self.live) if id(job) in wanted]
        ended = self._end(dict.fromkeys(mine, "cancelled"))
        for _, _, job in self.waiting:
            if id(job) in wanted and id(job) not in self._gone:
                self._gone.add(id(job))
                ended.append(self._ended(job, "cancelled", None, 0))
        return ended

    # -- thinking -----------------------------------------------------------------------------------------------------
    def run(self) -> list[Done]:
        """Everything there is, to its end."""
        ended = []
        while len(self):
            ended += self.tick()
        return ended

    @torch.no_grad()
    def tick(self) -> list[Done]:
        """Let waiting jobs in, step every live row once, and return the jobs that ended."""
        ended = self._late() + self._cut()
        self._admit()
        if not self.live:
            return ended
        old, n = self._state, len(self.live)
        self._state = self.loop.step(old, self._question)
        self._steps = self._steps + 1
        measured = any(job.measured or job.watch for job in self.live)
        self._moved = residual(old, self._state) if measured else torch.full_like(self._moved, float("nan"))
        self.tally.ticks += 1
        self.tally.rows += len(self._steps)
        self.tally.steps += n
        said = self.loop.read(self._state).logits[:n].argmax(-1).cpu().numpy().astype(np.uint8)
        ends = self._ends(old, said)
        self._said = said
        self._watch()
        return ended + self._end(ends)

    def _ends(self, old: Any, said: NDArray[np.uint8]) -> dict[int, str]:
        """Which live rows are done after this step, and why."""
        ends: dict[int, str] = {}
        steps = self._steps.tolist()
        for i, job in enumerate(self.live):
            if steps[i] >= job.depth:
                ends[i] = "depth"
        if self.halt is not None and any(job.halting for job in self.live):
            stop = (
                torch.as_tensor(self.halt(self.loop, old, self._state, self._steps)).expand(len(self._steps)).tolist()
            )
            ends |= {i: "halted" for i, job in enumerate(self.live) if job.halting and stop[i]}
        # A row whose answer was looked at a step ago was not valid then and is not now.
        fresh = (said != self._said).any(1) | (np.array(steps[: len(said)]) == 1)
        look = [i for i, job in enumerate(self.live) if job.verify and fresh[i]]
        if look:
            assert self.verify is not None
            valid = self.verify(np.stack([self.live[i].question for i in look]), said[look])
            ends |= {i: "verified" for i, ok in zip(look, valid, strict=True) if ok}
        return ends

    def _late(self) -> list[Done]:
        """End what is past its deadline, waiting or live."""
        limits = [job.deadline for job in self.live] + [job.deadline for _, _, job in self.waiting]
        at = time.monotonic()
        if not limits or min(limits) > at:
            return []
        ended = self._end({i: "late" for i, job in enumerate(self.live) if job.deadline <= at})
        kept = []
        for entry in self.waiting:
            if entry[2].deadline <= at and id(entry[2]) not in self._gone:
                ended.append(self._ended(entry[2], "late", None, 0))
            else:
                kept.append(entry)
        self.waiting = kept
        heapq.heapify(self.waiting)
        return ended

    def _cut(self) -> list[Done]:
        """End rows whose job's depth was lowered to what they have already taken."""
        steps = self._steps.tolist()
        return self._end({i: "depth" for i, job in enumerate(self.live) if steps[i] >= job.depth})

    def _admit(self) -> None:
        """Fill free rows from the queue."""
        fresh: list[Job] = []
        while self.waiting and len(self.live) + len(fresh) < self.rows:
            job = heapq.heappop(self.waiting)[2]
            if id(job) in self._gone:
                self._gone.discard(id(job))
            else:
                fresh.append(job)
        if fresh:
            self._settle(list(range(len(self.live))), fresh)

    def _settle(self, stay: list[int], fresh: list[Job]) -> None:
        """Lay the batch out anew: rows that stay, then fresh ones, then padding up to a size that may be run."""
        n = len(stay) + len(fresh)
        room = n if self.sizes is None else next(s for s in self.sizes if s >= n) if n else 0
        said = self.loop.read(self._state) if stay else None
        parts = [(self._state, self._question, self._steps, self._moved, said)] if stay else []
        index = list(stay)
        if fresh:
            start = len(self._steps) if stay else 0
            question = self._asked(fresh)
            salt = torch.tensor([job.salt for job in fresh], device=self.device)
            state = salted(self.loop.init(question), salt)
            none = torch.zeros(len(fresh), device=self.device)
            parts.append((state, question, none.long(), none + float("nan"), self.loop.read(state)))
            index += range(start, start + len(fresh))
        self.live = [self.live[i] for i in stay] + fresh
        if not index:
            self._state, self._question, self._steps, self._said = None, None, self._steps[:0], self._said[:0]
            return
        index += [index[0]] * (room - n)
        rows = torch.tensor(index, device=self.device)
        joined = parts[0] if len(parts) == 1 else concat(*parts)
        laid = map_tensors(lambda t: t[rows], joined)
        self._state, self._question, self._steps, self._moved, answer = laid
        self.loop.remember(self._state, answer)
        before, self._said = self._said, np.zeros((n, len(self.live[0].question)), np.uint8)
        if stay:
            self._said[: len(stay)] = before[stay]

    def _asked(self, jobs: Sequence[Job]) -> Question:
        tokens = torch.from_numpy(np.stack([job.question for job in jobs]).astype(np.int64))
        puzzles = torch.tensor([job.puzzle for job in jobs])
        return Question(tokens.to(self.device), puzzles.to(self.device))

    def _end(self, ends: dict[int, str]) -> list[Done]:
        """Let these live rows go."""
        if not ends:
            return []
        moments = self._moments(list(ends), False)
        ended = [
            self._ended(self.live[i], end, m, m.step if m else 0)
            for (i, end), m in zip(ends.items(), moments, strict=True)
        ]
        self._settle([i for i in range(len(self.live)) if i not in ends], [])
        return ended

    def _ended(self, job: Job, end: str, moment: Moment | None, steps: int) -> Done:
        self.tally.ended[end] += 1
        return Done(job, end, moment, steps)

    # -- looking ------------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        rows = [i for i, job in enumerate(self.live) if job.watch is not None]
        for i, moment in zip(rows, self._moments(rows, True), strict=True):
            self.live[i].watch(moment)  # type: ignore[misc, arg-type]

    @torch.no_grad()
    def _moments(self, rows: Sequence[int], states: bool) -> list[Moment | None]:
        """What these live rows say, with their states or without; None for a row that has not taken a step."""
        if not rows:
            return []
        at = torch.tensor(list(rows), device=self.device)
        steps = self._steps[at].tolist()
        if not any(steps):
            return [None] * len(rows)
        answer = self.loop.read(self._state)
        state = map_tensors(lambda t: t[at], self._state) if states else None
        known: Any = map_tensors(lambda t: t[at], answer)
        sure, tokens = torch.softmax(known.logits.float(), -1).max(-1)
        q = [float("nan")] * len(rows) if known.q_halt is None else halting_margin(known).sigmoid().tolist()
        value = [float("nan")] * len(rows) if known.value is None else known.value.tolist()
        moved = self._moved[at].tolist()
        told, sure_of = tokens.cpu().numpy().astype(np.uint8), sure.cpu().numpy()
        made: list[Moment | None] = []
        for i, step in enumerate(steps):
            own = map_tensors(lambda t: t[i], state) if states else None  # noqa: B023
            made.append(Moment(step, told[i], sure_of[i], q[i], value[i], moved[i], own) if step else None)
        return made


class Once:
    """A loop that reads each state once: rules, verifier and watcher all look at the same."""

    def __init__(self, loop: Any) -> None:
        self.loop, self._seen = loop, []  # type: ignore[var-annotated]

    def init(self, x: Any) -> Any:
        return self.loop.init(x)

    def step(self, s: Any, x: Any) -> Any:
        return self.loop.step(s, x)

    def read(self, s: Any) -> Any:
        for state, answer in self._seen:
            if state is s:
                return answer
        return self.remember(s, self.loop.read(s))

    def remember(self, s: Any, answer: Any) -> Any:
        """Keep what is known of a state, and of the one before it."""
        self._seen = [*self._seen[-1:], (s, answer)]
        return answer


def concat(a: Any, b: Any) -> Any:
    """The rows of one state, then those of another of the same kind."""
    if isinstance(b, Tensor):
        return torch.cat([a, b])
    if not isinstance(b, tuple):
        return b
    items = [concat(p, q) for p, q in zip(a, b, strict=True)]
    return type(b)(*items) if hasattr(b, "_fields") else tuple(items)
