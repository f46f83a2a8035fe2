"""Budget: a ledger with hard limits. What a call may cost at most is reserved before it is made, and settled after it.

    with limited(tokens=2000) as budget:
        longest = affordable("tokens_out", 512, tokens_in=40, calls=1)    # of these 512, what all open budgets allow
        with reserve(tokens_in=40, tokens_out=longest, calls=1) as held:  # raises OverBudget
            reply = ...                                                   # the call
            held.settle(tokens_in=40, tokens_out=len(reply), calls=1)     # the rest is free again

Budgets nest, and threads share them: a reservation holds in every open budget or in none, so no limit is ever passed,
whatever fails or runs at once. A call whose cost stays unknown, because it raised before `settle`, is charged with all
that was reserved for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from innerloop.errors import InputError
from innerloop.ledger import Ledger, charge, counting, in_this_context, open_ledgers

__all__ = ["SUMS", "Budget", "OverBudget", "Reservation", "affordable", "limited", "reserve", "share_of"]

UNITS = tuple(f.name for f in fields(Ledger))
SUMS = {"tokens": ("tokens_in", "tokens_out")}  # limits on sums of units
BELOW = 1 - 1e-12  # so that shares of money, whose sum is rounded, come to no more than there is
_lock = threading.RLock()  # of what is reserved in every budget


class OverBudget(InputError):
    """What was asked for may cost more than is left."""


class Budget(Ledger):
    """A ledger whose units have limits: `limits` maps a unit of Ledger, or "tokens" (in and out), to its most."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        super().__init__()
        for name, most in limits.items():
            if name not in UNITS and name not in SUMS:
                raise InputError(f"a budget has no {name}: limit one of {', '.join((*SUMS, *UNITS))}")
            if not most > 0:
                raise InputError(f"a budget of {name}={most:g} allows nothing: give a limit above 0")
        if not limits:
            raise InputError("a budget has no limit: give one, such as tokens=2000")
        self.limits = dict(limits)
        self.reserved = dict.fromkeys(UNITS, 0.0)

    def left(self, limit: str) -> float:
        """What is neither spent nor reserved of this limit; infinite where it has none."""
        units = SUMS.get(limit, (limit,))
        return self.limits.get(limit, float("inf")) - sum(getattr(self, u) + self.reserved[u] for u in units)

    def short_of(self, units: Mapping[str, float]) -> str:
        """The first limit that these units would pass; "" if none."""
        for limit in self.limits:
            wanted = sum(units.get(u, 0.0) for u in SUMS.get(limit, (limit,)))
            if wanted > self.left(limit) and (wanted or self.left(limit) < 0):
                return limit
        return ""

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left of some limit."""
        return any(self.left(limit) <= 0 for limit in self.limits)


def open_budgets() -> list[Budget]:
    """The budgets that are open in this thread or task, the outermost first."""
    return [ledger for ledger in open_ledgers() if isinstance(ledger, Budget)]


@contextmanager
def limited(budget: Budget | None = None, **limits: float) -> Iterator[Budget]:
    """Context in which costs are limited: by `budget`, or by a new one with these limits."""
    budget = Budget(limits) if budget is None else budget
    with counting(budget, flops="flops" in budget.limits) as opened:
        assert isinstance(opened, Budget)
        yield opened


def affordable(unit: str, most: float, **others: float) -> float:
    """The largest amount of `unit` up to `most` that all open budgets allow beside `others`; 0 or less: none."""
    with _lock:
        for budget in open_budgets():
            for limit in budget.limits:
                units = SUMS.get(limit, (limit,))
                if unit in units:
                    most = min(most, budget.left(limit) - sum(others.get(u, 0.0) for u in units))
    return most


def share_of(parts: int) -> dict[str, float]:
    """An equal share, of so many, of what is left of every limit of the open budgets, in whole numbers but
    for money.

    Calls that run at once under one share each do not depend on which of them is first. Raises OverBudget for none.
    """
    shares: dict[str, float] = {}
    with _lock:
        for budget in open_budgets():
            for limit in budget.limits:
                left = budget.left(limit)
                share = left / parts * BELOW if limit == "money" else left // parts
                shares[limit] = min(shares.get(limit, float("inf")), share)
    for limit, share in shares.items():
        if share <= 0:
            raise OverBudget(f"what is left of {limit} does not suffice for {parts} calls: give a larger budget")
    return shares


class Reservation:
    """Units that are set aside in all open budgets until they are settled."""

    def __init__(self, units: Mapping[str, float]) -> None:
        self.units, self.open = dict(units), True
        self.budgets, self._charge = open_budgets(), in_this_context(charge)
        with _lock:
            for budget in self.budgets:
                if limit := budget.short_of(units):
                    wanted = sum(units.get(u, 0.0) for u in SUMS.get(limit, (limit,)))
                    raise OverBudget(
                        f"the next call may cost {wanted:g} {limit}, and {max(0.0, budget.left(limit)):g} are left of "
                        f"{budget.limits[limit]:g}: give a larger budget"
                    )
            self._hold(1)

    def _hold(self, sign: int) -> None:
        for budget in self.budgets:
            for unit, amount in self.units.items():
                budget.reserved[unit] += sign * amount

    def settle(self, **spent: float) -> None:
        """Charge what was spent, to all ledgers that were open at the reservation, and free the rest.

        Raises InputError, after it has charged, if a unit that has a limit cost more than was reserved.
        """
        if not self.open:
            raise InputError("this reservation is settled already")
        self.open = False
        with _lock:
            self._hold(-1)
            self._charge(**spent)
        limited_units = {u for budget in self.budgets for limit in budget.limits for u in SUMS.get(limit, (limit,))}
        more = [u for u in limited_units & spent.keys() if spent[u] > self.units.get(u, 0.0) + 1e-9]
        if more:
            raise InputError(
                f"a call cost {spent[more[0]]:g} {more[0]}, where {self.units.get(more[0], 0.0):g} were reserved for it"
            )


@contextmanager
def reserve(**units: float) -> Iterator[Reservation]:
    """Set these units aside in all open budgets. Raises OverBudget, and sets nothing aside, if one allows less.

    Where the block ends without `settle`, all of it is charged.
    """
    if unknown := [u for u in units if u not in UNITS]:
        raise InputError(f"a ledger has no {unknown[0]}: it has {', '.join(UNITS)}")
    held = Reservation(units)
    try:
        yield held
    finally:
        if held.open:
            held.settle(**units)
