"""The server process (uvicorn): its socket, signals, and a graceful shutdown that answers every accepted request."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from innerloop.errors import InputError

try:
    import uvicorn
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.serve.access import AccessState
from innerloop.serve.connections import KEEP_ALIVE, Connection, ConnectionPool, Listener, connection_limit

__all__ = ["Server", "Service", "bind", "is_loopback"]

SWEEP_TICKS = 5  # uvicorn ticks of 0.1 s between two sweeps over all connections
CLOSE_TIMEOUT = 10  # seconds for connections to close once all requests are answered
HANG_TIMEOUT = 5  # further seconds after which the process exits with status 1

log = logging.getLogger("innerloop.serve")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to that address; port 0 takes a free one. Raises InputError if it cannot be bound."""
    if not 0 <= port < 65536:
        raise InputError(f"--port is {port}: give 1 to 65535, or 0 for any free one")
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With its protocol given, or asyncio leaves Nagle's algorithm on: 40 ms per answer.
        sock = socket.socket(*info[:3])
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(info[4])
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise InputError(
            f"{host} port {port} cannot be bound ({error.strerror or error}): give another --host or --port"
        ) from None
    return sock


class Service(Protocol):
    """What a server serves: a models.Registry or a text_work.TextService."""

    limits: Any  # .connections: most that are open at once

    def limit_deadlines(self, deadline: float) -> None:
        """Answer everything by `deadline` (time.monotonic())."""


class Server(uvicorn.Server):
    """uvicorn with a graceful shutdown.

    After the first SIGTERM or SIGINT, /readyz and all new requests answer 503 while accepted requests go on. When they
    are answered, or after `grace` seconds with their best answers so far, the process exits with 0. A second signal
    answers them at once. If a thread or the event loop hangs, the process exits with 1, CLOSE_TIMEOUT + HANG_TIMEOUT
    seconds later.
    """

    def __init__(
        self, app: Any, registry: Service, access: AccessState, grace: float, ready: Callable[[], None] = lambda: None
    ) -> None:
        config = uvicorn.Config(
            app, http=Connection, log_level="error", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=CLOSE_TIMEOUT, timeout_keep_alive=int(KEEP_ALIVE), lifespan="off", ws="none",
        )  # fmt: skip
        super().__init__(config)
        self.registry, self.access, self.grace, self.ready = registry, access, grace, ready
        self._signal_time = 0.0  # time.monotonic() of the first signal; 0: none yet
        self._deadline = math.inf  # time.monotonic() by which all requests should be answered, once shutting down
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, with a limit on the number of connections."""
        self._loop = asyncio.get_running_loop()
        if not self.config.loaded:
            self.config.load()
        self.pool = ConnectionPool(connection_limit(self.registry.limits.connections))

        def connection() -> Connection:
            return Connection(self.config, self.server_state, {}, self._loop)

        self.servers = [Listener(sock, self.pool, connection) for sock in sockets or []]  # type: ignore[misc]
        self.started = True
        self.ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            self.pool.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the shutdown. uvicorn would raise the signal again at the end; this does not, so the exit code is 0."""
        grace = 0.0 if self._signal_time else self.grace
        self._signal_time = self._signal_time or time.monotonic()
        timer = threading.Timer(grace + CLOSE_TIMEOUT + HANG_TIMEOUT, force_exit)
        timer.daemon = True
        timer.start()
        if self._loop is None or not self.started:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._shut_down)

    def _shut_down(self) -> None:
        second, self.access.closing = self.access.closing, True
        self._deadline = min(self._deadline, time.monotonic() + (0.0 if second else self.grace))
        self.registry.limit_deadlines(self._deadline)
        self._closing = self._closing or asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        while self.access.active_requests and time.monotonic() < self._deadline + CLOSE_TIMEOUT:
            await asyncio.sleep(0.02)
        self.should_exit = True


def force_exit() -> None:
    """Exit at once with code 1, because a thread or the event loop hangs."""
    log.error("the server does not shut down: a thread or the event loop hangs, so the process exits")
    logging.shutdown()
    os._exit(1)
