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

__all__ = ["FIX_CERTAINTY", "FallbackSettings", "has_exact", "need_exact", "tune_fallback", "with_exact_fallback"]

FIX_CERTAINTY = 0.9  # cells of at least this certainty are fixed in the first attempt


def has_exact(task: Any) -> bool:
    """Whether the task has an exact model of its rules, and OR-tools is installed."""
    return type(task).constrain is not Task.constrain and find_spec("ortools") is not None


def need_exact(task: Any) -> None:
    """Raises InputError if the task has no exact model, or OR-tools is not installed."""
    if type(task).constrain is Task.constrain:
        raise InputError(
            f"the task {task.name!r} has no exact model of its rules: add a function constrain "
            "to the file of --rules, or solve without the exact solver"
        )
    if find_spec("ortools") is None:
        raise InputError('the exact solver needs OR-tools: pip install "innerloop[solve]"')


def with_exact_fallback(
    task: Any, question: Tokens, solution: Solution, seconds: float, seed: int = 0, hints: bool = True
) -> Solution:
    """`solution` if it is known, else the exact solver's solution of question (S,) within `seconds`.

    hints=False gives the exact solver no hint, for comparison.
    """
    if solution.known:
        return solution
    if seconds <= 0:
        return replace(solution, why=f"{solution.why}; no time was left for the exact solver")
    has_proposal = hints and solution.steps > 0
    hint, fixed = (solution.answer, solution.certainty >= FIX_CERTAINTY) if has_proposal else (None, None)
    if getattr(task, "has_objective", True):  # a task of one's own may not say
        fixed = None
    result = exact(task, question, hint, fixed, seconds, seed)
    total_seconds = solution.seconds + result.seconds
    if result.answer is None:
        outcome = "proved that there is no answer" if result.status == "infeasible" else "found no answer in time"
        return replace(solution, why=f"{solution.why}; the exact solver {outcome}", seconds=total_seconds)
    hinted = " from the model's proposal" if has_proposal else ""
    outcome = f"the exact solver found it in {result.seconds:.3f} s{hinted}"
    return replace(
        solution,
        known=True,
        answer=result.answer,
        text=task.decode(result.answer),
        valid=True,
        confidence=1.0,
        why=f"{solution.why}; {outcome}",
        source="exact",
        seconds=total_seconds,
        certainty=np.ones(len(question), np.float32),
    )


class FallbackSettings(NamedTuple):
    """Depth and width of the model before the exact solver is called, measured on sample puzzles."""

    depth: int  # 0: call the exact solver at once, because the model only adds time
    width: int
    seconds: float  # per puzzle, model and exact solver together
    known: float  # share of the puzzles that the model solves
    exact_seconds: float  # per puzzle, of the exact solver without the model


def tune_fallback(
    solver: Any,
    questions: Tokens,
    seconds: float = 10.0,
    depths: Sequence[int] = (1, 2, 4, 8, 16, 32),
    widths: Sequence[int] = (1, 4, 16),
    batched: bool = False,
) -> FallbackSettings:
    """The depth and width of smallest mean time on sample questions (N, S), solved one after the other.

    With `batched` the model solves all questions in one batch, as for a file of puzzles, which costs far less per
    puzzle. A question that the model does not solve costs the model's time plus the exact solver's mean time. `solver`
    is a solve.solver.Solver with a verifier. Raises InputError if its task has no exact model.
    """
    need_exact(solver.task)
    began = time.perf_counter()
    for question in questions:
        exact(solver.task, question, seconds=seconds)
    exact_seconds = (time.perf_counter() - began) / len(questions)
    best = FallbackSettings(0, 1, exact_seconds, 0.0, exact_seconds)
    parts = [questions] if batched else questions[:, None]
    for width in widths if solver.trajectories_differ(SolveOptions()) else (1,):
        for depth in depths:
            solver.solve(parts[0], depth, width, "verified")  # warm-up
            began = time.perf_counter()
            known = [s.known for part in parts for s in solver.solve(part, depth, width, "verified")]
            model_seconds, share = (time.perf_counter() - began) / len(questions), float(np.mean(known))
            total_seconds = model_seconds + (1 - share) * exact_seconds
            best = min(
                best, FallbackSettings(depth, width, total_seconds, share, exact_seconds), key=lambda p: p.seconds
            )
    return best
