"""`list`, and the overview of verbs: read from docstrings with ast, so that nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from innerloop import plugins
from innerloop.cli.verbs import VERBS, function_name

ROOT = Path(__file__).resolve().parents[1]
SYSTEM_FOLDERS = {
    "weights": "systems, loops in the weights",
    "tokens": "loops in the tokens",
    "harness": "loops in the harness",
}


def list_(markdown: bool = False) -> int:
    """Show every system, part, task and recipe with its paper.

    Example:  innerloop list

    Args:
        markdown: As the page docs/systems.md.
    """
    if markdown:
        print(page(), end="")
        return 0
    console = Console(emoji=False, highlight=False)
    for title, columns, rows in tables():
        console.print(_table(title, columns, rows))
    packages = [
        (name, kind, point.dist.name if point.dist else point.value)
        for kind in plugins.GROUPS
        for name, point in sorted(plugins.installed(kind).items())
    ]
    if packages:
        console.print(_table("from installed packages", ("name", "what", "package"), packages))
    return 0


def tables() -> Iterator[tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]]:
    """(title, columns, rows) of everything there is."""
    papers: dict[str, str] = {}
    for room, title in SYSTEM_FOLDERS.items():
        rows = [(path.stem, *_about(doc)) for path, doc in _modules(room) if doc]
        papers |= {name: paper for name, _, paper in rows}
        if rows:
            yield f"{title} (innerloop/{room})", ("name", "what", "paper"), rows
    parts = [(path.stem, _first(doc), _paper(path)) for path, doc in _modules("parts") if doc]
    yield "parts (innerloop/parts)", ("file", "what", "paper"), parts
    yield "tasks (innerloop/tasks)", ("name", "what", "paper"), sorted(_tasks())
    recipes = [(name, what, system, papers.get(system, "")) for name, what, system in sorted(_recipes())]
    yield "recipes (innerloop train NAME)", ("name", "what", "system", "paper"), recipes


def page() -> str:
    """docs/systems.md."""
    lines = ["# Systems, parts, tasks and recipes", "", "What `innerloop list` shows, as `--markdown` prints it."]
    for title, columns, rows in tables():
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        for name, what, *more in rows:
            cells = [f"`{name}`", what.replace("|", "/"), *map(_link, more)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _link(cell: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[\1](https://arxiv.org/abs/\1)", cell)


def _paper(path: Path) -> str:
    """The first paper that a file cites, or ""."""
    found = re.search(r"arXiv (\d{4}\.\d{4,5})", path.read_text(encoding="utf-8"))
    return found[0] if found else ""


def overview() -> None:
    """The verbs with one line each: what `innerloop` alone prints."""
    console = Console(emoji=False, highlight=False)
    console.print("[bold]innerloop[/]: models that think in loops\n")
    grid = Table.grid(padding=(0, 3))
    for verb in VERBS:
        grid.add_row(f"  [bold cyan]{verb}[/]", about_verb(verb))
    console.print(grid)
    console.print("\n[bold]innerloop VERB --help[/] shows a verb's options and an example. First steps: innerloop demo")


def about_verb(verb: str) -> str:
    tree = _tree(ROOT / "cli" / f"{VERBS[verb]}.py")
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function_name(verb)]
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


def _tasks() -> Iterator[tuple[str, str, str]]:
    """(name, first line, paper) of the classes that a task file lists in its __all__ and gives a name."""
    for path in sorted((ROOT / "tasks").glob("[a-z]*.py")):
        tree = _tree(path)
        for node in tree.body:
            name = _constant(node, "name") if isinstance(node, ast.ClassDef) else None
            if name:
                yield name, _first(ast.get_docstring(tree) or ""), _paper(path)


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
