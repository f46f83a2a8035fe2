"""ARC puzzles from JSON (one file a puzzle, or one file of id -> {train, test}), and their augmented sets.

Kaggle's pair X_challenges.json and X_solutions.json is one set: the outputs of its test inputs come from the second.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.data import formats
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.files import parse_json
from innerloop.tasks.arc import ARC, SIDE, crop, dihedral_image, frame, variant_name
from innerloop.text import printable

__all__ = ["augmented", "has_tests", "is_arc", "looks_like_arc", "read_arc"]


ENDINGS = (".json.gz", ".json")
CHALLENGES, SOLUTIONS = "_challenges", "_solutions"


def looks_like_arc(data: Any) -> bool:
    """Is this parsed JSON one ARC puzzle, a map of them, or the solutions of such?"""
    return json_kind(data) in ("puzzle", "puzzles", "solutions")


def json_kind(data: Any) -> str:
    """What parsed JSON is, from its first entry: "puzzle", "puzzles" (by id), "solutions", "submission", or ""."""
    if not isinstance(data, dict) or not data:
        return ""
    if isinstance(data.get("train"), list):
        return "puzzle"
    first = next(iter(data.values()))
    if isinstance(first, dict) and isinstance(first.get("train"), list):
        return "puzzles"
    inner = first[0] if isinstance(first, list) and first else None
    if isinstance(inner, dict) and "attempt_1" in inner:
        return "submission"
    return "solutions" if isinstance(inner, list) and inner and isinstance(inner[0], list) else ""


def is_arc(path: Path) -> bool:
    """Does this path say ARC: a .json file, or a folder with such?"""
    return path.name.endswith(ENDINGS) or (path.is_dir() and any(p.name.endswith(ENDINGS) for p in path.iterdir()))


def has_tests(path: Path) -> bool:
    """Has any puzzle there a test input, be its output hidden or not?"""
    return any(isinstance(p, dict) and p.get("test") for p in _puzzles(path).values())


def read_arc(path: Path | str, split: str = "train", limit: int | None = None, hidden: bool = False) -> PuzzleSet:
    """All pairs of `split` of all puzzles: "train" (demonstrations), "test", or "all". One identifier and group a
    puzzle.

    path: .json or .json.gz, or a folder of them (one puzzle a file, named by its id, or Kaggle's files). limit: at most
    so many pairs. hidden: keep test inputs whose output is not given, with a label of padding, which nothing scores;
    else they are left out. Raises InputError naming the puzzle.
    """
    if split not in ("train", "test", "all"):
        raise InputError(f"{path}: ARC has no split {split!r}; choose 'train', 'test' or 'all'.")
    names, groups, inputs, labels = ["<blank>"], [], [], []
    for name, puzzle in _puzzles(Path(path)).items():
        where = f"{path}, puzzle {printable(name, 80)}"
        if not isinstance(puzzle, dict) or not isinstance(puzzle.get("train"), list):
            raise InputError(f"{where}: there is no list 'train'; give {{'train': [...], 'test': [...]}}.")
        if not isinstance(puzzle.get("test", []), list):
            raise InputError(f"{where}: 'test' is no list of pairs; give {{'train': [...], 'test': [...]}}.")
        names.append(name)
        pairs = [(part, p) for part in ("train", "test") if split in (part, "all") for p in puzzle.get(part, [])]
        for number, (part, pair) in enumerate(pairs, 1):
            known = isinstance(pair, dict) and pair.get("output") is not None
            if not isinstance(pair, dict) or "input" not in pair or (not known and part == "train"):
                raise InputError(f"{where}, pair {number}: 'input' or 'output' is missing; give both grids.")
            if not known and not hidden:
                continue
            inputs.append(frame(_grid(pair["input"], f"{where}, pair {number}")))
            labels.append(
                frame(_grid(pair["output"], f"{where}, pair {number}")) if known else np.zeros_like(inputs[-1])
            )
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


def augmented(s: PuzzleSet, count: int, seed: int, tries: int = 5) -> PuzzleSet:
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
            images = [tuple(dihedral_image(colours[g], k) for g in pair) for pair in pairs]
            key = b"".join(_bytes(g) for pair in images for g in pair)
            if key in seen:
                continue
            seen.add(key)
            names.append(variant_name(s.identifiers[identifier], k, colours))
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
    """Puzzles by id, with the outputs that files of solutions give."""
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.endswith(ENDINGS))
        if not found:
            raise InputError(f"{path} holds no .json file; give a folder of ARC puzzles, one a file.")
    else:
        found = [path, *_solutions_beside(path)]
    puzzles: dict[str, Any] = {}
    solutions: list[tuple[Path, dict[str, Any]]] = []
    owner: dict[str, Path] = {}
    for file in found:
        data = load_json(file)
        kind = json_kind(data)
        if kind == "submission" and path.is_dir():  # Kaggle's sample_submission.json lies beside the puzzles
            continue
        if kind == "solutions" and (path.is_dir() or file != path):
            solutions.append((file, data))
            continue
        if kind not in ("puzzle", "puzzles"):
            advice = (
                "give the challenges, with this file beside them"
                if kind == "solutions"
                else "give {'train': [...], 'test': [...]} or a map of id to such"
            )
            said = "holds solutions, and no ARC puzzle" if kind == "solutions" else "holds no ARC puzzle"
            raise InputError(f"{file} {said}; {advice if file == path else 'move it out of the folder'}.")
        for name, puzzle in ({_stem(file): data} if kind == "puzzle" else data).items():
            if name in puzzles and puzzles[name] != puzzle:
                raise InputError(
                    f"{owner[name]} and {file.name} hold different puzzles called {printable(name, 80)}; rename or "
                    "move one of them."
                )
            puzzles[name], owner[name] = puzzle, owner.get(name, file)
    for file, outputs in solutions:
        for name, grids in outputs.items():
            _solve(puzzles.get(name), grids, f"{file}, puzzle {printable(name, 80)}")
    return puzzles


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(ending) for ending in ENDINGS if path.name.endswith(ending))


def _solutions_beside(path: Path) -> list[Path]:
    """The X_solutions file of an X_challenges file, where there is one."""
    if not path.name.endswith(ENDINGS) or not _stem(path).endswith(CHALLENGES):
        return []
    name = _stem(path).removesuffix(CHALLENGES) + SOLUTIONS
    return [p for p in (path.with_name(name + ending) for ending in ENDINGS) if p.is_file()][:1]


def _solve(puzzle: Any, grids: Any, where: str) -> None:
    """Give the test pairs of a puzzle their outputs."""
    if puzzle is None:
        raise InputError(f"{where}: no file of challenges has this puzzle; put the two files of a pair together.")
    pairs = puzzle.get("test") if isinstance(puzzle, dict) else None
    if not isinstance(pairs, list) or not isinstance(grids, list) or len(grids) != len(pairs):
        raise InputError(f"{where}: there is not one solution for each test input; correct one of the two files.")
    for pair, grid in zip(pairs, grids, strict=True):
        if not isinstance(pair, dict) or pair.get("output", grid) != grid:
            raise InputError(f"{where}: a solution differs from the output that the puzzle gives; correct one of them.")
        pair["output"] = grid


def load_json(path: Path) -> Any:
    """Parsed JSON of a .json or .json.gz file, of bounded depth; InputError says where it breaks."""
    return parse_json(formats.read_text(path), str(path))


def _grid(rows: Any, where: str) -> np.ndarray:
    if not isinstance(rows, list) or not rows or not all(isinstance(r, list) and len(r) == len(rows[0]) for r in rows):
        raise InputError(f"{where}: a grid is not a list of rows of equal length; correct it.")
    if len(rows) > SIDE or not 1 <= len(rows[0]) <= SIDE:
        raise InputError(f"{where}: a grid of {len(rows)}x{len(rows[0])} is outside 1x1..30x30; leave this puzzle out.")
    if not all(type(v) is int and 0 <= v <= 9 for r in rows for v in r):
        raise InputError(f"{where}: a grid holds a value that is no colour 0..9; correct it.")
    return np.array(rows, np.uint8)
