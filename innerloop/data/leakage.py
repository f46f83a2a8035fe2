"""Leakage check: test puzzles that are symmetric variants of training puzzles, by canonical keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.tasks.task import Task

__all__ = ["Leakage", "leakage"]


@dataclass(frozen=True, eq=False)
class Leakage:
    """rows: test rows that occur in training, int64 (K,); twins: a training row of each, int64 (K,); share: K / test
    rows.
    """

    rows: np.ndarray
    twins: np.ndarray
    count: int
    share: float

    def __str__(self) -> str:
        if self.count == 0:
            return "No test puzzle occurs in the training set, not even turned, mirrored or renamed."
        return (
            f"{self.count} of the test puzzles ({self.share:.2%}) occur in the training set up to symmetry; "
            f"the first is test row {self.rows[0] + 1}, a twin of training row {self.twins[0] + 1}."
        )


def leakage(train: PuzzleSet, test: PuzzleSet, task: Task) -> Leakage:
    """Every test row whose question is a symmetric variant of a training question.

    Nothing is missed: keys are equal over all symmetries. Equal keys are settled by the task's exact comparison before
    a row is reported. Raises InputError where the two sets are of different size.
    """
    if train.inputs.shape[1] != test.inputs.shape[1]:
        raise InputError(
            f"training puzzles have {train.inputs.shape[1]} cells and test puzzles {test.inputs.shape[1]}; "
            "compare sets of one size."
        )
    known: dict[bytes, list[int]] = {}
    for row, key in enumerate(task.canonical_batch(train.inputs)):
        known.setdefault(key, []).append(row)
    rows, twins = [], []
    for row, key in enumerate(task.canonical_batch(test.inputs)):
        twin = next((t for t in known.get(key, ()) if task.same(train.inputs[t], test.inputs[row])), None)
        if twin is not None:
            rows.append(row)
            twins.append(twin)
    return Leakage(np.array(rows, np.int64), np.array(twins, np.int64), len(rows), len(rows) / len(test))
