"""Key-value cache of a causal loop: each place of a row is read once, whichever nets attend to it, and however often.

    cache = Cache(rows, length);   cache.at(places, width);   x = Question(tokens, puzzle, cache=cache)
    phase "init": loop.init(x);   phase "step", any number: loop.step(s, x);   phase "read": loop.read(s)

A loop makes the same calls of attention at every place, in the same order, so the n-th call of a phase has slot n. The
steps of a loop have slots of their own, and a policy may let them share (Huginn, arXiv 2502.05171):

    full           a slot for every call
    compress-s<k>  k slots, reused in turn: a place gives what its last calls wrote
    anchor         slots of their own for the first 8 steps, and one step's slots for all later ones

A place that took fewer steps than are asked of it gives its last one ("latest" in that paper). Memory is taken for the
places that were looked at, up to the next power of two. Inference only.
Shapes: B rows, H heads, P places read now, K places looked at, E head width.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from innerloop.errors import InputError

__all__ = ["Cache", "policy"]

ANCHORS = 8  # steps with slots of their own under "anchor"
LEAST_ROOM = 64  # places that memory is taken for at once
ALL_STEPS = 1 << 30  # depth of a place while it is read: it gives what it wrote just now


def policy(name: str) -> Callable[[int, int], int]:
    """A function slot(n, calls) -> slot of n = step * calls + call. Raises InputError for an unknown name."""
    if name == "full":
        return lambda n, calls: n
    if name == "anchor":
        return lambda n, calls: min(n, ANCHORS * calls + n % calls)
    if found := re.fullmatch(r"compress-s([1-9]\d*)", name):
        return partial(_compress, int(found[1]))
    raise InputError(f'no cache policy is called "{name}": use "full", "anchor" or "compress-s16"')


def _compress(slots: int, n: int, calls: int) -> int:
    if slots % calls:
        raise InputError(f"compress-s{slots} would mix layers: give a multiple of the {calls} calls of a step")
    return n % slots


class Cache:
    """Keys and values of `rows` rows of up to `length` places. Changed in place by the loop that reads with it."""

    def __init__(self, rows: int, length: int, policy_name: str = "full", device: torch.device | str = "cpu") -> None:
        self.rows, self.length, self.policy_name, self.slot = rows, length, policy_name, policy(policy_name)
        self.kept: dict[tuple[str, int], tuple[Tensor, ...]] = {}  # of (phase, slot): tensors (B, H, room, E)
        self.room = 0  # places that there is memory for
        self.depth = torch.zeros(rows, length, dtype=torch.long, device=device)  # steps that each place took
        self.even: int | None = 0  # the steps of all places, where they are the same; 0: nothing is read yet
        self.places = self.depth[:, :0]  # (B, P) int64 that are read now
        self.width = 0  # K, places that are looked at: from 0 on
        self.calls = 0  # of attention in a step
        self._phase, self._step, self._call = "", -1, 0

    # -- reading ------------------------------------------------------------------------------------------------------
    def at(self, places: Tensor, width: int) -> None:
        """Read these places (B, P) next, looking at places below `width`. Raises InputError if there is no room."""
        if width > self.length:
            raise InputError(f"a cache of {self.length} places has no room for place {width}: make it longer")
        self.places, self.width, self._step = places, width, -1
        if width > self.room:
            self._grow(min(self.length, max(LEAST_ROOM, 1 << (width - 1).bit_length())))
        self.depth.scatter_(1, places, ALL_STEPS)

    def phase(self, name: str) -> None:
        """Begin "init", the next "step", or "read"."""
        if self._phase == "step" and self._call:
            self.calls = self._call
        self._phase, self._call = name, 0
        self._step += name == "step"

    def done(self, steps: Tensor | int) -> None:
        """The places at hand took so many steps, (B,) or all the same."""
        if isinstance(steps, Tensor):
            self.depth.scatter_(1, self.places, steps[:, None].expand_as(self.places))
            first = int(steps[0])
            steps = first if bool((steps == first).all()) else -1
        else:
            self.depth.scatter_(1, self.places, steps)
        self.even = steps if self.even in (0, steps) and steps > 0 else None

    def swap(self, _layer: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Keep what a call of attention computed for the places at hand, (B, H, P, E) each; return that of all places
        below `width`, (B, H, K, E) each.
        """
        n, self._call = self._call, self._call + 1
        shown = self._written(self._slot_of(n), new)
        if not self._mixed:
            return shown
        depth_BK = self.depth[:, : self.width]
        for step in range(self._step):  # places that took fewer steps give their last one
            last_BK1 = (depth_BK == step + 1)[:, None, :, None]
            if bool(last_BK1.any()):
                kept = self.kept["step", self.slot(step * self.calls + n, self.calls)]
                shown = tuple(torch.where(last_BK1, k[:, :, : self.width], s) for k, s in zip(kept, shown, strict=True))
        return shown

    def slots(self, calls: int, heads: int, width: int) -> list[tuple[Tensor, ...]] | None:
        """Count the next calls of attention; where each of them is to keep keys and values (B, H, room, E) itself.

        None, and nothing is counted, where those are not float32 of this shape, or a place that took fewer steps gives
        its last one.
        """
        if self._mixed:
            return None
        keys = [(self._phase, self._slot_of(self._call + i)) for i in range(calls)]
        shape = (self.rows, heads, self.room, width)
        for tensors in (self.kept[key] for key in keys if key in self.kept):
            if [(t.shape, t.dtype, t.is_contiguous()) for t in tensors] != [(shape, torch.float32, True)] * 2:
                return None
        self._call += calls
        for key in keys:
            if key not in self.kept:
                self.kept[key] = tuple(torch.zeros(shape, device=self.depth.device) for _ in range(2))
        return [self.kept[key] for key in keys]

    def _slot_of(self, n: int) -> int:
        """The slot of the n-th call of this phase."""
        if self._phase != "step" or not self.calls:  # in the first step of all every slot is new
            return n
        return self.slot(self._step * self.calls + n, self.calls)

    @property
    def _mixed(self) -> bool:
        """Whether some places may have taken fewer steps than this one."""
        even = self.even is not None and (self.even > self._step or not self.even)
        return self._phase == "step" and not even

    def _written(self, slot: int, new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        key = (self._phase, slot)
        if key not in self.kept:
            self.kept[key] = tuple(t.new_zeros(self.rows, t.shape[1], self.room, t.shape[3]) for t in new)
        at = torch.arange(self.rows, device=self.places.device)[:, None]
        for kept, t in zip(self.kept[key], new, strict=True):
            kept[at, :, self.places] = t.transpose(1, 2)
        return tuple(kept[:, :, : self.width] for kept in self.kept[key])

    def _grow(self, room: int) -> None:
        """Take memory for so many places."""
        more, self.room = room - self.room, room
        if more > 0:
            self.kept = {key: tuple(pad(t, (0, 0, 0, more)) for t in tensors) for key, tensors in self.kept.items()}

    # -- rows (innerloop.tree) ----------------------------------------------------------------------------------------
    def _like(self, rows: int, change: Callable[[Tensor], Tensor]) -> Cache:
        made = Cache(rows, self.length, self.policy_name, self.depth.device)
        made.kept = {key: tuple(map(change, tensors)) for key, tensors in self.kept.items()}
        made.depth, made.even, made.calls, made.room = change(self.depth), self.even, self.calls, self.room
        return made

    def take_rows(self, rows: Tensor | slice) -> Cache:
        """A cache of these rows alone, a copy."""
        index = torch.arange(self.rows, device=self.depth.device)[rows]
        return self._like(len(index), lambda t: t[index])

    def put_rows(self, rows: Tensor, fresh: Cache) -> Cache:
        """This cache, with `rows` (k,) replaced by those of `fresh`; in place."""
        self._grow(max(self.room, fresh.room))
        for key, tensors in self.kept.items():
            for mine, theirs in zip(tensors, fresh.kept[key], strict=True):
                mine[rows, :, : fresh.room] = theirs
        self.depth[rows] = fresh.depth
        self.even = self.even if fresh.even == self.even else None
        return self

    def concat_rows(self, *others: Cache) -> Cache:
        """One cache of all rows."""
        every = (self, *others)
        for cache in every:
            cache._grow(max(c.room for c in every))
        made = self._like(self.rows + sum(o.rows for o in others), lambda t: t)
        made.kept = {
            key: tuple(torch.cat(parts) for parts in zip(*(c.kept[key] for c in every), strict=True))
            for key in self.kept
        }
        made.depth = torch.cat([c.depth for c in every])
        made.even = self.even if all(o.even == self.even for o in others) else None
        return made
