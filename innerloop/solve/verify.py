"""Who says whether an answer is right: the task's own rules, or one function of yours; never a label.

    verify = verifier_of(task)                   # constraints, where the task knows them
    verify = as_verifier(lambda q, a: ...)       # one function, for a single pair or for a batch
    verify = verifier_of(task, lambda q, a: ...)  # both must hold
    verify(questions, answers)                   # tokens (B, S) each -> bool (B,)

A learned confidence says how often answers of a kind are right; a verifier says whether this one is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.data.protocols import Tokens
from innerloop.errors import InputError

__all__ = ["Judge", "Verifier", "as_verifier", "broken", "verifier_of"]

Verifier = Callable[[Tokens, Tokens], NDArray[np.bool_]]  # questions (B, S), answers (B, S) -> (B,)


def verifier_of(task: Any, function: Callable[..., Any] | None = None) -> Verifier:
    """The verifier of a task (innerloop.tasks.Task): givens kept and rules held.

    function: a rule of your own on top, as `as_verifier` takes it; it sees the answers that pass the task's own check,
    which is one of form only where the task does not know its rules.
    Raises InputError where the task does not know its rules and no function is given.
    """
    if function is None:
        if not task.verifies:
            raise InputError(
                f"the rules of the task {task.name!r} are not known, so nothing verifies its answers: "
                "give a function verify(question, answer) -> bool, or choose answers by another rule."
            )
        return task.valid_batch  # type: ignore[no-any-return]
    own = as_verifier(function)

    def both(questions: Tokens, answers: Tokens) -> NDArray[np.bool_]:
        ok: NDArray[np.bool_] = task.valid_batch(questions, answers)
        ok[ok] = own(questions[ok], answers[ok])
        return ok

    return both


def as_verifier(function: Callable[..., Any]) -> Judge:
    """A verifier from one function, which judges a single pair or a batch; `Judge` says how that is found out."""
    return function if isinstance(function, Judge) else Judge(function)


class Judge:
    """A function made a verifier.

    Which kind the function is, is decided by trying it once, on the first row that it is asked about: two copies of the
    row as a table (2, S) (three where S is 2). If it returns one bool a copy, it judges batches, and must say the same
    of the row alone, since a verdict may not depend on what else is in the batch. Whatever else it does with the table,
    it is then called with the single pair (S,), (S,) and must return one bool: it judges single pairs. A function that
    does neither raises InputError. `batched` says what was found; None before the first call.

    The function is given read-only views. Every result is checked: bool, and one a row.
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
                f"a verifier was given questions {questions.shape} and answers {answers.shape}: give two tables (B, S)."
            )
        if len(questions) == 0:
            return np.zeros(0, bool)
        questions, answers = _sealed(questions), _sealed(answers)
        if self.batched is None:
            self.batched = self._judges_batches(questions[:1], answers[:1])
        if self.batched:
            return self._bools(self.function(questions, answers), (len(questions),))
        return np.array([self._bools(self.function(*pair), ()) for pair in zip(questions, answers, strict=True)], bool)

    def _judges_batches(self, question: Tokens, answer: Tokens) -> bool:
        """Try the function on one row, (1, S) each; raises InputError where it judges neither way."""
        copies = 3 if question.shape[1] == 2 else 2  # not S: one bool a copy must not look like one bool a cell
        table = [_sealed(np.repeat(tokens, copies, 0)) for tokens in (question, answer)]
        failed: Exception | None = None
        try:
            found = np.asarray(self.function(*table))
        except Exception as error:  # anything may happen to a function for single pairs that is given tables
            failed, found = error, np.zeros(())
        if found.shape == (copies,):
            verdicts = self._bools(found, (copies,))
            alone = self._bools(self.function(question, answer), (1,))
            if (verdicts != alone).any():
                raise InputError(f"{self._name()} judges a row differently in a batch: judge each row by itself.")
            return True
        try:
            single = self.function(question[0], answer[0])
        except Exception as error:
            said = failed or f"its result has shape {found.shape}"
            raise InputError(
                f"{self._name()} takes neither one question and answer of shape (S,) ({error}) "
                f"nor a batch of them (B, S) ({said}): return a bool for the one, or bools (B,) for the other."
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


def _sealed(tokens: Tokens) -> Tokens:
    """The same array, not to be written to."""
    view = tokens.view()
    view.flags.writeable = False
    return view


def broken(task: Any, questions: Tokens, answers: Tokens) -> NDArray[np.bool_]:
    """bool (B, S): the cells of each answer that break a rule on sight; none in a valid answer.

    They are what the task points at (`wrong_cells` without a label), and cells that hold what no valid answer holds
    there (`domain`). An answer may be wrong as a whole without such a cell: a way of a maze with a gap.
    """
    wrong = np.zeros(answers.shape, bool)
    for row in np.flatnonzero(~task.valid_batch(questions, answers)):
        question, answer = questions[row], answers[row]
        wrong[row] = task.wrong_cells(question, answer)
        if task.verifies or task.blank:  # else nothing is known of what a cell may hold
            inside = answer < task.vocab
            wrong[row] |= ~(inside & task.domain(question)[np.arange(len(answer)), np.where(inside, answer, 0)])
    return wrong
