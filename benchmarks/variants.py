"""Variants that the ladder compares Orbit with and the library does not ship: other blocks, steps and sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.core import Answer, Question
from innerloop.learn.loss import CROSS_ENTROPIES, IGNORE
from innerloop.noise import scramble, uniform
from innerloop.parts.attention import Attention, AttentionContext, attend, rotary, rotate
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, inner_width, rms_norm
from innerloop.parts.mixers import BLOCKS, AttentionBlock
from innerloop.parts.orbits import Far, OrbitBlock
from innerloop.weights.orbit import Config, Orbit, State

# -- blocks -----------------------------------------------------------------------------------------------------------


class OneKind(OrbitBlock):
    """Rows, columns and boxes speak with the same weights."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(replace(config, orbits=(sum(config.orbits, ()),) if config.orbits else ()))


class NoPlace(OrbitBlock):
    """The symbols of a place do not hear each other."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        self.messages.pop("symbols") if "symbols" in self.messages else None


class NodeNorm(OrbitBlock):
    """The norm runs over one node, not over all of a place."""

    def forward(self, x_BLD: Tensor) -> Tensor:
        y_BLND = (x_BLD + self.aggregate(x_BLD)).unflatten(2, self.nodes)
        return rms_norm(y_BLND).flatten(2)


class PlainGate(OrbitBlock):
    """silu(g) * u for sigmoid(g) * norm(g * u)."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate) * up


class WithFar(OrbitBlock):
    """Attention besides."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        self.messages["far"] = Far(config, inner_width(config.node, config.expansion, config.multiple_of))


class WithTurned(WithFar):
    """Attention besides, its places turned in two dimensions: half of a head by the row, half by the column."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(replace(config, positions="rope"))
        look = self.messages["far"].look
        across, half = config.seq // config.rows, look.cos.shape[1] // 2
        cells = torch.arange(config.length).sub(config.prefix).clamp_min(0)
        for name, tables in zip(
            ("cos", "sin"), zip(*(rotary(config.seq, half) for _ in "rc"), strict=True), strict=True
        ):
            rows, columns = (t[i].chunk(2, 1) for t, i in zip(tables, (cells // across, cells % across), strict=True))
            setattr(look, name, torch.cat([rows[0], columns[0], rows[1], columns[1]], 1))


class OnlyFar(OrbitBlock):
    """Attention in place of lines and neighbours."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(replace(config, orbits=(), local=False))


class QKNorm(Attention):
    """Queries and keys of length one, times the root of the head's width; no weight."""

    def forward(self, x_BLD: Tensor, context: AttentionContext | None = None) -> Tensor:
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.rope:
            q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        q, k, v = (t.transpose(1, 2) for t in (rms_norm(q), rms_norm(k), v))
        mask = None if context is None else context.mask
        return self.project(attend(q, k, v, mask).transpose(1, 2).flatten(2), x_BLD)


class QKNormBlock(AttentionBlock):
    mixer = QKNorm


BLOCKS |= {
    "orbit, one kind": OneKind,
    "orbit, no place": NoPlace,
    "orbit, norm a node": NodeNorm,
    "orbit, plain gate": PlainGate,
    "orbit, far": WithFar,
    "orbit, far in 2-D": WithTurned,
    "orbit, only far": OnlyFar,
    "qk-norm": QKNormBlock,
}

# -- steps ------------------------------------------------------------------------------------------------------------


class Hears(Orbit):
    """What it answers is fed back into its question; while it learns, a share of rows hears some wrong tokens."""

    def __init__(self, c: Config, slips: float) -> None:
        super().__init__(c)
        self.slips, self.hear = slips, Linear(1, c.net.node)

    def embedded(self, s: State, x: Question) -> Tensor:
        said_BSV = self.said(s)
        form = list(self.c.net.symbols[0]) if self.c.net.symbols else [said_BSV.shape[-1] - 1]
        return super().embedded(s, x) + self.hear(said_BSV[..., form, None]).flatten(2)

    def said(self, s: State) -> Tensor:
        answer: Answer = self.read(s)
        p = answer.logits.float().softmax(-1)
        if not (self.training and self.slips):
            return p
        S, V = p.shape[1:]
        u = uniform(scramble(s.key ^ 77), 2 + 2 * S)
        slip = (u[:, :1] < self.slips) & (u[:, 2 : 2 + S] < 0.5 * u[:, 1:2])
        wrong = F.one_hot((u[:, 2 + S :] * V).long().clamp_max(V - 1), V).float()
        return torch.where(slip[..., None], wrong, p)


def hears(slips: float) -> Callable[[Config], Any]:
    def make(config: Config) -> Any:
        return Hears(config, slips)

    return make


# -- recipes ----------------------------------------------------------------------------------------------------------


def wider(base: Callable[[Any], Any], times: float) -> Callable[[Any], Any]:
    """Orbit of another width."""

    def made(rung: Any) -> Any:
        run = base(rung)
        config = run.config.net
        return replace(
            run, config=replace(run.config, net=replace(config, hidden_size=round(config.hidden_size * times)))
        )

    return made


def max_steps_scaled(base: Callable[[Any], Any], times: float) -> Callable[[Any], Any]:
    """The step limit of a puzzle in training, times `times`."""

    def made(rung: Any) -> Any:
        run = base(rung)
        halting = replace(run.plan.halting, max_steps=max(1, round(run.plan.halting.max_steps * times)))
        return replace(run, plan=replace(run.plan, halting=halting))

    return made


def swapped(base: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The mixer for attention, or attention for the mixer."""

    def made(rung: Any) -> Any:
        other = {"block": "tokens", "positions": "none"}
        if rung.plain["block"] == "tokens":
            other = {"block": "attention", "positions": "rope"}
        return base(replace(rung, plain=other))

    return made


def smooth(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """Cross-entropy against labels of which a tenth is spread over all tokens."""
    flat = logits_BSV.float().flatten(0, 1)
    nll = F.cross_entropy(flat, labels_BS.flatten(), ignore_index=IGNORE, reduction="none", label_smoothing=0.1)
    return nll.view_as(labels_BS)


CROSS_ENTROPIES["smooth"] = smooth
