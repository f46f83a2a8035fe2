"""Selection rules: each scores the trajectories of a puzzle; the highest score wins, ties go to the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop.data.protocols import Tokens
from innerloop.errors import InputError

Floats = NDArray[np.float64]


class Trajectories(NamedTuple):
    """Results of K trajectories of one puzzle; NaN where the loop has no such head."""

    answers: Tokens  # (K, S) in the puzzle's original view
    mean_log_prob: Floats  # (K,) mean log probability of the cells' tokens; NaN: the logits are not finite
    q: Floats  # (K,) the halting head's probability that the answer is right
    value: Floats  # (K,) output of the value head
    residual: Floats  # (K,) relative change of the state in the last step
    steps: NDArray[np.int64]  # (K,)
    halted: NDArray[np.bool_]  # (K,) stopped by the halting rule
    valid: NDArray[np.bool_]  # (K,) the verifier accepts it; all False without one

    def take(self, index: Any) -> Trajectories:
        """The trajectories at `index`."""
        return Trajectories(*(column[index] for column in self))


class Choice(NamedTuple):
    """The trajectory that a rule selects."""

    winner: int
    score: float  # of the winner, higher is more confident; -inf: no trajectory meets the rule
    why: str


def vote(t: Trajectories) -> Floats:
    """Share of the trajectories that agree on the whole answer."""
    keys = [row.tobytes() for row in t.answers]
    counts = Counter(keys)
    return np.array([counts[k] for k in keys]) / len(keys)


def lowest_residual(t: Trajectories) -> Floats:
    """Minus the log residual: the state that changed least in the last step (EqR, arXiv 2605.21488)."""
    return -np.log(np.maximum(t.residual, 1e-12))


def first(t: Trajectories) -> Floats:
    """The fewest steps until the halting rule; ties by the halting head (arXiv 2601.19085)."""
    tie_break = np.nan_to_num(t.q) / 2
    return np.where(t.halted, tie_break - t.steps, -np.inf)


def verified(t: Trajectories) -> Floats:
    """Accepted by the verifier, in the fewest steps."""
    return np.where(t.valid, -t.steps.astype(float), -np.inf)


RULES: dict[str, Callable[[Trajectories], Floats]] = {
    "verified": verified,
    "vote": vote,
    "q": lambda t: t.q,
    "value": lambda t: t.value,
    "residual": lowest_residual,
    "certainty": lambda t: t.mean_log_prob,
    "first": first,
}
REASONS = {
    "verified": "the verifier accepts its answer",
    "vote": "{votes} trajectories agree on its answer",
    "q": "highest probability of the halting head ({score:.3f})",
    "value": "highest output of the value head ({score:.3f})",
    "residual": "smallest residual in the last step ({residual:.2e})",
    "certainty": "highest mean log probability per cell ({score:.3f})",
    "first": "it halted first, after {steps} steps",
}
REASONS_UNMET = {
    "verified": "the verifier accepts none of {n} answers",
    "first": "none of {n} trajectories halted by itself",
}


def choose(t: Trajectories, rule: str) -> Choice:
    """The winner by `rule`. Raises InputError for an unknown rule, or one that needs a head the loop lacks.

    If no trajectory meets the rule (none valid, none halted), the most frequent answer wins with a score of -inf.
    Trajectories whose logits are not finite meet no rule.
    """
    if rule not in RULES:
        raise InputError(f'no selection rule is called "{rule}": use one of {", ".join(RULES)}, or auto')
    scores = RULES[rule](t)
    non_finite = np.isnan(t.mean_log_prob)
    if np.isnan(scores).all() and not non_finite.all():
        raise InputError(f'this loop has no head for the rule "{rule}": use vote or residual')
    scores = np.where(non_finite, -np.inf, scores)
    if np.isneginf(scores).all():
        why = REASONS_UNMET.get(rule, "no trajectory meets the rule").format(n=len(scores))
        why = "the model's logits are not finite" if non_finite.all() else why
        return Choice(int(np.where(non_finite, -1.0, vote(t)).argmax()), float("-inf"), why)
    winner = int(np.nan_to_num(scores, nan=-np.inf).argmax())
    votes = f"{round(len(scores) * vote(t)[winner])} of {len(scores)}"
    why = REASONS[rule].format(
        votes=votes, score=scores[winner], residual=t.residual[winner], steps=int(t.steps[winner])
    )
    return Choice(winner, float(scores[winner]), why)
