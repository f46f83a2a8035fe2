"""How many answers a question has: none, one or several."""

from __future__ import annotations

import time
from typing import Any

from innerloop.data.protocols import Tokens
from innerloop.rules.bounds import SearchBound, Undecided
from innerloop.solve.exact import solutions
from innerloop.solve.hybrid import has_exact
from innerloop.tasks.task import Task

__all__ = ["SEVERAL", "can_count", "count_answers", "count_each"]

SEVERAL = 2  # counting ends here


def can_count(task: Any) -> bool:
    """Whether answers to a question can be counted. False with an objective, where several are usual."""
    if not isinstance(task, Task) or task.has_objective:
        return False
    return _searches(task) or has_exact(task)


def count_answers(task: Any, question: Tokens, seconds: float) -> int | None:
    """0, 1 or SEVERAL answers to one question (S,); None if that was not decided within `seconds`.

    By the task's own search where it has one, else by its exact model (solve.exact). `can_count` says if it has either.
    """
    if seconds <= 0:
        return None
    if _searches(task):
        try:
            return int(task.solutions(question, SEVERAL, bound=SearchBound(seconds=seconds)))
        except Undecided:
            return None
    found = solutions(task, question, SEVERAL, seconds)
    return len(found.answers) if found.complete or len(found.answers) == SEVERAL else None


def count_each(task: Any, questions: Tokens, each: float, total: float) -> list[int | None]:
    """`count_answers` of questions (N, S), `each` seconds for one and `total` for all; None where time was up."""
    if not can_count(task):
        return [None] * len(questions)
    end = time.monotonic() + total
    return [count_answers(task, q, min(each, end - time.monotonic())) for q in questions]


def _searches(task: Any) -> bool:
    """Whether the task itself can list or count answers."""
    return type(task).every is not Task.every or type(task).solutions is not Task.solutions
