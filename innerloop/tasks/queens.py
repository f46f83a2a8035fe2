"""N-Queens completion: put one queen in every row and column, no two on a diagonal, keeping the queens already there.

A question mostly has several solutions, so `exact` against the one label under-counts: `valid` is the score that
matters. Tokens: 0 padding, 1 '.', 2 'Q'. In a question '.' is an undecided cell, in an answer an empty one. A generated
rating is the number of queens to place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.rules.bounds import SearchBound
from innerloop.rules.symmetry import Views, dihedral, turns
from innerloop.tasks.task import Task, as_units, item_rng

__all__ = ["Queens"]


class Queens(Task):
    """N-Queens on `size` x `size`; `givens` = (fewest, most) queens already placed in generated questions.

    `units` are the rows and columns, which hold exactly one queen, and the diagonals of two cells or more, at most one.
    """

    name = "queens"
    charset = ".Q"
    vocab = 3
    blank = 1
    rating_counts = "queens to place"
    takes_guesses = True

    def __init__(self, size: int = 8, givens: tuple[int, int] | None = None):
        if not 4 <= size <= 32:
            raise InputError(f"{size} queens cannot be generated; choose a size from 4 to 32.")
        low, high = givens or (1, max(1, size - 3))
        if not 0 <= low <= high <= size:
            raise InputError(f"givens=({low}, {high}) does not fit {size} queens; give 0 <= fewest <= most <= {size}.")
        self.size, self.givens, self.shape = size, (int(low), int(high)), (size, size)
        cells = np.arange(size * size).reshape(size, size)
        self._lines = np.concatenate([cells, cells.T])
        row, column = np.divmod(np.arange(size * size), size)
        self._down, self._up = row - column + size - 1, row + column
        self.units = as_units([*self._lines, *(d for d in self._diagonals() if len(d) > 1)])
        self.options = {"size": size, "givens": list(self.givens)}

    def sample(self, seed: int, i: int) -> Example:
        rng = item_rng(seed, i)
        columns = self._place(rng)
        answer = np.ones((self.size, self.size), np.uint8)
        answer[np.arange(self.size), columns] = 2
        shown = rng.permutation(self.size)[: int(rng.integers(self.givens[0], self.givens[1] + 1))]
        question = np.ones_like(answer)
        question[shown, np.array(columns)[shown]] = 2
        return Example(question.reshape(-1), answer.reshape(-1), float(self.size - len(shown)))

    def _place(self, rng: np.random.Generator) -> list[int]:
        """The column of the queen of each row: random greedy placement, begun afresh at a dead end (few tries up to
        32).
        """
        n = self.size
        while True:
            columns: list[int] = []
            used = down = up = 0
            for r in range(n):
                free = [
                    c for c in range(n) if not (used >> c & 1 or down >> (r - c + n) & 1 or up >> (r + c) & 1)
                ]  # fmt: skip
                if not free:
                    break
                c = free[int(rng.integers(len(free)))]
                columns.append(c)
                used, down, up = used | 1 << c, down | 1 << (r - c + n), up | 1 << (r + c)
            if len(columns) == n:
                return columns

    def every(self, question: np.ndarray, limit: int, bound: SearchBound | None = None) -> np.ndarray:
        """Row by row, by bit masks of the columns and diagonals that are taken."""
        self.check(question[None], "questions")
        n, found, bound = self.size, [], bound or SearchBound()
        given = [np.flatnonzero(row == 2).tolist() for row in question.reshape(self.shape)]

        def place(r: int, columns: list[int], used: int, down: int, up: int) -> None:
            bound.node()
            if r == n:
                found.append(columns)
                return
            for c in given[r] or range(n):
                a, b, d = 1 << c, 1 << (r - c + n), 1 << (r + c)
                if len(given[r]) < 2 and not (used & a or down & b or up & d) and len(found) < limit:
                    place(r + 1, [*columns, c], used | a, down | b, up | d)

        place(0, [], 0, 0, 0)
        boards = np.ones((len(found), n, n), np.uint8)
        for board, columns in zip(boards, found, strict=True):
            board[np.arange(n), columns] = 2
        return boards.reshape(len(found), n * n)

    def domain(self, question: np.ndarray) -> np.ndarray:
        """A given queen stays, the cells that it attacks are empty, any other is either."""
        queen = np.flatnonzero(question == 2)
        lines = [a == a[queen, None] for a in (*np.divmod(np.arange(len(question)), self.size), self._down, self._up)]
        attacks = np.sum(lines, 0)  # (given queens, S); a queen meets itself four times
        attacks[np.arange(len(queen)), queen] -= 4
        attacked = (attacks > 0).any(0)
        allowed = np.zeros((len(question), self.vocab), bool)
        allowed[:, 1], allowed[:, 2] = question != 2, ~attacked
        return allowed

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """One queen in each row and column, at most one in each diagonal."""
        for line in self._lines.tolist():
            model.add_exactly_one([has(cell, 2) for cell in line])
        for line in self._diagonals():
            model.add_at_most_one([has(cell, 2) for cell in line.tolist()])

    def _diagonals(self) -> list[np.ndarray]:
        """The cells of each diagonal, both ways."""
        return [np.flatnonzero(d == k) for d in (self._down, self._up) for k in range(2 * self.size - 1)]

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        queen = (answers == 2).astype(np.int64)
        lines = queen[:, self._lines].sum(2)
        ok: np.ndarray = (lines == 1).all(1) & ((answers == 1) | (answers == 2)).all(1) & self.kept(inputs, answers)
        for diagonal in (self._down, self._up):
            one_hot = diagonal[:, None] == np.arange(2 * self.size - 1)
            ok &= (queen @ one_hot <= 1).all(1)
        return ok

    def views(self, count: int, rng: np.random.Generator) -> Views:
        """One of the eight turns and mirrors of the board each."""
        return turns(count, self.shape, self.vocab, rng)

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Exact: the smallest of the eight images."""
        self.check(inputs, "questions")
        images = inputs[:, dihedral(*self.shape)]
        return [min(image.tobytes() for image in row) for row in images]

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Even with a label: given queens that vanished and queens under attack (another valid board is not wrong)."""
        queen = answer == 2
        wrong = (question == 2) & ~queen
        for line in [*self._lines, *self._diagonals()]:
            if queen[line].sum() > 1:
                wrong[line] |= queen[line]
        return wrong

    def glyph(self, token: int) -> str:
        return "♛" if token == 2 else ""
