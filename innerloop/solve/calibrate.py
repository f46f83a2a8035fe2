"""Confidence calibration: scores of selection rules mapped to probabilities on validation puzzles, and tested.

A score (a vote, a halting head, a residual) becomes a probability by isotonic regression (Zadrozny and Elkan 2002).
The result is tested on puzzles that it was not fitted to: AUROC, expected calibration error (ECE), and the
risk-coverage curve (share of wrong answers if only the most confident are given).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from innerloop import schema
from innerloop.errors import InputError
from innerloop.schema import Amount, Length, Share
from innerloop.text import printable

Floats = NDArray[np.float64]
Shares = Annotated[tuple[Share, ...], Length(1)]
Scores = Annotated[tuple[float, ...], Length(1)]
ShareOrNan = Annotated[float, schema.Range(0, 1, nan=True)]


@dataclass(frozen=True)
class IsotonicCurve:
    """A monotone map from a rule's score to the probability that its answer is right."""

    scores: Scores  # ascending
    chances: Shares  # probability of being right at each score, ascending

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.chances):
            raise InputError("a curve has one chance per score")
        if any(a > b for line in (self.scores, self.chances) for a, b in pairwise(line)):
            raise InputError("the scores and chances of a curve must not fall")

    def __call__(self, score: float) -> float:
        """Linear between scores, constant beyond them. 0 if the score is not finite (rule not met)."""
        if not np.isfinite(score):
            return 0.0
        return float(np.interp(score, self.scores, self.chances))


@dataclass(frozen=True)
class RuleCalibration:
    """Calibration of one selection rule: its curve, and the tests on puzzles the curve was not fitted to."""

    rule: str
    puzzles: int
    accuracy: Share  # share of the rule's answers that are right
    auroc: ShareOrNan  # chance that a right answer scores above a wrong one; NaN where all are right or all wrong
    ece: Share  # mean distance between confidence and accuracy, over ten bins of equally many puzzles
    aurc: Amount  # mean share of wrong answers over all coverages; lower is better
    coverage: Shares  # share of puzzles answered, the most confident first ...
    risk: Shares  # ... and the share of wrong answers among those
    curve: IsotonicCurve

    def __post_init__(self) -> None:
        if len(self.coverage) != len(self.risk):
            raise InputError("a calibration has one risk per coverage")

    def risk_at(self, coverage: float) -> float:
        """Share of wrong answers among the most confident share `coverage` of the puzzles, or the next larger one."""
        return next((r for c, r in zip(self.coverage, self.risk, strict=True) if c >= coverage), self.risk[-1])


def fit(scores: Floats, right: NDArray[np.bool_]) -> IsotonicCurve:
    """Isotonic regression of (score, right) pairs, by pooling adjacent violators.

    Each step is smoothed by two pseudo-counts, one right and one wrong, so that no probability is 0 or 1. Raises
    InputError if no score is finite.
    """
    finite = np.isfinite(scores)
    if not finite.any():
        raise InputError("no score to calibrate on: no validation puzzle meets the rule")
    order = np.argsort(scores[finite], kind="stable")
    values, hits = scores[finite][order], right[finite][order].astype(float)
    distinct, start = np.unique(values, return_index=True)
    blocks: list[list[float]] = []  # right, count, first score, last score
    for i, v in enumerate(distinct):
        part = hits[start[i] : start[i + 1] if i + 1 < len(distinct) else None]
        blocks.append([float(part.sum()), float(len(part)), float(v), float(v)])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1], blocks[-1][2], last[3]]
    knots = [(score, (b[0] + 1) / (b[1] + 2)) for b in blocks for score in dict.fromkeys((b[2], b[3]))]
    chances = np.maximum.accumulate([p for _, p in knots])  # smoothing, stronger on small steps, may break monotonicity
    return IsotonicCurve(tuple(s for s, _ in knots), tuple(float(p) for p in chances))


def auroc(scores: Floats, right: NDArray[np.bool_]) -> float:
    """Chance that a right answer scores above a wrong one, ties counted half; NaN where there is only one kind."""
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong:
        return float("nan")
    _, tie, counts = np.unique(np.nan_to_num(scores, nan=-np.inf), return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[tie]  # mean rank of each tie, from 1
    return float((rank[right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def ece(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over bins of equally many puzzles."""
    order = np.argsort(confidence, kind="stable")
    parts = [p for p in np.array_split(order, bins) if len(p)]
    return float(sum(len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts) / len(confidence))


def risk_coverage(scores: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(coverage, risk): share of puzzles answered, the most confident first; share of wrong answers among them.

    Puzzles of equal score are answered together, since they have no order.
    """
    values = np.nan_to_num(scores, nan=-np.inf)
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(values[order]) != 0, True]) if len(order) else np.zeros(0, int)
    wrong = np.cumsum(~right[order])[last]
    return (last + 1) / len(order), wrong / (last + 1)


def calibrate_rule(rule: str, scores: Floats, right: NDArray[np.bool_], seed: int = 0) -> RuleCalibration:
    """Fit the curve of a rule on half of the puzzles and test it on the other half; `seed` draws the halves.

    Raises InputError for fewer than 20 puzzles.
    """
    n = len(right)
    if n < 20:
        raise InputError(f"{n} puzzles are too few to calibrate on: give 20 or more, better several hundred")
    order = np.random.default_rng(seed).permutation(n)
    fitted, tested = order[: n // 2], order[n // 2 :]
    curve = fit(scores[fitted], right[fitted])
    test_scores, test_right = scores[tested], right[tested]
    confidence = np.array([curve(s) for s in test_scores])
    coverage, risk = risk_coverage(test_scores, test_right)
    areas = np.diff(np.r_[0.0, coverage]) * risk
    numbers = (
        float(test_right.mean()),
        auroc(test_scores, test_right),
        ece(confidence, test_right),
        float(areas.sum()),
    )
    return RuleCalibration(rule, len(tested), *numbers, tuple(coverage.tolist()), tuple(risk.tolist()), curve)


def to_json(calibrations: dict[str, RuleCalibration]) -> dict[str, Any]:
    """Plain values, as calibration.json holds them."""
    return {rule: asdict(t) for rule, t in calibrations.items()}


def from_json(value: Any, where: str = "calibration.json") -> dict[str, RuleCalibration]:
    """What to_json wrote. Raises InputError for anything else."""
    calibrations = schema.read(dict[str, RuleCalibration], value, where)
    for rule, t in calibrations.items():
        if t.rule != rule:
            raise InputError(f"{where}: the entry {printable(rule, 40)} is of the rule {printable(t.rule, 40)}")
    return calibrations


def from_file(value: Any) -> dict[str, RuleCalibration] | None:
    """The calibrations in the content of calibration.json; None for None (no such file)."""
    if value is None:
        return None
    return from_json(value["rules"] if isinstance(value, dict) and "rules" in value else value)
