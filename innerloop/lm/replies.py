"""Requests and replies of the OpenAI-compatible APIs as JSON, checked against what was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from innerloop.lm.protocol import Completion, Prompt, Reply, Sampling
from innerloop.text import printable

__all__ = ["STREAM", "BadReply", "Chunks", "body_of", "reply_of"]

STREAM = {"stream": True, "stream_options": {"include_usage": True}}  # fields of a request for a stream


class BadReply(ValueError):
    """A reply is not what its API says; the message is part of a sentence."""


def body_of(
    api: str, model: str, prompt: Prompt, sampling: Sampling, prefix: str | Sequence[int], limit: str = "max_tokens"
) -> dict[str, Any]:
    """The JSON body of a request. limit: the field of the most new tokens."""
    body: dict[str, Any] = {"model": model, "temperature": sampling.temperature, "top_p": sampling.top_p}
    if api == "responses":
        return body | {"input": list(prompt), "max_output_tokens": sampling.max_new_tokens}
    body[limit] = sampling.max_new_tokens
    if sampling.n > 1:
        body["n"] = sampling.n
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if api == "completions":
        text: Any = prompt if isinstance(prompt, str) else list(prompt)
        begun = text + (prefix if isinstance(prefix, str) else list(prefix)) if len(prefix) else text
        return body | {"prompt": begun} | ({"logprobs": 1} if sampling.logprobs else {})
    messages: list[Any] = [dict(m) for m in prompt]  # type: ignore[arg-type, call-overload]
    if len(prefix):
        messages.append({"role": "assistant", "content": prefix})
        body |= {"add_generation_prompt": False, "continue_final_message": True}  # of vLLM; llama.cpp needs neither
    return body | {"messages": messages} | ({"logprobs": True} if sampling.logprobs else {})


class Chunks:
    """The chunks of a streamed reply of Chat Completions or Completions, put together."""

    def __init__(self, api: str) -> None:
        self.api, self.usage = api, None
        self.choices: dict[int, dict[str, Any]] = {}

    def add(self, value: Any) -> list[tuple[int, str]]:
        """(completion, text) of what a chunk adds to the texts. Raises BadReply for what is no chunk."""
        if not isinstance(value, Mapping):
            raise BadReply("a chunk of the reply is no JSON object")
        if error := value.get("error"):
            said = error.get("message", error) if isinstance(error, Mapping) else error
            raise BadReply(f"the server broke its reply off, {printable(str(said), 200)}")
        self.usage = value.get("usage") or self.usage
        added = []
        for choice in value.get("choices") or ():
            part = choice.get("delta") if self.api == "chat" else choice
            index, part = choice.get("index"), part if isinstance(part, Mapping) else {}
            if not isinstance(index, int):
                raise BadReply("a chunk of the reply does not say its completion (index)")
            whole = self.choices.setdefault(index, {"text": "", "reasoning": "", "finish_reason": None})
            text = part.get("content" if self.api == "chat" else "text") or ""
            whole["text"] += str(text)
            whole["reasoning"] += str(part.get("reasoning_content") or "")
            whole["finish_reason"] = choice.get("finish_reason") or whole["finish_reason"]
            if text:
                added.append((index, str(text)))
        return added

    def whole(self) -> dict[str, Any]:
        """The reply as it comes without a stream. Raises BadReply for a stream that ended too soon."""
        made = [self.choices[i] for i in sorted(self.choices)]
        if any(choice["finish_reason"] is None for choice in made):
            raise BadReply("the stream ended before its text")
        for choice in made:
            choice["message"] = {"content": choice["text"], "reasoning_content": choice["reasoning"]}
        return {"choices": made, "usage": self.usage}


def reply_of(api: str, value: Any, sampling: Sampling) -> Reply:
    """The reply in a JSON value. Raises BadReply where it is not what was asked for."""
    if not isinstance(value, Mapping):
        raise BadReply("the reply is no JSON object")
    if api == "responses":
        return response_of(value, sampling.max_new_tokens)
    choices = value.get("choices")
    if not isinstance(choices, list) or len(choices) != sampling.n:
        raise BadReply(f"the reply has not the {sampling.n} completions that were asked for")
    tokens_in, tokens_out, cached = usage_of(
        value, "prompt_tokens", "completion_tokens", sampling.n * sampling.max_new_tokens
    )
    completions = []
    for i, choice in enumerate(choices):
        message = choice.get("message") if api == "chat" else choice
        text = message.get("content" if api == "chat" else "text") if isinstance(message, Mapping) else None
        reasoning = message.get("reasoning_content") or "" if isinstance(message, Mapping) else ""
        if not isinstance(text or "", str) or (text is None and not reasoning):
            raise BadReply("a completion of the reply has no text")
        # The protocol counts all completions together: the first ones take the remainder.
        tokens = tokens_out // sampling.n + (i < tokens_out % sampling.n)
        logprobs = logprobs_of(api, choice) if sampling.logprobs else None
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        completions.append(Completion(text or "", finish, tokens, None, logprobs, reasoning))
    return Reply(tuple(completions), tokens_in, cached)


def response_of(value: Mapping[str, Any], max_new_tokens: int) -> Reply:
    """The reply of the Responses API."""
    tokens_in, tokens_out, cached = usage_of(value, "input_tokens", "output_tokens", max_new_tokens)
    output = value.get("output")
    if not isinstance(output, list):
        raise BadReply("the reply has no output")
    parts = [c for item in output if isinstance(item, Mapping) for c in item.get("content") or ()]
    text = "".join(str(c.get("text", "")) for c in parts if isinstance(c, Mapping) and c.get("type") == "output_text")
    finish = "length" if value.get("status") == "incomplete" else "stop"
    return Reply((Completion(text, finish, tokens_out),), tokens_in, cached)


def usage_of(value: Mapping[str, Any], name_in: str, name_out: str, most: int) -> tuple[int, int, int]:
    """(tokens in, out, cached). Raises BadReply where there are none, or more than was asked for."""
    usage = value.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    counts: list[Any] = [usage.get(name) for name in (name_in, name_out)]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        raise BadReply("the reply does not say how many tokens it took (usage)")
    if counts[1] > most:
        raise BadReply(f"the reply says that it took {counts[1]} tokens, where {most} were allowed")
    details = usage.get(name_in + "_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return counts[0], counts[1], cached if isinstance(cached, int) and 0 <= cached <= counts[0] else 0


def logprobs_of(api: str, choice: Mapping[str, Any]) -> tuple[float, ...]:
    """Log probabilities of the tokens of a completion."""
    found = choice.get("logprobs") or {}
    entries = found.get("content") if api == "chat" else found.get("token_logprobs")
    values: list[Any] = [e.get("logprob") if isinstance(e, Mapping) else e for e in entries or ()]
    if not all(isinstance(v, int | float) and not math.isnan(v) for v in values):
        raise BadReply("a completion of the reply has no log probabilities, which were asked for")
    return tuple(map(float, values))
