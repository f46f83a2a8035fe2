"""A roster as a grid of tokens: what every cell may hold, from plain numbers to tokens and back.

The grid is drawn in tasks.roster. A token of a person's day says two things, what may be done to it and the shift.
"""

from __future__ import annotations

import numpy as np

from innerloop.errors import InputError
from innerloop.rules.roster_disrupt import MOST
from innerloop.rules.roster_rules import Sheet

__all__ = ["ASKED", "FIXED", "FREE", "RosterCode"]

FREE, FIXED, ASKED = 0, 1, 2  # rows of `Code.token`; ASKED + the shift that is asked for
DIGITS = ("⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉", "⓪①②③④⑤⑥⑦⑧⑨", "⓿❶❷❸❹❺❻❼❽❾")  # people needed, by kind of shift
NUMBERS = "0123456789" + "".join(map(chr, range(0x410, 0x41C)))  # days: as they are, from 10 on Cyrillic
DAYS = "".join(map(chr, range(0x24D0, 0x24E5)))  # small letters in circles
GREEK = "".join(map(chr, range(0x3B1, 0x3CA)))


class RosterCode:
    """The tokens of rosters of `staff` people on `days` days in these `shifts`, as tables there and back.

    token: uint8 (2 + K + 1, K + 1), [what may be done, shift]; absent: a token; need: uint8 (K, MOST + 1);
    able: (2^K,), [bits of the kinds somebody may work], and none at 0; number: (days + 1,); day: (days,).
    """

    def __init__(self, staff: int, days: int, shifts: str):
        self.staff, self.days, self.kinds = staff, days, len(shifts)
        self.shape = (1 + staff + self.kinds, 2 + days)
        self.people, self.cover = slice(1, 1 + staff), slice(1 + staff, None)  # rows; above them the days
        v = self.kinds + 1
        self.token = 1 + np.arange((ASKED + v) * v, dtype=np.uint8).reshape(-1, v)
        self.absent = self.token.size + 1
        self.need = self.absent + 1 + np.arange(self.kinds * (MOST + 1), dtype=np.uint8).reshape(self.kinds, -1)
        self.able = int(self.need[-1, -1]) + np.arange(1 << self.kinds)
        self.number = int(self.able[-1]) + 1 + np.arange(days + 1)
        self.day = int(self.number[-1]) + 1 + np.arange(days)
        braille = "".join(chr(0x2800 + bits) for bits in range(1, 1 << self.kinds))  # its dots are the bits
        needed = "".join(DIGITS[: self.kinds])
        self.charset = f".{shifts}-{shifts.lower()}{GREEK[: v * v]}+{needed}{braille}{NUMBERS[: days + 1]}{DAYS[:days]}"
        self.vocab = len(self.charset) + 1
        self._back()
        self._roles()

    def _back(self) -> None:
        """From tokens to what they mean."""
        # What a cell may come to hold: all tokens of one class. Tokens that stay have a class of their own.
        self.kin = np.arange(256, dtype=np.uint8)
        self.kin[0] = 255  # padding is no answer to any cell
        self.shift, self.wish = np.zeros(256, np.int8), np.full(256, -1, np.int8)
        for mark, row in enumerate(self.token):
            self.shift[row] = np.arange(self.kinds + 1)
            if mark != FIXED:
                self.kin[row] = row[0]
            if mark >= ASKED:
                self.wish[row] = mark - ASKED
        self.count, self.bits = np.zeros(256, np.int8), np.zeros((256, self.kinds), bool)
        self.count[self.need] = np.arange(MOST + 1)
        self.count[self.number] = np.arange(self.days + 1)
        for bits in range(1, 1 << self.kinds):
            self.bits[self.able[bits]] = [bits >> k & 1 for k in range(self.kinds)]

    def _roles(self) -> None:
        """bool (S, 256): what each cell of a question may hold."""
        role = np.zeros((*self.shape, 256), bool)
        role[0, 0, self.token[FIXED, 0]] = True
        role[0, 1, self.number[1:]] = True
        role[0, np.arange(self.days) + 2, self.day] = True
        role[self.people, 2:, 1 : self.absent + 1] = True
        role[self.people, 0, self.able[1:]] = True
        role[self.people, 1, self.number] = True
        for k, row in enumerate(role[self.cover]):
            row[0, self.token[FIXED, k + 1]] = True
            row[1, self.token[FIXED, 0]] = True
            row[2:, self.need[k]] = True
        self.role = role.reshape(-1, 256)
        self._at = 256 * np.arange(len(self.role))

    # --- what tokens allow --------------------------------------------------------------------------------------------
    def placed(self, questions: np.ndarray) -> np.ndarray:
        """bool (..., S): the cell holds what such a cell of a question may hold."""
        found: np.ndarray = self.role.reshape(-1).take(questions + self._at)
        return found

    def follows(self, questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """bool (..., S): information is unchanged, and so is what may be done to a cell."""
        found: np.ndarray = self.kin[questions] == self.kin[answers]
        return found

    def domain(self, question: np.ndarray) -> np.ndarray:
        """bool (S, vocab): the tokens each cell of an answer may hold; of shifts those the person may work."""
        tokens = np.arange(self.vocab, dtype=np.uint8)
        may: np.ndarray = self.kin[question][:, None] == self.kin[tokens]
        able = np.pad(self.bits[question.reshape(self.shape)[:, 0]], ((0, 0), (1, 0)), constant_values=True)
        allowed = able[np.arange(len(question)) // self.shape[1]][:, self.shift[tokens]]
        stays = tokens == question[:, None]
        return may & (allowed | stays & (may.sum(1) == 1)[:, None])  # type: ignore[no-any-return]

    # --- there and back -----------------------------------------------------------------------------------------------
    def write(self, sheet: Sheet) -> np.ndarray:
        """uint8 (S,) tokens of one roster. Raises InputError where it has other sizes or contradicts itself."""
        n, d, k = self.staff, self.days, self.kinds
        s = Sheet(*(np.asarray(field) for field in sheet))
        check_sheet(s, n, d, k)
        mark = np.where(s.wish >= 0, ASKED + s.wish, np.where(s.fixed, FIXED, FREE))
        grid = np.full(self.shape, self.token[FIXED, 0], np.uint8)
        grid[0, 1:] = np.r_[self.number[min(int(s.stretch), d)], self.day]
        grid[self.people, 2:] = np.where(s.absent, self.absent, self.token[mark, s.shift])
        grid[self.people, 0] = self.able[(s.able << np.arange(k)).sum(1)]
        grid[self.people, 1] = self.number[np.minimum(s.limit, d)]
        grid[self.cover, 0] = self.token[FIXED, 1:]
        grid[self.cover, 2:] = self.need[np.arange(k), s.need].T
        return grid.reshape(-1)

    def read(self, inputs: np.ndarray, answers: np.ndarray) -> Sheet:
        """(B, S) twice -> a sheet of B rosters: what the questions say, with the shifts of the answers."""
        grid = inputs.reshape(-1, *self.shape)
        old = grid[:, self.people, 2:]
        return Sheet(
            shift=self.shift[answers.reshape(grid.shape)[:, self.people, 2:]],
            need=self.count[grid[:, self.cover, 2:]].transpose(0, 2, 1),
            able=self.bits[grid[:, self.people, 0]],
            limit=self.count[grid[:, self.people, 1]],
            stretch=self.count[grid[:, 0, 1]],
            absent=old == self.absent,
            fixed=(old >= self.token[FIXED, 0]) & (old <= self.token[FIXED, -1]),
            wish=self.wish[old],
        )

    # --- symmetry -----------------------------------------------------------------------------------------------------
    def backwards(self) -> tuple[np.ndarray, np.ndarray]:
        """Cells (S,) and tokens (vocab,) of a roster read backwards, with the kinds of shift in reverse order."""
        k, turn = self.kinds, np.r_[0, np.arange(self.kinds, 0, -1)]
        cells = np.arange(len(self.role)).reshape(self.shape).copy()
        cells[self.people, 2:] = cells[self.people, :1:-1].copy()
        for column in (slice(0, 1), slice(2, None)):
            cells[self.cover, column] = cells[self.cover, column][::-1].copy()
        cells[self.cover, 2:] = cells[self.cover, :1:-1].copy()
        tokens, bits = np.arange(self.vocab, dtype=np.uint8), np.arange(1, 1 << k)
        tokens[self.token] = self.token[np.r_[FREE, FIXED, ASKED + turn]][:, turn]
        tokens[self.need] = self.need[::-1]
        turned = np.sum([(bits >> j & 1) << (k - 1 - j) for j in range(k)], 0)
        tokens[self.able[1:]] = self.able[turned]
        return cells.reshape(-1), tokens


def check_sheet(s: Sheet, n: int, d: int, k: int) -> None:
    """Raise InputError where a sheet is not one of n people, d days and k kinds of shift."""
    sizes = {"shift": (n, d), "need": (d, k), "able": (n, k), "limit": (n,), "stretch": ()}
    for name, field in zip(Sheet._fields, s, strict=True):
        size = sizes.get(name, (n, d))
        if field.shape != size:
            raise InputError(f"{name} has shape {field.shape}, but rosters of this task have {size}; give it so.")
    ranges = {"shift": (0, k), "need": (0, MOST), "limit": (0, 255), "stretch": (1, 255), "wish": (-1, k)}
    for name, (low, high) in ranges.items():
        field = getattr(s, name)
        if field.dtype.kind not in "iu" or field.min() < low or field.max() > high:
            raise InputError(f"{name} must be whole numbers from {low} to {high}; correct the others.")
    for name in ("able", "absent", "fixed"):
        if getattr(s, name).dtype != bool:
            raise InputError(f"{name} must be true or false, not {getattr(s, name).dtype}; compare it with something.")
    if not s.able.any(1).all():
        raise InputError(f"person {int(np.argmin(s.able.any(1))) + 1} may work no shift; name one, or leave them out.")
    double = ((s.wish >= 0) & (s.fixed | s.absent)) | (s.fixed & s.absent)
    if double.any():
        i, j = (np.argwhere(double)[0] + 1).tolist()
        raise InputError(f"person {i}, day {j}: the cell is two of fixed, absent and asked for; choose one of them.")
