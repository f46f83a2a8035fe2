"""The FastAPI application of a language model: OpenAI's Chat Completions and Completions, whole or streamed.

Every error is in OpenAI's form. Nothing is computed here: requests go to the threads of text_work.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from innerloop.errors import InputError

try:
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException as AnyHTTPException
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.lm.watch import Piece
from innerloop.serve.access import AccessMiddleware, AccessState
from innerloop.serve.answering import ClientDisconnected, until_disconnect
from innerloop.serve.app import health_routes, page_routes, version
from innerloop.serve.body import BoundedRoute, Bounds
from innerloop.serve.metrics import Metrics
from innerloop.serve.openai_reply import DONE, Form, encode_data, models_body
from innerloop.serve.openai_schema import (
    ChatRequest,
    CompletionRequest,
    ErrorBody,
    Refusal,
    TextRequest,
    described,
    error_body,
    worded,
)
from innerloop.serve.text_page import think_routes
from innerloop.serve.text_stream import streamed
from innerloop.serve.text_work import Ask, Event, Result, TextService, TextWork
from innerloop.text import printable

__all__ = ["create_text_app"]

ITEMS, CONTAINERS = 1 << 17, 1 << 13  # token ids or messages of a request; lists and objects
DEFAULT_COMPLETION = 16  # max_tokens of Completions where a request gives none, as the protocol says
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 403, 404, 408, 413, 429, 500, 502, 503, 504)
}


def create_text_app(service: TextService, access: AccessState | None = None, metrics: Metrics | None = None) -> FastAPI:
    """The application over a language model."""
    access, metrics = access or AccessState(), metrics or Metrics()
    app = FastAPI(
        title="Innerloop", version=version(), docs_url=None, redoc_url=None,
        summary="A language model, or a way to think with it, by OpenAI's protocol.",
    )  # fmt: skip
    app.state.bounds = Bounds(ITEMS, "token ids or messages", CONTAINERS)
    app.router.route_class = BoundedRoute
    _error_handlers(app)
    health_routes(app, access, metrics)
    _routes(app, service, metrics)
    think_routes(app, service, metrics)
    page_routes(app, "text.html")
    metrics.watch(lambda: [(service.name, service)])
    app.add_middleware(AccessMiddleware, access=access, metrics=metrics, max_body=service.limits.body, error=error_body)
    return app


def _error_handlers(app: FastAPI) -> None:
    """Exception handlers: every error becomes one sentence in OpenAI's form."""

    @app.exception_handler(InputError)
    async def _input(_: Request, error: InputError) -> Response:
        status, body = described(error)
        wait = error.wait if isinstance(error, Refusal) else 0
        return JSONResponse(body, status, {"Retry-After": str(wait)} if wait else None)

    @app.exception_handler(RequestValidationError)
    async def _form(_: Request, error: RequestValidationError) -> Response:
        return JSONResponse(error_body(400, *worded(error.errors()[0])), 400)

    @app.exception_handler(AnyHTTPException)
    async def _http(request: Request, error: AnyHTTPException) -> Response:
        status, text = 400 if error.status_code == 422 else error.status_code, str(error.detail)
        if text in ("Not Found", "Method Not Allowed"):
            text = f"there is no {request.method} {request.url.path} here: /openapi.json lists what there is"
        return JSONResponse(error_body(status, printable(text, 1000)), status, error.headers)

    @app.exception_handler(ClientDisconnected)
    async def _gone(_: Request, error: ClientDisconnected) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> Response:
        return JSONResponse(error_body(500, "the server failed: its log says why"), 500)


def _routes(app: FastAPI, service: TextService, metrics: Metrics) -> None:
    @app.get("/v1/models", summary="The model that is served")
    async def models() -> dict[str, Any]:
        return models_body([service.name], service.began)

    @app.get("/v1/models/{name:path}", summary="The model of that name", responses={404: ERRORS[404]})
    async def model(name: str) -> dict[str, Any]:
        check_model(service, name)
        found: dict[str, Any] = models_body([name], service.began)["data"][0]
        return found

    @app.post("/v1/chat/completions", response_class=Response, responses=ERRORS, summary="Continue a chat")
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await answered(service, metrics, request, body, chat_ask(service, body))

    @app.post("/v1/completions", response_class=Response, responses=ERRORS, summary="Continue texts or token ids")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await answered(service, metrics, request, body, completion_ask(service, body))


def check_model(service: TextService, name: str) -> None:
    """Raise Refusal, 404, unless that is the model."""
    if name != service.name:
        raise Refusal(
            f"the model {printable(name, 100)} does not exist: this server has {service.name}", 404,
            param="model", code="model_not_found",
        )  # fmt: skip


# -- what is asked for ------------------------------------------------------------------------------------------------


def chat_ask(service: TextService, body: ChatRequest) -> Ask:
    """Chat messages; with a way to think, the last message of the user is the question."""
    if service.thinking is None:
        return ask_of(service, body, ([m.message() for m in body.messages],), service.limits.tokens)
    questions = [m.content for m in body.messages if m.role == "user"]
    if not questions:
        raise Refusal("the last message of the user is the question, and there is none", param="messages")
    return ask_of(service, body, questions[-1:], service.limits.tokens, ignored=len(body.messages) - 1)


def completion_ask(service: TextService, body: CompletionRequest) -> Ask:
    """Texts or token ids; with a way to think, one text, which is the question."""
    prompts = body.prompts()
    if service.thinking is None:
        return ask_of(service, body, prompts, min(DEFAULT_COMPLETION, service.limits.tokens))
    if len(prompts) > 1 or not isinstance(prompts[0], str):
        raise Refusal(f"{service.thinking.name} answers one text a request: give one", param="prompt")
    return ask_of(service, body, prompts, service.limits.tokens)


def ask_of(service: TextService, body: TextRequest, prompts: Any, most: int, ignored: int = 0) -> Ask:
    """most: new tokens where the request gives none."""
    warm = 1.0 if service.thinking is None else 0.0  # a way to think has a temperature of its own
    return Ask(
        tuple(prompts),
        body.most_tokens or most,
        tuple(body.stop or ()),
        warm if body.temperature is None else body.temperature,
        body.top_p or 1.0,
        body.n or 1,
        body.seed,
        body.wants_logprobs,
        ignored,
        service.thinking,
    )


# -- how it is answered -----------------------------------------------------------------------------------------------


async def answered(service: TextService, metrics: Metrics, request: Request, body: TextRequest, ask: Ask) -> Response:
    """The response, whole or as a stream, which begins with the first piece: what fails before has its own status."""
    check_model(service, body.model)
    if body.stream_options is not None and not body.stream:
        raise Refusal("stream_options are of a stream: give stream=true, or leave them out", param="stream_options")
    form = Form(
        isinstance(body, ChatRequest), service.name, service.model.name, body.wants_logprobs, body.include_usage
    )
    if body.stream:  # of a way to think there are no pieces: its answer stands at its end alone
        work = service.start(ask, pieces=ask.thinking is None)
        return await streamed(service, metrics, request, work, lambda first: events(work, form, first))
    work = service.start(ask)
    try:
        return JSONResponse(form.whole(await until_disconnect(request, work.result())))
    finally:
        service.finish(work)


async def events(work: TextWork, form: Form, event: Event) -> AsyncIterator[bytes]:
    """The stream, from its first event on. What goes wrong ends it with an error."""
    for chunk in form.begin(len(work.ask.prompts) * work.ask.n):
        yield chunk
    try:
        while not isinstance(event, Result):
            if isinstance(event, Piece):
                yield form.piece(event)
            event = await work.next()
    except InputError as error:
        yield encode_data(described(error)[1])
        yield DONE
        return
    for chunk in form.end(event):
        yield chunk
