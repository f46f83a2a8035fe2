"""Futoshiki: every number once in each row and column, and the signs between cells hold.

A board is written with its signs on cells of their own: "<" and ">" stand between two cells of a row, "^" and "v"
between two of a column, with their points to the smaller one; "-" is no sign, "." an open cell.
"""

from math import isqrt


def lines(side: int) -> list[list[int]]:
    rows = [[r * side + c for c in range(0, side, 2)] for r in range(0, side, 2)]
    return [*rows, *map(list, zip(*rows, strict=True))]


def signs(question: str) -> list[tuple[int, int]]:
    """(the smaller cell, the larger cell) of every sign."""
    found = []
    for cell, sign in enumerate(question):
        if sign in "<>^v":
            step = 1 if sign in "<>" else isqrt(len(question))
            found.append((cell - step, cell + step) if sign in "<^" else (cell + step, cell - step))
    return found


def rule(question: str, answer: str) -> bool:
    side = isqrt(len(question))
    numbers = set("123456789"[: side // 2 + 1])
    whole = all({answer[cell] for cell in line} == numbers for line in lines(side))
    return whole and all(answer[small] < answer[large] for small, large in signs(question))


def constrain(model, has, question: str) -> None:
    side = isqrt(len(question))
    numbers = "123456789"[: side // 2 + 1]
    for line in lines(side):
        for number in numbers:
            model.add_exactly_one([has(cell, number) for cell in line])
    for small, large in signs(question):
        for number in numbers:
            model.add_bool_or([~has(small, number), *(has(large, other) for other in numbers if other > number)])
