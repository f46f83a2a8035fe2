"""Symmetry views of a puzzle (turned, mirrored, renamed) side by side, with messages between them.

    x_v  = the question in view v;   all views run through the same net
    m    = W_out silu(W_in sum over the V views of a position / sqrt(V)),   added to the input of the net's next call

All weights are shared by the views, and the answer is the mean over them. If the views form a group, the model is
exactly equivariant to it, for any net, so augmenting with it changes nothing. Groups as an axis of the state: group
equivariant networks (arXiv 1602.07576).
Shapes: B batch, V views, L positions, D channels of a view, N nodes of a position, K tokens of the vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.core import Answer, Question
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear

__all__ = ["ViewMixer"]


class ViewMixer(nn.Module):
    """The views of a config, and messages between them.

    Outside, a state is (B, L, V D), indexed by the puzzle's positions; for the net it is (B V, L, D), each view indexed
    by its own positions.
    """

    source: Tensor  # (V, L) int64: the puzzle's position that each position of a view shows
    inverse: Tensor  # (V, L) int64: its inverse permutation
    token_map: Tensor  # (V, K) int64: the token in the view, by the token of the puzzle

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.count, self.nodes = len(config.views), (config.nodes, config.node)
        source = torch.tensor(config.views)
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("inverse", source.argsort(1), persistent=False)
        self.register_buffer("token_map", torch.tensor(config.view_tokens), persistent=False)
        self.message_in, self.message_out = Linear(config.node, config.node), Linear(config.node, config.node)

    def view_questions(self, x: Question) -> Question:
        """The questions (B, L) in all views: (B V, L)."""
        view = torch.arange(self.count, device=x.inputs.device)[:, None]
        inputs = self.token_map[view, x.inputs.long()[:, self.source]]
        return Question(inputs.flatten(0, 1), x.puzzle.repeat_interleave(self.count))

    def to_views(self, h_BLD: Tensor) -> Tensor:
        """(B, L, V D) -> (B V, L, D)."""
        return self.permute(h_BLD.unflatten(2, (self.count, -1)).transpose(1, 2), self.source).flatten(0, 1)

    def from_views(self, h_BLD: Tensor) -> Tensor:
        """(B V, L, D) -> (B, L, V D)."""
        return self.permute(h_BLD.unflatten(0, (-1, self.count)), self.inverse).transpose(1, 2).flatten(2)

    def permute(self, h_BVLD: Tensor, index_VL: Tensor) -> Tensor:
        """Position i of view v becomes position index[v, i] of that view."""
        offset = torch.arange(self.count, device=index_VL.device)[:, None] * index_VL.shape[1]
        return h_BVLD.flatten(1, 2)[:, (index_VL + offset).flatten()].unflatten(1, index_VL.shape)

    def message(self, h_BLD: Tensor) -> Tensor:
        """(B V, L, D) -> (B V, L, D): to each position, from the same position of the puzzle in all views."""
        h_BVLD = self.permute(h_BLD.unflatten(0, (-1, self.count)), self.inverse)
        scaled_sum_BLND = (h_BVLD.sum(1) * self.count**-0.5).unflatten(2, self.nodes)
        message_BLD = self.message_out(F.silu(self.message_in(scaled_sum_BLND))).flatten(2)
        return message_BLD[:, self.source].flatten(0, 1)

    def mean_answer(self, answer: Answer) -> Answer:
        """Mean over the views, (B, L, K) and (B,), of logits (B V, L, K) and halting logits (B V,)."""
        view = torch.arange(self.count, device=self.token_map.device)[:, None, None]
        logits_BVLK = self.permute(answer.logits.unflatten(0, (-1, self.count)), self.inverse)
        position = torch.arange(logits_BVLK.shape[2], device=self.token_map.device)[:, None]
        logits_BVLK = logits_BVLK[:, view, position, self.token_map[:, None]]
        halts = (None if q is None else q.unflatten(0, (-1, self.count)).mean(1) for q in answer[1:3])
        return Answer(logits_BVLK.mean(1), *halts)
