"""From a question to its input injection: tokens, puzzle identity, positions; and the vectors a loop starts from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Question
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import trunc_normal


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


def start(config: NetConfig, *many: int) -> Tensor:
    """(*many, D) fixed random vectors for first states, the same at every node."""
    return trunc_normal(*many, config.node, std=1.0).repeat(*(1 for _ in many), config.nodes)


class Embed(nn.Module):
    """x = sqrt(D) * (tokens with the puzzle's rows before them), (B, S) ints -> (B, L, D).

    Learned positions are added and the sum scaled by 1/sqrt(2), as HRM does. The puzzle table starts at zero.
    Where symbols are interchangeable, the node of one sees "this is said here" or "another is", of what form: a form's
    first row of the table means the one, its last row the other; nodes of a place lie side by side.
    """

    kin: Tensor

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.size, self.scale = config, math.sqrt(config.node)
        std = 1 / self.scale
        self.tokens = Table(config.vocab, config.node, std)
        kin = torch.arange(config.vocab)[:, None].repeat(1, config.nodes)  # the row that a node sees for each token
        for form in config.symbols:
            kin[list(form)] = torch.where(torch.eye(config.nodes, dtype=torch.bool), form[0], form[-1])
        self.register_buffer("kin", kin, persistent=False)
        if config.puzzle_emb_size:
            self.puzzles = Table(config.puzzles, config.puzzle_emb_size, 0.0, sparse=True)
        if config.positions == "learned":
            self.places = Table(config.length, config.node, std)

    def forward(self, x: Question, dtype: torch.dtype) -> Tensor:
        config = self.size
        if x.inputs.shape[1] != config.seq:
            raise InputError(f"a question has {x.inputs.shape[1]} tokens, but this model was made for {config.seq}")
        seen = self.kin[x.inputs.long()] if config.symbols else x.inputs[..., None]
        e_BLD = self.tokens(seen, dtype).flatten(2)
        if config.prefix:
            blank = config.prefix * config.hidden_size
            rows = self.puzzles(x.puzzle, dtype) if config.puzzle_emb_size else e_BLD.new_zeros(len(e_BLD), 0)
            prefix_BPD = F.pad(rows, (0, blank - rows.shape[-1])).unflatten(-1, (config.prefix, config.hidden_size))
            e_BLD = torch.cat((prefix_BPD, e_BLD), 1)
        if config.positions == "learned":
            e_BLD = 0.707106781 * (e_BLD + self.places.weight.to(dtype).repeat(1, config.nodes))
        return self.scale * e_BLD
