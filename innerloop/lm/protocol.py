"""LanguageModel: the protocol of all backends, what a backend may lack, and the types of prompts and replies.

    (reply,) = model.generate(["2 + 2 ="], max_new_tokens=4, stop=("\\n",))
    reply.completions[0].text, reply.tokens_in

A prompt is a text, which is continued as it is; token ids; or chat messages, which get the model's chat template. What
a backend lacks is refused with a sentence that says what to use; nothing falls back silently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from innerloop.errors import InputError

__all__ = [
    "CAPABILITIES",
    "Completion",
    "LanguageModel",
    "Message",
    "MissingCapability",
    "Prompt",
    "Reply",
    "Sampling",
    "kind_of",
    "need",
    "text_of",
]

Message = Mapping[str, str]  # {"role": "system", "user" or "assistant", "content": text}
Prompt = str | Sequence[int] | Sequence[Message]

# name -> (what it is, what to do without it)
CAPABILITIES = {
    "raw": ("continues a text as it is", 'use a local model, or an endpoint with api="completions"'),
    "chat": ("takes chat messages", 'give prompts as plain texts, or use an endpoint with api="chat"'),
    "prefill": (
        "continues an answer that was begun for it",
        'use a local model, or an endpoint with api="completions"',
    ),
    "ids": ("takes and gives token ids", "use a local model"),
    "logprobs": ("gives the log probability of its tokens", "use a local model, or leave logprobs out"),
    "n": ("gives several completions of a prompt in one call", "make several calls"),
    "seed": ("gives the same sample for the same seed", "use a local model, or a recorded one"),
    "usage": ("counts its tokens", "use a server that reports usage"),
    "scoring": ("gives the log probability of a text it did not write", "use a local model"),
    "stop": ("ends at given texts", 'use api="chat" or "completions"'),
}
LOOP_UNITS = ("nfe", "serial_steps", "flops")  # of the ledger, that a call of a loop costs besides tokens
MOST_TOKENS, MOST_COMPLETIONS = 1 << 20, 4096


class MissingCapability(InputError):
    """A way of thinking, or a call, needs what this backend does not offer."""


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt."""

    text: str  # without the stop text that ended it
    finish: str  # "stop": it ended by itself or at a stop text; "length": it was cut at max_new_tokens
    tokens: int  # that were generated, the end mark included
    ids: tuple[int, ...] | None = None  # of the text, without an end mark; where the backend has "ids"
    logprobs: tuple[float, ...] | None = None  # natural, of each token of the text; where they were asked for
    reasoning: str = ""  # thinking that a server returns apart from the text; its tokens are counted in `tokens`


@dataclass(frozen=True)
class Reply:
    """The completions of one prompt, and what the prompt cost."""

    completions: tuple[Completion, ...]
    tokens_in: int  # of the prompt, once for all completions
    tokens_cached: int = 0  # of these, those that the model held in a cache
    nfe: float = 0  # block calls of all completions, and the next two: of a model that was trained here
    serial_steps: float = 0  # steps of its loop, one completion after the other
    flops: float = 0  # where an open ledger counts them

    @property
    def tokens_out(self) -> int:
        """Tokens of all completions."""
        return sum(c.tokens for c in self.completions)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Reply:
        """The reply that `to_json` wrote."""
        completions = []
        for entry in value["completions"]:
            listed: Any = {k: None if entry[k] is None else tuple(entry[k]) for k in ("ids", "logprobs")}
            completions.append(Completion(**{**entry, **listed}))
        costs = {unit: value.get(unit, 0) for unit in LOOP_UNITS}
        return Reply(tuple(completions), value["tokens_in"], value["tokens_cached"], **costs)


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt. Raises InputError for values out of range."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()  # texts at which to end, which are left out
    temperature: float = 0.0  # 0: the likeliest token at every step
    top_p: float = 1.0  # nucleus: the likeliest tokens of this total probability
    n: int = 1  # completions
    seed: int | None = None  # of the first completion; others get seeds of their own. None: any
    logprobs: bool = False

    def __post_init__(self) -> None:
        for name, most in (("max_new_tokens", MOST_TOKENS), ("n", MOST_COMPLETIONS)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise InputError(f"{name} is {value}: give a whole number from 1 to {most}")
        if not (0 <= self.temperature < math.inf and 0 < self.top_p <= 1):
            raise InputError(
                f"temperature is {self.temperature} and top_p {self.top_p}: give 0 or more, and above 0 up to 1"
            )
        if not all(isinstance(text, str) and text for text in self.stop):
            raise InputError(f"stop is {self.stop!r}: give texts that are not empty")
        if self.n > 1 and self.temperature == 0:
            raise InputError(f"{self.n} completions at temperature 0 are all the same: give a temperature above 0")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise InputError(f"seed is {self.seed}: give a whole number from 0 to 2^63 - 1")


@runtime_checkable
class LanguageModel(Protocol):
    """What `innerloop.tokens` and `compare` ask of a language model. Every call is charged to the open ledgers, and its
    cost is reserved in the open budgets before it is made.
    """

    name: str  # for people and for records: two models of one name give the same answers
    context: int  # most tokens of prompt and completion together
    capabilities: frozenset[str]  # names in CAPABILITIES

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        n: int = 1,
        seed: int | None = None,
        logprobs: bool = False,
        prefix: str | Sequence[int] = "",
    ) -> list[Reply]:
        """Continue each prompt. `prefix`: the begin of every completion, which is not repeated in its text.

        Raises OverBudget if a budget allows not one token, MissingCapability, and InputError for bad arguments.
        """

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """Log probabilities of the tokens of each continuation after its prompt."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt with its template; where the backend cannot count them, a number that is not below."""


def need(model: Any, *names: str, purpose: str) -> None:
    """Raise MissingCapability unless `model` has these capabilities, which `purpose` (a noun) needs."""
    for name in names:
        if name not in model.capabilities:
            meaning, way_out = CAPABILITIES[name]
            raise MissingCapability(
                f'{purpose} needs a model that {meaning} ("{name}"), and {model.name} does not: {way_out}'
            )


def kind_of(prompt: Any) -> str:
    """The capability that a prompt needs: "raw", "chat" or "ids". Raises InputError for anything else."""
    if isinstance(prompt, str):
        check_unicode(prompt)
        return "raw"
    parts = list(prompt) if isinstance(prompt, Sequence) else []
    if parts and all(isinstance(p, int) and not isinstance(p, bool) and p >= 0 for p in parts):
        return "ids"
    if parts and all(isinstance(p, Mapping) and isinstance(p.get("content"), str) and p.get("role") for p in parts):
        for part in parts:
            check_unicode(part["content"])
        return "chat"
    raise InputError(
        'a prompt is a text, token ids, or messages such as {"role": "user", "content": "2 + 2?"}, and not empty: '
        f"this is {type(prompt).__name__}"
    )


def check_unicode(text: str) -> None:
    """Raise InputError for half of a surrogate pair, which no encoding has."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError("a prompt is not valid Unicode (it holds half of a surrogate pair): mend its encoding")


def text_of(prompt: Prompt) -> str:
    """A prompt as one text, for records and pictures; token ids as numbers."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{p['role']}: {p['content']}" if isinstance(p, Mapping) else str(p) for p in prompt)
