"""ARC evaluation: undo the augmentations, let equal grids vote, and count a task solved within k guesses.

Candidates of one test input are ranked by (votes, mean confidence); a task scores the share of its test inputs whose
answer is among the first k. This is the protocol of the HRM and TRM evaluators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.arc import crop, undo_variant

__all__ = ["Candidate", "input_key", "pass_at", "rank_candidates"]


class Candidate(NamedTuple):
    """One grid of colours (h, w) with its votes and the mean confidence (0..1) of those votes."""

    grid: np.ndarray
    votes: int
    confidence: float


def input_key(name: str, inputs: np.ndarray) -> tuple[str, bytes]:
    """What identifies one test input: (original id, its original grid's bytes). inputs: tokens (900,), unmoved."""
    original, grid = undo_variant(name, crop(inputs))
    return original, bytes(grid.shape) + grid.tobytes()


def rank_candidates(
    names: Sequence[str], inputs: np.ndarray, answers: np.ndarray, confidences: np.ndarray
) -> dict[tuple[str, bytes], list[Candidate]]:
    """Ranked candidates of every test input. names (B,), inputs and answers tokens (B, 900), confidences float (B,)."""
    if not len(names) == len(inputs) == len(answers) == len(confidences):
        raise InputError("names, inputs, answers and confidences differ in length; give one of each a prediction.")
    votes_by_input: dict[tuple[str, bytes], dict[bytes, tuple[np.ndarray, list[float]]]] = {}
    for name, question, answer, confidence in zip(names, inputs, answers, confidences, strict=True):
        grid = np.ascontiguousarray(undo_variant(name, crop(answer))[1])
        votes = votes_by_input.setdefault(input_key(name, question), {})
        votes.setdefault(bytes(grid.shape) + grid.tobytes(), (grid, []))[1].append(float(confidence))
    return {
        place: sorted(
            (Candidate(grid, len(c), float(np.mean(c))) for grid, c in votes.values()),
            key=lambda v: (v.votes, v.confidence),
            reverse=True,
        )
        for place, votes in votes_by_input.items()
    }


def pass_at(
    ranked: Mapping[tuple[str, bytes], Sequence[Candidate]],
    truth: Mapping[tuple[str, bytes], np.ndarray],
    ks: Sequence[int] = (1, 2, 5, 10, 100, 1000),
) -> dict[int, float]:
    """Mean task score at each k. truth: answer grid (h, w) of every test input by `key`; inputs never answered count
    0.
    """
    if not truth:
        raise InputError("no test input is given to score against; pass the answers by key(name, inputs).")
    scores: dict[int, float] = {}
    for k in ks:
        solved: dict[str, list[bool]] = {}
        for place, answer in truth.items():
            hit = any(np.array_equal(c.grid, answer) for c in list(ranked.get(place, ()))[:k])
            solved.setdefault(place[0], []).append(hit)
        scores[k] = float(np.mean([np.mean(hits) for hits in solved.values()]))
    return scores
