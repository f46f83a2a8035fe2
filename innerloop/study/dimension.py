"""Dimension of states: participation ratio corrected for its sample-size bias, with a bootstrap interval.

    PR = tr(C)^2 / tr(C^2)        d equal variances: PR = d; one direction: PR = 1

The plain estimate from n rows is strongly biased: n rows of d equal variances give 1 / (1/d + 1/n), not d. Here
tr(C)^2 and tr(C^2) are each estimated without bias, whatever the distribution, as U-statistics over four different rows
i, j, k, l (after Chen, Zhang, Zhong 2010, doi 10.1198/jasa.2010.tm09560):

    tr(C)^2 ~ |x_i - x_j|^2 |x_k - x_l|^2 / 4            tr(C^2) ~ ((x_i - x_j)' (x_k - x_l))^2 / 4

Rows must be independent: places of one puzzle are not, so `one_place` draws one place of each. HRM's figure of merit
(arXiv 2506.21734) is the ratio of the slow slot's PR to the fast slot's: compare slots at equal n only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerloop.core import Loop
from innerloop.errors import InputError
from innerloop.study.record import record_updates, slots

__all__ = ["Dimension", "compare", "dimension", "effective_rank", "participation_ratio", "sample_position", "traces"]

MAX_ROWS = 4096  # rows: time and memory grow with their square
Rows = NDArray[np.float64]


class Dimension(NamedTuple):
    """How many directions n rows of width d use."""

    n: int
    d: int
    plain: float  # participation ratio as it is usually computed; at most min(n - 1, d)
    corrected: float  # the same free of its bias in n, to first order; infinite where rows do not differ enough to tell
    low: float  # 95 % bootstrap interval of `corrected`
    high: float
    effective_rank: float  # exp of the entropy of the spectrum (Roy, Vetterli 2007); biased in n like `plain`


def participation_ratio(x: Any) -> float:
    """Of rows (n, d), by their sample covariance: tr(C)^2 / |C|_F^2, no eigenvalues needed."""
    rows = _rows(x)
    centred = rows - rows.mean(0)
    # The Gram matrix of the smaller side has the same trace and norm.
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    return float(np.trace(gram) ** 2 / max(np.square(gram).sum(), 1e-300))


def effective_rank(x: Any) -> float:
    """exp(-sum p log p) of the normalised eigenvalues p of the sample covariance of rows (n, d)."""
    rows = _rows(x)
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    p = values[values > 1e-12 * values.max()] / max(values.sum(), 1e-300)
    return float(np.exp(-(p * np.log(p)).sum()))


def traces(half: Rows, w: Rows) -> tuple[float, float]:
    """Unbiased (tr(C)^2, tr(C^2)) from half squared distances (n, n) of rows that count w (n,) times each.

    Sums over four different rows, written as power sums. With weights from a bootstrap a row never meets itself, so
    that copies of it do not pass for agreement.
    """
    square = half * half
    p1, p2, p3, p4 = (float((w**k).sum()) for k in (1, 2, 3, 4))
    quadruples = p1**4 - 6 * p1**2 * p2 + 3 * p2**2 + 8 * p1 * p3 - 6 * p4
    r, r2 = half @ w, half @ w**2
    q, q2, q3 = square @ w, square @ w**2, square @ w**3
    # Two disjoint pairs: all pairs of pairs, less those that share one row, less those that are one pair.
    disjoint = (w @ r) ** 2 - 4 * (w**2 @ (r * r)) + 2 * (w**2 @ q2)
    # One pair squared, times the weights of two more rows that are neither of it.
    wq = w @ q
    pair = (p1**2 - p2) * wq - 4 * p1 * (w**2 @ q) + 4 * (w**3 @ q) + 2 * (w**2 @ q2)
    # Two pairs that share one row, times the weight of a fourth.
    fan = p1 * (w @ (r * r - q2)) - w**2 @ (r * r - q2) - 2 * (w @ (r * r2 - q3))
    return float(disjoint / quadruples), float((pair + disjoint - 2 * fan) / quadruples)


def dimension(x: Any, draws: int = 200, seed: int = 0) -> Dimension:
    """Of independent rows (n, d), n >= 8. Raises InputError for fewer, or for more than `MOST`."""
    rows = _rows(x)
    n, d = rows.shape
    if not 8 <= n <= MAX_ROWS:
        raise InputError(f"{n} rows cannot be given a dimension: give 8 to {MAX_ROWS}")
    centred = rows - rows.mean(0)
    gram = centred @ centred.T
    half = np.maximum((np.diag(gram)[:, None] + np.diag(gram)[None] - 2 * gram) / 2, 0.0)
    np.fill_diagonal(half, 0.0)
    rng = np.random.default_rng(seed)
    again = [_ratio(half, np.bincount(rng.integers(n, size=n), minlength=n).astype(float)) for _ in range(draws)]
    again = sorted(again) or [float("nan")]
    low, high = again[int(0.025 * draws)], again[-1 - int(0.025 * draws)]
    plain, corrected = participation_ratio(rows), _ratio(half, np.ones(n))
    return Dimension(n, d, plain, corrected, low, high, effective_rank(rows))


def _ratio(half: Rows, w: Rows) -> float:
    if np.count_nonzero(w) < 4:  # a draw of so few different rows tells nothing
        return float("inf")
    above, below = traces(half, w)
    return above / below if below > 0 else float("inf")


def _rows(x: Any) -> Rows:
    rows = x.detach().cpu().double().numpy() if isinstance(x, Tensor) else np.asarray(x, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise InputError(f"rows must be (n, d) with n of 2 or more, not {rows.shape}: flatten or pick places first")
    return rows


def sample_position(slot_BLD: Tensor, seed: int = 0) -> Tensor:
    """(B, D): a random place of each example, the same for one seed: rows as independent as the examples are."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(slot_BLD.shape[1], (len(slot_BLD),), generator=generator)
    return slot_BLD[torch.arange(len(slot_BLD)), places.to(slot_BLD.device)].float().cpu()


def compare(
    loops: Mapping[str, Loop], x: Any, depth: int, draws: int = 200, seed: int = 0
) -> dict[str, dict[str, list[Dimension]]]:
    """name -> slot -> the dimension of that slot after each of `depth` steps, over the examples of `x`.

    Give the trained loop and its controls, such as the same loop untrained and one trained on shuffled labels: all see
    the same examples and places, so n is equal. Slots that are not (B, L, D) of floats are left out.
    """

    def pick(name: str, old: Any, new: Any) -> dict[str, Tensor]:
        wide = {k: v for k, v in slots(new).items() if v.ndim == 3 and v.is_floating_point()}
        return {slot: sample_position(value, seed) for slot, value in wide.items()}

    found: dict[str, dict[str, list[Dimension]]] = {}
    for name, loop in loops.items():
        _, records = record_updates(loop, x, depth, pick)
        ends = {m.step: m.kept for m in records}  # the last update of each step
        found[name] = {s: [dimension(ends[t][s], draws, seed) for t in range(1, depth + 1)] for s in ends[depth]}
    return found
