"""Difficulty by technique agrees with the exact search, and with puzzles whose difficulty is known."""

import csv
import itertools

import numpy as np
import pytest

from innerloop import tasks
from innerloop.rules.sudoku_search import board, solve
from innerloop.rules.sudoku_techniques import LEVELS, Candidates, level

NINE = board(3, 3)
HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."  # needs chains (A. Inkala)


def digits(text):
    return [0 if c in ".0" else int(c) for c in text]


@pytest.mark.parametrize("size", [4, 6, 9])
def test_singles_are_what_the_search_needs_no_guess_for(size):
    task = tasks.get("sudoku", size=size)
    for i in range(12):
        grid = np.maximum(task.sample(5, i).question.astype(int) - 1, 0).tolist()
        guesses = solve(grid, task.board)[1]
        assert (level(grid, task.board) == "singles") == (guesses == 0)


def test_a_hard_puzzle_is_beyond_and_a_contradiction_is_not_solved():
    assert level(digits(HARD), NINE) == "beyond"
    grid = digits("11" + "." * 79)
    assert level(grid, NINE) == "beyond"


def test_no_technique_strikes_the_digit_of_the_solution():
    grid = digits(HARD)
    answer = solve(grid, NINE)[0][0]
    c = Candidates(grid, NINE)
    for _ in range(6):
        for strike in (c.singles, c.locked, lambda: c.subsets(2), lambda: c.subsets(3)):
            strike()
            assert all(m >> (d - 1) & 1 for m, d in zip(c.masks, answer, strict=True))


@pytest.mark.parametrize(("name", "share"), [("easy", 1.0), ("medium", 0.0), ("hard", 0.0)])
def test_the_share_of_singles_of_known_sets(real_data, name, share):
    with (real_data / f"sudoku9_{name}_test.csv").open() as file:
        rows = [r["question"] for r in itertools.islice(csv.DictReader(file), 40)]
    found = [level(digits(r), NINE) for r in rows]
    assert found.count("singles") / len(found) == share and set(found) <= set(LEVELS)
