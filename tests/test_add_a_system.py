"""docs/add_a_system.md, followed to the letter in a copy of the package: one file, and everything knows the system."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the checkout with examples/my_loop.py among the systems."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("innerloop", "tests", "benchmarks", "pyproject.toml"):
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)
    shutil.copy(ROOT / "examples/my_loop.py", folder / "innerloop/weights/my_loop.py")
    return folder


IN_TURN = """
import json, os, runpy, sys
for name, *words in json.loads(sys.argv.pop()):
    print(end="\\0")
    sys.argv, sys.path[0] = [name, *words], os.path.dirname(name)
    try:
        (runpy.run_path if name.endswith(".py") else runpy.run_module)(name, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


def ask(copy, *commands):
    """What each of the modules and files prints, run as __main__ one after the other in one process."""
    env = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    words = [sys.executable, "-c", IN_TURN, json.dumps(commands)]
    done = subprocess.run(words, cwd=copy, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\0")[1:]


def test_it_takes_less_than_a_hundred_lines():
    assert len((ROOT / "examples/my_loop.py").read_text().splitlines()) < 100


def test_it_is_listed_with_its_first_line(copy):
    text, page = ask(copy, ["innerloop.cli", "list"], ["innerloop.cli", "list", "--markdown"])
    assert "my_loop" in text and "A loop of one's own" in text
    assert "| `my_loop` | A loop of one's own" in page


@pytest.mark.slow
def test_it_trains_in_the_family_is_compared_and_the_contract_runs_over_it(copy):
    changes = ["plan.steps=6", "plan.check_every=3", "data.count=32", "data.holdout=8"]
    train = ["innerloop.cli", "train", "family", "--system", "my_loop", "--task", "sudoku4", "--out", "runs/it"]
    small = ["--tasks", "sudoku4", "--seeds", "0", "--scale", "0.02", "--limit", "16", "--out", "family.json"]
    compare = ["benchmarks/family.py", "--systems", "trm", "my_loop", *small, "--threads", "1"]
    contract = ["pytest", "-q", "-p", "no:cacheprovider", "tests/weights/test_contract.py", "-k", "my_loop"]
    checked, trained, compared = ask(copy, contract, [*train, "--set", *changes], compare)
    assert "my_loop with" in trained and "sudoku4 my_loop seed 0" in compared
    assert checked.startswith("." * 9)  # eight checks, and the mutant of the freeze
