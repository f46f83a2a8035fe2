"""ARC grids as fixed tokens: up to 30x30 colours with an end border, moved about in training, cropped out of an answer.

Tokens: 0 padding, 1 end of grid, c+2 for colour c (vocabulary 12, 900 cells, the layout of the HRM and TRM folders). A
grid of h x w sits at some corner with a row of 1 below it and a column of 1 to its right, where they fit on the board.
Padding of a label is not scored. `valid` is a check of form only (a bordered rectangle of colours): nobody knows the
rules.
"""

from __future__ import annotations

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.tasks.task import Task, item_rng

__all__ = ["ARC", "crop", "dihedral_image", "frame", "undo_dihedral", "undo_variant", "variant_name"]

SIDE, END, FIRST = 30, 1, 2  # board side, end token, token of colour 0
PALETTE = ["#101114", "#1e78d2", "#e0483e", "#3fae4c", "#f2d33a", "#9a9fa8", "#d23fb0", "#f08a2c", "#74c8ee", "#8a2440"]
SEPARATOR = "|||"


class ARC(Task):
    """Input grid -> output grid; what to do is told by the puzzle identifier.

    Real puzzles come from files (`open_set("arc.json")`). `sample` draws from six rules of its own, on grids of `low`
    to `high` cells a side, with the rule as puzzle identifier 1..6: enough to test a model, not a benchmark.
    """

    name = "arc"
    charset = "|0123456789"
    vocab = 12
    shape = (SIDE, SIDE)
    verifies = False
    void = " "
    identifiers = ("<blank>", "flip left-right", "flip up-down", "transpose", "half turn", "rename colours", "frame")

    def __init__(self, low: int = 3, high: int = 8):
        if not 1 <= low <= high <= SIDE - 2:
            raise InputError(f"grids of {low} to {high} cells a side do not fit; give 1 <= low <= high <= {SIDE - 2}.")
        self.low, self.high = low, high
        self.options = {"low": low, "high": high}

    def sample(self, seed: int, i: int) -> Example:
        rng = item_rng(seed, i)
        grid = rng.integers(0, 10, rng.integers(self.low, self.high + 1, 2)) * (rng.random() < 0.5)
        for _ in range(3):
            r, c = (int(rng.integers(k)) for k in grid.shape)
            grid[r : r + int(rng.integers(1, 5)), c : c + int(rng.integers(1, 5))] = rng.integers(1, 10)
        rule = int(rng.integers(1, 7))
        answer = {
            1: grid[:, ::-1],
            2: grid[::-1],
            3: grid.T,
            4: grid[::-1, ::-1],
            5: np.where(grid > 0, 10 - grid, 0),
            6: np.pad(grid, 1, constant_values=5),
        }[rule]
        return Example(frame(grid), frame(answer), float("nan"), rule)

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        rows, columns, _, _ = _extent(inputs)
        ok = np.zeros(len(answers), bool)
        for i, answer in enumerate(answers):
            grid = crop(answer, (int(rows[i]), int(columns[i])))
            framed = frame(grid, (int(rows[i]), int(columns[i]))) if grid.size else np.zeros(SIDE * SIDE, np.uint8)
            ok[i] = grid.size > 0 and bool(((answer == framed) | (framed == 0)).all())
        return ok

    def augment(
        self, inputs: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Input and output moved together to a random place of the board; the puzzle identifier stays true.

        Turns and colours make *new* puzzles with identifiers of their own: see `innerloop.data.arc_files.augmented`.
        """
        extents = [_extent(tokens) for tokens in (inputs, labels)]
        r0, c0 = (np.minimum(extents[0][k], extents[1][k]) for k in (0, 1))
        room_r, room_c = (SIDE - (np.maximum(extents[0][k], extents[1][k]) - o) for k, o in ((2, r0), (3, c0)))
        move_r = (rng.random(len(inputs)) * (room_r + 1)).astype(np.int64) - r0
        move_c = (rng.random(len(inputs)) * (room_c + 1)).astype(np.int64) - c0
        moved_in, moved_out = (_moved(t, e, move_r, move_c) for t, e in zip((inputs, labels), extents, strict=True))
        return moved_in, moved_out

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Exact over place, the eight turns and mirrors, and colours renamed (colour 0 fixed) of the input grid."""
        rows, columns, _, _ = _extent(inputs)
        return [_key(crop(t, (int(r), int(c)))) for t, r, c in zip(inputs, rows, columns, strict=True)]

    def glyph(self, token: int) -> str:
        return ""

    def colour(self, token: int) -> str:
        return PALETTE[token - FIRST] if token >= FIRST else ""


def frame(grid: np.ndarray, at: tuple[int, int] = (0, 0)) -> np.ndarray:
    """A grid of colours 0..9 (h, w) as tokens uint8 (900,), its corner at (row, column) `at`."""
    (h, w), (r, c) = grid.shape, at
    if not (min(h, w) >= 1 and r + h <= SIDE and c + w <= SIDE):
        raise InputError(
            f"a grid of {h}x{w} at {at} does not fit on the {SIDE}x{SIDE} board; ARC grids are 1x1 to 30x30."
        )
    board = np.zeros((SIDE, SIDE), np.uint8)
    board[r : r + h, c : c + w] = np.asarray(grid) + FIRST
    board[r + h : r + h + 1, c : c + w] = END
    board[r : r + h, c + w : c + w + 1] = END
    return board.reshape(-1)


def crop(tokens: np.ndarray, at: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The colours uint8 (h, w) of the largest rectangle at corner `at` that holds only colours; (0, 0) where there is
    none.

    The official evaluation reads answers at (0, 0), since test inputs are never moved.
    """
    board = np.asarray(tokens).reshape(SIDE, SIDE)[at[0] :, at[1] :]
    solid = (board >= FIRST) & (board < FIRST + 10)
    runs = np.minimum.accumulate(np.cumprod(solid, axis=1).sum(1))  # widest rectangle that reaches down to each row
    if runs[0] == 0:
        return np.zeros((0, 0), np.uint8)
    h = int(np.argmax(runs * np.arange(1, len(runs) + 1))) + 1
    return (board[:h, : runs[h - 1]] - FIRST).astype(np.uint8)


def dihedral_image(grid: np.ndarray, k: int) -> np.ndarray:
    """Image k of a grid in the numbering of the official folders: 0 itself, 1..3 quarter turns against the clock,
    4 left-right, 5 up-down, 6 transposed, 7 transposed over the other diagonal.
    """
    if k < 4:
        return np.rot90(grid, k)
    return (grid[:, ::-1], grid[::-1], grid.T, grid[::-1, ::-1].T)[k - 4]


def undo_dihedral(grid: np.ndarray, k: int) -> np.ndarray:
    """The inverse of `turned`."""
    return dihedral_image(grid, (0, 3, 2, 1, 4, 5, 6, 7)[k])


def variant_name(name: str, k: int, colours: np.ndarray) -> str:
    """The official name of an augmented puzzle: id, turn and colour permutation."""
    return f"{name}{SEPARATOR}t{k}{SEPARATOR}{''.join(str(int(c)) for c in colours)}"


def undo_variant(name: str, grid: np.ndarray) -> tuple[str, np.ndarray]:
    """(original id, grid turned and coloured back) of an answer to a puzzle named by `variant`; plain names pass
    through.
    """
    parts = name.split(SEPARATOR)
    if len(parts) == 1:
        return name, np.asarray(grid)
    if len(parts) != 3 or not parts[1][1:].isdigit() or sorted(parts[2]) != list("0123456789"):
        raise InputError(f"{name!r} is no name of an ARC puzzle; write id, or id|||t0..7|||permutation of 0123456789.")
    back = np.argsort([int(c) for c in parts[2]]).astype(np.uint8)
    return parts[0], back[undo_dihedral(np.asarray(grid), int(parts[1][1:]))]


def _extent(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First row, first column, one past the last row and column of the colours, int64 (B,) each; zeros where none."""
    solid: np.ndarray = np.asarray(tokens.reshape(-1, SIDE, SIDE) >= FIRST)
    rows: np.ndarray = np.any(solid, axis=2)
    columns: np.ndarray = np.any(solid, axis=1)
    some: np.ndarray = np.any(rows, axis=1)
    return (
        rows.argmax(1),
        columns.argmax(1),
        np.where(some, SIDE - rows[:, ::-1].argmax(1), 0),
        np.where(some, SIDE - columns[:, ::-1].argmax(1), 0),
    )


def _moved(tokens: np.ndarray, extent: tuple[np.ndarray, ...], move_r: np.ndarray, move_c: np.ndarray) -> np.ndarray:
    """Each grid moved, and its border drawn afresh: a border that lay off the board may now fit on it."""
    r = np.arange(SIDE)[None, :] - move_r[:, None]
    c = np.arange(SIDE)[None, :] - move_c[:, None]
    r0, c0, r1, c1 = (e[:, None] for e in extent)
    in_r, in_c = (r >= r0) & (r < r1), (c >= c0) & (c < c1)
    board = tokens.reshape(-1, SIDE, SIDE)
    at = np.arange(len(board))[:, None, None]
    out = board[at, np.clip(r, 0, SIDE - 1)[:, :, None], np.clip(c, 0, SIDE - 1)[:, None, :]]
    out = np.where(in_r[:, :, None] & in_c[:, None, :], out, 0)
    border = ((r == r1)[:, :, None] & in_c[:, None, :]) | (in_r[:, :, None] & (c == c1)[:, None, :])
    return np.where(border, END, out).astype(np.uint8).reshape(len(board), -1)


def _key(grid: np.ndarray) -> bytes:
    best = b""
    for k in range(8 if grid.size else 0):
        image = np.ascontiguousarray(dihedral_image(grid, k))
        values, first = np.unique(image, return_index=True)
        order = [int(v) for v in values[np.argsort(first)] if v]
        names = np.zeros(10, np.uint8)
        names[order] = np.arange(1, len(order) + 1)
        key = bytes(image.shape) + names[image].tobytes()
        best = key if not best or key < best else best
    return best
