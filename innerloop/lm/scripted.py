"""Scripted: a language model whose texts a function writes, for tests without weights or a network.

    model = Scripted(lambda prompt, seed: " 4\\n")      # or a list of texts, given in turn
    model.generate(["2 + 2 ="], max_new_tokens=8, stop=("\\n",))

A token is a character, and its id the code point. It has every capability, and its answer depends on nothing but prompt
and seed. `seed` of sample i is the call's seed plus i, or i without one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from innerloop.errors import InputError
from innerloop.lm.backend import Backend
from innerloop.lm.protocol import CAPABILITIES, Completion, Prompt, Reply, Sampling, text_of

__all__ = ["Scripted", "cut_at_stop"]

END = 1  # tokens of the end mark


class Scripted(Backend):
    """Texts by `write(prompt, seed)`, or one after the other from a list, of which the last is repeated."""

    def __init__(
        self, write: Callable[[str, int], str] | Sequence[str], *, name: str = "scripted", context: int = 1 << 16
    ) -> None:
        if not callable(write) and (isinstance(write, str) or not len(write)):
            raise InputError("a scripted model takes a function of prompt and seed, or a list of texts")
        self.name, self.context, self.capabilities = name, context, frozenset(CAPABILITIES)
        self._write, self._lock, self._calls = write, threading.Lock(), 0

    def text(self, prompt: str, seed: int) -> str:
        """The whole continuation of a prompt."""
        if callable(self._write):
            return self._write(prompt, seed)
        with self._lock:
            self._calls += 1
            return self._write[min(self._calls, len(self._write)) - 1]

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        begun = decoded(prefix) if len(prefix) else ""
        return [self._reply(decoded(p) + begun, sampling, self.count_tokens(p) + len(begun)) for p in prompts]

    def _reply(self, prompt: str, sampling: Sampling, tokens_in: int) -> Reply:
        made = []
        for i in range(sampling.n):
            whole = self.text(prompt, (sampling.seed or 0) + i)
            text = cut_at_stop(whole, sampling.stop)
            finish = "stop" if len(text) + END <= sampling.max_new_tokens else "length"
            text, tokens = text[: sampling.max_new_tokens], min(len(text) + END, sampling.max_new_tokens)
            logprobs = (0.0,) * len(text) if sampling.logprobs else None
            made.append(Completion(text, finish, tokens, tuple(map(ord, text)), logprobs))
        return Reply(tuple(made), tokens_in)

    def score_each(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """0 for every character that the model would write there, else minus infinity."""
        scores = []
        for prompt, text in zip(prompts, continuations, strict=True):
            own = self.text(decoded(prompt), 0)
            scores.append(tuple(0.0 if own[i : i + 1] == c else -float("inf") for i, c in enumerate(text)))
        return scores

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        return list(map(ord, text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return "".join(map(chr, ids))

    def count_tokens(self, prompt: Prompt) -> int:
        return len(decoded(prompt))


def decoded(prompt: Prompt) -> str:
    """A prompt as the text that the function sees."""
    if not isinstance(prompt, str) and prompt and isinstance(prompt[0], int):
        return "".join(map(chr, prompt))  # type: ignore[arg-type]
    return text_of(prompt) + ("" if isinstance(prompt, str) else "\nassistant: ")


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop texts."""
    ends = [at for s in stop if (at := text.find(s)) >= 0]
    return text[: min(ends)] if ends else text
