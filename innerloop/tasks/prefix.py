"""Prefix sums modulo two: each place asks whether the ones up to it are odd in number; longer rows need more steps.

The algorithmic task of "Can you learn an algorithm?" (arXiv 2106.04537): learned on short rows, tested on longer ones.
Tokens: 0 padding, 1 '0', 2 '1'. A generated rating is the length of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.tasks.task import Task, item_rng

__all__ = ["Prefix"]


class Prefix(Task):
    """Rows of `lengths` = (shortest, longest) bits, padded to `places`, so that longer rows fit the same model."""

    name = "prefix"
    rating_counts = "cells in the row"
    charset = "01"
    vocab = 3

    def __init__(self, places: int = 32, lengths: tuple[int, int] | None = None):
        if not 1 <= places <= 4096:
            raise InputError(f"places={places} makes no row; choose 1 to 4096.")
        low, high = lengths or (1, places)
        if not 1 <= low <= high <= places:
            raise InputError(f"lengths=({low}, {high}) does not fit {places} places; give 1 <= shortest <= longest.")
        self.lengths, self.shape = (int(low), int(high)), (1, places)
        self.options = {"places": places, "lengths": list(self.lengths)}

    def sample(self, seed: int, i: int) -> Example:
        rng = item_rng(seed, i)
        length = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
        question = np.zeros(self.shape[1], np.uint8)
        question[:length] = rng.integers(1, 3, length)
        return Example(question, self.solve(question[None])[0], float(length))

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """uint8 (B, S) right answers: running parity, padding kept."""
        odd = np.cumsum(inputs == 2, 1) % 2
        answers: np.ndarray = np.where(inputs == 0, 0, odd + 1).astype(np.uint8)
        return answers

    def domain(self, question: np.ndarray) -> np.ndarray:
        """The running parity."""
        answer = self.solve(question[None])[0]
        return np.arange(self.vocab) == answer[:, None]  # type: ignore[no-any-return]

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """Nothing: the domain is the answer."""

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        ok: np.ndarray = ((answers == self.solve(inputs)) | (inputs == 0)).all(1)
        return ok

    def glyph(self, token: int) -> str:
        return "" if token == 0 else self.charset[token - 1]
