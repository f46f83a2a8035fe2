"""samples: independent samples of a way for as long as the budget lasts, and their majority: the null arm of `compare`.

Whatever another way does with the same budget has to beat this. Another sample is begun only if the dearest so far
would still fit, so that none is cut by the budget after the first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from innerloop.budget import open_budgets
from innerloop.errors import InputError
from innerloop.ledger import Ledger, counting
from innerloop.tokens.way import Asked, Said, State, Way, answer, majority, need_sampling, subkey

__all__ = ["Samples", "majority_of_first", "spent_on"]


class Samples(Way):
    """Up to `most` samples of the way `inner`, one after the other."""

    def __init__(self, inner: Way, most: int = 64) -> None:
        if most < 1:
            raise InputError(f"samples of most={most}: give 1 or more")
        need_sampling(inner, most)
        self.inner, self.depth, self.model = inner, most, inner.model

    def advance(self, s: State, x: Asked) -> State:
        """One more sample; its cost is kept in its details."""
        with counting() as cost:
            said = answer(self.inner, x.item, subkey(s.key, "sample", s.phase), (*x.path, s.phase))
        said = replace(said, details=said.details | {"spent": spent_on(cost)})
        samples = (*s.samples, said)
        done = not fits_another(samples)
        return s._replace(samples=samples, phase=s.phase + 1, done=done, cut=said.outcome == "cut" and not s.samples)

    def read(self, s: State) -> Said:
        return majority_of_first(s.samples, len(s.samples))


def fits_another(samples: tuple[Said, ...]) -> bool:
    """Whether every open budget has room for as much as the dearest sample has cost so far."""
    for budget in open_budgets():
        for limit in budget.limits:
            dearest = max(said.details["spent"].get(limit, 0.0) for said in samples)
            if dearest > budget.left(limit):
                return False
    return True


def spent_on(cost: Ledger) -> dict[str, float]:
    """What was spent, by unit, and "tokens" for both kinds of them."""
    units: dict[str, Any] = {k: v for k, v in vars(cost).items() if isinstance(v, int | float) and v}
    return units | {"tokens": cost.tokens_in + cost.tokens_out}


def majority_of_first(samples: tuple[Said, ...], k: int) -> Said:
    """What a vote over the first k samples says."""
    first = samples[:k]
    winner, share = majority(first)
    if winner is None:
        outcome = "cut" if not first or all(said.outcome == "cut" for said in first) else "unparsed"
        return Said(None, outcome, "", share, first)
    best = first[winner]
    return Said(best.answer, "answered", best.text, share, first, winner)
