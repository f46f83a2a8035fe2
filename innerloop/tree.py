"""States as trees: nested tuples and NamedTuples whose leaves are tensors, one row of each per example.

A leaf that is no tensor (None, a number, a text) has no rows and goes along as it is. Whatever is not a tuple is a
leaf: lists and dicts are not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["concat", "detach", "flatten", "floating", "map_tensors", "put", "rebuild", "select", "take", "unflatten"]


def rebuild(like: tuple[Any, ...], items: Any) -> Any:
    """A tuple of the kind of `like` with these items."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def map_tensors(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree with f(tensor) in place of each tensor; f(tensor, of the second, ...) with further trees of its shape.

    Where `tree` has a leaf that is no tensor, it stays.
    """
    if isinstance(tree, Tensor):
        return f(tree, *others)
    if not isinstance(tree, tuple):
        return tree
    return rebuild(tree, [map_tensors(f, *items) for items in zip(tree, *others, strict=True)])


def flatten(tree: Any) -> list[Any]:
    """Every leaf in order, with those that are no tensors."""
    return [leaf for item in tree for leaf in flatten(item)] if isinstance(tree, tuple) else [tree]


def unflatten(like: Any, leaves: Iterator[Any]) -> Any:
    """A tree of the shape of `like` with its leaves from an iterator, in order."""
    return rebuild(like, [unflatten(item, leaves) for item in like]) if isinstance(like, tuple) else next(leaves)


def floating(tree: Any) -> Iterator[Tensor]:
    """The floating tensors, in order."""
    return (leaf for leaf in flatten(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def detach(tree: Any) -> Any:
    """The same values, off the tape."""
    return map_tensors(Tensor.detach, tree)


def select(mask: Any, a: Any, b: Any) -> Any:
    """`a` where `mask`, else `b`: whole trees for a bool, row by row for a (B,) tensor of bools.

    A row's value never depends on another row's, nor on the value that was not selected, even if that is NaN. What has
    no rows comes from `b`, whole.
    """
    if isinstance(mask, bool):
        return a if mask else b
    return map_tensors(lambda q, p: torch.where(mask.view(-1, *[1] * (q.ndim - 1)), p, q), b, a)


def take(tree: Any, rows: Any) -> Any:
    """These rows: an int64 tensor of them or a mask of bools (a copy), a slice (a view), or an int (no batch left)."""
    return map_tensors(lambda t: t[rows], tree)


def put(tree: Any, rows: Tensor, fresh: Any) -> Any:
    """A copy in which `rows` (k,) int64, all different, are the k rows of `fresh`, in the wider of their dtypes."""

    def wide(old: Tensor, new: Tensor) -> Tensor:
        dtype = torch.promote_types(old.dtype, new.dtype)
        return old.to(dtype).index_copy(0, rows, new.to(dtype))

    return map_tensors(wide, tree, fresh)


def concat(*trees: Any) -> Any:
    """The rows of the first, then those of the second, and so on."""
    return map_tensors(lambda *parts: torch.cat(parts), *trees)
