"""chain: a chain of thought before the answer, and its two controls.             Wei et al. 2022, arXiv 2201.11903

few-shot:   <question, chain, answer> three times or more, then the question;  one call
controls:   the chain's equation alone, or as many dots as the chain has characters
zero-shot:  question + "Let's think step by step.";  then the same text and a cue, for the answer alone: two calls
                                                                            Kojima et al. 2022, arXiv 2205.11916
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from innerloop.errors import InputError
from innerloop.lm.protocol import need
from innerloop.tokens.answers import find
from innerloop.tokens.prompts import TRIGGER, Format, Shot, answer_cue, prompt_of
from innerloop.tokens.way import Asked, State, Way, answered, subkey

__all__ = ["STYLES", "Chain", "ZeroShot"]

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
        form: Format | None = None,
    ) -> None:
        if style not in STYLES:
            raise InputError(f'style is "{style}": use one of {", ".join(STYLES)}')
        if style != "chain" and not shots:
            raise InputError(f'the control "{style}" needs worked examples (shots)')
        self.model, self.shots, self.style = model, tuple(shots), style
        self.max_new_tokens, self.temperature, self.form = max_new_tokens, temperature, form or Format()
        self.instruction = instruction or ("" if shots else f"{TRIGGER} End with: The answer is ...")

    def advance(self, s: State, x: Asked) -> State:
        prompt, stop = prompt_of(self.model, x.item, self.instruction, self.shots, self.style, self.form)
        completion = self.ask(
            prompt,
            max_new_tokens=self.max_new_tokens,
            stop=stop,
            temperature=self.temperature,
            seed=subkey(s.key, "chain"),
        )
        return answered(s, x.item, completion)


class ZeroShot(Way):
    """The two passes of "Let's think step by step": the second call repeats the first one's text word for word.

    A chain that is cut at `max_new_tokens` is followed by the second pass all the same, as in the paper.
    """

    depth = 2

    def __init__(
        self,
        model: Any,
        *,
        trigger: str = TRIGGER,
        max_new_tokens: int = 128,
        answer_tokens: int = 32,
        temperature: float = 0.0,
        form: Format | None = None,
    ) -> None:
        if "chat" in model.capabilities and "raw" not in model.capabilities:
            need(model, "prefill", purpose="the second pass of zero-shot thinking")
        self.model, self.trigger, self.max_new_tokens, self.answer_tokens = (
            model,
            trigger,
            max_new_tokens,
            answer_tokens,
        )
        self.temperature, self.form = temperature, form or Format()

    def advance(self, s: State, x: Asked) -> State:
        prompt, stop = prompt_of(self.model, x.item, form=self.form)
        if s.phase == 0:
            thought = self.ask(
                prompt, max_new_tokens=self.max_new_tokens, stop=stop, temperature=self.temperature,
                seed=subkey(s.key, "thought"), prefix=" " + self.trigger,
            )  # fmt: skip
            return s._replace(text=f" {self.trigger}{thought.text}", phase=1)
        begun = f"{s.text}\n{answer_cue(x.item.kind)}"
        last = self.ask(
            prompt, max_new_tokens=self.answer_tokens, stop=stop, temperature=self.temperature,
            seed=subkey(s.key, "answer"), prefix=begun,
        )  # fmt: skip
        found = find(x.item.kind, last.text, first=True)
        return s._replace(
            text=begun + last.text, answer=found, done=True, cut=found is None and last.finish == "length"
        )
