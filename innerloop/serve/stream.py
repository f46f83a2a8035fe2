"""The steps of one solve (show/replay.py) as server-sent events."""

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
from innerloop.serve.work import Work
from innerloop.show.replay import Replay, ReplayStep
from innerloop.solve.engine import StepOutput

__all__ = ["ReplayStream", "encode_event"]

log = logging.getLogger("innerloop.serve")


class ReplayStream:
    """One solve that is streamed step by step. Raises InputError for options that the model does not support.

    `events` runs in the event loop; `_record` is called in the worker's thread.
    """

    def __init__(self, served: Served, body: schema.SolveRequest) -> None:
        limits = served.limits
        if body.depth * body.width > limits.stream_steps:
            raise InputError(
                f"depth {body.depth} x width {body.width} is more than a stream may have: "
                f"give at most {limits.stream_steps} steps in all, or ask /solve"
            )
        self.served, self.body = served, body
        options = served.solve_options(body)
        self.replay = Replay(
            served.solver, served.tokens([body.puzzle])[0], options, served.identifier_number(body.identifier)
        )
        self.deadline = self.replay.start_time + (body.seconds or limits.seconds)
        puzzle_job = self.replay.puzzle_job(self._record)
        self.work = Work([puzzle_job], served.engine_factory, lambda: self._put(None), self.deadline, body.priority)
        self.solution: schema.SolutionBody | None = None
        self.error: BaseException | None = None
        self._event_loop = asyncio.get_running_loop()
        # Holds `stream_steps` at most, however slowly the client reads; None ends it.
        self._queue: asyncio.Queue[ReplayStep | None] = asyncio.Queue()

    def _record(self, k: int, output: StepOutput) -> None:
        if self.error is not None:
            return
        try:
            self._put(self.replay.record(k, output))
        except Exception as error:  # a failure here must not fail the engine's other rows
            log.exception("a stream failed")
            self.error = error
            self._put(None)

    def _put(self, step: ReplayStep | None) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and with it the request
            self._event_loop.call_soon_threadsafe(self._queue.put_nowait, step)

    async def events(self, fallback: Fallback) -> AsyncIterator[bytes]:
        """The stream's bytes. `work` must have been submitted to the worker."""
        replay, options = self.replay, self.replay.options
        yield encode_event("begin", schema.Begin(width=options.width, depth=options.depth, rule=options.pick))  # type: ignore[arg-type]
        while (step := await self._queue.get()) is not None:
            yield encode_event("step", schema.StepBody(**replay.step_json(step)))
        error = self.error or self.work.error
        if error is not None:
            message = str(error) if isinstance(error, InputError) else "the server failed: its log says why"
            yield encode_event("error", schema.Error(error=message))
            return
        solution = replay.solution()
        if self.body.exact:
            task, seed = self.served.task, options.seed
            solution = await fallback.solve_unknown(task, replay.question, solution, self.deadline, seed)
        done = schema.Done(**await asyncio.to_thread(replay.end_json, solution))
        self.solution = done.solution
        yield encode_event("done", done)

    def close(self) -> None:
        """Break the reference cycle with the work, so that the states stored for the paths are freed."""
        del self.work


def encode_event(name: str, data: Any) -> bytes:
    """One server-sent event, encoded."""
    return f"event: {name}\ndata: {json.dumps(data.model_dump(), allow_nan=False)}\n\n".encode()
