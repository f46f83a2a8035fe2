"""One question or answer of a file as a text of symbols, and the shape it states.

"53..7...."                 9 cells of no stated shape
"53.\n.7.\n..1"             3 rows of 3: line breaks are rows
[0, 11, "2"]                3 cells; a number up to 35 is one symbol, 10 is A
[[0, 1], [1, 0]]            2 rows of 2
["53.", ".7."]              2 rows of 3: texts of equal length are rows of symbols
["10", "2"]                 2 cells: numbers as texts

Where the alphabet of a file is given as words of several characters, each word is one symbol inside:

"10 2 --"                   3 words, parted by spaces, commas, semicolons or bars; line breaks are rows
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from innerloop.errors import InputError
from innerloop.text import printable

__all__ = ["CELL_SYMBOLS", "Shape", "parted", "read_cells", "read_lines", "read_words", "word_symbols"]

CELL_SYMBOLS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Shape = tuple[int, int] | None
LINE_BREAK = re.compile(r"\r\n|\r|\n")
BETWEEN_WORDS = re.compile(r"[\s,;|]+")
MORE_SYMBOLS = 0x100  # code point from which words get a symbol that no one-character word has


def read_cells(value: Any, where: str, cells: int = 0) -> tuple[str, Shape]:
    """(symbols, (rows, columns) or None where the value states none) of a JSON value.

    cells: how many a row of this file has, where that is known; it decides what texts of two digits are. Raises
    InputError, which begins with `where`, for rows of different lengths and for a cell that is not one symbol.
    """
    if isinstance(value, str):
        return read_lines(value, where)
    if not isinstance(value, list):
        return symbol(value, where), None
    if any(isinstance(v, list) for v in value):
        rows = [row if isinstance(row, list) else [row] for row in value]
        if len({len(row) for row in rows}) > 1 or not rows[0]:
            raise InputError(f"{where}: the rows of a board have different lengths; give all the same.")
        return "".join(symbol(v, where) for row in rows for v in row), (len(rows), len(rows[0]))
    if value and all(isinstance(v, str) and len(v) > 1 for v in value) and len(set(map(len, value))) == 1:
        return read_rows(value, where, cells)
    return "".join(symbol(v, where) for v in value), None


def read_lines(text: str, where: str) -> tuple[str, Shape]:
    """(symbols, shape) of a text in which line breaks, where there are any, end the rows of a board."""
    if "\n" not in text and "\r" not in text:
        return text, None
    rows = [row for row in LINE_BREAK.split(text) if row]
    if not rows:
        return "", None
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"{where}: the lines of a board have different lengths; give all the same.")
    return "".join(rows), (len(rows), len(rows[0])) if len(rows) > 1 else None


def read_rows(value: list[str], where: str, cells: int) -> tuple[str, Shape]:
    """A list of texts of one length above 1: rows of symbols, or cells that hold numbers of two digits."""
    count, length = len(value), len(value[0])
    if all(parse_number(v) is not None for v in value) and cells != count * length:
        if cells == count:
            return "".join(symbol(v, where) for v in value), None
        raise InputError(
            f"{where}: a list such as {printable(repr(value), 30)} may be rows of digits or numbers; give numbers as "
            "numbers, and a board as a list of rows of single symbols."
        )
    return "".join(value), (count, length) if count > 1 else None


def parse_number(text: str) -> int | None:
    """The number 0..35 that a text writes, or None."""
    plain = len(text) <= 2 and text.isascii() and text.isdecimal() and (len(text) == 1 or text[0] != "0")
    return int(text) if plain and int(text) < len(CELL_SYMBOLS) else None


def symbol(value: Any, where: str) -> str:
    """One cell: a single symbol as it stands, or a whole number 0..35, also as a text."""
    if isinstance(value, str):
        if len(value) == 1:
            return value
        known = parse_number(value)
    else:
        known = value if isinstance(value, int) and not isinstance(value, bool) else None
    if known is None or not 0 <= known < len(CELL_SYMBOLS):
        raise InputError(
            f"{where}: a cell holds {printable(repr(value), 40)}; cells are single symbols or whole numbers 0..35."
        )
    return CELL_SYMBOLS[known]


# -- cells of several characters --------------------------------------------------------------------------------------


def word_symbols(words: Sequence[str]) -> str:
    """One symbol a word: the word itself where it is one character, A for 10 as in lists of numbers, else a new one."""
    taken = {word for word in words if len(word) == 1}
    symbols = []
    for word in words:
        found = CELL_SYMBOLS[number] if (number := parse_number(word)) is not None else ""
        if len(word) == 1:
            found = word
        elif not found or found in taken:
            found = next(free for free in _symbols() if free not in taken)
        taken.add(found)
        symbols.append(found)
    return "".join(symbols)


def _symbols() -> Iterator[str]:
    yield from CELL_SYMBOLS + CELL_SYMBOLS[10:].lower()
    code = MORE_SYMBOLS
    while True:
        if chr(code).isalpha():
            yield chr(code)
        code += 1


def parted(text: str) -> list[str]:
    """The words of a text."""
    return [word for word in BETWEEN_WORDS.split(text) if word]


def read_words(value: Any, symbols: dict[str, str], where: str) -> tuple[str, Shape]:
    """(symbols, shape) of a text or list of words, or of a text of their symbols. symbols: of every word.

    Raises InputError, which begins with `where`, for a word that is not in the alphabet.
    """
    if isinstance(value, str):
        if value and value not in symbols and set(symbols.values()).issuperset(value):
            return value, None
        lines = [BETWEEN_WORDS.split(line.strip(" \t,;|")) for line in LINE_BREAK.split(value) if line.strip()]
    elif isinstance(value, list):
        lines = value if value and all(isinstance(v, list) for v in value) else [value]
    else:
        lines = [[value]]
    if len({len(line) for line in lines}) > 1:
        raise InputError(f"{where}: the rows of a board have different lengths; give all the same.")
    words = [str(word) for line in lines for word in line]
    if unknown := next((word for word in words if word not in symbols), None):
        raise InputError(
            f"{where}: a cell holds {printable(repr(unknown), 40)}, which is not in the alphabet "
            f"{printable(','.join(symbols), 80)}; correct the row or the alphabet."
        )
    return "".join(symbols[word] for word in words), (len(lines), len(lines[0])) if len(lines) > 1 else None
