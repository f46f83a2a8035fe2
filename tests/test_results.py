"""Numbers have birth certificates, and the page of results is the one the files say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "results").glob("*.json"))
CERTIFICATE = {"command", "commit", "seeds", "innerloop", "torch", "python", "device", "threads"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_result_says_where_it_comes_from(path):
    value = json.loads(path.read_text())
    assert value["born"].keys() >= CERTIFICATE and value["born"]["commit"] and value["born"]["command"]
    assert "/work" not in path.read_text() and "/tmp" not in path.read_text()
    assert value.get("rows") or value["runs"]
    for row in value.get("rows", []):
        if "exact" in row and "puzzles" in row:
            assert row["puzzles"] > 0 and row["low"] - 1e-9 <= row["exact"] <= row["high"] + 1e-9


def test_the_page_of_results_is_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "table.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
