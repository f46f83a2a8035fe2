"""Responses of the OpenAI-compatible API: one whole body, or the chunks of a stream, for chats and completions."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from innerloop.ledger import Ledger
from innerloop.lm.watch import Piece
from innerloop.serve.text_work import Result

__all__ = ["DONE", "Form", "encode_data", "models_body", "usage_body"]

DONE = b"data: [DONE]\n\n"


def encode_data(value: Any) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(value, allow_nan=False)}\n\n".encode()


def models_body(names: Sequence[str], created: int) -> dict[str, Any]:
    """GET /v1/models."""
    data = [{"id": name, "object": "model", "created": created, "owned_by": "innerloop"} for name in names]
    return {"object": "list", "data": data}


def usage_body(cost: Ledger) -> dict[str, Any]:
    """What the ledger counted."""
    tokens_in, tokens_out = int(cost.tokens_in), int(cost.tokens_out)
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": int(cost.tokens_cached)},
    }


@dataclass
class Form:
    """The form of one response.

    chat           Chat Completions, or else Completions
    logprobs       whether log probabilities were asked for
    include_usage  whether a stream ends with its usage
    """

    chat: bool
    model: str
    fingerprint: str  # the name of the model that writes, with a hash of its weights where it has one
    logprobs: bool = False
    include_usage: bool = False
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    sent: dict[int, tuple[int, int]] = field(default_factory=dict)  # completion: (characters, tokens) sent so far

    def __post_init__(self) -> None:
        self.id = self.id or f"{'chatcmpl' if self.chat else 'cmpl'}-{secrets.token_hex(12)}"

    def whole(self, result: Result) -> dict[str, Any]:
        """The body of a response that is no stream."""
        choices = []
        for i, made in enumerate(result.completions):
            text: dict[str, Any] = {"text": made.text}
            if self.chat:
                message = {"role": "assistant", "content": made.text, "refusal": None}
                text = {"message": message | ({"reasoning_content": made.reasoning} if made.reasoning else {})}
            tokens = result.tokens[i] if self.logprobs else ()
            logprobs = self.logprobs_body(tokens, made.logprobs or (), 0)
            choices.append({"index": i, **text, "finish_reason": made.finish, "logprobs": logprobs})
        kind = "chat.completion" if self.chat else "text_completion"
        return self.frame(kind, choices) | {"usage": usage_body(result.cost)} | thinking_body(result)

    def begin(self, completions: int) -> Iterator[bytes]:
        """The first chunks of a stream."""
        if self.chat:
            for i in range(completions):
                yield self.chunk([self.choice(i, {"role": "assistant", "content": ""})])

    def piece(self, piece: Piece) -> bytes:
        """The chunk of a piece."""
        i = piece.completion
        characters, tokens = self.sent.get(i, (0, 0))
        self.sent[i] = characters + len(piece.text), tokens + len(piece.tokens)
        return self.chunk([self.written(i, piece.text, piece.tokens, piece.logprobs, characters)])

    def end(self, result: Result) -> Iterator[bytes]:
        """The last chunks: what is not sent yet of every completion, why it ended, and the usage."""
        for i, made in enumerate(result.completions):
            characters, first = self.sent.get(i, (0, 0))
            tokens = result.tokens[i][first:] if self.logprobs else ()
            if rest := made.text[characters:]:
                logprobs = (made.logprobs or ())[first:]
                yield self.chunk([self.written(i, rest, tokens, logprobs, characters)])
            yield self.chunk([self.choice(i, {}, made.finish)], **thinking_body(result))
        if self.include_usage:
            yield self.chunk([], usage=usage_body(result.cost))
        yield DONE

    # -- parts --------------------------------------------------------------------------------------------------------
    def frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices,
        }  # fmt: skip

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        body = self.frame("chat.completion.chunk" if self.chat else "text_completion", choices)
        return encode_data(body | ({"usage": None} if self.include_usage else {}) | more)

    def choice(self, i: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        text = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        return {"index": i, **text, "finish_reason": finish, "logprobs": None}

    def written(
        self, i: int, text: str, tokens: Sequence[str], logprobs: Sequence[float], offset: int
    ) -> dict[str, Any]:
        return self.choice(i, {"content": text}) | {"logprobs": self.logprobs_body(tokens, logprobs, offset)}

    def logprobs_body(self, tokens: Sequence[str], logprobs: Sequence[float], offset: int) -> dict[str, Any] | None:
        """Log probabilities of tokens, of which the first stands at this character of the text."""
        if not self.logprobs:
            return None
        if self.chat:
            content = [
                {"token": token, "logprob": value, "bytes": bytes_of(token), "top_logprobs": []}
                for token, value in zip(tokens, logprobs, strict=True)
            ]
            return {"content": content, "refusal": None}
        offsets = [offset + sum(map(len, tokens[:i])) for i in range(len(tokens))]
        return {
            "tokens": list(tokens), "token_logprobs": list(logprobs), "top_logprobs": None, "text_offset": offsets
        }  # fmt: skip


def thinking_body(result: Result) -> dict[str, Any]:
    return {"innerloop": result.thinking} if result.thinking else {}


def bytes_of(token: str) -> list[int] | None:
    """The bytes of a token; None for a part of a character, which no text shows."""
    return None if "\ufffd" in token else list(token.encode())
