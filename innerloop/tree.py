"""Functions over nested states (pytrees): tuples and NamedTuples whose leaves are tensors, batch first.

A leaf that is no tensor (None, a number, a text) is passed through. Everything but a tuple is a leaf: lists and dicts
are not traversed. A leaf with methods take_rows, put_rows and concat_rows moves its rows itself, as parts.cache.Cache
does, which is changed in place because it is large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["concat", "detach", "flatten", "floating", "map_tensors", "put", "rebuild", "select", "take", "unflatten"]


def rebuild(like: tuple[Any, ...], items: Any) -> Any:
    """A tuple of the type of `like` with these items."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def map_tensors(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply f to every tensor of `tree`, with the matching leaves of `others` as further arguments.

    Leaves of `tree` that are no tensors are kept.
    """
    if isinstance(tree, Tensor):
        return f(tree, *others)
    if not isinstance(tree, tuple):
        return tree
    return rebuild(tree, [map_tensors(f, *items) for items in zip(tree, *others, strict=True)])


def flatten(tree: Any) -> list[Any]:
    """All leaves in order, tensors or not."""
    return [leaf for item in tree for leaf in flatten(item)] if isinstance(tree, tuple) else [tree]


def unflatten(like: Any, leaves: Iterator[Any]) -> Any:
    """The inverse of `flatten`: a tree structured like `like`, with leaves from an iterator."""
    return rebuild(like, [unflatten(item, leaves) for item in like]) if isinstance(like, tuple) else next(leaves)


def floating(tree: Any) -> Iterator[Tensor]:
    """The floating-point tensors, in order."""
    return (leaf for leaf in flatten(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def detach(tree: Any) -> Any:
    """The tree with every tensor detached."""
    return map_tensors(Tensor.detach, tree)


def select(mask: Any, a: Any, b: Any) -> Any:
    """`a` where `mask`, else `b`: whole trees for a bool, row by row for a (B,) bool tensor.

    A row depends neither on other rows nor on the value that was not selected, even if that is NaN. Leaves that are no
    tensors come from `b`.
    """
    if isinstance(mask, bool):
        return a if mask else b
    return map_tensors(lambda q, p: torch.where(mask.view(-1, *[1] * (q.ndim - 1)), p, q), b, a)


def take(tree: Any, rows: Any) -> Any:
    """Index the rows by an int64 tensor or bool mask (a copy), a slice (a view), or an int (drops the batch axis)."""
    return map_rows("take_rows", lambda t: t[rows], tree, given=(rows,))


def put(tree: Any, rows: Tensor, fresh: Any) -> Any:
    """A copy with `rows` (k,) int64, all different, replaced by the k rows of `fresh`; dtypes are promoted."""

    def wide(old: Tensor, new: Tensor) -> Tensor:
        dtype = torch.promote_types(old.dtype, new.dtype)
        return old.to(dtype).index_copy(0, rows, new.to(dtype))

    return map_rows("put_rows", wide, tree, fresh, given=(rows,))


def concat(*trees: Any) -> Any:
    """Concatenate trees along the batch axis."""
    return map_rows("concat_rows", lambda *parts: torch.cat(parts), *trees)


def map_rows(method: str, f: Callable[..., Any], tree: Any, *others: Any, given: tuple[Any, ...] = ()) -> Any:
    """map_tensors(f, tree, *others), but leaf.method(*given, *others) of a leaf that moves its rows itself."""
    if isinstance(tree, tuple):
        return rebuild(tree, [map_rows(method, f, *items, given=given) for items in zip(tree, *others, strict=True)])
    own = None if isinstance(tree, Tensor) else getattr(tree, method, None)
    return own(*given, *others) if own else map_tensors(f, tree, *others)
