"""Evaluation: exact, token and valid accuracy over depths and widths, with confidence intervals and cost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from innerloop.core import MAX_DEPTH, Loop, Thought, think
from innerloop.data.protocols import Examples, Task, Tokens
from innerloop.data.sets import as_tokens, token_dtype
from innerloop.errors import InputError
from innerloop.halt import Halt, confident_and_unchanged, never
from innerloop.interval import wilson
from innerloop.learn.stream import to_batch
from innerloop.ledger import counting, rows_of
from innerloop.noise import has_key
from innerloop.text import printable
from innerloop.width import MAX_WIDTH, Noisy, Pick, best, by_value, first_to_halt, lowest_residual, think_wide, vote

# Rules that pick one of `width` trajectories.
PICKS: dict[str, Pick] = {
    "vote": vote,
    "q": best(),
    "value": best(by_value),
    "residual": lowest_residual,
    "first": first_to_halt,
}


@dataclass(frozen=True)
class Row:
    """One line of an evaluation: `puzzles` examples at one depth (steps) and width (trajectories)."""

    depth: int
    width: int
    halting: bool  # each example stopped by a halting rule: the loop's own (default_halt) unless another was given
    pick: str  # selection rule; "-" for one trajectory
    puzzles: int
    exact: float  # share of puzzles with every labelled position right
    low: float  # 95 % Wilson interval of `exact`
    high: float
    token: float  # share of labelled positions that are right
    valid: float | None  # share of answers that satisfy the task's rules; None if the rules are not known
    steps: float  # mean steps taken
    nfe: float  # mean block calls per example, summed over trajectories, until each stopped
    seconds: float  # wall-clock time of all puzzles
    by_rating: dict[str, float]  # exact share by difficulty: quartile of rating -> share


@dataclass(frozen=True)
class Scores:
    """Answers and scores of N puzzles."""

    answers: Tokens  # (N, S)
    exact: NDArray[np.bool_]
    token: NDArray[np.float32]
    valid: NDArray[np.bool_] | None  # None if the task's rules are not known
    steps: NDArray[np.int64]
    nfe: NDArray[np.float64]  # block calls over all trajectories


class NfeCounter:
    """Wraps a loop and records the block calls (NFE) per example of each step."""

    def __init__(self, loop: Any) -> None:
        self.loop, self.calls = loop, []  # type: ignore[var-annotated]

    def step(self, s: Any, x: Any) -> Any:
        with counting() as cost:
            new = self.loop.step(s, x)
        self.calls.append(cost.nfe / rows_of(new) or 1.0)  # as `counted_step` charges, for the driver
        return new

    def nfe(self, steps: Any, first: int = 0) -> Tensor:
        """Block calls of examples that took `steps` steps, counted from recorded step `first`; the shape of `steps`."""
        total = F.pad(torch.tensor(self.calls[first:], dtype=torch.float64).cumsum(0), (1, 0))
        return total[torch.as_tensor(steps).cpu()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


def evaluate(
    loop: Loop,
    task: Task,
    examples: Examples,
    depths: Sequence[int] = (16,),
    widths: Sequence[int] = (1,),
    *,
    halting: Sequence[bool] = (False,),
    pick: str = "vote",
    noise: tuple[float, float] = (0.0, 0.0),
    batch: int = 256,
    device: torch.device | str = "cpu",
    seed: int = 0,
    halt: Halt | None = None,
) -> list[Row]:
    """A Row for every width, halting and depth. The loop is run as it is: call `loop.eval()` first.

    noise = standard deviations of the normal noise that is added to (the first state, the state after every step).
    halt is the rule for rows with halting; None: the loop's own (default_halt). Without halting and at width 1, one run
    to the largest depth gives all depths.
    Raises InputError for an empty list, a depth or width below 1, widths above 1 of a loop whose trajectories are all
    the same, or the pick "first" without halting.
    """
    check_arguments(task, examples, depths, widths, noise, pick)
    if max(widths) > 1 and not any(noise) and not has_own_noise(loop, examples, device):
        raise InputError("width above 1 would run the same trajectory several times: give noise")
    if max(widths) > 1 and pick == "first" and not all(halting):
        raise InputError('the pick "first" takes the trajectory that halts first: give halting=(True,)')
    rows = []
    for width in widths:
        for halts in halting:
            if width == 1 and not halts:
                rows += sweep(loop, task, examples, sorted(set(depths)), noise, batch, device, seed)
                continue
            for depth in depths:
                began = time.perf_counter()
                scores = score_set(loop, task, examples, depth, width, halts, pick, noise, batch, device, seed, halt)
                rows.append(as_row(scores, task, examples, depth, width, halts, pick, time.perf_counter() - began))
    return rows


def check_arguments(
    task: Any, examples: Any, depths: Sequence[int], widths: Sequence[int], noise: Sequence[float], pick: str
) -> None:
    """Raise InputError for arguments out of range, and for examples that do not fit the task, before anything runs.

    examples: anything with inputs, labels and puzzle, since only a PuzzleSet checks itself.
    """
    if not depths or not widths or min(depths) < 1 or min(widths) < 1:
        raise InputError("depths and widths must be lists of whole numbers of 1 or more")
    if max(depths) > MAX_DEPTH or max(widths) > MAX_WIDTH:
        raise InputError(
            f"depth {max(depths)} or width {max(widths)} is too large: "
            f"give depths up to {MAX_DEPTH} and widths up to {MAX_WIDTH}"
        )
    if len(noise) != 2 or not all(math.isfinite(n) and n >= 0 for n in noise):
        raise InputError(f"noise is {noise}: give two numbers of 0 or more, for the first state and for every step")
    if pick not in PICKS:
        raise InputError(f'no selection rule is called "{printable(str(pick))}": use one of {", ".join(PICKS)}')
    for name in ("inputs", "labels"):
        as_tokens(getattr(examples, name), f"the {name}", getattr(examples, "source", ""), task.vocab - 1)
    if not len(examples.inputs) == len(examples.labels) == len(examples.puzzle):
        raise InputError(
            f"{len(examples.inputs)} inputs, {len(examples.labels)} labels and {len(examples.puzzle)} identifiers: "
            "give one of each per puzzle"
        )


@torch.no_grad()
def sweep(
    loop: Loop, task: Any, examples: Any, depths: Sequence[int], noise: Any, batch: int, device: Any, seed: int
) -> list[Row]:
    """One trajectory to the largest of `depths` (ascending), read at each of them."""
    seconds = dict.fromkeys(depths, 0.0)
    scores: dict[int, list[Scores]] = {d: [] for d in depths}
    for part, question in batches(examples, batch, device):
        counter = NfeCounter(_noisy(loop, noise, seed))
        state, elapsed, steps_done = None, 0.0, 0
        for depth in depths:
            began = time.perf_counter()
            thought = think(counter, question, depth - steps_done, state=state)
            state, steps_done = thought.state, depth
            elapsed += time.perf_counter() - began
            seconds[depth] += elapsed
            steps = torch.full((len(part),), depth)
            scores[depth].append(_score(task, part, thought.answer.logits, steps, counter.nfe(steps)))
    return [as_row(concat_scores(scores[d]), task, examples, d, 1, False, "-", seconds[d]) for d in depths]


@torch.no_grad()
def score_set(
    loop: Loop,
    task: Any,
    examples: Any,
    depth: int,
    width: int = 1,
    halting: bool = False,
    pick: str = "vote",
    noise: tuple[float, float] = (0.0, 0.0),
    batch: int = 256,
    device: torch.device | str = "cpu",
    seed: int = 0,
    halt: Halt | None = None,
) -> Scores:
    """Run the loop on every example and score the answers by labels and by the task's rules."""
    halting_rule = (halt or default_halt(loop)) if halting else never
    scores = []
    for part, question in batches(examples, batch, device):
        counter = NfeCounter(_noisy(loop, noise, seed))
        nfe = torch.zeros(len(part), dtype=torch.float64)

        def pick_and_count(thoughts: Sequence[Thought], counter: NfeCounter = counter, nfe: Tensor = nfe) -> Thought:
            first = 0
            for thought in thoughts:
                nfe += counter.nfe(thought.steps, first)
                first += int(torch.as_tensor(thought.steps).max())
            return PICKS[pick](thoughts)

        thought = think_wide(counter, question, width, pick_and_count, depth, halt=halting_rule)
        steps = torch.as_tensor(thought.steps).expand(len(part))
        scores.append(_score(task, part, thought.answer.logits, steps, nfe))
    return concat_scores(scores)


def default_halt(loop: Any) -> Halt:
    """The default halting rule of a loop: its `stop`, or halt.confident_and_unchanged.

    Loops that learn when to halt (ACT, PonderNet) declare `stop`. For others, whose halting head predicts correctness,
    an example stops when the head is confident and the last step left the answer unchanged.
    """
    inner = loop.loop if isinstance(loop, Noisy) else loop
    return getattr(inner, "stop", None) or confident_and_unchanged()


def batches(examples: Any, batch: int, device: Any) -> Any:
    """Yields (part of the set, its Question), at most `batch` rows at a time."""
    for first in range(0, len(examples), batch):
        part = examples.take(np.arange(first, min(first + batch, len(examples))))
        yield part, to_batch(part.inputs, part.labels, part.puzzle, device).question


def has_own_noise(loop: Loop, examples: Any, device: Any = "cpu") -> bool:
    """Whether trajectories differ without added noise: the loop's state has a noise key that can be salted."""
    _, question = next(batches(examples, 1, device))
    return has_key(loop.init(question))


def _noisy(loop: Loop, noise: tuple[float, float], seed: int) -> Loop:
    return Noisy(loop, *noise, seed=seed) if any(noise) else loop


def _score(task: Any, part: Any, logits: Tensor, steps: Tensor, nfe: Tensor) -> Scores:
    answers = logits.argmax(-1).cpu().numpy().astype(token_dtype(logits.shape[-1]))
    exact, token, valid = task.score_batch(part.inputs, answers, part.labels)
    return Scores(answers, exact, token, valid if task.verifies else None, steps.cpu().numpy(), nfe.numpy())


def concat_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of all batches of a set, concatenated."""
    columns = ([getattr(part, name) for part in parts] for name in Scores.__dataclass_fields__)
    return Scores(*(None if column[0] is None else np.concatenate(column) for column in columns))  # type: ignore[arg-type]


def as_row(
    scores: Scores, task: Any, examples: Any, depth: int, width: int, halting: bool, pick: str, seconds: float
) -> Row:
    n, exact = len(scores.exact), float(scores.exact.sum())
    valid = None if scores.valid is None else float(scores.valid.mean())
    accuracies = (exact / n, *wilson(exact, n), float(scores.token.mean()), valid)
    cost = (float(scores.steps.mean()), float(scores.nfe.mean()), seconds)
    quartiles = by_rating(scores.exact, examples.rating)
    return Row(depth, width, halting, pick if width > 1 else "-", n, *accuracies, *cost, quartiles)


def by_rating(exact: NDArray[np.bool_], rating: NDArray[np.float32]) -> dict[str, float]:
    """Exact share within each quartile of rating; empty where ratings are unknown or all equal."""
    if np.isnan(rating).any() or np.ptp(rating) == 0:
        return {}
    edges = np.unique(np.quantile(rating, [0, 0.25, 0.5, 0.75, 1]))
    quartile = np.clip(np.searchsorted(edges, rating, side="right") - 1, 0, len(edges) - 2)
    labels = [f"{a:g}-{b:g}" for a, b in pairwise(edges)]
    return {label: float(exact[quartile == i].mean()) for i, label in enumerate(labels) if (quartile == i).any()}


def as_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
