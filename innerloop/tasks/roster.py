"""Shift rostering with repair: somebody falls ill or more people are needed; change a valid roster as little as can be.

    -    5    ⓐ    ⓑ    ⓒ   ..        most working days in a row; the days
    ⠇    5    E    e    +   ..  Ada   a person's skills (which kinds of shift they may work), most working days in all,
    ⠃    4    .    L    β   ..  Ben   and old roster. E L N, . off: may change; e l n -: fixed (past, or leave);
    ⠄    3    n    N    ζ   ..  Cem   + absent; Greek: has one shift, asks for one, and may change
    e    -    ¹    ²    ²   ..        the cover: people needed on E,
    l    -    ₁    ₂    ₁   ..        on L,
    n    -    ①    ①    ⓪   ..        and on N

The answer has the same shape. What is information stays, and so does what may be done to a cell: where a question says
"has E, asks to be off", the answer says "has nothing, asked to be off". So an answer can be read as the next question.

A valid answer keeps the rules of roster_rules: cover, skills, rest, most days in a row, most days in all. Its `cost`
weighs changes against unmet requests. Generated questions have exactly one cheapest answer, which is their label; the
rating is the number of cells that it changes. Another valid answer is not wrong, so besides `exact` look at `valid` and
`cost`. Symmetries: people in any order; and read backwards, with the kinds of shift in reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from innerloop.data import roster_picture
from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.rules.bounds import SearchBound, Undecided
from innerloop.rules.roster_code import FIXED, RosterCode
from innerloop.rules.roster_disrupt import disrupt, random_roster
from innerloop.rules.roster_repair import NodeBudgetExceeded, RepairSearch
from innerloop.rules.roster_rules import Cover, Limit, Names, Rest, Rule, Sheet, Skills, Stretch
from innerloop.rules.symmetry import Views
from innerloop.tasks.task import Task, item_rng

__all__ = ["Roster"]

BUDGET, LARGE = 400, 5_000  # nodes of a search: for a generated question, for one that is given
TRIES = 200


class Roster(Task):
    """`staff` people on `days` days, in the kinds of shift that `shifts` names by a capital letter each, in the order
    of a day.

    stretch: most working days in a row of generated rosters (default: 5, or days - 1). spare: people by which a shift
    may be over its cover. rest: pairs of shifts of which the second must not follow on the next day, such as "NE"
    (default: each earlier shift after a later one). weights: of a change and of an unmet request, whole numbers; a
    change weighs more, so that nothing is changed for a request's sake alone. disruptions: (fewest, most) of generated
    questions: an illness of up to four days, or one more person needed.

    A subclass may have `added` rules (docs/rostering.md). `names` is what people, days and shifts are called in words
    and pictures. Raises InputError for sizes that cannot be rostered and options that contradict each other.
    """

    name = "roster"
    rating_counts = "cells to change"
    added: tuple[Rule, ...] = ()

    def __init__(
        self,
        staff: int = 10,
        days: int = 7,
        shifts: str = "ELN",
        stretch: int | None = None,
        spare: int = 0,
        rest: tuple[str, ...] | None = None,
        weights: tuple[int, int] = (2, 1),
        disruptions: tuple[int, int] = (1, 2),
    ):
        kinds = len(shifts)
        stretch = min(5, days - 1) if stretch is None else stretch
        pairs = tuple(a + b for i, a in enumerate(shifts) for b in shifts[:i]) if rest is None else tuple(rest)
        _check(staff, days, shifts, stretch, spare, pairs, weights, disruptions)
        self.staff, self.days, self.kinds, self.stretch, self.spare = staff, days, kinds, stretch, spare
        self.weights, self.disruptions = (int(weights[0]), int(weights[1])), (int(disruptions[0]), int(disruptions[1]))
        self.rest = Rest(kinds, [(shifts.index(pair[0]) + 1, shifts.index(pair[1]) + 1) for pair in pairs])
        self.rules: tuple[Rule, ...] = (Cover(spare), Skills(), self.rest, Stretch(), Limit(), *self.added)
        people, dates = ([f"{word} {i + 1}" for i in range(n)] for word, n in (("person", staff), ("day", days)))
        self.names = Names(people, dates, ["off", *shifts])
        self.code = RosterCode(staff, days, shifts)
        self.charset, self.vocab, self.shape = self.code.charset, self.code.vocab, self.code.shape
        self._units()
        self.options = {"staff": staff, "days": days, "shifts": shifts, "stretch": stretch, "spare": spare}
        self.options |= {"rest": list(pairs), "weights": list(self.weights), "disruptions": list(self.disruptions)}

    def _units(self) -> None:
        """Rows, columns, and a person's cells on each two days that follow each other; short ones repeat a cell."""
        cells = np.arange(self.shape[0] * self.shape[1]).reshape(self.shape)
        work = cells[self.code.people, 2:]
        pairs = np.stack([work[:, :-1], work[:, 1:]], -1).reshape(-1, 2)
        size = max(self.shape)
        self.units = np.concatenate(
            [np.pad(u, ((0, 0), (0, size - u.shape[1])), "edge") for u in (cells, cells.T, pairs)]
        )

    # --- from plain numbers to tokens and back ------------------------------------------------------------------------
    def write(self, sheet: Sheet) -> np.ndarray:
        """uint8 (S,) tokens of one roster. Raises InputError where it has other sizes or contradicts itself."""
        return self.code.write(sheet)

    def read(self, question: np.ndarray, answer: np.ndarray | None = None) -> Sheet:
        """One question (S,) in plain numbers, or the answer (S,) to it."""
        self.check(question[None], "questions")
        s = self.code.read(question[None], (question if answer is None else answer)[None])
        return Sheet(*(field[0] for field in s))

    # --- examples -----------------------------------------------------------------------------------------------------
    def sample(self, seed: int, i: int) -> Example:
        rng = item_rng(seed, i)
        for _ in range(TRIES):
            whole = self._whole(rng)
            example = None if whole is None else self.disrupted(whole, rng)
            if example is not None:
                return example
        raise InputError(f"no disruption of a roster of {self._size()} that can be mended was found in {TRIES} tries.")

    def _whole(self, rng: np.random.Generator) -> Sheet | None:
        """A valid roster; None where the one drawn breaks a rule that was added and is not quickly mended."""
        sheet = random_roster(self.staff, self.days, self.kinds, self.stretch, self.spare, self.rest.table, rng)
        batch = Sheet(*(field[None] for field in sheet))
        if not any(rule.broken(batch).any() for rule in self.rules):
            return sheet
        try:
            found = RepairSearch(sheet, self.rules, self.weights, rng, BUDGET).best()
        except NodeBudgetExceeded:
            return None
        return sheet._replace(shift=found.shift) if found else None

    def disrupted(self, sheet: Sheet, rng: np.random.Generator) -> Example | None:
        """A random disruption of a valid roster of yours, and its one cheapest repair; None where this draw has none
        (nothing breaks, nothing mends it, or it takes long to find): try again.
        """
        times = int(rng.integers(self.disruptions[0], self.disruptions[1] + 1))
        sheet = disrupt(sheet, times, rng)
        search = RepairSearch(sheet, self.rules, self.weights, rng, BUDGET)
        try:
            found = search.best(unique=True) if search.faults else None
        except NodeBudgetExceeded:
            return None
        if found is None:
            return None
        sheet = sheet._replace(wish=np.array(search.wish))
        changes = (found.shift != sheet.shift) & ~sheet.absent
        return Example(self.write(sheet), self.write(sheet._replace(shift=found.shift)), float(changes.sum()))

    def repair(self, question: np.ndarray) -> np.ndarray | None:
        """One cheapest answer (S,) to a question (S,), by this task's own search; None where there is no valid one.

        Quick where few cells must change. Raises InputError where that is not so.
        """
        found = self._search(question, lambda search: search.best())
        return self._told(question, [found.shift])[0] if found else None

    def every(self, question: np.ndarray, limit: int, bound: SearchBound | None = None) -> np.ndarray:
        """The cheapest first. Raises Undecided where the search takes long."""
        nodes = LARGE if bound is None else int(min(LARGE, bound.nodes))
        return self._told(question, self._search(question, lambda search: search.every(limit), nodes))

    def _search(self, question: np.ndarray, ask: Callable[[RepairSearch], Any], nodes: int = LARGE) -> Any:
        if not self.code.placed(question).all():
            raise InputError("this is no roster: " + self.explain(question, question)[0])
        rng = np.random.default_rng(0)
        try:
            return ask(RepairSearch(self.read(question), self.rules, self.weights, rng, nodes))
        except NodeBudgetExceeded:
            raise Undecided(
                "too much must change in this roster for a small search; use innerloop.solve.exact"
            ) from None

    def _told(self, question: np.ndarray, rosters: list[np.ndarray]) -> np.ndarray:
        """uint8 (n, S): these rosters (N, D) as answers."""
        sheet = self.read(question)
        told = [self.write(sheet._replace(shift=shift)) for shift in rosters]
        return np.array(told, np.uint8).reshape(-1, len(question))

    # --- scores -------------------------------------------------------------------------------------------------------
    def kept(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return np.asarray(self.code.follows(inputs, answers).all(1))

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        ok = self.code.placed(inputs).all(1) & self.kept(inputs, answers)
        sheets = self.code.read(inputs, answers)
        for rule in self.rules:
            ok &= ~rule.broken(sheets).any((1, 2))
        return ok  # type: ignore[no-any-return]

    def cost(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """float64 (B,): weights[0] for each cell that changes, weights[1] for each request that is not met."""
        s = self.code.read(inputs, answers)
        old = self.code.shift[inputs.reshape(-1, *self.shape)[:, self.code.people, 2:]]
        changes = ((s.shift != old) & ~s.absent).sum((1, 2))
        unmet = ((s.shift != s.wish) & (s.wish >= 0)).sum((1, 2))
        return (self.weights[0] * changes + self.weights[1] * unmet).astype(np.float64)  # type: ignore[no-any-return]

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Even with a label: cells that break a rule (another valid roster is not wrong). At fault is the number in the
        cover row or in the people's columns where one is exceeded.
        """
        wrong = ~self.code.follows(question, answer) | ~self.code.placed(question)
        sheets = self.code.read(question[None], answer[None])
        for rule in self.rules:
            wrong[self.shape[1] :] |= rule.broken(sheets)[0].reshape(-1)
        return wrong

    def explain(self, question: np.ndarray, answer: np.ndarray) -> list[str]:
        """Why an answer (S,) to a question (S,) is not valid, one sentence a fault; empty where it is. See `names`."""
        said = []
        for cell in np.flatnonzero(~self.code.placed(question)).tolist():
            said.append(f"{self._where(cell)} holds in the question what has no place there")
        for cell in np.flatnonzero(~self.code.follows(question, answer)).tolist():
            token, (row, column) = int(question[cell]), divmod(cell, self.shape[1])
            if not 1 <= row <= self.staff or column < 2:
                said.append(f"{self._where(cell)} is information, but was changed")
            elif token == self.code.absent:
                said.append(f"{self._where(cell)} is an absence, but was changed")
            elif token in self.code.token[FIXED]:
                said.append(f"{self._where(cell)} is fixed, but was changed")
            else:
                said.append(f"{self._where(cell)} holds no shift that answers the question")
        sheets = self.code.read(question[None], answer[None])
        return said + [sentence for rule in self.rules for sentence in rule.words(sheets, self.names)]

    def _where(self, cell: int) -> str:
        row, column = divmod(cell, self.shape[1])
        rows = ["top row", *self.names.people, *(f"cover of {shift}" for shift in self.names.shifts[1:])]
        return f"{rows[row]}, {self.names.days[column - 2] if column >= 2 else ('skills', 'days')[column]}"

    # --- for an exact solver ------------------------------------------------------------------------------------------
    def domain(self, question: np.ndarray) -> np.ndarray:
        """bool (S, vocab): the tokens each cell of an answer may hold; of shifts those the person may work."""
        return self.code.domain(question)

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> Any:
        """The rules as constraints of a CP-SAT model; the objective is `cost`."""
        sheet, may, shifts = self.read(question), self.domain(question), range(self.kinds + 1)
        on: list[list[list[Any]]] = [[] for _ in range(self.staff)]  # [person][day][shift]: a variable, or 0 or 1
        same: list[Any] = []
        met: list[Any] = []
        for i, row in enumerate(on):
            for d in range(self.days):
                cell, now = (1 + i) * self.shape[1] + 2 + d, int(sheet.shift[i, d])
                if sheet.absent[i, d] or sheet.fixed[i, d]:
                    row.append([int(v == now) for v in shifts])
                    continue
                tokens = self.code.token[(int(question[cell]) - 1) // len(shifts)].tolist()
                row.append([has(cell, token) if may[cell, token] else 0 for token in tokens])
                same.append(row[d][now])
                if sheet.wish[i, d] >= 0:
                    met.append(row[d][int(sheet.wish[i, d])])
        for rule in self.rules:
            rule.constrain(model, on, sheet)
        return self.weights[0] * (len(same) - sum(same)) + self.weights[1] * (len(met) - sum(met))

    # --- symmetries ---------------------------------------------------------------------------------------------------
    def _backwards(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See Code.backwards; None where the rest rule reads otherwise that way."""
        other = {(self.kinds + 1 - b, self.kinds + 1 - a) for a, b in self.rest.pairs}
        return self.code.backwards() if other == set(self.rest.pairs) else None

    def views(self, count: int, rng: np.random.Generator) -> Views:
        """People in another order; half of them read backwards, where the rest rule reads the same that way."""
        cells = np.tile(np.arange(self.shape[0] * self.shape[1]).reshape(self.shape), (count, 1, 1))
        order = rng.random((count, self.staff)).argsort(1)
        cells[:, self.code.people] = cells[np.arange(count)[:, None], 1 + order]
        tokens, back = np.tile(np.arange(self.vocab, dtype=np.uint8), (count, 1)), self._backwards()
        cells = cells.reshape(count, -1)
        if back is not None:
            turned = rng.random(count) < 0.5
            cells[turned], tokens[turned] = cells[turned][:, back[0]], back[1]
        return Views(cells, tokens)

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Exact: people in the order of their rows; the smaller of both ways to read it."""
        self.check(inputs, "questions")
        images, back = [inputs], self._backwards()
        if back is not None:
            images.append(back[1][inputs % self.vocab][:, back[0]])
        keys = []
        for image in images:
            rows = np.ascontiguousarray(image).reshape(-1, *self.shape)
            keys.append(
                [
                    b"".join([bytes(r[0]), *sorted(map(bytes, r[self.code.people])), bytes(r[self.code.cover])])
                    for r in rows
                ]
            )
        return [min(both) for both in zip(*keys, strict=True)]

    # --- pictures -----------------------------------------------------------------------------------------------------
    def glyph(self, token: int) -> str:
        if token == 0 or token >= self.vocab:
            return ""
        if token < self.code.absent:
            held = int(self.code.shift[token])
            return self.names.shifts[held] if held else ""
        if token in self.code.number or token in self.code.need:
            return str(self.code.count[token])
        if token in self.code.day:
            return str(token - int(self.code.day[0]) + 1)
        return "✚" if token == self.code.absent else self.charset[token - 1]

    def colour(self, token: int) -> str:
        return roster_picture.GREY if token == self.code.absent else roster_picture.FILLS[int(self.code.shift[token])]

    def boxes(self) -> tuple[int, int]:
        """The line between people and cover, where it is not repeated by another."""
        return (self.staff, self.shape[1])

    def terminal(
        self,
        question: np.ndarray,
        answer: np.ndarray,
        previous: np.ndarray | None = None,
        label: np.ndarray | None = None,
    ) -> Any:
        """A rich Text of the roster: a shift that changed is underlined and cyan, a request ♥ is met or ♡ is not, what
        breaks a rule is red; beside each person the days they work of those they may, below the people there are of
        those needed.
        """
        return roster_picture.terminal(self, question, answer, previous)

    def svg(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> str:
        return roster_picture.svg(self, question, answer)


def _check(
    staff: int, days: int, shifts: str, stretch: int, spare: int, pairs: tuple[str, ...], weights: Any, disruptions: Any
) -> None:
    """Raise InputError for options that make no roster."""
    if not (2 <= staff <= 20 and 2 <= days <= 21):
        raise InputError(f"a roster of {staff} people on {days} days is not on offer; choose 2 to 20 and 2 to 21.")
    if (
        not 1 <= len(shifts) <= 4
        or len(set(shifts)) < len(shifts)
        or not set(shifts) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    ):
        raise InputError(f"shifts={shifts!r} must be 1 to 4 different capital letters, one for each kind of shift.")
    if not 1 <= stretch <= days or not 0 <= spare <= staff:
        raise InputError(
            f"stretch={stretch} and spare={spare} do not fit; give 1 to {days} days and 0 to {staff} people."
        )
    if bad := [pair for pair in pairs if len(pair) != 2 or not set(pair) <= set(shifts)]:
        raise InputError(f"rest={bad[0]!r} names no pair of the shifts {shifts!r}; give two of their letters.")
    if not weights[0] > weights[1] >= 1 or any(int(w) != w for w in weights):
        raise InputError(
            f"weights={tuple(weights)}: a change must weigh more than a request, in whole numbers from 1 on."
        )
    if not 1 <= disruptions[0] <= disruptions[1] <= 9:
        raise InputError(f"disruptions={tuple(disruptions)} is no range; give 1 <= fewest <= most <= 9.")
