"""Limits on the number and the timeouts of connections (uvicorn, h11), against idle, slow and non-reading clients.

    phase        state of the connection                            closed after
    waiting      for a request, or for the rest of its head         10 to 15 s; 75 s between two requests
    receiving    the head is complete, the body is not              408 by serve/gate.py; 2 s for a body nobody reads
    answering    the request is complete                            never, while the answer is computed
    not reading  the client does not take the written bytes         30 s

At the limit, a new connection replaces the one that has waited longest without a complete request, of the peer address
with the most connections.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import random
import resource
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from innerloop.serve.origin import HEADERS

__all__ = ["Connection", "ConnectionPool", "Listener", "connection_limit"]

HEAD_TIMEOUT = 10.0  # seconds in which the head of a request must come, or up to half as much again
KEEP_ALIVE = 75.0  # seconds between two requests of a connection: longer than clients keep theirs
LINGER_TIMEOUT = 2.0  # seconds in which a body that nobody reads may still come, after the answer
WRITE_TIMEOUT = 30.0  # seconds in which a client takes nothing of what it is sent
MIN_BYTES_TAKEN = 512  # bytes that it must take between two checks to count as reading
MAX_BODY_PARTS = 1024  # parts in which a body may come, and one more for every DENSE bytes
BYTES_PER_PART = 64
BACKLOG = 1024  # connections that the system queues before accept
ACCEPTS_PER_TURN = 8  # accepts in a row before the event loop serves others
ACCEPT_RETRY_SECONDS = 0.25  # seconds without listening where the system has no room
LOG_INTERVAL = 60.0  # seconds between two log lines about that
SPARE_DESCRIPTORS = 16  # file descriptors that are kept for files
MIN_CONNECTIONS = 4  # connections, however few descriptors there are
RESOURCE_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger("innerloop.serve")


class BoundedH11(h11.Connection):
    """h11 with a limit on the number of body parts: each part costs microseconds, so tiny parts are an attack."""

    parts = size = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.parts = self.size = 0
        elif isinstance(event, h11.Data):
            self.parts, self.size = self.parts + 1, self.size + len(event.data)
            if self.parts > MAX_BODY_PARTS + self.size // BYTES_PER_PART:
                raise h11.RemoteProtocolError("the body comes in too many parts", error_status_hint=413)
        return event


class Connection(H11Protocol):
    """One HTTP connection, with the times that its timeouts count from."""

    pool: ConnectionPool  # given by Listener

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        most = self.config.h11_max_incomplete_event_size or 16 * 1024
        self.conn = BoundedH11(h11.SERVER, most)
        self.since = self.moved = self.loop.time()  # when this phase began; when the client last took something
        self.begun = self.served = False  # something of a request has come; one was answered
        self.head = HEAD_TIMEOUT * random.uniform(1, 1.5)  # so that many who came at once are not all closed at once
        self.left = 0  # bytes written that the client had not taken at the last look
        self.peer = ""

    # -- asyncio's --------------------------------------------------------------------------------------------------
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.peer = str(self.client[0]) if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pool.leave(self)

    def data_received(self, data: bytes) -> None:
        if not self.begun:
            self.begun, self.since = True, self.loop.time()
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # invalid bytes while a request is being answered
            self.transport.abort()

    # -- uvicorn's --------------------------------------------------------------------------------------------------
    def on_response_complete(self) -> None:
        self.served, self.begun, self.since = True, False, self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with 400 and one sentence of JSON; abort where an answer has begun."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        text = json.dumps({"error": "this is no HTTP request that can be read: send HTTP/1.1"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        headers += [(b"connection", b"close"), *HEADERS.items()]
        events = [h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=text)]
        for event in [*events, h11.EndOfMessage()]:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    # -- checked from time to time ----------------------------------------------------------------------------------
    @property
    def is_answering(self) -> bool:
        """The request is complete and its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    @property
    def is_receiving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and bool(self.cycle.more_body)

    def look(self, now: float) -> None:
        """Record whether the client has taken bytes since the last check."""
        left = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if left == 0 or left <= self.left - MIN_BYTES_TAKEN:
            self.moved = now
        self.left = left

    def is_overdue(self, now: float) -> bool:
        """Whether a timeout has passed. To be called after `look`."""
        if now - self.moved > WRITE_TIMEOUT:
            return True
        if self.is_answering or self.is_receiving:
            return False
        if self.conn.their_state is h11.SEND_BODY:
            return now - self.since > LINGER_TIMEOUT
        begun = self.begun or bool(self.conn.trailing_data[0])
        return now - self.since > (KEEP_ALIVE if self.served and not begun else self.head)

    def close(self) -> None:
        """Close at once; unsent bytes are dropped."""
        if self.transport is not None:
            self.transport.abort()


class ConnectionPool:
    """All open connections of a server, at most `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.members: set[Connection] = set()
        self.left: Callable[[], None] = lambda: None  # called when there is room again

    def make(self) -> bool:
        """Whether there is room for one more; at the limit, a connection without a complete request is closed."""
        if len(self.members) < self.most:
            return True
        waiting = [c for c in self.members if not c.is_answering]
        if not waiting:
            return False
        peers = Counter(c.peer for c in self.members)
        victim = min(waiting, key=lambda c: (-peers[c.peer], c.since))
        self.members.discard(victim)
        victim.close()
        return True

    def leave(self, one: Connection) -> None:
        self.members.discard(one)
        self.left()

    def sweep(self, now: float) -> None:
        """Close all connections whose timeout has passed."""
        for one in list(self.members):
            one.look(now)
            if one.is_overdue(now):
                one.close()


class Listener:
    """Accepts connections while there is room. It replaces the asyncio server that uvicorn would make."""

    def __init__(self, sock: socket.socket, crowd: ConnectionPool, protocol: Callable[[], Connection]) -> None:
        self.sock, self.pool, self.protocol = sock, crowd, protocol
        self._loop = asyncio.get_running_loop()
        self._open, self._reading, self._told = True, False, -LOG_INTERVAL
        self._tasks: set[asyncio.Future[Any]] = set()
        crowd.left = self._listen
        sock.listen(BACKLOG)
        sock.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        if self._open and not self._reading:
            self._reading = True
            self._loop.add_reader(self.sock.fileno(), self._accept)

    def _pause(self) -> None:
        """Stop accepting: new connections wait in the system's queue, where they cost nothing."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.sock.fileno())

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self.pool.make():
                self._pause()
                return
            try:
                sock, _ = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._accept_failed(error)
                return
            self._enter(sock)

    def _enter(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        one = self.protocol()
        one.pool = self.pool
        self.pool.members.add(one)
        task = asyncio.ensure_future(self._loop.connect_accepted_socket(lambda: one, sock))
        self._tasks.add(task)

        def entered(task: asyncio.Future[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None:  # it was closed before it was set up
                self.pool.leave(one)
                sock.close()

        task.add_done_callback(entered)

    def _accept_failed(self, error: OSError) -> None:
        """accept() failed, mostly for lack of descriptors: close a waiting connection, and accept again after PAUSE."""
        now = self._loop.time()
        if now - self._told > LOG_INTERVAL:
            self._told = now
            log.warning("no connection can be taken (%s): trying again, and saying so once a minute", error.strerror)
        self._pause()
        self._loop.call_later(ACCEPT_RETRY_SECONDS, self._listen)
        if error.errno in RESOURCE_ERRNOS:
            most, self.pool.most = self.pool.most, len(self.pool.members)
            self.pool.make()
            self.pool.most = most

    def close(self) -> None:
        self._pause()
        self._open = False

    async def wait_closed(self) -> None:
        """Nothing to wait for: uvicorn waits for the connections."""


def connection_limit(connections: int) -> int:
    """How many connections to allow: `connections`, or fewer where file descriptors are scarce."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return connections
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = 32
    return max(MIN_CONNECTIONS, min(connections, soft - used - SPARE_DESCRIPTORS))
