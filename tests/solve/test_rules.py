"""Rules of one's own, added to a task: as a function on texts or tokens, as an exact model, as a file."""

import numpy as np
import pytest

import innerloop
from innerloop import tasks
from innerloop.errors import InputError
from innerloop.solve.exact import exact, solutions
from innerloop.solve.hybrid import has_exact
from innerloop.solve.job import PuzzleJob
from innerloop.solve.options import SolveOptions
from innerloop.solve.rules import read_rules, with_rules
from innerloop.tasks.grid import Grid

pytest.importorskip("ortools", reason="OR-tools is not installed: pip install 'innerloop[solve]'")

LINES = [*np.arange(9).reshape(3, 3).tolist(), *np.arange(9).reshape(3, 3).T.tolist()]


def rule(question: str, answer: str) -> bool:
    return all({answer[cell] for cell in line} == set("abc") for line in LINES)


def constrain(model, has, question: str) -> None:
    for line in LINES:
        for symbol in "abc":
            model.add_exactly_one([has(cell, symbol) for cell in line])


def wrong(model, has, question: str) -> None:
    has(0, "x")


@pytest.fixture
def grid():
    return Grid("abc.", (3, 3), ".")


def test_texts_and_tokens_say_the_same(grid):
    answers = np.array([[1, 2, 3, 2, 3, 1, 3, 1, 2], [1, 2, 3, 2, 3, 1, 3, 2, 1]], np.uint8)
    questions = np.full_like(answers, 4)
    texts = with_rules(grid, rule)
    tokens = with_rules(grid, lambda q, a: all(set(a[line]) == {1, 2, 3} for line in LINES))
    for task in (texts, tokens, with_rules(grid, constrain=constrain)):
        assert task.verifies and task.valid_batch(questions, answers).tolist() == [True, False]
        changed = np.where(np.arange(9) == 0, 3, questions)  # the answers change a given
        assert not task.valid_batch(changed.astype(np.uint8), answers).any()
    assert not grid.verifies and not has_exact(grid) and isinstance(texts, Grid)
    assert len(solutions(with_rules(grid, rule, constrain), questions[0]).answers) == 12
    with pytest.raises(InputError, match="allows an answer that the verifier refuses, such as baaaaaaaa to"):
        exact(with_rules(grid, rule, lambda model, has, question: None), questions[0])
    with pytest.raises(InputError, match=r"has\(cell, 'x'\)"):
        exact(with_rules(grid, constrain=wrong), questions[0])


def test_rules_are_added_to_those_that_the_task_has():
    """All digits on a diagonal of a 4x4 Sudoku; its own search, which may err now, is not used."""
    task = tasks.get("sudoku", size=4)
    diagonal = [0, 5, 10, 15]

    def more(model, has, question):
        for token in range(2, 6):
            model.add_exactly_one([has(cell, token) for cell in diagonal])

    ruled = with_rules(task, constrain=more)
    question = task.encode("1" + "." * 15)
    answer = exact(ruled, question).answer
    assert len(set(answer[diagonal])) == 4 and task.valid_batch(question[None], answer[None])[0]
    every = solutions(task, question).answers
    judged = ruled.valid_batch(question[None].repeat(20, 0), every[:20])
    assert judged.tolist() == [len(set(a[diagonal])) == 4 for a in every[:20]] and 0 < judged.sum() < 20
    assert len(solutions(ruled, question).answers) < len(solutions(task, question).answers)
    assert type(ruled).solutions is tasks.Task.solutions
    other = next(a for a in solutions(task, question, 50).answers if len(set(a[diagonal])) < 4)
    judged = ruled.valid_batch(question[None].repeat(2, 0), np.stack([answer, other]))
    assert task.valid_batch(question[None], other[None])[0] and judged.tolist() == [True, False]


def test_an_objective_is_not_dropped_for_another():
    task = tasks.get("timetable")
    question = task.make(1, 0).inputs[0]
    with pytest.raises(InputError, match="has its own"):
        exact(with_rules(task, constrain=lambda model, has, question: has(0, 2)), question)


def test_a_solver_takes_them():
    def both(question: str, answer: str) -> bool:
        return answer[0] == answer[5]  # never so in a Sudoku, whose box these two share

    solver = innerloop.open_solver("demo-sudoku4", verify=both)
    puzzle = tasks.get("sudoku", size=4).make(1, 5)
    found = solver.solve(puzzle.inputs, depth=4)[0]
    assert not found.known and found.valid is False
    assert innerloop.open_solver("demo-sudoku4").solve(puzzle.inputs, depth=8)[0].known


def test_a_file_of_rules(tmp_path):
    file = tmp_path / "rules.py"
    file.write_text("def rule(question, answer):\n    return bool(answer[0] == 1)\n")
    found = read_rules(str(file))
    assert found.constrain is None and found.rule(None, [1])
    for text, said in (("x = 1", "holds no rules"), ("rule = 3", "holds no rules")):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            read_rules(str(file))


def test_a_view_is_judged_as_the_puzzle_was_given():
    """The rule knows the answer itself, which in another view is another."""
    task = tasks.get("sudoku", size=4)
    made = task.make(1, 5)
    label = made.labels[0]
    solver = innerloop.open_solver("demo-sudoku4", verify=lambda question, answer: bool((answer == label).all()))
    options = solver.resolve(SolveOptions(depth=8, width=3, pick="verified", guess=False))
    job, engine = PuzzleJob(solver, made.inputs[0], options, 0, solver.views(options)), solver.engine(options)
    assert not np.array_equal(job.make_job(1).question, made.inputs[0])
    engine.submit(job.make_job(1))
    (done,) = engine.run()
    assert done.end == "verified" and np.array_equal(job.in_original_view(1, done.result).answer, label)
