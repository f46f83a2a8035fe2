"""Parsing and checks of what verbs are given: runs, puzzle files, devices, lists of numbers."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from innerloop import files, pretrained, schema
from innerloop.data.opening import open_set
from innerloop.errors import InputError
from innerloop.learn.precision import prepare
from innerloop.runs import run as runs
from innerloop.runs.code import FOLDER as CODE_FOLDER
from innerloop.runs.code import NO_CODE, Code
from innerloop.runs.fit import load_data
from innerloop.runs.folder import OpenedRun, read_folder
from innerloop.runs.group import find_runs, holds_runs
from innerloop.runs.origin import known, refuse_changed
from innerloop.runs.single import match_identifiers
from innerloop.show import records
from innerloop.solve import rules
from innerloop.text import command, printable

RunFolder = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
CodeFlags = Annotated[Code, tyro.conf.OmitArgPrefixes]
CODE_VERBS = (  # take --trust-code
    "train", "show", "eval", "solve", "worth", "serve", "calibrate", "report", "study", "export",
)  # fmt: skip
RulesFile = Annotated[
    str,
    tyro.conf.arg(metavar="FILE.py", help="A Python file with the functions rule, constrain, or both."),
]

__all__ = [
    "NO_CODE",
    "Code",
    "CodeFlags",
    "RulesFile",
    "RunFolder",
    "choose_device",
    "load_examples",
    "open_run",
    "parse_numbers",
    "print_reading",
    "read_run",
    "refuse_overwrite",
    "result_path",
    "training_set_size",
    "with_rules",
]


def choose_device(choice: str) -> tuple[torch.device, str]:
    """("auto", "cpu" or "cuda") -> (device, the reason as text)."""
    if choice not in ("auto", "cpu", "cuda"):
        raise InputError(f'--device is "{choice}": use auto, cpu or cuda')
    if choice == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA GPU here; use --device cpu, or install a CUDA build")
    if choice == "cpu" or not torch.cuda.is_available():
        why = "as asked" if choice == "cpu" else "no CUDA GPU was found"
        return torch.device("cpu"), f"cpu ({why}, {torch.get_num_threads()} threads)"
    local = int(os.environ.get("LOCAL_RANK", 0))
    torch.cuda.set_device(local)
    why = "as asked" if choice == "cuda" else "a CUDA GPU was found"
    return torch.device("cuda", local), f"cuda:{local} ({why}: {torch.cuda.get_device_name(local)})"


def keeps_code(word: object) -> bool:
    """Whether this is the folder of a run, or of several, that keep code of their own."""
    with contextlib.suppress(OSError, ValueError, InputError):  # no name of a folder
        folder = Path(str(word))
        return any((run / CODE_FOLDER).is_dir() for run in ([folder], find_runs(folder))[holds_runs(folder)])
    return False


def next_command(verb: str, *words: object) -> str:
    """A command line to type next: it names the path that started this program, if a shell finds no other way to it.

    Where the first word is a run that keeps code of its own, it is opened with --trust-code.
    """
    started, found = Path(sys.argv[0]), shutil.which("innerloop") or ""
    by_name = started.name != "innerloop" or os.path.realpath(found) == os.path.realpath(started)
    trusted = verb in CODE_VERBS and any(map(keeps_code, words[:1]))
    line = command(verb, *words, *(["--trust-code"] if trusted else []))
    return line if by_name else shlex.quote(str(started)) + line.removeprefix("innerloop")


def parse_numbers(text: str, flag: str, kind: Any) -> tuple[Any, ...]:
    """ "1,4,16" -> (1, 4, 16), each a `kind` of schema. Raises InputError naming the flag."""
    parts = [part for part in text.replace(" ", ",").split(",") if part]
    return tuple(schema.parse(kind, part, flag) for part in parts)


def read_run(folder: Path, code: Code = NO_CODE) -> runs.Run:
    """The Run of a folder's run.json; code of its own is run where that is permitted."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the folder of a run, such as runs/demo")
    return read_folder(folder, code)[0]


def open_run(source: str | Path, device: torch.device | str = "cpu", code: Code = NO_CODE) -> OpenedRun:
    """Open a trained model: the folder of a run, a single file NAME.safetensors, or the name of a bundled one.

    Sets the process up for it (learn.precision.prepare).
    """
    if Path(source).is_dir():
        read_run(Path(source), code)
    opened = pretrained.open(source, device, code)
    prepare(opened.loop, device)
    return opened


def with_rules(opened: OpenedRun, file: str) -> OpenedRun:
    """The model with the rules of a Python file of the user's added to its task; "": as it is."""
    return opened._replace(task=rules.with_rules(opened.task, *rules.read_rules(file))) if file else opened


def load_examples(opened: OpenedRun, data: str, limit: int) -> Any:
    """The puzzles of a file, read as the run's task; without a file, those the run was validated on."""
    if limit < 0:
        raise InputError(f"--limit is {limit}: give 1 or more, or 0 for all")
    if data:
        examples = open_set(data, opened.task, limit or None)[1]
    else:
        examples = load_data(opened.run.data, opened.folder)[2]
        if opened.run.data.train:
            refuse_changed(opened.folder, opened.run.data, validation=examples)
            if not known(opened.folder, "validation"):
                print("no fingerprint of what it was validated on was kept: these may be others", file=sys.stderr)
        examples = examples.take(slice(limit)) if limit else examples
    print_reading(examples)
    return match_identifiers(opened, examples)


def print_reading(examples: Any) -> None:
    """Print how a file was read, on standard error: standard output holds results only."""
    if examples.reading is not None:
        print(f"{printable(examples.source)} is {examples.reading}", file=sys.stderr)


def refuse_overwrite(path: Path, read: Callable[[Any], object]) -> None:
    """Raise InputError where `path` holds something that `read` does not take: it is not ours to replace."""
    if not path.exists():
        return
    try:
        read(path)
    except InputError:
        raise InputError(
            f"{files.shown(path)} is there already, and is none that this verb wrote: give another name, or delete it"
        ) from None


def result_path(opened: OpenedRun, out: str, name: str = "") -> Path:
    """Where a result goes: `out` where it is given, else `name` in the folder of the run, which a single file lacks.

    Raises InputError where `out` is a file that is no earlier result of this kind.
    """
    if out:
        if name and Path(out).is_file():
            refuse_overwrite(Path(out), read_page if name.endswith(".html") else lambda p: read_result(p, name))
        return Path(out)
    if not opened.folder.is_dir():
        raise InputError(f"{opened.folder} is a model in one file, with no folder for results: say where, by --out")
    return opened.folder / name


def read_page(path: Path) -> None:
    """Raise InputError unless this is a page of ours."""
    if "<title>Innerloop" not in files.read_text(path, records.MAX_METRICS_BYTES)[:2000]:
        raise InputError(f"{files.shown(path)} is no report")


def read_result(path: Path, name: str) -> None:
    """Raise InputError unless this is a `name` of ours, such as eval.json."""
    value = records.check_record(name, files.read_json(path), files.shown(path))
    if not isinstance(value, dict) or "born" not in value:
        raise InputError(f"{files.shown(path)} is no {name}")


def training_set_size(folder: Path, run: runs.Run) -> int:
    """How many puzzles the run learned from, as its result says, else as its data says (0: all of a file)."""
    known = records.read(folder, "result.json").get("train_puzzles")
    return int(known if known is not None else run.data.count)
