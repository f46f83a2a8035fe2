"""Verifiers: whether an answer is right by the task's rules or a function of yours, without labels.

    verify = verifier_of(task)                   # constraints, where the task knows them
    verify = as_verifier(lambda q, a: ...)       # one function, for a single pair or for a batch
    verify = verifier_of(task, lambda q, a: ...)  # both must hold
    verify(questions, answers)                   # tokens (B, S) each -> bool (B,)

A verifier decides about one answer. A calibrated confidence is the frequency of right answers among similar ones.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.data.protocols import Tokens
from innerloop.errors import InputError

__all__ = ["FunctionVerifier", "Verifier", "as_verifier", "verifier_of", "violating_cells"]

Verifier = Callable[[Tokens, Tokens], NDArray[np.bool_]]  # questions (B, S), answers (B, S) -> (B,)


def verifier_of(task: Any, function: Callable[..., Any] | None = None) -> Verifier:
    """The verifier of a task (innerloop.tasks.Task): givens kept and rules held.

    function: an additional rule of yours, as `as_verifier` takes it. It is called for answers that pass the task's own
    check, which tests only their form if the task does not know its rules.
    Raises InputError if the task does not know its rules and no function is given.
    """
    if function is None:
        if not task.verifies:
            raise InputError(
                f"the rules of the task {task.name!r} are not known, so it has no verifier: "
                "give a function verify(question, answer) -> bool, or use another selection rule."
            )
        return task.valid_batch  # type: ignore[no-any-return]
    extra = as_verifier(function)

    def both(questions: Tokens, answers: Tokens) -> NDArray[np.bool_]:
        ok: NDArray[np.bool_] = task.valid_batch(questions, answers)
        ok[ok] = extra(questions[ok], answers[ok])
        return ok

    return both


def as_verifier(function: Callable[..., Any]) -> FunctionVerifier:
    """A verifier from a function of a single pair or of a batch; `FunctionVerifier` finds out which."""
    return function if isinstance(function, FunctionVerifier) else FunctionVerifier(function)


class FunctionVerifier:
    """Makes a function a verifier, and checks its results.

    The first call tries the function on two copies of the first row, (2, S) (three copies if S is 2). If it returns one
    bool per copy, it takes batches; its result must then be the same for the row alone, since it must not depend on the
    batch. Otherwise it is called with the single pair (S,), (S,) and must return one bool. InputError is raised for a
    function that does neither. `batched` is the result; None before the first call.

    The function gets read-only views. Every result is checked: dtype bool, one per row.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise InputError(f"a verifier is a function of question and answer, not {type(function).__name__}.")
        self.function = function
        self.batched: bool | None = None

    def __call__(self, questions: Tokens, answers: Tokens) -> NDArray[np.bool_]:
        """bool (B,) of (B, S) questions and answers."""
        if questions.shape != answers.shape or questions.ndim != 2:
            raise InputError(
                f"a verifier was given questions {questions.shape} and answers {answers.shape}: give two arrays (B, S)."
            )
        if len(questions) == 0:
            return np.zeros(0, bool)
        questions, answers = _read_only(questions), _read_only(answers)
        if self.batched is None:
            self.batched = self._takes_batches(questions[:1], answers[:1])
        if self.batched:
            return self._bools(self.function(questions, answers), (len(questions),))
        return np.array([self._bools(self.function(*pair), ()) for pair in zip(questions, answers, strict=True)], bool)

    def _takes_batches(self, question: Tokens, answer: Tokens) -> bool:
        """Whether the function takes batches, tried on one row (1, S); raises InputError if it takes neither form."""
        copies = 3 if question.shape[1] == 2 else 2  # not S, or one bool per copy could be one bool per cell
        table = [_read_only(np.repeat(tokens, copies, 0)) for tokens in (question, answer)]
        failed: Exception | None = None
        try:
            result = np.asarray(self.function(*table))
        except Exception as error:  # a function for single pairs may raise anything here
            failed, result = error, np.zeros(())
        if result.shape == (copies,):
            batch_results = self._bools(result, (copies,))
            single_result = self._bools(self.function(question, answer), (1,))
            if (batch_results != single_result).any():
                raise InputError(
                    f"{self._name()} gives a row another result in a batch than alone: check each row by itself."
                )
            return True
        try:
            single = self.function(question[0], answer[0])
        except Exception as error:
            reason = failed or f"its result has shape {result.shape}"
            raise InputError(
                f"{self._name()} takes neither one question and answer of shape (S,) ({error}, {place_of(error)}) "
                f"nor a batch of them (B, S) ({reason}): return a bool for the one, or bools (B,) for the other. "
                "A function whose parameter is written `question: str` is given texts, any other numbers of symbols."
            ) from error
        self._bools(single, ())
        return False

    def _bools(self, result: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        array = np.asarray(result)
        if array.shape != shape or array.dtype != bool:
            wanted = f"{shape[0]} bools (one a row)" if shape else "one bool"
            raise InputError(
                f"{self._name()} returned {type(result).__name__} of shape {array.shape} and type {array.dtype} "
                f"where {wanted} is wanted: return True or False."
            )
        return array

    def _name(self) -> str:
        return f"the verifier {getattr(self.function, '__name__', type(self.function).__name__)!r}"


def _read_only(tokens: Tokens) -> Tokens:
    """A read-only view."""
    view = tokens.view()
    view.flags.writeable = False
    return view


def violating_cells(task: Any, questions: Tokens, answers: Tokens) -> NDArray[np.bool_]:
    """bool (B, S): cells of each answer that violate a rule by themselves; all False for valid answers.

    These are the task's `wrong_cells` without a label, and cells whose token is outside their `domain`. A wrong answer
    may have no such cell: a maze path with a gap.
    """
    wrong = np.zeros(answers.shape, bool)
    for row in np.flatnonzero(~task.valid_batch(questions, answers)):
        question, answer = questions[row], answers[row]
        wrong[row] = task.wrong_cells(question, answer)
        if task.verifies or task.blank:  # else the domain of a cell is unknown
            inside = answer < task.vocab
            wrong[row] |= ~(inside & task.domain(question)[np.arange(len(answer)), np.where(inside, answer, 0)])
    return wrong


def place_of(error: BaseException) -> str:
    """FILE, line N of the innermost frame of an error's traceback."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"
