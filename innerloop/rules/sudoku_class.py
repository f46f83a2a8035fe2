"""Canonical keys of Sudokus up to symmetry, and an exact equivalence test.

Symmetries: renaming digits, permuting bands, stacks, the rows of a band, the columns of a stack, and transposing
(square boxes only). The key refines colours on the graph of givens, lines, bands, boxes and digits; every step adds up
hashes, so no order can matter and **no symmetric pair is ever missed**. Two different puzzles may share a key only if
refinement cannot tell them apart (full or highly regular grids, never seen among real puzzles); `equivalent` then
decides by search.
"""

from __future__ import annotations

from itertools import permutations, product
from math import factorial

import numpy as np
from numpy.typing import NDArray

from innerloop.noise import scramble

__all__ = ["canonical_keys", "equivalent"]

REFINEMENT_ROUNDS = 6
GOLDEN = np.int64(-0x61C8864680B583EB)  # 2^64 divided by the golden ratio: a step of SplitMix64
MOST_LAYOUTS = 20_000  # row or column layouts one exact check may enumerate


def _mix(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fixed 64-bit scrambling (SplitMix64, Steele et al. 2014): equal in, equal out, on any machine."""
    return scramble(x + GOLDEN)


def _colours(digits: np.ndarray, box: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64 colours of rows (B, n), columns (B, n) and cells (B, n, n); digits int (B, n, n), 0 = empty."""
    batch, n, _ = digits.shape
    br, bc = box
    given = digits > 0
    # A column is coloured like a row where a transpose is a symmetry, and told apart from it where it is not.
    row = np.zeros((batch, n), np.int64)
    column = row + (0 if br == bc else 1)
    name = np.zeros((batch, n + 1), np.int64)
    block = np.zeros((batch, n // br, n // bc), np.int64)
    slot = (np.arange(batch)[:, None, None] * (n + 1) + digits).reshape(-1)
    for _ in range(REFINEMENT_ROUNDS):
        row_x, column_x = _mix(row)[:, :, None], _mix(column)[:, None, :]
        block_x = np.repeat(np.repeat(_mix(block), br, 1), bc, 2)
        name_x = _mix(name).reshape(-1)[slot].reshape(digits.shape)
        cell = np.where(given, _mix(row_x + column_x + _mix(block_x + 7) + _mix(name_x + 3)), 0)
        spread = _mix(cell + 11) * given
        row, column = _mix(row + spread.sum(2)), _mix(column + spread.sum(1))
        band = np.repeat(_mix(row).reshape(batch, -1, br).sum(2), br, 1)
        stack = np.repeat(_mix(column).reshape(batch, -1, bc).sum(2), bc, 1)
        row, column = _mix(row + _mix(band)), _mix(column + _mix(stack))
        block = _mix(block + spread.reshape(batch, n // br, br, n // bc, bc).sum((2, 4)))
        totals = np.zeros(batch * (n + 1), np.int64)
        np.add.at(totals, slot, spread.reshape(-1))
        name = _mix(name + totals.reshape(batch, n + 1))
    return row, column, cell


def canonical_keys(digits: np.ndarray, box: tuple[int, int]) -> list[bytes]:
    """A 16-byte key for each grid int (B, n, n), 0 = empty: equal for all symmetric variants. About 30 us a 9x9
    grid.
    """
    out: list[bytes] = []
    with np.errstate(over="ignore"):
        for start in range(0, len(digits), 1024):
            row, column, cell = _colours(digits[start : start + 1024].astype(np.int64), box)
            lines = _mix(row).sum(1) + _mix(column).sum(1)
            both = np.stack([lines, _mix(cell + 5).sum((1, 2))], 1)
            out += [k.tobytes() for k in both]
    return out


def equivalent(a: np.ndarray, b: np.ndarray, box: tuple[int, int]) -> bool:
    """Exactly: is grid b (n, n) a symmetric variant of grid a? Layouts are pruned by line colours.

    Where a grid is so regular that more than MOST_LAYOUTS row or column layouts remain, the answer is True: for
    detecting leakage the safe side is to report. A real puzzle takes 3 ms, a pair of full 9x9 grids up to half a
    minute.
    """
    if (a > 0).sum() != (b > 0).sum():
        return False
    with np.errstate(over="ignore"):
        row, column, _ = _colours(np.stack([a, b]).astype(np.int64), box)
    if _matches(a, b, (row[0], column[0], row[1], column[1]), box):
        return True
    # Square boxes colour rows and columns alike, so a transposed grid only swaps them.
    return box[0] == box[1] and _matches(a, b.T, (row[0], column[0], column[1], row[1]), box)


def _matches(a: np.ndarray, b: np.ndarray, colours: tuple[np.ndarray, ...], box: tuple[int, int]) -> bool:
    row_a, column_a, row_b, column_b = colours
    if (np.sort(row_a) != np.sort(row_b)).any() or (np.sort(column_a) != np.sort(column_b)).any():
        return False
    rows, columns = _layouts(row_a, row_b, box[0]), _layouts(column_a, column_b, box[1])
    if rows is None or columns is None:
        return True
    if len(rows) == 0 or len(columns) == 0:
        return False
    target = _renamed(a.reshape(1, -1))
    for layout in rows:
        turned = b[layout][:, columns].transpose(1, 0, 2).reshape(len(columns), -1)
        if (_renamed(turned) == target).all(1).any():
            return True
    return False


def _layouts(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray | None:
    """All line orders of b (bands of `size` lines) whose colours read like a, int (K, n); None = too many to list."""
    n = len(a)
    bands = n // size
    choices: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for i, k in product(range(bands), repeat=2):
        lines, want = range(k * size, (k + 1) * size), a[i * size : (i + 1) * size]
        choices[i, k] = [p for p in permutations(lines) if all(b[x] == w for x, w in zip(p, want, strict=True))]
    found: list[tuple[int, ...]] = []
    if factorial(bands) * factorial(size) > MOST_LAYOUTS:
        return None
    for order in permutations(range(bands)):
        parts = [choices[i, k] for i, k in enumerate(order)]
        if len(found) + int(np.prod([len(p) for p in parts], dtype=np.float64)) > MOST_LAYOUTS:
            return None
        found += [sum(p, ()) for p in product(*parts)]
    return np.array(found, np.int64).reshape(-1, n)


def _renamed(grids: np.ndarray) -> np.ndarray:
    """Each given replaced by the cell in which its digit first appears (K, S): equal iff equal up to digit names."""
    cells = np.arange(grids.shape[1])
    out = np.full(grids.shape, -1, np.int64)
    for d in range(1, int(grids.max(initial=0)) + 1):
        here = grids == d
        out[here] = np.broadcast_to(np.where(here, cells, len(cells)).min(1)[:, None], grids.shape)[here]
    return out
