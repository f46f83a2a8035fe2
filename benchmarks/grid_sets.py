"""Write the pencil puzzles `sgt_*` of a data folder as CSV files for the recipe grid (docs/add_a_task.md).

    python benchmarks/grid_sets.py DATA OUT

No rule is told: a file says what a cell holds in question and answer, and nothing else. By name:

akari7        "." open, "#" a wall, digits on walls; the answer has "*" for a lamp and "-" for none
binairo8      "a" and "b"
futoshiki5    numbers, and signs on cells of their own between them: 9x9
mosaic8       counts of filled cells around; the answer has "#" and "-", so that nothing is given
nonogram10    the lengths of runs in five rows above and below and five columns before and behind the board: 20x20. They
              stand on both sides, next to the board, so that a mirrored puzzle is one of the same form
skyscrapers5  clues in a frame: 7x7
sudoku4, sudoku6
tents8        trees, and counts of tents in a row above and a column before the board: 9x9
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Pair = tuple[Any, Any]  # question and answer, a symbol a cell, rows and columns


def square(symbols: Any, n: int) -> Any:
    return np.array(list(symbols), dtype="<U1").reshape(n, n)


def marked(row: dict[str, Any], one: str = "#", zero: str = "-") -> Any:
    """The answer of a puzzle that marks cells."""
    return square([one if v else zero for v in row["answer"]], row["n"])


def akari(row: dict[str, Any]) -> Pair:
    asked = square(row["grid"], row["n"])
    return asked, np.where(asked == ".", marked(row, "*"), asked)


def binairo(row: dict[str, Any]) -> Pair:
    letters = str.maketrans("01", "ab")
    return square(row["givens"].translate(letters), row["n"]), marked(row, "b", "a")


def numbers(row: dict[str, Any]) -> Pair:
    return tuple(square(["." if v == 0 else str(v) for v in row[k]], row["n"]) for k in ("givens", "answer"))  # type: ignore[return-value]


def futoshiki(row: dict[str, Any]) -> Pair:
    n, boards = row["n"], []
    for board in numbers(row):
        wide = np.full((2 * n - 1, 2 * n - 1), "-")
        wide[::2, ::2] = board
        for large, small in row["greater"]:  # numbers of cells; the sign opens to the larger one
            (r, c), (s, d) = divmod(large, n), divmod(small, n)
            wide[r + s, c + d] = ("<" if c > d else ">") if r == s else ("^" if r > s else "v")
        boards.append(wide)
    return boards[0], boards[1]


def framed(inner: Any, top: Any, left: Any, bottom: Any = None, right: Any = None) -> Any:
    """Clues (deep, n) above and (n, deep) before the board, and behind it where there are any; "0" elsewhere."""
    n, deep = len(inner), len(top)
    after = 0 if bottom is None else len(bottom)
    out = np.full((deep + n + after, deep + n + after), "0")
    board = slice(deep, deep + n)
    out[board, board], out[:deep, board], out[board, :deep] = inner, top, left
    if bottom is not None:
        out[deep + n :, board], out[board, deep + n :] = bottom, right
    return out


def skyscrapers(row: dict[str, Any]) -> Pair:
    text = {side: np.array([str(v) for v in row[side]]) for side in ("top", "left", "bottom", "right")}
    clues = text["top"][None], text["left"][:, None], text["bottom"][None], text["right"][:, None]
    asked, answer = numbers(row)
    return framed(asked, *clues), framed(answer, *clues)


def nonogram(row: dict[str, Any], deep: int = 5) -> Pair:
    digits = "0123456789ABCDEF"
    texts = {name: ["".join(digits[v] for v in line) for line in row[name]] for name in ("rows", "cols")}
    before, behind = (
        {name: np.array([list(side(text)) for text in lines]) for name, lines in texts.items()}
        for side in (lambda text: text.rjust(deep, "0"), lambda text: text.ljust(deep, "0"))
    )
    clues = before["cols"].T, before["rows"], behind["cols"].T, behind["rows"]
    answer = marked(row)
    return framed(np.full_like(answer, "."), *clues), framed(answer, *clues)


def tents(row: dict[str, Any]) -> Pair:
    clues = np.array([str(v) for v in row["cols"]])[None], np.array([str(v) for v in row["rows"]])[:, None]
    asked = square(row["trees"], row["n"])
    return framed(asked, *clues), framed(np.where(asked == "T", asked, marked(row, "^")), *clues)


def mosaic(row: dict[str, Any]) -> Pair:
    return square(row["clues"], row["n"]), marked(row)


SETS: dict[str, Callable[[dict[str, Any]], Pair]] = {
    "akari7": akari, "binairo8": binairo, "futoshiki5": futoshiki, "mosaic8": mosaic, "nonogram10": nonogram,
    "skyscrapers5": skyscrapers, "sudoku4": numbers, "sudoku6": numbers, "tents8": tents,
}  # fmt: skip


def convert(source: Path, target: Path, pair: Callable[[dict[str, Any]], Pair]) -> None:
    """One JSON Lines file as a CSV file with the columns id, question and answer."""
    with gzip.open(source, "rt") as lines, target.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "question", "answer"])
        for row in map(json.loads, lines):
            question, answer = pair(row)
            out.writerow([row["id"], "".join(question.ravel()), "".join(answer.ravel())])


def main(data: str, out: str) -> None:
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, pair in SETS.items():
        for part in ("train", "test"):
            convert(Path(data) / f"sgt_{name}_{part}.jsonl.gz", Path(out) / f"{name}_{part}.csv", pair)


if __name__ == "__main__":
    main(*sys.argv[1:])
