"""Propose, verify, and only then search: an exact solver behind a model, asked for what the model does not know.

The model's guess is where the search looks first (CP-SAT hints), and the cells that it is sure of are held for as long
as that works. Where the task has an objective nothing is held, since held cells could cost the best answer.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.errors import InputError
from innerloop.solve.dials import Solution
from innerloop.solve.exact import exact
from innerloop.tasks.task import Task

__all__ = ["SURE", "behind", "has_exact", "need_exact"]

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


def behind(
    task: Any, question: NDArray[np.uint8], found: Solution, seconds: float, seed: int = 0, hints: bool = True
) -> Solution:
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
