"""Marks: right, wrong, unparsed or cut, and verifiers that a person gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from innerloop import plugins
from innerloop.errors import InputError
from innerloop.text import printable
from innerloop.tokens.answers import same
from innerloop.tokens.math_judge import judge_in_words
from innerloop.tokens.way import Check, Item, Said, Verdict

__all__ = ["MARKS", "ORACLE", "judges", "mark", "verifier", "with_verifier"]

MARKS = ("right", "wrong", "unparsed", "cut")
ORACLE = "answers"  # the verifier that knows the right answers: an upper bound, and no method


def mark(item: Item, said: Said) -> str:
    """What the result of a way is worth. Raises InputError for a question of which nothing tells what is right."""
    if said.answer is None:
        return "cut" if said.outcome == "cut" else "unparsed"
    if item.judge is not None:
        return "right" if item.judge(said.answer).right else "wrong"
    if item.answer is not None:
        return "right" if same(item.kind, said.answer, item.answer) else "wrong"
    if item.check is None:
        raise InputError(f"the question {item.id} has neither an answer nor a verifier, so nothing can be marked")
    return "right" if item.check(said.answer).right else "wrong"


def judges(items: Sequence[Item]) -> list[str]:
    """What marks the answers where it is more than their equality, in words; each once."""
    told = {getattr(i.judge or i.check, "about", "") for i in items if i.judge or i.answer is None}
    told |= {f"answers in LaTeX by {judge_in_words()}" for i in items if i.kind == "math" and i.judge is None}
    return sorted(filter(None, told))


def with_verifier(items: Sequence[Item], verify: str) -> list[Item]:
    """The questions with a verifier: a Python file with check(question, answer), or "answers".

    check returns True, False, or a text that says what is wrong. With "answers" the right answer itself verifies: what
    it selects is an upper bound, since nobody has such a verifier.
    """
    if not verify:
        return list(items)
    if verify == ORACLE:
        if missing := [i.id for i in items if i.answer is None and i.judge is None and i.check is None]:
            raise InputError(f'the verifier "{ORACLE}" needs right answers, and the question {missing[0]} has none')
        return [replace(item, check=oracle(item)) for item in items]
    check_of = verifier(verify)
    return [replace(item, check=check_of(item)) for item in items]


def verifier(path: str) -> Callable[[Item], Check]:
    """The function check(question, answer) of a Python file, which is run once, as the check of any question."""
    function = getattr(plugins.module_of(plugins.use(path)), "check", None)
    if not callable(function):
        raise InputError(f"{printable(path, 200)} has no function check(question, answer)")
    return partial(of_function, function)


def oracle(item: Item) -> Check:
    """What marks the answers, as a verifier."""
    if known := item.judge or (item.check if item.answer is None else None):
        return known
    return lambda answer: Verdict(same(item.kind, answer, item.answer))


def of_function(function: Callable[..., object], item: Item) -> Check:
    """A function of question and answer as the check of one item."""

    def check(answer: str) -> Verdict:
        try:
            result = function(item.question, answer)
        except Exception as error:
            raise InputError(f"check() raised {type(error).__name__} for the question {item.id}: {error}") from error
        if isinstance(result, bool):
            return Verdict(result)
        if isinstance(result, str):
            return Verdict(False, result)
        raise InputError(
            f"check() returned {type(result).__name__} for the question {item.id}: return True, False or what is wrong"
        )

    return check
