"""Open a puzzle set whatever its format, and find out which task it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks import hub
from innerloop.tasks.arc import ARC
from innerloop.tasks.arc_files import load_json, looks_like_arc, read_arc
from innerloop.tasks.arrays import read_arrays
from innerloop.tasks.files import Table, read_csv, read_jsonl
from innerloop.tasks.grid import Grid
from innerloop.tasks.maze import Maze
from innerloop.tasks.official import is_official, read_official
from innerloop.tasks.queens import Queens
from innerloop.tasks.sets import PuzzleSet
from innerloop.tasks.sudoku import BOXES, Sudoku
from innerloop.tasks.task import Task

__all__ = ["INFERRED", "check_labels", "infer", "open_set"]

INFERRED = ("sudoku", "maze", "queens", "arc", "grid")  # the tasks whose size and alphabet the rows of a file tell

SYMBOLS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + "".join(map(chr, range(0xC0, 0x180)))
FORMATS = "an official folder, .csv[.gz], .jsonl[.gz], .npy, .npz, ARC .json[.gz] or a folder of them"
Get = Callable[..., Task]


def open_set(
    path_or_name: str | Path,
    task: Task | str | None = None,
    limit: int | None = None,
    *,
    split: str | None = None,
    allow_duplicates: bool = False,
) -> tuple[Task, PuzzleSet]:
    """Read a set and the task it belongs to; labels are checked against the task's rules, once, here.

    path_or_name: an official folder (`DIR`, `DIR/train`), .csv[.gz], .jsonl[.gz], .npz or one .npy of a pair, ARC
    .json[.gz] or a folder of them, or a Hugging Face name (`sapientinc/sudoku-extreme`). `split` ("train", "test"; ARC
    also "all") may also end the path; without one it is train. task: a Task or a name, where the guess would be wrong.
    limit: at most so many rows. Raises InputError naming file and row.
    """
    path = Path(path_or_name)
    if not path.exists() and path.name in ("train", "test", "all") and path.parent.exists():
        path, split = path.parent, path.name
    if not path.exists():
        if not hub.is_hub_name(str(path_or_name)):
            seen = "" if path.is_absolute() else f" (seen from {Path.cwd()})"
            raise InputError(f"there is no file {path}{seen}; check the path, or give a name owner/dataset of a hub.")
        path, split = hub.fetch(str(path_or_name), split), None
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} leaves no row; give at least 1.")
    found, s = _read(path, task, limit, split, allow_duplicates)
    s = replace(s, task=found.name)
    if isinstance(found, Grid) and found.examples is None:
        found.examples = s
    check_labels(found, s)
    return found, s


def check_labels(task: Task, s: PuzzleSet) -> None:
    """Raise InputError naming the first row whose label breaks the rules; tasks of unknown rules pass."""
    if not task.verifies:
        return
    for start in range(0, len(s), 65536):
        inputs, labels = (a[start : start + 65536] for a in (s.inputs, s.labels))
        # A row with ignored cells has no full answer to check.
        valid = task.valid_batch(inputs, labels) | (labels == 0).any(1)
        if valid.all():
            continue
        row = start + int(np.argmax(~valid)) + 1
        raise InputError(
            f"{s.source}, row {row}: the answer breaks the rules of {task.name} or changes a given; correct the row, "
            "or pass "
            "task='grid' if this is another kind of puzzle."
        )


def infer(table: Table, task: str | None = None) -> Task:
    """The task of a text table: by name where given, else by row length and alphabet, else a grid.

    A known task is taken when most of the first 200 rows look like it, so that one bad row is reported, not believed.
    """
    size, side = len(table.questions[0]), isqrt(len(table.questions[0]))
    if task is not None and task not in INFERRED:
        raise InputError(f"the rows of a text file cannot be read as task {task!r}; pass a Task made for this file.")
    if task not in ("grid", None) and side * side != size:
        raise InputError(f"rows of {size} cells are no square, so they cannot be {task}; correct the file or the task.")
    if task == "arc":
        return ARC()
    guess = task or (_look(table, side) if side * side == size else "grid")
    if guess == "sudoku":
        return Sudoku(side, table.box)
    if guess == "maze":
        return Maze(side)
    if guess == "queens":
        return Queens(side)
    return Grid.infer(table.questions, table.answers)


def _look(table: Table, side: int) -> str:
    """The known task that most of the first 200 rows of side * side symbols look like, or "grid"."""
    digits = set("123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:side])
    boxed = side in BOXES or table.box is not None
    votes = {"sudoku": 0, "maze": 0, "queens": 0}
    rows = list(zip(table.questions[:200], table.answers[:200], strict=True))
    for question, answer in rows:
        asked, solved = set(question), set(answer)
        votes["sudoku"] += boxed and asked <= digits | set(".0") and solved == digits
        ends = question.count("S") == question.count("G") == 1
        votes["maze"] += side > 2 and ends and asked | solved <= set("# SGo")
        votes["queens"] += side > 3 and asked | solved <= set(".Q") and answer.count("Q") == side
    best = max(votes, key=lambda name: votes[name])
    return best if 2 * votes[best] > len(rows) else "grid"


def _read(
    path: Path, task: Task | str | None, limit: int | None, split: str | None, allow_duplicates: bool
) -> tuple[Task, PuzzleSet]:
    name = path.name.lower()
    if path.is_dir():
        if is_official(path):
            s, _, notes = read_official(path, split, limit)
            return _task_of(s, task, notes.get("task"), notes.get("options")), s
        if any(p.name.endswith((".json", ".json.gz")) for p in path.iterdir()):
            return _arc(path, task, split, limit)
        raise InputError(f"{path} is a folder of neither kind known; give {FORMATS}.")
    if name.endswith((".json", ".json.gz")):
        if not looks_like_arc(load_json(path)):
            raise InputError(f"{path} holds no ARC puzzles; give other puzzles as .jsonl, one object a line.")
        return _arc(path, task, split, limit)
    if split is not None:
        raise InputError(f"{path} has no splits; leave out {split!r}.")
    if name.endswith((".npz", ".npy")):
        s, options = read_arrays(path)
        stated = s.task if options is not None else None
        return _task_of(s, task, stated, options), s.take(slice(limit))
    if name.endswith((".csv", ".csv.gz")):
        table = read_csv(path, limit, allow_duplicates)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        table = read_jsonl(path, limit, allow_duplicates)
    else:
        raise InputError(f"{path}: the ending says no known format; give {FORMATS}.")
    found = task if isinstance(task, Task) else infer(table, task)
    inputs = found.encode_many(table.questions, str(path), "question")
    labels = found.encode_many(table.answers, str(path), "answer")
    return found, found.as_set(inputs, labels, rating=table.ratings, source=str(path))


def _arc(path: Path, task: Task | str | None, split: str | None, limit: int | None) -> tuple[Task, PuzzleSet]:
    if (isinstance(task, Task) and not isinstance(task, ARC)) or (isinstance(task, str) and task != "arc"):
        raise InputError(f"{path} holds ARC puzzles, which the task asked for cannot read; leave out `task`.")
    return task if isinstance(task, ARC) else ARC(), read_arc(path, split or "train", limit)


def _task_of(s: PuzzleSet, task: Task | str | None, stated: str | None, options: dict[str, Any] | None) -> Task:
    """The task of a token table: given, stated by the file, or the known one of this size and vocabulary that fits
    best.
    """
    if isinstance(task, Task):
        if task.vocab != s.vocab or task.shape != s.shape:
            raise InputError(
                f"{s.source} has a {s.shape} grid and {s.vocab} tokens, the task {task.name} {task.shape} and "
                f"{task.vocab}; "
                "pass a task of the same size, or none."
            )
        return task
    if stated is not None and task in (None, stated) and options is not None:
        from innerloop.tasks import get

        return get(stated, **options)
    side = s.shape[0] if s.shape[0] == s.shape[1] else 0
    fits: list[Task] = []
    # A raw table of Sudokus without all digits in its first row still needs its full vocabulary: compare with <=.
    if side in BOXES and s.vocab == side + 2:
        fits.append(Sudoku(side))
    if side > 2 and s.vocab == 6:
        fits.append(Maze(side))
    if side > 3 and s.vocab == 3:
        fits.append(Queens(side))
    if s.shape == (30, 30) and s.vocab == 12:
        fits.append(ARC())
    if task not in (None, "grid"):
        fits = [t for t in fits if t.name == task]
        if not fits:
            raise InputError(
                f"{s.source}: a {s.shape} grid of {s.vocab} tokens is no {task}; leave out `task` or name another."
            )
    if task == "grid" or not fits:
        return Grid(SYMBOLS[: s.vocab - 1], s.shape)
    first = s.take(slice(50))
    return max(fits, key=lambda t: int(t.valid_batch(first.inputs, first.labels).sum()))
