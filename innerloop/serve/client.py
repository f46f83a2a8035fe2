"""Python client of the server, with typed answers (pydantic).

    with Client("http://127.0.0.1:8000") as client:
        print(client.solve("1.3.34.2.1.34.2.").answer)
        for event in client.think("1.3.34.2.1.34.2.", depth=16):
            print(event)

Where the queue is full it retries after the server's Retry-After, for `patience` seconds in all. Every failure raises
InputError with one sentence.
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
    ResponseModel,
    SolutionBody,
    Solutions,
    StepBody,
)

__all__ = ["Client", "RequestFailed"]

Kind = TypeVar("Kind", bound=ResponseModel)
EVENTS: dict[str, type[Begin] | type[StepBody] | type[Done]] = {"begin": Begin, "step": StepBody, "done": Done}
# A keep-alive connection that the server closed.
CONNECTION_LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class RequestFailed(InputError):
    """The server answered with an error, or not at all. `status`: HTTP status, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """A connection to one server.

    timeout   seconds to wait for data; must exceed the longest request
    patience  seconds in all that a call waits for room in the queue
    Options of a solve are the fields of serve.schema.Options.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", timeout: float = 120.0, patience: float = 60.0) -> None:
        self.url, self.patience = url.rstrip("/"), patience
        try:
            self._http = httpx.Client(base_url=self.url, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            raise InputError(f"{url} is not a valid URL ({error}): give one such as http://127.0.0.1:8000") from None
        self._default_model = ""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- models -------------------------------------------------------------------------------------------------------
    def ready(self) -> bool:
        """Whether the server accepts puzzles; False where it does not answer."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def models(self) -> list[Model]:
        return self._get("/v1/models", Models).models

    def model(self, name: str = "") -> Detail:
        """Details of one model. The name may be left out where only one is served."""
        return self._get(self._path(name), Detail)

    # -- requests -----------------------------------------------------------------------------------------------------
    def solve(self, puzzle: str, model: str = "", **options: Any) -> SolutionBody:
        return self._post(self._path(model, "/solve"), {"puzzle": puzzle} | options, SolutionBody)

    def solve_many(
        self, puzzles: Sequence[str], model: str = "", nfe: float | None = None, **options: Any
    ) -> list[SolutionBody]:
        """Solutions in the order of the puzzles. nfe: block calls a puzzle, on average."""
        body = {"puzzles": list(puzzles), "nfe": nfe} | options
        return self._post(self._path(model, "/solve_many"), body, Solutions).solutions

    def check(self, puzzle: str, answer: str, model: str = "") -> Check:
        """Check an answer by the task's rules."""
        return self._post(self._path(model, "/check"), {"puzzle": puzzle, "answer": answer}, Check)

    def reload(self, model: str = "") -> Reloaded:
        """Have the server load a run again from disk."""
        return self._post(self._path(model, "/reload"), None, Reloaded)

    def think(self, puzzle: str, model: str = "", **options: Any) -> Iterator[Begin | StepBody | Done]:
        """One Begin, a StepBody for each step of each trajectory, one Done. Breaking out of the loop cancels it."""
        path, body = self._path(model, "/think"), {"puzzle": puzzle} | options
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with self._http.stream("POST", path, json=body) as reply:
                    if reply.status_code == 200:
                        yield from self._events(reply)
                        return
                    reply.read()
            except httpx.HTTPError as error:
                raise self._no_answer(error) from None
            self._wait(reply, deadline)

    # -- HTTP ---------------------------------------------------------------------------------------------------------
    def _path(self, name: str, verb: str = "") -> str:
        """The path of a model, which need not be named where there is only one."""
        if not name:
            if not self._default_model:
                names = [m.name for m in self.models()]
                if len(names) != 1:
                    raise InputError(f"{self.url} serves {', '.join(names)}: name the model")
                self._default_model = names[0]
            name = self._default_model
        return f"/v1/models/{quote(name, safe='')}{verb}"

    def _get(self, path: str, kind: type[Kind]) -> Kind:
        return self._call("GET", path, None, kind)

    def _post(self, path: str, body: Any, kind: type[Kind]) -> Kind:
        return self._call("POST", path, body, kind)

    def _call(self, method: str, path: str, body: Any, kind: type[Kind]) -> Kind:
        deadline, may_repeat = time.monotonic() + self.patience, True
        while True:
            try:
                reply = self._http.request(method, path, json=body)
            except CONNECTION_LOST as error:  # safe to repeat: the same puzzle and options have the same answer
                if not may_repeat:
                    raise self._no_answer(error) from None
                may_repeat = False
                continue
            except httpx.HTTPError as error:
                raise self._no_answer(error) from None
            if reply.status_code == 200:
                return self._read(kind, reply.content)
            self._wait(reply, deadline)

    def _wait(self, reply: httpx.Response, deadline: float) -> None:
        """Sleep for Retry-After if the queue is full, else raise RequestFailed."""
        retry_after = reply.headers.get("retry-after", "")
        if reply.status_code == 429 and retry_after.isdigit() and time.monotonic() + int(retry_after) <= deadline:
            time.sleep(int(retry_after))
            return
        try:
            message = str(reply.json()["error"])
        except (ValueError, KeyError, TypeError):
            message = f"{self.url} answered with status {reply.status_code}, and not as innerloop serve does"
        raise RequestFailed(message, reply.status_code)

    def _events(self, reply: httpx.Response) -> Iterator[Begin | StepBody | Done]:
        name = ""
        for line in reply.iter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            elif key == "data" and name == "error":
                raise RequestFailed(str(json.loads(value)["error"]), 200)
            elif key == "data":
                yield self._read(EVENTS[name], value)
        if name != "done":
            raise RequestFailed(f"{self.url} ended the stream before it was done")

    def _read(self, kind: type[Kind], text: str | bytes) -> Kind:
        try:
            return kind.model_validate_json(text)
        except ValidationError:
            raise RequestFailed(f"{self.url} does not answer as innerloop serve does: check the address") from None

    def _no_answer(self, error: Exception) -> RequestFailed:
        reason = str(error) or type(error).__name__
        return RequestFailed(f"{self.url} does not answer ({reason}): is innerloop serve running there?")
