"""Answers that take a while: event streams with a time limit, and work that ends when its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from innerloop.errors import InputError

try:
    from fastapi import Request
    from fastapi.responses import StreamingResponse
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

__all__ = ["ClientDisconnected", "EventStream", "until_disconnect"]

T = TypeVar("T")


class ClientDisconnected(Exception):
    """The client disconnected."""


class EventStream(StreamingResponse):
    """Server-sent events for at most `seconds`. `on_close` is called once the stream has ended, however it ended."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], seconds: float, on_close: Callable[[], None]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.seconds, self.on_close = seconds, on_close

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await super().__call__(scope, receive, send)
        except TimeoutError:  # the client does not read: the connection is closed
            pass
        finally:
            self.on_close()


async def until_disconnect(request: Request, coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of `coroutine`; as soon as the client disconnects, cancel it and raise ClientDisconnected."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, disconnect = asyncio.ensure_future(coroutine), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnected
        return task.result()
    finally:
        task.cancel()
        disconnect.cancel()
