"""Functions of short words and their compositions: which word comes out? The chain is the word after each function.

    "rl:abcdc>"  ->  "dcba,cbad=cbad;"           r reverses, then l turns left

Functions: r reverse, l turn left by one, t turn right by one, x swap the first two letters, y swap the last two,
s sort, n next letter (z becomes a), p previous letter, f repeat the first letter in place of the last, m mirror the
first half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import TextTask

__all__ = ["FUNCTIONS", "StringFunctions"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def shifted(word: str, by: int) -> str:
    return "".join(LETTERS[(LETTERS.index(c) + by) % len(LETTERS)] for c in word)


FUNCTIONS: dict[str, Callable[[str], str]] = {
    "r": lambda w: w[::-1],
    "l": lambda w: w[1:] + w[:1],
    "t": lambda w: w[-1:] + w[:-1],
    "x": lambda w: w[1::-1] + w[2:],
    "y": lambda w: w[:-2] + w[:-3:-1],
    "s": lambda w: "".join(sorted(w)),
    "n": lambda w: shifted(w, 1),
    "p": lambda w: shifted(w, -1),
    "f": lambda w: w[:-1] + w[0],
    "m": lambda w: w[: (len(w) + 1) // 2] + w[: len(w) // 2][::-1],
}


class StringFunctions(TextTask):
    """Words of `letters` = (fewest, most) letters through `depth` = (fewest, most) of `functions`."""

    name = "strings"
    rating_counts = "characters of the response"
    answer_kind = "text"

    def __init__(
        self,
        depth: tuple[int, int] = (1, 4),
        letters: tuple[int, int] = (4, 6),
        functions: str = "".join(FUNCTIONS),
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        (few, many), (short, long) = ((int(n) for n in pair) for pair in (depth, letters))
        if not (1 <= few <= many <= 100 and 2 <= short <= long <= 100):
            raise InputError(f"depth {few} to {many}, letters {short} to {long}: give 1 to 100, and 2 to 100 letters")
        if not functions or set(functions) - set(FUNCTIONS):
            raise InputError(f"functions={functions!r} must be one or more of {' '.join(FUNCTIONS)}")
        self.depth, self.letters, self.functions = (few, many), (short, long), functions
        longest = many + 1 + long + 2 + many * (long + 1) + long + 1
        self.setup(places or longest, modes, depth=[few, many], letters=[short, long], functions=functions)

    def pose(self, rng: np.random.Generator) -> str:
        count, size = (int(rng.integers(low, high + 1)) for low, high in (self.depth, self.letters))
        names = "".join(self.functions[int(i)] for i in rng.integers(0, len(self.functions), count))
        return f"{names}:{''.join(LETTERS[int(i)] for i in rng.integers(0, len(LETTERS), size))}"

    def explain(self, question: str) -> tuple[str, str] | None:
        names, mark, word = question.partition(":")
        if not (mark and names and len(word) > 1) or set(names) - set(FUNCTIONS) or set(word) - set(LETTERS):
            return None
        words = []
        for name in names:
            word = FUNCTIONS[name](word)
            words.append(word)
        return ",".join(words), word
