"""Puzzle files of numbers: one .npz with `inputs` and `labels`, or two .npy files so named.

A .npz written here also states vocabulary, shape and columns, and comes back as it was. Of foreign arrays (N, S) or
(N, rows, columns) only the values are known: where a 0 occurs it is a symbol of its own (a blank), so every value moves
up by one and 0 stays free for padding.
"""

from __future__ import annotations

import json
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from innerloop import files
from innerloop.data.notation import ROWS_INSPECTED
from innerloop.data.sets import PuzzleSet, Reading
from innerloop.errors import InputError
from innerloop.tasks.grid import Grid
from innerloop.tasks.task import Task
from innerloop.text import printable

__all__ = ["SYMBOLS", "load_npy", "read_arrays", "save_npy", "write_npz"]

PAIRS = (("inputs", "labels"), ("questions", "answers"), ("question", "answer"), ("input", "label"))
COLUMNS = ("puzzle", "group", "rating")
NAMES = {name for pair in PAIRS for name in pair} | {*COLUMNS, "about"}
MAP_ABOVE = 256 * 2**20  # bytes; larger arrays stay on disk
FREE_GROWTH = 64 * 2**20  # bytes that an archive may grow to, however little it holds
SYMBOLS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + "".join(map(chr, range(0xC0, 0x180)))
# What numpy and zipfile raise on damaged or foreign files.
FORMAT_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OSError,
    RuntimeError,
    SyntaxError,
)
FORMAT_ERRORS += (zipfile.BadZipFile, zlib.error, tokenize.TokenError)


def load_npy(path: Path) -> np.ndarray:
    """One .npy without pickles; big files are mapped, not read. Raises InputError where the file is broken."""
    with files.open_regular(path) as handle:
        found = os.fstat(handle.fileno())
    files.check_not_sparse(path, found)
    with _complete(path):
        # A map is made first, because it alone compares the stated shape with the size of the file.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray):
            mapped.close()
            raise ValueError("it is an archive: name it .npz")
        return mapped if found.st_size > MAP_ABOVE else np.array(mapped)


def _load_all(path: Path) -> dict[str, Any]:
    """The arrays of a .npz that are known here by name. Raises InputError where the file is broken."""
    with files.open_regular(path) as handle, _complete(path):
        if handle.read(2) != b"PK":
            raise ValueError("it is no archive of arrays")
        handle.seek(0)
        archive = np.load(handle, allow_pickle=False)
        members = {i.filename.removesuffix(".npy"): i for i in archive.zip.infolist()}
        known = {name: members[name] for name in archive.files if name in NAMES and name in members}
        grown, stored = (sum(getattr(i, key) for i in known.values()) for key in ("file_size", "compress_size"))
        if grown > max(FREE_GROWTH, files.RATIO * stored):
            raise InputError(f"{path} grows more than {files.RATIO} times when it is decompressed: it is no data file.")
        for name, info in known.items():
            with archive.zip.open(info) as member:
                _check_header(member, info.file_size, name)
        if not known and members:
            told = printable(", ".join(members), 100)
            raise InputError(f"{path} holds {told}; give arrays named 'inputs' and 'labels'.")
        return {name: archive[name] for name in known}


def _check_header(member: Any, size: int, name: str) -> None:
    """ValueError where an array of an archive states more than its member holds, before memory is taken for it."""
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"{name} has fields")
    shape, _, dtype = read(member)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"{name} is cut short")


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise files.unreadable(path, error) from None
    except FORMAT_ERRORS as error:
        if getattr(error, "errno", None):
            raise files.unreadable(path, error) from None
        damaged = isinstance(error, SyntaxError | tokenize.TokenError)  # of a header, which is Python's own notation
        reason = "its header is damaged" if damaged else printable(files.reason(error).split(". ")[0].rstrip("."), 200)
        raise InputError(f"{path} is no complete numpy file ({reason}); write or fetch it again.") from None


def save_npy(path: Path, array: np.ndarray) -> None:
    """One .npy, complete or not there at all."""

    def put(beside: Path) -> None:
        with beside.open("wb") as handle:
            np.save(handle, np.ascontiguousarray(array), allow_pickle=False)

    files.write(path, put)


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
    columns = {name: getattr(s, name) for name in ("inputs", "labels", *COLUMNS)}

    def put(beside: Path) -> None:
        with beside.open("wb") as handle:
            np.savez_compressed(handle, **columns, about=json.dumps(about))

    files.write(path, put)


def read_arrays(
    path: Path | str, task: Task | None = None, answers: bool = True
) -> tuple[PuzzleSet, dict[str, Any] | None]:
    """(the set, the options of its task or None). path: .npz, or either .npy file of a pair.

    task: what foreign values are read as, where it is known; without one they are read by what occurs among them.
    answers: False takes questions alone, and a file without labels: labels are then 0.
    """
    path = Path(path)
    if path.name.lower().endswith(".npy"):
        first, second = _partner(path, answers)
        return _foreign(load_npy(first), load_npy(second) if second else None, str(path), {}, task), None
    held = _load_all(path)
    if "about" in held:
        return _ours(held, path)
    columns: dict[str, Any] = {k: held[k] for k in ("group", "rating") if k in held}
    for a, b in PAIRS:
        if a in held and (b in held or not answers):
            return _foreign(held[a], held.get(b), str(path), columns, task), None
    raise InputError(f"{path} holds {', '.join(held) or 'nothing'}; give arrays named 'inputs' and 'labels'.")


def _ours(held: dict[str, Any], path: Path) -> tuple[PuzzleSet, dict[str, Any] | None]:
    """A set that `write_npz` wrote; everything in it may have been changed since."""
    about = files.parse_json(str(held.pop("about")), f"{path}, about")
    missing = [k for k in ("inputs", "labels") if k not in held]
    if not isinstance(about, dict) or missing or not {"vocab", "shape"} <= set(about):
        raise InputError(f"{path} lacks {', '.join(missing) or 'the vocabulary or shape'}; write it again.")
    options, names, shape = about.get("options"), about.get("identifiers", ["<blank>"]), about["shape"]
    texts = [about.get(key, "") for key in ("task", "source")]
    if not (isinstance(names, list) and isinstance(shape, list) and isinstance(options, dict | None)):
        raise InputError(f"{path}: what it says of itself has other types than it was written with; write it again.")
    if not all(isinstance(text, str) for text in [*names, *texts]):
        raise InputError(f"{path}: names in it are no texts; write it again.")
    known: dict[str, Any] = {name: held[name] for name in ("inputs", "labels", *COLUMNS) if name in held}
    known |= {"task": texts[0] or "grid", "source": printable(texts[1], 200) or str(path), "identifiers": tuple(names)}
    return PuzzleSet(vocab=about["vocab"], shape=tuple(shape), **known), options


def _partner(path: Path, answers: bool = True) -> tuple[Path, Path | None]:
    for pair in PAIRS:
        for here, there in (pair, pair[::-1]):
            if path.stem.endswith(here):
                other = path.with_name(path.stem[: -len(here)] + there + ".npy")
                if not other.exists():
                    if not answers and here == pair[0]:
                        return path, None
                    raise InputError(
                        f"{path} has no partner {other.name} beside it; put inputs and labels in one folder."
                    )
                return (path, other) if here == pair[0] else (other, path)
    raise InputError(
        f"{path}: the name says neither inputs nor labels; name the two files ..inputs.npy and ..labels.npy."
    )


def _foreign(
    inputs: np.ndarray, labels: np.ndarray | None, source: str, columns: dict[str, Any], task: Task | None
) -> PuzzleSet:
    answered = labels is not None
    labels = inputs if labels is None else labels
    if inputs.shape != labels.shape or inputs.ndim not in (2, 3):
        raise InputError(
            f"{source}: inputs are {inputs.shape} and labels {labels.shape}; give both as (N, S) or both as (N, "
            "rows, columns)."
        )
    if inputs.size == 0:
        raise InputError(f"{source} holds no puzzle; give at least one row.")
    stated = inputs.shape[1:] if inputs.ndim == 3 else None
    side, cells = isqrt(inputs[0].size), inputs[0].size
    shape = stated or ((side, side) if side * side == cells else (1, cells))
    # The constructor refuses fractions, infinities and what does not fit; run it before the values are moved.
    s = PuzzleSet(
        inputs.reshape(-1, cells),
        labels.reshape(-1, cells),
        vocab=max(256, task.vocab if task else 0),
        shape=shape,
        source=source,
    )
    if task is not None:
        return _as_known(s, stated, answered, columns, task)
    low, top = min(int(s.inputs.min()), int(s.labels.min())), max(int(s.inputs.max()), int(s.labels.max()))
    shift = 1 if low == 0 else 0
    if top + shift > 254:
        raise InputError(f"{source}: the largest value is {top}; the most that fits is {254 - shift}.")
    table = (np.arange(256) + shift).astype(np.uint8)
    because = f"its values are {low} to {top}" + (", and a 0 is a symbol of its own" if shift else "")
    symbols = SYMBOLS[: top + 1] if shift or top == len(SYMBOLS) else SYMBOLS[1 : top + 1]
    return replace(
        s,
        inputs=table[s.inputs] if shift else s.inputs,
        labels=table[s.labels] if shift else s.labels,
        vocab=top + shift + 1,
        reading=Reading("", shape, len(s), because, symbols),
        **columns,
    )


def _as_known(
    s: PuzzleSet, stated: tuple[int, ...] | None, answered: bool, columns: dict[str, Any], task: Task
) -> PuzzleSet:
    """Foreign values as tokens of a known task: the values are symbols or tokens, whichever fits the task's rules."""
    rows, columns_ = task.shape
    if stated not in (None, task.shape) or s.inputs.shape[1] != rows * columns_:
        one, other = ("x".join(map(str, shape)) for shape in (s.shape, task.shape))
        raise InputError(f"{s.source} holds boards of {one} where the task {task.name} has {other}; give such boards.")
    values = np.unique(np.concatenate([np.unique(s.inputs), np.unique(s.labels)]))
    readings = [(table, told) for table, told in _tables(task, values) if (table[values] < task.vocab).all()]
    if not readings:
        told = printable(", ".join(map(str, values)), 60)
        raise InputError(
            f"{s.source} holds the values {told}, which are neither symbols nor tokens of the task {task.name} "
            f"({printable(repr(task.charset), 60)}); correct them."
        )
    first = s.take(slice(ROWS_INSPECTED))

    def fit(reading: tuple[np.ndarray, str]) -> int:
        asked, solved = reading[0][first.inputs], reading[0][first.labels]
        if answered and task.verifies:
            return int((task.valid_batch(asked, solved) | (solved == 0).any(1)).sum())
        return sum(bool(task.domain(question).any(1).all()) for question in asked)

    table, told = readings[0] if len(readings) == 1 else max(readings, key=fit)
    if len(readings) > 1:
        told += ", which is assumed" if fit(readings[0]) == fit(readings[1]) else ", which fits its rules"
    same = bool((table[values] == values).all())  # then a mapped file need not be copied
    asked, solved = (s.inputs, s.labels) if same else (table[s.inputs], table[s.labels])
    return PuzzleSet(
        asked,
        solved if answered else np.zeros_like(asked),
        vocab=task.vocab,
        shape=task.shape,
        source=s.source,
        reading=Reading(task.name, task.shape, len(s), told),
        **columns,
    )


def _tables(task: Task, values: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """(token of each value, or 255; what that means): as files are read without a task where that settles it."""
    if task.vocab > 256:
        return [(np.arange(task.vocab, dtype=np.int32), "its values are tokens")]
    tokens = np.arange(256).astype(np.uint8)
    moved = np.minimum(np.arange(256) + 1, 255).astype(np.uint8)
    symbols = np.full(256, 255, np.uint8)
    for token, symbol in enumerate(task.charset[:254], 1):
        if symbol in SYMBOLS:
            symbols[SYMBOLS.index(symbol)] = token
    if task.blank and symbols[0] == 255:
        symbols[0] = task.blank
    if task.charset == SYMBOLS[1 : task.vocab]:  # a grid of values from 1 on, in which 0 never meant anything
        return [(symbols, "its values are the task's symbols")]
    low, top = int(values.min()), int(values.max())
    if low == 0 and top + 1 < task.vocab and (symbols[values] == 255).any():
        return [(moved, "value v is token v + 1")]
    if low > 0 and top == task.vocab - 1:
        return [(tokens, "its values are tokens")]
    if low == 0 and isinstance(task, Grid):
        tokens[0] = 255  # where nothing is padding, a 0 is a symbol or a fault
    return [
        (symbols, "its values are the task's symbols"),
        (tokens, "its values are tokens"),
        (moved, "value v is token v + 1"),
    ]
