"""Does a network in layers fall into K blocks? A goodness-of-fit test and the number of blocks it accepts.

    A_l (n, n), l = 1 .. L: symmetric 0/1 without loops, P(A_l[i, j] = 1) = B_l[z_i, z_j], the labels z shared
    z-hat     the K leading eigenvectors of sum_l (A_l^2 - D_l), then k-means;      B-hat_l: means over blocks
    R[i, j] = sum_l (A_l - Omega_l)[i, j] / sqrt(n sum_l Omega_l (1 - Omega_l)[i, j]),   R[i, i] = 0
    T = tr(R^3) / sqrt(6)  ->  N(0, 1) where K is right, and far from 0 where K is too small

The multi-layer stochastic block model's test of Qing (arXiv 2508.04957): the normalised sum over layers is the paper's;
the cubic trace is the linear spectral statistic of its single-layer predecessor (arXiv 2303.14508). Too large a K fits
as well as the right one, so K goes up from 1 and stops at the first that fits. The squares A_l^2 - D_l find blocks that
attract in one layer and avoid each other in the next, where a plain sum of A_l would lose them; T itself sums the
residuals of all layers, so a misfit whose sign alternates between layers can escape it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop.errors import InputError

__all__ = ["BlockCount", "Fit", "fit", "fit_statistic", "kmeans", "number_of_blocks", "sample", "statistic"]

FLOOR = 1e-6  # pairs whose summed variance is below are dropped: in sparse layers their share is 0 / 0
Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


class Fit(NamedTuple):
    labels: Labels  # (n,)
    means: Matrix  # (L, K, K) B-hat


class BlockCount(NamedTuple):
    blocks: int  # the first K that fits; 0 where none up to the largest tried does
    statistics: list[float]  # T of K = 1, 2, ...
    threshold: float
    ratios: list[float]  # |T(K - 1) / T(K)| of K = 2, 3, ...: largest where the fit breaks in
    by_ratio: int  # K of the largest ratio, or 1 where K = 1 fits


def sample(labels: Labels, means: Matrix, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Layers (L, n, n) of the model with labels (n,) and means (L, K, K)."""
    omega = np.asarray(means)[:, labels][:, :, labels]
    upper = np.triu(rng.random(omega.shape) < omega, 1)
    return (upper | upper.transpose(0, 2, 1)).astype(np.uint8)


def fit(layers: NDArray[np.uint8], blocks: int, rng: np.random.Generator) -> Fit:
    """Labels and block means for a given number of blocks."""
    floats = _checked(layers).astype(np.float64)
    n = floats.shape[1]
    if not 1 <= blocks <= n:
        raise InputError(f"{blocks} blocks cannot be made of {n} nodes: ask for 1 to {n}")
    labels = np.zeros(n, np.int64)
    if blocks > 1:
        total = np.zeros((n, n))
        for a in floats:
            total += a @ a - np.diag(a.sum(1))
        values, vectors = np.linalg.eigh(total)
        labels = kmeans(vectors[:, np.argsort(-np.abs(values))[:blocks]], blocks, rng)
    return Fit(labels, block_means(floats, labels, blocks))


def block_means(layers: Matrix, labels: Labels, blocks: int) -> Matrix:
    """(L, K, K) share of the pairs of two blocks that are joined; 0 where there is no pair."""
    member = np.eye(blocks)[labels]
    sizes = member.sum(0)
    pairs = np.outer(sizes, sizes) - np.diag(sizes)
    joined = np.einsum("ik,lij,jm->lkm", member, layers, member, optimize=True)
    return joined / np.maximum(pairs, 1)


def statistic(layers: NDArray[np.uint8], omega: Matrix) -> float:
    """T of layers (L, n, n) against their probabilities `omega` (L, n, n): about N(0, 1) where these are right."""
    variance = (omega * (1 - omega)).sum(0)
    kept = variance > FLOOR
    excess = (_checked(layers).astype(np.float64) - omega).sum(0)
    r = np.where(kept, excess / np.sqrt(len(excess) * np.where(kept, variance, 1.0)), 0.0)
    np.fill_diagonal(r, 0.0)
    return float(np.einsum("ij,ji->", r @ r, r) / math.sqrt(6))


def fit_statistic(layers: NDArray[np.uint8], blocks: int, seed: int = 0) -> float:
    """T of the model fitted with so many blocks."""
    found = fit(layers, blocks, np.random.default_rng(seed))
    return statistic(layers, found.means[:, found.labels][:, :, found.labels])


def number_of_blocks(
    layers: NDArray[np.uint8], most: int = 10, threshold: float | None = None, seed: int = 0
) -> BlockCount:
    """The first K in 1 .. `most` with |T| < threshold, by default log n; all statistics up to there.

    The threshold must grow with n, slower than T does where K is too small. `ratios` looks for the sharpest fall
    of |T| instead, which needs no threshold but cannot see K = 1.
    """
    limit = math.log(_checked(layers).shape[1]) if threshold is None else threshold
    if limit <= 0 or most < 1:
        raise InputError(f"the test needs a threshold above 0 and 1 block or more, not {limit} and {most}")
    statistics: list[float] = []
    for blocks in range(1, most + 1):
        statistics.append(fit_statistic(layers, blocks, seed))
        if abs(statistics[-1]) < limit:
            break
    fits = abs(statistics[-1]) < limit
    ratios = [abs(a) / max(abs(b), 1e-12) for a, b in pairwise(statistics)]
    sharpest = 1 if not ratios else 2 + int(np.argmax(ratios))
    return BlockCount(len(statistics) if fits else 0, statistics, limit, ratios, sharpest)


def kmeans(rows: Matrix, k: int, rng: np.random.Generator, restarts: int = 20, rounds: int = 100) -> Labels:
    """Labels (n,) of rows (n, d): Lloyd's rounds from k-means++ starts, the best of `restarts` by inertia."""
    best, least = np.zeros(len(rows), np.int64), math.inf
    for _ in range(restarts):
        centres = _spread(rows, k, rng)
        labels = np.full(len(rows), -1)
        for _ in range(rounds):
            distance = np.square(rows[:, None] - centres[None]).sum(-1)
            new = distance.argmin(1)
            if (new == labels).all():
                break
            labels = new
            for j in range(k):
                # An empty cluster begins anew at the row that fits worst.
                mine = rows[labels == j]
                centres[j] = mine.mean(0) if len(mine) else rows[distance.min(1).argmax()]
        inertia = float(np.square(rows - centres[labels]).sum())
        if inertia < least:
            best, least = labels, inertia
    return best


def _spread(rows: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """k rows far from each other (k-means++)."""
    chosen = [rows[rng.integers(len(rows))]]
    for _ in range(k - 1):
        far = np.square(rows[:, None] - np.array(chosen)[None]).sum(-1).min(1)
        total = far.sum()
        chosen.append(rows[rng.choice(len(rows), p=far / total) if total > 0 else rng.integers(len(rows))])
    return np.array(chosen)


def _checked(layers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    layers = np.asarray(layers)
    if layers.ndim != 3 or layers.shape[1] != layers.shape[2] or layers.shape[1] < 3:
        raise InputError(f"layers must be (L, n, n) with n of 3 or more, not {layers.shape}")
    if not ((layers == 0) | (layers == 1)).all() or not (layers == layers.transpose(0, 2, 1)).all():
        raise InputError("layers must be symmetric and hold 0 or 1: a link either is there or not, both ways")
    if layers.diagonal(axis1=1, axis2=2).any():
        raise InputError("a node is linked to itself: set the diagonals to 0")
    return layers
