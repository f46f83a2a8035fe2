"""From a question to its input injection: tokens, puzzle identity, positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Question
from innerloop.errors import InputError
from innerloop.parts.layers import trunc_normal
from innerloop.parts.size import Size


class Table(nn.Module):
    """Rows looked up by id. `sparse`: only the rows of the batch get a gradient, for optim.SparseSignSGD."""

    def __init__(self, rows: int, width: int, std: float, sparse: bool = False) -> None:
        super().__init__()
        self.sparse = sparse
        self.weight = nn.Parameter(trunc_normal(rows, width, std=std))

    def forward(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        if self.sparse:  # look up first, so that a table of a million puzzles is never cast whole
            return F.embedding(ids.long(), self.weight, sparse=self.training).to(dtype)
        return F.embedding(ids.long(), self.weight.to(dtype))


class Embed(nn.Module):
    """x = sqrt(D) * (tokens with the puzzle's rows before them), (B, S) ints -> (B, L, D).

    Learned positions are added and the sum scaled by 1/sqrt(2), as HRM does. The puzzle table starts at zero.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size, self.scale = size, math.sqrt(size.width)
        std = 1 / self.scale
        self.tokens = Table(size.vocab, size.width, std)
        if size.puzzle_width:
            self.puzzles = Table(size.puzzles, size.puzzle_width, 0.0, sparse=True)
        if size.positions == "learned":
            self.places = Table(size.length, size.width, std)

    def forward(self, x: Question, dtype: torch.dtype) -> Tensor:
        size = self.size
        if x.inputs.shape[1] != size.seq:
            raise InputError(f"a question has {x.inputs.shape[1]} tokens, but this model was made for {size.seq}")
        e_BLD = self.tokens(x.inputs, dtype)
        if size.prefix:
            blank = size.prefix * size.width
            rows = self.puzzles(x.puzzle, dtype) if size.puzzle_width else e_BLD.new_zeros(len(e_BLD), 0)
            prefix_BPD = F.pad(rows, (0, blank - rows.shape[-1])).unflatten(-1, (size.prefix, size.width))
            e_BLD = torch.cat((prefix_BPD, e_BLD), 1)
        if size.positions == "learned":
            e_BLD = 0.707106781 * (e_BLD + self.places.weight.to(dtype))
        return self.scale * e_BLD
