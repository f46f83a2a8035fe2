"""docs/your_puzzle.md: its commands and its Python lead from a file to verified answers, as printed but in small."""

import contextlib
import csv
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from innerloop import cli

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "your_puzzle.md").read_text()
TINY = ["plan.steps=2", "plan.batch=4", "plan.compile=off", "config.dtype=float32", "config.net.hidden_size=16"]
OTHER_FILES = ("FILE.csv", "demo-sudoku4")  # the reader's own; a model that is measured elsewhere


@pytest.mark.slow
def test_the_page_leads_from_a_file_to_verified_answers(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ortools")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S)).splitlines()
    ran = []
    for line in [line for line in lines if line and not any(name in line.split() for name in OTHER_FILES)]:
        program, *words = shlex.split(line)
        if program == "python":  # as printed, but of 100 puzzles
            monkeypatch.setattr(sys, "argv", [words[0], "100", *words[2:]])
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
            continue
        words += ["--set", *TINY] if words[0] == "train" else ["--limit", "20"] if words[0] == "eval" else []
        assert cli.main(words) == 0, line
        ran.append(words[0])
    assert ran == ["data", "data", "train", "eval", "calibrate", "solve", "solve", "worth"]
    said = capsys.readouterr().out
    assert "columns      id, puzzle (the question), solution (the answer)" in said
    assert "CP-SAT" in said.splitlines()[-1]
    assert (
        Path("answers.csv").read_text().startswith("id,puzzle,solution,answer,known,valid,confidence,steps,nfe,source")
    )
    with open("verified.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 and all(row["valid"] == "yes" and row["answer"] == row["solution"] for row in rows), rows[0]
    found = {}
    code, python = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert code == (ROOT / "examples/rules/futoshiki.py").read_text()
    with contextlib.redirect_stdout(None):
        exec(compile(python, "your_puzzle.md", "exec"), found)
    answers = [found["solver"].task.decode(s.answer) for s in found["found"] if s.known]
    assert answers == [found["solver"].task.decode(label) for label in found["test"].labels] and len(answers) == 20
