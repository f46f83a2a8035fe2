"""Deep supervision: one step of the loop, one loss, one optimizer step; the detached state is carried over.

    refill:   halted rows take fresh puzzles, the others keep their detached state
    state <- loop.step(state);   loss = mean cross-entropy of a sequence + 1/2 halting loss;   mark halted rows

This is the "N_sup supervision steps" with a persistent carry of the official HRM and TRM code.

Besides init, step and read, a loop may have:
    needs_target = True   Question.target holds the labels in training, for a posterior for example
    terms(s)              {name ending in "_loss": (B,)}: auxiliary losses of a state, already weighted
    set_progress(p)       called before every optimizer step with the share of training done, 0 to 1
    after_update()        called after every optimizer step under no_grad, also on submodules: for what no gradient
                          reaches, such as the balancing bias of experts
    stop                  its default halting rule (innerloop.halt), if not halt.confident_and_unchanged
A loop that draws noise keeps a `key` (B,) int64 in its state and draws by noise.normal: it holds no random state.
Sources: arXiv 2506.21734, arXiv 2510.04871; numerically equal to the official code (tests/parity).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.core import Answer, Loop, Question, refill
from innerloop.halt import halting_margin
from innerloop.learn.loss import CROSS_ENTROPIES, accuracy_of
from innerloop.noise import salted
from innerloop.schema import Count, Share, check

SHORT_MAX_STEPS = 4  # step limit of the puzzles that HaltingConfig.short_fraction selects: most are solved by then


class Batch(NamedTuple):
    question: Question
    labels: Tensor  # (B, S) int64, IGNORE where there is no label


class Carry(NamedTuple):
    """State carried from one optimizer step to the next."""

    state: Any
    batch: Batch
    steps: Tensor  # (B,) int64 steps taken on the current puzzle
    max_steps: Tensor  # (B,) int64 most steps for the current puzzle
    halted: Tensor  # (B,) bool: the row takes a fresh puzzle next


@dataclass(frozen=True)
class HaltingConfig:
    """When a row takes a fresh puzzle in training. Official HRM and TRM: 16 steps, exploration 0.1.

    With learned halting, deep steps go untrained once most puzzles halt at step 1, and accuracy then falls with depth.
    `learned=False, spread=True` trains all depths up to twice max_steps instead.
    """

    max_steps: Count = 16  # steps of a puzzle at most: N_sup in the paper, halt_max_steps in the official code
    learned: bool = True  # the halting head may end a row before max_steps
    explore: Share = 0.1  # share of rows that must take a random number of steps before the head may end them
    spread: bool = False  # step limit of each puzzle uniform in 1 .. 2 max_steps instead of max_steps
    short_fraction: Share = (
        0.0  # share of puzzles whose step limit is 1 .. SHORT_MAX_STEPS, so that training sees more puzzles
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def trained_depth(self) -> int:
        """The largest depth that training reaches."""
        return self.max_steps * (2 if self.spread else 1)

    def draw(self, rows: int, generator: torch.Generator, noisy: bool = False) -> Draw:
        """Random numbers of a supervised step, (rows,) each; salts only if `noisy`."""
        exploring = torch.rand(rows, generator=generator) < self.explore
        min_steps = exploring * torch.randint(2, max(self.max_steps, 2) + 1, (rows,), generator=generator)
        max_steps = torch.full((rows,), self.max_steps)
        if self.spread:
            max_steps = torch.randint(1, 2 * self.max_steps + 1, (rows,), generator=generator)
        if self.short_fraction:
            short = torch.rand(rows, generator=generator) < self.short_fraction
            max_steps = max_steps.where(~short, torch.randint(1, SHORT_MAX_STEPS + 1, (rows,), generator=generator))
        return Draw(min_steps, max_steps, random_salts(rows, generator) if noisy else None)


class Draw(NamedTuple):
    min_steps: Tensor  # (B,) int64 steps before the halting head may end the row; 0 for most
    max_steps: Tensor  # (B,) int64 most steps of the puzzle that enters this row, if one does
    salt: Tensor | None = None  # (B,) int64 salt of that puzzle's noise key, for loops that draw noise


def random_salts(rows: int, generator: torch.Generator) -> Tensor:
    """(B,) int64 > 0: random salts of noise keys, one per row."""
    return torch.randint(1, 1 << 40, (rows,), generator=generator)


class SupervisedStep(NamedTuple):
    """Result of one step of deep supervision, before the backward pass."""

    carry: Carry
    answer: Answer
    losses: dict[str, Tensor]  # scalar sums over the batch, by name
    metrics: dict[str, Tensor]  # scalar sums over the rows that just halted, as in the official code
    target: Tensor | None  # (B,) target of the continue head in 0 .. 1, for loops that have one


def initial_carry(loop: Loop, batch: Batch) -> Carry:
    """A carry whose rows are all halted, so that the first step fills them."""
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
    """Refill, step, loss. `draw` is None in evaluation: every row then runs to max_steps, as in the official code."""
    batch = refill(carry.batch, carry.halted, fresh)
    question = question_for(loop, batch, draw is not None)
    fresh_state = loop.init(question)
    if draw is not None and draw.salt is not None:
        fresh_state = salted(fresh_state, draw.salt.to(batch.labels.device))
    state = refill(carry.state, carry.halted, fresh_state)
    steps = carry.steps.where(~carry.halted, 0) + 1
    max_steps = carry.max_steps.where(
        ~carry.halted, halting.max_steps if draw is None else draw.max_steps.to(steps.device)
    )
    state = loop.step(state, question)
    answer: Answer = loop.read(state)

    out_of_steps = steps >= max_steps
    halted, target = out_of_steps, None
    if draw is not None and halting.max_steps > 1:
        if halting.learned and answer.q_halt is not None:
            wants_halt = halting_margin(answer).detach() > 0
            halted = out_of_steps | (wants_halt & (steps >= draw.min_steps.to(steps.device)))
        if answer.q_continue is not None:
            target = q_target(loop, state, question, out_of_steps)
    losses, metrics = loss_and_metrics(answer, batch.labels, steps, halted, target, cross_entropy)
    losses |= auxiliary_losses(loop, state)
    return SupervisedStep(Carry(state, batch, steps, max_steps, halted), answer, losses, metrics, target)


def question_for(loop: Loop, batch: Batch, training: bool = True) -> Question:
    """The question, with the labels as target if the loop `needs_target` and `training` is set."""
    has_target = training and getattr(loop, "needs_target", False)
    return batch.question._replace(target=batch.labels) if has_target else batch.question


def auxiliary_losses(loop: Any, state: Any) -> dict[str, Tensor]:
    """The auxiliary losses of a state (`terms`), each a sum over the batch."""
    return {k: v.sum() for k, v in loop.terms(state).items()} if hasattr(loop, "terms") else {}


@torch.no_grad()
def q_target(loop: Loop, state: Any, question: Question, out_of_steps: Tensor) -> Tensor:
    """(B,) Q-learning target of the continue head: the larger q of the next step; its q_halt at the last step."""
    next_answer: Answer = loop.read(loop.step(state, question))
    assert next_answer.q_halt is not None and next_answer.q_continue is not None
    return torch.where(
        out_of_steps, next_answer.q_halt, torch.maximum(next_answer.q_halt, next_answer.q_continue)
    ).sigmoid()


def loss_and_metrics(
    answer: Answer, labels: Tensor, steps: Tensor, halted: Tensor, target: Tensor | None, cross_entropy: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and metrics of one answer, each a sum over the batch; the halting losses already at their weight 1/2."""
    token, exact, count = accuracy_of(answer.logits, labels)
    nll = CROSS_ENTROPIES[cross_entropy](answer.logits, labels)
    losses = {"lm_loss": (nll / count.clamp_min(1)[:, None]).sum()}
    scored = halted & (count > 0)
    metrics = {
        "count": scored.sum(),
        "accuracy": token.where(scored, 0).sum(),
        "exact_accuracy": (scored & exact).sum(),
        "steps": steps.where(scored, 0).sum(),
    }
    if answer.q_halt is not None:
        correct = exact.to(answer.q_halt.dtype)
        metrics["q_halt_accuracy"] = (scored & ((answer.q_halt >= 0) == exact)).sum()
        losses["q_halt_loss"] = 0.5 * F.binary_cross_entropy_with_logits(answer.q_halt, correct, reduction="sum")
    if answer.value is not None:  # GRAM's (v - r)^2, where r is the share of labelled positions that are right
        losses["value_loss"] = (answer.value - token).square().sum()
    if target is not None and answer.q_continue is not None:
        losses["q_continue_loss"] = 0.5 * F.binary_cross_entropy_with_logits(answer.q_continue, target, reduction="sum")
    return losses, metrics
