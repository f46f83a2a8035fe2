"""Needle count: how often does a letter occur in a long text? The chain counts, one hit after the other.

"kjahakla:ac>"  ->  "1,2,3=3;"
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import TextTask

__all__ = ["NeedleCount"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class NeedleCount(TextTask):
    """Texts of `length` letters that hold the letter asked for up to `most` times."""

    name = "needle"
    rating_counts = "characters of the response"

    def __init__(
        self,
        length: int = 64,
        most: int = 8,
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        if not 1 <= most <= length <= 2000 or most > 99:
            raise InputError(
                f"a text of {length} letters with up to {most} hits: give 1 to 2000 letters, and 1 to 99 hits"
            )
        self.length, self.most = length, most
        self.setup(places or length + 4 + 3 * most + 4, modes, length=length, most=most)

    def pose(self, rng: np.random.Generator) -> str:
        wanted = int(rng.integers(len(LETTERS)))
        others = np.delete(np.arange(len(LETTERS)), wanted)
        text = others[rng.integers(0, len(others), self.length)]
        text[rng.permutation(self.length)[: int(rng.integers(0, self.most + 1))]] = wanted
        return f"{''.join(LETTERS[int(i)] for i in text)}:{LETTERS[wanted]}"

    def explain(self, question: str) -> tuple[str, str] | None:
        text, mark, wanted = question.partition(":")
        if not mark or len(wanted) != 1 or not text or set(text + wanted) - set(LETTERS):
            return None
        count = text.count(wanted)
        return ",".join(map(str, range(1, count + 1))), str(count)
