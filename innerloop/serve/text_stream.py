"""A request to a language model as an event stream, which ends the work when its client goes away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from innerloop.errors import InputError

try:
    from fastapi import Request
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.serve.answering import EventStream, until_disconnect
from innerloop.serve.metrics import Metrics
from innerloop.serve.text_work import Event, TextService, TextWork

__all__ = ["streamed"]

READ_SLACK = 30.0  # seconds beyond a stream's deadline for a client that reads slowly


async def streamed(
    service: TextService,
    metrics: Metrics,
    request: Request,
    work: TextWork,
    events: Callable[[Event], AsyncIterator[bytes]],
) -> EventStream:
    """The stream of a request that was started. events(first): its bytes, from the first event on.

    It begins with the first event: what fails before has its own status.
    """
    try:
        first = await until_disconnect(request, work.next())
    except BaseException:
        service.finish(work)
        raise
    metrics.streams.inc()

    def on_close() -> None:
        service.finish(work)
        metrics.streams.dec()

    seconds = max(0.0, work.deadline - time.monotonic()) + READ_SLACK
    return EventStream(events(first), seconds, on_close)
