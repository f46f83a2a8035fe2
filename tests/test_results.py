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


def test_every_row_of_the_ladder_says_where_it_comes_from():
    text = (ROOT / "results" / "ladder.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert "/work" not in text and "/tmp" not in text
    assert all(r["born"].keys() >= CERTIFICATE and r["born"]["seeds"] == [r["seed"]] for r in rows)
    assert all(r["commit"] and not r["commit"].endswith("+") and not r["stopped"] for r in rows)
    cells = [(r["rung"], r["factor"], r["seed"], r["share"]) for r in rows]
    assert len(cells) == len(set(cells)) > 0


def test_every_training_of_the_structure_comparison_says_where_it_comes_from():
    text = (ROOT / "results" / "baseline_structure.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert "/work" not in text and "/tmp" not in text
    assert all(r["born"].keys() >= CERTIFICATE and r["born"]["seeds"] == [r["seed"]] for r in rows)
    assert all(r["commit"] == r["born"]["commit"] and not r["commit"].endswith("+") for r in rows)
    cells = [(r["rung"], r["arm"], r["share"], r["rate"], r["seed"]) for r in rows]
    assert len(cells) == len(set(cells)) > 0
    for r in rows:
        assert r["told"] and r["selection"] and r["training_puzzles"] and r["steps"] and r["MFLOP"]
        assert abs(r["tera"] / r["budget_tera"] - 1) < 0.02 and ("right" in r) == (r["seed"] != 0)


def test_the_page_of_results_is_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "table.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
