"""Verdicts of paired comparisons on the same items: better, worse or undecided, and how many items would decide.

v = compare_paired(a, b)       # a, b: (n,) scores of the same items, 0 to 1
v.difference, v.low, v.high, v.p, v.verdict, v.items_needed
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop.errors import InputError
from innerloop.interval import Z95, holm, sign_flip_p, wilson

__all__ = ["ItemComparison", "compare_paired", "mcnemar", "pass_at_k", "with_holm"]

LEVEL = 0.05
POWER_Z = 0.841621  # standard normal quantile of 80 % power
MOST_ITEMS = 10_000_000


class ItemComparison(NamedTuple):
    """A comparison of a with b over n items."""

    n: int
    difference: float  # mean of a - b
    low: float  # its 95 % interval
    high: float
    p: float  # two-sided: McNemar's exact test of right and wrong, else the sign-flip test
    test: str  # "mcnemar" or "sign flip"
    adjusted: float  # p adjusted for the number of comparisons (Holm); p where there is one
    verdict: str  # "better", "worse" or "undecided"
    items_needed: int | None  # that would decide a difference of this size with 80 % power; None: no difference


def compare_paired(a: Sequence[float] | NDArray, b: Sequence[float] | NDArray) -> ItemComparison:
    """Compare the scores of two arms on the same items. Raises InputError for lists of different length, or empty."""
    left, right = np.asarray(a, float), np.asarray(b, float)
    if left.shape != right.shape or left.ndim != 1 or not len(left):
        raise InputError(f"paired scores have shapes {left.shape} and {right.shape}: give one of each an item")
    gaps = left - right
    binary = np.isin(left, (0, 1)).all() and np.isin(right, (0, 1)).all()
    p = mcnemar(int((gaps > 0).sum()), int((gaps < 0).sum())) if binary else sign_flip_p(gaps.tolist())
    low, high = interval(gaps)
    test = "mcnemar" if binary else "sign flip"
    return decide(ItemComparison(len(gaps), float(gaps.mean()), low, high, p, test, p, "undecided", items_needed(gaps)))


def with_holm(compared: Sequence[ItemComparison]) -> list[ItemComparison]:
    """The same comparisons, their p adjusted for how many they are, and the verdicts that follow."""
    return [decide(c._replace(adjusted=p)) for c, p in zip(compared, holm([c.p for c in compared]), strict=True)]


def decide(c: ItemComparison) -> ItemComparison:
    if not c.adjusted < LEVEL or c.difference == 0:
        return c._replace(verdict="undecided")
    return c._replace(verdict="better" if c.difference > 0 else "worse")


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p of McNemar's test: of the items that one arm alone got right, both are equally likely."""
    n, k = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    log_half = n * math.log(2)
    tail = math.fsum(
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - log_half) for i in range(k + 1)
    )
    return min(1.0, 2 * tail)


def interval(gaps: NDArray) -> tuple[float, float]:
    """95 % interval of the mean of paired differences in -1 .. 1.

    Where items are right or wrong: from the Wilson intervals of the shares won and lost, squared and added with their
    correlation, as Newcombe (1998) does; else normal.
    """
    n, mean = len(gaps), float(gaps.mean())
    won, lost = int((gaps == 1).sum()), int((gaps == -1).sum())
    if won + lost == int((gaps != 0).sum()):
        (low_w, high_w), (low_l, high_l) = wilson(won, n), wilson(lost, n)
        w, l = won / n, lost / n
        r = math.sqrt(w * l / ((1 - w) * (1 - l))) if w < 1 and l < 1 else 1.0  # minus their correlation
        spread = lambda a, b: math.sqrt(a * a + b * b + 2 * r * a * b)  # noqa: E731
        return max(-1.0, mean - spread(w - low_w, high_l - l)), min(1.0, mean + spread(high_w - w, l - low_l))
    half = Z95 * float(gaps.std(ddof=1)) / math.sqrt(n) if n > 1 else 1.0
    return max(-1.0, mean - half), min(1.0, mean + half)


def items_needed(gaps: NDArray) -> int | None:
    """Items at which a true difference of this size and spread is found at 5 % with 80 % power."""
    mean, spread = float(gaps.mean()), float((gaps**2).mean() - gaps.mean() ** 2)
    if abs(mean) < 1e-12:
        return None
    # One pair may have no spread by chance; the smallest that n pairs leave open is that of one more item.
    spread = max(spread, 1 / (4 * len(gaps)))
    return min(MOST_ITEMS, max(6, math.ceil(((Z95 + POWER_Z) / mean) ** 2 * spread)))


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased chance that one of k samples is right, from `right` of n samples: 1 - C(n - right, k) / C(n, k)."""
    if not 0 <= right <= n or not 1 <= k <= n:
        raise InputError(f"pass@{k} of {right} right among {n}: give k from 1 to n")
    if n - right < k:
        return 1.0
    return 1.0 - math.exp(math.fsum(math.log1p(-k / i) for i in range(n - right + 1, n + 1)))
