"""Futoshiki: every number once in each row and column, and the signs between cells hold.

A board is written with its signs, row by row: a cell, a sign, a cell ..., then the signs below them. A puzzle of 5x5
numbers has 9x9 symbols: "." is an open cell; "<" and ">" stand between two cells of a row, "^" and "v" between two of a
column, with their points to the smaller one; "-" is no sign.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from innerloop.tasks.grid import Grid

__all__ = ["Futoshiki"]


class Futoshiki(Grid):
    """Futoshiki of `size` x `size` numbers."""

    name = "futoshiki"

    def __init__(self, size: int = 5) -> None:
        side, numbers = 2 * size - 1, "123456789"[:size]
        super().__init__(numbers + ".<>^v-", (side, side), blank=".", fill=numbers)  # so number n is token n
        cells = np.arange(side * side).reshape(side, side)[::2, ::2]
        self.lines, self.numbers = [*cells.tolist(), *cells.T.tolist()], range(1, size + 1)

    def signs(self, question: np.ndarray) -> Iterator[tuple[int, int]]:
        """(the smaller cell, the larger cell) of every sign of a question (S,)."""
        for cell, sign in enumerate(self.decode(question)):
            if sign in "<>^v":
                step = 1 if sign in "<>" else self.shape[1]
                yield (cell - step, cell + step) if sign in "<^" else (cell + step, cell - step)

    def rule(self, question: np.ndarray, answer: np.ndarray) -> bool:
        """Whether an answer (S,) that keeps the question (S,) is right."""
        held = answer.tolist()
        lines = all({held[cell] for cell in line} == set(self.numbers) for line in self.lines)
        return lines and all(held[small] < held[large] for small, large in self.signs(question))

    def constrain(self, model: Any, has: Any, question: np.ndarray) -> None:
        """The same for the exact solver: `has(cell, token)` is its literal "this cell holds this token"."""
        for line in self.lines:
            for number in self.numbers:
                model.add_exactly_one([has(cell, number) for cell in line])
        for small, large in self.signs(question):
            for number in self.numbers:
                larger = [has(large, other) for other in self.numbers if other > number]
                model.add_bool_or([~has(small, number), *larger])
