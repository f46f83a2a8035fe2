"""`data`: what a file of puzzles is taken for and why, its faulty rows, repeats and twins; and the file put right."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from innerloop import files, schema
from innerloop.cli.inputs import RulesFile, next_command
from innerloop.data.cells import parted
from innerloop.data.formats import ANSWER_NAMES, QUESTION_NAMES, write_csv
from innerloop.data.found_symmetries import found_symmetries
from innerloop.data.inspect import Inspection, Judge, inspect
from innerloop.data.sheet import ending_of
from innerloop.data.stated import Stated
from innerloop.errors import InputError
from innerloop.recipes.grid import changes_for
from innerloop.schema import Seed, Whole
from innerloop.solve.rules import read_rules, with_rules
from innerloop.tasks.grid import Grid
from innerloop.tasks.task import Task
from innerloop.text import printable

__all__ = ["data"]

SUDOKU_RECIPES = {4: "sudoku4", 6: "sudoku6", 9: "sudoku_easy"}  # by rows
SYMMETRIES = "data.options.symmetries"  # as train takes them
SMALL_MAZE = 15  # rows or columns up to which a maze is learned by the recipe of 11x11 ones

DataFile = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
PICTURES, NAMED = 3, 10  # rows that are drawn, and at most named
OFTEN = 10  # one row in so many with two answers, and the question lacks something
SAMPLE, MOST_WORDS = 200, 40  # rows that are looked at for words, and words that an alphabet may have
WIDEST = 60  # columns of a board that is drawn


def data(
    file: DataFile,
    shape: str = "",
    blank: str = "",
    alphabet: str = "",
    fix: bool = False,
    test: Whole = 0,
    out: str = "",
    set: tuple[str, ...] = (),
    rules: RulesFile = "",
    seed: Seed = 0,
) -> int:
    """Look at a file of puzzles: what it is taken for and why, its first rows, and every row at fault.

    Ends with 0 where the file can be trained on as it stands, and with 2 where rows are at fault or repeat others.

    Example:  innerloop data examples/sudoku4.csv

    Example:  innerloop data examples/sudoku4.csv --fix --out clean

    Example:  innerloop data FILE.csv --shape 4x6 --blank __ --alphabet __,1,2,10

    Example:  innerloop data examples/futoshiki.csv --rules examples/rules/futoshiki.py

    Args:
        file: Puzzles, in any format that train reads.
        shape: Rows and columns of a board, such as 5x7, where the rows do not tell.
        blank: The symbol of an empty cell; none: no cell of a question is given.
        alphabet: What a cell may hold, as .123 or, where cells have several characters, 1,2,10,__.
        fix: Write FILE.train and FILE.test without faults and repeats, twins on one side.
        test: With --fix: about how many rows go to the second; 0: a tenth, at most 500.
        out: With --fix: the folder to write to; by default that of the file.
        set: Symmetries of the puzzle, as train takes them: data.options.symmetries=["turns","names"].
        seed: Of the split.
    """
    if not fix and (out or test):
        raise InputError("--out and --test say how --fix writes: add --fix")
    path = Path(file)
    if not path.exists():
        raise InputError(f"there is no file {files.shown(path)}: check the path")
    targets = fixed_names(path, Path(out) if out else path.parent)
    told, judge = told_symmetries(set), judge_of(rules) if rules else None
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    found = inspect(path, Stated.parse(shape, blank, alphabet), told, judge)
    grid = found.task if isinstance(found.task, Grid) else None
    names = found_symmetries(grid, found.examples) if grid and asks_for_symmetries(found) else ()
    print_inspection(console, found, names)
    given = {"--shape": shape, "--blank": blank, "--alphabet": alphabet}
    words = [f"{name}={value}" for name, value in given.items() if value]  # a value may begin with a dash
    chosen = told or names
    changes = ["--set", f"{SYMMETRIES}={json.dumps(chosen)}"] if chosen else []
    width = changes_for(grid, chosen) if grid else []
    if fix:
        write_fixed(found, targets, test, seed, bool(names))
    elif found.faults or found.repeats:
        more = [*(["--rules", rules] if rules else []), *(changes if told else [])]
        raise InputError(first_fault(found, path, [*words, *more]))
    if found.answered:
        print_next(found, [targets[0] if fix else path, *words], [*changes, *width], told_them=bool(told))
    return 0


def print_next(found: Inspection, file: Sequence[object], changes: Sequence[str], told_them: bool) -> None:
    """The command that trains on the file, and where symmetries show that were not told, the one that takes them."""
    words = (recipe_for(found.task), "--data", *file, "--out", "runs/mine")
    print(f"next: {next_command('train', *words, *(changes if told_them else []))}", file=sys.stderr)
    if changes and not told_them:
        also = "or, if these boards are as good a puzzle"
        print(f"{also}: {next_command('train', *words, *changes)}", file=sys.stderr)


def told_symmetries(changes: Sequence[str]) -> tuple[str, ...]:
    """The symmetries of --set. Raises InputError for another field, which says nothing about a file."""
    told: tuple[str, ...] = ()
    for change in changes:
        field, _, text = change.partition("=")
        if field.strip() != SYMMETRIES:
            raise InputError(
                f'--set is {printable(change, 60)}: of a file only {SYMMETRIES}=["turns"] or such can be told'
            )
        told = schema.parse(tuple[str, ...], text.strip(), SYMMETRIES)
    return told


def judge_of(rules: str) -> Judge:
    """The rules of a person's file, to check answers by; its exact model only where it has no `rule`."""
    rule, constrain = read_rules(rules)
    return Judge(Path(rules).name, lambda task: with_rules(task, rule, None if rule else constrain))


def asks_for_symmetries(found: Inspection) -> bool:
    """Whether symmetries are worth looking for: of a grid with answers, which has none yet."""
    return isinstance(found.task, Grid) and found.answered and not found.task.symmetries


def recipe_for(task: Task) -> str:
    """The recipe that a file of these puzzles is trained with; any puzzle is a grid."""
    if task.name == "maze":
        return "maze11" if max(task.shape) <= SMALL_MAZE else "maze_hard"
    return SUDOKU_RECIPES.get(task.shape[0], "grid") if task.name == "sudoku" else "grid"


# -- what was found ---------------------------------------------------------------------------------------------------


def print_inspection(console: Console, found: Inspection, symmetries: Sequence[str]) -> None:
    """The findings, one line a kind, and the first rows as pictures."""
    s, task = found.examples, found.task
    what = str(s.reading) if found.answered else questions_alone(found)
    console.print(f"{printable(s.source)} is {what}", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    for name, text in findings(found, symmetries):
        table.add_row(Text(name, "dim"), Text(printable(text, 2000)))
    console.print(table)
    for i in range(min(PICTURES, len(s)) if task.shape[1] <= WIDEST else 0):
        console.print(Text(f"\nrow {found.rows[i]}" + (" and its answer" if found.answered else ""), "dim"))
        console.print(pictures(console, found, i))


def pictures(console: Console, found: Inspection, i: int) -> Table:
    """Question and answer side by side, or one below the other in a narrow terminal."""
    s, task = found.examples, found.task
    drawn = [task.terminal(s.inputs[i], s.inputs[i])]
    if found.answered:
        drawn.append(task.terminal(s.inputs[i], s.labels[i]))
    if console.options.ascii_only:
        drawn = [Text(d.plain.translate(str.maketrans("─│┼·█", "-|+.#"))) for d in drawn]
    width = max(max(map(len, d.plain.splitlines())) for d in drawn)
    grid = Table.grid(padding=(0, 6, 0, 0))
    if len(drawn) * (width + 6) <= console.width:
        grid.add_row(*drawn)
    else:
        for d in drawn:
            grid.add_row(d)
    return grid


def questions_alone(found: Inspection) -> str:
    rows, columns = found.task.shape
    blank = found.task.charset[found.task.blank - 1] if found.task.blank else ""
    told = f", empty cells {blank!r}" if blank else ""
    return f"questions alone: {len(found.rows):,} of {rows}x{columns}{told}; solve takes them, training needs answers"


def findings(found: Inspection, symmetries: Sequence[str]) -> list[tuple[str, str]]:
    """(name, what was found) of every kind that there is something to say of."""
    s, task = found.examples, found.task
    lines: list[tuple[str, str]] = []
    if found.sheet is not None:
        lines.append(("columns", ", ".join(columns_of(found))))
    if words := words_of(found):
        lines.append(("words", words))
    if task.blank:
        given = ((s.inputs != 0) & (s.inputs != task.blank)).sum(1)
        low, middle, high = int(given.min()), int(np.median(given)), int(given.max())
        lines.append(("givens", f"{low} to {high} of {s.inputs.shape[1]} cells, {middle} in the middle"))
    known = s.rating[~np.isnan(s.rating)]
    rated = f"{known.min():g} to {known.max():g}, {np.median(known):g} in the middle" if len(known) else "none"
    if found.answered:
        missing = f"; {len(s) - len(known):,} rows have none" if 0 < len(known) < len(s) else ""
        lines.append(("ratings", rated + missing))
    lines.append(("repeats", repeats_of(found)))
    lines.append(("twins", twins_of(found)))
    if found.judged:
        lines.append(("rules", verdict_of(found)))
    if isinstance(task, Grid) and task.symmetries:
        lines.append(("symmetries", f"told: boards {'; or '.join(map(worded, task.symmetries))}"))
    if asks_for_symmetries(found):
        told = "; or ".join(worded(name) for name in symmetries)
        lines.append(("symmetries", f"boards {told} look like rows of this file" if told else "none shows in the rows"))
    for symbol, first in found.rare_symbols():
        lines.append(("rare", f"{symbol!r} stands in {first.what} only, first in row {first.row}: is it meant?"))
    lines += [("at fault", f"row {fault.row}: {fault.what}") for fault in found.faults[:NAMED]]
    if len(found.faults) > NAMED:
        lines.append(("", f"and {len(found.faults) - NAMED:,} more rows"))
    return lines


def words_of(found: Inspection) -> str:
    """What to say where all questions are as many words, each of which may be a cell."""
    if found.sheet is None or (isinstance(found.task, Grid) and found.task.words):
        return ""
    place = next((i for i, name in enumerate(columns_of(found)) if name.endswith("(the question)")), 0)
    texts = [row[place] for row in found.sheet.rows[:SAMPLE] if isinstance(row[place], str)]
    split = [parted(text) for text in texts]
    words = sorted({word for row in split for word in row})
    counts = {len(row) for row in split}
    if len(counts) != 1 or counts == {1} or max(map(len, words)) == 1 or len(words) > MOST_WORDS:
        return ""
    return (
        f"its questions are {counts.pop()} words each, such as {' '.join(split[0][:3])}; if a word is a cell, say "
        f"--alphabet with all that a cell may hold, such as {','.join(words)}"
    )


def columns_of(found: Inspection) -> list[str]:
    """The names of the columns, with what two of them were taken for."""
    assert found.sheet is not None
    plain = [name.strip().lower() for name in found.sheet.header]
    shown = list(found.sheet.header)
    for names, role in ((QUESTION_NAMES, "the question"), (ANSWER_NAMES if found.answered else (), "the answer")):
        name = next((name for name in names if name in plain), None)
        if name is not None:
            shown[plain.index(name)] += f" ({role})"
    return shown


def repeats_of(found: Inspection) -> str:
    pairs = found.repeats
    if not pairs:
        return "none"
    other = [pair for pair in pairs if not pair.same_answer]
    told = f"{len(pairs):,} rows repeat the question of others, first row {pairs[0].row} that of row {pairs[0].earlier}"
    if not other:
        return told
    told += f"; {len(other):,} with another answer, first row {other[0].row}"
    rest = [name for name in columns_of(found) if "(" not in name] if found.sheet else []
    if OFTEN * len(other) > len(found.rows) and rest:
        told += f": is a part of the question in another column ({', '.join(rest)})? Write all of it into one"
    return told


def twins_of(found: Inspection) -> str:
    if found.twins is None:
        return "not looked for in so many rows"
    if not found.twins:
        if found.task.views(1, np.random.default_rng(0)) is not None:
            return "none"
        tell = f"; tell those that are true by --set {SYMMETRIES}=[...]" if isinstance(found.task, Grid) else ""
        return f"none, since no symmetry of this puzzle is known{tell}"
    first = found.twins[0]
    told = f"row {first.row} is row {first.earlier} turned, mirrored or renamed"
    return f"{len(found.twins):,} rows are variants of others, first {told}; --fix keeps them on one side"


def verdict_of(found: Inspection) -> str:
    """How many answers keep the rules of --rules, and how many were not checked."""
    assert found.judged is not None
    name, checked, broken = found.judged
    left = found.total - checked
    rest = f"; {left:,} rows have no answer that could be checked" if left else ""
    if not broken:
        return f"all {checked:,} answers keep those of {name}{rest}"
    first = next(fault.row for fault in found.faults if fault.what.endswith(f"the rules of {name}"))
    return f"{len(broken):,} of {checked:,} answers break those of {name}, first row {first}{rest}"


def worded(symmetry: str) -> str:
    """What a symmetry of a grid does to a board: "mirror <>" is "mirrored with < and > exchanged"."""
    name, _, swaps = symmetry.partition(" ")
    said = {
        "turns": "turned and mirrored", "names": "renamed", "half-turn": "half-turned", "flip": "flipped",
        "mirror": "mirrored", "transpose": "transposed", "anti-transpose": "anti-transposed", "same": "",
    }[name]  # fmt: skip
    exchanged = ", ".join(f"{pair[0]} and {pair[1]}" for pair in swaps.split())
    return " ".join(filter(None, (said, swaps and f"with {exchanged} exchanged")))


def first_fault(found: Inspection, path: Path, words: Sequence[str]) -> str:
    """The sentence that ends a file which cannot be trained on as it stands."""
    bad = len({fault.row for fault in found.faults})
    if bad:
        first, count = f"row {found.faults[0].row}: {found.faults[0].what}", bad - 1
        more = f", and {count:,} more rows are at fault" if count else ""
    else:
        first, more = f"row {found.repeats[0].row}: the question repeats row {found.repeats[0].earlier}", ""
    mend = next_command("data", path, *words, "--fix")
    return f"{files.shown(path)}, {first}{more}; correct them, or leave them out by: {mend}"


# -- the file put right -----------------------------------------------------------------------------------------------


def fixed_names(path: Path, folder: Path) -> tuple[Path, Path]:
    """Where --fix writes: NAME.train.csv and NAME.test.csv, with the ending of the file where it is one of text."""
    name, suffix = path.name, ".csv"
    for ending in (".csv", ".csv.gz", ".jsonl", ".jsonl.gz"):
        if name.lower().endswith(ending):
            name, suffix = name[: -len(ending)], name[-len(ending) :]
    ending_of(f"x{suffix}")
    return folder / f"{name}.train{suffix}", folder / f"{name}.test{suffix}"


def write_fixed(found: Inspection, targets: tuple[Path, Path], test: int, seed: int, untold: bool) -> None:
    """The two files. untold: symmetries show that were not told.

    Raises InputError, before any is written, where one is there with other content.
    """
    if not found.answered:
        raise InputError(f"{found.examples.source} has no answers to learn from: there is nothing to split")
    parts = found.split(test, seed)
    for write in (False, True):
        for path, rows in zip(targets, parts, strict=True):
            put(path, found, rows, write)
    left = found.total - sum(map(len, parts))
    told = f"; {left:,} rows at fault or repeated are left out" if left else ""
    told += "; twins by symmetries that were not told may lie on both sides" if untold else ""
    names = " and ".join(f"{files.shown(p)} ({len(r):,} rows)" for p, r in zip(targets, parts, strict=True))
    print(f"written: {names}{told}", file=sys.stderr)


def put(path: Path, found: Inspection, rows: list[int], write: bool) -> None:
    """Write rows to `path`; or only refuse where another file is there."""
    if not write:
        if path.exists():
            raise InputError(f"{files.shown(path)} is there already: delete it, or give another folder by --out")
    elif found.sheet is not None:
        found.sheet.take(rows).write(path)
    else:
        write_csv(path, found.examples.take(rows), found.task)
