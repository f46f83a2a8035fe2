"""What the page of a language model asks for: a question by a way to think, and what is written as it is written.

    GET /think     the model, the ways to think and kinds of answers to choose from, and the limits
    POST /think    server-sent events: piece (text of a sample), sample (its result), then done or error

A sample is named by its path: [2] is the third of a vote, [2, 0] the first of its own, ["judge"] what judges them, and
[] the way itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from innerloop.errors import InputError

try:
    from fastapi import FastAPI, Request, Response
    from pydantic import Field
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.lm.protocol import MOST_TOKENS
from innerloop.lm.watch import Piece
from innerloop.serve.metrics import Metrics
from innerloop.serve.openai_schema import ErrorBody, Refusal, described
from innerloop.serve.schema import RequestModel, WholeNumber
from innerloop.serve.text_stream import streamed
from innerloop.serve.text_work import Ask, Event, Result, Sampled, TextService, TextWork, Thinking
from innerloop.text import did_you_mean, printable
from innerloop.tokens.answers import KINDS
from innerloop.tokens.prompts import Shot
from innerloop.tokens.way import UNKNOWN, Item
from innerloop.tokens.ways import about, sure_of, way_of

__all__ = ["offers", "think_routes"]

OFFERED = (
    "direct", "chain", "zero_shot", "vote(4)", "vote(8)", "vote(16)", "best(8, verify)", "best(4, score)",
    "best(4, pairs)", "retry(4)", "budget(512, wait=2)", "act(4)", "plan(4)",
)  # fmt: skip
TRAINED = ("direct", "chain", "vote(4)", "vote(8)", "vote(16)", "best(8, verify)")  # of a model trained here
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 403, 408, 413, 429, 500, 502, 503, 504)
}


def offers(model: Any, item: Callable[[str], Item], shots: Sequence[Shot] = ()) -> list[Thinking]:
    """The ways to think of which the page gives the choice. item: a question, with its verifier."""
    names = TRAINED if hasattr(model, "forms") else OFFERED
    return [Thinking(name, partial(way_of, name, model, shots), item) for name in names]


class ThinkRequest(RequestModel):
    """POST /think."""

    question: str
    way: str = Field("", description="one of those of GET /think; empty: the first")
    kind: str = Field("", description="of the answer: one of those of GET /think; empty: the first")
    tokens: WholeNumber | None = Field(None, ge=1, le=MOST_TOKENS, description="most, read and written")
    seed: WholeNumber | None = Field(None, ge=0, lt=1 << 63)


def think_routes(app: FastAPI, service: TextService, metrics: Metrics) -> None:
    """GET and POST /think."""

    @app.get("/think", summary="What can be asked, and how")
    async def choices() -> dict[str, Any]:
        return {
            "model": service.name,
            "ways": [
                {"name": name, "about": about(name), "samples": samples_of(way.make(0.0))}
                for name, way in service.ways.items()
            ],
            "kinds": [{"name": name, "about": KINDS[name].about} for name in kinds_of(service)],
            "tokens": service.limits.tokens,
            "seconds": service.limits.seconds,
        }

    @app.post(
        "/think", response_class=Response, responses=ERRORS, summary="Answer a question, streaming what is written"
    )
    async def think(body: ThinkRequest, request: Request) -> Response:
        work = service.start(ask_of(service, body), pieces=True)
        return await streamed(service, metrics, request, work, lambda first: events(work, first))


def samples_of(way: Any) -> int:
    """The most samples of a way; 0 of one that takes none."""
    return int(getattr(way, "n", 0))


def kinds_of(service: TextService) -> list[str]:
    """Kinds of answers to choose from, the server's own first; that alone where it verifies them."""
    if not service.ways:
        return []
    item = next(iter(service.ways.values())).item("?")
    return [item.kind] if item.check is not None else sorted(KINDS, key=lambda name: name != item.kind)


def ask_of(service: TextService, body: ThinkRequest) -> Ask:
    """What a request asks for. Raises Refusal."""
    chosen = {"way": list(service.ways), "kind": kinds_of(service)}
    if not service.ways:
        raise Refusal(f"{service.name} offers no way to think: use /v1/completions")
    for param, known in chosen.items():
        wanted = getattr(body, param)
        if wanted and wanted not in known:
            raise Refusal(
                f'this server offers no {param} "{printable(wanted, 60)}": {did_you_mean(wanted, known)}', param=param
            )
    if not body.question.strip():
        raise Refusal("the question is empty: write one", param="question")
    most = service.limits.tokens
    if (body.tokens or 1) > most:
        raise Refusal(f"tokens is {body.tokens}: this server allows at most {most}", param="tokens")
    thinking = service.ways[body.way or chosen["way"][0]]
    return Ask(
        (body.question,), body.tokens or most, temperature=0.0, seed=body.seed, thinking=thinking,
        kind=body.kind,
    )  # fmt: skip


async def events(work: TextWork, event: Event) -> AsyncIterator[bytes]:
    """The stream, from its first event on. What goes wrong ends it with an error."""
    try:
        while not isinstance(event, Result):
            yield encode(*told(event))
            event = await work.next()
    except InputError as error:
        yield encode("error", described(error)[1])
        return
    yield encode("done", done_body(work, event))


def told(event: Piece | Sampled) -> tuple[str, dict[str, Any]]:
    """An event before the last, and its name."""
    if isinstance(event, Piece):
        return "piece", {"sample": event.path, "text": event.text}
    said = event.said
    body = {"answer": said.answer, "outcome": said.outcome, "text": said.text, "confidence": said.confidence}
    return "sample", {"sample": event.path, **body}


def done_body(work: TextWork, result: Result) -> dict[str, Any]:
    """The last event: the answer, how it came about, and what it cost."""
    said, thinking = result.said, work.ask.thinking
    assert said is not None and thinking is not None
    told = {name: value for name, value in result.thinking.items() if name != "ignored_messages"}
    told["spent"] = told["spent"] | {"seconds": result.cost.seconds}
    return told | {
        "text": said.text, "winner": said.winner, "samples": len(said.samples),
        "sure_of": sure_of(thinking.make(0.0)), "why": UNKNOWN.get(said.outcome, ""), "budget": work.ask.max_tokens,
    }  # fmt: skip


def encode(name: str, data: Any) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode()
