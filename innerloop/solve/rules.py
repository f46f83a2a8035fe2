"""Rules of one's own for any task: a function that judges an answer, an exact model of the rules, or both.

    def rule(question: str, answer: str) -> bool: ...          # the texts, as the puzzle is written
    def constrain(model, has, question: str): ...              # has(cell, "3"): the literal "this cell holds a 3"
    task = with_rules(task, rule, constrain)

A function whose parameter `question` is annotated `str` is given texts; any other is given tokens (S,), where token i
is the i-th symbol of the task's alphabet. Rules are added to those that the task has.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop import plugins
from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.solve.exact import Constrain, cp_sat, exact
from innerloop.solve.verify import verifier_of
from innerloop.tasks.task import Task

__all__ = ["Rules", "read_rules", "with_rules"]

CHECK_SECONDS = 10.0  # time limit to check one answer by the exact model


class Rules(NamedTuple):
    """What a file of rules offers."""

    rule: Callable[..., Any] | None
    constrain: Constrain | None


def read_rules(path: str) -> Rules:
    """The functions `rule` and `constrain` of a Python file that the user gave. Raises InputError where it has none."""
    module = plugins.module_of(plugins.use(path))
    rules = Rules(getattr(module, "rule", None), getattr(module, "constrain", None))
    if not any(rules) or not all(f is None or callable(f) for f in rules):
        raise InputError(
            f"{path} holds no rules: define rule(question, answer) -> bool, constrain(model, has, question), or both"
        )
    return rules


def with_rules(task: Any, rule: Callable[..., Any] | None = None, constrain: Constrain | None = None) -> Any:
    """The same task with rules added; `task` itself stays as it is.

    rule       judges an answer, as solve.verify.as_verifier takes it
    constrain  adds rules to the model of the exact solver, as Task.constrain does. Without `rule`, answers are judged
               by this model too, which takes about a millisecond each
    """
    if rule is None and constrain is None:
        return task
    # The task's own search for all answers knows nothing of the added rules; nor need they hold in another view.
    members: dict[str, Any] = {"every": Task.every, "solutions": Task.solutions, "symmetric": False}
    if constrain is not None:
        cp_sat()
        members["constrain"] = added(task, on_texts(constrain, task))
        if rule is None:
            rule = judged_by(subclassed(task, members))
            members["asks_model"] = True
    if rule is not None:
        check = verifier_of(task, on_texts(rule, task))
        members |= {"verifies": True, "valid_batch": lambda self, inputs, answers: check(inputs, answers)}
    return subclassed(task, members)


def subclassed(task: Any, members: dict[str, Any]) -> Any:
    """A copy of a task, of a subclass of its class with these members."""
    made = copy.copy(task)
    made.__class__ = type(type(task).__name__, (type(task),), members)
    for name in members:
        vars(made).pop(name, None)
    return made


def added(task: Any, constrain: Constrain) -> Callable[..., Any]:
    """`constrain` as a method of the task, after the task's own."""
    own = task.constrain if type(task).constrain is not Task.constrain else None

    def both(self: Any, model: Any, has: Callable[[int, int], Any], question: Tokens) -> Any:
        first = own(model, has, question) if own else None
        second = constrain(model, has, question)
        return first if second is None else second

    return both


def judged_by(task: Any) -> Callable[[Tokens, Tokens], bool]:
    """A rule that holds an answer right if the task's exact model allows it."""
    plain = subclassed(task, {"valid_batch": lambda self, inputs, answers: np.ones(len(inputs), bool)})

    def rule(question: Tokens, answer: Tokens) -> bool:
        domain = plain.domain(question)
        held = np.arange(plain.vocab) == answer[:, None]
        one = subclassed(plain, {"domain": lambda self, question: domain & held})
        return exact(one, question, seconds=CHECK_SECONDS).answer is not None

    return rule


# -- texts ------------------------------------------------------------------------------------------------------------


def on_texts(function: Callable[..., Any], task: Any) -> Any:
    """A function of texts as one of tokens; a function of tokens as it is."""
    if not callable(function):
        raise InputError(f"rules are functions, and this is {type(function).__name__}: give a function")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have none
        return function
    asked = parameters.get("question")
    if asked is None or asked.annotation not in (str, "str"):
        return function
    symbols = {symbol: token for token, symbol in enumerate(task.pad_symbol + task.charset)}

    def of_tokens(*given: Any) -> Any:
        if len(given) == 2:
            return function(*(task.decode(tokens) for tokens in one_pair(given)))
        model, has, question = given
        return function(model, lambda cell, symbol: has(cell, token_of(symbols, symbol, task)), task.decode(question))

    of_tokens.__name__ = getattr(function, "__name__", "rule")
    return of_tokens


def one_pair(given: tuple[NDArray[Any], NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    if given[0].ndim != 1:
        raise InputError("a rule on texts takes one puzzle at a time")  # a verifier finds out what a function takes
    return given


def token_of(symbols: dict[str, int], symbol: Any, task: Any) -> int:
    if symbol not in symbols:
        raise InputError(f"has(cell, {symbol!r}): {task.name} is written with {task.charset!r}, so give one of them")
    return symbols[symbol]
