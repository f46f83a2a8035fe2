"""A net tied along a puzzle's symmetries: what they take to each other has the same weights.

A node is a place and one of n interchangeable symbols ("this cell holds this digit"). All share one normed SwiGLU.

    h = own(x) + sum of what a node hears:
        symbols   the other symbols of its place, all together
        lines     its symbol in each set of places that the symmetries single out, kind by kind (rows, columns, boxes)
        near      its symbol in the 3x3 cells about it, where rules speak of neighbours
        far       its symbol everywhere, by attention, where places are told apart, or nothing else is known
    x <- norm(x + out(sigmoid(g) * norm(g u))),   g, u = h;   the outer norm runs over all the symbols of a place

A message is back(silu(tell(sum over the set))), as of deep sets (arXiv 1703.06114). Equivariant nets: arXiv 1602.07576.
The normed gate: Speed is Confidence (arXiv 2601.19085).
Shapes: B batch, L places, N nodes of a place (1 where no symbols are interchangeable), D channels of a node, E inner.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.parts import fused
from innerloop.parts.attention import Attention
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, around, inner_width, rms_norm


class Message(nn.Module):
    """What a set says: back(silu(tell(x))), (..., D) -> (..., 2 E), the two halves for gate and up."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.tell, self.back = Linear(width, inner), Linear(inner, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(F.silu(self.tell(x)))


class Symbols(Message):
    """From all symbols of a place to each of them."""

    def forward(self, x_BLND: Tensor) -> Tensor:
        return super().forward(x_BLND.sum(2) * x_BLND.shape[2] ** -0.5)[:, :, None]


class Lines(nn.Module):
    """From sets of places, one message each and weights of their own for each kind, to all their places."""

    share: Tensor

    def __init__(self, config: NetConfig, inner: int) -> None:
        super().__init__()
        self.counts = [len(kind) for kind in config.orbits]
        share = torch.zeros(sum(self.counts), config.length)
        for row, places in zip(share, [line for kind in config.orbits for line in kind], strict=True):
            row[torch.tensor(places) + config.prefix] = len(places) ** -0.5
        self.register_buffer("share", share, persistent=False)
        kinds = F.pad(torch.tensor(self.counts).cumsum(0), (1, 0))
        for name, index in zip(fused.LINES, (kinds, *ragged(share), *ragged(share.T)), strict=True):
            self.register_buffer(name, index.int(), persistent=False)
        self.kinds = nn.ModuleList(Message(config.node, inner) for _ in config.orbits)

    def forward(self, x_BLND: Tensor) -> Tensor:
        share_UL = self.share.to(x_BLND.dtype)
        sums = (share_UL @ x_BLND.flatten(2)).unflatten(2, x_BLND.shape[2:]).split(self.counts, 1)
        said_BUNE = torch.cat([kind(some) for kind, some in zip(self.kinds, sums, strict=True)], 1)
        return (share_UL.T @ said_BUNE.flatten(2)).unflatten(2, said_BUNE.shape[2:])


def ragged(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows of a matrix are not zero: the first entry of each row and of none, and all columns in order."""
    return F.pad((matrix != 0).sum(1).cumsum(0), (1, 0)), matrix.nonzero()[:, 1]


class Near(nn.Module):
    """From the 3x3 cells about a place: a depthwise convolution, then a mix of its channels. A prefix hears nothing."""

    def __init__(self, config: NetConfig, inner: int) -> None:
        super().__init__()
        self.prefix, self.grid = config.prefix, (config.rows, config.seq // config.rows)
        self.look = nn.Conv2d(config.node, config.node, 3, padding=1, groups=config.node, bias=False)
        self.back = Linear(config.node, 2 * inner)

    def forward(self, x_BLND: Tensor) -> Tensor:
        cells = x_BLND[:, self.prefix :].unflatten(1, self.grid)  # (B, R, C, N, D)
        rows, symbols = len(cells), cells.shape[3]
        images = cells.permute(0, 3, 4, 1, 2).flatten(0, 1)
        weight = self.look.weight.to(images.dtype)
        seen = F.conv2d(images, weight, padding=1, groups=weight.shape[0])
        seen = seen.unflatten(0, (rows, symbols)).permute(0, 3, 4, 1, 2).flatten(1, 2)
        return self.back(F.pad(seen, (0, 0, 0, 0, self.prefix, 0)) if self.prefix else seen)


class Far(nn.Module):
    """From everywhere, by attention of each symbol to itself in other places."""

    def __init__(self, config: NetConfig, inner: int) -> None:
        super().__init__()
        one = replace(config, hidden_size=config.node, symbols=())
        self.look, self.back = Attention(one), Linear(config.node, 2 * inner)

    def forward(self, x_BLND: Tensor) -> Tensor:
        rows, symbols = len(x_BLND), x_BLND.shape[2]
        seen = self.look(x_BLND.transpose(1, 2).flatten(0, 1))
        return self.back(seen.unflatten(0, (rows, symbols)).transpose(1, 2))


class OrbitBlock(nn.Module):
    """(B, L, N D) -> the same. What a node hears follows from what the task says of itself: see runs.run.fit."""

    tied = True  # it is to be told which parts of the puzzle are alike

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        inner = inner_width(config.node, config.expansion, config.multiple_of)
        self.norm, self.nodes, self.shape = config.norm, (config.nodes, config.node), (config.nodes, config.node, inner)
        self.own, self.out = Linear(config.node, 2 * inner), Linear(inner, config.node)
        self.hear = nn.ModuleDict()
        if config.symbols:
            self.hear["symbols"] = Symbols(config.node, inner)
        if config.orbits:
            self.hear["lines"] = Lines(config, inner)
        if config.local:
            self.hear["near"] = Near(config, inner)
        if config.positions != "none" or not (config.orbits or config.local):
            self.hear["far"] = Far(config, inner)
        self.senses = tuple(self.hear)
        # Places it was built for, its prefix among them; None: any number.
        self.places = config.length if "lines" in self.hear or "near" in self.hear else None
        # Its parts as they are now, (parent, name, part, class), and the shapes of their weights: see `fusable`.
        self.tree = tuple((p, n, part, type(part)) for p in self.modules() for n, part in p._modules.items() if part)
        self.layout = tuple(tuple(w.shape) for w in self.weights)

    def forward(self, x_BLD: Tensor) -> Tensor:
        z_BLD = fused.loop([self], x_BLD, None, 1)
        return self.plain(x_BLD) if z_BLD is None else z_BLD

    @property
    def fusable(self) -> bool:
        """Whether orbits.cpp has all that it is made of: our own classes, as they were put together, without hooks."""
        kind = type(self)
        mine = kind is OrbitBlock or all(getattr(kind, n) is getattr(OrbitBlock, n) for n in WORK)
        same = mine and self.norm == "post" and (*self._modules["hear"]._modules,) == self.senses  # type: ignore[union-attr]
        return same and "far" not in self.senses and all(itertools.starmap(untouched, self.tree))

    @property
    def weights(self) -> list[Tensor]:
        """All of them, in the order of its parameters, for a block that is `fusable`."""
        return [part._parameters["weight"] for _, _, part, _ in self.tree if "weight" in part._parameters]  # type: ignore[misc]

    def plain(self, x_BLD: Tensor) -> Tensor:
        """What orbits.cpp does, in torch: for what it cannot serve, and to check it by."""
        return around(self.norm, x_BLD, self.listen)

    def listen(self, x_BLD: Tensor) -> Tensor:
        x_BLND = x_BLD.unflatten(2, self.nodes)
        h = self.own(x_BLND)
        for sense in self.hear.values():
            h = h + sense(x_BLND)
        return self.out(self.gated(*h.chunk(2, -1))).flatten(2)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.sigmoid(gate) * rms_norm(gate * up)


WORK = ("forward", "plain", "listen", "gated")  # what a subclass may have of its own


def untouched(parent: nn.Module, name: str, part: nn.Module, kind: type) -> bool:
    """Whether a part of a block is still what it was, and a call of it nothing but its own forward."""
    return (
        parent._modules.get(name) is part
        and part.__class__ is kind
        and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)
        and "forward" not in part.__dict__
    )
