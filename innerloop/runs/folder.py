"""Run folders: write and check run.json, and open the trained model in a folder."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import torch

from innerloop import files, plugins, tasks
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.runs import origin
from innerloop.runs.certificate import birth_certificate, commit
from innerloop.runs.code import NO_CODE, Code, keep_code, permitted
from innerloop.runs.fit import BuiltRun, build_model
from innerloop.runs.run import Run, read_run, to_json
from innerloop.tasks.task import Task
from innerloop.text import printable

if typing.TYPE_CHECKING:
    from innerloop.weights import System


def check_run(folder: Path, run: Run, built: BuiltRun | None = None) -> None:
    """Raise InputError where `folder` holds another, already trained run, naming the field that differs.

    With `built`, its puzzles must also be the ones that the run there began with; their files may lie elsewhere now.
    """
    if not any((folder / name).exists() for name in (checkpoint.STATE, checkpoint.MODEL)):
        return
    old = kept_run(folder)
    if old is not None and built is not None and origin.same_source(old, to_json(run)):
        origin.refuse_changed(folder, run.data, train=built.train, validation=built.validation)
    if old is not None and (found := first_difference(with_paths_of(run, old, folder, built), to_json(run))):
        name, there, here = found
        raise InputError(
            f"{files.shown(folder)} holds another run ({name} is {there} there and {here} here): choose another folder "
            "(--out), or begin anew in this one (--fresh)"
        )


def with_paths_of(run: Run, old: dict[str, Any], folder: Path, built: BuiltRun | None) -> dict[str, Any]:
    """`old`, the run that `folder` keeps, with the paths of `run` where these lead to the puzzles it began with."""
    data = old.get("data")
    known = built and origin.same_puzzles(folder, train=built.train, validation=built.validation)
    if not known or not isinstance(data, dict):
        return old
    paths = {key: getattr(run.data, key) for key in ("train", "test")}
    return old | {"data": data | {key: path for key, path in paths.items() if path and data.get(key)}}


def kept_run(folder: Path) -> dict[str, Any] | None:
    """The run of folder/run.json as this version writes it; None where there is none."""
    path = folder / "run.json"
    if not path.exists():
        return None
    value = files.read_json(path)
    run = value.get("run") if isinstance(value, dict) else None
    if isinstance(run, dict) and plugins.parse(run.get("system")) and not plugins.is_loaded(run["system"]):
        return run  # of other code than this run's
    return to_json(read_run(value, files.shown(path)))


def first_difference(old: Any, new: Any, name: str = "") -> tuple[str, str, str] | None:
    """The first field in which two JSON values differ, such as "plan.lr", and both of its values as text."""
    if old == new:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted((*new, *old), key=lambda k: k in ("config", "system"))  # what follows from the others comes last
        key = next(k for k in keys if old.get(k) != new.get(k) or (k in old) != (k in new))
        found = first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        return found or (key, "missing", "missing")
    return name, *(printable(json.dumps(value), 60) for value in (old, new))  # type: ignore[return-value]


def write_run(folder: Path, run: Run, built: BuiltRun | None = None) -> None:
    """Write folder/config.json and run.json before training. Raises InputError as check_run does.

    With `built`, the paths and fingerprints of its puzzles and the names of their identifiers are noted as well.
    Where the same run is there already, its birth certificate stays, also where the files of its puzzles lie elsewhere
    now; a commit that goes on with it is added as one of its "commits".
    """
    check_run(folder, run, built)
    path, value, old = folder / "run.json", to_json(run), kept_run(folder)
    stale = built and origin.changed_set(folder, train=built.train, validation=built.validation)
    same = old is not None and with_paths_of(run, old, folder, built) == value and not stale
    if not same or not (folder / "config.json").exists():
        # Written first: a folder with a run.json is complete.
        files.write_json(folder / "config.json", {"system": run.system, "config": value["config"]})
    keep_code(folder, run)
    if old != value or stale:
        data: dict[str, Any] = {}
        if built is not None:
            origin.keep_names(folder, built.train.identifiers)
            data = origin.data_block(folder, run.data, built.train, built.validation)
            data["alphabet"] = getattr(built.task, "charset", "")
        born = kept_certificate(folder) if same else birth_certificate([run.seed])
        files.write_json(path, {"run": value, "data": data, "born": born})
    if same and commit() and commit() not in (known := commits(folder)):
        born = kept_certificate(folder) | {"commits": [*known, commit()]}
        files.write_json(path, files.read_json(path) | {"born": born})


def kept_certificate(folder: Path) -> dict[str, Any]:
    """The birth certificate in folder/run.json; {} where there is none."""
    born = files.read_json(folder / "run.json").get("born")
    return born if isinstance(born, dict) else {}


def commits(folder: Path) -> list[str]:
    """The commits that have worked on the run of a folder, in order."""
    born = kept_certificate(folder)
    found = born.get("commits", [born.get("commit", "")])
    return [str(c) for c in found] if isinstance(found, list) else []


class OpenedRun(typing.NamedTuple):
    """A trained model."""

    run: Run
    loop: System  # a Loop and a torch.nn.Module, in eval mode
    task: Task
    folder: Path


def read_folder(folder: Path, code: Code = NO_CODE) -> tuple[Run, dict[str, Any]]:
    """(the run of a folder, all of its run.json); code that it is made of is loaded if that is permitted."""
    path = folder / "run.json"
    value = files.read_json(path)
    return read_run(permitted(value, folder, code, files.shown(path)), files.shown(path)), value


def open_run(folder: Path | str, device: torch.device | str = "cpu", code: Code = NO_CODE) -> OpenedRun:
    """Open the trained model of a run folder, in eval mode. The folder is all that is needed.

    code: what code may be run; without it none that the folder holds.
    """
    commit()
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {files.shown(folder)}: give the folder of a run, such as runs/demo")
    run, value = read_folder(folder, code)
    path, task = folder / checkpoint.MODEL, known_task(run, value, files.shown(folder / "run.json"))
    loop = build_model(run, path)
    checkpoint.load_weights(path, loop)
    return OpenedRun(run, loop.to(device).eval(), task, folder)


def known_task(run: Run, value: Any, where: str) -> Task:
    """The task of a trained run. Raises InputError, which names the file, where its model takes other puzzles.

    value: its run.json, which says the alphabet that the model learned.
    """
    try:
        task = tasks.get(run.data.task, **run.data.options)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    config, cells = run.config.net, task.shape[0] * task.shape[1]
    if (config.vocab, config.seq) != (task.vocab, cells):
        raise InputError(
            f"{where}: its model takes {config.seq} cells of {config.vocab} tokens, its task has {cells} of "
            f"{task.vocab}: it is damaged, or another task was given"
        )
    learned = origin.kept_alphabet(value)
    if learned and learned != task.charset:
        one, other = (printable(json.dumps(text, ensure_ascii=False), 300) for text in (learned, task.charset))
        raise InputError(
            f"{where}: its model learned the alphabet {one} and the task has {other}: give the one it learned"
        )
    return task
