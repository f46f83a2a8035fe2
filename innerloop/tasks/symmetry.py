"""Symmetries as tables: where each cell's token comes from, and what it is called; the turns of a grid among them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = ["Views", "dihedral", "same_names", "turns"]


class Views(NamedTuple):
    """K symmetries of a task: image k of a puzzle is `tokens[k][puzzle[cells[k]]]`.

    Image and puzzle are the same problem: an answer to the one, undone, is an answer to the other.
    """

    cells: np.ndarray  # (K, S) int64, each row a permutation
    tokens: np.ndarray  # (K, vocab) uint8, each row a permutation

    def apply(self, puzzles: np.ndarray) -> np.ndarray:
        """(K, S) tokens -> (K, S): row k in view k."""
        at = np.arange(len(puzzles))[:, None]
        return self.tokens[at, puzzles[at, self.cells]]  # type: ignore[no-any-return]

    def undo(self, images: np.ndarray) -> np.ndarray:
        """(K, S) tokens -> (K, S): what `apply` made these images of."""
        at = np.arange(len(images))[:, None]
        back = np.empty_like(images)
        back[at, self.cells] = self.tokens.argsort(1).astype(images.dtype)[at, images]
        return back

    def take(self, index: np.ndarray) -> Views:
        """The views of these indices, in that order."""
        return Views(self.cells[index], self.tokens[index])


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


def turns(count: int, shape: tuple[int, int], vocab: int, rng: np.random.Generator) -> Views:
    """`count` random turns and mirrors of a grid, tokens by their own names."""
    table = dihedral(*shape)
    return Views(table[rng.integers(len(table), size=count)], same_names(count, vocab))


def same_names(count: int, vocab: int) -> np.ndarray:
    """uint8 (count, vocab): every token is called what it was."""
    return np.tile(np.arange(vocab, dtype=np.uint8), (count, 1))
