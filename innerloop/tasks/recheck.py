"""Rechecks: a number that may be wrong, and then looked at again, for the study of "Wait" (budget forcing, s1).

    "7+5c>"  ->  "8w8w2=2;"        modulo 10: wrong, looked at again and kept, looked at again and mended

The traces to learn from are drawn so: the first number is right with probability `right`, otherwise any other; each
recheck mends a wrong one with probability `mends`, otherwise keeps it, and keeps a right one. A model that learned them
should be right after n rechecks with 1 - (1 - right)(1 - mends)^n.
"""

from __future__ import annotations

import re

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.tasks.text import CUE, END, TextTask

__all__ = ["WAIT", "Recheck"]

WAIT = "w"  # begins a recheck
TRACE = re.compile(rf"(\d)({WAIT}\d)*{CUE}\d")


class Recheck(TextTask):
    """Two digits and a sign modulo 10; traces of `rechecks` = (fewest, most). An answer is the last number written."""

    name = "recheck"
    rating_counts = "characters of the response"
    verifies = False  # a trace may be wrong, and is learned all the same

    def __init__(self, right: float = 0.4, mends: float = 0.5, rechecks: tuple[int, int] = (0, 4), places: int = 0):
        few, many = (int(n) for n in rechecks)
        if not (0 <= right <= 1 and 0 <= mends <= 1 and 0 <= few <= many <= 100):
            raise InputError(f"right {right}, mends {mends}, rechecks {few} to {many}: give shares, and 0 to 100")
        self.right, self.mends, self.rechecks = float(right), float(mends), (few, many)
        options = {"right": self.right, "mends": self.mends, "rechecks": [few, many]}
        self.setup(places or 3 + 2 + 1 + 2 * many + 3, ("chain",), **options)
        del self.options["modes"]  # it has one

    def pose(self, rng: np.random.Generator) -> str:
        a, b = rng.integers(0, 10, 2).tolist()
        return f"{a}{'+-*'[int(rng.integers(3))]}{b}"

    def explain(self, question: str) -> tuple[str, str] | None:
        if not re.fullmatch(r"\d[-+*]\d", question):
            return None
        a, sign, b = int(question[0]), question[1], int(question[2])
        value = str({"+": a + b, "-": a - b, "*": a * b}[sign] % 10)
        return value, value

    def sample(self, seed: int, i: int) -> Example:
        question, rng = self.draw(seed, i)
        answer = int((self.explain(question) or ("", ""))[1])
        value = answer if rng.random() < self.right else (answer + int(rng.integers(1, 10))) % 10
        trace = str(value)
        for _ in range(int(rng.integers(self.rechecks[0], self.rechecks[1] + 1))):
            value = answer if rng.random() < self.mends else value
            trace += f"{WAIT}{value}"
        return self.example(f"{question}{self.forms['chain']}", f"{trace}{CUE}{value}{END}")

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Whether it is a trace at all that ends with the number it says; right or not is not seen."""
        self.check(inputs, "questions")
        self.check(answers, "answers")
        return np.array([self._is_trace(row, answer) for row, answer in zip(inputs, answers, strict=True)], bool)

    def _is_trace(self, row: np.ndarray, answer: np.ndarray) -> bool:
        hits = np.flatnonzero(row == self.separator)
        if not len(hits) or answer.max(initial=0) >= self.vocab:
            return False
        said, mark, _ = self.decode(answer[int(hits[0]) :]).partition(END)
        return bool(mark and TRACE.fullmatch(said) and said[-1] == said.rpartition(CUE)[0][-1:])
