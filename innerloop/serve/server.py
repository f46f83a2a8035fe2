"""The process around the routes: it takes a port, says where it is, and when told to end it loses nobody."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from innerloop.errors import InputError

try:
    import uvicorn
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.serve.gate import Gate
from innerloop.serve.models import Registry

__all__ = ["Server", "bind", "loopback"]

IDLE = 75  # seconds that a connection may say nothing: longer than clients keep theirs
LAST = 10  # seconds in which connections must close once everybody inside was answered


def loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket there; port 0 takes a free one. Raises InputError where that cannot be had."""
    if not 0 <= port < 65536:
        raise InputError(f"--port is {port}: give 1 to 65535, or 0 for any that is free")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(*found[:3])  # with its protocol named, or asyncio leaves Nagle on: 40 ms an answer
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(found[4])
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise InputError(
            f"{host} port {port} cannot be had ({error.strerror or error}): give another --host or --port"
        ) from None
    return sock


class Server(uvicorn.Server):
    """uvicorn, with an end in three parts.

    On the first SIGTERM or SIGINT /readyz and all requests that come later answer 503, while those that are inside go
    on; when they are answered, or after `grace` seconds with what they have by then, the process ends with 0. A second
    signal lets nobody wait: they are answered with what there is.
    """

    def __init__(
        self, app: Any, registry: Registry, gate: Gate, grace: float, ready: Callable[[], None] = lambda: None
    ) -> None:
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=LAST,
            timeout_keep_alive=IDLE, lifespan="off", ws="none",
        )  # fmt: skip
        super().__init__(config)
        self.registry, self.gate, self.grace, self.ready = registry, gate, grace, ready
        self._end = math.inf  # time.monotonic() by which everybody should be answered, once told to end
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self.ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What a signal does. It is not raised again at the end, so that the process ends with 0."""
        if self._loop is None or not self.started:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._told)

    def _told(self) -> None:
        again, self.gate.closing = self.gate.closing, True
        self._end = min(self._end, time.monotonic() + (0.0 if again else self.grace))
        self.registry.hurry(self._end)
        self._closing = self._closing or asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        while self.gate.inside and time.monotonic() < self._end + LAST:
            await asyncio.sleep(0.02)
        self.should_exit = True
