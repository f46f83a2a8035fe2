"""Full unrolls: each optimizer step runs the loop from its first state to a scheduled depth, then backpropagates.

    depth ~ schedule(progress);   state_1 .. state_depth;   loss = sum over n of p_n * loss(answer_n)

For systems that do not carry their state from one optimizer step to the next: Universal and looped transformers,
Huginn, DEQ, ACT, PonderNet. The losses are those of supervise.supervised_step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop import grad
from innerloop.core import Answer, Loop, detach, think
from innerloop.errors import InputError
from innerloop.learn.loss import CROSS_ENTROPIES, accuracy_of
from innerloop.learn.supervise import Batch, Carry, SupervisedStep, auxiliary_losses, loss_and_metrics, question_for
from innerloop.noise import salted
from innerloop.schema import Amount, Count, Share, Whole, check

DRAWS = ("fixed", "ramp", "uniform", "poisson")
WEIGHTS = ("last", "window", "ponder")


@dataclass(frozen=True)
class Unroll:
    """depth=0 turns unrolling off: states are carried over optimizer steps instead (deep supervision)."""

    depth: Whole = 0  # steps of an unroll; with draw="poisson" their mean is depth + 1
    draw: str = "fixed"  # "fixed"; "ramp" from `first` on; "uniform" 1 .. depth; "poisson" of log-normal rate (Huginn)
    first: Count = 1  # depth at which a ramp begins
    ramp: Share = 0.5  # share of training after which a ramp has reached `depth`
    grad: str = "full"  # which steps carry gradient: the name of a rule in innerloop.grad
    weigh: str = "last"  # loss of the "last" answer, the mean over a "window" of last ones, or "ponder" (PonderNet)
    window: Count = 1  # number of answers in a window
    prior: Share = 0.2  # of "ponder": prior probability to halt at a step; the expected number of steps is 1 / prior
    beta: Amount = 0.01  # of "ponder": weight of KL(halting || prior)

    def __post_init__(self) -> None:
        if self.draw not in DRAWS or self.weigh not in WEIGHTS:
            raise InputError(
                f"plan.unroll.draw is one of {', '.join(DRAWS)} and weigh one of {', '.join(WEIGHTS)}: "
                f'not "{self.draw}" and "{self.weigh}"'
            )
        check(self)
        if not (0 < self.prior < 1 and self.ramp > 0):
            raise InputError("plan.unroll needs 0 < prior < 1 and 0 < ramp <= 1")
        if self.draw == "ramp" and self.depth and self.first > self.depth:
            raise InputError(f"plan.unroll ramps from {self.first} steps to {self.depth}: give first <= depth")
        grad.rule_named(self.grad)

    @property
    def mean_depth(self) -> int:
        """Steps of an unroll, averaged over training."""
        if self.draw == "ramp":
            return max(1, round(self.depth - self.ramp * (self.depth - self.first) / 2))
        return {"uniform": (self.depth + 1) // 2, "poisson": self.depth + 1}.get(self.draw, self.depth)

    def draw_depth(self, progress: float, generator: torch.Generator) -> int:
        """Depth of the unroll at this share of training; `generator` draws it where it is random."""
        if self.draw == "ramp":
            return min(self.depth, self.first + int((self.depth - self.first + 1) * progress / self.ramp))
        if self.draw == "uniform":
            return int(torch.randint(1, self.depth + 1, (), generator=generator))
        if self.draw == "poisson":
            sigma = 0.5
            rate = torch.randn((), generator=generator) * sigma + math.log(self.depth) - sigma**2 / 2
            return int(torch.poisson(rate.exp(), generator=generator)) + 1
        return self.depth


def unrolled_step(
    loop: Loop, batch: Batch, unroll: Unroll, depth: int, salt: Tensor | None, cross_entropy: str = "stablemax"
) -> SupervisedStep:
    """Unroll `depth` steps on a fresh batch. Losses and metrics are sums over the batch; salt (B,) int64 or None."""
    question = question_for(loop, batch)
    first = loop.init(question)
    if salt is not None:
        first = salted(first, salt.to(batch.labels.device))
    needs_all = unroll.weigh != "last"
    record = (lambda loop, state: loop.read(state)) if needs_all else None
    thought = think(loop, question, depth, grad=grad.rule_named(unroll.grad), record=record, state=first)
    answers: list[Answer] = thought.trace if needs_all else [thought.answer]
    if unroll.weigh == "window":
        answers = answers[-unroll.window :]
    rows, device = len(batch.labels), batch.labels.device
    steps, done = torch.full((rows,), depth, device=device), torch.ones(rows, dtype=torch.bool, device=device)
    if unroll.weigh == "ponder":
        losses, metrics = ponder_losses(answers, batch.labels, steps, unroll, cross_entropy)
    else:
        per_answer = [loss_and_metrics(a, batch.labels, steps, done, None, cross_entropy) for a in answers]
        metrics = per_answer[-1][1]
        losses = {k: sum(w[0][k] for w in per_answer) / len(per_answer) for k in per_answer[-1][0]}  # type: ignore[misc]
    losses |= auxiliary_losses(loop, thought.state)
    return SupervisedStep(Carry(detach(first), batch, steps, steps, done), thought.answer, losses, metrics, None)


def ponder_losses(
    answers: list[Answer], labels: Tensor, steps: Tensor, unroll: Unroll, cross_entropy: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """PonderNet's losses (arXiv 2107.05407): q_halt is the logit of halting now, which weights each answer's loss."""
    if any(a.q_halt is None for a in answers):
        raise InputError('plan.unroll.weigh "ponder" needs a loop with a halting head, which this one lacks')
    log_p_NB = log_halting_probabilities(torch.stack([a.q_halt for a in answers]))  # type: ignore[misc]
    counts = (labels >= 0).sum(-1).clamp_min(1)
    nll_NB = torch.stack([CROSS_ENTROPIES[cross_entropy](a.logits, labels).sum(-1) / counts for a in answers])
    p_NB = log_p_NB.exp()
    likely = p_NB.detach().argmax(0)
    logits = torch.stack([a.logits for a in answers])[likely, torch.arange(len(labels), device=labels.device)]
    token, exact, count = accuracy_of(logits, labels)
    mean = (p_NB.detach() * torch.arange(1, len(answers) + 1, device=labels.device)[:, None]).sum(0)
    scored = count > 0
    metrics = {
        "count": scored.sum(),
        "accuracy": token.where(scored, 0).sum(),
        "exact_accuracy": (scored & exact).sum(),
        "steps": mean.where(scored, 0).sum(),
    }
    prior = log_geometric_prior(unroll.prior, len(answers)).to(labels.device)
    kl = (p_NB * (log_p_NB - prior[:, None])).sum(0)
    return {"lm_loss": (p_NB * nll_NB).sum(), "ponder_loss": unroll.beta * kl.sum()}, metrics


def log_halting_probabilities(logits_NB: Tensor) -> Tensor:
    """(N, B) conditional halting logits -> (N, B) log p of halting at each step; the last takes the remainder."""
    stay = F.logsigmoid(-logits_NB)
    before = torch.cat((torch.zeros_like(stay[:1]), stay[:-1].cumsum(0)))
    now = torch.cat((F.logsigmoid(logits_NB[:-1]), torch.zeros_like(stay[:1])))
    return before + now


def geometric_prior(p: float, steps: int) -> Tensor:
    """(N,) float32 geometric distribution of mean 1 / p, its tail added to the last step, so that it sums to 1."""
    return log_geometric_prior(p, steps).exp()


def log_geometric_prior(p: float, steps: int) -> Tensor:
    """(N,) float32 log probabilities of the same, finite where the probability itself underflows."""
    log_p = torch.arange(steps) * math.log1p(-p) + math.log(p)
    log_p[-1] = (steps - 1) * math.log1p(-p)
    return log_p
