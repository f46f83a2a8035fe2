"""State trajectories of one puzzle, projected to two principal components (PCA).

The first step moves a state further than all later ones, so the components are fitted to the later steps, and the first
is projected onto them. Trajectories that saw the puzzle by different symmetries lie far apart for that reason alone, so
their states are taken relative to their first step. Noisy trajectories are not, so that a common end shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.tree import floating

__all__ = ["CountSketch", "StatePaths", "flatten_state", "project_paths"]

MAX_BYTES = 16 << 20  # bytes for all states of a solve
Row = NDArray[np.float32]


class StatePaths:
    """The states of up to `steps` steps, in bounded memory.

    places  cells of the puzzle
    cells   (width, places): how each trajectory saw them (Views.cells); None where all saw the puzzle as it stands
    """

    def __init__(self, width: int, steps: int, places: int, cells: NDArray[np.int64] | None = None) -> None:
        self.rows: list[list[Row]] = [[] for _ in range(width)]
        self.places, self.cells, self.room = places, cells, MAX_BYTES // (4 * steps)
        self._sketch: CountSketch | None = None

    def add(self, k: int, state: Any) -> None:
        """The next state of trajectory k: one row, without a batch."""
        flat = flatten_state(state, self.places, None if self.cells is None else self.cells[k])
        self._sketch = self._sketch or CountSketch(len(flat), self.room)
        self.rows[k].append(self._sketch(flat))

    def drawn(self) -> tuple[list[list[list[float]]], list[float]]:
        return project_paths(self.rows, self.cells is not None)


def flatten_state(state: Any, places: int, cells: NDArray[np.int64] | None) -> Row:
    """All floating numbers of one row's state. Slots with a row for each cell (the last `places` of theirs) are turned
    back by `cells`, so that a cell's numbers stand in the same place whatever view a trajectory had."""
    parts = []
    for slot in floating(state):
        values = slot.detach().float().cpu().numpy()
        if cells is not None and values.ndim > 1 and len(values) >= places:
            extra = len(values) - places
            turned = values.copy()
            turned[extra + cells] = values[extra:]
            values = turned
        parts.append(values.reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class CountSketch:
    """n numbers kept as `room` sums of randomly signed parts of them, which keeps distances; as they are if they fit.

    A count sketch (Charikar, Chen, Farach-Colton 2002): inner products keep their value up to a relative error of
    about sqrt(2 / room).
    """

    def __init__(self, n: int, room: int) -> None:
        self.room = max(64, room)
        self.fits = n <= self.room
        if not self.fits:
            rng = np.random.default_rng(0)
            self.bucket, self.sign = rng.integers(self.room, size=n), rng.choice(np.array([-1.0, 1.0]), n)

    def __call__(self, flat: Row) -> Row:
        if self.fits:
            return flat
        return np.bincount(self.bucket, self.sign * flat, self.room).astype(np.float32)


def project_paths(rows: list[list[Row]], apart: bool = False) -> tuple[list[list[list[float]]], list[float]]:
    """(two numbers for every trajectory and step, share of the later steps' variance that each component holds).

    rows   states by trajectory and step
    apart  trajectories are compared by how far they went from their first step, not by where they are
    Each component points to where its largest number is positive. All is 0 where nothing moves, or nothing is finite.
    """
    flat = [v - path[0] if apart else v for path in rows for v in path]
    late = [t > 0 for path in rows for t in range(len(path))]
    points, shares = np.zeros((len(flat), 2)), [0.0, 0.0]
    table = np.stack(flat) if flat else np.zeros((0, 0), np.float32)
    fitted = table[late] if sum(late) > 2 else table  # two points lie on a line
    if table.size and np.isfinite(table).all():
        mean = fitted.mean(0, dtype=np.float64).astype(np.float32)
        total = float(np.square(fitted - mean, dtype=np.float64).sum())
        if total > 0:
            sizes, directions = top_singular_vectors(fitted - mean)
            found = (table - mean) @ directions[:, :2]
            found *= np.where(found[np.abs(found).argmax(0), np.arange(found.shape[1])] < 0, -1, 1)
            points[:, : found.shape[1]] = found
            shares[: found.shape[1]] = [round(float(s) ** 2 / total, 4) for s in sizes[:2]]
    told = iter([float(f"{x:.4g}"), float(f"{y:.4g}")] for x, y in points.tolist())
    return [[next(told) for _ in path] for path in rows], shares


def top_singular_vectors(table: Row) -> tuple[Row, Row]:
    """(sizes, directions (d, q)) of the largest singular values of (n, d), by subspace iteration (Halko, Martinsson,
    Tropp 2011): there may be thousands of states of thousands of numbers, and two directions are wanted."""
    rng = np.random.default_rng(0)
    found = rng.standard_normal((table.shape[1], min(12, *table.shape))).astype(np.float32)
    for _ in range(8):
        found = np.linalg.qr(table.T @ (table @ found))[0]
    _, sizes, turn = np.linalg.svd(table @ found, full_matrices=False)
    return sizes, found @ turn.T
