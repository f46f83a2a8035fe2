"""95 % confidence intervals of proportions (Wilson, cluster bootstrap) and of means over seeds (t); paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "Mean", "Paired", "Proportion", "cluster_bootstrap", "holm", "mean_over_runs", "paired", "proportion",
    "sign_flip_p", "student_p", "student_quantile", "wilson",
]  # fmt: skip

Z95 = 1.959964
ENUMERATED = 16  # pairs up to which every combination of signs is tried; above, as many are drawn
MOST_SIGNS = 1 << 24  # that are drawn at once


class Proportion(NamedTuple):
    """A proportion with its 95 % interval and sample size."""

    value: float
    low: float
    high: float
    n: int


def wilson(hits: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval (1927), 95 % by default: every p with |p - hits / n| <= z sd(p). Good near 0 and 1 too."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = hits / n, z * z
    centre, spread = p + z2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (centre - spread) / (1 + z2 / n), (centre + spread) / (1 + z2 / n)
    return 0.0 if hits == 0 else low, 1.0 if hits == n else high  # exactly, in spite of rounding


def proportion(hits: Any) -> Proportion:
    """Proportion of True in independent bools (n,), with Wilson's interval."""
    right, n = int(np.sum(hits)), int(np.size(hits))
    return Proportion(right / n if n else float("nan"), *wilson(right, n), n)


def cluster_bootstrap(hits: Any, groups: Any, draws: int = 500, seed: int = 0) -> Proportion:
    """Proportion of True in bools (n,) with group labels (n,): the bootstrap resamples whole groups."""
    kinds, place = np.unique(np.asarray(groups), return_inverse=True)
    right = np.bincount(place, weights=np.asarray(hits, float), minlength=len(kinds))
    count = np.bincount(place, minlength=len(kinds)).astype(float)
    drawn = np.random.default_rng(seed).integers(len(kinds), size=(draws, len(kinds)))
    low, high = np.quantile(right[drawn].sum(1) / count[drawn].sum(1), (0.025, 0.975))
    return Proportion(float(right.sum() / count.sum()), float(low), float(high), int(count.sum()))


# -- means over seeds -------------------------------------------------------------------------------------------------


class Mean(NamedTuple):
    """A mean of n independent runs, the standard deviation of one run, and the mean's 95 % interval."""

    value: float
    sd: float  # with n - 1 in its denominator; nan for one run
    low: float  # nan for one run
    high: float
    n: int


class Paired(NamedTuple):
    """A comparison of n pairs: the mean of a - b, and two-sided p-values."""

    difference: Mean
    p: float  # of the paired t test; nan for one pair, and where all differences are equal but not 0
    p_signs: float  # of the exact sign-flip test, at least 2 / 2^n


def student_p(t: float, df: int) -> float:
    """P(|T| > |t|) of Student's distribution with `df` degrees of freedom: Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(abs(t) / math.sqrt(df))
    term = total = 1.0 if df % 2 == 0 else math.cos(angle)
    for k in range(2 if df % 2 == 0 else 3, df, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    inside = math.sin(angle) * total
    if df % 2:
        inside = (angle + (inside if df > 1 else 0.0)) * 2 / math.pi
    return min(1.0, max(0.0, 1.0 - inside))


def student_quantile(df: int, p: float = 0.05) -> float:
    """The t that |T| exceeds with probability `p`, by bisection."""
    low, high = 0.0, 1.0
    while student_p(high, df) > p:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, df) > p else (low, middle)
    return high


def mean_over_runs(values: Sequence[float]) -> Mean:
    """The mean of independent runs with its t interval, which assumes that they are about normal."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Mean(mean, math.nan, math.nan, math.nan, 1)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = student_quantile(n - 1) * sd / math.sqrt(n)
    return Mean(mean, sd, mean - half, mean + half, n)


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare runs a[i] with runs b[i] of the same seed: t test, and the share of sign flips with as large a mean."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean = mean_over_runs(differences)
    n, scale = mean.n, max(map(abs, differences))
    if scale == 0:
        return Paired(mean, 1.0, 1.0)
    spread = mean.sd > 1e-12 * scale
    p = student_p(mean.value / mean.sd * math.sqrt(n), n - 1) if n > 1 and spread else math.nan
    return Paired(mean, p, sign_flip_p(differences))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p that the mean of paired differences (n,) is 0: the share of sign flips with as large a mean."""
    n, values = len(differences), np.asarray(differences, float)
    scale, mean = float(np.abs(values).max()), abs(math.fsum(values) / n)
    if scale == 0:
        return 1.0
    if n <= ENUMERATED:
        signs = (np.arange(1 << n)[:, None] >> np.arange(n) & 1) * 2 - 1
        return float((np.abs(signs @ values) / n >= mean - 1e-12 * scale).mean())
    rng, large, flips = np.random.default_rng(0), 0, 1 << ENUMERATED
    block = flips if n * flips <= MOST_SIGNS else max(1, MOST_SIGNS // n)
    for first in range(0, flips, block):
        signs = rng.integers(2, size=(min(block, flips - first), n)) * 2 - 1
        large += int((np.abs(signs @ values) / n >= mean - 1e-12 * scale).sum())
    return large / flips


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the same order; nan stays nan and is not counted."""
    known = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    adjusted, largest = list(ps), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted
