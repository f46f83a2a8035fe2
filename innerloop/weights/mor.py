"""Mixture-of-Recursions (2025): a router says of every place how often a stack works on it.     arXiv 2507.10524

    h = h_0 = first(embed(question))
    a step:   on, base, gate = route(h, h_0);   h <- base + gate * net(h)  where on, elsewhere h stays
    answer:   logits = head(norm(last(h)))

The net attends to the places that are on alone, or (kv "shared") to the keys and values all had in the first step.
parts/routing.py holds the routers. "expert" takes the best places of a row, which tells a place of the future: a model
that reads in order does so while it learns only, and then takes every place of sigmoid(logit) > 1/2. A whole thought
has a step for each capacity. Places that are off are masked, not left out: shapes are static, and no work is saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext, prefix_lengths, sight
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.layers import Linear, dtype_named, rms_norm
from innerloop.parts.mixers import Net
from innerloop.parts.routing import ExpertChoice, TokenChoice, router
from innerloop.schema import Amount, Share

__all__ = ["Config", "MoR"]


@dataclass(frozen=True)
class Config:
    net: NetConfig = field(
        default_factory=lambda: replace(NetConfig(), norm="pre")
    )  # its layers are those of the shared stack
    router: str = "expert"  # "expert"; "token", which a loss balances; "token_bias", which a bias does
    capacities: tuple[Share, ...] = (1.0, 2 / 3, 1 / 3)  # share of places in each step; of "token" their number counts
    warmup: Share = 0.0  # share of training in which capacities fall from 1
    alpha: Amount = 0.1  # scale of the gate of "expert"
    kv: str = "recursion"  # "recursion": attend to the places that are on; "shared": to all, as they were at first
    weight: Amount = 1e-3  # of the router's loss; the paper's for "token" is 0.1
    dtype: str = "bfloat16"  # of the state and of all products; weights stay float32


class State(NamedTuple):
    h: Tensor  # (B, L, D)
    h0: Tensor  # (B, L, D)
    depth: Tensor  # (B, L) int64, steps a place has been worked on
    kv: Tensor  # (B, layers, 2, heads, L, D / heads) of the first step; (B, 0) unless shared
    prompt: Tensor  # (B,) int64, places that are read in both directions
    t: Tensor  # (B,) int64, steps taken
    loss: Tensor  # (B,) float32, the router's so far


class MoR(nn.Module):
    causal = True  # where its size says so; but "expert" looks ahead while it learns

    def __init__(self, c: Config = Config()) -> None:
        super().__init__()
        self.c, self.dtype, config = c, dtype_named(c.dtype), c.net
        self.embed, self.net, self.head = Embed(config), Net(config), Linear(config.hidden_size, config.vocab)
        self.first, self.last = Net(replace(config, layers=1)), Net(replace(config, layers=1))
        self.router = router(c.router, config.hidden_size, c.capacities, c.alpha, c.warmup)
        if c.kv not in ("recursion", "shared") or (c.kv == "shared" and not self.net.sighted):
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
        config, prompt = self.c.net, prefix_lengths(self.c.net, x.inputs)
        h_BLD = self.first(self.embed(x, self.dtype), sight=sight(config, prompt))
        one = (
            (config.layers, 2, config.heads, config.length, config.hidden_size // config.heads)
            if self.c.kv == "shared"
            else (0,)
        )
        depth, kv = prompt.new_zeros(len(prompt), config.length), h_BLD.new_zeros(len(prompt), *one)
        return State(h_BLD, h_BLD, depth, kv, prompt, prompt * 0, prompt * 0.0)

    def step(self, s: State, x: Question) -> State:
        on_BL, base, gate, loss_B = self.router(s.h, s.h0, s.depth, s.t, self.training or not self.c.net.causal)
        kv: list[Tensor] = []

        def memory(layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            kv.append(torch.where((s.t == 0).view(-1, *[1] * 4), torch.stack((k, v), 1), s.kv[:, layer]))
            return kv[-1][:, 0], kv[-1][:, 1]

        look = sight(self.c.net, s.prompt)
        if self.c.kv == "shared":
            f_BLD = self.net(s.h, sight=(look or AttentionContext())._replace(memory=memory))
        else:  # a place that is off sees itself, so that its row of attention, which nobody reads, is finite
            shown = on_BL[:, None, None] if look is None else look.mask & on_BL[:, None, None]
            own = torch.eye(s.h.shape[1], dtype=torch.bool, device=s.h.device)
            f_BLD = self.net(s.h * on_BL[..., None], sight=AttentionContext(shown | own))
        h_BLD = torch.where(on_BL[..., None], base + gate * f_BLD, s.h)
        new_kv = torch.stack(kv, 1) if kv else s.kv
        return State(h_BLD, s.h0, s.depth + on_BL, new_kv, s.prompt, s.t + 1, s.loss + loss_B)

    def read(self, s: State) -> Answer:
        z_BLD = rms_norm(self.last(s.h, sight=sight(self.c.net, s.prompt)))
        return Answer(self.head(z_BLD)[:, self.c.net.prefix :])

    def terms(self, s: State) -> dict[str, Tensor]:
        return {"router_loss": self.c.weight * s.loss}
