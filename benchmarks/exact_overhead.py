"""What the exact solver costs beside a CP-SAT model written by hand, on the same puzzles, in one process.

    python benchmarks/exact_overhead.py --out results/exact_overhead.json

Two families: futoshiki 5x5 (examples/futoshiki.py, puzzles generated here) and Sudoku 9x9. By hand means the dozen
lines that the documentation of OR-tools teaches: an integer variable a cell, all different in every line, and the
solver's defaults, on one worker and on as many as it takes by itself. Every puzzle is solved by all of them in turn,
`--rounds` times; the best time of a puzzle counts. p50 and p99 are over puzzles.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from innerloop import files, plugins, tasks
from innerloop.runs.certificate import birth_certificate
from innerloop.solve.exact import exact, solutions
from innerloop.solve.rules import with_rules
from innerloop.tasks.grid import Grid

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "futoshiki.py"
SIZE = 5


def futoshiki(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(question, answer) of futoshiki with one solution, of few signs and fewer numbers."""
    rng, task = random.Random(seed), tasks.get(plugins.use(EXAMPLE), size=SIZE)
    side, found = 2 * SIZE - 1, 0
    while found < count:
        names, rows, columns = (rng.sample(range(SIZE), SIZE) for _ in range(3))
        board = [["-"] * side for _ in range(side)]
        for r in range(SIZE):
            for c in range(SIZE):
                board[2 * r][2 * c] = str(names[(rows[r] + columns[c]) % SIZE] + 1)
        for r in range(side):
            for c in range(side):
                if r % 2 != c % 2 and rng.random() < 0.3:
                    first, second = (board[r][c - 1], board[r][c + 1]) if c % 2 else (board[r - 1][c], board[r + 1][c])
                    board[r][c] = ("<" if first < second else ">") if c % 2 else ("^" if first < second else "v")
        answer = "".join(map("".join, board))
        cells = [r * side + c for r in range(0, side, 2) for c in range(0, side, 2)]
        given = set(rng.sample(cells, rng.randint(2, 6)))
        question = "".join("." if i in cells and i not in given else s for i, s in enumerate(answer))
        if len(solutions(task, task.encode(question), 2).answers) == 1:
            found += 1
            yield question, answer


def constrain(model: Any, has: Any, question: str) -> None:
    """The rules of futoshiki for a grid that was read from a file, as `--rules` takes them."""
    side, numbers = 2 * SIZE - 1, "123456789"[:SIZE]
    cells = np.arange(side * side).reshape(side, side)[::2, ::2].tolist()
    for line in [*cells, *zip(*cells, strict=True)]:
        for number in numbers:
            model.add_exactly_one([has(cell, number) for cell in line])
    for cell, sign in enumerate(question):
        if sign in "<>^v":
            step = 1 if sign in "<>" else side
            small, large = (cell - step, cell + step) if sign in "<^" else (cell + step, cell - step)
            for number in numbers:
                model.add_bool_or([~has(small, number), *(has(large, other) for other in numbers if other > number)])


def futoshiki_by_hand(question: str) -> tuple[Any, list[Any]]:
    """(model, its variables) of one futoshiki."""
    model, side = cp_model.CpModel(), 2 * SIZE - 1
    x = {}
    for r in range(0, side, 2):
        for c in range(0, side, 2):
            symbol = question[r * side + c]
            x[r, c] = model.new_int_var(1, SIZE, "") if symbol == "." else model.new_constant(int(symbol))
    for i in range(0, side, 2):
        model.add_all_different([x[i, j] for j in range(0, side, 2)])
        model.add_all_different([x[j, i] for j in range(0, side, 2)])
    for i, symbol in enumerate(question):
        r, c = divmod(i, side)
        if symbol in "<>":
            model.add(x[r, c - 1] < x[r, c + 1] if symbol == "<" else x[r, c - 1] > x[r, c + 1])
        elif symbol in "^v":
            model.add(x[r - 1, c] < x[r + 1, c] if symbol == "^" else x[r - 1, c] > x[r + 1, c])
    return model, list(x.values())


def sudoku_by_hand(question: str) -> tuple[Any, list[Any]]:
    """(model, its variables) of one Sudoku of 9x9."""
    model = cp_model.CpModel()
    x = [model.new_int_var(1, 9, "") if s == "." else model.new_constant(int(s)) for s in question]
    for i in range(9):
        model.add_all_different(x[9 * i : 9 * i + 9])
        model.add_all_different(x[i::9])
        corner = 27 * (i // 3) + 3 * (i % 3)
        model.add_all_different([x[corner + 9 * r + c] for r in range(3) for c in range(3)])
    return model, x


def by_hand(build: Callable[[str], tuple[Any, list[Any]]], workers: int) -> Callable[[str], list[int]]:
    """A function that solves a question by a model written by hand; workers=0: as many as the solver takes."""

    def solve(question: str) -> list[int]:
        model, x = build(question)
        solver = cp_model.CpSolver()
        if workers:
            solver.parameters.num_workers = workers
        solver.solve(model)
        return [solver.value(v) for v in x]

    return solve


def measure(family: str, task: Any, texts: list[tuple[str, str]], build: Any, rounds: int) -> list[dict[str, Any]]:
    """A row for every way on one family: milliseconds, and the median over that of the best way by hand."""
    tokens = {question: task.encode(question) for question, _ in texts}
    ways: dict[str, Callable[[str], Any]] = {
        "innerloop": lambda question: exact(task, tokens[question]),
        "by hand, one worker": by_hand(build, 1),
        "by hand, defaults": by_hand(build, 0),
    }
    best = {name: np.full(len(texts), np.inf) for name in ways}
    for round_ in range(rounds + 1):  # the first one warms up
        for i, (question, answer) in enumerate(texts):
            for name, solve in ways.items():
                began = time.perf_counter()
                found = solve(question)
                seconds = time.perf_counter() - began
                if round_:
                    best[name][i] = min(best[name][i], seconds)
                if name == "innerloop":
                    assert task.decode(found.answer) == answer
                else:
                    assert "".join(map(str, found)) == "".join(s for s in answer if s.isdigit())
    p50, p99 = ({name: 1000 * float(np.percentile(t, p)) for name, t in best.items()} for p in (50, 99))
    hand = min(v for name, v in p50.items() if name != "innerloop")
    rows = [
        {"family": family, "way": name, "puzzles": len(texts), "p50_ms": v, "p99_ms": p99[name], "ratio_p50": v / hand}
        for name, v in p50.items()
    ]
    return [{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="puzzles of each family")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="")
    parser.add_argument("--write", default="", help="write futoshiki of this seed as a CSV, and measure nothing")
    args = parser.parse_args()
    if args.write:
        rows = futoshiki(args.count, args.seed)
        files.write_text(args.write, "question,answer\n" + "".join(f"{q},{a}\n" for q, a in rows))
        return
    sudoku = tasks.get("sudoku", givens=(24, 34))
    made = sudoku.make(args.count, args.seed)
    texts = [(sudoku.decode(q), sudoku.decode(a)) for q, a in zip(made.inputs, made.labels, strict=True)]
    own, puzzles = tasks.get(plugins.use(EXAMPLE), size=SIZE), list(futoshiki(args.count, args.seed))
    grid = with_rules(Grid.infer(*map(list, zip(*puzzles, strict=True))), constrain=constrain)
    rows = measure("futoshiki 5x5", own, puzzles, futoshiki_by_hand, args.rounds)
    rows += measure("futoshiki 5x5, a grid with rules on texts", grid, puzzles, futoshiki_by_hand, args.rounds)
    rows += measure("Sudoku 9x9", sudoku, texts, sudoku_by_hand, args.rounds)
    for row in rows:
        print("{family}: {way}: p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms, {ratio_p50:.2f}x".format(**row))
    if args.out:
        files.write_json(args.out, {"rows": rows, "born": birth_certificate([args.seed])})


if __name__ == "__main__":
    main()
