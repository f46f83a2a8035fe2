"""The largest sum of numbers of a row of which no two are neighbours, by dynamic programming.

    "3,8,1,9c>"  ->  "3,8,8,17=17;"           the best sum of the first one, two, three, ... numbers

best(i) = max(best(i - 1), best(i - 2) + x_i); nothing at all is chosen where every number is negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import TextTask

__all__ = ["NonAdjacentSum"]


class NonAdjacentSum(TextTask):
    """Rows of `lengths` = (shortest, longest) numbers from `least` to `most`."""

    name = "nonadjacent"
    rating_counts = "characters of the response"

    def __init__(
        self,
        lengths: tuple[int, int] = (2, 8),
        least: int = 0,
        most: int = 9,
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        low, high = (int(n) for n in lengths)
        if not (1 <= low <= high <= 200 and -999 <= least <= most <= 999):
            raise InputError(f"lengths {low} to {high}, numbers {least} to {most}: give 1 to 200, and -999 to 999")
        self.lengths, self.range = (low, high), (least, most)
        number, total = max(len(str(least)), len(str(most))), len(str(max(most, 0) * ((high + 1) // 2)))
        longest = high * (number + 1) - 1 + 2 + high * (total + 1) + total + 1
        self.setup(places or longest, modes, lengths=[low, high], least=least, most=most)

    def pose(self, rng: np.random.Generator) -> str:
        count = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
        return ",".join(map(str, rng.integers(self.range[0], self.range[1] + 1, count).tolist()))

    def explain(self, question: str) -> tuple[str, str] | None:
        words = question.split(",")
        if not all(word.removeprefix("-").isdigit() for word in words):
            return None
        best = [0, 0]  # without any number, and one before
        for x in map(int, words):
            best.append(max(best[-1], best[-2] + x))
        return ",".join(map(str, best[2:])), str(best[-1])
