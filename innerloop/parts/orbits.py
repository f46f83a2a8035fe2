"""Equivariant message-passing block of Orbit: parts that the puzzle's symmetries map to each other share weights.

A node is a position and one of n interchangeable symbols ("this cell holds this digit"). All nodes share the weights.

    h = own(x) + sum of the messages to a node:
        symbols   from all symbols of its position
        lines     from its symbol in each set of positions that the symmetries define, per kind (rows, columns, boxes)
        near      from its symbol in the 3x3 cells around it, if the rules are local; and from that in all cells of its
                  row and column, by their distance, if they depend on the order along these
        far       from its symbol everywhere, by attention, if positions are encoded or there is no other message
    x <- norm(x + out(sigmoid(g) * norm(g u))),   g, u = h;   the outer norm runs over all nodes of a position

A message is back(silu(tell(sum over the set))), as in deep sets (arXiv 1703.06114). Equivariant nets: arXiv 1602.07576.
The normed gate: Speed is Confidence (arXiv 2601.19085).
Shapes: B batch, L positions, N nodes of a position (1 without interchangeable symbols), D channels of a node, E inner.
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
from innerloop.parts.layers import Linear, inner_width, residual_branch, rms_norm, saved_as


class Message(nn.Module):
    """Message of a set: decode(silu(encode(x))), (..., D) -> (..., 2 E), halves for gate and up."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.encode, self.decode = Linear(width, inner), Linear(inner, 2 * inner)
        saved_as(self, encode="tell", decode="back")

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(F.silu(self.encode(x)))


class Symbols(Message):
    """Messages from all symbols of a position to each of them."""

    def forward(self, x_BLND: Tensor) -> Tensor:
        return super().forward(x_BLND.sum(2) * x_BLND.shape[2] ** -0.5)[:, :, None]


class Lines(nn.Module):
    """Messages from sets of positions to their positions, with separate weights for each kind of set."""

    share: Tensor

    def __init__(self, config: NetConfig, inner: int) -> None:
        super().__init__()
        self.counts = [len(kind) for kind in config.orbits]
        share = torch.zeros(sum(self.counts), config.length)
        for row, places in zip(share, [line for kind in config.orbits for line in kind], strict=True):
            row[torch.tensor(places) + config.prefix] = len(places) ** -0.5
        self.register_buffer("share", share, persistent=False)
        kinds = F.pad(torch.tensor(self.counts).cumsum(0), (1, 0))
        for name, index in zip(fused.LINES, (kinds, *csr_indices(share), *csr_indices(share.T)), strict=True):
            self.register_buffer(name, index.int(), persistent=False)
        self.kinds = nn.ModuleList(Message(config.node, inner) for _ in config.orbits)

    def forward(self, x_BLND: Tensor) -> Tensor:
        share_UL = self.share.to(x_BLND.dtype)
        sums = (share_UL @ x_BLND.flatten(2)).unflatten(2, x_BLND.shape[2:]).split(self.counts, 1)
        said_BUNE = torch.cat([kind(some) for kind, some in zip(self.kinds, sums, strict=True)], 1)
        return (share_UL.T @ said_BUNE.flatten(2)).unflatten(2, said_BUNE.shape[2:])


def csr_indices(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """CSR indices of the nonzero entries of a matrix: (row pointers, column indices)."""
    return F.pad((matrix != 0).sum(1).cumsum(0), (1, 0)), matrix.nonzero()[:, 1]


class Near(nn.Module):
    """Messages from the cells around a position, weighted by their offset: depthwise convolutions, then Linear.

    The 3x3 cells around it; where the config's `along` is set, all cells of its row and of its column as well. A prefix
    gets none.
    """

    def __init__(self, config: NetConfig, inner: int) -> None:
        super().__init__()
        self.prefix, self.grid, self.along = config.prefix, (config.rows, config.seq // config.rows), config.along
        width, (rows, columns) = config.node, self.grid
        self.look = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        if self.along:
            row, column = (1, 2 * columns - 1), (2 * rows - 1, 1)
            self.row = nn.Conv2d(width, width, row, padding=(0, columns - 1), groups=width, bias=False)
            self.column = nn.Conv2d(width, width, column, padding=(rows - 1, 0), groups=width, bias=False)
        self.decode = Linear(width, 2 * inner)
        saved_as(self, decode="back")

    def forward(self, x_BLND: Tensor) -> Tensor:
        cells = x_BLND[:, self.prefix :].unflatten(1, self.grid)  # (B, R, C, N, D)
        rows, symbols = len(cells), cells.shape[3]
        images = cells.permute(0, 3, 4, 1, 2).flatten(0, 1)
        seen = depthwise(self.look, images)
        if self.along:
            seen = seen + depthwise(self.row, images) + depthwise(self.column, images)
        seen = seen.unflatten(0, (rows, symbols)).permute(0, 3, 4, 1, 2).flatten(1, 2)
        return self.decode(F.pad(seen, (0, 0, 0, 0, self.prefix, 0)) if self.prefix else seen)


def depthwise(look: nn.Conv2d, images: Tensor) -> Tensor:
    """A convolution of each channel with itself, (B, D, R, C), in the dtype of the images."""
    weight = look.weight.to(images.dtype)
    return F.conv2d(images, weight, padding=look.padding, groups=weight.shape[0])  # type: ignore[arg-type]


class Far(nn.Module):
    """Messages from all positions, by attention of each symbol to itself."""

    def __init__(self, config: NetConfig, inner: int) -> None:
        super().__init__()
        one = replace(config, hidden_size=config.node, symbols=())
        self.look, self.decode = Attention(one), Linear(config.node, 2 * inner)
        saved_as(self, decode="back")

    def forward(self, x_BLND: Tensor) -> Tensor:
        rows, symbols = len(x_BLND), x_BLND.shape[2]
        seen = self.look(x_BLND.transpose(1, 2).flatten(0, 1))
        return self.decode(seen.unflatten(0, (rows, symbols)).transpose(1, 2))


class OrbitBlock(nn.Module):
    """(B, L, N D) -> (B, L, N D). Which messages there are follows from the task's symmetries: see runs.fit."""

    tied = True  # runs.fit gives it the symmetries of the task

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        inner = inner_width(config.node, config.expansion, config.multiple_of)
        self.norm, self.nodes, self.shape = config.norm, (config.nodes, config.node), (config.nodes, config.node, inner)
        self.self_proj, self.out = Linear(config.node, 2 * inner), Linear(inner, config.node)
        self.messages = nn.ModuleDict()
        saved_as(self, self_proj="own", messages="hear")
        if config.symbols:
            self.messages["symbols"] = Symbols(config.node, inner)
        if config.orbits:
            self.messages["lines"] = Lines(config, inner)
        if config.local:
            self.messages["near"] = Near(config, inner)
        if config.positions != "none" or not (config.orbits or config.local):
            self.messages["far"] = Far(config, inner)
        self.message_names = tuple(self.messages)
        # Number of positions it was built for, prefix included; None: any.
        self.places = config.length if "lines" in self.messages or "near" in self.messages else None
        # Its submodules as built, (parent, name, module, class), and the shapes of their weights: see `fusable`.
        self.tree = tuple((p, n, part, type(part)) for p in self.modules() for n, part in p._modules.items() if part)
        self.layout = tuple(tuple(w.shape) for w in self.weights)

    def forward(self, x_BLD: Tensor) -> Tensor:
        z_BLD = fused.loop([self], x_BLD, None, 1)
        return self.plain(x_BLD) if z_BLD is None else z_BLD

    @property
    def fusable(self) -> bool:
        """Whether orbits.cpp implements this block: classes of this file, not modified since, without hooks."""
        kind = type(self)
        mine = kind is OrbitBlock or all(getattr(kind, n) is getattr(OrbitBlock, n) for n in OVERRIDABLE)
        same = mine and self.norm == "post" and (*self._modules["messages"]._modules,) == self.message_names  # type: ignore[union-attr]
        return same and "far" not in self.message_names and all(itertools.starmap(is_unmodified, self.tree))

    @property
    def weights(self) -> list[Tensor]:
        """All weights in parameter order, for a block that is `fusable`."""
        return [part._parameters["weight"] for _, _, part, _ in self.tree if "weight" in part._parameters]  # type: ignore[misc]

    def plain(self, x_BLD: Tensor) -> Tensor:
        """The block in plain PyTorch: the reference for orbits.cpp, and for calls that it does not support."""
        return residual_branch(self.norm, x_BLD, self.aggregate)

    def aggregate(self, x_BLD: Tensor) -> Tensor:
        x_BLND = x_BLD.unflatten(2, self.nodes)
        h = self.self_proj(x_BLND)
        for sense in self.messages.values():
            h = h + sense(x_BLND)
        return self.out(self.gated(*h.chunk(2, -1))).flatten(2)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.sigmoid(gate) * rms_norm(gate * up)


OVERRIDABLE = ("forward", "plain", "aggregate", "gated")  # methods that make a subclass not fusable if overridden


def is_unmodified(parent: nn.Module, name: str, part: nn.Module, kind: type) -> bool:
    """Whether a submodule is still the original one, without hooks or a patched forward."""
    return (
        parent._modules.get(name) is part
        and part.__class__ is kind
        and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)
        and "forward" not in part.__dict__
    )
