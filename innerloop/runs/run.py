"""The dataclasses Run and Data: system, config, data, plan, seed; to and from JSON, and overrides of --set."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from innerloop import plugins, schema, weights
from innerloop.errors import InputError
from innerloop.learn.plan import Plan
from innerloop.saved import field_of, saved
from innerloop.schema import Range, Seed
from innerloop.text import did_you_mean, nearest, printable

Rows = Annotated[int, Range(0, 10_000_000)]
GIVEN = "puzzles given to innerloop.train"  # stands for the path of a run's puzzles where a program made them


@dataclass(frozen=True)
class Data:
    """Training data: a file, folder or hub name, or puzzles that the task generates."""

    task: str = ""  # name in innerloop.tasks; empty with a file: the one its rows look like
    options: dict[str, Any] = field(default_factory=dict)  # of the task
    train: str = ""  # path or hub name of the examples; empty: generated
    test: str = ""  # likewise for validation; empty: a part of the training groups is held out
    count: Rows = 2000  # puzzles to generate, or rows to take from `train`; 0 with a file: all
    holdout: Rows = 500  # to validate on: made anew, of `test` or of `train`; 0 with a file: all of `test`, or a tenth
    seed: Seed = 0  # of generation and of the split


@dataclass(frozen=True)
class Run:
    name: str  # what tables, logs and cards call it
    system: str  # name in innerloop.weights
    config: Any  # that system's Config; of a run that was read without its code: JSON
    data: Data = field(default_factory=Data)
    plan: Plan = field(default_factory=Plan)
    seed: Seed = 0  # of initial weights, order of examples, augmentation and exploration
    about: str = ""  # one sentence that describes the run


# -- as JSON ----------------------------------------------------------------------------------------------------------


def to_json(run: Run) -> dict[str, Any]:
    return json.loads(json.dumps(saved(run)))


def from_json(value: Any, where: str = "run.json", with_code: bool = True) -> Run:
    """The Run that to_json wrote; `where` begins what an error says. Unknown keys raise, naming the nearest.

    Not `with_code`: the config of a system that is a file of the user's stays JSON, as only that file can read it.
    """
    if not isinstance(value, dict) or not isinstance(value.get("system"), str):
        raise InputError(f'{where} holds no JSON object with a "system": this is not the run.json of a run')
    if not with_code and plugins.parse(value["system"]):
        return schema.read(Run, value, where)
    try:
        kind = weights.get(value["system"])[1]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    config = schema.read(kind, value.get("config", {}), where, "config")
    return schema.read(Run, value | {"config": config}, where)


def read_run(value: Any, where: str, with_code: bool = True) -> Run:
    """The Run in what a run.json holds; with_code: as in from_json."""
    if not isinstance(value, dict) or "run" not in value:
        raise InputError(f'{where} holds no "run": it is damaged, or of another kind')
    return from_json(value["run"], where, with_code)


def read_config(value: Any, where: str) -> Run:
    """The Run in a config file: what `innerloop show RECIPE --out FILE.json` writes, or the run.json of a run."""
    return from_json(value["run"] if isinstance(value, dict) and "run" in value else value, where)


def override(run: Run, changes: Sequence[str]) -> Run:
    """`run` with fields replaced, each written "plan.steps=500". InputError for unknown fields or wrong values."""
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign:
            raise InputError(f'"{printable(change)}" changes nothing: write a field and its value, as plan.steps=500')
        run = _replace(run, path.strip().split("."), text.strip(), path.strip(), run)
    if not isinstance(run.config, weights.get(run.system)[1]):
        raise InputError(f"the config of this run is not one of {run.system}: use the recipe family, with --system")
    return run


def _replace(value: Any, path: list[str], text: str, whole: str, run: Run) -> Any:
    key, rest = path[0], path[1:]
    if isinstance(value, dict) and not rest:
        kind = type(value[key]) if value.get(key) is not None else Any
        return value | {key: schema.parse(kind, text, whole)}
    known = typing.get_type_hints(type(value), include_extras=True) if dataclasses.is_dataclass(value) else {}
    key = field_of(key, known)
    if key not in known:
        near = nearest(whole, _paths(run))
        told = f'did you mean "{near}"?' if near else did_you_mean(key, known)
        raise InputError(f"{printable(whole)} is not a field of a run: {told}")
    old = getattr(value, key)
    new = _replace(old, rest, text, whole, run) if rest else schema.parse(known[key], text, whole)
    return replace(value, **{key: new})  # type: ignore[type-var]


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    """The fields of a run as --set writes them."""
    for f in dataclasses.fields(value):
        inner = getattr(value, f.name)
        if dataclasses.is_dataclass(inner):
            yield from _paths(inner, f"{prefix}{f.name}.")
        elif isinstance(inner, dict) and inner:
            yield from (f"{prefix}{f.name}.{name}" for name in inner)
        else:
            yield f"{prefix}{f.name}"
