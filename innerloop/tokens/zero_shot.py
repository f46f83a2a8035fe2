"""zero_shot: "Let's think step by step", then the answer: two calls.            Kojima et al. 2022, arXiv 2205.11916

z = model(question + trigger);   answer = model(question + trigger + z + cue)

The second call repeats the first one's text word for word.
"""

from __future__ import annotations

from typing import Any

from innerloop.lm.protocol import need
from innerloop.tokens.answers import find
from innerloop.tokens.prompts import TRIGGER, answer_cue, prompt_of
from innerloop.tokens.way import Asked, State, Way, subkey

__all__ = ["ZeroShot"]


class ZeroShot(Way):
    """A thought after the trigger, then a cue and the answer.

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
    ) -> None:
        if "chat" in model.capabilities and "raw" not in model.capabilities:
            need(model, "prefill", purpose="the second pass of zero-shot thinking")
        self.model, self.trigger, self.max_new_tokens, self.answer_tokens = (
            model,
            trigger,
            max_new_tokens,
            answer_tokens,
        )
        self.temperature = temperature

    def advance(self, s: State, x: Asked) -> State:
        prompt, stop = prompt_of(self.model, x.item)
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
