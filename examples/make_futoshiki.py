"""Make a file of futoshiki puzzles of 4x4, each with one answer: `python examples/make_futoshiki.py 600 futoshiki.csv`.

Each number from 1 to 4 stands once in every row and column, and the signs between cells hold. A board is written with
its signs, row by row, 7x7 symbols: "." is an empty cell, "<" and ">" stand between two cells of a row, "^" and "v"
between two of a column, "-" where there is no sign.
"""

from __future__ import annotations

import csv
import random
import sys
from itertools import permutations, product

SIDE = 4
ROWS = list(permutations("1234"))
# All boards of four rows in which no column repeats a number.
SQUARES = [b for b in product(ROWS, repeat=SIDE) if all(len(set(column)) == SIDE for column in zip(*b, strict=True))]
SIGN = {(0, 1): "<>", (1, 0): "^v"}  # to the right and below: the first cell is smaller, larger


def write(numbers, signs):
    """The 49 symbols of a board. numbers: 4 rows; signs: {(row, column, down, right): symbol}."""
    board = [["-"] * (2 * SIDE - 1) for _ in range(2 * SIDE - 1)]
    for r, c in product(range(SIDE), repeat=2):
        board[2 * r][2 * c] = numbers[r][c]
    for (r, c, down, right), symbol in signs.items():
        board[2 * r + down][2 * c + right] = symbol
    return "".join("".join(row) for row in board)


def fits(square, givens, signs):
    """Whether a full board keeps givens and signs."""
    if any(square[r][c] != number for (r, c), number in givens.items()):
        return False
    pairs = [(square[r][c], square[r + down][c + right], symbol) for (r, c, down, right), symbol in signs.items()]
    return all((first < second) == (symbol in "<^") for first, second, symbol in pairs)


def puzzle(rng):
    """(question, answer): signs and givens are added until one board is left."""
    answer = rng.choice(SQUARES)
    places = [(r, c, *step) for r, c in product(range(SIDE), repeat=2) for step in SIGN]
    places = [p for p in places if p[0] + p[2] < SIDE and p[1] + p[3] < SIDE]
    rng.shuffle(places)
    cells = rng.sample(list(product(range(SIDE), repeat=2)), SIDE * SIDE)
    signs, givens, left = {}, {}, SQUARES
    while len(left) > 1:
        if len(signs) < 8:
            r, c, down, right = places.pop()
            signs[r, c, down, right] = SIGN[down, right][answer[r][c] > answer[r + down][c + right]]
        else:
            r, c = cells.pop()
            givens[r, c] = answer[r][c]
        left = [square for square in left if fits(square, givens, signs)]
    asked = [[givens.get((r, c), ".") for c in range(SIDE)] for r in range(SIDE)]
    return write(asked, signs), write(answer, signs)


def main(count, path):
    rng, rows = random.Random(0), {}
    while len(rows) < count:
        question, answer = puzzle(rng)
        rows[question] = answer
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "puzzle", "solution"])
        writer.writerows((f"f{i}", *row) for i, row in enumerate(rows.items(), 1))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
