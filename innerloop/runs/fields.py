"""The fields of a Run: value, meaning and the values each may take, read off the config dataclasses and their comments.

Also a Run as a config file: the fields by the names that --set takes, without what the puzzles decide.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import re
import textwrap
import tokenize
import typing
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from innerloop import tasks, weights
from innerloop.learn.loss import CROSS_ENTROPIES
from innerloop.parts.act import FORMS
from innerloop.parts.layers import NORMS
from innerloop.parts.mixers import BLOCKS
from innerloop.runs.run import Run
from innerloop.schema import describe_kind

__all__ = ["FITTED", "Field", "comments_of", "config_json", "fields_of"]

# Fields of a NetConfig that runs.fit.fit_config sets, whatever a recipe says.
FITTED = (
    "vocab",
    "seq",
    "rows",
    "puzzles",
    "separator",
    "end",
    "units",
    "orbits",
    "symbols",
    "local",
    "along",
    "views",
    "view_tokens",
)
RULES = ("full", "last_cycle", "last(2)", "phantom(5, 0.5)")  # examples of what grad.rule_named takes
CHOICES: dict[str, Callable[[], Sequence[str]]] = {  # of fields whose comments name no values
    "system": weights.names,
    "task": tasks.names,
    "block": lambda: list(BLOCKS),
    "norm": lambda: NORMS,
    "form": lambda: list(FORMS),
    "loss": lambda: list(CROSS_ENTROPIES),
    "dtype": lambda: ("bfloat16", "float32"),
    "grad": lambda: RULES,
}
OPTION = "an option of this task"


class Field(NamedTuple):
    path: str  # as --set writes it
    value: Any
    takes: str  # the values it may take
    meaning: str
    fitted: bool = False  # the puzzles decide it


def fields_of(run: Run) -> list[Field]:
    """Every field of a run, parts in the order of the dataclasses."""
    found = list(walk(run, ""))
    at = next(i for i, f in enumerate(found) if f.path == "data.options")
    return [*found[:at], *options_of(run), *found[at + 1 :]]


def walk(value: Any, prefix: str) -> Iterator[Field]:
    kind: Any = type(value)
    kinds, said = typing.get_type_hints(kind, include_extras=True), comments_of(kind)
    for f in dataclasses.fields(value):
        inner, path = getattr(value, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(inner):
            yield from walk(inner, f"{path}.")
            continue
        fitted = prefix == "config.net." and f.name in FITTED
        meaning = said.get(f.name, "")
        yield Field(path, inner, values_of(f.name, kinds[f.name], meaning), meaning, fitted)


def values_of(name: str, kind: Any, meaning: str) -> str:
    """The values a field may take: the names in its comment, or those registered for it, else its type and range."""
    bare = kind if not typing.get_args(kind) else typing.get_args(kind)[0]
    if bare is not str:
        return describe_kind(kind)
    named = list(dict.fromkeys(re.findall(r'"([\w(). ,]+)"', meaning)))
    choices = list(CHOICES[name]()) if name in CHOICES else []
    choices += [n for n in named if n not in choices] if name == "grad" or not choices else []
    return ", ".join(choices) if len(choices) > 1 else "text"


def options_of(run: Run) -> Iterator[Field]:
    """The options of the run's task, as the arguments of its class."""
    if not run.data.task:
        yield Field("data.options", run.data.options, "an object with named values", "options of the task")
        return
    kind = type(tasks.get(run.data.task, **run.data.options))
    hints = typing.get_type_hints(kind.__init__, include_extras=True)
    for name, parameter in inspect.signature(kind).parameters.items():
        default = None if parameter.default is parameter.empty else parameter.default
        value = run.data.options.get(name, default)
        yield Field(f"data.options.{name}", value, describe_kind(hints.get(name, Any)), OPTION)


@cache
def comments_of(kind: Any) -> dict[str, str]:
    """field -> the comment behind it in the source of a dataclass; {} where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    lines = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            # Of a value in parentheses the comment may stand on a line of its own, up to the closing one.
            said = [lines[n] for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n in lines]
            if said:
                found[node.target.id] = " ".join(said)
    return found


def config_json(run: Run) -> dict[str, Any]:
    """A run as a config file: runs.run.read_config takes it, and every verb that takes a recipe."""
    value = json.loads(json.dumps(dataclasses.asdict(run)))
    for name in FITTED:
        value["config"]["net"].pop(name, None)
    return value
