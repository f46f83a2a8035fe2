"""Several seeds and sweeps from the command line, and the page about them, command by command."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from innerloop import cli, tasks
from innerloop.cli import seeding
from innerloop.data.formats import write_csv
from innerloop.recipes import sudoku
from innerloop.runs.group import find_runs
from innerloop.runs.run import override

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compare_runs.md"
TINY = ["plan.steps=4", "plan.batch=4", "plan.check_every=2", "plan.save_every=2", "plan.compile=off"]
TINY += ["data.count=8", "data.holdout=8", "config.net.hidden_size=16"]
SEEDS = ["train", "sudoku4", "--device", "cpu", "--set", *TINY, "--seeds"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, jobs_in_this_process):
    monkeypatch.chdir(tmp_path)


def load(path):
    return json.loads(Path(path).read_text())


@pytest.mark.slow
def test_seeds_of_one_recipe(capsys, monkeypatch, jobs_in_this_process):
    assert cli.main([*SEEDS, "0,1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "sudoku4 2 " in said and "next: innerloop table runs/sudoku4" in said
    assert said.count("occur in the training set") + said.count("occurs in the training set") == 1
    assert [load(f"runs/sudoku4/seed{i}/run.json")["run"]["seed"] for i in (0, 1)] == [0, 1]
    ran = []
    monkeypatch.setattr(seeding, "run_jobs", lambda jobs, *rest: ran.extend(jobs) or jobs_in_this_process(jobs, *rest))
    assert cli.main([*SEEDS, "0,1,2"]) == 0 and [job.name for job in ran] == ["seed2"], "finished ones are left alone"
    assert cli.main(["train", "runs/sudoku4"]) == 0 and len(ran) == 1
    assert cli.main(["train", "runs/sudoku4/seed1"]) == 0  # each is a run like any other
    capsys.readouterr()
    assert cli.main(["train", "sudoku4", "--set", *TINY]) == 2 and "several runs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_seed_that_fails_loses_no_other(capsys):
    Path("runs/sudoku4").mkdir(parents=True)
    assert cli.main(["train", "sudoku4", "--out", "runs/sudoku4/seed1", "--set", *TINY, "plan.lr=0.1"]) == 0
    assert cli.main([*SEEDS, "0,1,2"]) == 1
    said = capsys.readouterr().out
    assert "seed1: failed with 2" in said and "holds another run" in said and "1 of 3 runs failed" in said
    assert load("runs/sudoku4/seed2/result.json")["steps"] == 4


@pytest.mark.parametrize(
    "words",
    [
        ["train", "sudoku4", "--seeds", "0,0"],
        ["train", "sudoku4", "--seeds", "-1"],
        ["train", "sudoku4", "--seeds", "0,1", "--set", "seed=3"],
        ["train", "sudoku4", "--seeds", "0,1", "--workers", "none"],
        ["train", "sudoku4", "--seeds", "0,1", "--data", "nowhere.csv"],
        ["train", "sudoku4", "--seeds", "0,1", "--device", "tpu"],
        ["train", "sudoko", "--seeds", "0,1"],
        ["sweep", "sudoku4", "--set", "plan.lr=1e-3"],
        ["sweep", "sudoku4", "--set", "plan.lr=1e-3,much"],
        ["sweep", "sudoku4", "--set", "plan.rate=1,2"],
        ["sweep", "sudoku4", "--set", "plan.lr=1e-3,2e-3", "--halving", "1"],
        ["sweep", "sudoku4", "--set", "plan.lr=1e-3,2e-3", "plan.check_every=300", "--halving", "2"],
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(words, capsys, monkeypatch):
    monkeypatch.setattr("innerloop.data.hub._reachable", lambda endpoint: False)
    assert cli.main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and not Path("runs").exists()


@pytest.mark.slow
def test_a_sweep_halves_by_validation_and_goes_on(capsys):
    words = ["sweep", "sudoku4", "--set", "plan.lr=1e-9,1e-2,1e-8", *TINY, "plan.steps=8", "--halving", "2"]
    assert cli.main(words) == 0
    found = load("runs/sweep-sudoku4/sweep.json")
    assert [len(rung) for rung in found["rungs"]] == [3, 2, 1] and found["changes"]["plan.lr"] == found["chosen"][3:]
    best = max(found["rungs"][0], key=lambda r: (r["exact"], r["second"]))
    assert best["variant"] in {r["variant"] for r in found["rungs"][1]}
    steps = sorted(load(f / "result.json")["steps"] for f in find_runs(Path("runs/sweep-sudoku4")))
    assert steps == [2, 4, 8], "those that fell out were not trained on"
    kept = load(f"runs/sweep-sudoku4/{found['chosen']}/seed0/result.json")
    assert cli.main(words) == 0
    again = load("runs/sweep-sudoku4/sweep.json")
    assert again["rungs"] == found["rungs"]
    assert load(f"runs/sweep-sudoku4/{found['chosen']}/seed0/result.json") == kept
    assert "chosen by validation" in capsys.readouterr().out


# -- the page ---------------------------------------------------------------------------------------------------------


def commands():
    fenced = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S))
    return [re.split(r"\s{2,}", line)[0] for line in fenced.splitlines() if line.startswith("innerloop")]


@pytest.mark.slow
def test_the_page_runs_as_printed(monkeypatch, capsys):
    """Every command in its order, on recipes made tiny; only what trains is shortened."""
    for name in ("sudoku6", "sudoku4"):
        whole = getattr(sudoku, name)()
        small = override(whole, [*TINY, "plan.save_every=4", "data.options.size=4", "data.options.givens=[4,8]"])
        function = lambda run=small: run  # noqa: E731
        function.__annotations__, function.__module__, function.__name__ = {"return": "Run"}, sudoku.__name__, name
        monkeypatch.setattr(sudoku, name, function)
    task = tasks.get("sudoku", size=4)
    Path("examples").mkdir()
    write_csv(Path("examples/sudoku6_test.csv"), task.make(8, 5), task)
    shutil.copy(PAGE.parents[1] / "examples/sudoku4.csv", "examples")
    for words in commands():
        capsys.readouterr()
        assert cli.main(shlex.split(words)[1:]) == 0, f"{words}: {capsys.readouterr().err}"
    python = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    for block in python:
        exec(compile(block, str(PAGE), "exec"), {})


def test_seeds_of_a_task_of_the_comparison_by_its_name(capsys):
    command = ["train", "family", "--system", "trm", "--task", "sudoku4", "--seeds", "0,1", "--out", "f", "--set"]
    assert cli.main([*command, "plan.steps=2", "plan.check_every=2", "data.count=8", "data.holdout=8"]) == 0
    assert "exact" in capsys.readouterr().out.splitlines()[-1] or Path("f/seed1/result.json").exists()
