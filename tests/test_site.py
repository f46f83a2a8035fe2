"""The reference has every public name, and the pages lead somewhere, on a host of repositories as in the site."""

import ast
import importlib
import importlib.util
import re
import types
from pathlib import Path

import pytest

import innerloop

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DIRECTIVE = re.compile(r"^::: (\S+)$", re.M)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def load(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolved(path):
    """What a dotted path leads to. Raises AttributeError or ImportError where it leads nowhere."""
    if importlib.util.find_spec(path.rpartition(".")[0] or path) is None:
        raise ImportError(path)
    try:
        return importlib.import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def directives():
    return [found for page in PAGES for found in DIRECTIVE.findall(page.read_text())]


# -- the reference -----------------------------------------------------------------------------------------------------


def test_every_public_name_stands_in_the_reference():
    public = {*innerloop.__all__, *(name for name in dir(innerloop) if not name.startswith("_"))}
    found = directives()
    assert sorted(found) == sorted(set(found)), "a name stands there twice"
    assert not (missing := {f"innerloop.{name}" for name in public} - set(found)), missing
    index = (ROOT / "docs/reference/index.md").read_text()
    for name, page, anchor in re.findall(r"\[(\w+)\]\((\w+\.md)#innerloop\.(\w+)\)", index):
        assert name == anchor and f"::: innerloop.{name}\n" in (ROOT / "docs/reference" / page).read_text() + "\n"
        public.discard(name)
    assert not public, "the table of the first page lacks these"


@pytest.mark.parametrize("path", directives())
def test_every_directive_resolves(path):
    found = resolved(path)
    assert isinstance(found, types.ModuleType) or found.__doc__, f"{path} has no docstring to show"


def test_a_directive_that_leads_nowhere_is_found():
    for path in ("innerloop.thimk", "innerloop.core.thimk", "innerloop.nowhere.think"):
        with pytest.raises((AttributeError, ImportError)):
            resolved(path)


def test_what_the_pages_import_stands_in_the_reference():
    shown = directives()
    objects = {id(resolved(path)) for path in shown}
    whole = {path for path in shown if isinstance(resolved(path), types.ModuleType)}
    seen = 0
    for page in [ROOT / "README.md", *PAGES]:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
            if "from innerloop" not in block:
                continue
            for node in ast.walk(ast.parse(block)):
                if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("innerloop"):
                    continue
                for path in (f"{node.module}.{alias.name}" for alias in node.names):
                    seen += 1
                    found = resolved(path)
                    below = isinstance(found, types.ModuleType) and any(s.startswith(f"{path}.") for s in shown)
                    special = path == "innerloop.export.hub.Pretrained"  # made by hub_class, which is shown
                    assert id(found) in objects or node.module in whole or below or special, f"{page.name}: {path}"
    assert seen > 20


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_pictures_are_files_of_the_repository(page):
    """As the host of a repository shows them; the site is checked where it is built."""
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_stands_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    listed = re.findall(r": (\S+\.md)$", nav, re.M)
    assert len(listed) == len(set(listed))
    own = load("site_pages").OWN
    assert set(listed) == {str(p.relative_to(ROOT / "docs")) for p in PAGES} | set(own)
    assert all((ROOT / path).is_file() for path in own.values())


def test_links_lead_to_the_page_of_a_file():
    site = load("site_pages")
    for page, given, wanted in (
        ("index.md", "docs/idea.md", "idea.md"),
        ("index.md", "docs/results.md#solving", "results.md#solving"),
        ("index.md", "docs/demo.svg", "demo.svg"),
        ("index.md", "#cite", "#cite"),
        ("serving.md", "../examples/ray_serve.py", "files/examples/ray_serve.py.md"),
        ("start.md", "../examples/tour.ipynb", "tour.md"),
        ("reference/core.md", "../idea.md", "../idea.md"),
        ("tour.md", "../docs/study.md", "study.md"),
        ("idea.md", "https://arxiv.org/abs/1", "https://arxiv.org/abs/1"),
        ("idea.md", "nowhere.md", "nowhere.md"),  # mkdocs says so
        ("idea.md", "../../etc/passwd", "../../etc/passwd"),
    ):
        assert site.rewritten(page, f"a [b]({given}) c") == f"a [b]({wanted}) c"
    assert site.linked_files({"share.md": "[x](../examples/solve_onnx.py) [y](start.md) [z](../README.md)"}) == {
        "examples/solve_onnx.py"
    }
    assert site.fenced("a ``` b", "text") == "````text\na ``` b\n````"


# -- docstrings --------------------------------------------------------------------------------------------------------


def test_a_docstring_becomes_text_that_reads_well():
    pytest.importorskip("griffe", reason="the reference needs innerloop[docs]")
    site = load("site_docstrings")
    told = """What it does, `a_b` times; x * y * z < 3.

    with counting() as cost:
        print(cost)

halt, grad  called as halt(loop)
            and so on
a + b   added
Raises InputError for (arXiv 2510.04871).
  two more
    indented
    here"""
    assert site.markdown(told) == "\n\n".join(
        (
            "What it does, `a_b` times; x \\* y \\* z &lt; 3.",
            "```text\nwith counting() as cost:\n    print(cost)\n```",
            "`halt, grad`\n:   called as halt(loop) and so on",
            "`a + b`\n:   added",
            "Raises InputError for ([arXiv 2510.04871](https://arxiv.org/abs/2510.04871)).\ntwo more",
            "```text\nindented\nhere\n```",
        )
    )
    told = ['    name: str = "#1"  # what it is,', "    #   and more  # noqa: RUF012"]
    assert site.remark(told) == "what it is, and more"
    assert site.remark(["    x: int = 3", '    y = "a # b"']) == ""


@pytest.fixture(scope="module")
def package():
    """The package as the reference reads it."""
    griffe = pytest.importorskip("griffe", reason="the reference needs innerloop[docs]")
    extensions = griffe.load_extensions(load("site_docstrings").PlainDocstrings)
    return griffe.load("innerloop", search_paths=[ROOT], extensions=extensions)


def test_a_remark_behind_a_field_is_its_docstring(package):
    told = {
        "solve.options.Budget.seconds": "of the whole call",
        "core.Question.puzzle": "(B,) int: puzzle identifier, 0 = none",
        "core.Loop.init": "question -> first state",
        "data.protocols.Examples.rating": "(N,) difficulty, nan = unknown",
    }
    for path, meaning in told.items():
        assert package[path].docstring.value == meaning
    guess = package["solve.options.SolveOptions.guess"].docstring.value
    assert guess.startswith("each after the first") and guess.endswith("there is no noise")
    assert package["core.repeat"].docstring.value == "Apply `f` to `s` `times` times."
    assert package["core.think"].docstring.value.count("\n:   ") == 4


def test_builtins_in_annotations_are_not_names_of_the_package(package):
    names = [e for e in package["learn.evaluate.evaluate"].returns.iterate(flat=True) if hasattr(e, "canonical_path")]
    assert [name.canonical_path for name in names] == ["list", "innerloop.learn.evaluate.Row"]
