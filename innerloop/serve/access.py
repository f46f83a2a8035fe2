"""ASGI middleware for every request: metrics, limits on body size and arrival time, 503 while shutting down.

It also refuses requests of other sites and unknown host names (serve/origin.py).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from innerloop.serve.origin import HEADERS, AllowedHosts

__all__ = ["AccessMiddleware", "AccessState"]

ARRIVAL_TIMEOUT = 30.0  # seconds in which the whole request must arrive
FIRST_SECONDS = 5.0  # seconds allowed for any size, times a random 1 to 1.5 ...
MIN_BYTES_PER_SECOND = 16 * 1024  # ... and bytes a second after that
SMALL_BODY = 64 * 1024  # bytes of a body that is always accepted
MAX_LARGE_BODIES = 16  # large bodies in memory at once, at the largest size
ALWAYS_ANSWERED = ("/healthz", "/readyz", "/metrics")  # answered even during shutdown


class AccessState:
    """Shared by all requests: allowed hosts, whether the server is closing, active requests, bytes of large bodies."""

    def __init__(self, hosts: AllowedHosts | None = None) -> None:
        self.hosts = hosts or AllowedHosts()
        self.closing, self.active_requests = False, 0
        self.large_body_bytes = 0  # of bodies larger than SMALL_BODY, over all requests


def plain(status: int, text: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": text}


class AccessMiddleware:
    """ASGI middleware around the whole application.

    max_body  largest body of a request, bytes
    error     makes the body of a refusal from its status and sentence
    """

    def __init__(
        self, app: Any, access: AccessState, metrics: Any, max_body: int, error: Callable[[int, str], Any] = plain
    ) -> None:
        self.app, self.access, self.metrics, self.max_body, self.error = app, access, metrics, max_body, error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        began, channel = time.perf_counter(), RequestChannel(receive, send, self.max_body, headers, self.access)
        counted = scope["path"] not in ALWAYS_ANSWERED
        refusal = self.access.hosts.refusal(scope["method"], scope["path"], headers)
        shutting_down = self.access.closing and counted
        self.access.active_requests += counted
        try:
            if refusal:
                await JSONResponse(self.error(403, refusal), 403)(scope, channel.receive, channel.send)
            elif shutting_down:
                body = self.error(503, "the server is shutting down: use another one")
                await JSONResponse(body, 503, {"Retry-After": "1"})(scope, channel.receive, channel.send)
            else:
                await self.app(scope, channel.receive, channel.send)
        finally:
            channel.release()
            self.access.active_requests -= counted
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, "gone" if channel.disconnected else str(channel.status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)
            if channel.disconnected:
                self.metrics.cancelled.labels(route).inc()


class RequestChannel:
    """ASGI receive and send of one request, with limits. max_bytes: of its body; a larger Content-Length is refused."""

    def __init__(
        self, receive: Any, send: Any, max_bytes: int, headers: dict[bytes, bytes], access: AccessState | None = None
    ) -> None:
        self._receive, self._send, self.max_bytes, self.access = receive, send, max_bytes, access or AccessState()
        length = headers.get(b"content-length", b"")
        self.content_length = int(length) if length.isdigit() and len(length) < 20 else 0
        self.size, self.status, self.answered, self.disconnected = 0, 500, False, False
        self.counted_bytes = 0  # bytes of this request that are counted in access.large_body_bytes
        # Random, so that requests that came together do not all time out together.
        self.min_seconds = FIRST_SECONDS * random.uniform(1, 1.5)
        self.began: float | None = asyncio.get_running_loop().time()  # None: the request is complete

    async def receive(self) -> Any:
        """The next ASGI message. Raises HTTPException 413 for a body that is too large, 408 for a slow one."""
        if self.content_length <= self.max_bytes:
            message = await self._next()
            self.disconnected = self.disconnected or (message["type"] == "http.disconnect" and not self.answered)
            self.size += len(message.get("body", b""))
            if self.size <= self.max_bytes:
                self._count_large_body()
                return message
        raise HTTPException(413, f"the request is larger than {self.max_bytes} bytes: send less at once")

    async def _next(self) -> Any:
        """The next message; 408 where it arrives slower than MIN_BYTES_PER_SECOND."""
        deadline = (
            None
            if self.began is None
            else self.began + min(ARRIVAL_TIMEOUT, self.min_seconds + self.size / MIN_BYTES_PER_SECOND)
        )
        try:
            async with asyncio.timeout_at(deadline):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the request arrived too slowly: send it within {ARRIVAL_TIMEOUT:g} s") from None
        if not message.get("more_body"):
            self.began = None
        return message

    def _count_large_body(self) -> None:
        """Count the bytes of large bodies over all requests. Raises HTTPException 429 above MAX_LARGE_BODIES bodies."""
        if self.size > SMALL_BODY:
            added, self.counted_bytes = self.size - self.counted_bytes, self.size
            self.access.large_body_bytes += added
            if self.access.large_body_bytes > MAX_LARGE_BODIES * self.max_bytes:
                raise HTTPException(429, "too many large requests are active: try again later", {"Retry-After": "1"})

    def release(self) -> None:
        self.access.large_body_bytes -= self.counted_bytes
        self.counted_bytes = 0

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message.get("headers", [])
            present = {name.lower() for name, _ in headers}
            message = {**message, "headers": [*headers, *(pair for pair in HEADERS.items() if pair[0] not in present)]}
        self.answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)
