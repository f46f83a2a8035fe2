"""What a person says about a file that its rows do not tell: shape of a board, symbol of an empty cell, alphabet.

Stated.parse("5x5", "-", "1,2,10,-")     # as the options --shape, --blank and --alphabet of the command line
Stated.of_options({"shape": [5, 5]})     # as the options of a grid in a run
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from innerloop.data.cells import Shape
from innerloop.errors import InputError
from innerloop.text import printable

__all__ = ["NO_BLANK", "STATED_OPTIONS", "UNSTATED", "Stated"]

NO_BLANK = "none"  # what --blank is where no symbol means an empty cell
STATED_OPTIONS = ("shape", "blank", "alphabet")  # of a grid
LARGEST_SIDE = 100_000
LONGEST_WORD = 32


class Stated(NamedTuple):
    """What is stated about a file; the defaults say nothing."""

    shape: Shape = None  # rows, columns
    blank: str | None = ""  # symbol or word of an empty cell; None: no cell is empty or given; "": not stated
    alphabet: tuple[str, ...] = ()  # what a cell may hold, one character or several

    @classmethod
    def parse(cls, shape: str = "", blank: str = "", alphabet: str = "") -> Stated:
        """From the texts of the command line. Raises InputError naming the option."""
        size = re.fullmatch(r"([1-9][0-9]{0,5})[xX*,]([1-9][0-9]{0,5})", shape) if shape else None
        if shape and size is None:
            raise InputError(f"--shape is {printable(shape, 40)}: give rows and columns, such as 5x5")
        sides = (int(size[1]), int(size[2])) if size else None
        words = tuple(alphabet.split(",")) if "," in alphabet else tuple(alphabet)
        words = tuple(word.strip() or word for word in words)
        made = cls(sides, None if blank == NO_BLANK else blank, words)
        made.check("--blank", "--alphabet", "--shape")
        return made

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Stated:
        """From the options of a grid. Raises InputError for values that are none."""
        shape, blank, alphabet = (options.get(name) for name in STATED_OPTIONS)
        if shape is not None and not (isinstance(shape, list | tuple) and len(shape) == 2):
            raise InputError(f"the shape of a grid is {printable(repr(shape), 40)}: give [rows, columns]")
        if not isinstance(blank, str | None) or not isinstance(alphabet, str | list | tuple | None):
            raise InputError("the blank and the alphabet of a grid are texts: give such")
        sides = tuple(shape) if shape else None
        made = cls(sides, blank if "blank" in options else "", tuple(alphabet or ()))  # type: ignore[arg-type]
        made.check("the blank", "the alphabet", "the shape")
        return made

    def options(self) -> dict[str, Any]:
        """As options of a grid: those that are stated."""
        found: dict[str, Any] = {"shape": list(self.shape)} if self.shape else {}
        found |= {"blank": self.blank} if self.blank != "" else {}
        several = any(len(word) > 1 for word in self.alphabet)
        return found | ({"alphabet": [*self.alphabet] if several else "".join(self.alphabet)} if self.alphabet else {})

    def check(self, blank: str, alphabet: str, shape: str) -> None:
        """Raise InputError for a blank or an alphabet that no file can have; the names are for messages."""
        if self.shape and not all(isinstance(n, int) and 1 <= n <= LARGEST_SIDE for n in self.shape):
            raise InputError(f"{shape} is {printable(repr(self.shape), 40)}: give rows and columns from 1 on")
        for word in self.alphabet:
            if not isinstance(word, str) or not word or len(word) > LONGEST_WORD:
                raise InputError(f"{alphabet} holds {printable(repr(word), 40)}: give 1 to {LONGEST_WORD} characters")
            if len(word) > 1 and re.search(r"[\s,;|]", word):
                raise InputError(f"{alphabet} holds {printable(repr(word), 40)}: a cell of several has no space in it")
        if len(set(self.alphabet)) != len(self.alphabet):
            raise InputError(f"{alphabet} names a cell twice: leave out the repeated one")
        if self.blank and self.alphabet and self.blank not in self.alphabet:
            raise InputError(f"{blank} is {printable(repr(self.blank), 40)}, which {alphabet} lacks: add it there")
        if self.blank and not self.alphabet and len(self.blank) > 1:
            raise InputError(
                f"{blank} is {printable(repr(self.blank), 40)}: give one character, {NO_BLANK}, or every cell by "
                f"{alphabet}"
            )

    @property
    def several(self) -> bool:
        """Whether cells have several characters."""
        return any(len(word) > 1 for word in self.alphabet)


UNSTATED = Stated()
