"""Whole thoughts: an optimizer step runs a loop from its first state on, as deep as a schedule says, then learns.

    depth ~ schedule(progress);   state_1 .. state_depth;   loss = sum over n of p_n * loss(answer_n)

The way of systems that do not carry their state from one optimizer step to the next: Universal and looped
transformers, Huginn, DEQ, ACT, PonderNet. The sibling of supervise.supervised_step, with the same losses.
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
from innerloop.learn.loss import CROSS_ENTROPIES, judge
from innerloop.learn.supervise import Batch, Carry, SupervisedStep, auxiliary_losses, loss_and_metrics, question_for
from innerloop.noise import salted
from innerloop.schema import Amount, Count, Share, Whole, check

DRAWS = ("fixed", "ramp", "uniform", "poisson")
WEIGHTS = ("last", "window", "ponder")


@dataclass(frozen=True)
class Unroll:
    """depth=0 means: do not unroll, carry states over optimizer steps instead (deep supervision)."""

    depth: Whole = 0  # steps of a whole thought; the mean of them with draw="poisson"
    draw: str = "fixed"  # "fixed"; "ramp" from `first` on; "uniform" 1 .. depth; "poisson", log-normal (Huginn)
    first: Count = 1  # depth at which a ramp begins
    ramp: Share = 0.5  # share of training after which a ramp has reached `depth`
    grad: str = "full"  # which steps carry gradient: the name of a rule in innerloop.grad
    weigh: str = "last"  # loss of the "last" answer, the mean over the last `window`, or "ponder" (PonderNet)
    window: Count = 1  # answers a window holds
    prior: Share = 0.2  # of "ponder": chance a step to halt, so that 1 / prior steps are expected
    beta: Amount = 0.01  # of "ponder": weight of KL(halting || prior)

    def __post_init__(self) -> None:
        if self.draw not in DRAWS or self.weigh not in WEIGHTS:
            raise InputError(f"an unroll draws {', '.join(DRAWS)} and weighs {', '.join(WEIGHTS)}: not {self}")
        check(self)
        if not (0 < self.prior < 1 and self.ramp > 0):
            raise InputError("an unroll needs 0 < prior < 1 and 0 < ramp <= 1")
        grad.named(self.grad)

    @property
    def mean(self) -> int:
        """Steps of a thought, on average over training."""
        if self.draw == "ramp":
            return max(1, round(self.depth - self.ramp * (self.depth - self.first) / 2))
        return {"uniform": (self.depth + 1) // 2, "poisson": self.depth + 1}.get(self.draw, self.depth)

    def steps(self, progress: float, generator: torch.Generator) -> int:
        """How deep the thought of this optimizer step is."""
        if self.draw == "ramp":
            return min(self.depth, self.first + int((self.depth - self.first + 1) * progress / self.ramp))
        if self.draw == "uniform":
            return int(torch.randint(1, self.depth + 1, (), generator=generator))
        if self.draw == "poisson":
            sigma = 0.5
            rate = torch.randn((), generator=generator) * sigma + math.log(self.depth) - sigma**2 / 2
            return int(torch.poisson(rate.exp(), generator=generator)) + 1
        return self.depth


def unrolled(
    loop: Loop, batch: Batch, unroll: Unroll, depth: int, salt: Tensor | None, cross_entropy: str = "stablemax"
) -> SupervisedStep:
    """Think `depth` steps about a fresh batch. Losses and metrics are sums over the batch."""
    question = question_for(loop, batch)
    first = loop.init(question)
    if salt is not None:
        first = salted(first, salt.to(batch.labels.device))
    every = unroll.weigh != "last"
    record = (lambda loop, state: loop.read(state)) if every else None
    thought = think(loop, question, depth, grad=grad.named(unroll.grad), record=record, state=first)
    answers: list[Answer] = thought.trace if every else [thought.answer]
    if unroll.weigh == "window":
        answers = answers[-unroll.window :]
    rows, device = len(batch.labels), batch.labels.device
    steps, done = torch.full((rows,), depth, device=device), torch.ones(rows, dtype=torch.bool, device=device)
    if unroll.weigh == "ponder":
        losses, metrics = pondered(answers, batch.labels, steps, unroll, cross_entropy)
    else:
        weighed = [loss_and_metrics(a, batch.labels, steps, done, None, cross_entropy) for a in answers]
        metrics = weighed[-1][1]
        losses = {k: sum(w[0][k] for w in weighed) / len(weighed) for k in weighed[-1][0]}  # type: ignore[misc]
    losses |= auxiliary_losses(loop, thought.state)
    return SupervisedStep(Carry(detach(first), batch, steps, steps, done), thought.answer, losses, metrics, None)


def pondered(
    answers: list[Answer], labels: Tensor, steps: Tensor, unroll: Unroll, cross_entropy: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """PonderNet (arXiv 2107.05407): q_halt is the logit of halting now; an answer counts as it is likely."""
    if any(a.q_halt is None for a in answers):
        raise InputError('weigh "ponder" needs a loop with a halting head: this one has none')
    log_p_NB = halting(torch.stack([a.q_halt for a in answers]))  # type: ignore[misc]
    counts = (labels >= 0).sum(-1).clamp_min(1)
    nll_NB = torch.stack([CROSS_ENTROPIES[cross_entropy](a.logits, labels).sum(-1) / counts for a in answers])
    p_NB = log_p_NB.exp()
    likely = p_NB.detach().argmax(0)
    logits = torch.stack([a.logits for a in answers])[likely, torch.arange(len(labels), device=labels.device)]
    token, exact, places = judge(logits, labels)
    mean = (p_NB.detach() * torch.arange(1, len(answers) + 1, device=labels.device)[:, None]).sum(0)
    judged = places > 0
    metrics = {
        "count": judged.sum(),
        "accuracy": token.where(judged, 0).sum(),
        "exact_accuracy": (judged & exact).sum(),
        "steps": mean.where(judged, 0).sum(),
    }
    prior = log_geometric(unroll.prior, len(answers)).to(labels.device)
    kl = (p_NB * (log_p_NB - prior[:, None])).sum(0)
    return {"lm_loss": (p_NB * nll_NB).sum(), "ponder_loss": unroll.beta * kl.sum()}, metrics


def halting(logits_NB: Tensor) -> Tensor:
    """(N, B) log chance to halt at each of N steps, from logits of halting once there; the last takes what is left."""
    stay = F.logsigmoid(-logits_NB)
    before = torch.cat((torch.zeros_like(stay[:1]), stay[:-1].cumsum(0)))
    now = torch.cat((F.logsigmoid(logits_NB[:-1]), torch.zeros_like(stay[:1])))
    return before + now


def geometric(chance: float, steps: int) -> Tensor:
    """(N,) float32 chances of a geometric law of mean 1 / chance, its tail folded into the last step: they sum to 1."""
    return log_geometric(chance, steps).exp()


def log_geometric(chance: float, steps: int) -> Tensor:
    """(N,) float32 logarithms of the same, which stay finite where a far step's chance is below any float."""
    log_p = torch.arange(steps) * math.log1p(-chance) + math.log(chance)
    log_p[-1] = (steps - 1) * math.log1p(-chance)
    return log_p
