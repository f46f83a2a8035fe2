"""How many of a puzzle's solutions a loop finds: the share of all of them among n sampled trajectories.

    coverage of a puzzle = different valid answers among its n samples / all its solutions (exact search)

A loop without noise always gives one answer, so its coverage is at most one over the number of solutions. The measure
is GRAM's (arXiv 2605.19376). Shapes: N puzzles, n samples, S places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core import Loop, Question, map_tensors, think
from innerloop.data.protocols import Tokens
from innerloop.errors import InputError
from innerloop.halt import Halt, never
from innerloop.interval import Proportion, cluster_bootstrap
from innerloop.learn.evaluate import batches, has_own_noise
from innerloop.noise import salted

__all__ = ["Coverage", "coverage", "coverage_of", "sample_answers"]

MAX_SOLUTIONS = 100_000  # solutions of one puzzle that are counted


class Coverage(NamedTuple):
    """Results for n samples a puzzle. Intervals are bootstrapped over puzzles, whose samples are correlated."""

    samples: int
    coverage: Proportion  # mean over puzzles; value.n is their number
    valid: Proportion  # of all samples, those that satisfy the rules
    ceiling: float  # the coverage if all samples were different solutions
    solutions: float  # mean number a puzzle has
    answers: float  # mean number of different answers a puzzle got, valid or not


def coverage(
    loop: Loop,
    task: Any,
    examples: Any,
    samples: Sequence[int] = (1, 5, 20),
    depth: int = 16,
    *,
    halt: Halt = never,
    batch: int = 256,
    device: torch.device | str = "cpu",
) -> list[Coverage]:
    """Coverage and validity for each number of samples, all from the same trajectories.

    task: one with `solutions` and `valid_batch`; examples: a PuzzleSet of it. `batch`: trajectories run at once.
    Raises InputError for no samples, or a puzzle of LIMIT solutions or more.
    """
    if not samples or min(samples) < 1:
        raise InputError(f"{list(samples)} samples find nothing: give whole numbers from 1 up")
    total = np.array([task.solutions(question, MAX_SOLUTIONS) for question in examples.inputs])
    if (total >= MAX_SOLUTIONS).any() or (total < 1).any():
        row = int(np.argmax((total >= MAX_SOLUTIONS) | (total < 1))) + 1
        raise InputError(f"puzzle {row} has {total[row - 1]} solutions: coverage needs 1 to {MAX_SOLUTIONS - 1}")
    answers = sample_answers(loop, examples, max(samples), depth, halt=halt, batch=batch, device=device)
    return [coverage_of(task, examples.inputs, answers[:, :n], total) for n in samples]


def coverage_of(task: Any, inputs: Tokens, answers: Tokens, total: NDArray[np.int64]) -> Coverage:
    """Of answers (N, n, S) to inputs (N, S) that have `total` (N,) solutions each."""
    rows, n, _ = answers.shape
    valid = task.valid_batch(np.repeat(inputs, n, 0), answers.reshape(rows * n, -1)).reshape(rows, n)
    found = np.array([len(np.unique(a[v], axis=0)) for a, v in zip(answers, valid, strict=True)])
    places = np.arange(rows)
    return Coverage(
        n,
        cluster_bootstrap(found / total, places),
        cluster_bootstrap(valid.reshape(-1), np.repeat(places, n)),
        float(np.minimum(1.0, n / total).mean()),
        float(total.mean()),
        float(np.mean([len(np.unique(a, axis=0)) for a in answers])),
    )


@torch.no_grad()
def sample_answers(
    loop: Loop,
    examples: Any,
    n: int,
    depth: int,
    *,
    halt: Halt = never,
    batch: int = 256,
    device: torch.device | str = "cpu",
) -> Tokens:
    """(N, n, S) tokens: the answers of n trajectories of each puzzle, folded into batches of at most `batch` rows.

    Trajectory i is the one whose key is salted with i, as in width.wide. A loop whose trajectories are all the same
    runs once.
    """
    different = n if has_own_noise(loop, examples, device) else 1
    found = []
    for _, asked in batches(examples, max(1, batch // different), device):
        salt = torch.arange(different, device=asked.inputs.device).repeat(len(asked.inputs))
        question: Question = map_tensors(lambda t: t.repeat_interleave(different, 0), asked)
        chunks = []
        for first in range(0, len(salt), batch):
            rows = slice(first, first + batch)
            part = map_tensors(lambda t: t[rows], question)  # noqa: B023
            state = salted(loop.init(part), salt[rows])
            chunks.append(think(loop, part, depth, halt=halt, state=state).answer.logits.argmax(-1))
        answers = torch.cat(chunks).cpu().numpy().astype(examples.inputs.dtype)
        found.append(np.repeat(answers.reshape(-1, different, answers.shape[-1]), n // different, 1))
    return np.concatenate(found)
