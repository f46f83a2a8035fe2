"""Propose, verify, and only then search: an exact solver behind a model, asked for what the model does not know.

The model's guess is where the search looks first (CP-SAT hints), and the cells that it is sure of are held for as long
as that works. Where the task has an objective nothing is held, since held cells could cost the best answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.solve.exact import exact
from innerloop.solve.options import Solution, SolveOptions
from innerloop.tasks.task import Task

__all__ = ["SURE", "Patience", "behind", "has_exact", "need_exact", "patience"]

SURE = 0.9  # certainty from which on a cell is held first


def has_exact(task: Any) -> bool:
    """Whether the task has an exact model of its rules, and OR-tools is installed."""
    return type(task).constrain is not Task.constrain and find_spec("ortools") is not None


def need_exact(task: Any) -> None:
    """Raises InputError where nothing exact can stand behind a model of this task."""
    if type(task).constrain is Task.constrain:
        raise InputError(f"the task {task.name!r} has no exact model of its rules: solve without the exact solver")
    if find_spec("ortools") is None:
        raise InputError('the exact solver needs OR-tools: pip install "innerloop[solve]"')


def behind(task: Any, question: Tokens, found: Solution, seconds: float, seed: int = 0, hints: bool = True) -> Solution:
    """`found` where it is known, else what the exact solver makes of question (S,) in so many seconds.

    hints=False lets it search as if nothing had been proposed, to compare.
    """
    if found.known:
        return found
    if seconds <= 0:
        return replace(found, why=f"{found.why}; no time was left for the exact solver")
    thought = hints and found.steps > 0
    hint, sure = (found.answer, found.certainty >= SURE) if thought else (None, None)
    if task.cost(question[None], question[None]) is not None:
        sure = None
    result = exact(task, question, hint, sure, seconds, seed)
    took = found.seconds + result.seconds
    if result.answer is None:
        said = "proved that there is no answer" if result.status == "infeasible" else "found no answer in time"
        return replace(found, why=f"{found.why}; the exact solver {said}", seconds=took)
    said = f"the exact solver found it in {result.seconds:.3f} s" + (" from the model's proposal" if thought else "")
    return replace(
        found,
        known=True,
        answer=result.answer,
        text=task.decode(result.answer),
        valid=True,
        confidence=1.0,
        why=f"{found.why}; {said}",
        source="exact",
        seconds=took,
        certainty=np.ones(len(question), np.float32),
    )


class Patience(NamedTuple):
    """How long a model is to think before the exact solver is asked, by what both took on sample puzzles."""

    depth: int  # 0: ask the exact solver at once, the model only costs time
    width: int
    seconds: float  # a puzzle, model and exact solver together
    known: float  # share of the puzzles that the model answers
    alone: float  # seconds a puzzle that the exact solver takes by itself


def patience(
    solver: Any,
    questions: Tokens,
    seconds: float = 10.0,
    depths: Sequence[int] = (1, 2, 4, 8, 16, 32),
    widths: Sequence[int] = (1, 4, 16),
    together: bool = False,
) -> Patience:
    """The depth and width of least mean time for questions (N, S) like these, one after the other.

    With `together` the model thinks about all of them at once, as it does about a file of puzzles: each then costs it
    far less, and it pays to be more patient. A question that the model fails on costs its thinking and then the exact
    solver's mean time. `solver` is a solve.solver.Solver with a verifier. Raises InputError where nothing exact stands
    behind it.
    """
    need_exact(solver.task)
    began = time.perf_counter()
    for question in questions:
        exact(solver.task, question, seconds=seconds)
    alone = (time.perf_counter() - began) / len(questions)
    best = Patience(0, 1, alone, 0.0, alone)
    parts = [questions] if together else questions[:, None]
    for width in widths if solver.differ(SolveOptions()) else widths[:1]:
        for depth in depths:
            solver.solve(parts[0], depth, width, "verified")  # the first call pays for what all share
            began = time.perf_counter()
            known = [found.known for part in parts for found in solver.solve(part, depth, width, "verified")]
            took, share = (time.perf_counter() - began) / len(questions), float(np.mean(known))
            whole = took + (1 - share) * alone
            best = min(best, Patience(depth, width, whole, share, alone), key=lambda p: p.seconds)
    return best
