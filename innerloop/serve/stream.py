"""One puzzle thought about before somebody's eyes: every step of every trajectory, where each would stop, and its path.

All trajectories run to their full depth, and no longer than somebody looks. What /solve would have answered is found
afterwards, from the step at which each of them would have ended there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core import Question, map_tensors
from innerloop.errors import InputError
from innerloop.grad import floating
from innerloop.noise import salted
from innerloop.serve import schema
from innerloop.serve.fallback import Fallback
from innerloop.serve.models import Served, cells, finite, shares
from innerloop.serve.orders import Order, part
from innerloop.solve.case import Case
from innerloop.solve.choose import RULES, Trajectories
from innerloop.solve.dials import Dials, Solution
from innerloop.solve.engine import Done, Moment, Once
from innerloop.solve.verify import broken

__all__ = ["Stream", "components", "event"]

ROOM = 16 << 20  # bytes of a stream for the states that its paths are made of
log = logging.getLogger("innerloop.serve")


class Seen(NamedTuple):
    """A step as the worker's thread hands it over."""

    trajectory: int
    moment: Moment  # without the state, and in the puzzle's own view
    stops: bool  # the loop's own rule holds here, first


class End(NamedTuple):
    """Where /solve would have let a trajectory go."""

    moment: Moment
    end: str
    valid: bool | None


class Stream:
    """A thought that is told step by step. Raises InputError for dials the model cannot do.

    `events` is for the server's event loop; `_see` is called in the worker's thread.
    """

    def __init__(self, served: Served, asked: schema.SolveRequest) -> None:
        limits = served.limits
        if asked.depth * asked.width > limits.moments:
            raise InputError(
                f"depth {asked.depth} x width {asked.width} is more than a stream tells: "
                f"give at most {limits.moments} steps in all, or ask /solve"
            )
        self.served, self.asked, self.d = served, asked, served.settle(asked)
        self.solver = served.solver_for(self.d)
        self.question = served.tokens([asked.puzzle])[0]
        self.views = self.solver.views(self.d)
        engine = self.solver.engine(self.d)
        self.halt = engine.halt if served.stops else None
        self.loops = [Once(engine.loop.loop) for _ in range(self.d.width)]  # each state is read once
        self.thoughts: list[list[Moment]] = [[] for _ in range(self.d.width)]
        self.halts: list[int | None] = [None] * self.d.width
        self.judged: dict[bytes, tuple[bool | None, list[int]]] = {}
        self.begun = time.monotonic()
        self.solution: schema.Solution | None = None
        self.deadline = self.begun + (asked.seconds or limits.seconds)
        self._states: list[Any] = [None] * self.d.width  # before the step that is awaited
        self._rows: list[list[NDArray[np.float32]]] = [[] for _ in range(self.d.width)]
        self._sketch: Sketch | None = None
        self._box: deque[Seen | None] = deque()  # at most depth x width, however slowly the client reads
        self._bell, self._home = asyncio.Event(), asyncio.get_running_loop()
        watching: Dials = replace(self.d, pick="residual", halting=False)  # nothing ends it early
        case = Case(self.solver, self.question, watching, asked.identifier, self.views, watch=self._see)
        self.order: Order | None = Order([case], served.maker, self._ended, self.deadline, asked.priority)
        self.error: BaseException | None = None

    # -- in the worker's thread ---------------------------------------------------------------------------------------
    def _see(self, k: int, moment: Moment) -> None:
        try:
            stops = self._stops(k, moment)
            self._rows[k].append(self._flat(k, moment.state))
        except Exception as error:  # what goes wrong here concerns this stream alone, not the engine's other rows
            self.error = self.error or error
            log.exception("a stream failed")
            return
        self._hand(Seen(k, moment._replace(state=None), stops))

    def _ended(self) -> None:
        self._hand(None)

    def _hand(self, seen: Seen | None) -> None:
        self._box.append(seen)
        if len(self._box) == 1:  # else the bell was rung, and nobody has looked since
            with contextlib.suppress(RuntimeError):  # the event loop has ended, and with it whoever asked
                self._home.call_soon_threadsafe(self._bell.set)

    @torch.no_grad()
    def _stops(self, k: int, moment: Moment) -> bool:
        """Whether the loop's own rule holds after this step, for the first time."""
        if self.halt is None or self.halts[k] is not None:
            return False
        old, new = self._states[k], map_tensors(lambda t: t[None], moment.state)
        if old is None:
            question = self.question[None]
            seen = question if self.views is None else self.views.take(np.array([k])).apply(question)
            tokens = torch.from_numpy(seen.astype(np.int64)).to(self.solver.device)
            first = self.loops[k].init(Question(tokens, torch.full_like(tokens[:, 0], self.asked.identifier)))
            old = salted(first, torch.full_like(tokens[:, 0], k))
        self._states[k] = new
        steps = torch.tensor([moment.step], device=self.solver.device)
        if not bool(torch.as_tensor(self.halt(self.loops[k], old, new, steps)).all()):
            return False
        self.halts[k], self._states[k] = moment.step, None
        return True

    def _flat(self, k: int, state: Any) -> NDArray[np.float32]:
        """The state's numbers, cells turned back into the puzzle's own view, in no more room than there is."""
        flat = flatten(state, len(self.question), None if self.views is None else self.views.cells[k])
        if self._sketch is None:
            self._sketch = Sketch(len(flat), ROOM // (4 * self.d.depth * self.d.width))
        return self._sketch(flat)

    # -- in the event loop --------------------------------------------------------------------------------------------
    async def events(self, fallback: Fallback) -> AsyncIterator[bytes]:
        """The stream's bytes. The order must have been submitted."""
        yield event("begin", schema.Begin(width=self.d.width, depth=self.d.depth, rule=self.d.pick))  # type: ignore[arg-type]
        while (seen := await self._next()) is not None:
            yield event("step", self._step(seen))
        error = self.error or (self.order.error if self.order is not None else None)
        if error is not None:
            yield event("error", schema.Error(error=sentence(error)))
            return
        ends = [self._end(k) for k in range(self.d.width)]
        found, scores = self._choice(ends)
        if self.asked.exact:
            found = await fallback.improve(self.served.task, self.question, found, self.deadline, self.d.seed)
        paths, explained = await asyncio.to_thread(components, self._rows)
        self.solution = self.served.said(found, self.question)
        done = schema.Done(
            solution=self.solution,
            paths=paths,
            explained=explained,
            scores=scores,
            halts=self.halts,
        )
        yield event("done", done)

    def close(self) -> None:
        """Part from the order, which points back here: the states kept for the paths leave with the last reader."""
        self.order = None

    async def _next(self) -> Seen | None:
        while not self._box:
            self._bell.clear()
            if not self._box:  # handed over in between
                await self._bell.wait()
        return self._box.popleft()

    def _step(self, seen: Seen) -> schema.Step:
        k, moment, _ = seen
        before = self.thoughts[k][-1].answer if self.thoughts[k] else self.question
        self.thoughts[k].append(moment)
        valid, wrong = self._judge(moment.answer)
        return schema.Step(
            trajectory=k,
            step=moment.step,
            answer=self.served.task.decode(moment.answer),
            certainty=shares(moment.certainty),
            changed=cells(moment.answer != before),
            wrong=wrong,
            valid=valid,
            confidence=finite(moment.q, 6),
            residual=finite(moment.residual, 9),
            would_halt=seen.stops,
        )

    def _judge(self, answer: NDArray[np.uint8]) -> tuple[bool | None, list[int]]:
        """(valid, wrong cells); a thought says the same answer many times."""
        key = answer.tobytes()
        if key not in self.judged:
            pair = self.question[None], answer[None]
            valid = bool(self.solver.verify(*pair)[0]) if self.solver.verify is not None else None
            self.judged[key] = valid, [] if valid else cells(broken(self.served.task, *pair)[0])
        return self.judged[key]

    def _end(self, k: int) -> End | None:
        """Where trajectory k would have ended in /solve, as the engine decides it; None if it took no step."""
        moments = self.thoughts[k]
        halting = self.d.halting or self.d.pick == "first"
        for moment in moments:
            valid = self._judge(moment.answer)[0]
            if self.d.pick == "verified" and valid:
                return End(moment, "verified", valid)
            if halting and self.halts[k] == moment.step:
                return End(moment, "halted", valid)
        if not moments:
            return None
        whole = len(moments) == self.d.depth
        return End(moments[-1], "depth" if whole else "late", self._judge(moments[-1].answer)[0])

    def _choice(self, ends: list[End | None]) -> tuple[Solution, list[schema.Score]]:
        """(what /solve would have answered, what the rule makes of each trajectory)."""
        case = Case(self.solver, self.question, self.d, self.asked.identifier, begun=self.begun)
        first = min((e.moment.step for e in ends if e is not None and e.end == "verified"), default=None)
        for k, end in enumerate(ends):
            if end is None:
                continue
            moment, how = end.moment, end.end
            if first is not None and moment.step > first:  # another was verified before: this one would have been cut
                moment, how = self.thoughts[k][first - 1], "cancelled"
            case.took(Done(case.job(k), how, moment, moment.step))
        found = case.solution()
        part(case)
        return found, self._scores(ends)

    def _scores(self, ends: list[End | None]) -> list[schema.Score]:
        known = [(k, e) for k, e in enumerate(ends) if e is not None]
        if not known:
            return []
        case = Case(self.solver, self.question, self.d, self.asked.identifier)
        for k, e in known:
            case.took(Done(case.job(k), e.end, e.moment, e.moment.step))
        table: Trajectories = case.trajectories()[1]
        part(case)
        scores = RULES[self.d.pick](table)
        return [
            schema.Score(trajectory=k, score=finite(s, 6), steps=e.moment.step, valid=e.valid, end=e.end)
            for (k, e), s in zip(known, scores, strict=True)
        ]


def event(name: str, data: Any) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data.model_dump(), allow_nan=False)}\n\n".encode()


def sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, InputError) else "the server failed: its log says why"


# -- paths ------------------------------------------------------------------------------------------------------------


def flatten(state: Any, places: int, cells_of: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """All floating numbers of one row's state. Slots with a row for each cell (the last `places` of theirs) are turned
    back by `cells_of`, so that a cell's numbers stand in the same place whatever view a trajectory had."""
    parts = []
    for t in floating(state):
        values = t.detach().float().cpu().numpy()
        if cells_of is not None and values.ndim > 1 and len(values) >= places:
            extra = len(values) - places
            turned = values.copy()
            turned[extra + cells_of] = values[extra:]
            values = turned
        parts.append(values.reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class Sketch:
    """n numbers kept as `room` sums of randomly signed parts of them, which keeps distances; as they are if they fit.

    A count sketch (Charikar, Chen, Farach-Colton 2002): inner products keep their value up to a relative error of
    about sqrt(2 / room).
    """

    def __init__(self, n: int, room: int) -> None:
        self.room = max(64, room)
        self.fits = n <= self.room
        if not self.fits:
            rng = np.random.default_rng(0)
            self.bucket, self.sign = rng.integers(self.room, size=n), rng.choice(np.array([-1.0, 1.0]), n)

    def __call__(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.fits:
            return flat
        return np.bincount(self.bucket, self.sign * flat, self.room).astype(np.float32)


def components(rows: list[list[NDArray[np.float32]]]) -> tuple[list[list[list[float]]], list[float]]:
    """(two principal components of every row, trajectory by trajectory, and the share of variance each of them holds).

    Each component points to where its largest number is positive.
    """
    counts = [len(r) for r in rows]
    flat = [v for r in rows for v in r]
    points, shares_of = np.zeros((len(flat), 2)), [0.0, 0.0]
    table = np.stack(flat) if flat else np.zeros((0, 0), np.float32)
    if table.size:
        centred = torch.from_numpy(table - table.mean(0, dtype=np.float64).astype(np.float32))
        total = float(centred.double().square().sum())
        if total > 0 and bool(torch.isfinite(centred).all()):
            rank = min(12, *centred.shape)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                u, s, _ = torch.svd_lowrank(centred, q=rank, niter=8)
            found = (u * s)[:, :2].numpy()
            found *= np.where(found[np.abs(found).argmax(0), np.arange(found.shape[1])] < 0, -1, 1)
            points[:, : found.shape[1]] = found
            shares_of[: found.shape[1]] = [round(float(v * v) / total, 4) for v in s[:2]]
    paths, at = [], 0
    for count in counts:
        paths.append([[float(f"{x:.4g}") for x in point] for point in points[at : at + count].tolist()])
        at += count
    return paths, shares_of
