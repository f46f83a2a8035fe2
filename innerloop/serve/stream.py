"""The trace of one solve (show/replay.py) as server-sent events, until the client disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from innerloop.errors import InputError
from innerloop.serve import schema
from innerloop.serve.fallback import Fallback
from innerloop.serve.models import Served
from innerloop.serve.orders import Work
from innerloop.show.replay import Replay, ReplayStep
from innerloop.solve.engine import StepOutput

__all__ = ["ReplayStream", "encode_event"]

log = logging.getLogger("innerloop.serve")


class ReplayStream:
    """One solve that is streamed step by step. Raises InputError for options that the model does not support.

    `events` runs in the event loop; `_see` is called in the worker's thread.
    """

    def __init__(self, served: Served, asked: schema.SolveRequest) -> None:
        limits = served.limits
        if asked.depth * asked.width > limits.moments:
            raise InputError(
                f"depth {asked.depth} x width {asked.width} is more than a stream tells: "
                f"give at most {limits.moments} steps in all, or ask /solve"
            )
        self.served, self.asked, d = served, asked, served.solve_options(asked)
        self.thought = Replay(served.solver, served.tokens([asked.puzzle])[0], d, served.number(asked.identifier))
        self.deadline = self.thought.begun + (asked.seconds or limits.seconds)
        case = self.thought.case(self._see)
        self.order = Work([case], served.engine_factory, lambda: self._put(None), self.deadline, asked.priority)
        self.solution: schema.SolutionBody | None = None
        self.error: BaseException | None = None
        self._event_loop = asyncio.get_running_loop()
        self._queue_in: asyncio.Queue[ReplayStep | None] = (
            asyncio.Queue()
        )  # `moments` at most, however slowly the client reads

    def _see(self, k: int, moment: StepOutput) -> None:
        if self.error is not None:
            return
        try:
            self._put(self.thought.see(k, moment))
        except Exception as error:  # a failure here must not fail the engine's other rows
            log.exception("a stream failed")
            self.error = error
            self._put(None)

    def _put(self, seen: ReplayStep | None) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and with it the request
            self._event_loop.call_soon_threadsafe(self._queue_in.put_nowait, seen)

    async def events(self, fallback: Fallback) -> AsyncIterator[bytes]:
        """The stream's bytes. `order` must have been submitted to the worker."""
        thought, d = self.thought, self.thought.d
        yield encode_event("begin", schema.Begin(width=d.width, depth=d.depth, rule=d.pick))  # type: ignore[arg-type]
        while (seen := await self._queue_in.get()) is not None:
            yield encode_event("step", schema.StepBody(**thought.step(seen)))
        error = self.error or self.order.error
        if error is not None:
            said = str(error) if isinstance(error, InputError) else "the server failed: its log says why"
            yield encode_event("error", schema.Error(error=said))
            return
        found = thought.solution()
        if self.asked.exact:
            found = await fallback.solve_unknown(self.served.task, thought.question, found, self.deadline, d.seed)
        done = schema.Done(**await asyncio.to_thread(thought.ended, found))
        self.solution = done.solution
        yield encode_event("done", done)

    def close(self) -> None:
        """Break the reference cycle with the order, so that the states kept for the paths are freed."""
        del self.order


def encode_event(name: str, data: Any) -> bytes:
    """One server-sent event, encoded."""
    return f"event: {name}\ndata: {json.dumps(data.model_dump(), allow_nan=False)}\n\n".encode()
