"""Watch: texts are seen piece by piece while they are written, and ended before they are done.

    watch = Watch(lambda piece: print(piece.text, end=""))
    with watching(watch):                              # of this thread or task, and of the workers that it starts
        model.generate([prompt], max_new_tokens=100)
    watch.cancel()                                     # from any thread

A backend that writes token by token gives a piece as soon as it cannot be the begin of a stop text; another gives none.
A call that is cancelled ends with what it has written, where its backend can end it, and no further one begins. One of
an endpoint raises Cancelled, as nobody knows what it cost.
Pieces of calls in `with part((2,))`, those of a sample of a way to think, carry that path.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from innerloop.errors import InputError

__all__ = ["Cancelled", "Path", "Piece", "Pieces", "Watch", "is_cancelled", "part", "watched", "watching"]

Path = tuple[int | str, ...]  # number of a sample, that of a sample of it, ...; "judge" for what judges them


class Cancelled(InputError):
    """A call was cancelled before it began, or while it ran."""


class Piece(NamedTuple):
    """A part of a completion that has just been written."""

    completion: int  # number of the completion in its call: prompt after prompt, n of each
    tokens: tuple[str, ...]  # texts
    logprobs: tuple[float, ...]  # natural, of each token
    path: Path = ()  # of the sample that it belongs to; () outside of samples

    @property
    def text(self) -> str:
        return "".join(self.tokens)


class Watch:
    """See the module docstring. Both functions are called in the thread that writes, and must not wait.

    piece   called with every Piece
    result  called as result(path, said) when the sample at `path` has its result
    """

    def __init__(
        self, piece: Callable[[Piece], None] | None = None, result: Callable[[Path, Any], None] | None = None
    ) -> None:
        self.piece, self.result = piece, result
        self._lock, self._cancelled = threading.Lock(), threading.Event()
        self._ends: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def at(self, path: Path) -> Watch:
        """The same watch, to which pieces come with this path."""
        give = self.piece
        if give is None or not path:
            return self
        same = copy.copy(self)
        same.piece = lambda piece: give(piece._replace(path=path))
        return same

    def cancel(self) -> None:
        """End the calls that run under this watch; those that begin later raise Cancelled."""
        with self._lock:
            self._cancelled.set()
            ends = list(self._ends)
        for end in ends:
            end()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Context of a call that `end()` ends, from any thread."""
        with self._lock:
            self._ends.append(end)
        try:
            if self.cancelled:
                end()
            yield
        finally:
            with self._lock:
                self._ends.remove(end)


_watch: ContextVar[Watch | None] = ContextVar("innerloop_watch", default=None)
_path: ContextVar[Path] = ContextVar("innerloop_path", default=())


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Context in which calls of language models are watched."""
    mark = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(mark)


def watched() -> Watch | None:
    """The watch of this thread or task, for the calls of the part that it is at."""
    watch = _watch.get()
    return None if watch is None else watch.at(_path.get())


@contextmanager
def part(path: Path) -> Iterator[None]:
    """Context of the calls of a sample."""
    mark = _path.set(path)
    try:
        yield
    finally:
        _path.reset(mark)


def is_cancelled() -> bool:
    """Whether the calls of this thread or task are cancelled."""
    watch = _watch.get()
    return watch is not None and watch.cancelled


class Pieces:
    """Passes the tokens of one completion on to a watch, as soon as they cannot be the begin of a stop text."""

    def __init__(
        self,
        give: Callable[[Piece], None],
        completion: int,
        stop: Sequence[tuple[int, ...]],
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self.give, self.completion, self.stop, self.decode = give, completion, stop, decode
        self.ids: list[int] = []  # held back, and the next
        self.logprobs: list[float] = []

    def __call__(self, token: int, logprob: float) -> None:
        """Another token, which does not end the text."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        free = len(self.ids) - max((begun(self.ids, ids) for ids in self.stop), default=0)
        if free:
            ids, logprobs = tuple(self.ids[:free]), tuple(self.logprobs[:free])
            del self.ids[:free], self.logprobs[:free]
            self.give(Piece(self.completion, tuple(self.decode([i]) for i in ids), logprobs))


def begun(ids: Sequence[int], stop: Sequence[int]) -> int:
    """Length of the longest end of `ids` that is a begin of `stop`."""
    return next((k for k in range(min(len(ids), len(stop)), 0, -1) if tuple(ids[-k:]) == tuple(stop[:k])), 0)
