"""A run: this system, this task, this plan, this seed. As a value, as JSON, and as the folder it leaves behind."""

from __future__ import annotations

import dataclasses
import difflib
import json
import platform
import subprocess
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop import tasks, weights
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.plan import Plan
from innerloop.parts.mixers import BLOCKS
from innerloop.parts.size import Size
from innerloop.tasks.grid import Grid
from innerloop.tasks.symmetry import kinds, lines

NODE = 16  # channels of a symbol where a recipe's width does not split into all of them
VIEWS = 48  # random symmetries of a task from which its orbits are found
MOST_KINDS = 6  # of sets of cells, beyond which all are treated alike


@dataclass(frozen=True)
class Data:
    """What is learned from: a file, folder or hub name, or puzzles the task generates."""

    task: str = ""  # name in innerloop.tasks; empty with a file: the one its rows look like
    options: dict[str, Any] = field(default_factory=dict)  # of the task
    train: str = ""  # path or hub name of the examples; empty: generated
    test: str = ""  # likewise for validation; empty: a part of the training groups is held out
    count: int = 2000  # puzzles to generate, or rows to take from `train`; 0 with a file: all
    holdout: int = 500  # puzzles to validate on: generated anew, or the first rows of `test`
    seed: int = 0  # of generation and of the split


@dataclass(frozen=True)
class Run:
    name: str
    system: str  # name in innerloop.weights
    config: Any  # that system's Config
    data: Data = field(default_factory=Data)
    plan: Plan = field(default_factory=Plan)
    seed: int = 0  # of initial weights, order of examples, augmentation and exploration
    about: str = ""  # one sentence for people: what this run is to show


class Built(typing.NamedTuple):
    """A run made real."""

    run: Run  # with the sizes its data gave it
    loop: Any  # the system: a Loop and a torch.nn.Module
    task: Any
    train: Any  # PuzzleSet
    validation: Any  # PuzzleSet


def sets(data: Data) -> tuple[Any, Any, Any]:
    """Task, training set and validation set. Raises InputError for data that cannot be had."""
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
        return task, train, tasks.open_set(data.test, task, data.holdout or None)[1]
    train, validation = train.split(min(0.5, data.holdout / len(train)), data.seed)
    return task, train, validation


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


def build(run: Run) -> Built:
    """Open the data, fit the system to it and make the model."""
    task, train, validation = sets(run.data)
    data = replace(run.data, task=task.name, options=task.options)
    run = replace(run, data=data, config=replace(run.config, size=fit(run.config.size, task, len(train.identifiers))))
    return Built(run, model(run), task, train, validation)


def model(run: Run) -> torch.nn.Module:
    """The run's system with fresh weights, drawn by its seed; torch's global generator stays where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(run.seed)
        return weights.get(run.system)[0](run.config)  # type: ignore[no-any-return]


# -- as JSON ----------------------------------------------------------------------------------------------------------


def to_json(run: Run) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(run)))


def from_json(value: dict[str, Any]) -> Run:
    """The Run that to_json wrote. Unknown keys raise InputError naming the nearest."""
    if not isinstance(value, dict) or "system" not in value:
        raise InputError('a run must be a JSON object with a "system": this is not the run.json of a run')
    return _make(Run, value | {"config": _make(weights.get(value["system"])[1], value.get("config", {}))})


def _make(kind: Any, value: Any) -> Any:
    """`value` of plain JSON as a `kind`: dataclasses, tuples and scalars, recursively."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                raise InputError(f"{kind.__name__} has no {key}: {_nearest(key, hints)}")
        return kind(**{k: _make(hints[k], v) for k, v in value.items()})
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(kind)[0]
        return tuple(_make(inner, v) for v in value)
    return value


def _nearest(key: str, known: Any) -> str:
    near = difflib.get_close_matches(key, list(known), 1, 0.5)
    return f'did you mean "{near[0]}"?' if near else f"it has {', '.join(known)}"


def override(run: Run, changes: Sequence[str]) -> Run:
    """`run` with fields replaced, each written "plan.steps=500". InputError for unknown fields or wrong types."""
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign:
            raise InputError(f'"{change}" changes nothing: write a field and its value, such as plan.steps=500')
        run = _replace(run, path.strip().split("."), text.strip(), path)
    return run


def _replace(value: Any, path: list[str], text: str, whole: str) -> Any:
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        return value | {key: _parse(text, type(value[key]) if key in value else object, whole)}
    if not dataclasses.is_dataclass(value) or key not in {f.name for f in dataclasses.fields(value)}:
        known = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []  # type: ignore[arg-type]
        raise InputError(f"{whole} is not a field of a run: {_nearest(key, known)}")
    old = getattr(value, key)
    kind = typing.get_type_hints(type(value))[key]
    new = _replace(old, rest, text, whole) if rest else _parse(text, kind, whole)
    return replace(value, **{key: new})  # type: ignore[type-var]


def _parse(text: str, kind: Any, whole: str) -> Any:
    """Text as a value of `kind`: str as it stands, the others as JSON; "1,4,16" for a tuple."""
    if kind is str:
        return text
    if typing.get_origin(kind) is tuple and not text.startswith("["):
        text = f"[{text}]"
    try:
        value = float(text) if kind is float else json.loads(text.lower() if kind is bool else text)
    except ValueError:
        value = text
    value = tuple(value) if isinstance(value, list) else value
    plain = typing.get_origin(kind) or kind
    checkable = isinstance(plain, type) and not isinstance(plain, types.UnionType)
    if checkable and (not isinstance(value, plain) or (plain is int and isinstance(value, bool))):
        raise InputError(f"{whole}={text} is not of type {plain.__name__}: write it as such")
    return value


# -- as a folder ------------------------------------------------------------------------------------------------------


def birth_certificate(seeds: Sequence[int] = ()) -> dict[str, Any]:
    """What every number needs beside it: command (files by name), commit, versions, hardware, seeds."""
    cuda = torch.cuda.is_available()
    return {
        "command": " ".join(
            [Path(sys.argv[0]).name, *(Path(a).name if a.startswith("/") else a for a in sys.argv[1:])]
        ),
        "commit": commit(),
        "seeds": list(seeds),
        "innerloop": version("innerloop"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
    }


def commit() -> str:
    """The checkout's commit, "+" where it has changes, or "" outside one."""
    here = Path(__file__).parent
    ask = lambda *args: subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=False)  # noqa: E731
    try:
        found = ask("rev-parse", "--short", "HEAD")
        if found.returncode:
            return ""
        return found.stdout.strip() + ("+" if ask("status", "--porcelain", "-uno").stdout.strip() else "")
    except OSError:
        return ""


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_run(folder: Path, run: Run) -> None:
    """Note in folder/run.json what is about to run; an unfinished run of another kind there is an InputError."""
    path, value = folder / "run.json", to_json(run)
    if path.exists():
        old = checkpoint.read_json(path)["run"]
        if old != value:
            changed = next(k for k in value if old.get(k) != value[k])
            raise InputError(
                f"{folder} holds another run (its {changed} differs): give a new folder, or delete that one"
            )
        return
    checkpoint.write_json(path, {"run": value, "born": birth_certificate([run.seed])})
    checkpoint.write_json(folder / "config.json", {"system": run.system, "config": value["config"]})


class Opened(typing.NamedTuple):
    run: Run
    loop: Any  # the system: a Loop and a torch.nn.Module
    task: Any
    folder: Path


def open_run(folder: Path | str, device: torch.device | str = "cpu") -> Opened:
    """The trained model of a run folder, ready to evaluate; nothing else is needed to open it years later."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the folder of a run, such as runs/demo")
    try:
        run = from_json(checkpoint.read_json(folder / "run.json")["run"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'run.json'} lacks a part of a run ({error}): it is damaged or of another kind"
        ) from None
    loop = model(run)
    checkpoint.load_weights(folder / checkpoint.MODEL, loop)
    return Opened(run, loop.to(device).eval(), tasks.get(run.data.task, **run.data.options), folder)
