"""A net tied along a puzzle's symmetries: what they take to each other has the same weights.

A node is a place and one of n interchangeable symbols ("this cell holds this digit"); all nodes share one SwiGLU.

    h = own(x) + sum of what a node hears:
        symbols   the other symbols of its place, all together
        lines     its symbol in each set of places that the symmetries single out, kind by kind (rows, columns, boxes)
        near      its symbol in the 3x3 cells about it, where rules speak of neighbours
        far       its symbol everywhere, by attention, where neither is known
    x <- norm(x + out(silu(g) * u)),   g, u = h;   the norm runs over all the symbols of a place

A message is back(silu(tell(sum over the set))), as of deep sets (arXiv 1703.06114). Equivariant nets: arXiv 1602.07576.
Shapes: B batch, L places, N symbols (1 where no symbols are interchangeable), D width of a node, E inner width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.parts.attention import Attention
from innerloop.parts.embed import Embed
from innerloop.parts.heads import Heads
from innerloop.parts.layers import Linear, around, inner_width
from innerloop.parts.size import Size


def count(size: Size) -> int:
    """N, the interchangeable symbols; 1 where there are none."""
    return len(size.symbols[0]) if size.symbols else 1


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

    def __init__(self, size: Size, inner: int) -> None:
        super().__init__()
        self.counts = [len(kind) for kind in size.orbits]
        share = torch.zeros(sum(self.counts), size.length)
        for row, places in zip(share, [line for kind in size.orbits for line in kind], strict=True):
            row[torch.tensor(places) + size.prefix] = len(places) ** -0.5
        self.register_buffer("share", share, persistent=False)
        self.kinds = nn.ModuleList(Message(size.width, inner) for _ in size.orbits)

    def forward(self, x_BLND: Tensor) -> Tensor:
        share_UL = self.share.to(x_BLND.dtype)
        sums = (share_UL @ x_BLND.flatten(2)).unflatten(2, x_BLND.shape[2:]).split(self.counts, 1)
        said_BUNE = torch.cat([kind(some) for kind, some in zip(self.kinds, sums, strict=True)], 1)
        return (share_UL.T @ said_BUNE.flatten(2)).unflatten(2, said_BUNE.shape[2:])


class Near(nn.Module):
    """From the 3x3 cells about a place: a depthwise convolution, then a mix of its channels. A prefix hears nothing."""

    def __init__(self, size: Size, inner: int) -> None:
        super().__init__()
        self.prefix, self.grid = size.prefix, (size.rows, size.seq // size.rows)
        self.look = nn.Conv2d(size.width, size.width, 3, padding=1, groups=size.width, bias=False)
        self.back = Linear(size.width, 2 * inner)

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

    def __init__(self, size: Size, inner: int) -> None:
        super().__init__()
        self.look, self.back = Attention(size), Linear(size.width, 2 * inner)

    def forward(self, x_BLND: Tensor) -> Tensor:
        rows, symbols = len(x_BLND), x_BLND.shape[2]
        seen = self.look(x_BLND.transpose(1, 2).flatten(0, 1))
        return self.back(seen.unflatten(0, (rows, symbols)).transpose(1, 2))


class OrbitBlock(nn.Module):
    """(B, L, N D) -> the same. What a node hears follows from what the task says of itself: Size of the task."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        inner = inner_width(size.width, size.expansion, size.multiple)
        self.norm, self.nodes = size.norm, (count(size), size.width)
        self.own, self.out = Linear(size.width, 2 * inner), Linear(inner, size.width)
        self.hear = nn.ModuleDict()
        if size.symbols:
            self.hear["symbols"] = Symbols(size.width, inner)
        if size.orbits:
            self.hear["lines"] = Lines(size, inner)
        if size.local:
            self.hear["near"] = Near(size, inner)
        if not size.orbits and not size.local:
            self.hear["far"] = Far(size, inner)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return around(self.norm, x_BLD, self.listen)

    def listen(self, x_BLD: Tensor) -> Tensor:
        x_BLND = x_BLD.unflatten(2, self.nodes)
        h = self.own(x_BLND)
        for sense in self.hear.values():
            h = h + sense(x_BLND)
        gate, up = h.chunk(2, -1)
        return self.out(F.silu(gate) * up).flatten(2)


class OrbitEmbed(nn.Module):
    """From a question to nodes, (B, S) ints -> (B, L, N D): a symbol's node sees "I am given", or "another is".

    Such a token's own row of the table is that of the first symbol of its form; that of the last says "another".
    """

    kin: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.symbols, self.embed = count(size), Embed(size)
        kin = torch.arange(size.vocab)[:, None].repeat(1, self.symbols)  # what node n sees for each token
        for form in size.symbols:
            kin[list(form)] = torch.where(torch.eye(self.symbols, dtype=torch.bool), form[0], form[-1])
        self.register_buffer("kin", kin, persistent=False)

    def forward(self, x: Question, dtype: torch.dtype) -> Tensor:
        seen_BNS = self.kin[x.inputs.long()].transpose(1, 2)
        each = Question(seen_BNS.flatten(0, 1), x.puzzle.repeat_interleave(self.symbols))
        return self.embed(each, dtype).unflatten(0, seen_BNS.shape[:2]).transpose(1, 2).flatten(2)


class OrbitHeads(nn.Module):
    """Logits (B, S, vocab): of a symbol from its own node, of any other token from the mean of the place's nodes."""

    order: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads, self.prefix, self.nodes = Heads(size, continue_head=False), size.prefix, (count(size), size.width)
        self.forms = [form[0] for form in size.symbols]
        tied = [token for form in size.symbols for token in form]
        self.plain = [t for t in range(size.vocab) if t not in tied]
        order = torch.tensor(self.plain + tied).argsort()
        self.register_buffer("order", order, persistent=False)

    def forward(self, y_BLD: Tensor) -> Answer:
        y_BLND = y_BLD.unflatten(2, self.nodes)
        mean = self.heads(y_BLND.mean(2))
        if not self.forms:
            return mean
        said = F.linear(y_BLND[:, self.prefix :], self.heads.tokens.weight[self.forms].to(y_BLD.dtype))
        logits = torch.cat((mean.logits[..., self.plain], said.transpose(2, 3).flatten(2)), -1)
        return mean._replace(logits=logits[..., self.order])
