"""The eight turns and mirrors of a square grid (four of an oblong one) as tables of cell indices."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["dihedral", "turn_rows"]


@lru_cache
def dihedral(rows: int, columns: int) -> np.ndarray:
    """int64 (K, S): `grid[table[k]]` is the k-th image of a flat grid; k=0 leaves it, K is 8, or 4 where rows !=
    columns.

    In order: itself, turned by 180 degrees, flipped up-down, flipped left-right, then (square only) transposed,
    transposed and turned, and the two quarter turns.
    """
    cells = np.arange(rows * columns).reshape(rows, columns)
    images = [cells, cells[::-1, ::-1], cells[::-1], cells[:, ::-1]]
    if rows == columns:
        images += [image.T for image in images]
    table = np.stack([image.reshape(-1) for image in images])
    table.setflags(write=False)
    return table


def turn_rows(
    inputs: np.ndarray, labels: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each row (B, S) of both tables turned by the same random one of its grid's symmetries."""
    table = dihedral(*shape)
    cells = table[rng.integers(len(table), size=len(inputs))]
    at = np.arange(len(inputs))[:, None]
    return inputs[at, cells], labels[at, cells]
