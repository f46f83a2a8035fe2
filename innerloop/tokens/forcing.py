"""budget: a chain of thought of forced length (s1).                   Muennighoff et al. 2025, arXiv 2501.19393

    think up to `tokens`;   where the model would end sooner, replace its end by "Wait" and go on, `wait` times
    at the cap, or after the last wait:   close the thought, write "Final Answer:", and let the model finish

Where the model gives and takes token ids they are kept and never retokenised. Needs a model that continues what was
begun for it.
"""

from __future__ import annotations

from typing import Any

from innerloop.errors import InputError
from innerloop.lm.protocol import Completion, need
from innerloop.tokens.answers import find
from innerloop.tokens.prompts import prompt_of
from innerloop.tokens.way import Asked, Said, State, Way, subkey

__all__ = ["S1", "Budgeted", "ThinkingFormat"]

THOUGHT_ENDS = "Final Answer:"


class ThinkingFormat:
    """Texts of a model's thinking mode, as values.

    open    begins the thought;   close    ends it
    empty   stands in place of a thought in the mode without one; "" where the model has no such mode
    hand_over   is written before `close` when the thought is cut at its budget
    stop    texts that the model ends its thought with, besides `close`
    """

    def __init__(
        self, open: str = "", close: str = "\n\n", empty: str = "", hand_over: str = "", stop: tuple[str, ...] = ()
    ) -> None:
        self.open, self.close, self.empty, self.hand_over, self.stop = open, close, empty, hand_over, stop


S1 = ThinkingFormat(close=f"\n\n{THOUGHT_ENDS}", stop=(THOUGHT_ENDS,))


class Budgeted(Way):
    """Think for at most `tokens` tokens, and go on `wait` times where the model would stop. A step is one call.

    thinking    None: that of a model trained here, which writes its `cue` after the thought, else that of s1
    """

    def __init__(
        self,
        model: Any,
        tokens: int = 512,
        *,
        wait: int = 0,
        word: str = "Wait",
        answer_tokens: int = 64,
        temperature: float = 0.0,
        thinking: ThinkingFormat | None = None,
        instruction: str = "",
    ) -> None:
        if tokens < 1 or wait < 0 or answer_tokens < 1:
            raise InputError(f"budget({tokens}, wait={wait}): give at least one token, and no fewer than 0 waits")
        need(model, "prefill", "stop", purpose="budget forcing")
        self.model, self.tokens, self.wait, self.word, self.answer_tokens = model, tokens, wait, word, answer_tokens
        self.temperature, self.instruction = temperature, instruction
        cue = getattr(model, "cue", "")
        self.thinking = thinking or (ThinkingFormat(close=cue, stop=(cue,)) if cue else S1)
        self.depth = wait + 2
        self.keeps_ids = "ids" in model.capabilities and hasattr(model, "encode")

    # A state's memory: (the thought so far as ids or text, tokens of thought written, waits, whether the cap was met)
    def advance(self, s: State, x: Asked) -> State:
        prompt, stop = prompt_of(self.model, x.item, self.instruction)
        thought, used, waits, capped = s.memory or (self.begin(self.thinking.open), 0, 0, False)
        if s.phase < self.depth - 1 and not capped and used < self.tokens:
            more = self.call(prompt, (*stop, *self.thinking.stop), thought, self.tokens - used, s)
            thought, used = self.join(thought, more), used + more.tokens
            capped = more.finish == "length"
            goes_on = not capped and waits < self.wait and used < self.tokens
            if goes_on:
                thought, waits = self.join(thought, self.word), waits + 1
            memory = (thought, used, waits, capped)
            phase = s.phase + 1 if goes_on else self.depth - 1
            return s._replace(text=self.as_text(thought), phase=phase, memory=memory)
        hand_over = self.thinking.hand_over if capped else ""
        begun = self.join(self.join(thought, hand_over), self.thinking.close)
        last = self.call(prompt, stop, begun, self.answer_tokens, s)
        found = find(x.item.kind, last.text, first=True) if last.finish == "stop" or last.text.strip() else None
        cut = found is None and last.finish == "length"
        text = self.as_text(begun) + last.text
        return s._replace(text=text, answer=found, done=True, cut=cut, memory=(begun, used, waits, capped))

    def call(self, prompt: Any, stop: tuple[str, ...], begun: Any, most: int, s: State) -> Completion:
        """The completion of what is begun so far."""
        return self.ask(
            prompt,
            max_new_tokens=most,
            stop=stop,
            prefix=begun,
            temperature=self.temperature,
            seed=subkey(s.key, s.phase),
        )

    def begin(self, text: str) -> Any:
        """A text as token ids where the model has them, else as it is."""
        return tuple(self.model.encode(text)) if self.keeps_ids else text

    def join(self, begun: Any, more: Completion | str) -> Any:
        """What is begun, and more of it: the ids that the model wrote, or those of a text that is put in."""
        if not self.keeps_ids:
            return begun + (more if isinstance(more, str) else more.text)
        return (*begun, *(self.model.encode(more) if isinstance(more, str) else more.ids or ()))

    def as_text(self, begun: Any) -> str:
        """What is begun as a text."""
        return self.model.decode(begun) if self.keeps_ids else begun  # type: ignore[no-any-return]

    def read(self, s: State) -> Said:
        said = super().read(s)
        _, used, waits, capped = s.memory or ((), 0, 0, False)
        counts = {"thinking_tokens": used, "waits": waits, "capped": capped}
        return Said(said.answer, said.outcome, said.text, details=counts)
