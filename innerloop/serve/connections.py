"""Limits on the number and the timeouts of connections (uvicorn, h11), against idle, slow and non-reading clients.

    phase        state of the connection                            closed after
    waiting      for a request, or for the rest of its head         10 to 15 s; 75 s between two requests
    receiving    the head is complete, the body is not              408 by serve/access.py; 2 s for a body nobody reads
    answering    the request is complete                            never, while the answer is computed
    not reading  the client does not read the written bytes         30 s

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

HEAD_TIMEOUT = 10.0  # seconds in which the head of a request must arrive, times a random 1 to 1.5
KEEP_ALIVE = 75.0  # seconds between two requests of a connection: longer than clients keep theirs
LINGER_TIMEOUT = 2.0  # seconds after the answer in which an unread body may still arrive
WRITE_TIMEOUT = 30.0  # seconds without the client reading any written bytes
MIN_BYTES_READ = 512  # bytes that a client must read between two checks to count as reading
MAX_BODY_PARTS = 1024  # parts of a body, and one more for every BYTES_PER_PART bytes
BYTES_PER_PART = 64
BACKLOG = 1024  # connections that the kernel queues before accept
ACCEPTS_PER_TURN = 8  # accepts in a row before the event loop serves others
ACCEPT_RETRY_SECONDS = 0.25  # seconds before the next accept after one failed
LOG_INTERVAL = 60.0  # seconds between two warnings about failed accepts
SPARE_DESCRIPTORS = 16  # file descriptors left for files
MIN_CONNECTIONS = 4  # least number of connections, however few descriptors there are
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        max_event_bytes = self.config.h11_max_incomplete_event_size or 16 * 1024
        self.conn = BoundedH11(h11.SERVER, max_event_bytes)
        self.phase_start = self.last_read = self.loop.time()  # of this phase; of the client's last read
        self.request_begun = self.has_answered = False  # bytes of a request have arrived; a request was answered
        self.head_timeout = HEAD_TIMEOUT * random.uniform(1, 1.5)  # connections made together are not closed together
        self.unsent_bytes = 0  # bytes in the write buffer at the last check
        self.peer = ""

    # -- asyncio's --------------------------------------------------------------------------------------------------
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.peer = str(self.client[0]) if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pool.remove(self)

    def data_received(self, data: bytes) -> None:
        if not self.request_begun:
            self.request_begun, self.phase_start = True, self.loop.time()
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # invalid bytes while a request is being answered
            self.transport.abort()

    # -- uvicorn's --------------------------------------------------------------------------------------------------
    def on_response_complete(self) -> None:
        self.has_answered, self.request_begun, self.phase_start = True, False, self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with 400 and one sentence of JSON; abort where an answer has begun."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        text = json.dumps({"error": "the request is not valid HTTP: send HTTP/1.1"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        headers += [(b"connection", b"close"), *HEADERS.items()]
        events = [h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=text)]
        for event in [*events, h11.EndOfMessage()]:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    # -- checked periodically ---------------------------------------------------------------------------------------
    @property
    def is_answering(self) -> bool:
        """The request is complete and its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    @property
    def is_receiving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and bool(self.cycle.more_body)

    def check_reading(self, now: float) -> None:
        """Record whether the client has read bytes since the last check."""
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if unsent == 0 or unsent <= self.unsent_bytes - MIN_BYTES_READ:
            self.last_read = now
        self.unsent_bytes = unsent

    def is_overdue(self, now: float) -> bool:
        """Whether a timeout has passed. Call `check_reading` first."""
        if now - self.last_read > WRITE_TIMEOUT:
            return True
        if self.is_answering or self.is_receiving:
            return False
        if self.conn.their_state is h11.SEND_BODY:
            return now - self.phase_start > LINGER_TIMEOUT
        request_begun = self.request_begun or bool(self.conn.trailing_data[0])
        return now - self.phase_start > (KEEP_ALIVE if self.has_answered and not request_begun else self.head_timeout)

    def close(self) -> None:
        """Close at once; unsent bytes are dropped."""
        if self.transport is not None:
            self.transport.abort()


class ConnectionPool:
    """All open connections of a server, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.members: set[Connection] = set()
        self.on_room: Callable[[], None] = lambda: None  # called when there is room again

    @property
    def is_full(self) -> bool:
        return len(self.members) >= self.limit

    def make_room(self) -> bool:
        """Close a connection without a complete request if the limit is reached. Returns whether there is room."""
        if not self.is_full:
            return True
        waiting = [c for c in self.members if not c.is_answering]
        if not waiting:
            return False
        peers = Counter(c.peer for c in self.members)
        victim = min(waiting, key=lambda c: (-peers[c.peer], c.phase_start))
        self.members.discard(victim)
        victim.close()
        return True

    def remove(self, connection: Connection) -> None:
        self.members.discard(connection)
        self.on_room()

    def sweep(self, now: float) -> None:
        """Close all connections whose timeout has passed."""
        for connection in list(self.members):
            connection.check_reading(now)
            if connection.is_overdue(now):
                connection.close()


class Listener:
    """Accepts connections while there is room. It replaces the asyncio server that uvicorn would make."""

    def __init__(self, sock: socket.socket, pool: ConnectionPool, protocol: Callable[[], Connection]) -> None:
        self.sock, self.pool, self.protocol = sock, pool, protocol
        self._loop = asyncio.get_running_loop()
        self._open, self._listening, self._last_warning = True, False, -LOG_INTERVAL
        self._tasks: set[asyncio.Future[Any]] = set()
        pool.on_room = self._listen
        sock.listen(BACKLOG)
        sock.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        if self._open and not self._listening:
            self._listening = True
            self._loop.add_reader(self.sock.fileno(), self._accept)

    def _pause(self) -> None:
        """Stop accepting: new connections wait in the kernel's queue."""
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self.sock.fileno())

    def _accept(self) -> None:
        for accepted in range(ACCEPTS_PER_TURN):
            if accepted and self.pool.is_full:
                return  # whether another one waits is not known before the next turn: close none before that
            if not self.pool.make_room():
                self._pause()
                return
            try:
                sock, _ = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._accept_failed(error)
                return
            self._start(sock)

    def _start(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        connection = self.protocol()
        connection.pool = self.pool
        self.pool.members.add(connection)
        task = asyncio.ensure_future(self._loop.connect_accepted_socket(lambda: connection, sock))
        self._tasks.add(task)

        def set_up(task: asyncio.Future[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None:  # it was closed before it was set up
                self.pool.remove(connection)
                sock.close()

        task.add_done_callback(set_up)

    def _accept_failed(self, error: OSError) -> None:
        """Close a waiting connection if descriptors are lacking, and retry accept() after ACCEPT_RETRY_SECONDS."""
        now = self._loop.time()
        if now - self._last_warning > LOG_INTERVAL:
            self._last_warning = now
            log.warning(
                "cannot accept connections (%s): retrying, with this warning at most once a minute", error.strerror
            )
        self._pause()
        self._loop.call_later(ACCEPT_RETRY_SECONDS, self._listen)
        if error.errno in RESOURCE_ERRNOS:
            limit, self.pool.limit = self.pool.limit, len(self.pool.members)
            self.pool.make_room()
            self.pool.limit = limit

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
