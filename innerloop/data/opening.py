"""open_set: read a puzzle set of any supported format, and infer its task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.data import hub
from innerloop.data.arc_files import load_json, looks_like_arc, read_arc
from innerloop.data.arrays import SYMBOLS, read_arrays
from innerloop.data.formats import read_table, read_texts
from innerloop.data.guess import INFERRED, are_latin_squares
from innerloop.data.notation import BOXES, FEW_ROWS, ROWS_INSPECTED, count_valid
from innerloop.data.official import is_official, read_official
from innerloop.data.sets import PuzzleSet, Reading
from innerloop.data.sheet import Sheet, sheet_of, table_of
from innerloop.data.stated import UNSTATED, Stated
from innerloop.data.table import ReadOptions
from innerloop.data.texts import asked, cells_of, is_text, line_breaks_end_rows, reader_of, set_of_table
from innerloop.errors import InputError
from innerloop.tasks.arc import ARC
from innerloop.tasks.grid import Grid
from innerloop.tasks.maze import Maze
from innerloop.tasks.queens import Queens
from innerloop.tasks.sudoku import Sudoku
from innerloop.tasks.task import Task
from innerloop.text import printable

__all__ = [
    "INFERRED",
    "answers_in",
    "check_labels",
    "fault_of",
    "open_questions",
    "open_set",
    "open_sheet",
    "read_questions",
    "valid_labels",
]

FORMATS = "an official folder, .csv[.gz], .jsonl[.gz], .npy, .npz, ARC .json[.gz] or a folder of them"
WRONG_GUESS_HINT = ", or train with --set data.task=grid if this is another kind of puzzle"
GIVENS_HINT = ", or say --blank none if an answer may change what the question gives"


def open_set(
    path_or_name: str | Path,
    task: Task | str | None = None,
    limit: int | None = None,
    *,
    split: str | None = None,
    allow_duplicates: bool = False,
    stated: Stated = UNSTATED,
) -> tuple[Task, PuzzleSet]:
    """Read a set and the task it belongs to; labels are checked against the task's rules, once, here.

    path_or_name: an official folder (`DIR`, `DIR/train`), .csv[.gz], .jsonl[.gz], .npz or one .npy of a pair, ARC
    .json[.gz] or a folder of them, or a Hugging Face name (`sapientinc/sudoku-extreme`). `split` ("train", "test"; ARC
    also "all") may also end the path; without one it is train. task: a Task or a name, where the guess would be wrong.
    limit: at most so many rows. stated: shape, empty cell and alphabet of a file of text, where its rows do not tell
    them and no Task does. `reading` of the set says what the file was taken for, and why. Raises InputError
    naming file and row.
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
    found, s = _read(path, task, limit, split, allow_duplicates, stated)
    s = _with_reading(s, found, "the task is known" if isinstance(task, Task) else "the file says so")
    if isinstance(found, Grid) and found.examples is None:
        found.examples = s
    hint = GIVENS_HINT if isinstance(found, Grid) else WRONG_GUESS_HINT
    check_labels(found, s, "" if isinstance(task, Task) else hint)
    return found, s


def open_questions(path: str | Path, task: Task, limit: int | None = None) -> PuzzleSet:
    """The questions of a file, read as those of a known task by the rules of `open_set`.

    Answers are not needed and not looked at: labels are 0 where the file is of text or has none. Questions may repeat.
    Beside the formats of `open_set`, a .txt[.gz] holds one question a line. Raises InputError naming file and row.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path.")
    name = path.name.lower()
    if is_text(path):
        s = asked(reader_of(path, task, limit), task, str(path))[1]
    elif name.endswith((".npz", ".npy")):
        s, options = read_arrays(path, task, answers=False)
        _task_of(s, task, s.task, options)
        s = _first(s, limit)
    else:
        s = _read(path, task, limit, None, True)[1]
    return _with_reading(s, task, "the task is known")


def open_sheet(path: Path, task: Task) -> tuple[PuzzleSet, Sheet]:
    """The questions of a file of text, as `open_questions` reads them, and the columns of the file; it is read once."""
    table, s = asked(reader_of(path, task, None, keep=True), task, str(path))
    return _with_reading(s, task, "the task is known"), sheet_of(table)


def answers_in(sheet: Sheet, task: Task, where: str) -> np.ndarray:
    """(N, S) tokens: the answers that the rows of a file hold, checked as `open_set` checks them.

    Raises InputError naming the first row that has none, or a wrong one.
    """
    how = ReadOptions(True, True, line_breaks_end_rows(task), cells_of(task))
    s = set_of_table(table_of(sheet, Path(where), how), task, where)[1]
    check_labels(task, s)
    return s.labels


def read_questions(texts: Iterable[str], task: Task, where: str = "the text") -> PuzzleSet:
    """Questions given as texts, by the rules of `open_questions`; `where` they are from, for messages."""
    lines, how = list(texts), ReadOptions(False, False, line_breaks_end_rows(task), cells_of(task))
    found = asked(lambda faults: read_texts(lines, where, replace(how, faults=faults)), task, where)[1]
    return replace(found, task=task.name)


def _first(s: PuzzleSet, limit: int | None) -> PuzzleSet:
    """At most `limit` rows; all of them without a copy, since they may be mapped from a file."""
    return s if limit is None or limit >= len(s) else s.take(slice(limit))


def _with_reading(s: PuzzleSet, task: Task, because: str) -> PuzzleSet:
    """The set with the name of its task, and with what its file was taken for where no reader has said it."""
    known = s.reading or Reading(task.name, s.shape, len(s), because)
    return replace(s, task=task.name, reading=known._replace(task=task.name, shape=s.shape, puzzles=len(s)))


def check_labels(task: Task, s: PuzzleSet, advice: str = "") -> None:
    """Raise InputError naming the first row whose label breaks the rules, or of a grid changes a given."""
    for start in range(0, len(s), 65536):
        inputs, labels = (a[start : start + 65536] for a in (s.inputs, s.labels))
        valid = valid_labels(task, inputs, labels)
        if valid.all():
            continue
        row = int(np.argmax(~valid))
        what = fault_of(task, inputs[row], labels[row])
        raise InputError(f"{s.source}, row {start + row + 1}: {what}; correct the row{advice}.")


def valid_labels(task: Task, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool (B,): labels that keep what is known of the rules; a row with ignored cells has no full answer to check."""
    if not task.verifies and not (isinstance(task, Grid) and task.blank):
        return np.ones(len(inputs), bool)
    return task.valid_batch(inputs, labels) | (labels == 0).any(1)


def fault_of(task: Task, question: np.ndarray, answer: np.ndarray) -> str:
    """What is wrong with an answer that `valid_labels` does not take, in a clause."""
    if task.blank and (left := np.flatnonzero(answer == task.blank)).size:
        return f"the answer leaves cell {left[0] + 1} empty"
    given = (question != 0) & (question != task.blank) & (task.blank > 0)
    if (changed := np.flatnonzero(given & (answer != question))).size:
        cell = int(changed[0])
        there, here = (task.spell(tokens[cell : cell + 1]) for tokens in (question, answer))
        return f"the answer changes a given: cell {cell + 1} is {there!r} in the question and {here!r} in the answer"
    return f"the answer breaks the rules of {task.name}"


def _read(
    path: Path,
    task: Task | str | None,
    limit: int | None,
    split: str | None,
    allow_duplicates: bool,
    stated: Stated = UNSTATED,
) -> tuple[Task, PuzzleSet]:
    name = path.name.lower()
    text = is_text(path)
    if stated != UNSTATED and not text:
        raise InputError(f"{path} states shape and symbols itself; leave out shape, blank and alphabet.")
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
        s, options = read_arrays(path, task if isinstance(task, Task) else None)
        named = s.task if options is not None else None
        return _task_of(s, task, named, options), _first(s, limit)
    if text:
        return _text(path, task, limit, allow_duplicates, stated=stated)
    raise InputError(f"{path}: the ending says no known format; give {FORMATS}.")


def _text(
    path: Path,
    task: Task | str | None,
    limit: int | None,
    allow_duplicates: bool = False,
    stated: Stated = UNSTATED,
) -> tuple[Task, PuzzleSet]:
    """A file of text."""
    how = ReadOptions(allow_duplicates, True, line_breaks_end_rows(task), cells_of(task, stated))
    return set_of_table(read_table(path, limit, how), task, str(path), stated)


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
            one, other = ("x".join(map(str, shape)) for shape in (s.shape, task.shape))
            raise InputError(
                f"{s.source} holds boards of {one} with {s.vocab} tokens where the task {task.name} has {other} and "
                f"{task.vocab}; give puzzles of that size."
            )
        return task
    if stated is not None and task in (None, stated) and options is not None:
        from innerloop.tasks import get

        try:
            return get(stated, **options)
        except (InputError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            told = printable(str(error), 200)
            raise InputError(f"{s.source} states a task that cannot be made: {told}") from None
    side = s.shape[0] if s.shape[0] == s.shape[1] else 0
    fits: list[Task] = []
    # A raw table of Sudokus without all digits in its first row still needs its full vocabulary: compare with <=.
    if side in BOXES and s.vocab == side + 2:
        digits = np.asarray(s.labels[:ROWS_INSPECTED], np.int64).reshape(-1, side, side) - 1
        found = count_valid(digits)
        if task == "sudoku" or not are_latin_squares(found.kept, found.latin):
            fits.append(Sudoku(side, found.box if found.kept else None))
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
                f"{s.source}: boards of {s.shape[0]}x{s.shape[1]} with {s.vocab} tokens are no {task}; name no task or "
                "another."
            )
    first = s.take(slice(50))
    kept = [int((t.valid_batch(first.inputs, first.labels) | (first.labels == 0).any(1)).sum()) for t in fits]
    # Size and number of symbols alone make no maze: where no row keeps the rules, it is another puzzle.
    if task == "grid" or not fits or (task is None and len(first) >= FEW_ROWS and max(kept) == 0):
        symbols = s.reading.symbols if s.reading else ""
        return Grid(symbols or SYMBOLS[: s.vocab - 1], s.shape)
    return fits[int(np.argmax(kept))]
