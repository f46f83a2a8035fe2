"""Which steps are on the tape. A rule owns the loop it runs, because some rules replace the tape.

A rule is called as rule(schedule, step, s): run step(name, s) for every name of the schedule, return the last s.
Truncation is declared here and nowhere else: no other file writes `no_grad` around a loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from innerloop.errors import InputError

Step = Callable[[str, Any], Any]
Rule = Callable[[Sequence[str], Step, Any], Any]


def full(schedule: Sequence[str], step: Step, s: Any) -> Any:
    """Backpropagation through every step."""
    for name in schedule:
        s = step(name, s)
    return s


def last(k: int) -> Rule:
    """The last `k` steps only. One-step gradient of HRM: last(2), one low and one high call (arXiv 2506.21734)."""
    if k < 0:
        raise InputError(f"last({k}) keeps a negative number of steps: give 0 or more")
    return lambda schedule, step, s: _suffix(k, schedule, step, s)


def last_cycle(schedule: Sequence[str], step: Step, s: Any) -> Any:
    """From the step after the previous occurrence of the final name: TRM's last L...L H (arXiv 2510.04871)."""
    *before, final = schedule
    k = before[::-1].index(final) + 1 if final in before else len(schedule)
    return _suffix(k, schedule, step, s)


def _suffix(k: int, schedule: Sequence[str], step: Step, s: Any) -> Any:
    cut = max(0, len(schedule) - k)
    with torch.no_grad():
        s = full(schedule[:cut], step, s)
    return full(schedule[cut:], step, s)


def named(text: str) -> Rule:
    """The rule a configuration writes as text: "full", "last_cycle" or "last(2)". Raises InputError otherwise."""
    if text in ("full", "last_cycle"):
        return full if text == "full" else last_cycle
    if found := re.fullmatch(r"last\((\d+)\)", text):
        return last(int(found[1]))
    raise InputError(
        f'no gradient rule is called "{text}": use "full", "last_cycle" or "last(2)" with a number of steps'
    )
