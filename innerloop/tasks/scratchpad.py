"""Addition and multiplication of whole numbers with a scratchpad (Nye et al. 2021, arXiv 2112.00114).

"57+68c>"  ->  "51,21=125;"         from the last digit: digit and carry of each place
"57*68c>"  ->  "456,3420,456,3876=3876;"      57 times each digit in its place, then the sums so far
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import TextTask

__all__ = ["Addition", "Multiplication"]


class Arithmetic(TextTask):
    """Two whole numbers of up to `digits` digits; lengths are drawn first, so that short ones are as frequent."""

    sign = ""
    rating_counts = "characters of the response"

    def __init__(self, digits: int = 3, modes: Sequence[str] = ("direct", "chain", "dots"), places: int = 0):
        if not 1 <= digits <= 12:
            raise InputError(f"numbers of {digits} digits are out of range; choose 1 to 12 digits")
        self.digits = digits
        chain, answer = self.work(10**digits - 1, 10**digits - 1)
        self.setup(places or 2 * digits + 3 + len(chain) + len(answer) + 2, modes, digits=digits)

    def pose(self, rng: np.random.Generator) -> str:
        lengths = rng.integers(1, self.digits + 1, 2).tolist()
        a, b = (int(rng.integers(0 if n == 1 else 10 ** (n - 1), 10**n)) for n in lengths)
        return f"{a}{self.sign}{b}"

    def explain(self, question: str) -> tuple[str, str] | None:
        a, sign, b = question.partition(self.sign)
        return self.work(int(a), int(b)) if sign and a.isdigit() and b.isdigit() else None

    def work(self, a: int, b: int) -> tuple[str, str]:
        """(scratchpad, result)."""
        raise NotImplementedError


class Addition(Arithmetic):
    """Sums; see Arithmetic for its options."""

    name = "addition"
    sign = "+"

    def work(self, a: int, b: int) -> tuple[str, str]:
        places, carry = [], 0
        for at in range(max(len(str(a)), len(str(b)))):
            carry, digit = divmod(a // 10**at % 10 + b // 10**at % 10 + carry, 10)
            places.append(f"{digit}{carry}")
        return ",".join(places), str(a + b)


class Multiplication(Arithmetic):
    """Products; see Arithmetic for its options."""

    name = "multiplication"
    sign = "*"

    def work(self, a: int, b: int) -> tuple[str, str]:
        parts = [a * int(digit) * 10**at for at, digit in enumerate(reversed(str(b)))]
        sums = np.cumsum([0, *parts])[1:].tolist()
        return ",".join(map(str, [*parts, *sums])), str(a * b)
