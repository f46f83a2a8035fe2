"""docs/add_a_task.md, followed to the letter: every block of it, on puzzles by hand and on real ones where they are."""

import contextlib
import gzip
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop import cli, plugins, tasks
from innerloop.solve.exact import exact

pytest.importorskip("ortools", reason="OR-tools is not installed: pip install 'innerloop[solve]'")

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "add_a_task.md"
TINY = ["plan.steps=2", "plan.batch=4", "plan.compile=off", "plan.check_every=2", "config.net.hidden_size=8"]
FEW = 24  # puzzles of the example's 200
REAL = 20  # real puzzles of each family


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)


PYTHON = blocks("python")
TASKS = {re.search(r'name = "(\w+)"', block)[1]: block for block in PYTHON if "(Grid)" in block}
COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("innerloop")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the examples, and each task of the page as a file."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "examples", folder / "examples")
    puzzles = folder / "examples/futoshiki.csv"
    puzzles.write_text("".join(puzzles.read_text().splitlines(keepends=True)[: 1 + FEW]))
    for name, block in TASKS.items():
        (folder / f"{name}.py").write_text(block)
    torch.set_num_threads(1)
    return folder


# -- the tasks of the page --------------------------------------------------------------------------------------------


def board(cells, size, before=1, after=1):
    """The symbols of a board inside a border of "0"."""
    side = before + size + after
    found = np.full((side, side), "0")
    found[before : before + size, before : before + size] = np.array(list(cells)).reshape(size, size)
    return found


def skyscrapers(row):
    n = row["n"]
    found = board((str(v or ".") for v in row["givens"]), n)
    for side, clues in (
        ("top", found[0, 1:-1]),
        ("bottom", found[-1, 1:-1]),
        ("left", found[1:-1, 0]),
        ("right", found[1:-1, -1]),
    ):
        clues[:] = [str(v) for v in row[side]]
    answer = found.copy()
    answer[1:-1, 1:-1] = np.array(row["answer"]).reshape(n, n)
    return found, answer


def nonogram(row):
    n, runs = row["n"], 5
    found = board("." * n * n, n, runs, 0)
    for i in range(n):
        for clues, line in ((found[runs + i, :runs], row["rows"][i]), (found[:runs, runs + i], row["cols"][i])):
            lengths = ["0123456789A"[v] for v in line if v]
            clues[:] = ["0"] * (runs - len(lengths)) + lengths
    answer = found.copy()
    answer[runs:, runs:] = np.where(np.array(row["answer"]).reshape(n, n), "#", "-")
    return found, answer


def futoshiki(row):
    n, side = row["n"], 2 * row["n"] - 1
    found = np.full((side, side), "-")
    found[::2, ::2] = [
        ["." if v == 0 else str(v) for v in line] for line in np.array(row["givens"]).reshape(n, n).tolist()
    ]
    for large, small in row["greater"]:
        (r, c), (y, x) = divmod(large, n), divmod(small, n)
        found[r + y, c + x] = (">" if x > c else "<") if r == y else ("v" if y > r else "^")
    answer = found.copy()
    answer[::2, ::2] = np.array(row["answer"]).reshape(n, n)
    return found, answer


SMALL = {  # written by hand
    "futoshiki": ({"size": 2}, ".<.---.-.", "1<2---2-1", ".>.---.-."),
    "skyscrapers": ({"size": 2}, "02000..00..00000", "0200012002100000", "01000..00..00000"),
    "nonogram": ({"size": 2, "runs": 1}, "0122..1..", "0122##1-#", "0121..0.."),
}
REAL_FILES = {
    "futoshiki": ("futoshiki5", futoshiki),
    "skyscrapers": ("skyscrapers5", skyscrapers),
    "nonogram": ("nonogram10", nonogram),
}


def judged(task, question, answer):
    """The task's verdicts agree with the known answer, of which there is only one; a changed one is refused."""
    q, a = task.encode(question), task.encode(answer)
    assert task.valid_batch(q[None], a[None])[0] and np.array_equal(exact(task, q).answer, a)
    for cell in np.flatnonzero(q == task.blank)[:6]:
        other = a.copy()
        other[cell] = next(t for t in np.flatnonzero(task.fill) if t not in (0, task.blank, a[cell]))
        assert not task.valid_batch(q[None], other[None])[0]


@pytest.mark.parametrize("name", TASKS)
def test_each_task_of_the_page_judges_and_solves(name, home):
    options, question, answer, other = SMALL[name]
    task = tasks.get(plugins.use(home / f"{name}.py"), **options)
    judged(task, question, answer)
    changed = exact(task, task.encode(other)).answer
    assert changed is None or task.decode(changed) != answer, "the clues count"


@pytest.mark.parametrize("name", TASKS)
def test_each_task_of_the_page_on_real_puzzles(name, home, real_data):
    file, convert = REAL_FILES[name]
    with gzip.open(real_data / f"sgt_{file}_test.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(REAL), strict=False)]
    task = tasks.get(plugins.use(home / f"{name}.py"))
    for row in rows:
        judged(task, *("".join(cells.reshape(-1)) for cells in convert(row)))


def test_the_example_of_the_page_is_the_file():
    assert PYTHON[0] == (ROOT / "examples/futoshiki.py").read_text() and len(PYTHON[0].splitlines()) < 60
    rules = next(block for block in PYTHON if "def constrain(model, has, question: str)" in block)
    assert rules == (ROOT / "examples/my_rules.py").read_text()
    assert set(TASKS) == set(SMALL)
    groups = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
    assert set(groups) == set(plugins.GROUPS.values())


# -- its commands -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(home, capsys):
    """As printed, but for the size of the training; serve is left to its own tests."""
    with contextlib.chdir(home):
        for command in COMMANDS:
            words = shlex.split(command)[1:]
            if words[0] == "serve":
                continue
            more = ["--set", *TINY] if words[0] == "train" else []
            assert cli.main([*words, *more]) == 0, command
        said = capsys.readouterr()
        printed = re.findall(r"next: (innerloop .*)", said.out)
        assert [(line.split()[1], "--trust-code" in line) for line in printed] == [
            ("eval", True),
            *[("plot", False)] * 2,
        ]
        for line in printed:
            assert cli.main(shlex.split(line)[1:]) == 0, line
        assert cli.main(["train", "runs/futoshiki", "--task", "examples/futoshiki.py"]) == 0
        assert f"{FEW} of {FEW} answers are valid" in said.err
        assert (home / "runs/futoshiki/code/futoshiki.py").read_text() == PYTHON[0]
        for block in PYTHON:
            if block.startswith("import innerloop"):
                exec(compile(block, str(PAGE), "exec"), {})


def test_an_error_in_a_file_of_the_users_is_told_as_such(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("INNERLOOP_DEBUG", raising=False)
    (tmp_path / "r.py").write_text("def constrain(model, has, question):\n    return nothing\n")
    words = ["solve", "demo-sudoku4", "1...............", "--rules", str(tmp_path / "r.py"), "--depth", "1", "--quiet"]
    assert cli.main([*words, "--exact", "5", "--pick", "vote", "--width", "1", "--seconds", "5"]) in (0, 2)
    said = capsys.readouterr().err
    assert "r.py, line 2: NameError" in said and "mend that file" in said and "fault of innerloop" not in said


@pytest.mark.slow  # the run is that of the commands of the page
def test_without_the_users_word_no_code_of_a_run_is_executed(home, capsys, monkeypatch):
    """In a process that has not run it yet: the sentence says what to do, and every verb says it."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "run_texts", lambda *_: pytest.fail("code was run"))
    with contextlib.chdir(home):
        question = "examples/futoshiki.csv"
        verbs = {"eval": [], "study": [], "report": [], "calibrate": [], "train": [], "solve": [question]}
        verbs |= {"serve": ["--port", "0"], "export": ["--single", "x.safetensors"]}
        for verb, more in verbs.items():
            assert cli.main([verb, "runs/futoshiki", *more]) == 2, verb
            said = capsys.readouterr().err
            assert "not run without your word" in said and "--trust-code" in said and len(said.splitlines()) == 1
