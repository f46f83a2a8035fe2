"""Numbers have birth certificates, and the page of results is the one the files say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop import pretrained, weights
from innerloop.runs.run import override

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import cards  # noqa: E402
from subject import of_model, of_recipe, stale  # noqa: E402

FILES = sorted((ROOT / "results").glob("*.json"))
# Nets of their own, trained in the script or not at all: neither a bundled model nor a recipe.
NO_SUBJECT = {
    "baseline_structure",
    "act_tau",
    "bad_inputs",
    "decoding",
    "ledger",
    "verdicts",
    "harness_client",
    "votes",
    "interrupted",
    "wait",
    "cost_cpu",
    "coverage_colouring",
    "coverage_queens",
    "exact_overhead",
    "exports",
    "float32_cpu",
}
NO_SUBJECT |= {"flow_residual", "looped_regression", "memory_cpu", "othello", "start", "step_cpu", "step_cpu_float32"}
CERTIFICATE = {"command", "commit", "seeds", "innerloop", "torch", "python", "device", "threads"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_result_says_where_it_comes_from(path):
    value = json.loads(path.read_text())
    assert value["born"].keys() >= CERTIFICATE and value["born"]["commit"] and value["born"]["command"]
    assert "/work" not in path.read_text() and "/tmp" not in path.read_text()
    assert value.get("rows") or value.get("runs") or value["sets"]
    for row in value.get("rows", []):
        if "exact" in row and "puzzles" in row:
            assert row["puzzles"] > 0 and row["low"] - 1e-9 <= row["exact"] <= row["high"] + 1e-9


def subjects(value):
    """Every subject in a result: its own, and those of its parts."""
    parts = [value, *value.get("runs", []), *value.get("sets", []), *value.get("rows", [])]
    return [s for part in parts for s in (*part.get("subjects", []), part.get("subject")) if s]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_result_is_about_what_ships(path):
    value = json.loads(path.read_text())
    found = subjects(value)
    assert bool(found) != (path.stem in NO_SUBJECT), "say what it is about: benchmarks/subject.py"
    for subject in found[:: max(1, len(found) // 6)]:  # all of them take half a minute
        why = stale(subject)
        assert not why, f"results/{path.name}: {why}; delete it or measure it anew: {value['born']['command']}"


@pytest.mark.slow
def test_every_system_of_the_comparison_is_as_it_was():
    """Each system on two of its tasks, each task with three of its systems: matching a pair takes a second."""
    subjects = json.loads((ROOT / "results" / "family.json").read_text())["subjects"]
    systems, tasks = (sorted({s["given"][of] for s in subjects}) for of in ("system", "task"))
    place = lambda s: systems.index(s["given"]["system"]) + tasks.index(s["given"]["task"])  # noqa: E731
    drawn = [s for s in subjects if place(s) % 3 == 0]
    assert all({s["given"][of] for s in drawn} == set(all_) for of, all_ in (("system", systems), ("task", tasks)))
    assert [why for subject in drawn if (why := stale(subject))] == []


def test_a_result_about_another_model_or_recipe_is_found_out():
    opened = pretrained.open("demo-sudoku4")
    model, recipe = of_model(opened), of_recipe("sudoku4", 12_002)
    assert not stale(model) and not stale(recipe)
    assert model["parameters"] == 12_002
    assert "another model" in stale(model | {"sha256": "0" * 64})
    assert "comes along" in stale(model | {"model": "demo-sudoku5"})
    assert "something else" in stale(recipe | {"recipe": "sudoku6"})
    assert "no recipe" in stale(recipe | {"recipe": "sudoku5"})
    assert of_model(opened._replace(folder=ROOT)) == recipe  # as a folder, the same run is what its recipe trains
    changed = override(opened.run, ["plan.steps=301"])
    assert "neither" in stale(of_model(opened._replace(folder=ROOT, run=changed)))


def test_cards_of_bundled_models_are_up_to_date():
    for name in pretrained.names():
        assert pretrained.card(name) == cards.written(name), "run benchmarks/cards.py"


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


@pytest.mark.slow
def test_the_page_of_results_is_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "table.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_of_exports_is_that_of_the_record():
    rows = json.loads((ROOT / "results" / "exports.json").read_text())["rows"]
    table = (ROOT / "docs" / "share.md").read_text().split("| systems | graph, ONNX, AOTInductor |")[1].split("\n\n")[0]
    said = {
        name: line.rstrip().endswith("yes |") for line in table.splitlines() for name in re.findall(r"`(\w+)`", line)
    }
    assert said == {row["system"]: "error" in row for row in rows} and set(said) == set(weights.names())
    assert all(row["error"] <= 1e-4 for row in rows if "error" in row)
