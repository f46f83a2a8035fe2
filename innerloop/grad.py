"""Which updates autograd records: what is "on the tape". Truncation is declared here and nowhere else.

A rule is called as rule(schedule, update, s): it runs update(name, s) for every name of the schedule and returns the
last s. It runs them itself, rather than marking some, because a rule may replace the tape by something else (implicit
differentiation). `think` passes its steps as updates; a system whose step is made of several passes those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from innerloop.errors import InputError

Update = Callable[[str, Any], Any]
Rule = Callable[[Sequence[str], Update, Any], Any]


def full(schedule: Sequence[str], update: Update, s: Any) -> Any:
    """Every update is recorded: backpropagation through all of them."""
    for name in schedule:
        s = update(name, s)
    return s


def last(k: int) -> Rule:
    """The last `k` updates only. HRM's one-step gradient is last(2), one low and one high call (arXiv 2506.21734).

    In `think` they are counted from its depth: an example that stopped before them gets no gradient through its steps.
    """
    if k < 0:
        raise InputError(f"last({k}) keeps a negative number of updates: give 0 or more")
    return lambda schedule, update, s: _suffix(k, schedule, update, s)


def last_cycle(schedule: Sequence[str], update: Update, s: Any) -> Any:
    """What follows the previous occurrence of the final name: the last z...z y of TRM (arXiv 2510.04871)."""
    *before, final = schedule
    k = before[::-1].index(final) + 1 if final in before else len(schedule)
    return _suffix(k, schedule, update, s)


def _suffix(k: int, schedule: Sequence[str], update: Update, s: Any) -> Any:
    cut = max(0, len(schedule) - k)
    with torch.no_grad():
        s = full(schedule[:cut], update, s)
    return full(schedule[cut:], update, s)


def named(text: str) -> Rule:
    """The rule a configuration writes as text: "full", "last_cycle" or "last(2)". Raises InputError otherwise."""
    if text in ("full", "last_cycle"):
        return full if text == "full" else last_cycle
    if found := re.fullmatch(r"last\((\d+)\)", text):
        return last(int(found[1]))
    raise InputError(
        f'no gradient rule is called "{text}": use "full", "last_cycle" or "last(2)" with a number of updates'
    )
