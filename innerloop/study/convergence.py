"""Convergence of a loop: residual of each update and slot, and whether it ends in a fixed point, a cycle or a trap.

    residuals(loop, x, depth)       per update and slot: |new - old| / |new|
    cycles(curves, slot)            the same, cut where another slot moves: hierarchical convergence (arXiv 2506.21734)
    course(loop, x, depth)          answers of every step, and the last states
    fates(path, labels)             solved, trapped (a wrong answer for good), cycling or unsettled
    filled(loop, x, solutions, ..)  does a solved board stay solved, and is one with one blank solved (arXiv 2601.10679)

Labels are (B, S) tokens; positions with a label below 1 are not judged. B examples, T steps, S positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.core import Loop, Question, detach, think
from innerloop.errors import InputError
from innerloop.halt import residual
from innerloop.interval import Proportion, proportion
from innerloop.study.record import record_updates, slots

__all__ = [
    "AnswerTrace",
    "NearSolved",
    "Outcomes",
    "ResidualCurves",
    "answer_trace",
    "classify_outcomes",
    "cycle_ratios",
    "near_solved",
    "residual_cycles",
    "residuals",
]

OUTCOMES = ("solved", "trapped", "cycling", "unsettled")


class ResidualCurves(NamedTuple):
    """Residuals of M updates."""

    steps: list[int]  # (M) the step each update belongs to
    names: list[str]  # (M) the update's name
    slots: dict[str, Tensor]  # slot -> (M, B) float32; NaN at updates that are not this slot's


def residuals(loop: Loop, x: Any, depth: int, state: Any = None) -> ResidualCurves:
    """How far every update moves every floating slot, as a share of the slot's norm after it."""

    def moved(name: str, old: Any, new: Any) -> dict[str, Tensor]:
        before, now = slots(old), slots(new)
        return {k: residual(before[k], v) for k, v in now.items() if v.is_floating_point()}

    _, records = record_updates(loop, x, depth, moved, state=state)
    curves = {}
    for slot in records[0].kept:
        values = torch.stack([m.kept[slot] for m in records])
        owners = {m.name for m, v in zip(records, values, strict=True) if bool((v > 0).any())}
        mine = torch.tensor([m.name in owners for m in records], device=values.device)
        curves[slot] = values.where(mine[:, None], torch.nan)
    return ResidualCurves([m.step for m in records], [m.name for m in records], curves)


def residual_cycles(curves: ResidualCurves, slot: str) -> list[Tensor]:
    """A slot's residuals, one (n, B) tensor for each unbroken run of its updates."""
    if slot not in curves.slots:
        raise InputError(f'there is no slot "{slot}": these curves have {", ".join(curves.slots)}')
    found: list[list[Tensor]] = [[]]
    for value in curves.slots[slot]:
        if bool(value.isnan().all()):
            found.append([])
        else:
            found[-1].append(value)
    return [torch.stack(run) for run in found if run]


class CycleRatios(NamedTuple):
    """Hierarchical convergence in two ratios per cycle: a fast slot settles in a cycle and is disturbed after it."""

    falls: Tensor  # (K, B) first residual of a cycle over its last; above 1: it settles
    spikes: Tensor  # (K - 1, B) first residual of a cycle over the last of the cycle before; above 1: it is disturbed


def cycle_ratios(runs: Sequence[Tensor]) -> CycleRatios:
    """Of the K cycles of a slot (`cycles`). A plain loop has one cycle, and no spikes."""
    tiny = 1e-12
    falls = [run[0] / run[-1].clamp_min(tiny) for run in runs]
    spikes = [b[0] / a[-1].clamp_min(tiny) for a, b in pairwise(runs)]
    return CycleRatios(torch.stack(falls), torch.stack(spikes) if spikes else runs[0].new_empty(0, runs[0].shape[1]))


class AnswerTrace(NamedTuple):
    answers: Tensor  # (T, B, S) decoded after every step
    residual: Tensor  # (T, B) relative change of the whole state in that step
    states: list[Any]  # the last states, oldest first


@torch.no_grad()
def answer_trace(loop: Loop, x: Any, depth: int, window: int = 8) -> AnswerTrace:
    """Run `depth` steps; keep every answer and the last `window` states."""
    answers: list[Tensor] = []
    moved: list[Tensor] = []
    states = [detach(loop.init(x))]

    def note(loop: Loop, new: Any) -> None:
        answers.append(loop.read(new).logits.argmax(-1))
        moved.append(residual(states[-1], new))
        states.append(detach(new))
        del states[:-window]

    think(loop, x, depth, record=note)
    return AnswerTrace(torch.stack(answers), torch.stack(moved), states)


def period(same: Tensor) -> Tensor:
    """(B,) smallest p that explains a window of W steps, from same (W, W, B): "step i is as step j was"; 0: none.

    p = 1 is a fixed point. A period is believed once it was seen twice, so p goes up to W / 2.
    """
    window = len(same)
    found = torch.zeros_like(same[0, 0], dtype=torch.long)
    for p in range(window // 2, 0, -1):
        holds = torch.stack([same[t, t - p] for t in range(p, window)]).all(0)
        found = torch.where(holds, p, found)
    return found


class Outcomes(NamedTuple):
    """How each of B examples ends."""

    right: Tensor  # (T, B) bool: the answer of that step is the label
    kind: Tensor  # (B,) index into KINDS
    answer_period: Tensor  # (B,) int64 of the decoded answer; 1: fixed, 0: none seen
    state_period: Tensor  # (B,) int64 of the state, up to `tol`
    first_right: Tensor  # (B,) int64 first step with a right answer, 0: never
    lost: Tensor  # (B,) bool: it was right at some step and wrong at a later one

    def counts(self) -> dict[str, Proportion]:
        """Outcome -> its share of examples, with interval."""
        return {name: proportion((self.kind == i).cpu().numpy()) for i, name in enumerate(OUTCOMES)}


STAGES = ("right", "right for now", "stuck", "changing")


def stages(path: AnswerTrace, labels: Tensor, ends: Outcomes) -> dict[str, Tensor]:
    """Stage -> (T,) share of thoughts in it at each step, seen from the end.

    right: right from here on; right for now: right, and wrong later; stuck: wrong, with the answer that it is trapped
    in; changing: wrong, and not there yet.
    """
    after = _from_here_on(ends.right)
    last = path.answers[-1]
    there = _from_here_on(torch.stack([((a == last) | (labels < 1)).all(-1) for a in path.answers]))
    stuck = ~ends.right & there & (ends.answer_period == 1)
    masks = (after, ends.right & ~after, stuck, ~ends.right & ~stuck)
    return {name: mask.float().mean(1) for name, mask in zip(STAGES, masks, strict=True)}


def _from_here_on(holds: Tensor) -> Tensor:
    """(T, B) bool: it holds at this step and at all later ones."""
    return holds.int().flip(0).cummin(0).values.flip(0).bool()


def is_correct(answers: Tensor, labels: Tensor) -> Tensor:
    """(..., B) bool: every judged place of (..., B, S) answers is as labelled."""
    return ((answers == labels) | (labels < 1)).all(-1)


def classify_outcomes(path: AnswerTrace, labels: Tensor, tol: float = 1e-2) -> Outcomes:
    """Classify how each example ends, over the window of states in `path`.

    solved     the answer is right and stands still
    trapped    the answer is wrong and stands still: a spurious fixed point
    cycling    the answer comes back with a period of 2 or more
    unsettled  none of these in the last steps: it may settle later
    `tol` is how close two states must be, as a share of their norm, to count as the same.
    """
    window = len(path.states)
    if window < 2 or window > len(path.answers):
        raise InputError(f"a window of {window} states shows no period: think deeper, or keep 2 or more of them")
    tail = path.answers[-window:]
    judged = labels >= 1
    alike = torch.stack([torch.stack([((a == b) | ~judged).all(-1) for b in tail]) for a in tail])
    close = torch.stack([torch.stack([residual(b, a) < tol for b in path.states]) for a in path.states])
    right = is_correct(path.answers, labels)
    answered, stood = period(alike), period(close)
    kind = torch.where(right[-1], 0, 1).where(answered == 1, torch.where(answered > 1, 2, 3))
    ever = right.any(0)
    first = torch.where(ever, right.long().argmax(0) + 1, 0)
    lost = (right[:-1] & ~right[1:]).any(0)
    return Outcomes(right, kind, answered, stood, first, lost)


class NearSolved(NamedTuple):
    """Boards with `blanks` empty places, chosen at random from a solved board."""

    blanks: int
    depth: int
    solved: Proportion  # right after `depth` steps
    always: Proportion  # right after each of them: with 0 blanks, "a solved board stays solved"
    kept: Proportion  # of those right at some step, right at all later ones


@torch.no_grad()
def near_solved(
    loop: Loop,
    x: Question,
    solutions: Tensor,
    blank: int,
    blanks: Sequence[int] = (0, 1, 2, 4, 8),
    depth: int = 16,
    batch: int = 256,
    seed: int = 0,
    places: Tensor | None = None,
) -> list[NearSolved]:
    """Ask boards that are solved but for a few places; the fewer are left, the easier they should be.

    x lends its puzzle identifiers; solutions (N, S) are tokens of the question's own kind, `blank` the token of an
    empty place. `places` (N, S) bool are those that may be emptied (None: all): a clue at the border is no such place.
    Padding (0), and what is empty in the solution too, stays. Raises InputError where a board has fewer places than
    `blanks`.
    """
    found = []
    for count in blanks:
        inputs = blank_out(solutions, blank, count, seed, places)
        right = []
        for first in range(0, len(inputs), batch):
            part = slice(first, first + batch)
            asked = Question(inputs[part], x.puzzle[part])
            path = answer_trace(loop, asked, depth, window=1)
            right.append(is_correct(path.answers, solutions[part]))
        right_TN = torch.cat(right, 1).cpu()
        ever = right_TN.any(0)
        lost = (right_TN[:-1] & ~right_TN[1:]).any(0)
        found.append(
            NearSolved(
                count,
                depth,
                proportion(right_TN[-1].numpy()),
                proportion(right_TN.all(0).numpy()),
                proportion((~lost)[ever].numpy()),
            )
        )
    return found


def blank_out(solutions: Tensor, blank: int, count: int, seed: int = 0, places: Tensor | None = None) -> Tensor:
    """Solved boards (N, S) with `count` random places of each emptied; more places are emptied around fewer ones."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(solutions.shape, generator=generator).to(solutions.device)
    filled_in = (solutions > 0) & (solutions != blank) & (True if places is None else places)
    order = order.masked_fill(~filled_in, 2.0)
    if count > int(filled_in.sum(1).min()):
        raise InputError(f"{count} blanks do not fit a board with fewer places: ask for fewer")
    rank = order.argsort(1).argsort(1)
    return torch.where(rank < count, blank, solutions)
