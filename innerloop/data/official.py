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

from innerloop.data.arrays import load_npy, save_npy
from innerloop.data.formats import read_text
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.files import parse_json, write_text
from innerloop.text import printable

__all__ = ["is_official", "official_epoch", "official_folder", "read_official", "write_official"]

COUNT_FIELD = "num_puzzle_identifiers"
SPLITS = ("train", "test")
REQUIRED_FIELDS = ("vocab_size", "seq_len", "sets")
NOTES_FILE = "innerloop.json"  # ours: task, options and shape, which the official metadata cannot say


def is_official(path: Path) -> bool:
    """Does this folder hold an official data set, itself or in train/ or test/?"""
    return any((path / part / "dataset.json").is_file() for part in ("", "train", "test"))


def official_folder(path: Path, split: str | None = None) -> Path:
    """The folder with dataset.json: `path` itself, or its split (train first, where none is asked for)."""
    if (path / "dataset.json").is_file():
        return path
    for name in [split] if split else SPLITS:
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
    about = _about(folder / "dataset.json")
    if len(about["sets"]) != 1:
        raise InputError(f"{folder} holds the sets {about['sets']}; one set a folder can be read: split the folder.")
    if about.get("pad_id", 0) != 0:
        raise InputError(
            f"{folder / 'dataset.json'}: pad_id is {about['pad_id']}; only 0 is known: write the folder again."
        )
    name = about["sets"][0]
    inputs, labels, ids, puzzle_at, group_at = (
        load_npy(folder / f"{name}__{part}.npy")
        for part in ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
    )
    _agree(folder, name, about, inputs, labels, ids, puzzle_at, group_at)
    about.setdefault("total_puzzles", len(puzzle_at) - 1)
    sizes = np.diff(puzzle_at)
    puzzle_group = np.repeat(np.arange(len(group_at) - 1), np.diff(group_at))
    notes_at = folder.parent / NOTES_FILE
    notes = _notes(notes_at, about) if notes_at.is_file() else {}
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
        rating=load_npy(rating_at)[:limit] if rating_at.is_file() else np.zeros(0, np.float32),
        task=notes.get("task", "grid"),
        source=str(folder),
        identifiers=_identifiers(folder, ids, about),
    )
    return s, about, notes


def _about(path: Path) -> dict[str, Any]:
    """dataset.json, with what is read of it of the right kind."""
    about = _json(path)
    missing = [k for k in REQUIRED_FIELDS if not isinstance(about, dict) or k not in about]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; write the folder again.")
    counts = all(type(about[k]) is int and about[k] >= 1 for k in ("vocab_size", "seq_len"))
    names = isinstance(about["sets"], list) and all(isinstance(n, str) and "/" not in n for n in about["sets"])
    if not (counts and names):
        raise InputError(
            f"{path}: vocab_size and seq_len must be whole numbers from 1, and sets a list of names; write the folder "
            "again."
        )
    return dict(about)


def _notes(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """innerloop.json: task, options and shape."""
    notes = _json(path)
    fits = isinstance(notes, dict) and isinstance(notes.get("task", "grid"), str)
    fits = fits and isinstance(notes.get("options"), dict | None)
    shape = notes.get("shape", [1, about["seq_len"]]) if fits else []
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape)
    if not (whole and shape[0] * shape[1] == about["seq_len"]):
        raise InputError(
            f"{path} does not say the task, its options and the shape of {about['seq_len']} cells; write the folder "
            "again."
        )
    return dict(notes)


def write_official(
    path: Path | str,
    s: PuzzleSet,
    split: str = "train",
    options: dict[str, Any] | None = None,
    test_puzzles: dict[str, Any] | None = None,
) -> Path:
    """Write DIR/split and return it; rows are ordered by group, then puzzle. dataset.json, written last, ends it.

    A split that is there already must be of the same task, options and size, since train and test share one
    description; the list of identifiers may grow. InputError says what differs.

    A row with identifier 0 is a puzzle of its own; neighbours with one identifier and group are examples of one puzzle.
    test_puzzles: the ARC map of id -> {"train", "test"}, written as DIR/test_puzzles.json.
    """
    root, folder = Path(path), Path(path) / split
    _fits(root, split, s, options)
    order = np.lexsort((s.puzzle, s.group))
    puzzle, group = s.puzzle[order], s.group[order]
    new_group = np.r_[True, group[1:] != group[:-1]]
    puzzle_at = np.flatnonzero(new_group | np.r_[True, puzzle[1:] != puzzle[:-1]] | (puzzle == 0))
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
    (folder / "dataset.json").unlink(missing_ok=True)
    for part, array in arrays.items():
        save_npy(folder / f"all__{part}.npy", array)
    if "ratings" not in arrays:
        (folder / "all__ratings.npy").unlink(missing_ok=True)
    _write_json(root / "identifiers.json", names)
    _write_json(root / NOTES_FILE, {"task": s.task, "options": options, "shape": list(s.shape)})
    if test_puzzles is not None:
        _write_json(root / "test_puzzles.json", test_puzzles)
    about = {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": int(s.vocab),
        "seq_len": int(s.inputs.shape[1]),
        COUNT_FIELD: len(names),
        "total_groups": len(group_at) - 1,
        "mean_puzzle_examples": len(s) / len(puzzle_at),
        "total_puzzles": len(puzzle_at),
        "sets": ["all"],
    }
    _write_json(folder / "dataset.json", about)
    for other in SPLITS:  # a split that is there counts the names of the one list, too
        if _has_split(root, other):
            _write_json(
                root / other / "dataset.json", _about(root / other / "dataset.json") | {COUNT_FIELD: len(names)}
            )
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
    for part, array in (("puzzle_identifiers", ids), ("puzzle_indices", puzzle_at), ("group_indices", group_at)):
        if array.dtype.kind not in "iu":
            raise InputError(f"{folder}/{name}__{part}.npy holds {array.dtype}, not whole numbers; write it again.")
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


def _fits(root: Path, split: str, s: PuzzleSet, options: dict[str, Any] | None) -> None:
    """InputError where another data set is in the folder: what train and test share would then change its meaning."""
    there = [name for name in SPLITS if _has_split(root, name)]
    if root.is_file() or (root / split).is_file():
        raise InputError(f"{root if root.is_file() else root / split} is a file; give a folder for the puzzles.")
    if not there:
        return
    if not (root / NOTES_FILE).is_file():
        raise InputError(
            f"{root} was written by another program, and does not say which symbol a token is; give a new folder, or "
            "delete that one."
        )
    notes, about = _json(root / NOTES_FILE), _json(root / there[0] / "dataset.json")
    ours = {"task": s.task, "options": json.loads(json.dumps(options)), "shape": list(s.shape)}
    ours |= {"vocab_size": int(s.vocab), "seq_len": int(s.inputs.shape[1])}
    theirs = {k: notes.get(k) for k in ("task", "options", "shape")}
    theirs |= {k: about.get(k) for k in ("vocab_size", "seq_len")}
    if differ := next((k for k in ours if ours[k] != theirs[k]), ""):
        raise InputError(
            f"{root} holds another data set: its {differ} is {printable(json.dumps(theirs[differ]), 80)}, here it is "
            f"{printable(json.dumps(ours[differ]), 80)}; give a new folder, or delete that one."
        )


def _identifiers(folder: Path, ids: np.ndarray, about: dict[str, Any]) -> tuple[str, ...]:
    """Names of the identifiers; numbered ones where the folder brings no list, as bare splits do.

    InputError where an identifier is beyond what is named, or beyond the number of puzzles where nothing is.
    """
    top, most = int(ids.max(initial=0)), _puzzles(folder.parent, len(ids))
    path = folder.parent / "identifiers.json"
    if path.is_file():
        names = _json(path)
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise InputError(f"{path} is no list of names; write the folder again.")
    else:
        names = ["<blank>", *(f"puzzle {i}" for i in range(1, min(top, most) + 1))]
    if top >= len(names):
        raise InputError(
            f"{folder} has the puzzle identifier {top:,}, but {path.name} names only {len(names):,}; every identifier "
            "has a row in a table, so number the puzzles 1, 2, 3..., and name each of them."
            if path.is_file()
            else f"{folder} has the puzzle identifier {top:,} in {most:,} puzzles, and there is no {path.name}; every "
            "identifier has a row in a table, so number the puzzles 1, 2, 3..., or list their names there."
        )
    rows = about.get(COUNT_FIELD, top + 1)
    if type(rows) is not int or not top < rows <= max(len(names), most + 1):
        raise InputError(
            f"{folder / 'dataset.json'}: {COUNT_FIELD} is {rows!r} where {len(names):,} are named and the "
            f"highest used is {top:,}; correct it."
        )
    return tuple(names)


def _puzzles(root: Path, here: int) -> int:
    """How many puzzles train and test hold at most, by the size of their tables; at least those of this one."""
    tables = [p for name in SPLITS if _has_split(root, name) for p in (root / name).glob("*__puzzle_identifiers.npy")]
    return max(here, sum(p.stat().st_size // 4 for p in tables))


def _has_split(root: Path, split: str) -> bool:
    return (root / split / "dataset.json").is_file()


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
    return parse_json(read_text(path), str(path))


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value))
