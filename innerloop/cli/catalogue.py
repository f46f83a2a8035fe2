"""`list`, and the overview of verbs: read from docstrings and from headers of models, so that torch is not imported."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from innerloop import plugins
from innerloop.cli.verbs import VERBS, function_name
from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable

ROOT = Path(__file__).resolve().parents[1]
SYSTEM_FOLDERS = {
    "weights": "systems, loops in the weights",
    "harness": "loops in the harness",
}


LICENCE = "Apache-2.0"  # of the models that come along, as of the library
CARD_ROW = re.compile(r"^\| ([^|]+) \| [\d,]+ \|.*\| ([\d.]+%) \([^|]*\) \|$", re.M)  # of the results by difficulty


def list_(model: Annotated[str, tyro.conf.Positional] = "", markdown: bool = False) -> int:
    """Show every system, part, task and recipe with its paper, and the models that come along; or the card of one.

    Example:  innerloop list

    Example:  innerloop list demo-sudoku9

    Args:
        model: The name of a model that comes along, to print its card: data, results by difficulty, limits.
        markdown: As the page docs/systems.md.
    """
    if model:
        print(_card(model))
        return 0
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
    yield "ways to think, loops in the tokens (innerloop/tokens)", ("name", "what", "paper"), [*_ways()]
    parts = [(path.stem, _first(doc), _paper(path)) for path, doc in _modules("parts") if doc]
    yield "parts (innerloop/parts)", ("file", "what", "paper"), parts
    yield "tasks (innerloop/tasks)", ("name", "what", "paper"), sorted(_tasks())
    recipes = [(name, what, system, papers.get(system, "")) for name, what, system in sorted(_recipes())]
    yield "recipes (innerloop train NAME)", ("name", "what", "system", "paper"), recipes
    yield "models that come along (innerloop list NAME: the card)", ("name", "what", "licence"), [*_models()]


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


def _ways() -> Iterator[tuple[str, str, str]]:
    """(name, docstring, paper of the file whose class it makes) of the functions of tokens/ways.py that make a way."""
    tree = _tree(ROOT / "tokens" / "ways.py")
    homes = {
        alias.name: ROOT.parent / f"{str(node.module).replace('.', '/')}.py"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("innerloop.tokens.")
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "to":
            made = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
            home = next((homes[name] for name in sorted(made) if name in homes), None)
            yield node.name, ast.get_docstring(node) or "", _paper(home) if home else ""


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
        body = _tree(path).body
        known = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
        for node in body:
            returns = getattr(node, "returns", None)
            if isinstance(node, ast.FunctionDef) and isinstance(returns, ast.Name) and returns.id == "Run":
                if len(node.args.defaults) < len(node.args.args) or node.name.startswith("_"):
                    continue
                doc = _first(ast.get_docstring(node) or "")
                yield node.name, _keyword(node, "about") or doc, _system(node, known)


def _models() -> Iterator[tuple[str, str, str]]:
    """(name, what it is and solves, licence) of the models that come along."""
    for name, path in _bundled().items():
        texts = _header(path)
        card = texts["README.md"]
        about = json.loads(texts["run.json"])["run"]["about"]
        weights = re.search(r"^\| parameters \| ([\d,]+) \|", card, re.M)
        deepest = re.findall(r"solved at depth (\d+) \|", card)
        said = ", ".join(
            f"{'its own kind' if source.startswith('generated') else source.removesuffix('.csv')} {share}"
            for source, share in CARD_ROW.findall(card)
        )
        yield name, f"{about}; {weights[1] if weights else '?'} weights; at {deepest[-1]} steps: {said}", LICENCE


def _card(name: str) -> str:
    """The card of a model that comes along, and its licence. Raises InputError for an unknown name."""
    known = _bundled()
    if name not in known:
        raise InputError(f'no model called "{printable(name, 60)}" comes along: {did_you_mean(name, known)}')
    return f"{_header(known[name])['README.md']}\n## Licence\n\n{LICENCE}, as Innerloop itself."


def _bundled() -> dict[str, Path]:
    """The files of the models that come along, by name: as pretrained.names says, which imports torch."""
    return {path.stem: path for path in sorted((ROOT / "pretrained").glob("*.safetensors"))}


def _header(path: Path) -> dict[str, str]:
    """The texts in the header of a .safetensors file: 8 bytes of its length, then JSON."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    texts: dict[str, str] = header["__metadata__"]
    return texts


def _keyword(node: ast.AST, name: str) -> str:
    """The text given as `name=` anywhere inside, or ""."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.keyword) and inner.arg == name and isinstance(inner.value, ast.Constant):
            return str(inner.value.value)
    return ""


def _system(node: ast.AST, known: dict[str, ast.FunctionDef]) -> str:
    """The system of the Run(...) inside, its second argument; one that is replaced; else that of a recipe it calls."""
    calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    for call in calls:
        if getattr(call.func, "id", "") == "Run" and len(call.args) > 1:
            return str(getattr(call.args[1], "value", ""))
    if told := _keyword(node, "system"):
        return told
    others = {k: f for k, f in known.items() if f is not node}
    found = (_system(others[name], others) for call in calls if (name := getattr(call.func, "id", "")) in others)
    return next(filter(None, found), "")


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
