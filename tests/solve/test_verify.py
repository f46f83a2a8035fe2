"""Verifiers: a task's own rules, a function of one's own in either of its two forms, and where an answer is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.solve.verify import FunctionVerifier, as_verifier, verifier_of, violating_cells
from innerloop.tasks import Task, get, names
from innerloop.tasks.grid import Grid

SMALL = {"sudoku": {"size": 4}, "maze": {"size": 8}, "queens": {"size": 6}, "walk": {"size": 3, "actions": 3}}
TASKS = [get(name, **SMALL.get(name, {})) for name in names() if name not in ("grid", "arc", "recheck")]
each = pytest.mark.parametrize("task", TASKS, ids=[t.name for t in TASKS])


@each
def test_a_task_verifies_its_labels_and_finds_what_is_broken(task: Task) -> None:
    s = task.make(12, seed=0)
    verify = verifier_of(task)
    assert verify(s.inputs, s.labels).all() and not violating_cells(task, s.inputs, s.labels).any()
    rng = np.random.default_rng(0)
    wrong = s.labels.copy()
    for row in wrong:
        cell = rng.choice(np.flatnonzero(row))
        row[cell] = row[cell] % (task.vocab - 1) + 1
    assert np.array_equal(verify(s.inputs, wrong), task.valid_batch(s.inputs, wrong))
    marked = violating_cells(task, s.inputs, wrong)
    assert marked.shape == wrong.shape and marked.dtype == bool
    assert not marked[verify(s.inputs, wrong)].any()
    assert marked.any(1).mean() > 0.5
    outside = np.full_like(s.labels, 255)
    assert violating_cells(task, s.inputs, outside).any(1).all()


def test_broken_cells_are_the_ones_at_fault() -> None:
    task = get("sudoku", size=4)
    question = task.encode("1...............")
    answer = task.encode("1234341221434321")
    assert not violating_cells(task, question[None], answer[None]).any()
    twice, changed, empty = answer.copy(), answer.copy(), answer.copy()
    twice[15], changed[0], empty[5] = 3, 5, 1  # a 2 in place of the last 1; the given 1; an undecided cell
    assert np.flatnonzero(violating_cells(task, question[None], twice[None])).tolist() == [7, 14, 15]
    assert violating_cells(task, question[None], changed[None])[0, 0]
    assert np.flatnonzero(violating_cells(task, question[None], empty[None])).tolist() == [5]
    maze = get("maze", size=4, distance=3)
    question = maze.encode("S  G" + "    " * 3)
    detour = maze.encode("S oG" + "ooo " + "    " * 2)
    assert np.flatnonzero(violating_cells(maze, question[None], detour[None])).tolist() == [1, 4, 5, 6]


@pytest.mark.parametrize(
    ("kind", "text"), [("row", "1313242431314242"), ("column", "1234341212343412"), ("box", "1234234134124123")]
)
def test_sudoku_needs_its_rows_its_columns_and_its_boxes(kind: str, text: str) -> None:
    """A board that breaks one kind of unit and keeps the two others is not valid."""
    task = get("sudoku", size=4)
    answer = task.encode(text)
    for name in ("row", "column", "box"):
        units = [answer[np.array(getattr(task.board, name)) == k] for k in range(4)]
        assert all(len(set(unit.tolist())) == 4 for unit in units) == (name != kind)
    assert not task.valid_batch(np.ones((1, 16), np.uint8), answer[None])[0]


def test_nothing_is_broken_in_a_valid_answer() -> None:
    """Also where it fills a cell that the search leaves as it is."""
    task = get("colouring", size=3)
    question, answer = task.encode("1##" + "#2#" + "?#3"), task.encode("1##" + "#2#" + ".#3")
    assert verifier_of(task)(question[None], answer[None])[0]
    assert not violating_cells(task, question[None], answer[None]).any()


def test_rules_that_nobody_knows_are_asked_for() -> None:
    for task in (get("arc"), Grid("ab.", (1, 3), ".")):
        with pytest.raises(InputError, match=r"not known.*verify\(question, answer\)"):
            verifier_of(task)


def test_a_rule_of_ones_own_comes_on_top_of_the_tasks() -> None:
    grid = Grid("ab.", (1, 4), ".")
    questions = grid.encode_many(["a...", "a...", "a...", "...."])
    answers = grid.encode_many(["abab", "bbab", "ab.b", "aaab"])
    seen = []

    def as_many_of_each(question: np.ndarray, answer: np.ndarray) -> bool:
        seen.append(answer.ndim)
        return int((answer == 1).sum()) == int((answer == 2).sum())

    assert verifier_of(grid, as_many_of_each)(questions, answers).tolist() == [True, False, False, False]
    assert seen.count(1) == 1 + 2  # the trial, and the two rows whose givens are kept and cells decided
    sudoku = get("sudoku", size=4)
    s = sudoku.make(8, 0)
    assert not verifier_of(sudoku, lambda q, a: False)(s.inputs, s.labels).any()
    assert verifier_of(sudoku, lambda q, a: True)(s.inputs, s.labels).all()


def pair(question: np.ndarray, answer: np.ndarray) -> bool:
    """Sum of the first half is at least that of the second: written for one answer, in plain Python."""
    half = len(answer) // 2
    return sum(answer.tolist()[:half]) >= sum(answer.tolist()[half:])


def batch(questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The same for a table."""
    half = answers.shape[1] // 2
    return answers[:, :half].astype(int).sum(1) >= answers[:, half:].astype(int).sum(1)


def either(questions: np.ndarray, answers: np.ndarray) -> Any:
    """The same for both."""
    half = answers.shape[-1] // 2
    return answers[..., :half].astype(int).sum(-1) >= answers[..., half:].astype(int).sum(-1)


def listed(questions: np.ndarray, answers: np.ndarray) -> list[bool]:
    return [pair(q, a) for q, a in zip(questions, answers, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 81])
@pytest.mark.parametrize("function", [pair, batch, either, listed])
def test_one_pair_or_a_batch_is_found_out(function: Any, size: int) -> None:
    rng = np.random.default_rng(size)
    for count in (1, 2, 3, 7):
        questions, answers = rng.integers(0, 9, (2, count, size), dtype=np.uint8)
        verify = as_verifier(function)
        assert verify.batched is None
        said = verify(questions, answers)
        assert said.shape == (count,) and said.dtype == bool
        assert said.tolist() == [pair(q, a) for q, a in zip(questions, answers, strict=True)]
        assert verify.batched is (function is not pair)
        assert verify(questions[:0], answers[:0]).shape == (0,)
    assert as_verifier(verify) is verify


def test_pair_functions_that_look_at_cells_are_not_taken_for_batches() -> None:
    """Given a table, these return something, but not one bool a row."""
    rng = np.random.default_rng(0)
    questions, answers = rng.integers(0, 3, (2, 20, 6), dtype=np.uint8)
    first = as_verifier(lambda q, a: a[0] == a[1])
    assert first(questions, answers).tolist() == (answers[:, 0] == answers[:, 1]).tolist() and first.batched is False
    two = as_verifier(lambda q, a: a[0] == a[1])  # of tables of two cells this makes two bools, one a cell
    assert two(questions[:, :2], answers[:, :2]).tolist() == (answers[:, 0] == answers[:, 1]).tolist()
    same = as_verifier(lambda q, a: np.array_equal(q, a))
    assert not same(questions, answers).any() and same(answers, answers).all() and same.batched is False
    cells = as_verifier(lambda q, a: (a == q).any())
    assert cells(questions, answers).tolist() == (questions == answers).any(1).tolist()


def test_what_is_no_verifier_is_refused_in_a_sentence() -> None:
    questions = answers = np.ones((3, 4), np.uint8)
    refused: list[tuple[Any, str]] = [
        (lambda q, a: None, "returned NoneType"),
        (lambda q, a: 1, "returned int"),
        (lambda q, a: a.sum(-1), r"where 2 bools \(one a row\)"),
        (lambda q, a: a == q, "where one bool is wanted"),
        (lambda q, a: a.no_such_thing(), "takes neither one question.*no_such_thing"),
        (lambda q: True, "takes neither one question"),
    ]
    for function, said in refused:
        with pytest.raises(InputError, match=said):
            as_verifier(function)(questions, answers)
    with pytest.raises(InputError, match="not str"):
        as_verifier("yes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\(3, 4\) and answers \(2, 4\)"):
        as_verifier(pair)(questions, answers[:2])


def test_a_verdict_that_hangs_on_its_batch_mates_is_refused() -> None:
    questions = np.zeros((5, 4), np.uint8)
    with pytest.raises(InputError, match="another result in a batch"):
        as_verifier(lambda q, a: np.arange(len(a)) == len(a) - 1)(questions, questions)


def test_later_results_are_checked_too() -> None:
    questions = np.zeros((4, 5), np.uint8)
    odd = FunctionVerifier(lambda q, a: (a == q).all(1) if len(a) < 4 else np.ones(3, bool))
    with pytest.raises(InputError, match="4 bools"):
        odd(questions, questions)


def test_a_verifier_cannot_change_what_it_judges() -> None:
    def vandal(question: np.ndarray, answer: np.ndarray) -> bool:
        answer[0] = 1
        return True

    answers = np.zeros((2, 3), np.uint8)
    with pytest.raises(InputError, match="read-only"):
        as_verifier(vandal)(answers, answers)
    assert not answers.any()
