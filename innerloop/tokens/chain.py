"""chain: a chain of thought before the answer, and its two controls.             Wei et al. 2022, arXiv 2201.11903

few-shot:   <question, chain, answer> three times or more, then the question;  one call
controls:   the chain's equation alone, or as many dots as the chain has characters
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from innerloop.errors import InputError
from innerloop.tokens.prompts import TRIGGER, Shot, prompt_of
from innerloop.tokens.way import Asked, State, Way, answered, subkey

__all__ = ["STYLES", "Chain"]

STYLES = ("chain", "equation", "dots")


class Chain(Way):
    """Chain of thought from worked examples, in one call. style: "chain", or a control: "equation" or "dots"."""

    def __init__(
        self,
        model: Any,
        shots: Sequence[Shot] = (),
        *,
        style: str = "chain",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        instruction: str = "",
    ) -> None:
        if style not in STYLES:
            raise InputError(f'style is "{style}": use one of {", ".join(STYLES)}')
        trained = style in getattr(model, "forms", {})
        if style != "chain" and not shots and not trained:
            raise InputError(f'the control "{style}" needs worked examples (shots)')
        self.model, self.shots, self.style = model, tuple(shots), style
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.instruction = instruction or ("" if shots else f"{TRIGGER} End with: The answer is ...")

    def advance(self, s: State, x: Asked) -> State:
        prompt, stop = prompt_of(self.model, x.item, self.instruction, self.shots, self.style)
        completion = self.ask(
            prompt,
            max_new_tokens=self.max_new_tokens,
            stop=stop,
            temperature=self.temperature,
            seed=subkey(s.key, "chain"),
        )
        return answered(s, x.item, completion, self.model)
