"""Symmetries that the rows of a file do not contradict: a two-sample test of changed rows against unchanged ones.

A symmetry of a puzzle turns its puzzles into others of the same kind. Where the file was drawn evenly, turned rows then
look like rows of the file. Rows are compared by how often each pair of neighbouring cells holds what it does (question
and answer of both cells together), and each cell by itself. A symmetry is kept where half of the rows, changed, is as
near to the other half as unchanged rows are. No proof: a rule that hardly shows in neighbours is not seen.
"""

from __future__ import annotations

import numpy as np

from innerloop.data.sets import PuzzleSet
from innerloop.tasks.grid import SYMMETRIES, Grid

__all__ = ["found_symmetries"]

SPLITS = 6  # halvings of the rows
MOST_ROWS = 4000
LEAST_ROWS = 100  # fewer say nothing
MARGIN = 3.0  # standard deviations by which changed rows may be further from the others than unchanged ones


def found_symmetries(task: Grid, examples: PuzzleSet, seed: int = 0) -> tuple[str, ...]:
    """Which of "turns" and "names" (tasks.grid.SYMMETRIES) the rows do not contradict."""
    rng = np.random.default_rng(seed)
    rows = examples.take(rng.permutation(len(examples))[:MOST_ROWS])
    if len(rows) < LEAST_ROWS:
        return ()
    changes = {name: Grid(**task.options | {"symmetries": [name]}) for name in SYMMETRIES}
    distances: dict[str, list[float]] = {name: [] for name in ("none", *changes)}
    for _ in range(SPLITS):
        order = rng.permutation(len(rows))
        one, other = rows.take(order[::2]), rows.take(order[1::2])
        expected = counted(one.inputs, one.labels, task)
        distances["none"].append(distance(expected, counted(other.inputs, other.labels, task)))
        for name, grid in changes.items():
            distances[name].append(distance(expected, counted(*grid.augment(other.inputs, other.labels, rng), task)))
    usual = np.mean(distances["none"]) + MARGIN * np.std(distances["none"])
    return tuple(name for name in changes if np.mean(distances[name]) <= usual)


def counted(inputs: np.ndarray, labels: np.ndarray, task: Grid) -> list[np.ndarray]:
    """What each cell holds, and each pair of neighbours side by side or above each other, as numbers to be counted."""
    codes = (inputs.astype(np.int64) * task.vocab + labels).reshape(-1, *task.shape)
    many = task.vocab**2
    places = np.arange(codes[0].size).reshape(task.shape)
    sides = codes[:, :, :-1] * many + codes[:, :, 1:], codes[:, :-1] * many + codes[:, 1:]
    return [counts.ravel() for counts in (codes + many * places, *sides)]


def distance(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """The largest total variation distance between the frequencies of two samples, over all that is counted."""
    found = []
    for a, b in zip(one, other, strict=True):
        values = np.unique(np.concatenate((a, b)))
        shares = [np.bincount(np.searchsorted(values, c), minlength=len(values)) / max(len(c), 1) for c in (a, b)]
        found.append(np.abs(shares[0] - shares[1]).sum())
    return 0.5 * float(max(found))
