"""Mixture-of-Recursions (2025): a router chooses the recursion depth of each position.          arXiv 2507.10524

    h = h_0 = first(embed(question))
    a step:   on, base, gate = route(h, h_0);   h <- base + gate * net(h)  where on, elsewhere h stays
    answer:   logits = head(norm(last(h)))

The net attends only to positions that are on, or (kv "shared") to the keys and values of the first step. Routers:
parts/routing.py. "expert" takes the top positions of a row, which is not causal: a causal model does so in training
only, and at inference takes every position with sigmoid(logit) > 1/2. A full run has one step per capacity. Positions
that are off are masked, not left out: shapes are static, and no compute is saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext, Reading, attention_context, reading_of
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.layers import Linear, dtype_named, rms_norm
from innerloop.parts.mixers import Net
from innerloop.parts.routing import ExpertChoice, TokenChoice, router
from innerloop.schema import Amount, Share, check

__all__ = ["Config", "MoR"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(
        default_factory=lambda: replace(NetConfig(), norm="pre")
    )  # its layers are those of the shared stack
    router: str = "expert"  # "expert"; "token", which a loss balances; "token_bias", which a bias does
    capacities: tuple[Share, ...] = (1.0, 2 / 3, 1 / 3)  # share of positions per step; "token" uses the number only
    warmup: Share = 0.0  # share of training in which capacities fall from 1
    alpha: Amount = 0.1  # scale of the gate of "expert"
    kv: str = "recursion"  # "recursion": attend to positions that are on; "shared": to all, with first-step keys
    weight: Amount = 1e-3  # of the router's loss; the paper's for "token" is 0.1
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32

    def __post_init__(self) -> None:
        check(self)


class State(NamedTuple):
    h: Tensor  # (B, L, D)
    h0: Tensor  # (B, L, D)
    depth: Tensor  # (B, L) int64 steps of each position
    kv: Tensor  # (B, layers, 2, heads, L, D / heads) of the first step; (B, 0) unless shared
    reading: Reading  # what each position may see
    t: Tensor  # (B,) int64, steps taken
    loss: Tensor  # (B,) float32 router loss so far


class MoR(nn.Module):
    causal = True  # supports causal masks; but "expert" looks ahead in training

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype, config = c, dtype_named(c.dtype), c.net
        self.embed, self.net, self.head = Embed(config), Net(config), Linear(config.hidden_size, config.vocab)
        self.first, self.last = Net(replace(config, layers=1)), Net(replace(config, layers=1))
        self.router = router(c.router, config.hidden_size, c.capacities, c.alpha, c.warmup)
        if c.kv not in ("recursion", "shared") or (c.kv == "shared" and not self.net.takes_context):
            raise InputError(
                f'kv "{c.kv}" with block "{config.block}": use "recursion", or "shared" with block "attention"'
            )

    def set_progress(self, progress: float) -> None:
        if isinstance(self.router, ExpertChoice):
            self.router.set_progress(progress)

    def after_update(self) -> None:
        if isinstance(self.router, TokenChoice):
            self.router.balance()

    def init(self, x: Question) -> State:
        config, reading = self.c.net, reading_of(self.c.net, x)
        zeros = x.inputs.new_zeros(len(x.inputs), dtype=torch.long)
        h_BLD = self.first(self.embed(x, self.dtype), context=attention_context(config, reading))
        one = (
            (config.layers, 2, config.heads, h_BLD.shape[1], config.hidden_size // config.heads)
            if self.c.kv == "shared"
            else (0,)
        )
        depth, kv = zeros[:, None].repeat(1, h_BLD.shape[1]), h_BLD.new_zeros(len(zeros), *one)
        return State(h_BLD, h_BLD, depth, kv, reading, zeros, zeros * 0.0)

    def step(self, s: State, x: Question) -> State:
        on_BL, base, gate, loss_B = self.router(s.h, s.h0, s.depth, s.t, self.training or not self.c.net.causal)
        kv: list[Tensor] = []

        def memory(layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            kv.append(torch.where((s.t == 0).view(-1, *[1] * 4), torch.stack((k, v), 1), s.kv[:, layer]))
            k, v = kv[-1].unbind(1)
            return (k, v) if look.memory is None else look.memory(layer, k, v)

        look = (attention_context(self.c.net, s.reading) or AttentionContext()).masked()
        if self.c.kv == "shared":
            f_BLD = self.net(s.h, context=look._replace(memory=memory))
        else:  # a position that is off attends to itself, so that its unused output is finite
            shown = s.reading.of_all_places(on_BL)[:, None, None]
            mask = (shown if look.mask is None else look.mask & shown) | s.reading.own[:, None]
            f_BLD = self.net(s.h * on_BL[..., None], context=look._replace(mask=mask))
        h_BLD = torch.where(on_BL[..., None], base + gate * f_BLD, s.h)
        new_kv = torch.stack(kv, 1) if kv else s.kv
        return State(h_BLD, s.h0, s.depth + on_BL, new_kv, s.reading, s.t + 1, s.loss + loss_B)

    def read(self, s: State) -> Answer:
        z_BLD = rms_norm(self.last(s.h, context=attention_context(self.c.net, s.reading)))
        return Answer(self.head(z_BLD)[:, self.c.net.prefix :])

    def terms(self, s: State) -> dict[str, Tensor]:
        return {"router_loss": self.c.weight * s.loss}
