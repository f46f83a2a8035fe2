"""Bounded JSON bodies: the number of values is counted before the body is parsed, so a huge body costs little."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from innerloop.errors import InputError
from innerloop.files import parse_json
from innerloop.text import printable

__all__ = ["BoundedRoute", "Bounds", "Malformed", "TooManyValues", "parse"]

MAX_FIELDS = 64  # values of a request besides its puzzles
FIRST_CHECK_BYTES = 64 * 1024  # bytes of a body after which it is checked for the first time
MAX_CONTAINERS = 16  # lists and objects of a request: itself, its puzzles, its noise


@dataclass(frozen=True)
class Bounds:
    """What a body may hold. `app.state.bounds` has those of a server."""

    items: int  # values of its list: puzzles, tokens, messages
    name: str = "puzzles"  # of these values
    containers: int = MAX_CONTAINERS  # lists and objects

    @property
    def values(self) -> int:
        return self.items + MAX_FIELDS


class Malformed(InputError):
    """A body that is not JSON, or holds more lists and objects than any request. Answered with 422."""


class TooManyValues(InputError):
    """A body with more values than any request needs. Answered with 413."""


def parse(body: bytes, bounds: Bounds) -> Any:
    """The JSON value of a body within these bounds. Raises Malformed or TooManyValues.

    Takes milliseconds for megabytes: counting uses str.count, and what is parsed and validated afterwards is small.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8 (byte {error.start}): send JSON in UTF-8") from None
    check_counts(text, bounds)
    try:
        return parse_json(text, "the body")
    except InputError as error:
        raise Malformed(printable(str(error))) from None


def check_counts(text: str, bounds: Bounds) -> None:
    """Raise Malformed or TooManyValues if a JSON text, or the beginning of one, has more values than any request."""
    lists, values = count_values(text, bounds.values)
    if lists > bounds.containers:
        raise Malformed(f"the body holds more than {bounds.containers} lists and objects: no request has that many")
    if values > bounds.values:
        raise TooManyValues(
            f"the body holds more than {bounds.values} values: send at most {bounds.items} {bounds.name} at once"
        )


def count_values(text: str, limit: int) -> tuple[int, int]:
    """(lists and objects, values) of a JSON text, counted by its punctuation; (0, limit + 1) for too many strings."""
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")  # without escapes every second quote ends a string
    if text.count('"') > 2 * (limit + 2):  # a string follows a comma, a colon or a bracket, or is all there is
        return 0, limit + 1
    outside = "".join(text.split('"')[::2])
    lists = outside.count("[") + outside.count("{")
    return lists, lists + outside.count(",") + outside.count(":")


class BoundedRequest(Request):
    """A request whose JSON body is checked against the server's limits while it arrives."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            parts, size, next_check = [], 0, FIRST_CHECK_BYTES
            async for part in self.stream():
                parts.append(part)
                size += len(part)
                if size > next_check:
                    next_check = 2 * size
                    parts = [b"".join(parts)]
                    self._checked(check_counts, parts[0].decode(errors="replace"))
            self._body = b"".join(parts)
        return self._body

    async def json(self) -> Any:
        return self._checked(parse, await self.body())

    def _checked(self, check: Callable[[Any, Bounds], Any], body: Any) -> Any:
        """check(body, bounds of the server); its exceptions become HTTP 422 and 413."""
        try:
            return check(body, self.app.state.bounds)
        except Malformed as error:
            raise HTTPException(422, str(error)) from None
        except TooManyValues as error:
            raise HTTPException(413, str(error)) from None


class BoundedRoute(APIRoute):
    """A FastAPI route whose JSON body is read by `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handler(BoundedRequest(request.scope, request.receive))

        return bounded
