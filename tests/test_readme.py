"""What the README and the docs say is run: every Python block, every cheap command; the other commands must parse."""

import contextlib
import functools
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from innerloop import cli, pretrained, tasks
from innerloop.data.formats import write_csv
from innerloop.export.hub import save_folder

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "log.md")]
RUN = ("list", "show", "check", "data", "worth", "eval", "solve", "table", "plot", "report")  # quick on a tiny run
TINY = ["plan.steps=2", "plan.batch=4", "plan.compile=off", "data.count=8", "data.holdout=4", "config.dtype=float32"]


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.S)


def commands(path):
    """Every line that begins with innerloop, in a fenced sh block or indented, without its remark."""
    fenced = "\n".join(blocks(path, "sh"))
    indented = "\n".join(re.findall(r"^    (innerloop .*)$", path.read_text(), re.M))
    lines = re.findall(r"^innerloop .*$", fenced + "\n" + indented, re.M)
    return [re.split(r"\s{2,}", line)[0] for line in lines]


README = [c for c in commands(PAGES[0]) if shlex.split(c)[1] in RUN]
ALL = [c for page in PAGES for c in commands(page) if "VERB" not in c]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder as the README imagines it: a run of two steps, one that has learned, two files, the examples."""
    folder = tmp_path_factory.mktemp("home")
    task = tasks.get("sudoku", size=4)
    for i, name in enumerate(("my_puzzles.csv", "my_test.csv")):
        write_csv(folder / name, task.make(8, i), task)
    torch.set_num_threads(1)
    with contextlib.chdir(folder):
        assert cli.main(["train", "sudoku4", "--out", "runs/demo", "--device", "cpu", "--set", *TINY]) == 0
        assert cli.main(["eval", "runs/demo", "--depth", "1,4"]) == 0
    shutil.copytree(folder / "runs/demo", folder / "runs/sudoku6/seed0")
    save_folder(pretrained.open("demo-sudoku4"), folder / "runs/mine")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


@pytest.mark.parametrize("command", README)
def test_readme_commands_run(command, home, monkeypatch):
    monkeypatch.chdir(home)
    assert cli.main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("command", ALL)
def test_commands_parse(command, monkeypatch):
    real = cli.load
    idle = lambda verb: functools.wraps(real(verb))(lambda *words, **named: 0)  # noqa: E731
    monkeypatch.setattr(cli, "load", idle)
    assert cli.main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("i", range(len(blocks(PAGES[0], "python"))))
def test_readme_python_runs(i, capsys):
    exec(compile(blocks(PAGES[0], "python")[i], "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_example_of_the_docs_is_the_file():
    assert blocks(ROOT / "docs/add_a_system.md", "python")[0] == (ROOT / "examples/my_loop.py").read_text()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http") and not target.endswith((".svg", ".png")):
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_readme_is_short():
    assert len(PAGES[0].read_text().splitlines()) <= 225  # 200 before the table by difficulty
