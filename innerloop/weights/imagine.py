"""Imagination (as in MuZero, 2019): a world in a latent state, moved by actions and not looked at.  arXiv 1911.08265

    question: a grid whose row 0 is what is seen first, and each later row an action in its first place
    z = encode(row 0);   a step, the k-th:   z <- core(join[norm(z), e(action k)]);   row k <- z
    answer:   logits of row k = head(its z): what will be seen after action k;   halt = q(z at the first place)
    learned:  cross-entropy of every row, and the mean over k of |z_k - sg encode(what was seen after action k)|^2

The action is joined, not added: it would be lost beside a large z. The latent loss over many steps is
that of SPR (arXiv 2007.05929). Rows without an action, and steps beyond the last, leave the state as it is; a row not
yet imagined is answered by logits of zero. Trained by Unroll(depth=actions), whole thoughts with every step taped. A
world model alone: no policy, reward or value. tasks.walk plans with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, repeat
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import Linear, dtype_named, rms_norm
from innerloop.parts.mixers import Net
from innerloop.schema import Amount

__all__ = ["Config", "Imagine"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(default_factory=lambda: replace(NetConfig(), vocab=8, seq=225, rows=9))
    latent: Amount = 1.0  # weight of the latent loss, as a mean over places, channels and steps; 0: none
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32


class State(NamedTuple):
    z: Tensor  # (B, M, D) the world as imagined; M = prefix + cells of a row
    seen: Tensor  # (B, S, D) z at the cells of each row, zeros where not yet imagined
    off: Tensor  # (B,) float32 sum over steps of the latent loss, while learning
    t: Tensor  # (B,) int64, actions taken


def world(config: NetConfig) -> NetConfig:
    """The size of one row: its cells as a square grid where they form one, with those units that lie in it."""
    cells = config.seq // config.rows
    side = isqrt(cells)
    units = tuple(unit for unit in config.units if max(unit) < cells)
    return replace(config, seq=cells, rows=side if side * side == cells else 1, units=units)


class Imagine(nn.Module):
    needs_target = True

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        config = world(c.net)
        self.c, self.dtype, self.cells = c, dtype_named(c.dtype), config.seq
        self.embed, self.encoder, self.core = Embed(config), Net(config), Net(config)
        self.join, self.heads = Linear(2 * config.hidden_size, config.hidden_size), Heads(config, continue_head=False)

    def encode(self, row_BC: Tensor, x: Question) -> Tensor:
        return self.encoder(self.embed(Question(row_BC, x.puzzle), self.dtype))

    def init(self, x: Question) -> State:
        tokens, seq = x.inputs.shape[1], self.c.net.seq
        if tokens != seq:
            raise InputError(f"a question has {tokens} tokens, but this model was made for {seq}")
        z = self.encode(x.inputs[:, : self.cells], x)
        seen = z.new_zeros(len(z), self.c.net.rows, *z[:, self.c.net.prefix :].shape[1:])
        seen = torch.cat((z[:, None, self.c.net.prefix :], seen[:, 1:]), 1).flatten(1, 2)
        return State(z, seen, seen.new_zeros(len(z), dtype=torch.float32), torch.zeros_like(x.puzzle).long())

    def step(self, s: State, x: Question) -> State:
        rows, prefix = self.c.net.rows, self.c.net.prefix
        k_B = (s.t + 1).clamp_max(rows - 1)
        action_B = x.inputs.gather(1, k_B[:, None] * self.cells)[:, 0]
        alive = (action_B != 0) & (s.t + 1 < rows)
        e_BD = self.embed.scale * self.embed.tokens(action_B, self.dtype)
        z = self.core(self.join(torch.cat((rms_norm(s.z), e_BD[:, None].expand_as(s.z)), -1)))
        z = torch.where(alive[:, None, None], z, s.z)
        here = alive[:, None] & (torch.arange(rows, device=k_B.device) == k_B[:, None])
        seen = s.seen.unflatten(1, (rows, self.cells))
        seen = torch.where(here[..., None, None], z[:, None, prefix:], seen).flatten(1, 2)
        return State(z, seen, s.off + self.miss(z, k_B, x) * alive, s.t + alive)

    def miss(self, z: Tensor, k_B: Tensor, x: Question) -> Tensor:
        """(B,) how far z is from what was truly seen after action k, encoded off the tape; 0 where that is unknown."""
        if x.target is None:
            return torch.zeros_like(k_B, dtype=torch.float32)
        row_BC = x.target.unflatten(1, (-1, self.cells))[torch.arange(len(z), device=z.device), k_B]
        true = repeat(lambda _: self.encode(row_BC.clamp_min(0), x), z, 1, grad.last(0))
        return (z - true).float().square().flatten(1).mean(1) * (row_BC >= 0).all(1)

    def terms(self, s: State) -> dict[str, Tensor]:
        return {"latent_loss": self.c.latent * s.off / s.t.clamp_min(1)}

    def read(self, s: State) -> Answer:
        return self.heads(torch.cat((s.z[:, : self.c.net.prefix], s.seen), 1))
