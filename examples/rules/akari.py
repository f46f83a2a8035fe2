"""Akari (Light Up): a lamp lights its row and column up to the next wall. All open cells are lit, no lamp by another.

"." is an open cell, "#" a wall, a digit a wall with so many lamps beside it. In the answer "*" is a lamp, "-" none.
"""

from itertools import pairwise
from math import isqrt


def beside(size: int, cell: int) -> list[int]:
    row, column = divmod(cell, size)
    around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    return [r * size + c for r, c in around if 0 <= r < size and 0 <= c < size]


def runs(question: str) -> list[list[int]]:
    """The open cells between two walls, of all rows and columns."""
    size = isqrt(len(question))
    rows = [[r * size + c for c in range(size)] for r in range(size)]
    found = []
    for line in [*rows, *map(list, zip(*rows, strict=True))]:
        walls = [-1, *(i for i, cell in enumerate(line) if question[cell] != "."), size]
        found += [line[first + 1 : last] for first, last in pairwise(walls) if last > first + 1]
    return found


def rule(question: str, answer: str) -> bool:
    size, lit = isqrt(len(question)), set()
    for run in runs(question):
        lamps = sum(answer[cell] == "*" for cell in run)
        if lamps > 1:
            return False
        lit.update(run if lamps else ())
    counts = all(
        sum(answer[near] == "*" for near in beside(size, cell)) == int(clue)
        for cell, clue in enumerate(question)
        if clue.isdigit()
    )
    return counts and all(cell in lit for cell, symbol in enumerate(question) if symbol == ".")


def constrain(model, has, question: str) -> None:
    size, sees = isqrt(len(question)), {cell: set() for cell, symbol in enumerate(question) if symbol == "."}
    for run in runs(question):
        model.add_at_most_one([has(cell, "*") for cell in run])
        for cell in run:
            sees[cell].update(run)
    for seen in sees.values():
        model.add_bool_or([has(cell, "*") for cell in sorted(seen)])
    for cell, clue in enumerate(question):
        if clue.isdigit():
            model.add(sum(has(near, "*") for near in beside(size, cell) if near in sees) == int(clue))
