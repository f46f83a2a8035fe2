"""Parity of a row of bits as running text: is the number of ones odd? The chain is the parity so far.

"10110c>"  ->  "11011=1;"
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import TextTask

__all__ = ["Parity"]


class Parity(TextTask):
    """Rows of `lengths` = (shortest, longest) bits."""

    name = "parity"
    rating_counts = "characters of the response"

    def __init__(
        self,
        lengths: tuple[int, int] = (2, 16),
        modes: Sequence[str] = ("direct", "chain", "dots"),
        places: int = 0,
    ):
        low, high = (int(n) for n in lengths)
        if not 1 <= low <= high <= 1000:
            raise InputError(f"rows of {low} to {high} bits are out of range; choose 1 to 1000")
        self.lengths = (low, high)
        self.setup(places or 2 * high + 5, modes, lengths=[low, high])

    def pose(self, rng: np.random.Generator) -> str:
        count = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
        return "".join(map(str, rng.integers(0, 2, count).tolist()))

    def explain(self, question: str) -> tuple[str, str] | None:
        if not question or set(question) - {"0", "1"}:
            return None
        so_far = (np.cumsum([int(bit) for bit in question]) % 2).tolist()
        return "".join(map(str, so_far)), str(so_far[-1])
