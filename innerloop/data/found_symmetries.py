"""Symmetries that the rows of a file do not contradict: a two-sample test of changed rows against unchanged ones.

A symmetry of a puzzle turns its puzzles into others of the same kind. Where the file was drawn evenly, turned rows then
look like rows of the file. Rows are compared by how often each pair of neighbouring cells holds what it does (question
and answer of both cells together), and each cell by itself. A symmetry is kept where half of the rows, changed, is as
near to the other half as unchanged rows are. No proof: a rule that hardly shows in neighbours is not seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from innerloop.data.sets import PuzzleSet
from innerloop.rules.symmetry import dihedral
from innerloop.tasks.grid import Grid

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
    boards = np.stack([rows.inputs, rows.labels], 1).astype(np.int64)  # (N, 2, S)
    free = np.array([t for t in range(1, task.vocab) if t != task.blank])

    def turned(part: np.ndarray) -> np.ndarray:
        table = dihedral(*task.shape)
        return part[
            np.arange(len(part))[:, None, None],
            np.arange(2)[:, None],
            table[rng.integers(1, len(table), len(part))][:, None],
        ]

    def renamed(part: np.ndarray) -> np.ndarray:
        names = np.tile(np.arange(task.vocab), (len(part), 1))
        names[:, free] = free[rng.random((len(part), len(free))).argsort(1)]
        return names[np.arange(len(part))[:, None, None], part]

    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {"turns": turned, "names": renamed}
    distances: dict[str, list[float]] = {name: [] for name in ("none", *changes)}
    for _ in range(SPLITS):
        order = rng.permutation(len(boards))
        one, other = boards[order[::2]], boards[order[1::2]]
        expected = counted(one, task)
        distances["none"].append(distance(expected, counted(other, task)))
        for name, change in changes.items():
            distances[name].append(distance(expected, counted(change(other), task)))
    usual = np.mean(distances["none"]) + MARGIN * np.std(distances["none"])
    return tuple(name for name in changes if np.mean(distances[name]) <= usual)


def counted(boards: np.ndarray, task: Grid) -> tuple[np.ndarray, ...]:
    """How often each cell, and each pair of neighbours side by side or above each other, holds what it does."""
    codes = (boards[:, 0] * task.vocab + boards[:, 1]).reshape(-1, *task.shape)
    many = task.vocab**2
    size = codes[0].size
    alone = codes.reshape(len(codes), -1) + many * np.arange(size)
    beside = codes[:, :, :-1] * many + codes[:, :, 1:]
    above = codes[:, :-1] * many + codes[:, 1:]
    counts = [np.bincount(alone.ravel(), minlength=many * size)]
    return (*counts, beside.ravel(), above.ravel())


def distance(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> float:
    """The largest total variation distance between the frequencies of two samples, over all that is counted."""
    found = [np.abs(one[0] / one[0].sum() - other[0] / other[0].sum()).sum()]
    for a, b in zip(one[1:], other[1:], strict=True):
        values = np.unique(np.concatenate((a, b)))
        shares = [np.bincount(np.searchsorted(values, c), minlength=len(values)) / max(len(c), 1) for c in (a, b)]
        found.append(np.abs(shares[0] - shares[1]).sum())
    return 0.5 * float(max(found))
