"""What there is: systems, tasks and recipes, read from their files without importing them, so that it is quick."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from innerloop.cli import VERBS, name_of

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"weights": "systems, loops in the weights", "tokens": "loops in the tokens", "harness": "loops in the harness"}


def list_() -> int:
    """Show every system, task and recipe with one line each.

    Example:  innerloop list
    """
    console = Console(highlight=False)
    for room, title in ROOMS.items():
        rows = [(path.stem, *_about(doc)) for path, doc in _modules(room) if doc]
        if rows:
            console.print(_table(f"{title} (innerloop/{room})", ("name", "what", "paper"), rows))
    console.print(_table("tasks (innerloop/tasks)", ("name", "what"), sorted(_tasks())))
    console.print(_table("recipes (innerloop train NAME)", ("name", "what", "system"), sorted(_recipes())))
    parts = [(path.stem, _first(doc)) for path, doc in _modules("parts") if doc]
    console.print(_table("parts (innerloop/parts)", ("file", "what"), parts))
    return 0


def overview() -> None:
    """The verbs with one line each: what `innerloop` alone prints."""
    console = Console(highlight=False)
    console.print("[bold]innerloop[/]: models that think in loops\n")
    grid = Table.grid(padding=(0, 3))
    for verb in VERBS:
        grid.add_row(f"  [bold cyan]{verb}[/]", about_verb(verb))
    console.print(grid)
    console.print("\n[bold]innerloop VERB --help[/] shows a verb's options and an example. First steps: innerloop demo")


def about_verb(verb: str) -> str:
    tree = _tree(ROOT / "cli" / f"{VERBS[verb]}.py")
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name_of(verb)]
    return _first(ast.get_docstring(found[0]) or "") if found else ""


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(
            column, style="cyan" if i == 0 else "dim" if i == 2 else "", no_wrap=i != 1, header_style="dim"
        )
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row()
    return table


def _modules(room: str) -> Iterator[tuple[Path, str]]:
    """(file, docstring) of every public module of a room."""
    for path in sorted((ROOT / room).glob("[a-z]*.py")):
        yield path, ast.get_docstring(_tree(path)) or ""


def _tasks() -> Iterator[tuple[str, str]]:
    """(name, first line) of the classes that a task file lists in its __all__ and gives a name."""
    for path in sorted((ROOT / "tasks").glob("[a-z]*.py")):
        tree = _tree(path)
        for node in tree.body:
            name = _constant(node, "name") if isinstance(node, ast.ClassDef) else None
            if name:
                yield name, _first(ast.get_docstring(tree) or "")


def _recipes() -> Iterator[tuple[str, str, str]]:
    """(name, about, system) of the functions callable without arguments that say they return a Run."""
    for path in sorted((ROOT / "recipes").glob("[a-z]*.py")):
        for node in _tree(path).body:
            returns = getattr(node, "returns", None)
            if isinstance(node, ast.FunctionDef) and isinstance(returns, ast.Name) and returns.id == "Run":
                if len(node.args.defaults) < len(node.args.args) or node.name.startswith("_"):
                    continue
                doc = _first(ast.get_docstring(node) or "")
                yield node.name, _keyword(node, "about") or doc, _system(node)


def _keyword(node: ast.AST, name: str) -> str:
    """The text given as `name=` anywhere inside, or ""."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.keyword) and inner.arg == name and isinstance(inner.value, ast.Constant):
            return str(inner.value.value)
    return ""


def _system(node: ast.AST) -> str:
    """The system of the Run(...) inside: its second argument."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and getattr(inner.func, "id", "") == "Run" and len(inner.args) > 1:
            return str(getattr(inner.args[1], "value", ""))
    return _keyword(node, "system")


def _constant(node: ast.ClassDef, name: str) -> str:
    for inner in node.body:
        if isinstance(inner, ast.Assign) and getattr(inner.targets[0], "id", "") == name:
            return str(getattr(inner.value, "value", ""))
    return ""


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _about(doc: str) -> tuple[str, str]:
    """(what, paper) of a system's first line: the paper stands at the right, after two spaces or more."""
    what, *paper = re.split(r"\s{2,}", doc.splitlines()[0], maxsplit=1)
    return what, paper[0] if paper else ""


def _first(doc: str) -> str:
    """The first sentence of a docstring, in one line."""
    lead = " ".join(doc.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", lead)[0].rstrip(".")
