"""An endless, seeded stream of examples: example number n is a function of (seed, n) alone.

A resumed run, or a run on more processes, therefore sees the same examples.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core import Question
from innerloop.data.protocols import Tokens
from innerloop.learn.loss import IGNORE
from innerloop.learn.supervise import Batch

BLOCK = 64  # examples augmented and cached together


class ExampleStream:
    """Shuffled epochs over a set, augmented on the fly.

    examples: a PuzzleSet (data.sets); task: offers augment(inputs, labels, rng), or None to use rows as they are.
    Each epoch takes one random row of every group (the rows made from one original), as the official sampler does.
    reveal: share of examples that show a part of their answer (`revealed`), in cells that hold `blank`; none if that is
    0, the token of a task without a blank.
    """

    def __init__(self, examples: Any, task: Any | None, seed: int, *, reveal: float = 0.0, blank: int = 0) -> None:
        self.examples, self.task, self.seed = examples, task, seed
        self.reveal, self.blank = reveal, blank
        order = np.argsort(examples.group, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(examples.group[order]) != 0])
        self.members = np.split(order, starts[1:])
        self.block = lru_cache(maxsize=4)(self._block)
        self.row_order = lru_cache(maxsize=2)(self._row_order)

    def _row_order(self, epoch: int) -> NDArray[np.int64]:
        """(groups,) rows of one epoch: groups in random order, one random member of each."""
        rng = np.random.default_rng([self.seed, 0, epoch])
        groups = rng.permutation(len(self.members))
        return np.array([self.members[g][rng.integers(len(self.members[g]))] for g in groups])

    def _block(self, k: int) -> tuple[Tokens, Tokens, NDArray[np.int32]]:
        numbers = np.arange(k * BLOCK, (k + 1) * BLOCK)
        epochs, positions = np.divmod(numbers, len(self.members))
        rows = np.array([self.row_order(int(e))[p] for e, p in zip(epochs, positions, strict=True)])
        inputs, labels = self.examples.inputs[rows], self.examples.labels[rows]
        if self.task is not None:
            inputs, labels = self.task.augment(inputs, labels, np.random.default_rng([self.seed, 1, k]))
        if self.reveal and self.blank:
            inputs = revealed(inputs, labels, self.blank, self.reveal, np.random.default_rng([self.seed, 2, k]))
        return inputs, labels, self.examples.puzzle[rows]

    def rows(self, first: int, count: int) -> tuple[Tokens, Tokens, NDArray[np.int32]]:
        """Inputs (count, S), labels (count, S) and puzzle ids (count,) of the examples numbered from `first`."""
        blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
        joined = [np.concatenate(parts) for parts in zip(*map(self.block, blocks), strict=True)]
        start = first - blocks.start * BLOCK
        return tuple(a[start : start + count] for a in joined)  # type: ignore[return-value]

    def fill(self, free: torch.Tensor, first: int) -> Batch:
        """A batch whose `free` rows, (B,) bool, hold the next examples; the others are zeros and are not used."""
        slots, device = np.flatnonzero(free.cpu().numpy()), free.device
        width = self.examples.inputs.shape[1]
        inputs = np.zeros((len(free), width), np.int64)
        labels, puzzle = np.zeros_like(inputs), np.zeros(len(free), np.int64)
        if len(slots):
            inputs[slots], labels[slots], puzzle[slots] = self.rows(first, len(slots))
        return to_batch(inputs, labels, puzzle, device)


def revealed(inputs: Tokens, labels: Tokens, blank: int, share: float, rng: np.random.Generator) -> Tokens:
    """Inputs (N, S) where `share` of the rows show their label in a random part of their blank cells.

    A puzzle with one answer keeps that answer when more of it is given, so the row stays a right example. Each
    row draws a share uniformly from 0 to 1, and each of its blank cells is shown with that probability.
    """
    part = rng.random(len(inputs)) * (rng.random(len(inputs)) < share)
    shown = (inputs == blank) & (labels != 0) & (rng.random(inputs.shape) < part[:, None])
    return np.where(shown, labels, inputs).astype(inputs.dtype)


def to_batch(inputs: Any, labels: Any, puzzle: Any, device: torch.device | str) -> Batch:
    """Arrays (B, S), (B, S) and (B,) -> a Batch on `device`; label 0 becomes IGNORE."""
    x, y, ids = (torch.from_numpy(np.ascontiguousarray(a, np.int64)) for a in (inputs, labels, puzzle))
    y = torch.where(y == 0, IGNORE, y)
    return Batch(Question(x.to(device), ids.to(device)), y.to(device))
