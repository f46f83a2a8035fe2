"""Chain arithmetic: a number changed step by step, modulo a small number; the chain is every number on the way.

    "7+5*3c>"  ->  "2,6=6;"          modulus 10: (7 + 5) % 10 = 2, (2 * 3) % 10 = 6

From left to right, without precedence. A direct answer has to make all steps inside the model; a chain makes one a
number. A number is one character up to modulus 36 (0 to 9, then a to z), else two digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import CHARSET, TextTask

__all__ = ["ChainArithmetic"]

RULES: dict[str, Callable[[int, int], int]] = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
ONE_CHARACTER = 36  # numbers below are written with one character


class ChainArithmetic(TextTask):
    """Chains of `steps` = (fewest, most) operations modulo `modulus`, 2 to 97."""

    name = "chain"
    rating_counts = "characters of the response"

    def __init__(
        self,
        steps: tuple[int, int] = (1, 6),
        modulus: int = 10,
        operators: str = "+-*",
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        low, high = (int(n) for n in steps)
        if not (1 <= low <= high <= 200 and 2 <= modulus <= 97):
            raise InputError(f"steps {low} to {high}, modulus {modulus}: give 1 to 200 steps, and a modulus of 2 to 97")
        if not operators or set(operators) - set(RULES):
            raise InputError(
                f"operators={operators!r} must name one or more of {' '.join(RULES)}; leave out the others"
            )
        self.steps, self.modulus, self.operators = (low, high), modulus, operators
        self.width = 1 if modulus <= ONE_CHARACTER else 2
        w = self.width
        longest = w + high * (w + 1) + 2 + high * (w + 1) - 1 + 1 + w + 1
        self.answer_kind = "number" if modulus <= 10 or w == 2 else "text"
        self.setup(places or longest, modes, steps=[low, high], modulus=modulus, operators=operators)

    def write(self, value: int) -> str:
        return CHARSET[value] if self.width == 1 else f"{value:02d}"

    def read(self, text: str) -> int | None:
        """The number that a text is; None for any other text."""
        if len(text) != self.width or not (text.isdigit() or (self.width == 1 and text in CHARSET[:ONE_CHARACTER])):
            return None
        value = int(text, ONE_CHARACTER) if self.width == 1 else int(text)
        return value if value < self.modulus else None

    def pose(self, rng: np.random.Generator) -> str:
        count = int(rng.integers(self.steps[0], self.steps[1] + 1))
        values = [self.write(int(v)) for v in rng.integers(0, self.modulus, count + 1)]
        signs = [self.operators[int(i)] for i in rng.integers(0, len(self.operators), count)]
        return values[0] + "".join(sign + value for sign, value in zip(signs, values[1:], strict=True))

    def explain(self, question: str) -> tuple[str, str] | None:
        size = self.width + 1
        value, rest = self.read(question[: self.width]), question[self.width :]
        if value is None or not rest or len(rest) % size:
            return None
        numbers = []
        for at in range(0, len(rest), size):
            operand = self.read(rest[at + 1 : at + size])
            if rest[at] not in RULES or operand is None:
                return None
            value = RULES[rest[at]](value, operand) % self.modulus
            numbers.append(self.write(value))
        return ",".join(numbers), numbers[-1]
