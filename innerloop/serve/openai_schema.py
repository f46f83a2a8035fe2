"""Requests of the OpenAI-compatible API (pydantic), and its form of errors.

What this server does not do and would change the answer is refused, unless it has the value that asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from innerloop.errors import InputError

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
    from pydantic_core import PydanticCustomError
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

from innerloop.lm.protocol import MOST_COMPLETIONS, MOST_TOKENS, MissingCapability
from innerloop.serve.schema import RequestModel, WholeNumber
from innerloop.text import printable

__all__ = ["ChatRequest", "CompletionRequest", "ErrorBody", "Refusal", "TextRequest", "described", "error_body"]

# Fields that are accepted with these values alone, which ask for nothing; null is always one of them.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none",),
    "response_format": ({"type": "text"},), "logit_bias": ({},), "modalities": (["text"],), "audio": (),
    "prediction": (), "reasoning_effort": (), "web_search_options": (), "verbosity": (),
    "frequency_penalty": (0,), "presence_penalty": (0,), "echo": (False,), "suffix": ("",), "best_of": (1,),
    "top_logprobs": (0,),
}  # fmt: skip
# Fields that change no answer.
IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
MOST_STOPS = 16

STATUSES = {  # status: (type, code) of an error
    400: ("invalid_request_error", None),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    408: ("timeout_error", "timeout"),
    413: ("invalid_request_error", "too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", "server_error"),
    502: ("server_error", "bad_gateway"),
    503: ("server_error", "unavailable"),
    504: ("timeout_error", "timeout"),
}


class Refusal(InputError):
    """An error with its status, and the field that it is about."""

    def __init__(
        self, message: str, status: int = 400, *, param: str | None = None, code: str | None = None, wait: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.wait = status, param, code, wait  # wait: seconds until another try


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind, usual = STATUSES.get(status, STATUSES[500 if status >= 500 else 400])
    return {"error": {"message": message, "type": kind, "param": param, "code": code or usual}}


def described(error: InputError) -> tuple[int, dict[str, Any]]:
    """(status, body) of an error."""
    if isinstance(error, Refusal):
        return error.status, error_body(error.status, printable(str(error), 1000), error.param, error.code)
    code = "missing_capability" if isinstance(error, MissingCapability) else None
    return 400, error_body(400, printable(" ".join(str(error).split()), 1000), None, code)


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's form."""

    error: ErrorDetail


class StreamOptions(RequestModel):
    include_usage: bool = False
    include_obfuscation: bool = False


def part_texts(content: Any) -> Any:
    """The text of a message, which may come in parts."""
    if not isinstance(content, list):
        return content
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise PydanticCustomError("part", "a part of a message is a text: {{'type': 'text', 'text': ...}}")
    return "".join(part["text"] for part in content)


class ChatMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(part_texts)]
    type: Literal["text"] | None = None  # which lm-eval adds
    name: None = None
    refusal: None = None
    tool_calls: None = None

    def message(self) -> dict[str, str]:
        """The message for a model; a developer is what a system was called before."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


StopText = Annotated[str, Field(min_length=1, max_length=1000)]
StopTexts = Annotated[
    list[StopText], Field(max_length=MOST_STOPS), BeforeValidator(lambda v: [v] if isinstance(v, str) else v)
]


class TextRequest(RequestModel):
    """What both routes take."""

    model: str
    max_tokens: WholeNumber | None = Field(None, ge=1, le=MOST_TOKENS)
    temperature: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    n: WholeNumber | None = Field(None, ge=1, le=MOST_COMPLETIONS)
    stop: StopTexts | None = Field(None, description="a text, or up to 16")
    seed: WholeNumber | None = Field(None, ge=0, lt=1 << 63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_done(cls, values: Any) -> Any:
        """Leave out fields that ask for nothing. Raises for those that ask for what is not done here."""
        if not isinstance(values, Mapping):
            return values
        for name in values.keys() & NEUTRAL.keys():
            if values[name] is not None and values[name] not in NEUTRAL[name]:
                raise PydanticCustomError(
                    "unsupported", "{name} is not supported by this server: leave it out", {"name": name}
                )
        return {k: v for k, v in values.items() if k not in NEUTRAL and k not in IGNORED}

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def wants_logprobs(self) -> bool:
        raise NotImplementedError

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(TextRequest):
    """POST /v1/chat/completions."""

    model_config = ConfigDict(title="ChatRequest")

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: WholeNumber | None = Field(None, ge=1, le=MOST_TOKENS, description="max_tokens of today")
    logprobs: bool | None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.logprobs)


Ids = Annotated[list[Annotated[WholeNumber, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(TextRequest):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1)] | Ids | Annotated[list[Ids], Field(min_length=1)]
    logprobs: Annotated[WholeNumber, Field(ge=0, le=1)] | None = Field(
        None, description="0 or 1: the log probabilities of what was written; those of other tokens are not given"
    )

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None

    def prompts(self) -> list[Any]:
        """Prompts, each a text or token ids."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


def worded(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """(sentence, field) of the first error of pydantic."""
    named = (error.get("ctx") or {}).get("name")
    path = [str(part) for part in error["loc"] if part != "body"]
    field = printable(named or (path[0] if path else ""), 80)
    if named:
        return printable(error["msg"], 500), field
    if error["type"] == "extra_forbidden":
        return f"{field} is not a field that this server knows: leave it out", field
    if not path:
        return f"the body: {printable(error['msg'], 500)}: send JSON, with Content-Type: application/json", None
    return f"{printable('.'.join(path), 80)}: {printable(error['msg'], 500)}", field
