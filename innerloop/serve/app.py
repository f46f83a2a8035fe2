"""The FastAPI application: all routes, which /openapi.json describes.

Every error is {"error": one sentence}. Nothing is computed here: puzzles go to the worker thread of their model.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from innerloop.errors import InputError

try:
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, StreamingResponse
    from pydantic.json_schema import models_json_schema
    from starlette.exceptions import HTTPException as AnyHTTPException
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.serve import schema
from innerloop.serve.about import About, model
from innerloop.serve.body import Bounded
from innerloop.serve.gate import Door, Gate
from innerloop.serve.metrics import Metrics
from innerloop.serve.models import Closed, Full, NoModel, Registry, Served, TooLarge
from innerloop.serve.orders import Order
from innerloop.serve.stream import Stream
from innerloop.serve.worker import bell
from innerloop.show.replay import cells
from innerloop.solve.verify import broken
from innerloop.text import printable

__all__ = ["Gone", "make"]

POLICY = (  # the page loads its own files only, and cannot be framed
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAID = 1000  # characters of an error, at most
SLACK = 30.0  # seconds beyond a stream's deadline for a client that reads slowly


class Gone(Exception):
    """The client disconnected."""


class Telling(StreamingResponse):
    """Server-sent events for at most `seconds`. `after` is called once the stream is over, however it ended."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], seconds: float, after: Callable[[], None]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.seconds, self.after = seconds, after

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            pass  # the client does not read: it is cut off
        finally:
            self.after()


class State:
    """State shared by the routes."""

    def __init__(self, registry: Registry, metrics: Metrics, gate: Gate) -> None:
        self.registry, self.metrics, self.gate = registry, metrics, gate
        self.fallback, self.streams = registry.fallback, 0
        metrics.watch(registry.workers)

    def about(self, name: str) -> About:
        served = self.registry.get(name)
        served.about = served.about or About(served)
        return served.about  # type: ignore[no-any-return]

    def submit(self, served: Served, order: Order) -> None:
        """Queue work; answer 429 with Retry-After where the queue is full."""
        try:
            served.worker.submit(order)
        except Full as error:
            raise busy(str(error), served.worker.wait(order.trajectories, served.limits.seconds)) from None

    async def solve(
        self, served: Served, request: Request, texts: list[str], asked: schema.Dials, nfe: float | None = None
    ) -> list[schema.SolutionBody]:
        """Solutions in the order of the puzzles. What is unsolved when the client disconnects is cancelled."""
        done, tell = bell()
        order = served.order(texts, asked, nfe, tell)
        if asked.exact:
            self.enter(served)
        try:
            self.submit(served, order)
            await unless_gone(request, self._finish(served, order, asked, done))
        except (Gone, asyncio.CancelledError):
            served.worker.cancel(order)
            raise
        finally:
            if asked.exact:
                self.fallback.leave()
        pairs = [(s, case.question) for s, case in zip(order.solutions, order.cases, strict=True) if s is not None]
        answers = await asyncio.to_thread(lambda: [served.said(*pair) for pair in pairs])
        for answer in answers:
            self.metrics.solved(served.name, answer)
        return answers

    async def _finish(self, served: Served, order: Order, asked: schema.Dials, done: asyncio.Future[None]) -> None:
        await done
        if order.error is not None:
            raise order.error
        for i, case in enumerate(order.cases):
            found = order.solutions[i]
            if asked.exact and found is not None:
                order.solutions[i] = await self.fallback.improve(
                    served.task, case.question, found, order.deadline, asked.seed
                )

    def enter(self, served: Served) -> None:
        try:
            self.fallback.enter()
        except Full as error:
            raise busy(str(error), self.fallback.wait(served.limits.seconds)) from None


def busy(said: str, seconds: float) -> HTTPException:
    return HTTPException(429, said, {"Retry-After": str(math.ceil(seconds))})


async def unless_gone(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; cancel it and raise as soon as the client disconnects."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        working.result()
    finally:
        working.cancel()
        watching.cancel()


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, as FastAPI takes them for /openapi.json."""
    known = {
        400: "an input is wrong",
        403: "asked by another site, or by a name that is not this server's",
        404: "no such model",
        408: "the request came too slowly",
        413: "too large",
        422: "not of the described form",
        429: "the queue is full: Retry-After says when to come again",
        500: "the server failed",
        503: "not ready, or shutting down",
    }
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        described[status] = {"model": schema.Error, "description": known[status]}
        if status in (429, 503):
            header = {"description": "seconds", "schema": {"type": "integer"}}
            described[status]["headers"] = {"Retry-After": header}
    return described


ASKED = errors(400, 403, 404, 408, 413, 422, 429, 500, 503)
EVENTS = {"begin": schema.Begin, "step": schema.StepBody, "done": schema.Done, "error": schema.Error}  # of a stream


def make(registry: Registry, gate: Gate | None = None, metrics: Metrics | None = None) -> FastAPI:
    """The application over these models."""
    gate, metrics = gate or Gate(), metrics or Metrics()
    state = State(registry, metrics, gate)
    app = FastAPI(
        title="Innerloop", version=version(), docs_url=None, redoc_url=None, summary="Models that think in loops."
    )
    app.state.innerloop = state
    app.router.route_class = Bounded
    app.openapi = lambda: described(app)  # type: ignore[method-assign]
    _sorry(app)
    _health(app, state)
    _models(app, state)
    _thinking(app, state)
    _telling(app, state)
    _page(app)
    app.add_middleware(Door, gate=gate, metrics=metrics, body=registry.limits.body)
    return app


def event_schema() -> dict[str, Any]:
    """JSON schema of a stream's events: begin, one step per step of each trajectory, then done or error."""

    def one(name: str, kind: Any) -> dict[str, Any]:
        said = {"$ref": f"#/components/schemas/{kind.__name__}"}
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": said}
        properties = {"event": {"type": "string", "const": name}, "data": data}
        return {"type": "object", "properties": properties, "required": ["event", "data"]}

    return {"oneOf": [one(name, kind) for name, kind in EVENTS.items()]}


def described(app: FastAPI) -> dict[str, Any]:
    """/openapi.json: FastAPI's description of the routes, with the schemas of the stream's events added."""
    if app.openapi_schema is None:
        found = FastAPI.openapi(app)
        kinds: list[Any] = [(kind, "serialization") for kind in EVENTS.values()]
        events = models_json_schema(kinds, ref_template="#/components/schemas/{model}")[1]["$defs"]
        found["components"]["schemas"] |= events
    return dict(app.openapi_schema or {})


def version() -> str:
    from importlib.metadata import version as of

    return of("innerloop")


def _sorry(app: FastAPI) -> None:
    """Exception handlers: every error becomes one sentence of JSON."""

    def said(status: int, text: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": printable(" ".join(text.split()), SAID)}, status, headers)

    @app.exception_handler(InputError)
    async def _input(_: Request, error: InputError) -> Response:
        statuses = {NoModel: 404, TooLarge: 413, Closed: 503}
        status = statuses.get(type(error), 400)
        return said(status, str(error), {"Retry-After": "1"} if status == 503 else None)

    @app.exception_handler(RequestValidationError)
    async def _form(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(printable(str(part), 80) for part in first["loc"] if part != "body") or "the body"
        return said(422, f"{where}: {first['msg']}")

    @app.exception_handler(AnyHTTPException)
    async def _http(request: Request, error: AnyHTTPException) -> Response:
        text = str(error.detail)
        if text in ("Not Found", "Method Not Allowed"):
            text = f"there is no {request.method} {request.url.path} here: /openapi.json lists what there is"
        return said(error.status_code, text, error.headers)

    @app.exception_handler(Gone)
    async def _gone(_: Request, error: Gone) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> Response:
        return said(500, "the server failed: its log says why")


def _health(app: FastAPI, state: State) -> None:
    @app.get("/healthz", summary="The process is alive")
    async def healthz() -> schema.Status:
        return schema.Status(status="ok")

    @app.get("/readyz", responses=errors(503), summary="It takes puzzles")
    async def readyz() -> schema.Status:
        if state.gate.closing:
            raise HTTPException(503, "the server is shutting down: ask another", {"Retry-After": "1"})
        return schema.Status(status="ready")

    text: dict[int | str, Any] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"}
    }

    @app.get("/metrics", response_class=Response, responses=text | errors(403), summary="Numbers")  # type: ignore[arg-type]
    async def metrics() -> Response:
        return Response(state.metrics.text(), media_type=state.metrics.content_type)


def _models(app: FastAPI, state: State) -> None:
    @app.get("/v1/models", responses=errors(403, 500, 503), summary="What is served")
    async def models() -> schema.Models:
        return schema.Models(models=[model(served) for served in state.registry.served.values()])

    @app.get("/v1/models/{name}", responses=errors(403, 404, 422, 500, 503), summary="All about one model")
    async def detail(name: str) -> schema.Detail:
        return await state.about(name).detail()

    @app.post(
        "/v1/models/{name}/reload",
        responses=errors(400, 403, 404, 422, 500, 503),
        summary="Read the run anew; what is under way finishes on the old weights",
    )
    async def reload(name: str) -> schema.Reloaded:
        served = await state.registry.reload(name)
        return schema.Reloaded(name=served.name, loaded=served.loaded)


def _thinking(app: FastAPI, state: State) -> None:
    @app.post("/v1/models/{name}/solve", responses=ASKED, summary="Solve one puzzle")
    async def solve(name: str, asked: schema.SolveRequest, request: Request) -> schema.SolutionBody:
        return (await state.solve(state.registry.get(name), request, [asked.puzzle], asked))[0]

    @app.post(
        "/v1/models/{name}/solve_many", response_model=schema.Solutions, responses=ASKED, summary="Solve many puzzles"
    )
    async def solve_many(name: str, asked: schema.SolveManyRequest, request: Request) -> Response:
        began = time.monotonic()
        found = await state.solve(state.registry.get(name), request, asked.puzzles, asked, asked.nfe)
        seconds = round(time.monotonic() - began, 6)
        answer = schema.Solutions(solutions=found, seconds=seconds, nfe=sum(s.nfe for s in found))
        # Serialised in a thread: a thousand solutions would block the event loop.
        return Response(await asyncio.to_thread(answer.model_dump_json), media_type="application/json")

    @app.post(
        "/v1/models/{name}/check", responses=errors(400, 403, 404, 408, 413, 422, 500, 503), summary="Judge an answer"
    )
    async def check(name: str, asked: schema.CheckRequest) -> schema.Check:
        served = state.registry.get(name)
        question, answer = served.tokens([asked.puzzle])[0], served.tokens([asked.answer])[0]
        pair = question[None], answer[None]
        verify, explain = served.solver.verify, getattr(served.task, "explain", None)
        return schema.Check(
            valid=bool(verify(*pair)[0]) if verify is not None else None,
            wrong=cells(broken(served.task, *pair)[0]),
            said=list(explain(question, answer)) if explain is not None else [],
        )


def _telling(app: FastAPI, state: State) -> None:
    stream: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/event-stream": {"itemSchema": event_schema()}}, "description": "what it thinks"}
    }

    @app.post(
        "/v1/models/{name}/think",
        response_class=Response,
        responses=stream | ASKED,
        summary="Solve one puzzle, and say every step of every trajectory",
    )
    async def think(name: str, asked: schema.SolveRequest) -> Response:
        served = state.registry.get(name)
        if state.streams >= served.limits.streams:
            raise busy(f"{state.streams} streams are open, and that is the most: come again in a while", 1)
        told = Stream(served, asked)
        order = told.order
        if asked.exact:
            state.enter(served)
        try:
            state.submit(served, order)
        except BaseException:
            if asked.exact:
                state.fallback.leave()
            raise
        state.streams += 1
        state.metrics.streams.set(state.streams)

        def after() -> None:
            served.worker.cancel(order)  # nothing is left of it, unless the client hung up
            told.close()
            if told.solution is not None:
                state.metrics.solved(served.name, told.solution)
            if asked.exact:
                state.fallback.leave()
            state.streams -= 1
            state.metrics.streams.set(state.streams)

        return Telling(told.events(state.fallback), told.deadline - time.monotonic() + SLACK, after)


def _page(app: FastAPI) -> None:
    """The web page and its files, if this build has them."""

    def asset(name: str) -> Response:
        try:
            from innerloop import web

            known = name in web.names()
        except ImportError:
            raise HTTPException(404, "this build has no page: the models are at /v1/models") from None
        if not known:
            raise HTTPException(404, f"the page has no {name[:100]}")
        body, kind = web.asset(name)
        return Response(body, media_type=kind, headers={"Cache-Control": "no-cache", "Content-Security-Policy": POLICY})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return asset("index.html")

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(name: str) -> Response:
        return asset(name)
