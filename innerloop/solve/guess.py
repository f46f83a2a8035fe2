"""Guesses: each trajectory after the first is given one cell more, filled in as the first trajectory left it.

    cells      empty in the question and not in the first trajectory's answer, those it is least certain of first
    question   trajectory k gets the k-th of them; when all have been tried alone, two of them together

Every answer is verified against the original question, so a wrong guess costs time and never an error. This is one
level of what a search does, led by the model; benchmarks/trajectories.py compares it with noise and symmetries.
"""

from __future__ import annotations

from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from innerloop.data.protocols import Tokens

__all__ = ["with_guess"]


def with_guess(question: Tokens, answer: Tokens, certainty: NDArray[np.float32], blank: int, number: int) -> Tokens:
    """The question (S,) of trajectory `number` >= 1: with one or two empty cells filled from the first answer.

    answer, certainty  (S,) of the first trajectory; blank: token of an empty cell. Without such cells, the question.
    """
    empty = np.flatnonzero((question == blank) & (answer != blank))
    if not len(empty):
        return question
    order = empty[np.argsort(certainty[empty], kind="stable")]
    pairs = len(order) * (len(order) - 1) // 2
    index = (number - 1) % (len(order) + pairs)
    if index < len(order):
        cells = order[[index]]
    else:
        cells = order[list(next(islice(combinations(range(len(order)), 2), index - len(order), None)))]
    filled = question.copy()
    filled[cells] = answer[cells]
    return filled
