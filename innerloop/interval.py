"""95 % confidence intervals of proportions: Wilson's, and the cluster bootstrap for rows in groups."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Proportion", "cluster_bootstrap", "proportion", "wilson"]

Z95 = 1.959964


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
