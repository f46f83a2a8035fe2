"""Exact-solver fallback: puzzles that the model does not solve go to CP-SAT, warm-started by the model's answer.

The model's answer is given as CP-SAT hints, and the cells that it is certain of are fixed in a first attempt. With an
objective no cell is fixed, since that could exclude the best answer.
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

__all__ = ["HOLD_CERTAINTY", "FallbackSettings", "has_exact", "need_exact", "tune_fallback", "with_exact_fallback"]

HOLD_CERTAINTY = 0.9  # a cell is fixed in the first attempt from this certainty on


def has_exact(task: Any) -> bool:
    """Whether the task has an exact model of its rules, and OR-tools is installed."""
    return type(task).constrain is not Task.constrain and find_spec("ortools") is not None


def need_exact(task: Any) -> None:
    """Raises InputError if the task has no exact model, or OR-tools is not installed."""
    if type(task).constrain is Task.constrain:
        raise InputError(f"the task {task.name!r} has no exact model of its rules: solve without the exact solver")
    if find_spec("ortools") is None:
        raise InputError('the exact solver needs OR-tools: pip install "innerloop[solve]"')


def with_exact_fallback(
    task: Any, question: Tokens, found: Solution, seconds: float, seed: int = 0, hints: bool = True
) -> Solution:
    """`found` if it is known, else the exact solver's solution of question (S,) within `seconds`.

    hints=False keeps the model's answer from the exact solver, for comparison.
    """
    if found.known:
        return found
    if seconds <= 0:
        return replace(found, why=f"{found.why}; no time was left for the exact solver")
    thought = hints and found.steps > 0
    hint, sure = (found.answer, found.certainty >= HOLD_CERTAINTY) if thought else (None, None)
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


class FallbackSettings(NamedTuple):
    """Depth and width of the model before the exact solver is called, measured on sample puzzles."""

    depth: int  # 0: call the exact solver at once, since the model only adds time
    width: int
    seconds: float  # per puzzle, model and exact solver together
    known: float  # share of the puzzles that the model solves
    alone: float  # seconds per puzzle of the exact solver without the model


def tune_fallback(
    solver: Any,
    questions: Tokens,
    seconds: float = 10.0,
    depths: Sequence[int] = (1, 2, 4, 8, 16, 32),
    widths: Sequence[int] = (1, 4, 16),
    together: bool = False,
) -> FallbackSettings:
    """The depth and width of least mean time on sample questions (N, S), solved one after the other.

    With `together` the model solves all questions in one batch, as for a file of puzzles, which costs far less per
    puzzle. A question that the model does not solve costs the model's time plus the exact solver's mean time. `solver`
    is a solve.solver.Solver with a verifier. Raises InputError if its task has no exact model.
    """
    need_exact(solver.task)
    began = time.perf_counter()
    for question in questions:
        exact(solver.task, question, seconds=seconds)
    alone = (time.perf_counter() - began) / len(questions)
    best = FallbackSettings(0, 1, alone, 0.0, alone)
    parts = [questions] if together else questions[:, None]
    for width in widths if solver.trajectories_differ(SolveOptions()) else widths[:1]:
        for depth in depths:
            solver.solve(parts[0], depth, width, "verified")  # warm-up
            began = time.perf_counter()
            known = [found.known for part in parts for found in solver.solve(part, depth, width, "verified")]
            took, share = (time.perf_counter() - began) / len(questions), float(np.mean(known))
            whole = took + (1 - share) * alone
            best = min(best, FallbackSettings(depth, width, whole, share, alone), key=lambda p: p.seconds)
    return best
