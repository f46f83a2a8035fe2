"""Packing: several short texts in one row of examples, so that little of a batch is padding.

Each text ends with its end mark; a model whose NetConfig has that mark as `end` does not see past it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.data.sets import PuzzleSet

__all__ = ["first_fit", "packed"]

OPEN = 64  # rows that are filled at once


def packed(examples: Any) -> PuzzleSet:
    """The texts of a set, as many a row as fit, in the order of the set; padding is at the end of rows."""
    lengths = (examples.inputs != 0).sum(1)
    rows = first_fit(lengths, examples.inputs.shape[1])
    inputs, labels = (np.zeros((len(rows), examples.inputs.shape[1]), examples.inputs.dtype) for _ in range(2))
    for row, members in enumerate(rows):
        at = 0
        for member in members:
            part = slice(at, at + int(lengths[member]))
            inputs[row, part] = examples.inputs[member, : lengths[member]]
            labels[row, part] = examples.labels[member, : lengths[member]]
            at = part.stop
    first = [members[0] for members in rows]
    return PuzzleSet(
        inputs, labels, examples.vocab, examples.shape, puzzle=examples.puzzle[first], task=examples.task,
        source=examples.source, identifiers=examples.identifiers,
    )  # fmt: skip


def first_fit(lengths: NDArray[np.int64], room: int) -> list[list[int]]:
    """Numbers of texts for each row: each text goes to the first of the open rows that has room for it."""
    rows: list[list[int]] = []
    opened: list[tuple[list[int], int]] = []  # (members, room left), the oldest first
    for number, length in enumerate(lengths.tolist()):
        at = next((i for i, (_, left) in enumerate(opened) if left >= length), None)
        if at is None:
            opened.append(([number], room - length))
            rows.append(opened[-1][0])
            opened = opened[-OPEN:]
        else:
            members, left = opened[at]
            members.append(number)
            opened[at] = (members, left - length)
    return rows
