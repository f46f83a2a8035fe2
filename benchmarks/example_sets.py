"""The puzzle files that come along: small sets to train and test on, and Sudokus that no technique solves.

    python benchmarks/example_sets.py

examples/sudoku4.csv                    240 generated 4x4 puzzles
examples/sudoku4_test.csv               100 others, none a twin of them (turned, mirrored or renamed)
examples/sudoku6_test.csv               100 generated 6x6 puzzles, none a twin of what the recipe sudoku6 learns from
innerloop/pretrained/sudoku9_hard.csv   100 of 22 to 24 givens, which no technique of rules/sudoku_techniques.py solves
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from innerloop import recipes, tasks
from innerloop.data.formats import write_csv
from innerloop.data.leakage import leakage
from innerloop.pretrained import HARD_SUDOKUS
from innerloop.rules.sudoku_techniques import LEVELS, level
from innerloop.runs.fit import load_data

SEED = 20_000_003  # no recipe trains or tests on it


def hard(count: int) -> Any:
    """So many 9x9 puzzles of few givens that are solved by no technique without a guess."""
    task = tasks.get("sudoku", size=9, givens=(22, 24))
    found: list[int] = []
    made = None
    while len(found) < count:
        made = task.make(60 if made is None else 2 * len(made), SEED)
        grids = (made.inputs.astype(int) - 1).tolist()
        found = [i for i, grid in enumerate(grids) if level(grid, task.board) == LEVELS[-1]]
    assert made is not None
    return made.take(np.array(found[:count]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    examples = Path("examples")
    small = tasks.get("sudoku", size=4, givens=(4, 8))
    train, test = small.make(240, SEED), small.make(400, SEED + 1)
    test = test.take(np.setdiff1d(np.arange(len(test)), leakage(train, test, small).rows)[:100])
    write_csv(examples / "sudoku4.csv", train, small)
    write_csv(examples / "sudoku4_test.csv", test, small)
    learned = load_data(recipes.get("sudoku6").data)[1]
    middle = tasks.get("sudoku", **recipes.get("sudoku6").data.options)
    test = middle.make(110, SEED)
    test = test.take(np.setdiff1d(np.arange(len(test)), leakage(learned, test, middle).rows)[:100])
    write_csv(examples / "sudoku6_test.csv", test, middle)
    write_csv(HARD_SUDOKUS, hard(100), tasks.get("sudoku", size=9))


if __name__ == "__main__":
    main()
