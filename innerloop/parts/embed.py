"""Input embedding of a question (tokens, puzzle id, positions), and random vectors for initial states."""

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
        if self.sparse:  # look up before the cast, since the table may have a million rows
            return F.embedding(ids.long(), self.weight, sparse=self.training).to(dtype)
        return F.embedding(ids.long(), self.weight.to(dtype))


def initial_vectors(config: NetConfig, *many: int) -> Tensor:
    """(*many, D) random vectors for initial states, the same at every node of a position."""
    return trunc_normal(*many, config.node, std=1.0).repeat(*(1 for _ in many), config.nodes)


class Embed(nn.Module):
    """sqrt(D) * [puzzle embedding; token embeddings]: (B, S) int -> (B, L, D); of the places of a cache alone, if any.

    Learned positions are added and the sum scaled by 1/sqrt(2), as HRM does. The puzzle table starts at zero.
    With interchangeable symbols, the node of a symbol is embedded as "the cell holds this symbol" or "it holds another
    of this form": the form's first row of the table for the one, its last row for the other. The nodes of a position
    are concatenated.
    """

    symbol_rows: Tensor

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.size, self.scale = config, math.sqrt(config.node)
        std = 1 / self.scale
        self.tokens = Table(config.vocab, config.node, std)
        symbol_rows = torch.arange(config.vocab)[:, None].repeat(1, config.nodes)  # (vocab, N) row of the table
        for form in config.symbols:
            symbol_rows[list(form)] = torch.where(torch.eye(config.nodes, dtype=torch.bool), form[0], form[-1])
        self.register_buffer("symbol_rows", symbol_rows, persistent=False)
        if config.puzzle_emb_size:
            self.puzzles = Table(config.puzzles, config.puzzle_emb_size, 0.0, sparse=True)
        if config.positions == "learned":
            self.places = Table(config.length, config.node, std)

    def forward(self, x: Question, dtype: torch.dtype) -> Tensor:
        config = self.size
        if x.inputs.shape[1] != config.seq:
            raise InputError(f"a question has {x.inputs.shape[1]} tokens, but this model was made for {config.seq}")
        places = None if x.cache is None else x.cache.places
        inputs = x.inputs if places is None else x.inputs.gather(1, places)
        seen = self.symbol_rows[inputs.long()] if config.symbols else inputs[..., None]
        e_BLD = self.tokens(seen, dtype).flatten(2)
        if config.prefix:
            blank = config.prefix * config.hidden_size
            rows = self.puzzles(x.puzzle, dtype) if config.puzzle_emb_size else e_BLD.new_zeros(len(e_BLD), 0)
            prefix_BPD = F.pad(rows, (0, blank - rows.shape[-1])).unflatten(-1, (config.prefix, config.hidden_size))
            e_BLD = torch.cat((prefix_BPD, e_BLD), 1)
        if config.positions == "learned":
            own = self.places.weight if places is None else self.places.weight[places]
            e_BLD = 0.707106781 * (e_BLD + own.to(dtype).tile(config.nodes))
        return self.scale * e_BLD
