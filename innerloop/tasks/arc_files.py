"""ARC puzzles from JSON (one file a puzzle, or one file of id -> {train, test}), and their augmented sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks import files
from innerloop.tasks.arc import ARC, SIDE, crop, frame, turned, variant
from innerloop.tasks.sets import PuzzleSet

__all__ = ["expand", "looks_like_arc", "read_arc"]


def looks_like_arc(data: Any) -> bool:
    """Is this parsed JSON one ARC puzzle, or a map of them?"""
    if isinstance(data, dict) and "train" not in data and data:
        data = next(iter(data.values()))
    return isinstance(data, dict) and isinstance(data.get("train"), list)


def read_arc(path: Path | str, split: str = "train", limit: int | None = None) -> PuzzleSet:
    """All pairs of `split` of all puzzles: "train" (demonstrations), "test", or "all". One identifier and group a
    puzzle.

    path: .json or .json.gz, or a folder of them (one puzzle a file, named by its id). limit: at most so many pairs.
    Test inputs without an output (hidden answers) are left out. Raises InputError naming the puzzle.
    """
    if split not in ("train", "test", "all"):
        raise InputError(f"{path}: ARC has no split {split!r}; choose 'train', 'test' or 'all'.")
    names, groups, inputs, labels = ["<blank>"], [], [], []
    for name, puzzle in _puzzles(Path(path)).items():
        if not isinstance(puzzle, dict) or not isinstance(puzzle.get("train"), list):
            raise InputError(
                f"{path}, puzzle {name}: there is no list 'train'; give {{'train': [...], 'test': [...]}}."
            )
        names.append(name)
        pairs = [p for part in ("train", "test") if split in (part, "all") for p in puzzle.get(part, [])]
        for number, pair in enumerate(pairs, 1):
            if not isinstance(pair, dict) or "input" not in pair or ("output" not in pair and split == "train"):
                raise InputError(
                    f"{path}, puzzle {name}, pair {number}: 'input' or 'output' is missing; give both grids."
                )
            if "output" not in pair:
                continue
            where = f"{path}, puzzle {name}, pair {number}"
            inputs.append(frame(_grid(pair["input"], where)))
            labels.append(frame(_grid(pair["output"], where)))
            groups.append(len(names) - 1)
        if limit is not None and len(inputs) >= limit:
            break
    if not inputs:
        raise InputError(f"{path} holds no ARC pair with an output in split {split!r}; choose another split or file.")
    group = np.array(groups[:limit], np.int32)
    return ARC().as_set(
        np.stack(inputs[:limit]),
        np.stack(labels[:limit]),
        puzzle=group,
        group=group - 1,
        source=f"{path} ({split} pairs)",
        identifiers=tuple(names),
    )


def expand(s: PuzzleSet, count: int, seed: int, tries: int = 5) -> PuzzleSet:
    """Every puzzle of an ARC set plus up to `count` different variants: turned, colours 1..9 permuted (0 is fixed).

    Each variant is a puzzle with its own identifier, named so that `restore` can undo it, in the group of its original.
    Equal variants are drawn again, at most tries * count draws a puzzle.
    """
    rng = np.random.default_rng(seed)
    names = list(s.identifiers)
    inputs, labels, puzzle, group = [s.inputs], [s.labels], [s.puzzle], [s.group]
    for identifier in np.unique(s.puzzle):
        rows = np.flatnonzero(s.puzzle == identifier)
        pairs = [(crop(s.inputs[r]), crop(s.labels[r])) for r in rows]
        seen = {b"".join(_bytes(g) for pair in pairs for g in pair)}
        for _ in range(tries * count):
            if len(seen) > count:
                break
            k, colours = int(rng.integers(8)), np.concatenate([[0], rng.permutation(9) + 1]).astype(np.uint8)
            images = [tuple(turned(colours[g], k) for g in pair) for pair in pairs]
            key = b"".join(_bytes(g) for pair in images for g in pair)
            if key in seen:
                continue
            seen.add(key)
            names.append(variant(s.identifiers[identifier], k, colours))
            inputs.append(np.stack([frame(a) for a, _ in images]))
            labels.append(np.stack([frame(b) for _, b in images]))
            puzzle.append(np.full(len(rows), len(names) - 1, np.int32))
            group.append(s.group[rows])
    return replace(
        s,
        inputs=np.concatenate(inputs),
        labels=np.concatenate(labels),
        puzzle=np.concatenate(puzzle),
        group=np.concatenate(group),
        rating=np.zeros(0, np.float32),
        source=f"{s.source}, up to {count} variants a puzzle (seed {seed})",
        identifiers=tuple(names),
    )


def _bytes(grid: np.ndarray) -> bytes:
    return bytes(grid.shape) + grid.tobytes()


def _puzzles(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        data = load_json(path)
        if not looks_like_arc(data):
            raise InputError(
                f"{path} holds no ARC puzzle; give {{'train': [...], 'test': [...]}} or a map of id to such."
            )
        return {path.name.split(".")[0]: data} if "train" in data else data
    found = sorted(p for p in path.iterdir() if p.name.endswith((".json", ".json.gz")))
    if not found:
        raise InputError(f"{path} holds no .json file; give a folder of ARC puzzles, one a file.")
    puzzles: dict[str, Any] = {}
    for file in found:
        data = load_json(file)
        puzzles |= {file.name.split(".")[0]: data} if isinstance(data, dict) and "train" in data else data
    return puzzles


def load_json(path: Path) -> Any:
    """Parsed JSON of a .json or .json.gz file; InputError with the line where it breaks."""
    try:
        return json.loads(files.read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); repair the file.") from None


def _grid(rows: Any, where: str) -> np.ndarray:
    if not isinstance(rows, list) or not rows or not all(isinstance(r, list) and len(r) == len(rows[0]) for r in rows):
        raise InputError(f"{where}: a grid is not a list of rows of equal length; correct it.")
    if len(rows) > SIDE or not 1 <= len(rows[0]) <= SIDE:
        raise InputError(f"{where}: a grid of {len(rows)}x{len(rows[0])} is outside 1x1..30x30; leave this puzzle out.")
    if not all(isinstance(v, int) and 0 <= v <= 9 for r in rows for v in r):
        raise InputError(f"{where}: a grid holds a value that is no colour 0..9; correct it.")
    return np.array(rows, np.uint8)
