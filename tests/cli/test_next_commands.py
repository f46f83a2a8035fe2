"""The command that each verb prints to go on with, run as printed by a shell: paths with spaces, code of one's own."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from innerloop import cli, plugins
from innerloop.cli import seeding
from innerloop.export.hub import save_single
from innerloop.runs.code import Code
from innerloop.runs.folder import open_run
from innerloop.show.report import next_commands

ROOT = Path(__file__).resolve().parents[2]
HOME = "Anna's runs"
TINY = ["plan.steps=2", "plan.batch=4", "plan.check_every=2", "plan.save_every=1", "plan.compile=off"]
TINY += ["data.count=16", "data.holdout=8", "config.dtype=float32", "config.net.hidden_size=16"]
SEEN = re.compile(rf"(innerloop (?:{'|'.join(cli.VERBS)}) .*)")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder whose name has a space and an apostrophe, with puzzles, and a task that imports a file beside it."""
    pytest.importorskip("ortools")
    monkeypatch.chdir(tmp_path)
    folder = Path(HOME)
    folder.mkdir()
    for name in ("futoshiki.csv", "sudoku4.csv"):
        lines = (ROOT / "examples" / name).read_text().splitlines(keepends=True)
        (folder / f"my {name}").write_text("".join(lines[:31]))
    (folder / "faulty 4.csv").write_text("".join([*lines[:31], lines[1]]))
    task = (ROOT / "examples/futoshiki.py").read_text()
    (folder / "my task.py").write_text(task.replace("import numpy as np", "import beside\nimport numpy as np"))
    (folder / "beside.py").write_text("NOTHING = 0\n")
    torch.set_num_threads(1)
    return folder


@pytest.fixture
def run(short_verbs, jobs_in_this_process, monkeypatch):
    """run(words) is the exit code, in this process and as in a new one: what was loaded is forgotten.

    What several runs write to their logs is printed, since they print commands to go on with as well.
    """

    def and_print(jobs, *rest):
        codes = jobs_in_this_process(jobs, *rest)
        print("".join(job.log.read_text() for job in jobs))
        return codes

    monkeypatch.setattr(seeding, "run_jobs", and_print)

    def call(words):
        plugins._loaded.clear()
        return cli.main([str(word) for word in words])

    return call


@pytest.fixture
def shell(tmp_path):
    """shell(line) is the words that a program gets of a line that is typed."""
    program = tmp_path / "bin" / "innerloop"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf \'%s\\0\' "$@" > "$WORDS"\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "WORDS": str(tmp_path / "words")}

    def words(line):
        subprocess.run(["bash", "-c", line], env=env, check=True)
        return (tmp_path / "words").read_bytes().decode().split("\0")[:-1]

    return words


def made_small(words):
    """Where a command begins a training, it is tiny; few puzzles are judged."""
    if words[0] == "eval":
        return [*words, "--limit", "8"]
    begins = words[0] == "train" and not words[1].startswith(HOME)
    return [*words, "--set", *TINY] if begins and "--set" not in words else words


@pytest.fixture
def go_on(run, shell, capsys):
    """go_on(words, verbs, code=0): run a verb; what it prints to go on with are these verbs, and they run."""

    def call(words, verbs, code=0):
        capsys.readouterr()
        assert run(words) == code, capsys.readouterr().err
        said = capsys.readouterr()
        lines = SEEN.findall(said.out + said.err)
        assert [line.split()[1] for line in lines] == verbs, (lines, said)
        for line in lines:
            typed = shell(re.sub(r"\bFILE\b", f'"{HOME}/my futoshiki.csv"', line))
            assert run(made_small(typed)) == 0, f"{line}: {capsys.readouterr().err}"
        return lines

    return call


@pytest.mark.slow
def test_what_a_run_of_ones_own_code_prints_goes_on(home, go_on):
    """train, also cut short, with several seeds and in a sweep; eval of one and of several; show; config files."""
    own = ["--task", home / "my task.py", "--data", home / "my futoshiki.csv"]
    one, several, swept = home / "run 1", home / "two seeds", home / "a sweep"
    assert "--trust-code" in go_on(["train", "grid", *own, "--out", one, "--until", 1, "--set", *TINY], ["train"])[0]
    assert (one / "code/beside.py").exists()
    assert "--trust-code" in go_on(["train", one, "--trust-code"], ["eval"])[0]
    go_on(["eval", one, "--depth", 1, "--trust-code"], ["plot"])
    lines = go_on(
        ["train", "grid", *own, "--out", several, "--seeds", "0,1", "--set", *TINY], ["eval"] * 2 + ["table", "plot"]
    )
    assert [line.count("--trust-code") for line in lines] == [1, 1, 0, 0], "table and plot run no code"
    go_on(["eval", several, "--depth", 1, "--trust-code"], ["plot", "plot", "table"])
    words = ["sweep", "grid", *own, "--out", swept, "--set", "plan.lr=1e-3,2e-3", *TINY]
    assert "--trust-code" in go_on(words, ["eval"] * 3)[-1]
    go_on(["show", one, "--part", "plan", "--trust-code"], ["train"])
    go_on(["show", one, "--out", home / "of a run.json", "--trust-code"], ["train"])
    words = ["show", "grid", "--task", home / "my task.py", "--set", *TINY]
    assert "--data FILE" in go_on([*words, "--out", home / "own.json"], ["train"])[0]


@pytest.mark.slow
def test_what_other_verbs_print_goes_on(home, go_on):
    """data, of good files and of faulty ones; demo; show; import."""
    go_on(["data", home / "my sudoku4.csv"], ["train"])
    go_on(["data", home / "faulty 4.csv"], ["data"], 2)
    lines = go_on(["demo", "--out", home / "the demo", "--set", *TINY], ["solve", "solve", "serve"])
    assert "answers.csv" in lines[1]
    go_on(["show", "sudoku4", "--set", *TINY, "--out", home / "my.json"], ["train"])
    words = ["train", "family", "--system", "trm", "--task", "sudoku4", "--set", *TINY, "config.net.block=attention"]
    words += ["config.net.hidden_size=64", "config.net.heads=1", "config.net.multiple_of=256"]
    go_on([*words, "--out", home / "a trm"], ["eval"])
    go_on(["export", home / "a trm", "--out", home / "step_2"], [])
    go_on(["import", home / "step_2", "--out", home / "official"], ["eval"])


@pytest.mark.slow
def test_what_a_report_prints_goes_on(home, run, shell, capsys):
    """Of a run's folder, of a single file, and of a run of one's own code."""
    own = ["--task", home / "my task.py", "--data", home / "my futoshiki.csv"]
    assert run(["train", "grid", *own, "--out", home / "run 1", "--set", *TINY]) == 0
    assert run(["report", home / "run 1", "--trust-code"]) == 0
    page = (home / "run 1/report.html").read_text()
    commands = json.loads(re.search(r'"commands":(\{.*?\})', page)[1])
    opened = open_run(home / "run 1", code=Code(trust_code=True))
    save_single(opened, home / "single file.safetensors")
    single = next_commands(opened._replace(folder=home / "single file.safetensors"))
    shutil.copy(home / "my task.py", ".")
    shutil.copy(home / "beside.py", ".")
    assert list(commands) == list(single) and next_commands(opened) == commands
    for line in [*commands.values(), *single.values()]:
        limit = ["--limit", "8"] if line.startswith("innerloop study") else []
        assert run([*shell(line), *limit]) == 0, f"{line}: {capsys.readouterr().err}"
