"""Keys and values of nets that run many times over the same places, kept from one token to the next.

    slot = call * layers + layer        call: the number of the net's call in its flattened schedule, from 0

So a cache of a recurrent net grows with its depth. A policy shares slots between calls (Huginn, arXiv 2502.05171):

    full           every call keeps its own
    latest         likewise; a place that was thought about less deeply shows the deepest call it has, layer by layer
    compress-s<k>  slots are reused every k: a place shows what its last calls wrote
    anchor         the first 8 calls keep their own, all later ones share one

Shapes: B batch, H heads, K places kept, E head width.
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

ANCHORS = 8  # calls that keep slots of their own under "anchor"


def policy(name: str) -> Callable[[int, int], int]:
    """slot(n, layers) -> the slot that the n-th is kept in. Raises InputError for an unknown name."""
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


class Kept(NamedTuple):
    k_BHKE: Tensor
    v_BHKE: Tensor
    written: Tensor  # (K,) bool, on the CPU


class Cache:
    """What the first `seen` places of a row left behind, for rows of up to `length` places. Not for training.

    The rows of a batch go in step: each call reads the same places of all of them.
    """

    def __init__(self, length: int, policy_name: str = "full") -> None:
        self.length, self.latest, self.slot = length, policy_name == "latest", policy(policy_name)
        self.seen = 0
        self.kept: dict[tuple[str, int], Kept] = {}

    def sight(
        self, whole: AttentionContext | None, places: int, net: str, layers: int, call: int = 0
    ) -> AttentionContext:
        """What the next `places` may look at in this call of `net`, given the Sight of whole rows.

        Raises InputError where later places are not hidden (what was kept would be wrong) or where there is no room.
        """
        end = self.seen + places
        if whole is None or whole.mask is None:
            raise InputError('a cache needs a model that reads in order: set the mask of its NetConfig to "causal"')
        if end > self.length:
            raise InputError(f"a cache of {self.length} places has no room for place {end}: make it longer")
        memory = partial(self._swap, net, call * layers, layers)
        return AttentionContext(whole.mask[:, :, self.seen : end, :end], self.seen, memory)

    def _swap(self, net: str, first: int, layers: int, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the keys and values of the places being read; return those of all places up to them."""
        slot, end = self.slot(first + layer, layers), self.seen + k.shape[2]
        if (net, slot) not in self.kept:
            blank_k, blank_v = (t.new_zeros(*t.shape[:2], self.length, t.shape[3]) for t in (k, v))
            self.kept[net, slot] = Kept(blank_k, blank_v, torch.zeros(self.length, dtype=torch.bool))
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
