"""The FastAPI application: all routes, which /openapi.json describes.

Every error is {"error": one sentence}. Nothing is computed here: puzzles go to the worker thread of their model.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from innerloop.errors import InputError

try:
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from pydantic.json_schema import models_json_schema
    from starlette.exceptions import HTTPException as AnyHTTPException
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.serve import schema
from innerloop.serve.about import DetailCache, model_info
from innerloop.serve.access import AccessMiddleware, AccessState
from innerloop.serve.answering import ClientDisconnected, EventStream, until_disconnect
from innerloop.serve.body import BoundedRoute, Bounds
from innerloop.serve.metrics import Metrics
from innerloop.serve.models import ModelNotFound, QueueFull, Registry, RequestTooLarge, Served, WorkerClosed
from innerloop.serve.stream import ReplayStream
from innerloop.serve.work import Work
from innerloop.serve.worker import thread_safe_future
from innerloop.show.replay import cell_indices
from innerloop.solve.verify import violating_cells
from innerloop.text import printable

__all__ = ["create_app", "health_routes", "page_routes", "version"]

CONTENT_SECURITY_POLICY = (  # the page loads its own files only, and cannot be framed
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAX_ERROR_CHARS = 1000  # longest error message
READ_SLACK = 30.0  # seconds beyond a stream's deadline for a client that reads slowly


class AppState:
    """State shared by the routes."""

    def __init__(self, registry: Registry, metrics: Metrics, access: AccessState) -> None:
        self.registry, self.metrics, self.access = registry, metrics, access
        self.fallback, self.streams = registry.fallback, 0
        metrics.watch(registry.workers)

    def about(self, name: str) -> DetailCache:
        served = self.registry.get(name)
        served.about = served.about or DetailCache(served)
        return served.about  # type: ignore[no-any-return]

    def submit(self, served: Served, work: Work) -> None:
        """Queue a request; 429 with Retry-After if the queue is full."""
        try:
            served.worker.submit(work)
        except QueueFull as error:
            raise queue_full(str(error), served.worker.retry_after(work.trajectories, served.limits.seconds)) from None

    async def solve(
        self, served: Served, request: Request, texts: list[str], body: schema.Options, nfe: float | None = None
    ) -> list[schema.SolutionBody]:
        """Solutions in the order of the puzzles. What is unsolved when the client disconnects is cancelled."""
        done, complete = thread_safe_future()
        work = served.make_work(texts, body, nfe, complete)
        if body.exact:
            self.acquire_fallback(served)
        try:
            self.submit(served, work)
            await until_disconnect(request, self._finish(served, work, body, done))
        except (ClientDisconnected, asyncio.CancelledError):
            served.worker.cancel(work)
            raise
        finally:
            if body.exact:
                self.fallback.release()
        pairs = [(s, p.question) for s, p in zip(work.solutions, work.puzzles, strict=True) if s is not None]
        bodies = await asyncio.to_thread(lambda: [served.solution_body(*pair) for pair in pairs])
        for solution in bodies:
            self.metrics.count_solution(served.name, solution)
        return bodies

    async def _finish(self, served: Served, work: Work, body: schema.Options, done: asyncio.Future[None]) -> None:
        await done
        if work.error is not None:
            raise work.error
        for i, puzzle_job in enumerate(work.puzzles):
            solution = work.solutions[i]
            if body.exact and solution is not None:
                work.solutions[i] = await self.fallback.solve_unknown(
                    served.task, puzzle_job.question, solution, work.deadline, body.seed
                )

    def acquire_fallback(self, served: Served) -> None:
        try:
            self.fallback.acquire()
        except QueueFull as error:
            raise queue_full(str(error), self.fallback.retry_after(served.limits.seconds)) from None


def queue_full(message: str, seconds: float) -> HTTPException:
    return HTTPException(429, message, {"Retry-After": str(math.ceil(seconds))})


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, as FastAPI takes them for /openapi.json."""
    descriptions = {
        400: "an invalid input",
        403: "sent by a page of another site, or to a host name that this server does not have",
        404: "no such model",
        408: "the request arrived too slowly",
        413: "too large",
        422: "the body does not match the schema",
        429: "the queue is full: Retry-After says when to try again",
        500: "the server failed",
        503: "not ready, or shutting down",
    }
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": schema.Error, "description": descriptions[status]}
        if status in (429, 503):
            header = {"description": "seconds", "schema": {"type": "integer"}}
            responses[status]["headers"] = {"Retry-After": header}
    return responses


ERRORS = errors(400, 403, 404, 408, 413, 422, 429, 500, 503)
EVENTS = {"begin": schema.Begin, "step": schema.StepBody, "done": schema.Done, "error": schema.Error}  # of a stream


def create_app(registry: Registry, access: AccessState | None = None, metrics: Metrics | None = None) -> FastAPI:
    """The application over these models."""
    access, metrics = access or AccessState(), metrics or Metrics()
    state = AppState(registry, metrics, access)
    app = FastAPI(
        title="Innerloop", version=version(), docs_url=None, redoc_url=None, summary="Solves puzzles by looped models."
    )
    app.state.innerloop, app.state.bounds = state, Bounds(registry.limits.puzzles)
    app.router.route_class = BoundedRoute
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    _error_handlers(app)
    health_routes(app, access, metrics)
    _model_routes(app, state)
    _solve_routes(app, state)
    _stream_routes(app, state)
    page_routes(app, "index.html")
    app.add_middleware(AccessMiddleware, access=access, metrics=metrics, max_body=registry.limits.body)
    return app


def event_schema() -> dict[str, Any]:
    """JSON schema of a stream's events: begin, one step per step of each trajectory, then done or error."""

    def event(name: str, kind: Any) -> dict[str, Any]:
        ref = {"$ref": f"#/components/schemas/{kind.__name__}"}
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": ref}
        properties = {"event": {"type": "string", "const": name}, "data": data}
        return {"type": "object", "properties": properties, "required": ["event", "data"]}

    return {"oneOf": [event(name, kind) for name, kind in EVENTS.items()]}


def openapi(app: FastAPI) -> dict[str, Any]:
    """/openapi.json: FastAPI's description of the routes, with the schemas of the stream's events added."""
    if app.openapi_schema is None:
        spec = FastAPI.openapi(app)
        kinds: list[Any] = [(kind, "serialization") for kind in EVENTS.values()]
        events = models_json_schema(kinds, ref_template="#/components/schemas/{model}")[1]["$defs"]
        spec["components"]["schemas"] |= events
    return dict(app.openapi_schema or {})


def version() -> str:
    from importlib.metadata import version as package_version

    return package_version("innerloop")


def _error_handlers(app: FastAPI) -> None:
    """Exception handlers: every error becomes one sentence of JSON."""

    def error_response(status: int, text: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": printable(" ".join(text.split()), MAX_ERROR_CHARS)}, status, headers)

    @app.exception_handler(InputError)
    async def _input(_: Request, error: InputError) -> Response:
        statuses = {ModelNotFound: 404, RequestTooLarge: 413, WorkerClosed: 503}
        status = statuses.get(type(error), 400)
        return error_response(status, str(error), {"Retry-After": "1"} if status == 503 else None)

    @app.exception_handler(RequestValidationError)
    async def _form(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(printable(str(part), 80) for part in first["loc"] if part != "body") or "the body"
        return error_response(422, f"{where}: {first['msg']}")

    @app.exception_handler(AnyHTTPException)
    async def _http(request: Request, error: AnyHTTPException) -> Response:
        text = str(error.detail)
        if text in ("Not Found", "Method Not Allowed"):
            text = f"there is no {request.method} {request.url.path} here: /openapi.json lists what there is"
        return error_response(error.status_code, text, error.headers)

    @app.exception_handler(ClientDisconnected)
    async def _gone(_: Request, error: ClientDisconnected) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> Response:
        return error_response(500, "the server failed: its log says why")


def health_routes(app: FastAPI, access: AccessState, metrics: Metrics) -> None:
    """/healthz, /readyz and /metrics."""

    @app.get("/healthz", summary="The process is alive")
    async def healthz() -> schema.Status:
        return schema.Status(status="ok")

    @app.get("/readyz", responses=errors(503), summary="The server accepts requests")
    async def readyz() -> schema.Status:
        if access.closing:
            raise HTTPException(503, "the server is shutting down: use another one", {"Retry-After": "1"})
        return schema.Status(status="ready")

    text: dict[int | str, Any] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"}
    }

    @app.get("/metrics", response_class=Response, responses=text | errors(403), summary="Prometheus metrics")  # type: ignore[arg-type]
    async def measured() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)


def _model_routes(app: FastAPI, state: AppState) -> None:
    @app.get("/v1/models", responses=errors(403, 500, 503), summary="The models that are served")
    async def models() -> schema.Models:
        return schema.Models(models=[model_info(served) for served in state.registry.served.values()])

    @app.get("/v1/models/{name}", responses=errors(403, 404, 422, 500, 503), summary="Details of one model")
    async def detail(name: str) -> schema.Detail:
        return await state.about(name).detail()

    @app.post(
        "/v1/models/{name}/reload",
        responses=errors(400, 403, 404, 422, 500, 503),
        summary="Load the run again from disk; active requests finish on the old weights",
    )
    async def reload(name: str) -> schema.Reloaded:
        served = await state.registry.reload(name)
        return schema.Reloaded(name=served.name, loaded=served.loaded)


def _solve_routes(app: FastAPI, state: AppState) -> None:
    @app.post("/v1/models/{name}/solve", responses=ERRORS, summary="Solve one puzzle")
    async def solve(name: str, body: schema.SolveRequest, request: Request) -> schema.SolutionBody:
        return (await state.solve(state.registry.get(name), request, [body.puzzle], body))[0]

    @app.post(
        "/v1/models/{name}/solve_many", response_model=schema.Solutions, responses=ERRORS, summary="Solve many puzzles"
    )
    async def solve_many(name: str, body: schema.SolveManyRequest, request: Request) -> Response:
        began = time.monotonic()
        solutions = await state.solve(state.registry.get(name), request, body.puzzles, body, body.nfe)
        seconds = round(time.monotonic() - began, 6)
        answer = schema.Solutions(solutions=solutions, seconds=seconds, nfe=sum(s.nfe for s in solutions))
        # Serialised in a thread: a thousand solutions would block the event loop.
        return Response(await asyncio.to_thread(answer.model_dump_json), media_type="application/json")

    @app.post(
        "/v1/models/{name}/check", responses=errors(400, 403, 404, 408, 413, 422, 500, 503), summary="Check an answer"
    )
    async def check(name: str, body: schema.CheckRequest) -> schema.Check:
        served = state.registry.get(name)
        question, answer = served.tokens([body.puzzle])[0], served.tokens([body.answer])[0]
        pair = question[None], answer[None]
        verify, explain = served.solver.verify, getattr(served.task, "explain", None)
        return schema.Check(
            valid=bool(verify(*pair)[0]) if verify is not None else None,
            wrong=cell_indices(violating_cells(served.task, *pair)[0]),
            explanation=list(explain(question, answer)) if explain is not None else [],
        )


def _stream_routes(app: FastAPI, state: AppState) -> None:
    responses: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/event-stream": {"itemSchema": event_schema()}}, "description": "the steps"}
    }

    @app.post(
        "/v1/models/{name}/think",
        response_class=Response,
        responses=responses | ERRORS,
        summary="Solve one puzzle, streaming every step of every trajectory",
    )
    async def think(name: str, body: schema.SolveRequest) -> Response:
        served = state.registry.get(name)
        if state.streams >= served.limits.streams:
            raise queue_full(f"{state.streams} streams are open, which is the limit: try again later", 1)
        stream = ReplayStream(served, body)
        work = stream.work
        if body.exact:
            state.acquire_fallback(served)
        try:
            state.submit(served, work)
        except BaseException:
            if body.exact:
                state.fallback.release()
            raise
        state.streams += 1
        state.metrics.streams.set(state.streams)

        def on_close() -> None:
            served.worker.cancel(work)  # no effect unless the client disconnected
            stream.close()
            if stream.solution is not None:
                state.metrics.count_solution(served.name, stream.solution)
            if body.exact:
                state.fallback.release()
            state.streams -= 1
            state.metrics.streams.set(state.streams)

        return EventStream(stream.events(state.fallback), stream.deadline - time.monotonic() + READ_SLACK, on_close)


def page_routes(app: FastAPI, first: str) -> None:
    """The web page `first` and its files, if this build has them."""

    def asset(name: str) -> Response:
        try:
            from innerloop import web

            known = name in web.names()
        except ImportError:
            raise HTTPException(404, "this build has no web page: the models are at /v1/models") from None
        if not known:
            raise HTTPException(404, f"the web page has no file {name[:100]}")
        body, kind = web.asset(name)
        return Response(
            body,
            media_type=kind,
            headers={"Cache-Control": "no-cache", "Content-Security-Policy": CONTENT_SECURITY_POLICY},
        )

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return asset(first)

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(name: str) -> Response:
        return asset(name)
