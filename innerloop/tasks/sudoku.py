"""Sudoku of any box size: a digit may stand once in each row, column and box. Every generated puzzle has one solution.

Tokens: 0 padding, 1 blank, d+1 for digit d (9x9: vocabulary 11, the layout of the HRM and TRM folders). Digits above 9
are written A, B, C...; a blank is '.' or '0'. Generated ratings are the guesses of this file's own singles-and-search
solver (0 = singles are enough); ratings read from files keep their source's meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from innerloop.data.notation import BOXES
from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.rules.bounds import SearchBound
from innerloop.rules.sudoku_class import canonical_keys, equivalent
from innerloop.rules.sudoku_search import Board, board, carve, count, fill, solve
from innerloop.rules.symmetry import Views
from innerloop.tasks.task import Task, item_rng

__all__ = ["Sudoku"]

GIVENS = {4: (5, 8), 6: (12, 18), 8: (24, 32), 9: (35, 45), 10: (42, 54), 12: (65, 85), 16: (125, 155)}
FEWEST = {4: 4, 6: 8, 9: 17}  # proved minima of unique puzzles; below them no search can succeed
TRIES = 200
CHUNK = 1024  # boards whose units are gathered at once


class Sudoku(Task):
    """Sudoku of `size` x `size` cells.

    box: (rows, columns) of a box, default 2x2, 2x3, 3x3, 3x4 or 4x4 by size. givens: (fewest, most) of generated
    puzzles. Raises InputError for a size without such boxes or a range of givens no puzzle can have.
    """

    name = "sudoku"
    blank = 1
    takes_guesses = True
    rating_counts = "guesses that a plain search makes"
    aliases = {"0": "."}  # noqa: RUF012

    def __init__(self, size: int = 9, box: tuple[int, int] | None = None, givens: tuple[int, int] | None = None):
        if box is None and size not in BOXES:
            raise InputError(
                f"Sudoku of size {size} has no usual box; choose a size of {sorted(BOXES)} or give box=(rows, columns)."
            )
        self.box: tuple[int, int] = (int(box[0]), int(box[1])) if box else BOXES[size]
        if min(self.box) < 1 or self.box[0] * self.box[1] != size or not 2 <= size <= 35:
            raise InputError(
                f"a box of {self.box[0]}x{self.box[1]} does not hold {size} digits; give rows * columns = size."
            )
        low, high = givens or GIVENS.get(size, (size * size // 2, size * size * 3 // 5))
        if not FEWEST.get(size, 1) <= low <= high <= size * size:
            raise InputError(
                f"givens=({low}, {high}) cannot be met at size {size}; "
                f"give {FEWEST.get(size, 1)} <= fewest <= most <= {size * size}."
            )
        self.size, self.givens = size, (int(low), int(high))
        self.board: Board = board(*self.box)
        self.shape = (size, size)
        self.charset = "." + "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:size]
        self.vocab = size + 2
        self.units = np.array(self.board.units, np.int64)
        self.symbols = (tuple(range(2, self.vocab)),)
        self.options = {"size": size, "box": list(self.box), "givens": list(self.givens)}

    def sample(self, seed: int, i: int) -> Example:
        rng = item_rng(seed, i)
        for _ in range(TRIES):
            solution = fill(self.board, *self.box, rng)
            puzzle = carve(solution, self.board, *self.givens, rng)
            if puzzle is not None:
                guesses = solve(puzzle, self.board)[1]
                return Example(np.array(puzzle, np.uint8) + 1, np.array(solution, np.uint8) + 1, float(guesses))
        raise InputError(
            f"no {self._size()} Sudoku with {self.givens[0]} to {self.givens[1]} givens was found in {TRIES} tries; "
            "allow more givens."
        )

    def solutions(self, question: np.ndarray, limit: int = 2, bound: SearchBound | None = None) -> int:
        """Exact number of solutions of one question (S,), counted up to `limit`. Raises Undecided at the `bound`."""
        return count(self._digits(question[None])[0].reshape(-1).tolist(), self.board, limit, bound)

    def solve(self, question: np.ndarray, bound: SearchBound | None = None) -> np.ndarray | None:
        """The first solution of one question (S,) as tokens (S,), or None where there is none. Raises Undecided."""
        found, _ = solve(self._digits(question[None])[0].reshape(-1).tolist(), self.board, 1, bound)
        return np.array(found[0], np.uint8) + 1 if found else None

    def domain(self, question: np.ndarray) -> np.ndarray:
        """A given keeps its digit, and a digit given in a unit stands nowhere else in it."""
        digit = np.arange(self.vocab) == np.where(question > 1, question, 0)[:, None]
        digit[:, 0] = False
        assert self.units is not None
        in_row, in_column, in_box = digit[self.units].sum(1).reshape(3, self.size, self.vocab)
        b = self.board
        seen = in_row[list(b.row)] + in_column[list(b.column)] + in_box[list(b.box)]  # a given sees itself three times
        allowed: np.ndarray = (digit | ~digit.any(1, keepdims=True)) & (seen == 3 * digit)
        allowed[:, :2] = False
        return allowed

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """Every digit stands once in each unit; of the open cells, where it is not given there."""
        held = question.tolist()
        for unit in self.board.units:
            given, cells = {held[cell] for cell in unit}, [cell for cell in unit if held[cell] < 2]
            for token in range(2, self.vocab):
                if token not in given:
                    model.add_exactly_one([has(cell, token) for cell in cells])

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        assert self.units is not None
        digit = (answers >= 2) & (answers < self.vocab)
        bits = np.where(digit, np.int64(1) << np.where(digit, answers, 0).astype(np.int64), 0)
        full = sum(1 << t for t in range(2, self.vocab))
        complete = np.ones(len(answers), bool)
        for start in range(0, len(answers), CHUNK):
            part = bits[start : start + CHUNK, self.units]
            complete[start : start + CHUNK] = (np.bitwise_or.reduce(part, axis=2) == full).all(1)
        return complete & self.kept(inputs, answers)

    def views(self, count: int, rng: np.random.Generator) -> Views:
        """Digits renamed, bands, stacks, rows and columns permuted, and transposed half the time where boxes are
        square.
        """
        n = self.size
        names = np.zeros((count, self.vocab), np.uint8)
        names[:, 1] = 1
        names[:, 2:] = rng.random((count, n)).argsort(1) + 2
        rows, columns = (self._lines(count, size, rng) for size in self.box)
        cells = rows[:, :, None] * n + columns[:, None, :]
        if self.box[0] == self.box[1]:
            cells = np.where((rng.random(count) < 0.5)[:, None, None], cells.transpose(0, 2, 1), cells)
        return Views(cells.reshape(count, -1), names)

    def _lines(self, batch: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """A random order of lines (batch, n) that keeps the bands of `size` lines together."""
        bands = rng.random((batch, self.size // size)).argsort(1)
        inside = rng.random((batch, self.size // size, size)).argsort(2)
        return (bands[:, :, None] * size + inside).reshape(batch, self.size)

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """See sudoku_class: equal for every symmetric variant, so nothing is missed; `same` settles equal keys
        exactly.
        """
        return canonical_keys(self._digits(inputs), self.box)

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        first, second = self._digits(np.stack([a, b]))
        return equivalent(first, second, self.box)

    def _digits(self, tokens: np.ndarray) -> np.ndarray:
        """int64 (B, n, n) digits, 0 = blank."""
        self.check(tokens, "questions")
        return np.maximum(tokens.astype(np.int64) - 1, 0).reshape(-1, self.size, self.size)

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Without a label: changed givens, and every cell whose digit stands twice in a unit."""
        if label is not None:
            return super().wrong_cells(question, answer, label)
        assert self.units is not None
        wrong = (question > 1) & (answer != question)
        for unit in self.units:
            digits = answer[unit]
            repeated = (digits[:, None] == digits[None]).sum(1) > 1
            wrong[unit] |= repeated & (digits > 1)
        return wrong

    def boxes(self) -> tuple[int, int]:
        return self.box
