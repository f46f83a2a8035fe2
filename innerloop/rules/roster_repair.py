"""Exact repair of small disruptions: the cheapest change of a roster, found where rules are broken and nowhere else.

A repair differs from the old roster in some cell of every broken rule, so the search branches on one broken rule at a
time: on the cells, and the shifts in them, that would mend it (`Rule.mend`), each option barring those before it. No
repair is met twice. While a change weighs more than a request, no change is worth making that mends nothing, so what is
found is the optimum. The cost is deepened step by step (IDA*, Korf 1985), under a bound by which every fault costs its
cheapest change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from innerloop.rules.roster_rules import Clause, RosterCase, Rule, Sheet

__all__ = ["NodeBudgetExceeded", "RepairSearch", "RosterRepair"]

Change = tuple[int, int, int]  # person, day, shift
Option = tuple[int, float, Change]  # price, order among equals, change
STAY = 0.6  # how often a request asks for what is, where it could also ask for what will be


class NodeBudgetExceeded(Exception):
    """The search went over its budget of nodes."""


class RosterRepair(NamedTuple):
    """shift: int (N, D), the repaired roster; cost: against the old one; nodes: of the search."""

    shift: np.ndarray
    cost: int
    nodes: int


class RepairSearch:
    """One disrupted roster under `rules`. weights: of a change, of an unmet request. rng: orders what costs the same.

    `wish` starts as the sheet's; `best(unique=True)` adds requests to it. Raises GaveUp after `budget` nodes.
    """

    def __init__(
        self, sheet: Sheet, rules: Sequence[Rule], weights: tuple[int, int], rng: np.random.Generator, budget: int
    ):
        people, days = sheet.shift.shape
        self.rules, self.rng, self.budget, self.nodes = rules, rng, budget, 0
        self.before, self.limit, self.next, self.enough = -1.0, -1.0, 0.0, False
        (self.change, self.request), self.kinds = weights, sheet.able.shape[1] + 1
        self.old: list[list[int]] = np.where(sheet.absent, 0, sheet.shift).tolist()
        able = (1 + (sheet.able << np.arange(1, self.kinds)).sum(1)).tolist()
        rows = [row.copy() for row in self.old]
        self.case = RosterCase(rows, sheet.need.tolist(), able, sheet.limit.tolist(), int(sheet.stretch))
        held = (sheet.absent | sheet.fixed).tolist()
        self.may = [[1 << self.old[i][d] if held[i][d] else able[i] for d in range(days)] for i in range(people)]
        self.rank: list[list[float]] = rng.random((people, days)).tolist()
        self.price = [[[self.change] * self.kinds] * days for _ in range(people)]
        self.wish, self.unmet = [[-1] * days for _ in range(people)], 0
        for i, d in np.argwhere(sheet.wish >= 0).tolist():
            self.ask(i, d, int(sheet.wish[i, d]))
        self.path: list[Change] = []
        self.faults = [clause for rule in rules for clause in rule.mend(self.case, range(people), range(days))]

    # --- what it is asked ---------------------------------------------------------------------------------------------
    def best(self, unique: bool = False) -> RosterRepair | None:
        """The cheapest repair, or None where there is none. unique: until no other is as cheap, requests are added to
        `wish` in cells that had none; the repair found meets them, its rivals do not.
        """
        kept: list[list[Change]] = []

        def leaf(_cost: int) -> list[Option]:
            if not kept:
                kept.append(self.path.copy())
                self.enough = not unique
            elif self.cost(self.path) == self.cost(kept[0]):
                self._tell_apart(kept[0], self.path)
                self.limit = self.cost(kept[0]) - self.request * self.unmet
            return []

        for _ in self._deeper(leaf):
            if kept:
                shift = np.array(self.old)
                for i, d, v in kept[0]:
                    shift[i, d] = v
                return RosterRepair(shift, self.cost(kept[0]), self.nodes)
        return None

    def every(self, limit: int) -> list[np.ndarray]:
        """The `limit` cheapest valid rosters int (N, D), all different, cheapest first; fewer only if there are no
        more.
        """
        found: list[np.ndarray] = []

        def leaf(cost: int) -> list[Option]:
            if cost > self.before:  # else it is known already
                found.append(np.array(self.case.rows))
                self.enough = len(found) >= limit
            options = []  # to go on to: valid rosters that differ from this one in some cell still open
            for i, row in enumerate(self.may):
                for d, bits in enumerate(row):
                    bits &= ~(1 << self.case.rows[i][d])
                    options += [(self.price[i][d][v], 0.0, (i, d, v)) for v in range(self.kinds) if bits >> v & 1]
            dear = [cost + price for price, _, _ in options if cost + price > self.limit]
            self.next = min(self.next, *dear, math.inf)
            return [option for option in options if cost + option[0] <= self.limit]

        for _ in self._deeper(leaf):
            if self.enough:
                break
        return found[:limit]

    # --- what a repair costs ------------------------------------------------------------------------------------------
    def ask(self, i: int, d: int, wish: int) -> None:
        """Note a request and what it adds to the cost that this cell, unchanged so far, comes to hold each shift."""
        self.wish[i][d] = wish
        self.unmet += wish != self.old[i][d]
        add = self.change + self.request * (wish == self.old[i][d])
        self.price[i][d] = [add - self.request * (wish == v) for v in range(self.kinds)]

    def cost(self, changes: list[Change]) -> int:
        """Of a repair: changes and unmet requests, also those of the old roster."""
        return self.request * self.unmet + sum(self.price[i][d][v] for i, d, v in changes)

    # --- the search ---------------------------------------------------------------------------------------------------
    def _after(self, clauses: list[Clause], i: int, d: int) -> list[Clause]:
        """What is broken after a change of this cell, where `clauses` were broken before."""
        self.nodes += 1
        if self.nodes > self.budget:
            raise NodeBudgetExceeded
        seen = [clause for rule in self.rules for clause in rule.mend(self.case, (i,), (d,))]
        return [c for c in clauses if c.line not in (i, ~d)] + seen

    def _options(self, clauses: list[Clause]) -> tuple[list[Option], float]:
        """The ways to mend the clause that leaves the fewest, and a lower bound of what mending all of them costs.

        Clauses that share no change cost at least the sum of their cheapest ones.
        """
        fewest: list[Option] | None = None
        bound, used = 0.0, set[Change]()
        for clause in clauses:
            options: list[Option] = []
            for i, d, bits in clause.cells:
                bits &= self.may[i][d] & ~(1 << self.case.rows[i][d])
                while bits:
                    v = bits.bit_length() - 1
                    bits ^= 1 << v
                    options.append((self.price[i][d][v], self.rank[i][d], (i, d, v)))
            if len(options) < clause.missing:
                return [], math.inf
            options.sort()
            if fewest is None or len(options) < len(fewest):
                fewest = options
            changes = [change for _, _, change in options]
            if used.isdisjoint(changes):
                bound += sum(price for price, _, _ in options[: clause.missing])
                used.update(changes)
        return fewest or [], bound

    def _take(self, options: list[Option]) -> Iterator[int]:
        """Make each change in turn, give its price, undo it, and bar it from those that follow."""
        barred = []
        for _, _, (i, d, v) in options:
            row, may = self.case.rows[i], self.may[i]
            allowed, now = may[d], row[d]
            may[d], row[d] = 1 << v, v
            self.path.append((i, d, v))
            yield self.price[i][d][v]  # a request may have been added since the options were listed
            self.path.pop()
            row[d], may[d] = now, allowed & ~(1 << v)
            barred.append((may, d, allowed))
        for may, d, allowed in reversed(barred):
            may[d] = allowed

    def _deeper(self, leaf: Callable[[int], list[Option]]) -> Iterator[None]:
        """Visit all repairs of the next higher cost, again and again, until there is none; cheaper ones come along."""
        while not math.isinf(self.next):
            self.before, self.limit, self.next = self.limit, self.next, math.inf
            self._visit(self.faults, 0, leaf)
            yield

    def _visit(self, clauses: list[Clause], cost: int, leaf: Callable[[int], list[Option]]) -> None:
        """`cost`: what the path adds to the old roster's; a request added meanwhile may make it too low, never high.
        leaf(cost): called for every valid roster that is not too dear; gives what to try beyond it.
        """
        options, bound = self._options(clauses) if clauses else ([], 0.0)
        if cost + bound > self.limit:
            self.next = min(self.next, cost + bound)
            return
        for price in self._take(options if clauses else leaf(cost)):
            if not self.enough:
                self._visit(self._after(clauses, *self.path[-1][:2]), cost + price, leaf)

    def _tell_apart(self, kept: list[Change], rival: list[Change]) -> None:
        """Add a request that `kept` meets and `rival` does not."""
        mine, theirs = ({(i, d): v for i, d, v in changes} for changes in (kept, rival))
        stay = [(i, d, self.old[i][d]) for i, d in theirs if (i, d) not in mine]
        come = [(i, d, v) for (i, d), v in mine.items() if theirs.get((i, d)) != v]
        stay, come = ([c for c in cells if self.wish[c[0]][c[1]] < 0] for cells in (stay, come))
        chosen = stay if stay and (not come or self.rng.random() < STAY) else come
        if not chosen:
            raise NodeBudgetExceeded
        i, d, v = chosen[int(self.rng.integers(len(chosen)))]
        self.ask(i, d, v)
