"""From a Run to objects: open its data, fit the config to the task, build the model."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from innerloop import plugins, tasks, weights
from innerloop.data.leakage import leakage
from innerloop.data.opening import INFERRED, open_set
from innerloop.data.sets import PuzzleSet
from innerloop.data.stated import STATED_OPTIONS, UNSTATED, Stated
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import BLOCKS
from innerloop.rules.symmetry import kinds, lines
from innerloop.runs import limits, origin
from innerloop.runs.certificate import commit
from innerloop.runs.run import GIVEN, Data, Run
from innerloop.tasks.grid import Grid
from innerloop.tasks.task import Task

if typing.TYPE_CHECKING:
    from innerloop.weights import System

CHANNELS_PER_SYMBOL = 16  # channels of a symbol where a recipe's width does not split into all of them
SYMMETRY_SAMPLES = 48  # random symmetries of a task from which its orbits are found
MAX_ORBIT_KINDS = 6  # of sets of cells, beyond which all are treated alike


class BuiltRun(typing.NamedTuple):
    """A run with its task, data and model."""

    run: Run  # with the sizes its data gave it
    loop: System  # a Loop and a torch.nn.Module
    task: Task
    train: PuzzleSet
    validation: PuzzleSet


def load_data(data: Data, folder: Path | str = "") -> tuple[Task, PuzzleSet, PuzzleSet]:
    """(task, training set, validation set). Raises InputError for data that cannot be opened.

    folder: of the run whose data it is, if there is one: its files are found from any current folder then. Both sets
    number their puzzle identifiers alike. What is held out without a file to validate on: `origin.hold_out`.
    """
    if folder:
        data = origin.resolve_paths(data, folder)
    if not data.train and not data.task:
        raise InputError("these are settings for puzzles from a file: give it, --data FILE")
    if not data.train:
        task = tasks.get(data.task, **data.options)
        return task, task.make(data.count, data.seed), task.make(data.holdout, data.seed + 1_000_003)
    if data.train == GIVEN:
        raise InputError(
            "this run learned from puzzles that a program gave to innerloop.train, and does not know where they are: "
            "give some with --data, or go on with it by the same call of train"
        )
    told = not data.task or (data.task in INFERRED and not data.options)
    wanted = data.task or None if told else tasks.get(data.task, **data.options)
    stated = Stated.of_options(data.options) if told else UNSTATED
    task, train = open_set(data.train, wanted, data.count or None, stated=stated)
    more = {name: value for name, value in data.options.items() if name not in STATED_OPTIONS}
    if told and more:  # what the rows cannot tell, such as a grid's symmetries
        known = tasks.get(task.name, **task.options | more)
        if isinstance(known, Grid):
            known.examples = train
        task = known
    if data.test:
        validation = open_set(data.test, task, data.holdout or None)[1]
        return task, train, origin.renumber_identifiers(validation, train.identifiers, strict=False)
    if folder and origin.predates_data_block(folder):
        return task, *train.split(min(0.5, data.holdout / len(train)), data.seed)
    return task, *origin.hold_out(task, train, data)


def unseen_puzzles(task: Any, train: Any, data: Data, count: int) -> Any:
    """Up to `count` generated test puzzles: another seed, and no symmetric variant of a training puzzle."""
    fresh = task.make(count, data.seed + 2_000_003)
    return fresh.take(np.setdiff1d(np.arange(len(fresh)), leakage(train, fresh, task).rows))


def fit_config(config: NetConfig, task: Any, puzzles: int) -> NetConfig:
    """`size` with the vocabulary, length, grid, units and marks of `task`, and a row for each identifier."""
    rows, columns = task.shape
    units = tuple(tuple(dict.fromkeys(unit)) for unit in task.units.tolist()) if task.units is not None else ()
    grid: dict[str, Any] = {"seq": rows * columns, "rows": rows, "units": units}
    if getattr(BLOCKS.get(config.block), "tied", False):
        grid |= {"orbits": task_orbits(task, units), "symbols": task.symbols, "local": task.local}
        grid |= {"along": task.local and task.ordered, **views_of(task, config.most_views)}
        nodes = len(task.symbols[0]) if task.symbols else 1
        grid |= {} if config.hidden_size % nodes == 0 else {"hidden_size": CHANNELS_PER_SYMBOL * nodes}
        known = grid["orbits"] or grid["symbols"] or grid["local"] or config.positions != "none"
        grid |= {} if known else {"positions": "learned"}  # else all positions would be alike
    grid |= {name: getattr(task, name, 0) for name in ("separator", "end")}
    return replace(config, vocab=task.vocab, puzzles=puzzles, **grid)


def views_of(task: Any, most: int) -> dict[str, Any]:
    """The views of a grid's own symmetries, as fields of a NetConfig; a part of them where there are more than `most`.

    Empty where a symmetry renames symbols that have nodes of their own.
    """
    if most < 2 or not isinstance(task, Grid):
        return {"views": (), "view_tokens": ()}
    told = [name for name in task.symmetries if name != "names"]
    groups = (task.part_of_group(told[:n]) for n in range(len(told), -1, -1))
    group = next(group for group in groups if len(group.cells) <= most)
    tied = [token for form in task.symbols for token in form]
    if len(group.cells) < 2 or (group.tokens[:, tied] != tied).any():
        return {"views": (), "view_tokens": ()}
    return {"views": as_tuples(group.cells), "view_tokens": as_tuples(group.tokens)}


def check_views(kind: Any, config: NetConfig) -> None:
    """Raise InputError where a system of this class, or its block, would ignore `most_views`."""
    tied = getattr(BLOCKS.get(config.block), "tied", False)
    if config.most_views > 1 and not (tied and getattr(kind, "takes_views", False)):
        raise InputError(
            f"config.net.most_views is {config.most_views}, and {kind.__name__} with the block {config.block} thinks "
            "about one view: leave it 0, or train the system orbit with its own block"
        )


def views_note(config: NetConfig) -> str:
    """A sentence where views were wanted and the task has none; else ""."""
    if config.most_views < 2 or config.views:
        return ""
    return (
        f"config.net.most_views is {config.most_views}, but this task tells no symmetries to view side by side "
        "(data.options.symmetries): one view is thought about"
    )


def as_tuples(rows: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in rows.tolist())


def task_orbits(task: Any, units: Sequence[tuple[int, ...]]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Sets of cells that the task's symmetries map to each other, grouped by kind; without symmetries the task's units,
    or rows and columns if it is `lined`.
    """
    views = task.views(SYMMETRY_SAMPLES, np.random.default_rng(0))
    cells = np.arange(task.shape[0] * task.shape[1])[None] if views is None else views.cells
    sets = lines(cells, len(task.symbols[0])) if task.symbols else []
    if task.lined:
        board = np.arange(task.shape[0] * task.shape[1]).reshape(task.shape)
        units = tuple(tuple(line) for line in (*board.tolist(), *board.T.tolist()))
    sets = sets or list(units)
    number = np.array(kinds(sets, cells)) if sets else np.zeros(0, int)
    if len(np.unique(number)) > MAX_ORBIT_KINDS:
        number[:] = 0
    return tuple(tuple(s for s, k in zip(sets, number, strict=True) if k == kind) for kind in np.unique(number))


def build(run: Run, folder: Path | str = "") -> BuiltRun:
    """Open the data, fit the system to it and make the model. folder: as in `sets`."""
    commit()  # cached now: later commits do not count
    check_views(weights.get(run.system)[0], run.config.net)
    task, train, validation = load_data(run.data, folder)
    own = plugins.parse(run.data.task) is not None  # a task of the user's keeps its name and what it was made with
    data = run.data if own else replace(run.data, task=task.name, options=task.options)
    run = replace(
        run, data=data, config=replace(run.config, net=fit_config(run.config.net, task, len(train.identifiers)))
    )
    if run.config.net.puzzle_emb_size:
        validation = origin.renumber_identifiers(validation, train.identifiers)
    return BuiltRun(run, build_model(run), task, train, validation)


def build_model(run: Run, path: Path | None = None) -> System:
    """The run's system with fresh weights, drawn by its seed; torch's global generator stays where it was.

    `path` is the file that other weights will be read from. Raises InputError.
    """
    return limits.build(weights.get(run.system)[0], run.config, run.seed, path)
