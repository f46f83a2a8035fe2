"""The pages that are generated are what their commands print; what any text imports from here is there."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

from innerloop import recipes
from innerloop.cli.catalogue import _recipes, page

ROOT = Path(__file__).resolve().parents[1]


def test_list_names_the_system_that_a_recipe_trains():
    shown = {name: system for name, _, system in _recipes()}
    several = {"family", "chain"}  # which train any system, or a plain or a looped one
    trained = {name: recipes.get(name).system for name in recipes.all_recipes() if name not in several}
    assert shown == trained | dict.fromkeys(several, "")


def test_the_page_of_systems_is_what_list_shows():
    assert (ROOT / "docs" / "systems.md").read_text() == page(), "run: innerloop list --markdown > docs/systems.md"


# -- imports in texts -------------------------------------------------------------------------------------------------

IMPORT = re.compile(r"from (innerloop[\w.]*) import (?:\(([^)]*)\)|([^\n(]+))")
NAME = re.compile(r"\s*(\w+)(?:\s+as\s+\w+)?")
KINDS = (".py", ".md", ".toml", ".yml", ".html", ".js", "Makefile")


def tracked():
    """Files of the repository, as git lists them; of a copy without git, all that lie in its folders."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.split("\0") if name]
    return [
        p for folder in ("innerloop", "tests", "docs", "benchmarks", "examples") for p in (ROOT / folder).rglob("*")
    ]


def imported(text):
    """(module, name) of every import from here in a text, also in its strings and code blocks."""
    for module, several, one in IMPORT.findall(text):
        listed = re.sub(r"#.*", "", several) if several else re.split(r"[;`\"'\\\\]|  #", one)[0]
        for part in listed.split(","):
            if found := NAME.match(part):
                yield module, found[1]


def bound(statements):
    """Names that these statements of a module bind."""
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((a.asname or a.name).split(".")[0] for a in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For):
            yield from bound([*node.body, *getattr(node, "orelse", [])])
        else:
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


@cache
def offered(module):
    """Names that can be imported from a module, read off its source; None where there is no such module."""
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not source.is_file():
        return None
    inner = {p.stem for p in path.glob("*.py")} | {p.parent.name for p in path.glob("*/__init__.py")}
    body = ast.parse(source.read_text()).body
    lists = [n.value for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    return inner | set(bound(body)) | {name for listed in lists for name in ast.literal_eval(listed)}


def test_every_import_from_here_in_any_text_resolves():
    """In pages, strings of tests and benchmarks too, which nothing else runs."""
    seen, wrong = 0, []
    for path in tracked():
        if not path.name.endswith(KINDS) or not path.is_file():
            continue
        for module, name in imported(path.read_text()):
            seen += 1
            if offered(module) is None or name not in offered(module):
                wrong.append(f"{path.relative_to(ROOT)}: from {module} import {name}")
    assert not wrong, wrong
    assert seen > 1000 and "think" in offered("innerloop") and "open_run" not in offered("innerloop.runs.run")


def test_a_name_that_is_not_there_is_found():
    text = 'x = "from innerloop.core import (\n  think,  # a\n  thimk as t\n)"; `from innerloop.{} import a`'.format(
        "nowhere"
    )
    found = list(imported(text))
    assert found == [("innerloop.core", "think"), ("innerloop.core", "thimk"), ("innerloop.nowhere", "a")]
    assert "thimk" not in offered("innerloop.core") and offered("innerloop.nowhere") is None
