"""The house: imports point down, and the budgets that say no."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "innerloop"
FILES = sorted(p for p in PACKAGE.rglob("*.py"))

# Folders and single files of the package from the ground up: an import points down, or stays on its floor.
FLOORS = [
    {"errors", "files", "interval", "ledger", "memory", "plugins", "saved", "schema", "text", "tree"},
    {"core", "grad", "halt", "noise", "rows", "width"},
    {"parts"},
    {"rules"},
    {"data", "tasks", "weights", "web"},
    {"learn"},
    {"solve"},
    {"study"},
    {"show"},
    {"runs"},
    {"recipes"},
    {"export"},
    {"pretrained"},
    {"registry"},
    {"serve"},
    {"cli"},
]
NEVER = [("tasks", "weights"), ("weights", "tasks"), ("weights", "data"), ("data", "weights"), ("web", "tasks")]
NEVER += [(room, "weights") for room in ("learn", "solve", "study", "show")]
RUNTIME = {"torch", "numpy", "tyro", "rich", "safetensors"}


def room(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def floor(name):
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def imports(path):
    """(room, module) of every import of our own in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "innerloop":
            parts = node.module.split(".")[1:]
            for name in [parts[0]] if parts else [alias.name for alias in node.names]:
                yield name, ".".join(parts)


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE or p.name != "__init__.py"], ids=str)
def test_imports_point_down(path):
    here = room(path)
    for there, module in imports(path):
        assert floor(there) <= floor(here), f"{path.name} in {here} imports {there}, which lies above it"
        assert (here, there) not in NEVER, f"{here} never imports {there}: {path.name}"
        if here == there == "weights":
            raise AssertionError(f"{path.name} imports its sibling system {module}")


def test_no_file_imports_in_a_circle():
    """Not through any number of other files, and not only for types: such a pair is one idea in two places."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
    arrows = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module in names:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                arrows[name] |= {f if f in names else node.module for f in full} - {name}
    free = set()
    while ready := {n for n in names if n not in free and arrows[n] <= free}:
        free |= ready
    assert not (left := sorted(set(names) - free)), f"imports run in a circle among {left}"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "benchmarks").glob("*.py"))], ids=str)
def test_budgets(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "a file is one idea: 400 lines at most"
    assert PACKAGE not in path.parents or len(path.relative_to(PACKAGE).parts) <= 2, "no folder deeper than two"
    for node in ast.walk(ast.parse(text)) if PACKAGE in path.parents else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines: 60 at most"
    if PACKAGE in path.parents and room(path) == "weights" and path.name != "__init__.py":
        assert len(text.splitlines()) <= 120, "a system is about 100 lines, a few more with inference of its own"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_first_line_says_the_idea(path):
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "every file opens with what it is"


def test_truncation_is_declared_in_one_place():
    """Nobody but the gradient rules writes no_grad around a loop; elsewhere it guards updates and whole evaluations."""
    for path in FILES:
        if room(path) in ("core", "parts", "weights", "width"):
            assert "torch.no_grad" not in path.read_text(), f"{path.name}: leave truncation to innerloop.grad"


def test_runtime_dependencies():
    names = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[<>=!~ ]", n)[0] for n in names} == RUNTIME


def test_the_ground_floor_needs_torch_alone():
    allowed = {"torch", "innerloop", "__future__", "collections", "itertools", "typing", "math", "re", "dataclasses"}
    allowed |= {"concurrent", "threading"}  # core.think_many has workers
    for name in ("core", "halt", "grad", "noise", "tree", "width", "errors"):
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
            found = []
            if isinstance(node, ast.Import):
                found = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module]
            assert {f.split(".")[0] for f in found} <= allowed


def test_weights_are_never_unpickled_as_code():
    for path in FILES:
        for call in re.findall(r"torch\.load\((.*)", path.read_text()):
            assert "weights_only=True" in call, path.name
        assert not re.search(r"^\s*(import|from) pickle", path.read_text(), re.M)
