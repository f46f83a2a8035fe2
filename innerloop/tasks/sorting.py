"""Sorting digits, and subset sum, which is easier to verify than to find.

"4,1,3c>"           ->  "1,13,134=134;"       the smallest so far, and so on
"3,5,8,13:16c>"     ->  "13-3,3-0=13+3;"      a number that is taken, and what is left to reach
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import TextTask

__all__ = ["Sorting", "SubsetSum"]


class Sorting(TextTask):
    """Rows of `lengths` = (shortest, longest) digits."""

    name = "sorting"
    rating_counts = "characters of the response"

    def __init__(
        self,
        lengths: tuple[int, int] = (2, 8),
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        low, high = (int(n) for n in lengths)
        if not 1 <= low <= high <= 60:
            raise InputError(f"rows of {low} to {high} digits are out of range; choose 1 to 60")
        self.lengths = (low, high)
        self.setup(places or 2 * high + 1 + (high * (high + 3)) // 2 + high + 2, modes, lengths=[low, high])
        self.answer_kind = "text"

    def pose(self, rng: np.random.Generator) -> str:
        count = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
        return ",".join(map(str, rng.integers(0, 10, count).tolist()))

    def explain(self, question: str) -> tuple[str, str] | None:
        digits = question.split(",")
        if not all(len(d) == 1 and d.isdigit() for d in digits):
            return None
        found = "".join(sorted(digits))
        return ",".join(found[: n + 1] for n in range(len(found))), found


class SubsetSum(TextTask):
    """Some of `count` different numbers up to `most` that add up to a target; every such choice is right."""

    name = "subset_sum"
    rating_counts = "characters of the response"
    answer_kind = "text"

    def __init__(
        self,
        count: int = 6,
        most: int = 30,
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        if not 2 <= count <= 16 or not count <= most <= 999:
            raise InputError(f"{count} numbers up to {most}: give 2 to 16, and numbers up to 999")
        self.count, self.most = count, most
        size, total = len(str(most)), len(str(count * most))
        longest = count * (size + 1) + total + 2 + count * (size + total + 2) + count * (size + 1) + 1
        self.setup(places or longest, modes, count=count, most=most)

    def pose(self, rng: np.random.Generator) -> str:
        numbers = np.sort(rng.permutation(self.most)[: self.count] + 1)
        chosen = numbers[rng.permutation(self.count)[: int(rng.integers(1, self.count))]]
        return f"{','.join(map(str, numbers.tolist()))}:{int(chosen.sum())}"

    def explain(self, question: str) -> tuple[str, str] | None:
        """The choice of fewest numbers, the largest first."""
        parsed = numbers_of(question)
        if parsed is None:
            return None
        numbers, target = parsed
        for size in range(1, len(numbers) + 1):
            for chosen in combinations(sorted(numbers, reverse=True), size):
                if sum(chosen) == target:
                    left = (target - np.cumsum(chosen)).tolist()
                    chain = ",".join(f"{x}-{rest}" for x, rest in zip(chosen, left, strict=True))
                    return chain, "+".join(map(str, chosen))
        return None

    def is_right(self, question: str, answer: str) -> bool:
        parsed, words = numbers_of(question), answer.split("+")
        if parsed is None or not all(word.isdigit() for word in words):
            return False
        numbers, target = parsed
        chosen = [int(word) for word in words]
        return sum(chosen) == target and len(set(chosen)) == len(chosen) and set(chosen) <= set(numbers)


def numbers_of(question: str) -> tuple[list[int], int] | None:
    """(numbers, target) of a question of subset sum; None for any other text."""
    given, mark, target = question.partition(":")
    words = given.split(",")
    if not mark or not target.isdigit() or not all(word.isdigit() for word in words) or len(words) > 20:
        return None
    return [int(word) for word in words], int(target)
