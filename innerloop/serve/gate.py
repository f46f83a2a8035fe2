"""Who comes in: requests are counted and timed, bodies held to their size and time, none is let in while we close."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

__all__ = ["Door", "Gate"]

ARRIVAL = 30.0  # seconds in which the whole of a request must come
OPEN = ("/healthz", "/readyz", "/metrics")  # answered even while we close


class Gate:
    """Whether anybody is let in, and how many are inside."""

    def __init__(self) -> None:
        self.closing, self.inside = False, 0


class Door:
    """ASGI middleware over the whole application. body: bytes of a request, at most."""

    def __init__(self, app: Any, gate: Gate, metrics: Any, body: int) -> None:
        self.app, self.gate, self.metrics, self.body = app, gate, metrics, body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, call = time.perf_counter(), Call(receive, send, self.body, dict(scope["headers"]))
        watched = scope["path"] not in OPEN
        refused = self.gate.closing and watched
        self.gate.inside += watched
        try:
            if refused:
                said = {"error": "the server is shutting down: ask another"}
                await JSONResponse(said, 503, {"Retry-After": "1"})(scope, call.receive, call.send)
            else:
                await self.app(scope, call.receive, call.send)
        finally:
            self.gate.inside -= watched
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, "gone" if call.gone else str(call.status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)
            if call.gone:
                self.metrics.cancelled.labels(route).inc()


class Call:
    """One request as it comes in and goes out. most: bytes of its body; what it says it will have is believed."""

    def __init__(self, receive: Any, send: Any, most: int, headers: dict[bytes, bytes]) -> None:
        self._receive, self._send, self.most = receive, send, most
        said = headers.get(b"content-length", b"")
        self.promised = int(said) if said.isdigit() else 0
        self.size, self.status, self.answered, self.gone = 0, 500, False, False
        self.until: float | None = asyncio.get_running_loop().time() + ARRIVAL  # None: all of it is here

    async def receive(self) -> Any:
        """The next message. Raises HTTPException 413 for a body that is too large, 408 for one that does not come."""
        if self.promised <= self.most:
            try:
                async with asyncio.timeout_at(self.until):
                    message = await self._receive()
            except TimeoutError:
                raise HTTPException(408, f"the request did not come within {ARRIVAL:g} s: send less at once") from None
            self.until = self.until if message.get("more_body") else None
            self.gone = self.gone or (message["type"] == "http.disconnect" and not self.answered)
            self.size += len(message.get("body", b""))
            if self.size <= self.most:
                return message
        raise HTTPException(413, f"the request is larger than {self.most} bytes: send less at once")

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)
