"""Nonograms: the lengths of the runs of filled cells of each row and column, in their order.

The lengths stand before their row and above their column, flush with the board; "0" where there are fewer. They may
stand behind and below it as well, so that a mirrored puzzle has the same form. Lengths from 10 on are letters. On the
board "." is an open cell, "#" a filled one, "-" an empty one.
"""

from itertools import groupby
from math import isqrt

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lines(question: str) -> list[tuple[list[int], list[int]]]:
    """(lengths of the runs, cells) of every row and column."""
    side = isqrt(len(question))
    rows = [[r * side + c for c in range(side)] for r in range(side)]
    board = [i for i, row in enumerate(rows) if any(question[cell] in ".#-" for cell in row)]
    first, end = board[0], board[-1] + 1
    found = []
    for line in [*rows[first:end], *map(list, list(zip(*rows, strict=True))[first:end])]:
        lengths = [DIGITS.index(question[cell]) for cell in line[:first] if question[cell] != "0"]
        found.append((lengths, line[first:end]))
    return found


def rule(question: str, answer: str) -> bool:
    for lengths, line in lines(question):
        runs = groupby(answer[cell] == "#" for cell in line)
        if [len(list(run)) for filled, run in runs if filled] != lengths:
            return False
    return True


def constrain(model, has, question: str) -> None:
    for lengths, line in lines(question):
        covers, after = [[] for _ in line], None
        for length in lengths:
            starts = [model.new_bool_var("") for _ in range(len(line) - length + 1)]
            model.add_exactly_one(starts)
            for first, start in enumerate(starts):
                for cover in covers[first : first + length]:
                    cover.append(start)
            place = sum(first * start for first, start in enumerate(starts))
            if after is not None:
                model.add(place > after)
            after = place + length
        for cell, cover in zip(line, covers, strict=True):
            model.add(sum(cover) == has(cell, "#"))
