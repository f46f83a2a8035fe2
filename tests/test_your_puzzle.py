"""docs/your_puzzle.md: its commands and its Python lead from a file to verified answers, as printed but in small."""

import contextlib
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
    assert ran == ["data", "data", "train", "eval", "calibrate", "solve", "worth"]
    said = capsys.readouterr().out
    assert "columns      id, puzzle (the question), solution (the answer)" in said
    assert "Neither rules nor an exact solver are known" in said
    assert (
        Path("answers.csv").read_text().startswith("id,puzzle,solution,answer,known,valid,confidence,steps,nfe,source")
    )
    found = {}
    with contextlib.redirect_stdout(None):
        exec(compile(re.findall(r"```python\n(.*?)```", PAGE, re.S)[0], "your_puzzle.md", "exec"), found)
    assert len(found["answers"]) == 20 and "no answer" not in found["answers"]
    right = {found["task"].decode(label) for label in found["test"].labels}
    assert set(found["answers"]) == right
