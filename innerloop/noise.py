"""Counter-based random numbers: functions of one int64 key per example, independent of the batch and of generators.

A loop that draws keeps a `key` (B,) int64 in its state: init sets key_of(x), a step draws from it and replaces it by
scramble(key + 1). Salting the key gives another trajectory.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor

Integers = TypeVar("Integers", bound=Any)  # a torch tensor or numpy array


def key_of(x: Any) -> Tensor:
    """(B,) int64 key of each question: a hash of its tokens and puzzle id, the same in any batch and on any device."""
    tokens = torch.cat((x.puzzle[:, None].long(), x.inputs.long()), 1)
    positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return scramble(scramble(tokens + 1 + (positions << 20)).sum(1))


def has_key(state: Any) -> bool:
    """Whether a state draws noise: it has a field `key`."""
    return "key" in getattr(state, "_fields", ())


def salted(state: Any, salt: Any) -> Any:
    """The state with its `key` (B,) mixed with `salt`, an int or (B,) int64: another trajectory. 0 changes nothing.

    States without a key are returned as they are; keys of nested states are mixed too.
    """
    if not hasattr(state, "_fields"):
        return state
    inner = {k: salted(v, salt) for k, v in zip(state._fields, state, strict=True) if isinstance(v, tuple)}
    state = state._replace(**inner) if inner else state
    if not has_key(state):
        return state
    salt = torch.as_tensor(salt, device=state.key.device)
    return state._replace(key=torch.where(salt == 0, state.key, scramble(state.key + scramble(salt))))


def scramble(n: Integers) -> Integers:
    """int64 -> int64 hash, of torch or numpy: the finaliser of SplitMix64."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        n = (n ^ ((n >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return n


def uniform(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32 in (0, 1), a function of each row's key alone."""
    count = math.prod(shape)
    positions = torch.arange(1, count + 1, device=key.device)
    bits = scramble(key[:, None] + scramble(positions)) >> 41
    return _between(bits & 0x7FFFFF).view(-1, *shape)


def uniform_at(key: Tensor, places: Tensor, width: int) -> Tensor:
    """(B, P, width): the rows `places` (B or 1, P) of uniform(key, any number above them, width)."""
    positions = places[..., None] * width + torch.arange(1, width + 1, device=key.device)
    return _between(scramble(key[:, None, None] + scramble(positions)) >> 41 & 0x7FFFFF)


def _between(bits: Tensor) -> Tensor:
    """23 bits -> float32 in (0, 1). With one bit more the largest would round to 1, whose normal is inf."""
    return (bits.float() + 0.5).mul(2**-23)


def normal(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32 standard normal, a function of each row's key alone: the same key gives the same numbers."""
    return torch.erfinv(2 * uniform(key, *shape) - 1) * math.sqrt(2)
