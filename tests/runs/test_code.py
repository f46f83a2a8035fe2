"""Code of a run is kept beside it, run with the user's word alone, and never from a single file, a hub or a reload."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

import innerloop
from innerloop import cli, plugins, recipes, tasks, weights
from innerloop.cli.choosing import Source, choose_run
from innerloop.cli.inputs import Code
from innerloop.cli.serving import Opener
from innerloop.data.formats import write_csv
from innerloop.errors import InputError
from innerloop.export.hub import Pretrained, save_single
from innerloop.learn.checkpoint import MODEL
from innerloop.runs.fit import build
from innerloop.runs.folder import open_run, write_run
from innerloop.runs.run import Data, override, to_json
from innerloop.runs.single import open_single
from innerloop.tasks.grid import Grid

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TASK = EXAMPLES / "futoshiki.py"
TINY = ["config.net.hidden_size=8", "config.dtype=float32", "data.count=8", "data.holdout=4"]


def written(folder, run):
    """The folder of a run with fresh weights."""
    built = build(run)
    write_run(folder, built.run, built)
    save_file(built.loop.state_dict(), folder / MODEL)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a task of one's own and the library's system."""
    run = recipes.get("grid", task=plugins.use(TASK))
    run = replace(run, data=replace(run.data, train=str(EXAMPLES / "futoshiki.csv")))
    return written(tmp_path_factory.mktemp("runs") / "own", override(run, TINY))


@pytest.fixture(scope="module")
def looped(tmp_path_factory):
    """A run of a system of one's own and the library's task."""
    run, system = recipes.get("sudoku4"), plugins.use(EXAMPLES / "my_loop.py")
    net = replace(run.config.net, block="attention", heads=1)
    run = replace(run, system=system, config=weights.get(system)[1](net), data=Data("sudoku", {"size": 4}))
    return written(tmp_path_factory.mktemp("runs") / "loop", override(run, TINY))


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has run no code yet."""
    monkeypatch.setattr(plugins, "_loaded", {})


def test_a_folder_keeps_its_code_and_runs_it_with_the_users_word(trained, looped, fresh):
    for folder, kind, file in ((trained, "task", TASK), (looped, "system", EXAMPLES / "my_loop.py")):
        assert (folder / "code" / file.name).read_text() == file.read_text()
        with pytest.raises(InputError, match=f"its {kind} is code of its own, .*{file.name}, which is not") as error:
            innerloop.open_run(folder)
        assert "trust_code=True" in str(error.value) and len(str(error.value).splitlines()) == 1
        assert not plugins._loaded
        opened = innerloop.open_run(folder, trust_code=True)
        plugins._loaded.clear()
        again = innerloop.open_run(folder, **{kind: file})
        assert to_json(opened.run) == to_json(again.run) and opened.task.shape == again.task.shape
        plugins._loaded.clear()


def test_code_that_was_changed_is_not_run(trained, tmp_path, fresh):
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "code/futoshiki.py").write_text("raise SystemExit('run')")
    with pytest.raises(InputError, match="was changed since the run was trained"):
        innerloop.open_run(folder, trust_code=True)
    (folder / "code/futoshiki.py").unlink()
    with pytest.raises(InputError, match=r"not kept here: give that file, --task futoshiki.py"):
        innerloop.open_run(folder, trust_code=True)


def test_files_beside_it_that_a_file_imports_are_kept_and_hashed_with_it(tmp_path, fresh):
    """Also those that these import, inside of functions too; a package of the same name elsewhere is not taken."""
    home = tmp_path / "of mine"
    home.mkdir()
    text = "from signs import NUMBERS\n" + TASK.read_text()
    (home / "my_task.py").write_text(text + "\n\nclass Mine(Futoshiki):\n    name = NUMBERS\n\n\n__all__ = ['Mine']\n")
    (home / "signs.py").write_text(
        "def numbers():\n    import deep\n\n    return deep.NUMBERS\n\nNUMBERS = numbers()\n"
    )
    (home / "deep.py").write_text("import my_task\n\nNUMBERS = 'one to five'\n")
    (home / "other.py").write_text("raise SystemExit('not imported by it')\n")
    run = recipes.get("grid", task=plugins.use(home / "my_task.py"))
    run = replace(run, data=replace(run.data, train=str(EXAMPLES / "futoshiki.csv")))
    folder = written(tmp_path / "run", override(run, TINY))
    assert sorted(p.name for p in (folder / "code").iterdir()) == ["deep.py", "my_task.py", "signs.py"]
    assert "deep" not in sys.modules and "signs" not in sys.modules
    shutil.rmtree(home)
    plugins._loaded.clear()
    with pytest.raises(InputError, match="read it and what it imports from beside it, then add --trust-code"):
        innerloop.open_run(folder)
    assert innerloop.open_run(folder, trust_code=True).task.name == "one to five"
    plugins._loaded.clear()
    (folder / "code/deep.py").write_text("NUMBERS = 'changed'\n")
    with pytest.raises(InputError, match="was changed since the run was trained"):
        innerloop.open_run(folder, trust_code=True)
    (folder / "code/deep.py").unlink()
    with pytest.raises(InputError, match="was changed since the run was trained"):
        innerloop.open_run(folder, trust_code=True)


def test_nothing_is_run_from_a_single_file_or_a_hub(trained, tmp_path, fresh):
    single = tmp_path / "own.safetensors"
    save_single(innerloop.open_run(trained, task=TASK), single)
    plugins._loaded.clear()
    for code in (Code(), Code(trust_code=True)):
        with pytest.raises(InputError, match="is not kept here: give that file"):
            open_single(single, "cpu", code)
    assert innerloop.open_run(single, task=TASK).task.name == "futoshiki"
    plugins._loaded.clear()
    with pytest.raises(InputError, match="not run without your word"):
        Pretrained.from_pretrained(str(trained))
    assert not plugins._loaded


def test_a_server_runs_what_it_was_given_when_it_began_and_no_more(trained, tmp_path, fresh):
    folder = shutil.copytree(trained, tmp_path / "run")
    opener = Opener((str(folder),), "cpu", Code(trust_code=True), "")
    assert opener(str(folder)).task.verifies
    opener.trust_no_more()
    assert opener(str(folder)).task.verifies, "the same code is loaded already"
    changed = (folder / "code/futoshiki.py").read_text() + "\n"
    (folder / "code/futoshiki.py").write_text(changed)
    old = json.loads((folder / "run.json").read_text())["run"]["data"]["task"]
    new = "futoshiki.py@" + plugins.hashlib.sha256(changed.encode()).hexdigest()[:16]
    (folder / "run.json").write_text((folder / "run.json").read_text().replace(old, new))
    with pytest.raises(InputError, match="not run without your word"):
        opener(str(folder))
    with pytest.raises(InputError, match="are of one run"):
        Opener(("a", "b"), "cpu", Code(task=str(TASK)), "")


def test_a_file_may_stand_in_for_a_grid_of_the_same_alphabet_only(tmp_path):
    """Tokens of another order would be another puzzle, and nothing would say so."""
    grid = Grid("ab.", (2, 2), ".")
    labels = grid.encode_many(["abba", "baab", "aabb", "bbaa"])
    write_csv(tmp_path / "p.csv", grid.as_set(grid.encode_many(["a...", "b...", "aa..", "bb.."]), labels), grid)
    run = recipes.get("grid")
    run = override(replace(run, data=Data("", {}, train=str(tmp_path / "p.csv"), count=0, holdout=1)), TINY[:2])
    folder = written(tmp_path / "run", run)
    text = "from innerloop.tasks.grid import Grid\nclass Mine(Grid):\n    name = 'mine'\n    def __init__(self):\n"
    (tmp_path / "mine.py").write_text(text + "        super().__init__('ab.', (2, 2), '.')")
    with pytest.raises(InputError, match=r'learned the alphabet "\.ab" and the task has "ab\."'):
        open_run(folder, "cpu", Code(task=str(tmp_path / "mine.py")))
    (tmp_path / "mine.py").write_text(text + "        super().__init__('.ab', (2, 2), '.')")
    assert open_run(folder, "cpu", Code(task=str(tmp_path / "mine.py"))).task.name == "mine"


def test_what_train_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(TASK, tmp_path)
    recipe = "from dataclasses import replace\nfrom innerloop import Run, recipes\n\ndef mine() -> Run:\n"
    recipe += "    run = recipes.get('grid')\n    return replace(run, name='mine')\n"
    Path("my_recipe.py").write_text(recipe)
    run, folder, _ = choose_run("./my_recipe.py", Source("p.csv", task="./futoshiki.py"), "", ())
    assert folder == Path("runs/mine") and tasks.get(run.data.task).name == "futoshiki" and run.data.train == "p.csv"
    with pytest.raises(InputError, match="takes no task"):
        choose_run("sudoku4", Source(task="maze11"), "", ())
    with pytest.raises(InputError, match="there is no file"):
        choose_run("sudoku4", Source(task="./nowhere.py"), "", ())


def test_tables_and_figures_run_no_code(trained, looped, tmp_path, fresh, capsys, monkeypatch):
    """All that they print lies in JSON files; seeds of a system of one's own are one row."""
    monkeypatch.setattr(plugins, "run_texts", lambda *_: pytest.fail("code was run"))
    for name, source in (("task", trained), ("system", looped)):
        for seed in (0, 1):
            folder = shutil.copytree(source, tmp_path / name / f"seed{seed}")
            known = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps(known | {"run": known["run"] | {"seed": seed}}))
            best = {"step": 1, "exact": 0.25 + seed / 2, "valid": None}
            (folder / "result.json").write_text(json.dumps({"steps": 2, "seconds": 1.0, "stopped": "", "best": best}))
            (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "valid/exact@4": 0.5}) + "\n")
    assert cli.main(["table", str(tmp_path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows[1:3]] == [["system", "2"], ["task", "2"]] and "50.0 ± 35.4 %" in rows[1]
    assert cli.main(["plot", str(tmp_path / "system")]) == 0 and (tmp_path / "system/figures/learning.png").exists()
