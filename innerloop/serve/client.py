"""A typed client: what the server can do, as Python calls.

    with Client("http://127.0.0.1:8000") as client:
        print(client.solve("1.3.34.2.1.34.2.").answer)
        for event in client.think("1.3.34.2.1.34.2.", depth=16):
            print(event)

Where the queue is full it waits as long as the server says and asks again, for `patience` seconds in all. Whatever goes
wrong is an InputError of one sentence.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

from innerloop.errors import InputError

try:
    import httpx
    from pydantic import ValidationError
except ImportError:
    raise InputError("the client needs httpx and pydantic: pip install 'innerloop[serve]'") from None

from innerloop.serve.schema import (
    Begin,
    Check,
    Detail,
    Done,
    Model,
    Models,
    Reloaded,
    Said,
    SolutionBody,
    Solutions,
    StepBody,
)

__all__ = ["Client", "Refused"]

Kind = TypeVar("Kind", bound=Said)
EVENTS: dict[str, type[Begin] | type[StepBody] | type[Done]] = {"begin": Begin, "step": StepBody, "done": Done}
LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)  # a kept connection that the server had closed


class Refused(InputError):
    """The server said no; `status` is the HTTP status, 0 where nobody answered."""

    def __init__(self, said: str, status: int = 0) -> None:
        super().__init__(said)
        self.status = status


class Client:
    """One server.

    timeout   seconds without a word from it; above what a request may take there
    patience  seconds in all that a call waits for room in the queue
    Dials are those of schema.Dials: depth, width, pick, noise, views, halting, least, seed, seconds, exact, priority.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", timeout: float = 120.0, patience: float = 60.0) -> None:
        self.url, self.patience = url.rstrip("/"), patience
        try:
            self._http = httpx.Client(base_url=self.url, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            raise InputError(f"{url} is no address ({error}): give one such as http://127.0.0.1:8000") from None
        self._only = ""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- what is there ------------------------------------------------------------------------------------------------
    def ready(self) -> bool:
        """Whether it takes puzzles; False where nobody answers."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def models(self) -> list[Model]:
        return self._get("/v1/models", Models).models

    def model(self, name: str = "") -> Detail:
        """All about one model; without a name the only one."""
        return self._get(self._at(name), Detail)

    # -- what it does -------------------------------------------------------------------------------------------------
    def solve(self, puzzle: str, model: str = "", **dials: Any) -> SolutionBody:
        return self._post(self._at(model, "/solve"), {"puzzle": puzzle} | dials, SolutionBody)

    def solve_many(
        self, puzzles: Sequence[str], model: str = "", nfe: float | None = None, **dials: Any
    ) -> list[SolutionBody]:
        """Solutions in the order of the puzzles. nfe: block calls a puzzle, on average."""
        body = {"puzzles": list(puzzles), "nfe": nfe} | dials
        return self._post(self._at(model, "/solve_many"), body, Solutions).solutions

    def check(self, puzzle: str, answer: str, model: str = "") -> Check:
        """What the task's rules say of an answer."""
        return self._post(self._at(model, "/check"), {"puzzle": puzzle, "answer": answer}, Check)

    def reload(self, model: str = "") -> Reloaded:
        """Have the server read a run anew."""
        return self._post(self._at(model, "/reload"), None, Reloaded)

    def think(self, puzzle: str, model: str = "", **dials: Any) -> Iterator[Begin | StepBody | Done]:
        """One Begin, a Step for each step of each trajectory, and one Done. Leave the loop and the server stops."""
        path, body = self._at(model, "/think"), {"puzzle": puzzle} | dials
        until = time.monotonic() + self.patience
        while True:
            try:
                with self._http.stream("POST", path, json=body) as reply:
                    if reply.status_code == 200:
                        yield from self._events(reply)
                        return
                    reply.read()
            except httpx.HTTPError as error:
                raise self._silent(error) from None
            self._wait(reply, until)

    # -- how ----------------------------------------------------------------------------------------------------------
    def _at(self, name: str, verb: str = "") -> str:
        """The path of a model, which need not be named where there is only one."""
        if not name:
            if not self._only:
                names = [m.name for m in self.models()]
                if len(names) != 1:
                    raise InputError(f"{self.url} serves {', '.join(names)}: name the model")
                self._only = names[0]
            name = self._only
        return f"/v1/models/{quote(name, safe='')}{verb}"

    def _get(self, path: str, kind: type[Kind]) -> Kind:
        return self._call("GET", path, None, kind)

    def _post(self, path: str, body: Any, kind: type[Kind]) -> Kind:
        return self._call("POST", path, body, kind)

    def _call(self, method: str, path: str, body: Any, kind: type[Kind]) -> Kind:
        until, again = time.monotonic() + self.patience, True
        while True:
            try:
                reply = self._http.request(method, path, json=body)
            except LOST as error:  # asking twice does no harm: the same puzzle and dials have the same answer
                if not again:
                    raise self._silent(error) from None
                again = False
                continue
            except httpx.HTTPError as error:
                raise self._silent(error) from None
            if reply.status_code == 200:
                return self._read(kind, reply.content)
            self._wait(reply, until)

    def _wait(self, reply: httpx.Response, until: float) -> None:
        """Sleep as long as a full queue asks for, or raise Refused."""
        pause = reply.headers.get("retry-after", "")
        if reply.status_code == 429 and pause.isdigit() and time.monotonic() + int(pause) <= until:
            time.sleep(int(pause))
            return
        try:
            said = str(reply.json()["error"])
        except (ValueError, KeyError, TypeError):
            said = f"{self.url} answered with status {reply.status_code}, and not like innerloop serve"
        raise Refused(said, reply.status_code)

    def _events(self, reply: httpx.Response) -> Iterator[Begin | StepBody | Done]:
        name = ""
        for line in reply.iter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            elif key == "data" and name == "error":
                raise Refused(str(json.loads(value)["error"]), 200)
            elif key == "data":
                yield self._read(EVENTS[name], value)
        if name != "done":
            raise Refused(f"{self.url} stopped in the middle of a thought")

    def _read(self, kind: type[Kind], text: str | bytes) -> Kind:
        try:
            return kind.model_validate_json(text)
        except ValidationError:
            raise Refused(f"{self.url} does not answer like innerloop serve: check the address") from None

    def _silent(self, error: Exception) -> Refused:
        said = str(error) or type(error).__name__
        return Refused(f"{self.url} does not answer ({said}): is innerloop serve running there?")
