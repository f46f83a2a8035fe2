"""Equilibrium Reasoner (2026): TRM with random starts and noisy, damped updates.               arXiv 2605.21488

    x = embed(question);   y, z ~ N(0, 1)
    a step:   T times:  ( z <- damp(z, net(z, y + x))  n times;   y <- damp(y, net(y, z)) )
              damp(old, new) = (1 - lambda) old + lambda new + beta N(0, 1)
    answer:   logits = head(y),  halt = q(y at the first position)

The gradient runs through the last of the T cycles. Converged trajectories are more often right, so of several the one
of lowest residual is selected (width.lowest_residual); the state holds the residual of its last step. The start is
drawn in the first step, since the key may be salted until then. Official code truncates the start's normal at 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule
from innerloop.halt import residual
from innerloop.noise import key_of, normal, scramble
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.parts.recursion import schedule, updates
from innerloop.schema import Amount, Count, Share, check

__all__ = ["Config", "EqR"]

SIZE = replace(NetConfig(), prefix=0, puzzle_emb_size=0, block="tokens", positions="none")


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: SIZE)
    cycles: Count = 3  # T, H_cycles in the official code
    thoughts: Count = 6  # n, L_cycles in the official code: updates of z before each update of y
    damping: Share = 0.95  # lambda: weight of an update
    noise: Amount = 0.01  # beta: standard deviation added at every update, in training and afterwards
    grad: str = "last_cycle"  # which updates of a step carry gradient: the name of a rule in innerloop.grad
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    y: Tensor  # (B, L, D) the answer so far; L = prefix + tokens
    z: Tensor  # (B, L, D) the latent
    key: Tensor  # (B,) int64 key of the noise
    steps: Tensor  # (B,) int64 steps taken; at 0 y and z are not drawn yet
    residual: Tensor  # (B, 1) float32 relative change of y and z in the last step


class EqR(nn.Module):
    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.grad, self.dtype = c, grad.rule_named(c.grad), dtype_named(c.dtype)
        self.embed, self.net, self.heads = Embed(c.net), Net(c.net), Heads(c.net, continue_head=False)
        self.schedule = schedule(c.thoughts, c.cycles)

    def init(self, x: Question) -> State:
        none = torch.zeros(len(x.inputs), self.c.net.length, self.c.net.hidden_size, device=x.inputs.device)
        moved = torch.ones_like(x.inputs[:, :1], dtype=torch.float32)
        return State(none.to(self.dtype), none.to(self.dtype), key_of(x), torch.zeros_like(x.puzzle).long(), moved)

    def step(self, s: State, x: Question) -> State:
        s = self.started(s)
        plain = updates(self.net, self.embed(x, self.dtype))
        new: State = run_schedule(self.schedule, {k: self.damped(k, f) for k, f in plain.items()}, s, self.grad)
        moved = residual((s.y, s.z), (new.y, new.z)).detach()
        return new._replace(steps=s.steps + 1, residual=moved[:, None])

    def started(self, s: State) -> State:
        """Draw y and z of the rows that have taken no step."""
        first, shape, key = (s.steps == 0)[:, None, None], s.y.shape[1:], scramble(s.key + 1)
        y, z = (torch.where(first, normal(k, *shape).to(self.dtype), v) for k, v in ((s.key, s.y), (key, s.z)))
        return s._replace(y=y, z=z, key=scramble(key + 1))

    def damped(self, slot: str, update: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The update of field `slot`, damped and with noise."""

        def move(s: State) -> State:
            old, new = getattr(s, slot), getattr(update(s), slot)
            noise = normal(s.key, *old.shape[1:]).to(self.dtype)
            mixed = (1 - self.c.damping) * old + self.c.damping * new + self.c.noise * noise
            return s._replace(**{slot: mixed}, key=scramble(s.key + 1))

        return move

    def read(self, s: State) -> Answer:
        return self.heads(s.y)
