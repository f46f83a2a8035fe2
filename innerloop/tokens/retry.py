"""retry: answer, have it verified, and answer again with the verifier's message, up to `n` times.

    y_1 = answer(question);   y_{i+1} = answer(question, y_1, message_1, ..., y_i, message_i)   until one is accepted

Needs a verifier that does not know the answer (Item.check). If none is accepted it abstains.
"""

from __future__ import annotations

from typing import Any

from innerloop.errors import InputError
from innerloop.lm.watch import part
from innerloop.tokens.answers import find
from innerloop.tokens.check import need_check, verdict
from innerloop.tokens.prompts import BETWEEN, prompt_of
from innerloop.tokens.way import Asked, Said, State, Way, subkey, tell

__all__ = ["Retry"]

AGAIN = "That is not right: {message}. Try again, and end with: The answer is ..."
WRONG = "it does not pass the check"


class Retry(Way):
    """Up to `n` attempts, each of which sees the earlier ones and what was wrong with them."""

    def __init__(
        self,
        model: Any,
        n: int = 4,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        instruction: str = "End with: The answer is ...",
    ) -> None:
        if n < 1:
            raise InputError(f"retry of n={n}: give 1 or more")
        self.model, self.depth, self.max_new_tokens, self.temperature = model, n, max_new_tokens, temperature
        self.instruction = instruction

    def advance(self, s: State, x: Asked) -> State:
        need_check(x.item, "verify-and-retry")
        prompt, stop = prompt_of(self.model, x.item, self.instruction)
        for said, message in s.memory or ():
            again = AGAIN.format(message=message or WRONG)
            if isinstance(prompt, str):
                prompt = f"{prompt}{said.text}\n{again}{BETWEEN}"
            else:
                prompt = [*prompt, {"role": "assistant", "content": said.text}, {"role": "user", "content": again}]
        path = (*x.path, s.phase)
        with part(path):
            completion = self.ask(
                prompt, max_new_tokens=self.max_new_tokens, stop=stop, temperature=self.temperature,
                seed=subkey(s.key, "attempt", s.phase),
            )  # fmt: skip
        cut = completion.finish == "length"
        found = None if cut else find(x.item.kind, completion.text)
        said = Said(found, "answered" if found is not None else "cut" if cut else "unparsed", completion.text)
        tell(path, said)
        right, message = verdict(x.item, said)
        attempts = (*(s.memory or ()), (said, message))
        done = right or s.phase + 1 >= self.depth
        text = f"{s.text}\n\n{said.text}" if s.text else said.text
        return s._replace(
            text=text, answer=found if right else None, samples=(*s.samples, said), phase=s.phase + 1, done=done,
            cut=cut, memory=attempts,
        )  # fmt: skip

    def read(self, s: State) -> Said:
        said, accepted = super().read(s), s.answer is not None
        details = {"attempts": s.phase, "abstained": not accepted and any(a.answer for a in s.samples)}
        return Said(
            said.answer,
            said.outcome,
            said.text,
            1.0 if accepted else 0.0,
            s.samples,
            s.phase - 1 if accepted else None,
            details,
        )
