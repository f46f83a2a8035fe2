"""A run: this system, this task, this plan, this seed. As a value, as JSON, and as the folder it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from innerloop import files, schema, tasks, weights
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.plan import Plan
from innerloop.parts.mixers import BLOCKS
from innerloop.parts.size import Size
from innerloop.recipes import limits, origin
from innerloop.schema import Range, Seed
from innerloop.tasks.grid import Grid
from innerloop.tasks.symmetry import kinds, lines
from innerloop.text import nearest, printable

NODE = 16  # channels of a symbol where a recipe's width does not split into all of them
VIEWS = 48  # random symmetries of a task from which its orbits are found
MOST_KINDS = 6  # of sets of cells, beyond which all are treated alike
Rows = Annotated[int, Range(0, 10_000_000)]


@dataclass(frozen=True)
class Data:
    """What is learned from: a file, folder or hub name, or puzzles the task generates."""

    task: str = ""  # name in innerloop.tasks; empty with a file: the one its rows look like
    options: dict[str, Any] = field(default_factory=dict)  # of the task
    train: str = ""  # path or hub name of the examples; empty: generated
    test: str = ""  # likewise for validation; empty: a part of the training groups is held out
    count: Rows = 2000  # puzzles to generate, or rows to take from `train`; 0 with a file: all
    holdout: Rows = 500  # puzzles to validate on: generated anew, or the first rows of `test`
    seed: Seed = 0  # of generation and of the split


@dataclass(frozen=True)
class Run:
    name: str
    system: str  # name in innerloop.weights
    config: Any  # that system's Config
    data: Data = field(default_factory=Data)
    plan: Plan = field(default_factory=Plan)
    seed: Seed = 0  # of initial weights, order of examples, augmentation and exploration
    about: str = ""  # one sentence for people: what this run is to show


class Built(typing.NamedTuple):
    """A run made real."""

    run: Run  # with the sizes its data gave it
    loop: Any  # the system: a Loop and a torch.nn.Module
    task: Any
    train: Any  # PuzzleSet
    validation: Any  # PuzzleSet


def sets(data: Data, folder: Path | str = "") -> tuple[Any, Any, Any]:
    """Task, training set and validation set. Raises InputError for data that cannot be had.

    folder: of the run whose data it is, if there is one: its files are found from any current folder then. Both sets
    number their puzzle identifiers alike. What is held out without a file to validate on: `origin.hold_out`.
    """
    if folder:
        data = origin.located(data, folder)
    if not data.train:
        task = tasks.get(data.task, **data.options)
        return task, task.make(data.count, data.seed), task.make(data.holdout, data.seed + 1_000_003)
    told = not data.task or (data.task in tasks.INFERRED and not data.options)
    wanted = data.task or None if told else tasks.get(data.task, **data.options)
    task, train = tasks.open_set(data.train, wanted, data.count or None)
    if told and data.options:  # what the rows cannot tell, such as a grid's symmetries
        known = tasks.get(task.name, **task.options | data.options)
        if isinstance(known, Grid):
            known.examples = train
        task = known
    if data.test:
        validation = tasks.open_set(data.test, task, data.holdout or None)[1]
        return task, train, origin.numbered(validation, train.identifiers, strict=False)
    if folder and origin.before(folder):
        return task, *train.split(min(0.5, data.holdout / len(train)), data.seed)
    return task, *origin.hold_out(task, train, data)


def unseen(task: Any, train: Any, data: Data, count: int) -> Any:
    """Up to `count` generated puzzles that neither trained nor chose a model: another seed, no symmetric twins."""
    fresh = task.make(count, data.seed + 2_000_003)
    return fresh.take(np.setdiff1d(np.arange(len(fresh)), tasks.leakage(train, fresh, task).rows))


def fit(size: Size, task: Any, puzzles: int) -> Size:
    """`size` with the vocabulary, length, grid, units and separator of `task`, and a row for each identifier."""
    rows, columns = task.shape
    units = tuple(tuple(dict.fromkeys(unit)) for unit in task.units.tolist()) if task.units is not None else ()
    grid: dict[str, Any] = {"seq": rows * columns, "rows": rows, "units": units}
    if getattr(BLOCKS.get(size.mix), "tied", False):
        grid |= {"orbits": orbits(task, units), "symbols": task.symbols, "local": task.local}
        nodes = len(task.symbols[0]) if task.symbols else 1
        grid |= {} if size.width % nodes == 0 else {"width": NODE * nodes}
        known = grid["orbits"] or grid["symbols"] or grid["local"] or size.positions != "none"
        grid |= {} if known else {"positions": "learned"}  # else all places would be alike
    return replace(size, vocab=task.vocab, puzzles=puzzles, separator=getattr(task, "separator", 0), **grid)


def orbits(task: Any, units: Sequence[tuple[int, ...]]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The sets of cells that the task's symmetries single out, by kind; where they give none, the units it names, or
    its rows and columns if it is `lined`.
    """
    views = task.views(VIEWS, np.random.default_rng(0))
    cells = np.arange(task.shape[0] * task.shape[1])[None] if views is None else views.cells
    sets = lines(cells, len(task.symbols[0])) if task.symbols else []
    if task.lined:
        board = np.arange(task.shape[0] * task.shape[1]).reshape(task.shape)
        units = tuple(tuple(line) for line in (*board.tolist(), *board.T.tolist()))
    sets = sets or list(units)
    number = np.array(kinds(sets, cells)) if sets else np.zeros(0, int)
    if len(np.unique(number)) > MOST_KINDS:
        number[:] = 0
    return tuple(tuple(s for s, k in zip(sets, number, strict=True) if k == kind) for kind in np.unique(number))


def build(run: Run, folder: Path | str = "") -> Built:
    """Open the data, fit the system to it and make the model. folder: as in `sets`."""
    commit()  # the one that runs, whatever is committed meanwhile
    task, train, validation = sets(run.data, folder)
    data = replace(run.data, task=task.name, options=task.options)
    run = replace(run, data=data, config=replace(run.config, size=fit(run.config.size, task, len(train.identifiers))))
    if run.config.size.puzzle_width:
        validation = origin.numbered(validation, train.identifiers)
    return Built(run, model(run), task, train, validation)


def model(run: Run, path: Path | None = None) -> torch.nn.Module:
    """The run's system with fresh weights, drawn by its seed; torch's global generator stays where it was.

    `path` is the file that other weights will be read from. Raises InputError.
    """
    return limits.build(weights.get(run.system)[0], run.config, run.seed, path)


# -- as JSON ----------------------------------------------------------------------------------------------------------


def to_json(run: Run) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(run)))


def from_json(value: Any, where: str = "run.json") -> Run:
    """The Run that to_json wrote; `where` begins what an error says. Unknown keys raise, naming the nearest."""
    if not isinstance(value, dict) or not isinstance(value.get("system"), str):
        raise InputError(f'{where} holds no JSON object with a "system": this is not the run.json of a run')
    try:
        kind = weights.get(value["system"])[1]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    config = schema.read(kind, value.get("config", {}), where, "config")
    return schema.read(Run, value | {"config": config}, where)


def read_run(value: Any, where: str) -> Run:
    """The Run in what a run.json holds."""
    if not isinstance(value, dict) or "run" not in value:
        raise InputError(f'{where} holds no "run": it is damaged, or of another kind')
    return from_json(value["run"], where)


def override(run: Run, changes: Sequence[str]) -> Run:
    """`run` with fields replaced, each written "plan.steps=500". InputError for unknown fields or wrong values."""
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign:
            raise InputError(f'"{printable(change)}" changes nothing: write a field and its value, as plan.steps=500')
        run = _replace(run, path.strip().split("."), text.strip(), path.strip())
    if not isinstance(run.config, weights.get(run.system)[1]):
        raise InputError(f"the config of this run is not one of {run.system}: use the recipe family, with --system")
    return run


def _replace(value: Any, path: list[str], text: str, whole: str) -> Any:
    key, rest = path[0], path[1:]
    if isinstance(value, dict) and not rest:
        kind = type(value[key]) if value.get(key) is not None else Any
        return value | {key: schema.parse(kind, text, whole)}
    known = typing.get_type_hints(type(value), include_extras=True) if dataclasses.is_dataclass(value) else {}
    if key not in known:
        raise InputError(f"{printable(whole)} is not a field of a run: {nearest(key, known)}")
    old = getattr(value, key)
    new = _replace(old, rest, text, whole) if rest else schema.parse(known[key], text, whole)
    return replace(value, **{key: new})  # type: ignore[type-var]


# -- as a folder ------------------------------------------------------------------------------------------------------


def birth_certificate(seeds: Sequence[int] = ()) -> dict[str, Any]:
    """What every number needs beside it: command (files by name), commit, versions, hardware, seeds."""
    cuda = torch.cuda.is_available()
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [""]
    return {
        "command": shlex.join(re.sub(r"(^|=)/.*/(?=[^/]+/*$)", r"\1", word) for word in words),
        "commit": commit(),
        "seeds": list(seeds),
        "innerloop": version("innerloop"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": memory_gib(),
    } | ({"gpu_memory_gib": gib(torch.cuda.get_device_properties().total_memory)} if cuda else {})


@cache
def commit() -> str:
    """The checkout's commit when it was first asked for, "+" where it had changes, or "" outside one.

    Called where work begins, so that a result which takes hours names the code that made it.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, perhaps into a folder of somebody else's checkout
        return ""
    words = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(words, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def gib(size: int) -> float:
    return round(size / (1 << 30), 1)


def memory_gib() -> float | None:
    """Memory of this machine; None where the system does not say."""
    try:
        return gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError, AttributeError):
        return None


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def check_run(folder: Path, run: Run, built: Built | None = None) -> None:
    """Raise InputError where `folder` holds another run that has learned something, naming the field that differs.

    With `built`, its puzzles must still be those that the run there began with.
    """
    if not any((folder / name).exists() for name in (checkpoint.STATE, checkpoint.MODEL)):
        return
    old = noted(folder)
    if old is not None and built is not None and origin.same_source(old, to_json(run)):
        origin.refuse_changed(folder, run.data, train=built.train, validation=built.validation)
    if old is not None and (found := difference(old, to_json(run))):
        name, there, here = found
        raise InputError(
            f"{files.shown(folder)} holds another run ({name} is {there} there and {here} here): choose another folder "
            "(--out), or begin anew in this one (--fresh)"
        )


def noted(folder: Path) -> dict[str, Any] | None:
    """The run of folder/run.json as this version writes it; None where there is none."""
    path = folder / "run.json"
    if not path.exists():
        return None
    return to_json(read_run(files.read_json(path), files.shown(path)))


def difference(old: Any, new: Any, name: str = "") -> tuple[str, str, str] | None:
    """The first field in which two JSON values differ, such as "plan.lr", and both of its values as text."""
    if old == new:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(k for k in (*new, *old) if old.get(k) != new.get(k) or (k in old) != (k in new))
        found = difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        return found or (key, "missing", "missing")
    return name, *(printable(json.dumps(value), 60) for value in (old, new))  # type: ignore[return-value]


def write_run(folder: Path, run: Run, built: Built | None = None) -> None:
    """Note in folder/config.json and run.json what is about to run. Raises InputError as check_run does.

    With `built`, the paths and fingerprints of its puzzles and the names of their identifiers are noted as well.
    Where the same run is there already, its birth certificate stays; a commit that goes on with it is added as one of
    its "commits".
    """
    check_run(folder, run, built)
    path, value = folder / "run.json", to_json(run)
    stale = built and origin.changed(folder, train=built.train, validation=built.validation)
    same = noted(folder) == value and not stale
    if not same or not (folder / "config.json").exists():
        # First: what has a run.json has all.
        files.write_json(folder / "config.json", {"system": run.system, "config": value["config"]})
    if not same:
        data: dict[str, Any] = {}
        if built is not None:
            origin.keep_names(folder, built.train.identifiers)
            data = origin.noted(folder, run.data, built.train, built.validation)
        files.write_json(path, {"run": value, "data": data, "born": birth_certificate([run.seed])})
    elif commit() and commit() not in (known := commits(folder)):
        whole = files.read_json(path)
        born = whole.get("born") if isinstance(whole.get("born"), dict) else {}
        files.write_json(path, whole | {"born": born | {"commits": [*known, commit()]}})


def commits(folder: Path) -> list[str]:
    """The commits that have worked on the run of a folder, in order."""
    born = files.read_json(folder / "run.json").get("born")
    born = born if isinstance(born, dict) else {}
    found = born.get("commits", [born.get("commit", "")])
    return [str(c) for c in found] if isinstance(found, list) else []


class Opened(typing.NamedTuple):
    run: Run
    loop: Any  # the system: a Loop and a torch.nn.Module
    task: Any
    folder: Path


def open_run(folder: Path | str, device: torch.device | str = "cpu") -> Opened:
    """The trained model of a run folder, ready to evaluate; nothing else is needed to open it years later."""
    commit()
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {files.shown(folder)}: give the folder of a run, such as runs/demo")
    run = read_run(files.read_json(folder / "run.json"), files.shown(folder / "run.json"))
    path, task = folder / checkpoint.MODEL, known_task(run, files.shown(folder / "run.json"))
    loop = model(run, path)
    checkpoint.load_weights(path, loop)
    return Opened(run, loop.to(device).eval(), task, folder)


def known_task(run: Run, where: str) -> Any:
    """The task of a trained run. Raises InputError, which names the file, where its model takes other puzzles."""
    try:
        task = tasks.get(run.data.task, **run.data.options)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    size, cells = run.config.size, task.shape[0] * task.shape[1]
    if (size.vocab, size.seq) != (task.vocab, cells):
        raise InputError(
            f"{where}: its model takes {size.seq} cells of {size.vocab} tokens, its task has {cells} of {task.vocab}: "
            "it is damaged"
        )
    return task
