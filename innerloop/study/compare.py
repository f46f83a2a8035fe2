"""Compare ways to think on the same questions, under the same budget each, beside a null arm that spends as much.

    result = compare(items, {"vote": way_of("vote(8)", model), ...}, null=Samples(...), limits={"tokens": 1000})
    print_result(result)       # cli.comparing

Every question has its own budget, the same for every arm. The null arm is independent samples of the simplest way, for
as long as the budget lasts; each arm is compared with the majority of as many of them as cost what the arm did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from innerloop.budget import Budget
from innerloop.core import SomeFailed, think_many
from innerloop.errors import InputError
from innerloop.halt import finished
from innerloop.interval import wilson
from innerloop.ledger import Ledger
from innerloop.study.verdict import ItemComparison, compare_paired, pass_at_k, with_holm
from innerloop.tokens.marks import MARKS, mark
from innerloop.tokens.samples import Samples, majority_of_first, spent_on
from innerloop.tokens.way import Asked, Item, Said, Way, Within, subkey

__all__ = ["NULL", "Arm", "ArmRow", "Comparison", "ItemRow", "compare"]

NULL = "null"  # name of the null arm


@dataclass(frozen=True)
class ItemRow:
    """What an arm did with one question."""

    id: str
    mark: str  # right, wrong, unparsed or cut
    said: Said
    spent: dict[str, float]  # by unit of the ledger, and "tokens"
    sample_marks: tuple[str, ...] = ()  # of the samples it drew


@dataclass(frozen=True)
class Arm:
    """One way to think on all questions, in their order."""

    name: str
    rows: tuple[ItemRow, ...]

    @property
    def right(self) -> np.ndarray:
        """(n,) 1.0 where the answer is right, else 0.0."""
        return np.array([float(r.mark == "right") for r in self.rows])

    def mean(self, unit: str) -> float:
        """What a question cost, on average."""
        return float(np.mean([r.spent.get(unit, 0.0) for r in self.rows]))


@dataclass(frozen=True)
class ArmRow:
    """A row of the table."""

    name: str
    n: int
    marks: dict[str, int]  # how many questions got each mark
    accuracy: float
    low: float  # 95 % Wilson interval of the accuracy
    high: float
    most: float  # accuracy if all that was unparsed or cut had been right; the least is `accuracy`
    spent: dict[str, float]  # a question, on average
    coverage: dict[int, float]  # pass@k: chance that one of k of its samples is right; empty for one sample
    null_samples: int = 0  # of the null arm, that cost as much
    null_accuracy: float | None = None  # of their majority
    null_spent: float | None = None  # in the unit of the budget
    against_null: ItemComparison | None = None
    on_frontier: bool = False  # no other arm, and no number of null samples, is as good for less


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`."""

    arms: tuple[Arm, ...]  # the null arm last
    rows: tuple[ArmRow, ...]
    limits: dict[str, float]  # of one question
    unit: str  # of spending: the first limit
    null_curve: tuple[tuple[int, float, float], ...]  # (samples, mean spending, accuracy of their majority)
    seed: int
    knows: dict[str, str] = field(default_factory=dict)  # what each arm was given to know besides the question


def compare(
    items: Sequence[Item],
    ways: Mapping[str, Way],
    null: Samples,
    limits: Mapping[str, float],
    *,
    seed: int = 0,
    workers: int = 1,
    knows: Mapping[str, str] | None = None,
    on_row: Callable[[str, ItemRow], None] | None = None,
) -> Comparison:
    """Run all arms and the null arm on all items.

    limits   of one question in one arm, such as {"tokens": 1000}; the first is the unit in which spending is compared
    workers  questions at once; the results do not depend on it
    on_row   called as on_row(arm, row) as soon as a question is answered, from several threads
    Raises InputError for no items, no ways, an item that nothing can mark, or a call that failed for good.
    """
    if not items or not ways:
        raise InputError("a comparison needs at least one question and one way to think")
    if NULL in ways:
        raise InputError(f'"{NULL}" is the name of the null arm: call your way otherwise')
    for item in items:
        if item.answer is None and item.check is None and item.judge is None:
            raise InputError(f"the question {item.id} has neither an answer nor a verifier, so nothing can be marked")
    Budget(limits)  # raises for limits that are none
    unit = next(iter(limits))
    arms = [run_arm(name, way, items, limits, seed, workers, on_row) for name, way in {**ways, NULL: null}.items()]
    curve = null_curve(arms[-1], items, unit)
    rows = [row_of(arm, unit, curve, None if arm.name == NULL else arms[-1], items) for arm in arms]
    judged = [i for i, row in enumerate(rows) if row.against_null is not None]
    for i, paired in zip(judged, with_holm([rows[i].against_null for i in judged]), strict=True):  # type: ignore[misc]
        rows[i] = replace(rows[i], against_null=paired)
    rows = mark_frontier(rows, unit, curve)
    return Comparison(tuple(arms), tuple(rows), dict(limits), unit, tuple(curve), seed, dict(knows or {}))


def run_arm(
    name: str, way: Way, items: Sequence[Item], limits: Mapping[str, float], seed: int, workers: int, on_row: Any
) -> Arm:
    """All questions by one way."""
    budgets = [Budget(limits) for _ in items]
    asked = [(i, Asked(item, subkey(seed, name, item.id))) for i, item in enumerate(items)]
    rows: list[ItemRow | None] = [None] * len(items)

    def done(i: int, said: Said) -> None:
        rows[i] = item_row(items[i], said, budgets[i])
        if on_row:
            on_row(name, rows[i])

    try:
        think_many(Within(way, budgets, done), asked, depth=way.depth, halt=finished, workers=workers)
    except SomeFailed as failed:
        first = next(iter(failed.errors.values()))
        raise InputError(f"{name}: {len(failed.errors)} of {len(items)} questions failed: {first}") from first
    return Arm(name, tuple(r for r in rows if r is not None))


def item_row(item: Item, said: Said, spent: Ledger) -> ItemRow:
    """The row of one question."""
    marks = tuple(mark(item, sample) for sample in said.samples)
    return ItemRow(item.id, mark(item, said), said, spent_on(spent), marks)


# -- what follows -----------------------------------------------------------------------------------------------------


def null_curve(null: Arm, items: Sequence[Item], unit: str) -> list[tuple[int, float, float]]:
    """(k, mean spending, accuracy) of the majority of the first k samples, for every k that some question has."""
    most = max(len(row.said.samples) for row in null.rows)
    return [(k, *first_samples(null, items, unit, k)[:2]) for k in range(1, most + 1)]


def first_samples(null: Arm, items: Sequence[Item], unit: str, k: int) -> tuple[float, float, np.ndarray]:
    """(mean spending, accuracy, (n,) right) of the majority of the first k samples; of all where there are fewer."""
    spent, right = [], []
    for row, item in zip(null.rows, items, strict=True):
        spent.append(sum(s.details["spent"].get(unit, 0.0) for s in row.said.samples[:k]))
        right.append(float(mark(item, majority_of_first(row.said.samples, k)) == "right"))
    return float(np.mean(spent)), float(np.mean(right)), np.array(right)


def row_of(
    arm: Arm, unit: str, curve: Sequence[tuple[int, float, float]], null: Arm | None, items: Sequence[Item]
) -> ArmRow:
    """The row of an arm, against as many null samples as cost no more than the arm did, but at least one."""
    n, counts = len(arm.rows), {m: sum(r.mark == m for r in arm.rows) for m in MARKS}
    low, high = wilson(counts["right"], n)
    units = sorted({u for r in arm.rows for u in r.spent})
    spent = {u: arm.mean(u) for u in units}
    most = (counts["right"] + counts["unparsed"] + counts["cut"]) / n
    row = ArmRow(arm.name, n, counts, counts["right"] / n, low, high, most, spent, coverage(arm))
    if null is None:
        return row
    k = max((k for k, cost, _ in curve if cost <= spent.get(unit, 0.0) + 1e-9), default=1)
    cost, accuracy, right = first_samples(null, items, unit, k)
    paired = compare_paired(arm.right, right)
    return replace(row, null_samples=k, null_accuracy=accuracy, null_spent=cost, against_null=paired)


def coverage(arm: Arm) -> dict[int, float]:
    """pass@k of the samples that an arm drew, for k of 1, 2, 4 ... up to the fewest that a question has."""
    fewest = min(len(row.sample_marks) for row in arm.rows)
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= fewest]
    return {
        k: float(np.mean([pass_at_k(len(r.sample_marks), r.sample_marks.count("right"), k) for r in arm.rows]))
        for k in (ks if fewest > 1 else [])
    }


def mark_frontier(rows: Sequence[ArmRow], unit: str, curve: Sequence[tuple[int, float, float]]) -> list[ArmRow]:
    """The rows, those marked that nothing cheaper equals."""
    points = [(r.spent.get(unit, 0.0), r.accuracy) for r in rows] + [(cost, right) for _, cost, right in curve]
    return [
        replace(r, on_frontier=not any(c < r.spent.get(unit, 0.0) - 1e-9 and a >= r.accuracy for c, a in points))
        for r in rows
    ]
