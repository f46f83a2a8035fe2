"""Symmetries as tables: where each cell's token comes from, and what it is called; the turns of a grid among them.

And what follows from them: which cells, pairs and sets of cells are alike (`orbits`, `relations`, `lines`, `kinds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np

__all__ = [
    "MIRRORS", "Views", "all_products", "dihedral", "kinds", "lines", "orbits", "relations", "same_names", "swapped",
    "turns",
]  # fmt: skip

# Images of a grid that undo themselves, as rows of `dihedral`; the last two need a square one.
MIRRORS = {"same": 0, "half-turn": 1, "flip": 2, "mirror": 3, "transpose": 4, "anti-transpose": 5}
MOST_PRODUCTS = 1024  # of symmetries, which no grid has
MOST_RELATIONS = 8  # of pairs of cells, where `lines` looks for sets; their unions are all tried


class Views(NamedTuple):
    """K symmetries of a task: image k of a puzzle is `tokens[k][puzzle[cells[k]]]`.

    Image and puzzle are the same problem: an answer to the one, undone, is an answer to the other.
    """

    cells: np.ndarray  # (K, S) int64, each row a permutation
    tokens: np.ndarray  # (K, vocab) uint8 (int32 where vocab > 256), each row a permutation

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


def swapped(vocab: int, swaps: Sequence[tuple[int, int]]) -> np.ndarray:
    """(1, vocab): the names of tokens where the two of each pair are called as the other."""
    names = same_names(1, vocab)
    for one, other in swaps:
        names[0, [one, other]] = other, one
    return names


def all_products(some: Views) -> Views:
    """Every symmetry that follows from these, once each, the identity first. Raises ValueError above MOST_PRODUCTS."""
    size = some.cells.shape[1]
    start = np.arange(size), same_names(1, some.tokens.shape[1])[0].astype(some.tokens.dtype)
    found = {(start[0].tobytes(), start[1].tobytes()): start}
    new = [start]
    while new:
        made = [(cells[c], t[tokens]) for cells, tokens in new for c, t in zip(some.cells, some.tokens, strict=True)]
        new = []
        for cells, tokens in made:
            key = cells.tobytes(), tokens.tobytes()
            if key not in found:
                found[key] = cells, tokens
                new.append((cells, tokens))
        if len(found) > MOST_PRODUCTS:
            raise ValueError(f"more than {MOST_PRODUCTS} symmetries follow")
    cells, names = zip(*found.values(), strict=True)
    return Views(np.stack(cells), np.stack(names))


def turns(count: int, shape: tuple[int, int], vocab: int, rng: np.random.Generator) -> Views:
    """`count` random turns and mirrors of a grid, tokens by their own names."""
    table = dihedral(*shape)
    return Views(table[rng.integers(len(table), size=count)], same_names(count, vocab))


def same_names(count: int, vocab: int) -> np.ndarray:
    """(count, vocab), the dtype of tokens: every token is called what it was."""
    return np.tile(np.arange(vocab, dtype=np.uint8 if vocab <= 256 else np.int32), (count, 1))


# -- what follows from symmetries -------------------------------------------------------------------------------------


def orbits(moves: np.ndarray) -> np.ndarray:
    """int64 (N,): the smallest of what each of N things may be moved to, by the permutations (K, N) again and again."""
    least = np.arange(moves.shape[1])
    while True:
        before = least
        for move in moves:
            least = np.minimum(least, least[move])
            back = least.copy()
            np.minimum.at(back, move, least)
            least = back
        if (least == before).all():
            return least


def relations(cells: np.ndarray) -> np.ndarray:
    """int64 (S, S), symmetric: equal numbers where the moves (K, S) take one pair of cells to the other."""
    size = cells.shape[1]
    pairs = (cells[:, :, None] * size + cells[:, None, :]).reshape(len(cells), -1)
    turned = np.arange(size * size).reshape(size, size).T.reshape(1, -1)
    return orbits(np.concatenate((pairs, turned))).reshape(size, size)


def lines(cells: np.ndarray, count: int) -> list[tuple[int, ...]]:
    """The sets of `count` cells that symmetries (K, S) single out: rows, columns and boxes, where they permute these.

    Where every cell may come to any place, cells are joined whose pairs are alike, in one relation or several; if any
    two joined cells then lie in one largest set of mutually joined ones, and in no other, these sets are lines. No rule
    of the puzzle is known here: with its nine digits for `count`, Sudoku's symmetries alone give its 27 units.
    """
    return list(_lines(cells.astype(np.int64).tobytes(), cells.shape[1], count))


@lru_cache(maxsize=64)
def _lines(moves: bytes, size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """`lines` of the moves (K, S) int64 in these bytes: a second for 9x9, and asked again by every model of a task."""
    cells = np.frombuffer(moves, np.int64).reshape(-1, size)
    if orbits(cells).any():
        return ()
    alike = relations(cells)
    kinds_of_pair = np.setdiff1d(np.unique(alike), np.unique(alike.diagonal()))
    if len(kinds_of_pair) > MOST_RELATIONS:
        return ()
    found: set[frozenset[int]] = set()
    for some in range(1, len(kinds_of_pair)):
        for chosen in combinations(kinds_of_pair, some):
            found.update(line for line in _space(np.isin(alike, chosen)) if len(line) == count)
    return tuple(sorted(tuple(sorted(line)) for line in found))


def _space(joined: np.ndarray) -> list[frozenset[int]]:
    """The largest cliques of a graph (S, S), if every two of its joined nodes lie in exactly one; else none."""
    import networkx  # here, as it takes a tenth of a second that few commands need

    size = len(joined)
    cliques = list(islice(networkx.find_cliques(networkx.from_numpy_array(joined)), 4 * size))
    pairs = sum(len(clique) * (len(clique) - 1) for clique in cliques)
    return [frozenset(clique) for clique in cliques] if pairs == joined.sum() and len(cliques) < 4 * size else []


def kinds(sets: Sequence[Sequence[int]], cells: np.ndarray) -> list[int]:
    """For each set of cells, the number of its kind, from 0: two are of a kind if the moves (K, S) take one to another.

    A set that is moved to something which is none of these is of a kind of its own.
    """
    index = {frozenset(s): i for i, s in enumerate(sets)}
    moves = [[index.get(frozenset(move[list(s)].tolist()), i) for i, s in enumerate(sets)] for move in cells]
    return np.unique(orbits(np.array(moves)), return_inverse=True)[1].tolist()
