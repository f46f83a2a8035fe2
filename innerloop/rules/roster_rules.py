"""The rules of a roster, one class each: which cells break it, in whose words, for an exact solver, and how to mend it.

A rule is whole when it has four methods, and every use of it follows from them: verifying and pictures (`broken`),
explaining (`words`), CP-SAT (`constrain`), generating with exact labels (`mend`). Sizes: B rosters, N people, D days,
K kinds of shift; a shift is 0 = off or 1 .. K.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = [
    "Clause",
    "Cover",
    "Limit",
    "Names",
    "Rest",
    "RosterCase",
    "Rule",
    "Sheet",
    "Skills",
    "Stretch",
    "blank",
    "split",
]


class Sheet(NamedTuple):
    """A roster in plain numbers. In rules every field has a leading axis of B rosters."""

    shift: np.ndarray  # int (N, D): 0 off, 1 .. K the kind of shift
    need: np.ndarray  # int (D, K): fewest people on each shift
    able: np.ndarray  # bool (N, K): who may work which kind
    limit: np.ndarray  # int (N,): most working days in all
    stretch: np.ndarray  # int (): most working days in a row
    absent: np.ndarray  # bool (N, D): cannot work, whatever the old roster said
    fixed: np.ndarray  # bool (N, D): stays as it is
    wish: np.ndarray  # int (N, D): the shift (0: off) that was asked for, -1 for none


class RosterCase(NamedTuple):
    """One roster as the search sees it, in lists: `rows` changes under its hands, the rest does not."""

    rows: list[list[int]]  # [N][D] shifts
    need: list[list[int]]  # [D][K]
    able: list[int]  # [N] bits: 1 << shift, bit 0 always set
    limit: list[int]
    stretch: int


class Clause(NamedTuple):
    """A broken rule, as what would mend it: `missing` of these cells must come to hold a shift of their bits."""

    line: int  # whose row it was seen in, or ~day, for a column
    cells: list[tuple[int, int, int]]  # person, day, bits of shifts
    missing: int = 1


class Names(NamedTuple):
    """What people, days and shifts are called."""

    people: Sequence[str]
    days: Sequence[str]
    shifts: Sequence[str]  # K + 1 of them, off first


class Rule(Protocol):
    def broken(self, s: Sheet) -> np.ndarray:
        """bool (B, N + K, 2 + D): cells of the token grid at fault, cover rows below the people."""

    def words(self, s: Sheet, names: Names) -> list[str]:
        """One sentence a fault of the only roster of `s` (B = 1)."""

    def constrain(self, model: Any, on: list[list[list[Any]]], s: Sheet) -> None:
        """Add the rule to a CP-SAT model: on[person][day][shift] is a variable or 0 or 1, `s` one roster without B."""

    def mend(self, case: RosterCase, people: Iterable[int], days: Iterable[int]) -> list[Clause]:
        """What is broken in the rows of `people` and the columns of `days`, of each row and column at least one."""


def blank(s: Sheet) -> np.ndarray:
    """bool (B, N + K, 2 + D), all False: the token grid."""
    b, n, d = s.shift.shape
    return np.zeros((b, n + s.need.shape[2], 2 + d), bool)


def split(literals: Iterable[Any]) -> tuple[list[Any], int]:
    """The variables among these, and the sum of those that are 0 or 1 already."""
    literals = list(literals)
    return [x for x in literals if not isinstance(x, int)], sum(x for x in literals if isinstance(x, int))


class Cover:
    """Every shift has as many people as it needs, or up to `spare` more. At fault is the number in the cover row."""

    def __init__(self, spare: int = 0):
        self.spare = spare

    def broken(self, s: Sheet) -> np.ndarray:
        grid, people = blank(s), s.shift.shape[1]
        for k in range(s.need.shape[2]):
            count = (s.shift == k + 1).sum(1)
            grid[:, people + k, 2:] = (count < s.need[:, :, k]) | (count > s.need[:, :, k] + self.spare)
        return grid

    def words(self, s: Sheet, names: Names) -> list[str]:
        found = []
        for d, need in enumerate(s.need[0].tolist()):
            for k, wanted in enumerate(need, 1):
                there = int((s.shift[0, :, d] == k).sum())
                if not wanted <= there <= wanted + self.spare:
                    most = f" to {wanted + self.spare}" if self.spare else ""
                    found.append(f"{names.days[d]}: {there} on {names.shifts[k]}, where {wanted}{most} are needed")
        return found

    def constrain(self, model: Any, on: list[list[list[Any]]], s: Sheet) -> None:
        for d, need in enumerate(s.need.tolist()):
            for k, wanted in enumerate(need, 1):
                people, there = split(row[d][k] for row in on)
                model.add(sum(people) >= wanted - there)
                model.add(sum(people) <= wanted - there + self.spare)

    def mend(self, case: RosterCase, people: Iterable[int], days: Iterable[int]) -> list[Clause]:
        found = []
        for d in days:
            column = [row[d] for row in case.rows]
            for k, wanted in enumerate(case.need[d], 1):
                there = column.count(k)
                if there < wanted:
                    found.append(Clause(~d, [(i, d, 1 << k) for i, v in enumerate(column) if v != k], wanted - there))
                elif there > wanted + self.spare:
                    over = there - wanted - self.spare
                    found.append(Clause(~d, [(i, d, ~(1 << k)) for i, v in enumerate(column) if v == k], over))
        return found


class Skills:
    """Nobody works a shift they may not."""

    def broken(self, s: Sheet) -> np.ndarray:
        grid, people = blank(s), s.shift.shape[1]
        for k in range(s.need.shape[2]):
            grid[:, :people, 2:] |= (s.shift == k + 1) & ~s.able[:, :, None, k]
        return grid

    def words(self, s: Sheet, names: Names) -> list[str]:
        people = s.shift.shape[1]
        faults = np.argwhere(self.broken(s)[0, :people, 2:]).tolist()
        return [
            f"{names.people[i]} may not work {names.shifts[int(s.shift[0, i, d])]}, but does on {names.days[d]}"
            for i, d in faults
        ]

    def constrain(self, model: Any, on: list[list[list[Any]]], s: Sheet) -> None:
        for row, able in zip(on, s.able.tolist(), strict=True):
            for k, may in enumerate(able, 1):
                if not may:
                    model.add(sum(cell[k] for cell in row) == 0)

    def mend(self, case: RosterCase, people: Iterable[int], days: Iterable[int]) -> list[Clause]:
        return [
            Clause(i, [(i, d, ~(1 << v))])
            for i in people
            for d, v in enumerate(case.rows[i])
            if not case.able[i] >> v & 1
        ]


class Rest:
    """Some shifts must not follow others on the next day. `pairs`: (shift, shift of the next day), forbidden."""

    def __init__(self, shifts: int, pairs: Iterable[tuple[int, int]]):
        self.pairs = sorted(pairs)
        self.table = np.zeros((shifts + 1, shifts + 1), bool)
        for a, b in self.pairs:
            self.table[a, b] = True
        self._lists: list[list[bool]] = self.table.tolist()
        self._base, self._flat = shifts + 1, self.table.reshape(-1)

    def _tired(self, s: Sheet) -> np.ndarray:
        """bool (B, N, D - 1)"""
        pair = s.shift[:, :, :-1] * self._base + s.shift[:, :, 1:]
        return self._flat.take(pair)  # type: ignore[no-any-return]

    def broken(self, s: Sheet) -> np.ndarray:
        grid, people, tired = blank(s), s.shift.shape[1], self._tired(s)
        grid[:, :people, 2:-1] |= tired
        grid[:, :people, 3:] |= tired
        return grid

    def words(self, s: Sheet, names: Names) -> list[str]:
        found = []
        for i, d in np.argwhere(self._tired(s)[0]).tolist():
            a, b = (names.shifts[int(v)] for v in s.shift[0, i, d : d + 2])
            found.append(f"{names.people[i]}: {b} on {names.days[d + 1]} leaves too little rest after {a}")
        return found

    def constrain(self, model: Any, on: list[list[list[Any]]], s: Sheet) -> None:
        for row in on:
            for today, tomorrow in pairwise(row):
                for a in {a for a, _ in self.pairs}:  # tomorrow holds one shift, so at most one of these is true
                    variables, held = split([today[a], *(tomorrow[b] for c, b in self.pairs if c == a)])
                    model.add(sum(variables) <= 1 - held)

    def mend(self, case: RosterCase, people: Iterable[int], days: Iterable[int]) -> list[Clause]:
        found = []
        for i in people:
            row = case.rows[i]
            for d in range(len(row) - 1):
                if self._lists[row[d]][row[d + 1]]:
                    found.append(Clause(i, [(i, d, ~(1 << row[d])), (i, d + 1, ~(1 << row[d + 1]))]))
                    break  # one clause a person: a change may mend two pairs
        return found


class Stretch:
    """Nobody works more than `stretch` days in a row."""

    def _runs(self, s: Sheet) -> np.ndarray:
        """int (B, N, D): working days in a row up to and with each day."""
        work = s.shift > 0
        runs = np.zeros(work.shape, np.int8)
        length = runs[:, :, 0]
        for d in range(work.shape[2]):
            length = (length + 1) * work[:, :, d]
            runs[:, :, d] = length
        return runs

    def broken(self, s: Sheet) -> np.ndarray:
        grid, people, days = blank(s), s.shift.shape[1], s.shift.shape[2]
        late = self._runs(s) > s.stretch[:, None, None]
        if late.any():  # then the whole run is at fault, not its end alone
            for d in range(days - 1, 0, -1):
                late[:, :, d - 1] |= late[:, :, d] & (s.shift[:, :, d - 1] > 0)
            grid[:, :people, 2:] = late
        return grid

    def words(self, s: Sheet, names: Names) -> list[str]:
        found, runs, most = [], self._runs(s)[0], int(s.stretch[0])
        for i, row in enumerate(runs.tolist()):
            for d, length in enumerate(row):
                if length > most and (d + 1 == len(row) or row[d + 1] == 0):
                    span = f"{names.days[d - length + 1]} to {names.days[d]}"
                    found.append(f"{names.people[i]} works {length} days in a row, {span}; at most {most}")
        return found

    def constrain(self, model: Any, on: list[list[list[Any]]], s: Sheet) -> None:
        window = int(s.stretch) + 1
        for row in on:
            for first in range(len(row) - window + 1):
                variables, off = split(cell[0] for cell in row[first : first + window])
                if not off:
                    model.add_bool_or(variables)

    def mend(self, case: RosterCase, people: Iterable[int], days: Iterable[int]) -> list[Clause]:
        found = []
        for i in people:
            length = 0
            for d, v in enumerate(case.rows[i]):
                length = length + 1 if v else 0
                if length > case.stretch:
                    found.append(Clause(i, [(i, e, 1) for e in range(d - length + 1, d + 1)]))
                    break
        return found


class Limit:
    """Nobody works more days in all than their contract says. At fault is the number in the person's second column."""

    def broken(self, s: Sheet) -> np.ndarray:
        grid, people = blank(s), s.shift.shape[1]
        grid[:, :people, 1] = (s.shift > 0).sum(2) > s.limit
        return grid

    def words(self, s: Sheet, names: Names) -> list[str]:
        worked, limit = (s.shift[0] > 0).sum(1).tolist(), s.limit[0].tolist()
        return [
            f"{names.people[i]} works {w} days; at most {m}"
            for i, (w, m) in enumerate(zip(worked, limit, strict=True))
            if w > m
        ]

    def constrain(self, model: Any, on: list[list[list[Any]]], s: Sheet) -> None:
        for row, most in zip(on, s.limit.tolist(), strict=True):
            variables, off = split(cell[0] for cell in row)
            model.add(sum(variables) >= len(row) - most - off)

    def mend(self, case: RosterCase, people: Iterable[int], days: Iterable[int]) -> list[Clause]:
        found = []
        for i in people:
            working = [(i, d, 1) for d, v in enumerate(case.rows[i]) if v]
            if len(working) > case.limit[i]:
                found.append(Clause(i, working, len(working) - case.limit[i]))
        return found
