"""Judges that are language models: a mark for each sample, or two samples compared in both orders.

Pairwise judges favour the sample that they see first, or second. Both orders are asked, only verdicts that agree count,
and `position_bias` in the record is the share of disagreements in which the first was preferred (0.5: no bias).
"""

from __future__ import annotations

import random
from typing import Any

from innerloop.tokens.answers import find
from innerloop.tokens.best import Choice
from innerloop.tokens.way import Item, Said, subkey

__all__ = ["Pairwise", "Scalar"]

MARK = (
    "Question:\n{question}\n\nProposed solution:\n{text}\n\nHow likely is it that this solution is correct, "
    "from 0 to 10? Give only the number."
)
PAIR = (
    "Question:\n{question}\n\nSolution A:\n{a}\n\nSolution B:\n{b}\n\nWhich solution is correct, or the better one? "
    "Give only the letter A or B."
)


def ask(model: Any, text: str, key: int) -> str:
    """The model's reply to a judge's question."""
    prompt = [{"role": "user", "content": text}] if "chat" in model.capabilities else f"{text}\nAnswer:"
    (reply,) = model.generate([prompt], max_new_tokens=8, seed=key)
    return reply.completions[0].text


class Scalar:
    """A mark from 0 to 10 for each sample; the highest wins, ties go to the first. Unreadable marks count as 0."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def choose(self, item: Item, samples: tuple[Said, ...], key: int, judged: int = 0) -> Choice:
        marks: list[float | None] = []
        for i, said in enumerate(samples):
            found = None
            if said.answer is not None:
                reply = ask(self.model, MARK.format(question=item.question, text=said.text), subkey(key, i))
                found = find("number", reply, first=True)
            marks.append(None if found is None or "/" in found else min(10.0, max(0.0, float(found))))
        if all(said.answer is None for said in samples):
            return Choice(None, None, {"marks": marks})
        best = max((i for i, s in enumerate(samples) if s.answer is not None), key=lambda i: marks[i] or 0.0)
        unread = sum(m is None and s.answer is not None for m, s in zip(marks, samples, strict=True))
        sure = None if marks[best] is None else (marks[best] or 0.0) / 10
        return Choice(best, sure, {"marks": marks, "unread": unread})


class Pairwise:
    """A knockout of pairs in random order, each asked both ways; where the two disagree, the earlier sample stays."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def choose(self, item: Item, samples: tuple[Said, ...], key: int, judged: int = 0) -> Choice:
        left = [i for i, said in enumerate(samples) if said.answer is not None]
        random.Random(key).shuffle(left)
        pairs = agreed = first_preferred = 0
        while len(left) > 1:
            following = left[len(left) - len(left) % 2 :]
            for a, b in zip(left[0::2], left[1::2], strict=False):
                if samples[a].answer == samples[b].answer:
                    following.append(min(a, b))
                    continue
                forward, backward = (self.prefers_first(item, samples[i], samples[j], key) for i, j in ((a, b), (b, a)))
                pairs += 1
                if forward is not None and backward is not None and forward != backward:
                    agreed += 1
                    following.append(a if forward else b)
                else:
                    first_preferred += bool(forward and backward)
                    following.append(min(a, b))
            left = following
        disagreed = pairs - agreed
        counts = {"pairs": pairs, "agreed": agreed, "position_bias": first_preferred / disagreed if disagreed else None}
        return Choice(left[0] if left else None, None, counts)

    def prefers_first(self, item: Item, a: Said, b: Said, key: int) -> bool | None:
        """Whether the solution that is shown first is preferred; None for a reply without a letter."""
        reply = ask(self.model, PAIR.format(question=item.question, a=a.text, b=b.text), key)
        return {"A": True, "B": False}.get(find("choice", reply, first=True) or "")
