"""Guesses: which cells, and that they find answers which symmetries do not, with a verdict on the puzzle as asked."""

import numpy as np
import pytest

from innerloop import pretrained, tasks
from innerloop.errors import InputError
from innerloop.solve.guess import with_guess
from innerloop.solve.solver import SolveOptions, Solver


def test_the_least_certain_cells_come_first_then_pairs_of_them():
    question, answer = np.array([1, 5, 1, 1, 1]), np.array([2, 5, 3, 4, 1])  # the last is empty in the answer too
    certainty = np.array([0.9, 0.1, 0.3, 0.6, 0.0], np.float32)
    made = [with_guess(question, answer, certainty, 1, k).tolist() for k in range(1, 8)]
    assert made[:3] == [[1, 5, 3, 1, 1], [1, 5, 1, 4, 1], [2, 5, 1, 1, 1]]
    assert made[3:6] == [[1, 5, 3, 4, 1], [2, 5, 3, 1, 1], [2, 5, 1, 4, 1]] and made[6] == made[0]
    assert question.tolist() == [1, 5, 1, 1, 1]
    assert with_guess(answer, answer, certainty, 9, 1) is answer


@pytest.fixture(scope="module")
def hard():
    """A bundled model, and puzzles of few givens that it does not solve alone."""
    opened = pretrained.open("demo-sudoku9")
    solver = Solver(opened.loop, opened.task)
    made = tasks.get("sudoku", size=9, givens=(22, 24)).make(30, 77)
    alone = solver.solve(made, depth=6)
    return solver, made.take(np.array([not s.known for s in alone]))


@pytest.mark.slow
def test_guesses_solve_what_one_trajectory_and_its_views_do_not(hard):
    solver, puzzles = hard
    guessed = solver.solve(puzzles, depth=6, width=16)
    views = solver.solve(puzzles, depth=6, width=16, guess=False)
    known = [sum(s.known for s in found) for found in (guessed, views)]
    assert len(puzzles) > 2 and known[0] > known[1]
    for question, s in zip(puzzles.inputs, guessed, strict=True):
        given = question != 1
        assert not s.known or ((s.answer[given] == question[given]).all() and s.trajectory > 0)


def test_answers_are_verified_for_the_puzzle_as_asked_and_not_with_its_guess(hard):
    solver, _ = hard
    easy, givens = tasks.get("sudoku", size=9, givens=(40, 42)).make(1, 5), []

    def refuse(q, a):
        givens.append(int((np.atleast_2d(q)[0] != 1).sum()))
        return False

    own = Solver(solver.loop, solver.task, verify=refuse)
    (refused,) = own.solve(easy, depth=8, width=6)  # every answer is refused, so that guesses follow
    assert not refused.known and len(givens) > 6 and set(givens) == {int((easy.inputs[0] != 1).sum())}


def test_an_answer_with_guesses_does_not_depend_on_company_or_rows(hard):
    solver, puzzles = hard
    together = solver.solve(puzzles, depth=6, width=8)
    few_rows = Solver(solver.loop, solver.task, rows=3).solve(puzzles.take(slice(4)), depth=6, width=8)
    for a, b in zip(together, few_rows, strict=False):
        assert (a.text, a.trajectory, a.steps) == (b.text, b.trajectory, b.steps)


def test_guesses_are_only_taken_where_a_verifier_decides(hard):
    solver, puzzles = hard
    with pytest.raises(InputError, match="guess needs the rule verified"):
        solver.solve(puzzles, width=4, pick="vote", guess=True)
    for how, guesses in (({"pick": "vote"}, False), ({}, True), ({"noise": (0.1, 0.0)}, False)):
        assert solver.resolve(SolveOptions(width=4, **how)).guess is guesses
