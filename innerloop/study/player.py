"""A small causal transformer, plain or looped, that predicts the next move: the model of the Othello study.

    e = embed(moves);   z = 0
    a step:   z <- block_K(... block_1(z + e))          causal attention
    answer:   logits = head(norm(z))

One step of K = 4 blocks is a plain transformer of four layers; four steps of K = 1 are a looped one with a quarter of
its weights. Each block is an update of its own, named by its number, so that `record.watch` sees between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from innerloop import grad
from innerloop.core import Answer, Question, run_schedule, think
from innerloop.parts.attention import context_of
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed
from innerloop.parts.layers import Linear, rms_norm
from innerloop.parts.mixers import Net
from innerloop.study.probes import LinearProbe as Probe
from innerloop.study.probes import random_steering_vector, steering_vector
from innerloop.study.record import Intervention, record_updates

__all__ = [
    "Player",
    "State",
    "legal_rate",
    "loss",
    "player_config",
    "question",
    "steering_interventions",
    "wrong_moves",
]


class State(NamedTuple):
    z: Tensor  # (B, T, D)


def player_config(board: int, width: int = 128, heads: int = 4) -> NetConfig:
    """The size of a player on a board of `board` x `board` cells."""
    cells = board * board
    return NetConfig(
        vocab=cells + 1,
        seq=cells - 4,
        rows=1,
        hidden_size=width,
        heads=heads,
        layers=1,
        multiple_of=32,
        norm="pre",
        positions="learned",
        mask="causal",
        prefix=0,
        puzzle_emb_size=0,
    )


class Player(nn.Module):
    causal = True

    def __init__(self, config: NetConfig, blocks: int = 4) -> None:
        super().__init__()
        self.size, self.grad = config, grad.full
        self.embed, self.head = Embed(config), Linear(config.hidden_size, config.vocab)
        self.blocks = nn.ModuleDict({str(i + 1): Net(config) for i in range(blocks)})
        self.schedule = tuple(self.blocks)

    def init(self, x: Question) -> State:
        return State(x.inputs.new_zeros((*x.inputs.shape, self.size.hidden_size), dtype=torch.float32))

    def step(self, s: State, x: Question) -> State:
        e_BTD, look = self.embed(x, torch.float32), context_of(self.size, x)

        def update(name: str, s: State) -> State:
            return State(self.blocks[name](s.z + e_BTD if name == self.schedule[0] else s.z, context=look))

        return run_schedule(self.schedule, {name: partial(update, name) for name in self.schedule}, s, self.grad)

    def read(self, s: State) -> Answer:
        return Answer(self.head(rms_norm(s.z)))


def question(tokens: NDArray[np.int64]) -> Question:
    """(N, T) moves as tokens -> what the player is asked."""
    inputs = torch.from_numpy(np.ascontiguousarray(tokens))
    return Question(inputs, inputs.new_zeros(len(inputs)))


def loss(player: Player, x: Question, depth: int) -> Tensor:
    """Mean cross-entropy of the next move, over the moves there are; a scalar, for an optimizer."""
    logits = think(player, x, depth).answer.logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), x.inputs[:, 1:].flatten(), ignore_index=0)


@torch.no_grad()
def legal_rate(player: Player, x: Question, legal: NDArray[np.bool_], depth: int) -> tuple[int, int]:
    """(places at which the likeliest next move is legal, places at which there is a next move).

    legal   (N, T, S) where the next player may move; places without any are the game's end
    """
    best = think(player, x, depth).answer.logits[..., 1:].argmax(-1).numpy()
    live = legal.any(-1)
    right = np.take_along_axis(legal, best[..., None], -1)[..., 0]
    return int((right & live).sum()), int(live.sum())


def steering_interventions(
    probes: Mapping[tuple[int, int], Probe],
    ply: Tensor,
    cell: Tensor,
    target: Tensor,
    times: float = 2.0,
    control: torch.Generator | None = None,
) -> list[Intervention]:
    """Pushes after the updates that `probes` (step, update) read, so that there `cell` (N,) reads as `target` (N,).

    Only the place of `ply` (N,) is pushed. With `control` the pushes keep their norms and take random directions.
    """
    rows = torch.arange(len(ply))

    def by(probe: Probe, z_BTD: Tensor) -> Tensor:
        v = steering_vector(probe, z_BTD[rows, ply], target, cell, times=times)
        added = torch.zeros_like(z_BTD)
        added[rows, ply] = v if control is None else random_steering_vector(v, control)
        return added

    return [Intervention("z", partial(by, probe), step, update) for (step, update), probe in probes.items()]


def wrong_moves(
    player: Player, x: Question, ply: Tensor, legal: NDArray[np.bool_], depth: int, steer: Sequence[Intervention] = ()
) -> NDArray[np.int64]:
    """(N,) how many cells the player's likeliest moves at `ply` (N,) and the `legal` ones (N, S) do not share.

    As many likeliest moves are taken as there are legal ones. This is the error of arXiv 2210.13382: steer the state
    towards another board, and give the legal moves of that board.
    """
    thought, _ = record_updates(player, x, depth, lambda name, old, new: None, steer)
    logits = thought.answer.logits[torch.arange(len(ply)), ply, 1:].numpy()
    rank = np.argsort(np.argsort(-logits, 1), 1)
    chosen = rank < legal.sum(1, keepdims=True)
    wrong: NDArray[np.int64] = (chosen != legal).sum(1)
    return wrong
