"""Key-value cache for recurrent-depth nets, which run many times at every position.

    slot = call * layers + layer        call: the number of the net's call in its flattened schedule, from 0

The cache grows with the depth of the net. A policy may share slots between calls (Huginn, arXiv 2502.05171):

    full           a slot for every call
    latest         likewise; a position that was computed at less depth gives its deepest call, layer by layer
    compress-s<k>  k slots, reused in turn: a position gives what its last calls wrote
    anchor         a slot for each of the first 8 calls, one shared by all later ones

Shapes: B batch, H heads, K cached positions, E head width.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext

ANCHORS = 8  # calls with slots of their own under "anchor"


def policy(name: str) -> Callable[[int, int], int]:
    """A function slot(n, layers) -> slot of n = call * layers + layer. Raises InputError for an unknown name."""
    if name in ("full", "latest"):
        return lambda n, layers: n
    if name == "anchor":
        return lambda n, layers: min(n, ANCHORS * layers + n % layers)
    if found := re.fullmatch(r"compress-s([1-9]\d*)", name):
        return partial(_compress, int(found[1]))
    raise InputError(f'no cache policy is called "{name}": use "full", "latest", "anchor" or "compress-s16"')


def _compress(slots: int, n: int, layers: int) -> int:
    if slots % layers:
        raise InputError(f"compress-s{slots} would mix layers: give a multiple of the net's {layers} layers")
    return n % slots


class CacheSlot(NamedTuple):
    k_BHKE: Tensor
    v_BHKE: Tensor
    written: Tensor  # (K,) bool, on the CPU


class Cache:
    """Keys and values of the first `seen` positions of each row, up to `length`. Inference only.

    All rows of a batch are at the same position.
    """

    def __init__(self, length: int, policy_name: str = "full") -> None:
        self.length, self.latest, self.slot = length, policy_name == "latest", policy(policy_name)
        self.seen = 0
        self.kept: dict[tuple[str, int], CacheSlot] = {}

    def context(
        self, full: AttentionContext | None, positions: int, net: str, layers: int, call: int = 0
    ) -> AttentionContext:
        """The context of the next `positions` in call `call` of `net`; `full` is that of full rows.

        Raises InputError without a causal mask (cached values would be wrong), or if the cache is full.
        """
        end = self.seen + positions
        if full is None or full.mask is None:
            raise InputError('a cache needs a model that reads in order: set the mask of its NetConfig to "causal"')
        if end > self.length:
            raise InputError(f"a cache of {self.length} places has no room for place {end}: make it longer")
        memory = partial(self._swap, net, call * layers, layers)
        return AttentionContext(full.mask[:, :, self.seen : end, :end], self.seen, memory)

    def _swap(self, net: str, first: int, layers: int, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of the current positions; return those of all positions so far."""
        slot, end = self.slot(first + layer, layers), self.seen + k.shape[2]
        if (net, slot) not in self.kept:
            blank_k, blank_v = (t.new_zeros(*t.shape[:2], self.length, t.shape[3]) for t in (k, v))
            self.kept[net, slot] = CacheSlot(blank_k, blank_v, torch.zeros(self.length, dtype=torch.bool))
        mine = self.kept[net, slot]
        mine.k_BHKE[:, :, self.seen : end] = k
        mine.v_BHKE[:, :, self.seen : end] = v
        mine.written[self.seen : end] = True
        if mine.written[:end].all():
            return mine.k_BHKE[:, :, :end], mine.v_BHKE[:, :, :end]
        if not self.latest:
            raise InputError('an earlier place was thought about less deeply: use the policy "latest", or equal depths')
        shallow = [self.kept[net, n] for n in range(slot % layers, slot + 1, layers) if (net, n) in self.kept]
        k, v = shallow[0].k_BHKE, shallow[0].v_BHKE
        for deeper in shallow[1:]:
            has_K1 = deeper.written[:, None].to(k.device)
            k, v = torch.where(has_K1, deeper.k_BHKE, k), torch.where(has_K1, deeper.v_BHKE, v)
        return k[:, :, :end], v[:, :, :end]
