"""The house: imports point down, and the budgets that say no."""

import ast
import functools
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "innerloop"
FILES = sorted(p for p in PACKAGE.rglob("*.py"))

# Folders and single files of the package from the ground up: an import points down, or stays on its floor.
FLOORS = [
    {"budget", "errors", "files", "interval", "ledger", "memory", "plugins", "saved", "schema", "text", "tree"},
    {"core", "grad", "halt", "noise", "rows", "width"},
    {"parts", "lm"},
    {"tokens"},
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


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def room(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def floor(name):
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def imports(path):
    """(room, module) of every import of our own in a file."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "innerloop":
            parts = node.module.split(".")[1:]
            for name in [parts[0]] if parts else [alias.name for alias in node.names]:
                yield name, ".".join(parts)


def test_imports_point_down():
    for path in FILES:
        if path == PACKAGE / "__init__.py":
            continue
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
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module in names:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                arrows[name] |= {f if f in names else node.module for f in full} - {name}
    free = set()
    while ready := {n for n in names if n not in free and arrows[n] <= free}:
        free |= ready
    assert not (left := sorted(set(names) - free)), f"imports run in a circle among {left}"


def test_budgets():
    for path in [*FILES, *sorted((ROOT / "benchmarks").glob("*.py"))]:
        lines = len(path.read_text().splitlines())
        assert lines <= 400, f"{path} has {lines} lines: a file is one idea, of 400 at most"
        if PACKAGE not in path.parents:
            continue
        assert len(path.relative_to(PACKAGE).parts) <= 2, f"{path}: no folder deeper than two"
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= 60, f"{node.name} in {path} has {length} lines: 60 at most"
        if room(path) == "weights" and path.name != "__init__.py":
            assert lines <= 120, f"{path}: a system is about 100 lines, a few more with inference of its own"


def test_the_first_line_says_the_idea():
    for path in FILES:
        if path.read_text().strip():
            assert ast.get_docstring(parsed(path)), f"{path}: every file opens with what it is"


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
