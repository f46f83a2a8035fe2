"""Code from outside: files by name and hash, what they must hold, and what installed packages offer."""

import shutil
import sys
from pathlib import Path

import pytest

from innerloop import cli, plugins, recipes, tasks, weights
from innerloop.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RECIPE = """
from dataclasses import replace

from innerloop import Run, recipes

__all__ = ["mine"]


def mine() -> Run:
    run = recipes.get("grid")
    return replace(run, name="mine", data=replace(run.data, task="futoshiki.py"))
"""


def test_a_name_holds_the_file_and_the_hash_of_its_text(tmp_path):
    ran = tmp_path / "ran"
    file = tmp_path / "x.py"
    file.write_text(f"with open({str(ran)!r}, 'a') as file:\n    file.write('x')\n")
    name = plugins.use(file)
    assert plugins.parse(name).file == "x.py" and plugins.is_loaded(name) and plugins.name_of(name) == "x.py"
    assert plugins.use(file) == name and ran.read_text() == "x", "the same text is run once"
    file.write_text(file.read_text() + "\n")
    other = plugins.use(f"{file}:Member")
    assert other != name and plugins.parse(other).member == "Member"
    assert plugins.texts_of(other) == {file.name: file.read_text()}
    with pytest.raises(InputError, match="was changed since"):
        plugins.use(file, expected=plugins.parse(name).digest)
    assert plugins.parse("sudoku") is None and plugins.parse("../x.py@" + "0" * 16) is None
    with pytest.raises(InputError, match="was not loaded"):
        tasks.get("x.py@" + "0" * 16)
    assert plugins.is_file("a/x.py") and plugins.is_file("x.py:Kind") and not plugins.is_file(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_to_be_found", "install that package"),
        ("x = = 1", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", "has no task"),
        ("from innerloop.tasks.grid import Grid\nclass A(Grid): pass\nclass B(Grid): pass", "name one of A, B"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path, text, said):
    file = tmp_path / "x.py"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        tasks.get(plugins.use(file))
    assert len(str(error.value).splitlines()) == 1
    assert not any("innerloop_file" in name and "nowhere" in str(module) for name, module in sys.modules.items())


def test_one_of_several_is_named(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("from innerloop.tasks.grid import Grid\nclass A(Grid): name = 'a'\nclass B(Grid): name = 'b'")
    assert tasks.get(plugins.use(f"{file}:B")).name == "b"
    with pytest.raises(InputError, match='did you mean "B"'):
        tasks.get(plugins.use(f"{file}:BB"))


def test_a_recipe_in_a_file_may_name_files_beside_it(tmp_path):
    shutil.copy(EXAMPLES / "futoshiki.py", tmp_path)
    (tmp_path / "my_recipe.py").write_text(RECIPE)
    run = recipes.get(str(tmp_path / "my_recipe.py"))
    assert run.name == "mine" and tasks.get(run.data.task).name == "futoshiki"
    with pytest.raises(InputError, match="has no such recipe"):
        recipes.get(f"{tmp_path / 'my_recipe.py'}:other")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a task, a system, a recipe, and something that cannot be imported."""
    shutil.copy(EXAMPLES / "futoshiki.py", tmp_path / "pkg_futoshiki.py")
    shutil.copy(EXAMPLES / "my_loop.py", tmp_path / "pkg_loop.py")
    (tmp_path / "pkg_recipe.py").write_text(RECIPE.replace('"futoshiki.py"', '"futoshiki"'))
    info = tmp_path / "pkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[innerloop.tasks]\nfutoshiki = pkg_futoshiki:Futoshiki\nsudoku = pkg_futoshiki:Futoshiki\n"
        "broken = pkg_none:X\n"
        "[innerloop.systems]\nmy_loop = pkg_loop:MyLoop\n[innerloop.recipes]\nmine = pkg_recipe:mine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugins.installed.cache_clear()
    yield
    plugins.installed.cache_clear()


def test_an_installed_package_offers_tasks_systems_and_recipes(package, capsys):
    assert {"futoshiki", "sudoku"} <= set(tasks.names()) and "my_loop" in weights.names()
    assert tasks.get("futoshiki", size=4).shape == (7, 7)
    assert tasks.get("sudoku").box == (3, 3), "no package takes the place of the library's own"
    assert weights.get("my_loop")[0].__name__ == "MyLoop" and recipes.get("mine").data.task == "futoshiki"
    assert recipes.get("grid", task="futoshiki").data.task == "futoshiki"
    assert cli.main(["list"]) == 0 and "from installed packages" in capsys.readouterr().out
    with pytest.raises(InputError, match="pkg_none:X of the package"):
        tasks.get("broken")
    with pytest.raises(InputError, match='did you mean "futoshiki"'):
        tasks.get("futoshiky")
