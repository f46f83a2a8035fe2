"""How a file writes its Sudokus: the symbols of the digits and of an empty cell, the boxes, or none (Latin squares).

Sudoku itself writes digits 1-9A-Z and an empty cell as '.' or '0'. Other notations are translated to that:

1-9a-g, 0-9A-F, 0-9a-f, A-P, a-p for 16x16, and likewise for other sizes; an empty cell as one of . 0 - _ * ? x X space
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from innerloop.errors import InputError

__all__ = [
    "BOXES",
    "EMPTY_SYMBOLS",
    "ROWS_INSPECTED",
    "BoxCounts",
    "Notation",
    "boxes_of",
    "count_valid",
    "notation_of",
    "notation_of_questions",
    "ranges",
]

BOXES = {4: (2, 2), 6: (2, 3), 8: (2, 4), 9: (3, 3), 10: (2, 5), 12: (3, 4), 16: (4, 4)}  # rows, columns of a box
ROWS_INSPECTED = 200  # rows that decide what a file is, so that one bad row is reported and not believed
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STANDARD = "123456789" + UPPER
DIGIT_SETS = (STANDARD, STANDARD.lower(), "0" + STANDARD, "0" + STANDARD.lower(), UPPER, UPPER.lower())
EMPTY_SYMBOLS = "-_*?xX "  # symbols of an empty cell, one a file, besides '.' and '0'
FEW_ROWS = 10  # rows below which none that keeps the rules is no sign of another puzzle


class Notation(NamedTuple):
    digits: str  # symbols of the digits 1, 2, ...
    blanks: str = ".0"  # symbols of an empty cell

    @property
    def standard(self) -> bool:
        """Does Sudoku read this without a translation?"""
        return STANDARD.startswith(self.digits) and set(self.blanks) <= {".", "0"}

    def read(self, texts: Sequence[str], where: str, what: str) -> Sequence[str]:
        """Texts of this notation in Sudoku's own. Raises InputError naming the first row of another symbol."""
        if self.standard:
            return texts
        known = set(self.digits + self.blanks)
        for row, text in enumerate(texts, 1):
            if not known.issuperset(text):
                cell = next(i for i, symbol in enumerate(text) if symbol not in known)
                raise InputError(
                    f"{where}, row {row}: the {what} has {text[cell]!r} in cell {cell + 1}; this file's digits are "
                    f"{ranges(self.digits)} and its empty cells {' or '.join(map(repr, self.blanks))}; correct the row."
                )
        table = {ord(symbol): STANDARD[i] for i, symbol in enumerate(self.digits)}
        table |= {ord(symbol): "." for symbol in self.blanks}
        return [text.translate(table) for text in texts]

    def write(self, text: str) -> str:
        """A text of Sudoku's own notation in this one."""
        if self.standard:
            return text
        table = {ord(STANDARD[i]): symbol for i, symbol in enumerate(self.digits)} | {ord("."): self.blanks[0]}
        return text.translate(table)


class BoxCounts(NamedTuple):
    """What the answers of some rows keep. box: (rows, columns) of the boxes that fit best."""

    box: tuple[int, int] | None
    kept: int  # rows, columns and boxes hold each digit once
    latin: int  # rows and columns do, boxes do not


def boxes_of(side: int, box: tuple[int, int] | None = None) -> list[tuple[int, int]]:
    """(rows, columns) of the boxes a Sudoku of this side may have: the stated one, or the usual one and it turned."""
    if box is not None:
        return [box] if min(box) > 0 and box[0] * box[1] == side else []
    usual = BOXES.get(side)
    return [] if usual is None else list(dict.fromkeys([usual, usual[::-1]]))


def digit_sets(side: int) -> dict[frozenset[str], str]:
    """The symbols of `side` digits in every notation, by the set of them."""
    found = [symbols[:side] for symbols in DIGIT_SETS if len(symbols) >= side]
    return {frozenset(symbols): symbols for symbols in reversed(found)}


def blanks_of(extra: set[str], digits: str) -> str | None:
    """The class of symbols of an empty cell that `extra` belongs to ("" where it is empty), or None."""
    usual = "".join(symbol for symbol in ".0" if symbol not in digits)
    if not extra or extra <= set(usual):
        return usual if extra else ""
    (symbol, *more) = extra
    return symbol if not more and symbol in EMPTY_SYMBOLS and symbol not in digits else None


def notation_of(questions: Sequence[str], answers: Sequence[str], side: int) -> Notation | None:
    """The notation of most of these rows, or None where most are written in none; an answer holds every digit."""
    known, votes = digit_sets(side), Counter[tuple[str, str]]()
    for question, answer in zip(questions, answers, strict=True):
        digits = known.get(frozenset(answer))
        if digits is not None:
            blanks = blanks_of(set(question) - set(digits), digits)
            if blanks is not None:
                votes[digits, blanks] += 1
    totals = {(d, b): count + (votes[d, ""] if b else 0) for (d, b), count in votes.items()}
    if not totals:
        return None
    digits, blanks = max(totals, key=lambda key: (totals[key], key[1] != ""))
    if 2 * totals[digits, blanks] <= len(questions):
        return None
    return Notation(digits, blanks or blanks_of({"."}, digits) or ".")


def notation_of_questions(questions: Sequence[str], side: int) -> Notation:
    """The notation that these symbols belong to, without answers; the standard one where several or none fit."""
    used = set().union(*questions)
    for digits in dict.fromkeys(symbols[:side] for symbols in DIGIT_SETS if len(symbols) >= side):
        blanks = blanks_of(used - set(digits), digits)
        # With '.' for empty cells, a 0 where the highest digit is never written is a digit itself: 0-F, not 1-G.
        zero = side > 9 and digits[0] == "1" and {".", "0"} <= used and digits[-1] not in used
        if blanks is not None and not zero:
            return Notation(digits, blanks or blanks_of({"."}, digits) or ".")
    return Notation(STANDARD[:side])


def count_valid(boards: np.ndarray, box: tuple[int, int] | None = None) -> BoxCounts:
    """What `boards`, int (B, n, n) of digits from 1, keep of Sudoku's rules; the first usual box that fits best."""
    side = boards.shape[-1]
    full = np.arange(1, side + 1)

    def once(lines: np.ndarray) -> np.ndarray:
        return np.asarray((np.sort(lines.reshape(len(boards), side, side), -1) == full).all((1, 2)))

    latin = once(boards) & once(boards.transpose(0, 2, 1))
    best = BoxCounts(None, 0, int(latin.sum()))
    for rows, columns in boxes_of(side, box):
        cut = boards.reshape(len(boards), side // rows, rows, side // columns, columns).transpose(0, 1, 3, 2, 4)
        kept = int((latin & once(cut)).sum())
        if best.box is None or kept > best.kept:
            best = BoxCounts((rows, columns), kept, int(latin.sum()) - kept)
    return best


def ranges(symbols: str) -> str:
    """ "0123456789ABC" -> "0-9A-C": runs of three or more symbols that follow each other."""
    parts: list[str] = []
    for symbol in symbols:
        if parts and ord(parts[-1][-1]) + 1 == ord(symbol):
            parts[-1] += symbol
        else:
            parts.append(symbol)
    return "".join(part if len(part) < 3 else f"{part[0]}-{part[-1]}" for part in parts)
