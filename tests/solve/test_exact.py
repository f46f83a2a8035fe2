"""The exact solver: it agrees with other exact searches, whatever it is told it stays right, and it says so if not."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.data.opening import open_set
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.solve.exact import ExactResult, exact, solutions
from innerloop.tasks import Task, get
from innerloop.tasks.colouring import read_graphs
from innerloop.tasks.grid import Grid

pytest.importorskip("ortools", reason="OR-tools is not installed: pip install 'innerloop[solve]'")

SIZES: list[tuple[str, dict[str, Any]]] = [
    ("sudoku", {"size": 4}),
    ("sudoku", {"size": 6}),
    ("sudoku", {"size": 9}),
    ("sudoku", {"size": 8, "box": (4, 2)}),
    ("queens", {"size": 5, "givens": (0, 2)}),
    ("queens", {"size": 12}),
    ("colouring", {"size": 8}),
    ("colouring", {"size": 12, "colours": 5, "givens": (0, 0)}),
    ("maze", {"size": 10}),
    ("maze", {"size": 11, "kind": "perfect"}),
    ("prefix", {}),
    ("sums", {"operators": "+-*"}),
    ("walk", {"edge": "wrap"}),
]
each = pytest.mark.parametrize(("name", "options"), SIZES, ids=[f"{n}{o.get('size', '')}" for n, o in SIZES])


def ways(task: Task, question: np.ndarray) -> int:
    """How many shortest ways a maze has, cell by cell from S."""
    n = task.shape[0]
    count = {int(np.argmax(question == 3)): 1}
    seen: set[int] = set()
    while count:
        if (goal := int(np.argmax(question == 4))) in count:
            return count[goal]
        seen |= set(count)
        after: dict[int, int] = {}
        for cell, paths in count.items():
            r, c = divmod(cell, n)
            for y, x in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                if 0 <= y < n and 0 <= x < n and question[y * n + x] != 1 and y * n + x not in seen:
                    after[y * n + x] = after.get(y * n + x, 0) + paths
        count = after
    return 0


def opened(question: np.ndarray, label: np.ndarray, task: Task, share: float, rng: np.random.Generator) -> np.ndarray:
    """The question with a share of its givens taken away."""
    given = (question == label) & (question != task.blank)
    return np.where(given & (rng.random(len(question)) < share), task.blank, question).astype(np.uint8)


# -- right answers ----------------------------------------------------------------------------------------------------


@each
def test_every_task_is_solved(name: str, options: dict[str, Any]) -> None:
    task = get(name, **options)
    s = task.make(8, seed=2)
    for question, label in zip(s.inputs, s.labels, strict=True):
        assert task.domain(question)[np.arange(len(label)), label].all(), "the domain leaves out the answer"
        found = exact(task, question)
        assert found.status == "optimal" and found.answer is not None and found.answer.dtype == np.uint8
        assert task.valid_batch(question[None], found.answer[None])[0]
        assert (found.cost, found.bound, found.restricted) == (None, None, False)
        assert 0 < found.build_seconds < found.seconds
        if name == "sudoku":
            assert np.array_equal(found.answer, label)


@pytest.mark.parametrize(
    ("name", "options", "share"),
    [
        ("sudoku", {"size": 4}, 0.5),
        ("sudoku", {"size": 6}, 0.2),
        ("queens", {"size": 6, "givens": (0, 2)}, 0),
        ("queens", {"size": 8, "givens": (0, 3)}, 0),
        ("colouring", {"size": 7, "givens": (0, 3)}, 0),
        ("maze", {"size": 9, "distance": 6}, 0),
    ],
)
def test_all_answers_are_those_of_the_tasks_own_search(name: str, options: dict[str, Any], share: float) -> None:
    task = get(name, **options)
    s, rng, several = task.make(12, seed=3), np.random.default_rng(0), 0
    for question, label in zip(s.inputs, s.labels, strict=True):
        question = opened(question, label, task, share, rng)
        found = solutions(task, question, limit=2000)
        assert found.complete and len(np.unique(found.answers, axis=0)) == len(found.answers)
        assert task.valid_batch(np.repeat(question[None], len(found.answers), 0), found.answers).all()
        allowed = task.domain(question)
        assert allowed[np.arange(len(question)), found.answers].all()
        if name == "maze":
            assert len(found.answers) == ways(task, question)
        elif name == "sudoku":
            assert len(found.answers) == task.solutions(question, 2000)
        else:
            other = task.every(question, 2000)
            assert {a.tobytes() for a in found.answers} == {a.tobytes() for a in other}
        several += len(found.answers) > 1
        if len(found.answers) > 1:
            some = solutions(task, question, limit=len(found.answers) - 1)
            assert len(some.answers) == len(found.answers) - 1 and not some.complete
    assert several, "no question had several answers: nothing was tested"


def test_domains_hold_what_is_seen_at_once() -> None:
    """Written out by hand: what a given leaves to the cells around it."""
    sudoku = get("sudoku", size=4)
    allowed = sudoku.domain(sudoku.encode("1..2" + "." * 12))
    assert [np.flatnonzero(row).tolist() for row in allowed[:5]] == [[2], [4, 5], [4, 5], [3], [3, 4, 5]]
    assert np.flatnonzero(allowed[8]).tolist() == [3, 4, 5] and np.flatnonzero(allowed[9]).tolist() == [2, 3, 4, 5]
    queens = get("queens", size=4)
    allowed = queens.domain(queens.encode("." + "Q" + "." * 14))
    assert np.flatnonzero(allowed[:, 2]).tolist() == [1, 7, 8, 10, 12, 14, 15]
    assert np.flatnonzero(~allowed[:, 1]).tolist() == [1]
    graph = get("colouring", size=3)
    allowed = graph.domain(graph.encode("1#." + "#?." + "..?"))
    assert [np.flatnonzero(allowed[cell]).tolist() for cell in (0, 4, 8)] == [[4], [5, 6], [4, 5, 6]]
    maze = get("maze", size=3, distance=2)
    allowed = maze.domain(maze.encode("S  " + " # " + "  G"))
    assert np.flatnonzero(allowed[:, 5]).tolist() == [1, 2, 3, 5, 6, 7]
    allowed = maze.domain(maze.encode("S #" + "# #" + "#oG"))
    assert np.flatnonzero(allowed[:, 5]).tolist() == [1, 4, 7] and (allowed.sum(1) == 1).all()
    blanks = Grid("ab.", (1, 3), ".")
    assert np.argwhere(blanks.domain(blanks.encode("a._"))).tolist() == [[0, 1], [1, 1], [1, 2], [2, 0]]


# -- no answer --------------------------------------------------------------------------------------------------------

NONE: list[tuple[str, dict[str, Any], str]] = [
    ("sudoku", {"size": 4}, "11" + "." * 14),  # seen at once
    ("sudoku", {"size": 4}, "12...." + "34" + "." * 8),  # the domain of no cell is empty, and yet there is none
    ("queens", {"size": 4}, "QQ" + "." * 14),
    ("queens", {"size": 4}, "Q" + "." * 15),
    ("queens", {"size": 6}, "Q" + "." * 35),
    ("colouring", {"size": 4, "colours": 3}, "?####?####?####?"),
    ("colouring", {"size": 3, "colours": 3}, "1#.#1#.#?"),
    ("maze", {"size": 3, "distance": 2}, "S#  #  #G"),
    ("maze", {"size": 3, "distance": 2}, "S  S    G"),
    ("maze", {"size": 3, "distance": 2}, "S" + " " * 8),
    ("maze", {"size": 4, "distance": 2}, "S G " + " " * 7 + "o" + " " * 4),  # a mark that is on no shortest way
    ("walk", {"size": 2, "walls": 1, "actions": 1}, "..#.>___"),
    ("sums", {}, "12+34_______"),
]


@pytest.mark.parametrize(("name", "options", "text"), NONE)
def test_a_question_without_an_answer_is_said_to_be_one(name: str, options: dict[str, Any], text: str) -> None:
    task = get(name, **options)
    size = task.shape[0] * task.shape[1]
    question = task.encode(text[:size].ljust(size, task.pad_symbol))
    found = exact(task, question)
    assert (found.answer, found.status, found.restricted) == (None, "infeasible", False)
    rng = np.random.default_rng(0)
    hint = rng.integers(0, task.vocab, size, dtype=np.uint8)
    assert exact(task, question, hint, rng.random(size) < 0.5)[:2] == (None, "infeasible")
    none = solutions(task, question)
    assert none.complete and none.answers.shape == (0, size)
    if name in ("queens", "colouring", "sudoku"):
        assert task.solutions(question, 1) == 0


def test_out_of_time_is_unknown() -> None:
    """Equal sums of many large numbers: no solver finds such halves soon, nor proves that there are none."""
    task = Grid("ab.", (1, 50), ".")
    weights = np.random.default_rng(0).integers(0, 100, (6, 50))

    def constrain(model: Any, has: Any, question: np.ndarray) -> None:
        for row in weights.tolist():
            model.add(sum(w * has(cell, 1) for cell, w in enumerate(row)) == sum(row) // 2)

    found = exact(task, np.full(50, 3, np.uint8), seconds=0.5, constrain=constrain)
    assert (found.answer, found.status) == (None, "unknown") and found.branches > 0
    assert found.seconds < 2
    assert exact(task, np.full(50, 3, np.uint8), seconds=1e-6, constrain=constrain)[:2] == (None, "unknown")


def test_what_the_first_search_leaves_open_the_second_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.solve.exact.QUICK_CONFLICTS", 1)
    task = get("queens", size=16, givens=(0, 0))
    found = exact(task, np.ones(256, np.uint8))
    assert found.answer is not None and task.valid_batch(np.ones((1, 256), np.uint8), found.answer[None])[0]
    monkeypatch.undo()
    assert found.branches != exact(task, np.ones(256, np.uint8)).branches


# -- hints and fixed cells ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@each
def test_hints_change_nothing_but_time(name: str, options: dict[str, Any]) -> None:
    task = get(name, **options)
    s, rng = task.make(6, seed=4), np.random.default_rng(1)
    for question, label in zip(s.inputs, s.labels, strict=True):
        noisy = np.where(rng.random(len(label)) < 0.2, rng.integers(0, 256, len(label)), label).astype(np.uint8)
        anything = rng.integers(0, task.vocab, len(label), dtype=np.uint8)
        for hint in (label, noisy, anything, np.full_like(label, 255)):
            for fixed in (None, rng.random(len(label)) < 0.5, np.ones(len(label), bool)):
                found = exact(task, question, hint, fixed)
                assert found.status == "optimal" and found.answer is not None
                assert task.valid_batch(question[None], found.answer[None])[0]
                assert fixed is not None or not found.restricted
                if name == "sudoku":
                    assert np.array_equal(found.answer, label)


def test_a_right_hint_is_taken_and_what_is_sure_is_held() -> None:
    task = get("queens", size=12, givens=(0, 0))
    s, rng = task.make(10, seed=0), np.random.default_rng(0)
    differs = 0
    for question, label in zip(s.inputs, s.labels, strict=True):
        alone, hinted = exact(task, question), exact(task, question, label)
        assert hinted.answer is not None and np.array_equal(hinted.answer, label) and hinted.branches <= alone.branches
        differs += not np.array_equal(alone.answer, label)  # type: ignore[arg-type]
        fixed = rng.random(len(label)) < 0.7
        held = exact(task, question, label, fixed)
        assert held.restricted and held.answer is not None and np.array_equal(held.answer[fixed], label[fixed])
    assert differs > 5, "the solver alone finds these boards as well: nothing was tested"


def test_sure_cells_that_are_wrong_are_freed() -> None:
    task = get("queens", size=8, givens=(0, 0))
    empty, all_cells = np.ones(64, np.uint8), np.ones(64, bool)
    found = exact(task, empty, hint=empty, fixed=all_cells)  # no queen at all: wrong, but no cell is so on sight
    assert found.answer is not None and not found.restricted and found.status == "optimal"
    row = all_cells & (np.arange(64) < 56)  # all but the last row
    assert exact(task, empty, empty, row).answer is not None
    attacked = empty.copy()
    attacked[[0, 9]] = 2  # two queens that attack each other are not held, so the rest can be
    kept = np.isin(np.arange(64), [0, 9, 1, 2])
    found = exact(task, empty, attacked, kept)
    assert found.restricted and found.answer is not None and (found.answer[[1, 2]] == 1).all()


def test_same_seed_same_answer() -> None:
    task = get("queens", size=16, givens=(0, 0))
    question = np.ones(256, np.uint8)
    first, again = (exact(task, question, seed=3) for _ in range(2))
    assert first.answer is not None and np.array_equal(first.answer, again.answer) and first.branches == again.branches
    several = exact(task, question, workers=2)
    assert several.answer is not None and task.valid_batch(question[None], several.answer[None])[0]


# -- objectives -------------------------------------------------------------------------------------------------------


class Seats(Task):
    """A token for each of five cells, each once, at the least price."""

    name, charset, vocab, shape, blank = "seats", "ABCDE.", 7, (1, 5), 6

    def __init__(self, price: np.ndarray, rule: bool = True, wrong_cost: bool = False):
        self.price, self.rule, self.wrong_cost = price, rule, wrong_cost

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return (np.sort(answers, 1) == np.arange(1, 6)).all(1) & self.kept(inputs, answers)  # type: ignore[no-any-return]

    def cost(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        prices = self.price[np.arange(5), answers - 1].sum(1).astype(float)
        return prices + self.wrong_cost  # type: ignore[no-any-return]

    def constrain(self, model: Any, has: Any, question: np.ndarray) -> Any:
        for token in range(1, 6 if self.rule else 1):
            model.add_exactly_one([has(cell, token) for cell in range(5)])
        return sum(int(self.price[cell, token - 1]) * has(cell, token) for cell in range(5) for token in range(1, 6))


def test_the_best_answer_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    lesser = 0
    for _ in range(12):
        task = Seats(rng.integers(0, 50, (5, 5)))
        question = np.full(5, 6, np.uint8)
        if rng.random() < 0.5:
            question[rng.integers(5)] = rng.integers(1, 6)
        rows = np.array(list(itertools.permutations(range(1, 6))), np.uint8)
        rows = rows[task.valid_batch(np.repeat(question[None], len(rows), 0), rows)]
        costs = task.cost(rows, rows)
        hint = rows[rng.integers(len(rows))]
        for found in (exact(task, question), exact(task, question, hint), exact(task, question, hint[::-1].copy())):
            assert found.status == "optimal" and found.cost == found.bound == costs.min()
            assert task.cost(question[None], found.answer[None])[0] == found.cost  # type: ignore[index]
        fixed = rng.random(5) < 0.5
        held = exact(task, question, hint, fixed)
        assert held.answer is not None and held.cost is not None and held.cost >= costs.min()
        lesser += held.cost > costs.min()
        if held.restricted:
            assert (held.status, held.bound) == ("feasible", None)
            assert held.cost == costs[(rows[:, fixed] == hint[fixed]).all(1)].min()
        assert len(solutions(task, question).answers) == len(rows)
    assert lesser, "holding cells never cost anything: nothing was tested"


def test_a_model_that_contradicts_its_task_is_refused() -> None:
    question, price = np.full(5, 6, np.uint8), np.arange(25).reshape(5, 5)
    with pytest.raises(InputError, match="allows an answer that the verifier refuses, such as"):
        exact(Seats(price, rule=False), question)
    with pytest.raises(InputError, match="minimises 60 where the answer's cost is 61"):
        exact(Seats(price, wrong_cost=True), question)


# -- rules of one's own -----------------------------------------------------------------------------------------------


def latin(model: Any, has: Any, question: np.ndarray) -> None:
    """Each token once in each row and column of a 4x4 grid."""
    cells = np.arange(16).reshape(4, 4)
    for line in [*cells.tolist(), *cells.T.tolist()]:
        for token in range(1, 5):
            model.add_exactly_one([has(cell, token) for cell in line])


def is_latin(question: np.ndarray, answer: np.ndarray) -> bool:
    board = answer.reshape(4, 4)
    return all(sorted(line) == [1, 2, 3, 4] for line in [*board.tolist(), *board.T.tolist()])


def test_a_grid_is_solved_by_a_function() -> None:
    grid = Grid("ABCD.", (4, 4), ".")
    question = grid.encode("A..." + "." * 12)
    found = exact(grid, question, constrain=latin, verify=is_latin)
    assert found.answer is not None and found.answer[0] == 1 and is_latin(question, found.answer)
    assert len(solutions(grid, question, constrain=latin, verify=is_latin).answers) == 576 // 4
    with pytest.raises(InputError, match=r"constrain.* given allows an answer that the verifier refuses"):
        exact(grid, question, constrain=lambda model, has, question: None, verify=is_latin)
    with pytest.raises(InputError, match=r"'grid' has no exact model.*constrain\(model, has, question\)"):
        exact(grid, question)
    padded = grid.encode("_" * 4 + "A..." + "." * 8)
    free = exact(grid, padded, constrain=lambda model, has, question: None)
    assert free.answer is not None and not free.answer[:4].any() and free.answer[4:].all()


# -- what is wrong is said --------------------------------------------------------------------------------------------


def test_missing_ortools_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    task = get("sudoku", size=4)
    for call in (exact, solutions):
        with pytest.raises(InputError, match=r"pip install 'innerloop\[solve\]'"):
            call(task, task.sample(0, 0).question)


def test_bad_arguments_are_named() -> None:
    task = get("sudoku", size=4)
    q, hint = task.sample(0, 0).question, np.ones(16, np.uint8)
    bad: list[tuple[str, dict[str, Any]]] = [
        ("the question is uint8 \\(15,\\): sudoku takes uint8 \\(16,\\)", {"question": q[:15]}),
        ("the question is int64", {"question": q.astype(np.int64)}),
        ("the question is list", {"question": q.tolist()}),
        ("token 200", {"question": np.where(q == 1, 200, q).astype(np.uint8)}),
        ("the hint is float64", {"hint": hint.astype(float)}),
        ("fixed is uint8", {"hint": hint, "fixed": hint}),
        ("give both", {"fixed": hint == 1}),
        ("seconds=0,", {"seconds": 0}),
        ("seconds=nan,", {"seconds": float("nan")}),
        ("workers=0", {"workers": 0}),
        ("seed=-1", {"seed": -1}),
    ]
    for said, change in bad:
        with pytest.raises(InputError, match=said):
            exact(**{"task": task, "question": q, **change})
    with pytest.raises(InputError, match="limit=0"):
        solutions(task, q, limit=0)

    class Odd(Seats):
        def domain(self, question: np.ndarray) -> np.ndarray:
            return np.ones((5, 3), bool)

    with pytest.raises(InputError, match=r"domain\(\) of the task 'seats' returned bool \(5, 3\)"):
        exact(Odd(np.zeros((5, 5))), np.full(5, 6, np.uint8))


# -- real sets --------------------------------------------------------------------------------------------------------


def real(folder: Path, name: str, limit: int) -> tuple[Task, PuzzleSet]:
    if not (folder / name).exists():
        pytest.skip(f"{name} is not in {folder}")
    return (read_graphs if "graph" in name else open_set)(folder / name, limit=limit)


@pytest.mark.parametrize(
    "name", ["sudoku9_easy_test.csv", "sudoku9_hard_test.csv", "sudoku9_17clue.csv", "sgt_sudoku6_test.jsonl.gz"]
)
def test_real_sudokus(real_data: Path, name: str) -> None:
    task, s = real(real_data, name, 25)
    for question, label in zip(s.inputs, s.labels, strict=True):
        assert np.array_equal(exact(task, question).answer, label)  # type: ignore[arg-type]
    assert all(len(solutions(task, q, 2).answers) == 1 for q in s.inputs[:5])


def test_real_questions_with_several_answers(real_data: Path) -> None:
    for name in ("sudoku9_multi.jsonl.gz", "rg_nqueens8.jsonl.gz", "rg_graphcolor8.jsonl.gz"):
        task, s = real(real_data, name, 12)
        for question in s.inputs:
            assert len(solutions(task, question).answers) == task.solutions(question, 1000)


def test_real_mazes_and_graphs(real_data: Path) -> None:
    for name in ("maze30_hard_test.csv.gz", "rg_graphcolor10.jsonl.gz", "rg_nqueens10.jsonl.gz"):
        task, s = real(real_data, name, 20)
        found: list[ExactResult] = [exact(task, question) for question in s.inputs]
        answers = np.stack([f.answer for f in found if f.answer is not None])
        assert task.valid_batch(s.inputs, answers).all()


def test_a_real_puzzle_without_a_task_of_its_own(real_data: Path) -> None:
    """Binairo: as many of each sign in every line, never three alike in a row; each has one answer."""
    grid, s = real(real_data, "sgt_binairo8_test.jsonl.gz", 15)
    signs = [t for t in range(1, grid.vocab) if t != grid.blank]
    cells = np.arange(64).reshape(8, 8)

    def binairo(model: Any, has: Any, question: np.ndarray) -> None:
        for line in [*cells.tolist(), *cells.T.tolist()]:
            model.add(sum(has(cell, signs[0]) for cell in line) == 4)
            for three in zip(line, line[1:], line[2:], strict=False):
                for sign in signs:
                    model.add_bool_or([~has(cell, sign) for cell in three])

    for question, label in zip(s.inputs, s.labels, strict=True):
        assert np.array_equal(exact(grid, question, constrain=binairo).answer, label)  # type: ignore[arg-type]
