"""Skyscrapers: every height once in each row and column; a clue counts the buildings that are seen from its side.

The clues stand around the board; "0" where there is none, and in the corners. "." is an open cell.
"""

from itertools import accumulate
from math import isqrt


def lines(side: int) -> list[list[int]]:
    """Rows and columns, with the clues at both ends."""
    rows = [[r * side + c for c in range(side)] for r in range(side)]
    return [*rows[1:-1], *map(list, list(zip(*rows, strict=True))[1:-1])]


def views(question: str) -> list[tuple[int, list[int]]]:
    """(clue, cells in the order in which they are seen) of every clue."""
    ways = [way for line in lines(isqrt(len(question))) for way in (line, line[::-1])]
    return [(int(question[clue]), seen[:-1]) for clue, *seen in ways if question[clue] != "0"]


def rule(question: str, answer: str) -> bool:
    side = isqrt(len(question))
    heights = set("123456789"[: side - 2])
    if any({answer[cell] for cell in line[1:-1]} != heights for line in lines(side)):
        return False
    return all(len(set(accumulate((answer[cell] for cell in seen), max))) == clue for clue, seen in views(question))


def constrain(model, has, question: str) -> None:
    side = isqrt(len(question))
    heights = "123456789"[: side - 2]
    for line in lines(side):
        for height in heights:
            model.add_exactly_one([has(cell, height) for cell in line[1:-1]])
    for clue, seen in views(question):
        visible = [model.new_bool_var("") for _ in seen]
        model.add(sum(visible) == clue)
        for i, cell in enumerate(seen):
            for height in heights:
                taller = [has(before, other) for before in seen[:i] for other in heights if other > height]
                model.add_bool_or([~has(cell, height), visible[i], *taller])
                for literal in taller:
                    model.add_bool_or([~has(cell, height), ~visible[i], ~literal])
