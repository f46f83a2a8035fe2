"""`check`: run the contract tests on a user's own loop."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

from innerloop import plugins, weights
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.text import markup

# The size of a 4x4 Sudoku: every loop that takes a NetConfig is checked at this one.
SMALL_CONFIG = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, multiple_of=32, prefix=1, puzzle_emb_size=32
)


def check(file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py")]) -> int:
    """Hold your own loop against the contract: shapes, gradients, seeds, batches, what is taped.

    Example:  innerloop check examples/my_loop.py

    The file lists a class with init, step and read in its `__all__`. The class is made from `Config()` of the same
    file where there is one (a field `net` becomes a 4x4 Sudoku's), else without arguments; it is asked (B, 16) tokens
    below 6.

    Args:
        file: Python file with the loop.
    """
    kind, config = load_loop(Path(file))
    subject = Subject(kind.__name__, lambda: kind() if config is None else kind(config), sample_question())
    console, failed = Console(emoji=False, highlight=False), 0
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    for name, test in CHECKS.items():
        sentence = " ".join((inspect.getdoc(test) or "").split())
        try:
            test(subject)
            table.add_row("[green]pass[/]", name, f"[dim]{markup(sentence)}[/]")
        except AssertionError as error:
            failed += 1
            table.add_row("[bold red]fail[/]", name, markup(error))
        except Exception as error:
            failed += 1
            table.add_row("[bold red]fail[/]", name, markup(f"{type(error).__name__}: {error}"))
    console.print(f"[bold]{kind.__name__}[/] of {markup(file)}")
    console.print(table)
    console.print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks pass")
    return 1 if failed else 0


def load_loop(path: Path) -> tuple[type[nn.Module], Any]:
    """(the loop's class, its Config made small or None) of a file. Raises InputError where it has none."""
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the Python file of a loop")
    kind, config = weights.in_file(plugins.module_of(plugins.use(path)), str(path))
    return kind, small_config(config) if dataclasses.is_dataclass(config) else None


def small_config(config: Any) -> Any:
    """The smallest form of a Config: a 4x4 Sudoku's size, float32 states, as many layers as the size says."""
    fields = {f.name for f in dataclasses.fields(config)}
    given: dict[str, Any] = {"net": SMALL_CONFIG} if "net" in fields else {}
    if "dtype" in fields:
        given["dtype"] = "float32"
    return config(**given)
