"""Universal Transformer (2018): one net, applied again and again.                             arXiv 1807.03819

    z = embed(question)
    a step:   z <- net(z + position + time(t));   with halting "tokens" each position halts by ACT (parts/act.py)
    answer:   logits = head(z),  halt = q(z at the first position)

A halted position keeps its state, and the others still attend to it. The paper's position sinusoid is replaced by
`positions`: rotary in every attention, or learned and added before every step. The net is post-norm.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop import halt, schema
from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.parts.act import (
    ActState,
    HaltingUnit,
    advance,
    check_act,
    freeze_halted,
    initial_act,
    ponder_cost,
    weighted,
)
from innerloop.parts.attention import context_of
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, Table
from innerloop.parts.heads import Heads
from innerloop.parts.layers import dtype_named
from innerloop.parts.mixers import Net
from innerloop.schema import Amount, Share

__all__ = ["UT", "Config"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=NetConfig)
    clock: bool = True  # add a sinusoid of the step's number; off: every step is the same map
    inject: bool = False  # add the question before every step too; the paper does not
    halting: str = "fixed"  # "fixed": `depth` steps; "tokens": each position by ACT, at most `depth` steps
    eps: Share = 0.01  # of "tokens": a position halts at a sum of 1 - eps
    tau: Amount = 0.01  # of "tokens": cost of a step, averaged over positions
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        schema.check(self)
        if self.halting not in ("fixed", "tokens"):
            raise InputError(f'halting is "{self.halting}": use "fixed" or "tokens"')
        check_act("graves", self.eps, self.tau)


class State(NamedTuple):
    z: Tensor  # (B, L, D)
    t: Tensor  # (B,) int64, steps taken


class HaltingState(NamedTuple):
    z: Tensor  # (B, L, D)
    t: Tensor  # (B,) int64, steps taken
    act: ActState  # of granularity (B, L); act.n: steps of each position

    @property
    def done(self) -> Tensor:
        """(B,) bool: every position has halted; for halt.finished."""
        return self.act.done.all(1)


class UT(nn.Module):
    causal = True  # supports causal masks

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype, self.adaptive = c, dtype_named(c.dtype), c.halting == "tokens"
        self.stop = halt.finished if self.adaptive else halt.confident_and_unchanged()
        learned = c.net.positions == "learned"
        self.embed = Embed(replace(c.net, positions="none") if learned else c.net)
        self.net, self.heads = Net(c.net), Heads(c.net, continue_head=False)
        self.places = Table(c.net.length, c.net.hidden_size, std=c.net.hidden_size**-0.5) if learned else None
        self.halting = HaltingUnit(c.net, each=True) if self.adaptive else None

    def init(self, x: Question) -> Any:
        z = self.embed(x, self.dtype)
        z = torch.zeros_like(z) if self.c.inject else z
        t = x.inputs.new_zeros(len(x.inputs), dtype=torch.long)
        return HaltingState(z, t, initial_act(z, 2)) if self.adaptive else State(z, t)

    def step(self, s: Any, x: Question) -> Any:
        z = self.net(s.z, self.added(s.t, x), context=context_of(self.c.net, x))
        if self.halting is None:
            return State(z, s.t + 1)
        z = freeze_halted(s.act.done, s.z, z)
        return HaltingState(z, s.t + ~s.done, advance(s.act, s.z, self.halting(z), self.c.eps))

    def added(self, t: Tensor, x: Question) -> Tensor:
        """(B, 1 or L, D) input of a step besides the state: position, time, and the question if it is injected."""
        e = sinusoid(t, self.c.net.hidden_size)[:, None].to(self.dtype) * self.c.clock
        if self.places is not None:
            own = self.places.weight if x.cache is None else self.places.weight[x.cache.places]
            e = e + self.embed.scale * own.to(self.dtype)
        return e + self.embed(x, self.dtype) if self.c.inject else e

    def read(self, s: Any) -> Answer:
        return self.heads(weighted(s.act, s.z) if self.adaptive else s.z)

    def terms(self, s: Any) -> dict[str, Tensor]:
        return {"act_loss": self.c.tau * ponder_cost(s.act).mean(1)} if self.adaptive else {}


def sinusoid(t: Tensor, width: int) -> Tensor:
    """(B,) times -> (B, width) float32: sines, then cosines, of wavelengths from 2 pi to 20000 pi."""
    angle = t[:, None] * torch.logspace(0, -4, width // 2, device=t.device)
    return torch.cat((angle.sin(), angle.cos()), -1)
