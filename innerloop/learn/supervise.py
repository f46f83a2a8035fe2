"""Deep supervision: one step of thought, one loss, one optimizer step, and the state is carried on.

    finished rows leave, fresh puzzles enter, the others keep their detached state:   refill
    state <- loop.step(state);   loss = mean cross-entropy of a sequence + 1/2 halting loss;   halt?

The persistent carry is what "N_sup supervision steps" means in the code of HRM and TRM.

A loop that learns from more than its answer may have, besides init, step and read:
    needs_target = True it is shown Question.target while it learns: a posterior, say, needs the right answer
    terms(s)            {name ending in "_loss": (B,)}: further losses of a state, already weighted
    set_progress(p)     called before every optimizer step with the share of training done, 0 to 1
    after_update()      of it or of any part of it: called after an optimizer step, outside autograd, for what no
                        gradient reaches, such as a balance to restore
    stop                the rule of innerloop.halt it is to be stopped by, if that is not halt.confident_and_unchanged
A loop that draws noise keeps a `key` (B,) int64 in its state and draws by noise.normal, so that nothing is hidden.
Sources: arXiv 2506.21734, arXiv 2510.04871; exact to the official code (tests/parity).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.core import Answer, Loop, Question, refill
from innerloop.halt import halting_margin
from innerloop.learn.loss import CROSS_ENTROPIES, judge
from innerloop.noise import salted
from innerloop.schema import Count, Share, check

BRIEF = 4  # steps of a brief life at most: most puzzles are solved by then


class Batch(NamedTuple):
    question: Question
    labels: Tensor  # (B, S) int64, IGNORE where nothing is asked


class Carry(NamedTuple):
    """What lives on between optimizer steps."""

    state: Any
    batch: Batch
    steps: Tensor  # (B,) int64 steps its puzzle has had
    life: Tensor  # (B,) int64 steps it will have at most
    halted: Tensor  # (B,) bool: the row is free for a fresh puzzle


@dataclass(frozen=True)
class HaltingConfig:
    """When a row is given up for a fresh puzzle in training. Official HRM and TRM: 16 steps, exploration 0.1.

    A head that frees rows early leaves deep steps untrained once most puzzles are solved at step 1, and accuracy
    then falls with depth. `learned=False, spread=True` trains all depths up to twice max_steps instead.
    """

    max_steps: Count = 16  # N_sup, halt_max_steps
    learned: bool = True  # let the halting head free a row before that
    explore: Share = 0.1  # share of rows which must go on for a random number of steps
    spread: bool = False  # each puzzle's life is uniform in 1 .. 2 max_steps instead of max_steps
    brief: Share = 0.0  # share of puzzles that live 1 .. BRIEF steps only: more puzzles are seen, and all depths still

    def __post_init__(self) -> None:
        check(self)

    @property
    def deepest(self) -> int:
        """The deepest step that training can reach: what "the trained depth" means in figures and tables."""
        return self.max_steps * (2 if self.spread else 1)

    def draw(self, rows: int, generator: torch.Generator, noisy: bool = False) -> Draw:
        """Random part of a step: steps before the head may free a row; lives; trajectories if `noisy`."""
        lucky = torch.rand(rows, generator=generator) < self.explore
        least = lucky * torch.randint(2, max(self.max_steps, 2) + 1, (rows,), generator=generator)
        life = torch.full((rows,), self.max_steps)
        if self.spread:
            life = torch.randint(1, 2 * self.max_steps + 1, (rows,), generator=generator)
        if self.brief:
            short = torch.rand(rows, generator=generator) < self.brief
            life = life.where(~short, torch.randint(1, BRIEF + 1, (rows,), generator=generator))
        return Draw(least, life, salts(rows, generator) if noisy else None)


class Draw(NamedTuple):
    least: Tensor  # (B,) int64 steps before the halting head may free the row; 0 for most
    life: Tensor  # (B,) int64 life of the puzzle that enters this row, if one does
    salt: Tensor | None = None  # (B,) int64 trajectory of that puzzle, for loops with noise of their own


def salts(rows: int, generator: torch.Generator) -> Tensor:
    """(B,) int64 > 0, a trajectory for each row."""
    return torch.randint(1, 1 << 40, (rows,), generator=generator)


class SupervisedStep(NamedTuple):
    """One step of deep supervision, not yet differentiated."""

    carry: Carry
    answer: Answer
    losses: dict[str, Tensor]  # scalar sums over the batch, by name
    metrics: dict[str, Tensor]  # scalar sums over the rows that just halted, as in the official code
    target: Tensor | None  # (B,) what the continue head should say, for loops that have one


def initial_carry(loop: Loop, batch: Batch) -> Carry:
    """A carry whose rows are all free, so that the first step fills them."""
    rows, device = len(batch.labels), batch.labels.device
    free = torch.ones(rows, dtype=torch.bool, device=device)
    zero = torch.zeros(rows, dtype=torch.long, device=device)
    return Carry(loop.init(batch.question), batch, zero, zero, free)


def supervised_step(
    loop: Loop,
    carry: Carry,
    fresh: Batch,
    halting: HaltingConfig,
    draw: Draw | None,
    cross_entropy: str = "stablemax",
) -> SupervisedStep:
    """Think one step further. `draw` is None in evaluation: every row then runs to max_steps, as officially."""
    batch = refill(carry.batch, carry.halted, fresh)
    question = question_for(loop, batch, draw is not None)
    fresh_state = loop.init(question)
    if draw is not None and draw.salt is not None:
        fresh_state = salted(fresh_state, draw.salt.to(batch.labels.device))
    state = refill(carry.state, carry.halted, fresh_state)
    steps = carry.steps.where(~carry.halted, 0) + 1
    life = carry.life.where(~carry.halted, halting.max_steps if draw is None else draw.life.to(steps.device))
    state = loop.step(state, question)
    answer: Answer = loop.read(state)

    spent = steps >= life
    halted, target = spent, None
    if draw is not None and halting.max_steps > 1:
        if halting.learned and answer.q_halt is not None:
            wants = halting_margin(answer).detach() > 0
            halted = spent | (wants & (steps >= draw.least.to(steps.device)))
        if answer.q_continue is not None:
            target = q_target(loop, state, question, spent)
    losses, metrics = loss_and_metrics(answer, batch.labels, steps, halted, target, cross_entropy)
    losses |= auxiliary_losses(loop, state)
    return SupervisedStep(Carry(state, batch, steps, life, halted), answer, losses, metrics, target)


def question_for(loop: Loop, batch: Batch, learning: bool = True) -> Question:
    """The question as `loop` may see it: with its answer if it is `needs_target`, and learning."""
    shown = learning and getattr(loop, "needs_target", False)
    return batch.question._replace(target=batch.labels) if shown else batch.question


def auxiliary_losses(loop: Any, state: Any) -> dict[str, Tensor]:
    """A loop's own losses of a state, each a sum over the batch."""
    return {k: v.sum() for k, v in loop.terms(state).items()} if hasattr(loop, "terms") else {}


@torch.no_grad()
def q_target(loop: Loop, state: Any, question: Question, spent: Tensor) -> Tensor:
    """(B,) value of going on: the better of the next step's two heads, which at the last step is to halt."""
    following: Answer = loop.read(loop.step(state, question))
    assert following.q_halt is not None and following.q_continue is not None
    return torch.where(spent, following.q_halt, torch.maximum(following.q_halt, following.q_continue)).sigmoid()


def loss_and_metrics(
    answer: Answer, labels: Tensor, steps: Tensor, halted: Tensor, target: Tensor | None, cross_entropy: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and metrics of one answer, each a sum over the batch; the halting losses already at their weight 1/2."""
    token, exact, count = judge(answer.logits, labels)
    nll = CROSS_ENTROPIES[cross_entropy](answer.logits, labels)
    losses = {"lm_loss": (nll / count.clamp_min(1)[:, None]).sum()}
    judged = halted & (count > 0)
    metrics = {
        "count": judged.sum(),
        "accuracy": token.where(judged, 0).sum(),
        "exact_accuracy": (judged & exact).sum(),
        "steps": steps.where(judged, 0).sum(),
    }
    if answer.q_halt is not None:
        right = exact.to(answer.q_halt.dtype)
        metrics["q_halt_accuracy"] = (judged & ((answer.q_halt >= 0) == exact)).sum()
        losses["q_halt_loss"] = 0.5 * F.binary_cross_entropy_with_logits(answer.q_halt, right, reduction="sum")
    if answer.value is not None:  # GRAM's (v - r)^2, where r is the share of judged places that are right
        losses["value_loss"] = (answer.value - token).square().sum()
    if target is not None and answer.q_continue is not None:
        losses["q_continue_loss"] = 0.5 * F.binary_cross_entropy_with_logits(answer.q_continue, target, reduction="sum")
    return losses, metrics
