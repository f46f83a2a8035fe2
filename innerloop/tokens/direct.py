"""direct: the question, then the answer, in one call."""

from __future__ import annotations

from typing import Any

from innerloop.tokens.prompts import DIRECT, prompt_of
from innerloop.tokens.way import Asked, State, Way, answered, subkey

__all__ = ["Direct"]


class Direct(Way):
    """One call for the answer alone.

    temperature     0: the likeliest answer; above it a sample, as for a vote over direct answers
    max_new_tokens  after which the answer is cut off
    """

    def __init__(
        self,
        model: Any,
        *,
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        instruction: str = DIRECT,
    ) -> None:
        self.model, self.max_new_tokens, self.temperature = model, max_new_tokens, temperature
        self.instruction = instruction

    def advance(self, s: State, x: Asked) -> State:
        prompt, stop = prompt_of(self.model, x.item, self.instruction, style="direct")
        completion = self.ask(
            prompt,
            max_new_tokens=self.max_new_tokens,
            stop=stop,
            temperature=self.temperature,
            seed=subkey(s.key, "direct"),
        )
        return answered(s, x.item, completion, self.model, first="chat" not in self.model.capabilities)
