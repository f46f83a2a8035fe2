"""Exact search for Sudokus of any box size: solve, count solutions, rate, and build puzzles with one solution.

A grid is a list of S = n*n ints, 0 = empty, otherwise 1..n. Digit d is bit d-1 of a mask. The search fills every naked
and hidden single, then guesses in the cell with the fewest candidates; the number of guesses is the difficulty rating.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from innerloop.rules.bounds import SearchBound

__all__ = ["Board", "board", "carve", "count", "fill", "solve"]


class Board(NamedTuple):
    """The geometry of one size: n symbols, and for each cell its row, column and box; the 3n units as cell lists."""

    n: int
    row: tuple[int, ...]
    column: tuple[int, ...]
    box: tuple[int, ...]
    units: tuple[tuple[int, ...], ...]


@lru_cache
def board(box_rows: int, box_columns: int) -> Board:
    """The geometry of boxes of box_rows x box_columns cells (9x9 is board(3, 3), 6x6 is board(2, 3))."""
    n = box_rows * box_columns
    row = tuple(c // n for c in range(n * n))
    column = tuple(c % n for c in range(n * n))
    across = n // box_columns
    box = tuple(row[c] // box_rows * across + column[c] // box_columns for c in range(n * n))
    units = tuple(tuple(c for c in range(n * n) if kind[c] == k) for kind in (row, column, box) for k in range(n))
    return Board(n, row, column, box, units)


class _Search:
    """One depth-first search; `found` collects up to `limit` solutions, `guesses` counts the cells guessed in."""

    def __init__(
        self,
        b: Board,
        limit: int,
        rng: np.random.Generator | None,
        budget: int | None,
        bound: SearchBound | None = None,
    ):
        self.b, self.limit, self.rng, self.budget, self.bound = b, limit, rng, budget, bound or SearchBound()
        self.found: list[list[int]] = []
        self.guesses = 0

    def start(self, grid: list[int]) -> None:
        b, n = self.b, self.b.n
        used = [[0] * n, [0] * n, [0] * n]
        bits = [0] * (n * n)
        for c, d in enumerate(grid):
            if d:
                bit = 1 << (d - 1)
                if (used[0][b.row[c]] | used[1][b.column[c]] | used[2][b.box[c]]) & bit:
                    return
                bits[c] = bit
                used[0][b.row[c]] |= bit
                used[1][b.column[c]] |= bit
                used[2][b.box[c]] |= bit
        self._descend(bits, used[0], used[1], used[2], [c for c, d in enumerate(grid) if not d])

    def _descend(
        self, bits: list[int], rows: list[int], columns: list[int], boxes: list[int], empty: list[int]
    ) -> None:
        self.bound.node()
        b = self.b
        candidates = self._singles(bits, rows, columns, boxes, empty)
        if candidates is None:
            return
        if not candidates:
            self.found.append([x.bit_length() for x in bits])
            return
        if self.budget is not None and self.guesses >= self.budget:
            return
        self.guesses += 1
        cell = min(candidates, key=lambda c: candidates[c].bit_count())
        digits = [1 << k for k in range(b.n) if candidates[cell] >> k & 1]
        if self.rng is not None:
            self.rng.shuffle(digits)
        rest = [c for c in candidates if c != cell]
        r, k, x = b.row[cell], b.column[cell], b.box[cell]
        for bit in digits:
            deeper = bits[:], rows[:], columns[:], boxes[:]
            deeper[0][cell] = bit
            deeper[1][r] |= bit
            deeper[2][k] |= bit
            deeper[3][x] |= bit
            self._descend(*deeper, rest)
            if len(self.found) >= self.limit or (self.budget is not None and self.guesses >= self.budget):
                return

    def _singles(
        self, bits: list[int], rows: list[int], columns: list[int], boxes: list[int], empty: list[int]
    ) -> dict[int, int] | None:
        """Fill singles in place until none is left; candidates of the empty cells then, or None at a contradiction."""
        b = self.b
        row, column, box, full = b.row, b.column, b.box, (1 << b.n) - 1
        while True:
            candidates: dict[int, int] = {}
            moved = False
            for c in empty:
                r, k, x = row[c], column[c], box[c]
                m = full & ~(rows[r] | columns[k] | boxes[x])
                if not m & (m - 1):
                    if not m:
                        return None
                    bits[c] = m
                    rows[r] |= m
                    columns[k] |= m
                    boxes[x] |= m
                    moved = True
                else:
                    candidates[c] = m
            empty = list(candidates)
            if moved:
                continue
            hidden = self._hidden(candidates, (rows, columns, boxes), full)
            if hidden is None:
                return None
            if not hidden:
                return candidates
            for c, m in hidden.items():
                r, k, x = row[c], column[c], box[c]
                if m & (rows[r] | columns[k] | boxes[x]) or m & (m - 1):
                    return None
                bits[c] = m
                rows[r] |= m
                columns[k] |= m
                boxes[x] |= m
            empty = [c for c in empty if c not in hidden]

    def _hidden(
        self, candidates: dict[int, int], used: tuple[list[int], list[int], list[int]], full: int
    ) -> dict[int, int] | None:
        """Cells that alone can hold a digit of some unit; None where a digit has no place left."""
        n = self.b.n
        once, twice = [0] * (3 * n), [0] * (3 * n)
        row, column, box = self.b.row, self.b.column, self.b.box
        for c, m in candidates.items():
            for u in (row[c], n + column[c], 2 * n + box[c]):
                twice[u] |= once[u] & m
                once[u] |= m
        for u in range(3 * n):
            if once[u] | used[u // n][u % n] != full:
                return None
        single = [o & ~t for o, t in zip(once, twice, strict=True)]
        if not any(single):
            return {}
        hidden = {}
        for c, m in candidates.items():
            alone = m & (single[row[c]] | single[n + column[c]] | single[2 * n + box[c]])
            if alone:
                hidden[c] = alone
        return hidden


def solve(grid: list[int], b: Board, limit: int = 1, bound: SearchBound | None = None) -> tuple[list[list[int]], int]:
    """(up to `limit` solutions, number of guesses). With limit=1 the guesses are the rating; 0 = singles are enough.

    Raises Undecided where the search comes to its `bound`.
    """
    search = _Search(b, limit, None, None, bound)
    search.start(grid)
    return search.found, search.guesses


def count(grid: list[int], b: Board, limit: int = 2, bound: SearchBound | None = None) -> int:
    """Number of solutions, counted up to `limit`; 1 with limit 2 proves uniqueness. Raises Undecided at the `bound`."""
    return len(solve(grid, b, limit, bound)[0])


def fill(b: Board, box_rows: int, box_columns: int, rng: np.random.Generator) -> list[int]:
    """A random full grid. Not uniform over all grids, but not one symmetry class either."""
    n = b.n
    if n <= 9:
        # Boxes down the diagonal share no row or column: fill them freely, then search the rest in random order.
        while True:
            grid = [0] * (n * n)
            for k in range(n // max(box_rows, box_columns)):
                corner = k * box_rows * n + k * box_columns
                for i, d in enumerate(rng.permutation(n).tolist()):
                    grid[corner + i // box_columns * n + i % box_columns] = d + 1
            search = _Search(b, 1, rng, 400)
            search.start(grid)
            if search.found:
                return search.found[0]
    # A search from nothing may never end at 16x16: start from the shifted pattern, scrambled, then tear out and refill.
    grid = [(box_columns * (r % box_rows) + r // box_rows + c) % n + 1 for r in range(n) for c in range(n)]
    for _ in range(3):
        grid = _scramble(grid, b, box_rows, box_columns, rng)
        torn = np.array(grid)
        torn[rng.random(n * n) < 0.62] = 0
        search = _Search(b, 1, rng, 60)
        search.start(torn.tolist())
        grid = search.found[0] if search.found else grid
    return _scramble(grid, b, box_rows, box_columns, rng)


def _scramble(grid: list[int], b: Board, box_rows: int, box_columns: int, rng: np.random.Generator) -> list[int]:
    def lines(size: int) -> np.ndarray:
        """Permute the bands, and the lines inside each band."""
        return np.concatenate([k * size + rng.permutation(size) for k in rng.permutation(b.n // size)])

    square = np.array(grid).reshape(b.n, b.n)[lines(box_rows)][:, lines(box_columns)]
    renamed: list[int] = (rng.permutation(b.n) + 1)[square - 1].reshape(-1).tolist()
    return renamed


def carve(solution: list[int], b: Board, low: int, high: int, rng: np.random.Generator) -> list[int] | None:
    """A puzzle with low..high givens whose only solution is `solution`; None where this grid and order give none.

    Starts from a random set of givens, adds a cell in which two solutions differ until the puzzle is unique, and then
    takes away givens that uniqueness does not need if there are more than `high`.
    """
    cells = len(solution)
    order = rng.permutation(cells).tolist()
    want = int(rng.integers(low, high + 1))
    grid = [0] * cells
    for c in order[:want]:
        grid[c] = solution[c]
    given = want
    while True:
        found, _ = solve(grid, b, 2)
        other = next((s for s in found if s != solution), None)
        if other is None:
            break
        differ = [c for c in range(cells) if other[c] != solution[c]]
        c = differ[int(rng.integers(len(differ)))]
        grid[c] = solution[c]
        given += 1
    if given <= high:
        return grid
    for c in rng.permutation([c for c in range(cells) if grid[c]]).tolist():
        kept, grid[c] = grid[c], 0
        if count(grid, b) == 1:
            given -= 1
            if given <= want:
                break
        else:
            grid[c] = kept
    return grid if given <= high else None
