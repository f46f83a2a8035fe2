"""Mosaic: a number counts the filled cells among the nine around it, its own included.

The question has numbers and "."; the answer has "#" or "-" in every cell, also where a number stood.
"""

from math import isqrt


def around(size: int, cell: int) -> list[int]:
    row, column = divmod(cell, size)
    rows, columns = (range(max(0, at - 1), min(size, at + 2)) for at in (row, column))
    return [r * size + c for r in rows for c in columns]


def rule(question: str, answer: str) -> bool:
    size = isqrt(len(question))
    counts = (
        sum(answer[near] == "#" for near in around(size, cell)) == int(clue)
        for cell, clue in enumerate(question)
        if clue.isdigit()
    )
    return set(answer) <= {"#", "-"} and all(counts)


def constrain(model, has, question: str) -> None:
    size = isqrt(len(question))
    for cell, clue in enumerate(question):
        model.add_exactly_one([has(cell, "#"), has(cell, "-")])
        if clue.isdigit():
            model.add(sum(has(near, "#") for near in around(size, cell)) == int(clue))
