"""The dataset folders of HRM, TRM and their family: read as they are, and written so that both can read them.

DIR/identifiers.json lists the puzzle names, index 0 "<blank>". DIR/{train,test}/ holds dataset.json and all__inputs,
all__labels uint8 (N, S), all__puzzle_identifiers int32 (P,), all__puzzle_indices int32 (P+1,) and all__group_indices
int32 (G+1,): puzzle p owns the examples puzzle_indices[p]..[p+1], group g the puzzles group_indices[g]..[g+1]; a group
is an original with its augmentations. HRM's folders lack `total_puzzles`, which TRM demands: reading defaults it,
writing states it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.errors import InputError
from innerloop.files import write_text
from innerloop.tasks.arrays import load, save
from innerloop.tasks.files import read_text
from innerloop.tasks.sets import PuzzleSet

__all__ = ["is_official", "official_epoch", "official_folder", "read_official", "write_official"]

NEEDED = ("vocab_size", "seq_len", "sets")
ABOUT = "innerloop.json"  # ours: task, options and shape, which the official metadata cannot say


def is_official(path: Path) -> bool:
    """Does this folder hold an official data set, itself or in train/ or test/?"""
    return any((path / part / "dataset.json").is_file() for part in ("", "train", "test"))


def official_folder(path: Path, split: str | None = None) -> Path:
    """The folder with dataset.json: `path` itself, or its split (train first, where none is asked for)."""
    if (path / "dataset.json").is_file():
        return path
    for name in [split] if split else ["train", "test"]:
        if (path / name / "dataset.json").is_file():
            return path / name
    raise InputError(
        f"{path} holds no {split or 'train or test'}/dataset.json; give an official folder or another split."
    )


def read_official(
    path: Path | str, split: str | None = None, limit: int | None = None
) -> tuple[PuzzleSet, dict[str, Any], dict[str, Any]]:
    """(set, metadata with total_puzzles, notes). notes: task, options and shape where this library wrote the folder, or
    {}.

    Example rows get their puzzle's identifier and their group's number. Raises InputError naming the file that
    disagrees.
    """
    folder = official_folder(Path(path), split)
    about = _json(folder / "dataset.json")
    missing = [k for k in NEEDED if k not in about]
    if missing:
        raise InputError(f"{folder / 'dataset.json'} lacks {', '.join(missing)}; write the folder again.")
    if len(about["sets"]) != 1:
        raise InputError(f"{folder} holds the sets {about['sets']}; one set a folder can be read: split the folder.")
    if about.get("pad_id", 0) != 0:
        raise InputError(
            f"{folder / 'dataset.json'}: pad_id is {about['pad_id']}; only 0 is known: write the folder again."
        )
    name = about["sets"][0]
    inputs, labels, ids, puzzle_at, group_at = (
        load(folder / f"{name}__{part}.npy")
        for part in ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
    )
    _agree(folder, name, about, inputs, labels, ids, puzzle_at, group_at)
    about.setdefault("total_puzzles", len(puzzle_at) - 1)
    sizes = np.diff(puzzle_at)
    puzzle_group = np.repeat(np.arange(len(group_at) - 1), np.diff(group_at))
    notes_at = folder.parent / ABOUT
    notes = _json(notes_at) if notes_at.is_file() else {}
    rating_at = folder / f"{name}__ratings.npy"
    ignored = about.get("ignore_label_id")
    if ignored not in (0, None):
        labels = np.where(labels == ignored, 0, labels)
    side = round(about["seq_len"] ** 0.5)
    square = (side, side) if side * side == about["seq_len"] else (1, about["seq_len"])
    s = PuzzleSet(
        inputs[:limit],
        labels[:limit],
        vocab=about["vocab_size"],
        shape=tuple(notes.get("shape", square)),
        puzzle=np.repeat(ids, sizes)[:limit].astype(np.int32),
        group=np.repeat(puzzle_group, sizes)[:limit].astype(np.int32),
        rating=load(rating_at)[:limit] if rating_at.is_file() else np.zeros(0, np.float32),
        task=notes.get("task", "grid"),
        source=str(folder),
        identifiers=_identifiers(folder, int(ids.max(initial=0))),
    )
    return s, about, notes


def write_official(
    path: Path | str,
    s: PuzzleSet,
    split: str = "train",
    options: dict[str, Any] | None = None,
    test_puzzles: dict[str, Any] | None = None,
) -> Path:
    """Write DIR/split and return it; rows are ordered by group, then puzzle. dataset.json comes last: it marks
    completeness.

    A row with identifier 0 is a puzzle of its own; neighbours with one identifier and group are examples of one puzzle.
    test_puzzles: the ARC map of id -> {"train", "test"}, written as DIR/test_puzzles.json.
    """
    root, folder = Path(path), Path(path) / split
    order = np.lexsort((s.puzzle, s.group))
    puzzle, group = s.puzzle[order], s.group[order]
    new_group = np.r_[True, group[1:] != group[:-1]]
    new_puzzle = new_group | np.r_[True, puzzle[1:] != puzzle[:-1]] | (puzzle == 0)
    puzzle_at = np.flatnonzero(new_puzzle)
    group_at = np.r_[np.flatnonzero(new_group[puzzle_at]), len(puzzle_at)]
    names = _merged(root / "identifiers.json", list(s.identifiers))
    arrays = {
        "inputs": s.inputs[order],
        "labels": s.labels[order],
        "puzzle_identifiers": puzzle[puzzle_at].astype(np.int32),
        "puzzle_indices": np.r_[puzzle_at, len(s)].astype(np.int32),
        "group_indices": group_at.astype(np.int32),
    }
    if not np.isnan(s.rating).all():
        arrays["ratings"] = s.rating[order]
    for part, array in arrays.items():
        save(folder / f"all__{part}.npy", array)
    if "ratings" not in arrays:
        (folder / "all__ratings.npy").unlink(missing_ok=True)
    _write_json(root / "identifiers.json", names)
    _write_json(root / ABOUT, {"task": s.task, "options": options, "shape": list(s.shape)})
    if test_puzzles is not None:
        _write_json(root / "test_puzzles.json", test_puzzles)
    about = {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": int(s.vocab),
        "seq_len": int(s.inputs.shape[1]),
        "num_puzzle_identifiers": len(names),
        "total_groups": len(group_at) - 1,
        "mean_puzzle_examples": len(s) / len(puzzle_at),
        "total_puzzles": len(puzzle_at),
        "sets": ["all"],
    }
    _write_json(folder / "dataset.json", about)
    return folder


def official_epoch(
    group_indices: np.ndarray, puzzle_indices: np.ndarray, batch: int, rng: np.random.Generator, epochs: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The official training sampler: yields (example rows, puzzle of each row), int64 (batch,) each.

    An epoch is one pass over *groups*: groups are permuted, one random puzzle of each is drawn, and its examples, in
    random order, fill the batch; a puzzle that does not fit is cut, and the last batch, if not full, is dropped.
    Several epochs in one call are permuted one by one and share batches. Officially rng is Philox(seed + call number)
    and the examples inside a puzzle come from numpy's unseeded global state; here all comes from `rng`, so a seed fixes
    the whole run.
    """
    order = np.concatenate([rng.permutation(len(group_indices) - 1) for _ in range(epochs)])
    rows: list[np.ndarray] = []
    puzzles: list[np.ndarray] = []
    room = batch
    for group in order:
        puzzle = int(rng.integers(group_indices[group], group_indices[group + 1]))
        start, size = int(puzzle_indices[puzzle]), int(puzzle_indices[puzzle + 1] - puzzle_indices[puzzle])
        take = min(size, room)
        rows.append(start + rng.permutation(size)[:take])
        puzzles.append(np.full(take, puzzle))
        room -= take
        if room == 0:
            yield np.concatenate(rows), np.concatenate(puzzles)
            rows, puzzles, room = [], [], batch


def _agree(
    folder: Path,
    name: str,
    about: dict[str, Any],
    inputs: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    puzzle_at: np.ndarray,
    group_at: np.ndarray,
) -> None:
    """InputError where the arrays of a folder contradict each other."""
    if inputs.ndim != 2 or inputs.shape != labels.shape or inputs.shape[1] != about["seq_len"]:
        raise InputError(
            f"{folder}: inputs {inputs.shape}, labels {labels.shape} and seq_len {about['seq_len']} disagree; "
            "write the folder again."
        )
    for what, at, end in (("puzzle", puzzle_at, len(inputs)), ("group", group_at, len(puzzle_at) - 1)):
        good = at.ndim == 1 and len(at) > 1 and at[0] == 0 and at[-1] == end and bool((np.diff(at) > 0).all())
        if not good:
            raise InputError(
                f"{folder}/{name}__{what}_indices.npy does not rise from 0 to {end}; write the folder again."
            )
    if ids.shape != (len(puzzle_at) - 1,):
        raise InputError(
            f"{folder}/{name}__puzzle_identifiers.npy has shape {ids.shape} for {len(puzzle_at) - 1} puzzles; "
            "write the folder again."
        )


def _identifiers(folder: Path, top: int) -> tuple[str, ...]:
    """Names of the identifiers; numbered ones where the folder brings no list, as bare splits do."""
    path = folder.parent / "identifiers.json"
    names = _json(path) if path.is_file() else ["<blank>", *(f"puzzle {i}" for i in range(1, top + 1))]
    return tuple(str(n) for n in names)


def _merged(path: Path, names: list[str]) -> list[str]:
    """train and test share one identifier list: the longer of two that agree."""
    old = _json(path) if path.is_file() else []
    common = min(len(old), len(names))
    if old[:common] != names[:common]:
        raise InputError(
            f"{path} lists other puzzles than this set; write train and test with one list of identifiers."
        )
    return max(old, names, key=len)


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); write the folder again."
        ) from None


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value))
