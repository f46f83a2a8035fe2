"""Puzzle files of numbers: one .npz with `inputs` and `labels`, or two .npy files so named.

A .npz written here also states vocabulary, shape and columns, and comes back as it was. Of foreign arrays (N, S) or
(N, rows, columns) only the values are known: where a 0 occurs it is a symbol of its own (a blank), so every value moves
up by one and 0 stays free for padding.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.files import atomic
from innerloop.tasks.sets import PuzzleSet

__all__ = ["load", "read_arrays", "save", "write_npz"]

PAIRS = (("inputs", "labels"), ("questions", "answers"), ("question", "answer"), ("input", "label"))
BIG = 256 * 2**20  # bytes; larger arrays stay on disk


def load(path: Path) -> np.ndarray:
    """One .npy without pickles; big files are mapped, not read. Raises InputError where the file is broken."""
    with _complete(path):
        if path.stat().st_size > BIG:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with open(path, "rb") as handle:
            array: np.ndarray = np.load(handle, allow_pickle=False)
            return array


def _load_all(path: Path) -> dict[str, np.ndarray]:
    """Every array of a .npz. Raises InputError where the file is broken."""
    with _complete(path), open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path.") from None
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).split("\n")[0].split(". ")[0].rstrip(".")
        raise InputError(f"{path} is no complete numpy file ({reason}); write or fetch it again.") from None


def save(path: Path, array: np.ndarray) -> None:
    """One .npy, complete or not there at all."""
    with atomic(path) as handle:
        np.save(handle, np.ascontiguousarray(array), allow_pickle=False)


def write_npz(path: Path | str, s: PuzzleSet, options: dict[str, Any] | None = None) -> None:
    """The whole set in one file. options: of its task, so that reading gives the same task again."""
    about = {
        "vocab": s.vocab,
        "shape": list(s.shape),
        "task": s.task,
        "options": options,
        "source": s.source,
        "identifiers": list(s.identifiers),
    }
    with atomic(path) as handle:
        np.savez_compressed(
            handle,
            inputs=s.inputs,
            labels=s.labels,
            puzzle=s.puzzle,
            group=s.group,
            rating=s.rating,
            about=json.dumps(about),
        )


def read_arrays(path: Path | str) -> tuple[PuzzleSet, dict[str, Any] | None]:
    """(the set, the options of its task or None). path: .npz, or either .npy file of a pair."""
    path = Path(path)
    if path.suffix == ".npy":
        first, second = _partner(path)
        return _foreign(load(first), load(second), str(path)), None
    held: dict[str, Any] = _load_all(path)
    if "about" in held:
        about = json.loads(str(held.pop("about")))
        options = about.pop("options")
        about["shape"], about["identifiers"] = tuple(about["shape"]), tuple(about["identifiers"])
        return PuzzleSet(**held, **about), options
    for a, b in PAIRS:
        if a in held and b in held:
            columns: dict[str, Any] = {k: held[k] for k in ("group", "rating") if k in held}
            return _foreign(held[a], held[b], str(path), columns), None
    raise InputError(f"{path} holds {', '.join(held) or 'nothing'}; give arrays named 'inputs' and 'labels'.")


def _partner(path: Path) -> tuple[Path, Path]:
    for pair in PAIRS:
        for here, there in (pair, pair[::-1]):
            if path.stem.endswith(here):
                other = path.with_name(path.stem[: -len(here)] + there + ".npy")
                if not other.exists():
                    raise InputError(
                        f"{path} has no partner {other.name} beside it; put inputs and labels in one folder."
                    )
                return (path, other) if here == pair[0] else (other, path)
    raise InputError(
        f"{path}: the name says neither inputs nor labels; name the two files ..inputs.npy and ..labels.npy."
    )


def _foreign(inputs: np.ndarray, labels: np.ndarray, source: str, columns: dict[str, Any] | None = None) -> PuzzleSet:
    if inputs.shape != labels.shape or inputs.ndim not in (2, 3):
        raise InputError(
            f"{source}: inputs are {inputs.shape} and labels {labels.shape}; give both as (N, S) or both as (N, "
            "rows, columns)."
        )
    if inputs.size == 0:
        raise InputError(f"{source} holds no puzzle; give at least one row.")
    side = isqrt(inputs[0].size)
    shape = (
        inputs.shape[1:] if inputs.ndim == 3 else (side, side) if side * side == inputs[0].size else (1, inputs[0].size)
    )
    flat = [a.reshape(len(a), -1) for a in (inputs, labels)]
    # The constructor refuses fractions and infinities; run it before the values are moved.
    s = PuzzleSet(flat[0], flat[1], vocab=256, shape=shape, source=source)
    shift = 1 if min(int(s.inputs.min()), int(s.labels.min())) == 0 else 0
    top = max(int(s.inputs.max()), int(s.labels.max())) + shift
    if top > 254:
        raise InputError(f"{source}: the largest value is {top - shift}; the most that fits is {254 - shift}.")
    moved = [(a + shift).astype(np.uint8) for a in (s.inputs, s.labels)]
    return PuzzleSet(moved[0], moved[1], vocab=top + 1, shape=shape, source=source, **(columns or {}))
