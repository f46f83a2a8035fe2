"""ASGI middleware for every request: metrics, limits on body size and arrival time, 503 while shutting down.

It also refuses requests of other sites and unknown host names (serve/origin.py).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from innerloop.serve.origin import HEADERS, AllowedHosts

__all__ = ["AccessMiddleware", "AccessState"]

ARRIVAL_TIMEOUT = 30.0  # seconds in which the whole of a request must come
FIRST_SECONDS = 5.0  # seconds allowed whatever the size, or up to half as much again ...
MIN_BYTES_PER_SECOND = 16 * 1024  # ... and bytes a second after that
SMALL_BODY = 64 * 1024  # bytes of a body that is always accepted
MAX_LARGE_BODIES = 16  # bodies of the largest size that memory may hold at once
ALWAYS_ANSWERED = ("/healthz", "/readyz", "/metrics")  # answered even during shutdown


class AccessState:
    """Shared by all requests: allowed hosts, whether the server is closing, requests under way, bytes held."""

    def __init__(self, hosts: AllowedHosts | None = None) -> None:
        self.hosts = hosts or AllowedHosts()
        self.closing, self.inside = False, 0
        self.held = 0  # bytes of bodies larger than SMALL


class AccessMiddleware:
    """ASGI middleware around the whole application. body: most bytes of a request."""

    def __init__(self, app: Any, gate: AccessState, metrics: Any, body: int) -> None:
        self.app, self.gate, self.metrics, self.body = app, gate, metrics, body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        began, call = time.perf_counter(), RequestChannel(receive, send, self.body, headers, self.gate)
        watched = scope["path"] not in ALWAYS_ANSWERED
        refusal = self.gate.hosts.refusal(scope["method"], scope["path"], headers)
        closed = self.gate.closing and watched
        self.gate.inside += watched
        try:
            if refusal:
                await JSONResponse({"error": refusal}, 403)(scope, call.receive, call.send)
            elif closed:
                said = {"error": "the server is shutting down: ask another"}
                await JSONResponse(said, 503, {"Retry-After": "1"})(scope, call.receive, call.send)
            else:
                await self.app(scope, call.receive, call.send)
        finally:
            call.free()
            self.gate.inside -= watched
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, "gone" if call.disconnected else str(call.status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)
            if call.disconnected:
                self.metrics.cancelled.labels(route).inc()


class RequestChannel:
    """ASGI receive and send of one request, with limits. most: bytes of its body; a larger Content-Length fails."""

    def __init__(
        self, receive: Any, send: Any, most: int, headers: dict[bytes, bytes], gate: AccessState | None = None
    ) -> None:
        self._receive, self._send, self.most, self.gate = receive, send, most, gate or AccessState()
        stated = headers.get(b"content-length", b"")
        self.content_length = int(stated) if stated.isdigit() and len(stated) < 20 else 0
        self.size, self.status, self.answered, self.disconnected = 0, 500, False, False
        self.held = 0  # bytes that are counted in gate.held
        self.start = FIRST_SECONDS * random.uniform(
            1, 1.5
        )  # so that many that came at once do not all time out at once
        self.began: float | None = asyncio.get_running_loop().time()  # None: all of it is here

    async def receive(self) -> Any:
        """The next ASGI message. Raises HTTPException 413 for a body that is too large, 408 for a slow one."""
        if self.content_length <= self.most:
            message = await self._next()
            self.disconnected = self.disconnected or (message["type"] == "http.disconnect" and not self.answered)
            self.size += len(message.get("body", b""))
            if self.size <= self.most:
                self._hold()
                return message
        raise HTTPException(413, f"the request is larger than {self.most} bytes: send less at once")

    async def _next(self) -> Any:
        """The next message; 408 where the body arrives slower than PACE."""
        until = (
            None
            if self.began is None
            else self.began + min(ARRIVAL_TIMEOUT, self.start + self.size / MIN_BYTES_PER_SECOND)
        )
        try:
            async with asyncio.timeout_at(until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the request came too slowly: send it within {ARRIVAL_TIMEOUT:g} s") from None
        if not message.get("more_body"):
            self.began = None
        return message

    def _hold(self) -> None:
        """Count the bytes of large bodies over all requests. Raises HTTPException 429 above BODIES * most."""
        if self.size > SMALL_BODY:
            more, self.held = self.size - self.held, self.size
            self.gate.held += more
            if self.gate.held > MAX_LARGE_BODIES * self.most:
                raise HTTPException(429, "other large requests are under way: come again", {"Retry-After": "1"})

    def free(self) -> None:
        self.gate.held, self.held = self.gate.held - self.held, 0

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = message.get("headers", [])
            known = {name.lower() for name, _ in given}
            message = {**message, "headers": [*given, *(pair for pair in HEADERS.items() if pair[0] not in known)]}
        self.answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)
