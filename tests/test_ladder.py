"""The ladder: every factor can be trained, a cell is what it says, and the tables count what they claim."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.recipes.run import build

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import ladder  # noqa: E402
import ladder_table  # noqa: E402


@pytest.mark.parametrize("name", ladder.ALL)
def test_every_factor_makes_a_model_of_its_own(name):
    run, plain = (ladder.drawn("sudoku6", n, 0) for n in (name, "orbit"))
    fitted = build(replace(run, data=replace(run.data, count=4, holdout=4)))
    loop = fitted.loop if ladder.ALL[name].make is None else ladder.ALL[name].make(fitted.run.config)
    assert any(p.requires_grad for p in loop.parameters())
    same = (run.system, run.config, run.plan) == (plain.system, plain.config, plain.plan)
    assert same == (name == "orbit" or ladder.ALL[name].make is not None)


@pytest.mark.parametrize("name", ["orbit", "3 rounds", "batch 32"])
def test_a_training_costs_what_its_rung_may(name):
    run, flops = ladder.recipe("sudoku6", name, 0)
    assert math.isclose(run.plan.steps * run.plan.batch * flops / 1e12, ladder.RUNGS["sudoku6"].tera, rel_tol=0.02)
    assert run.plan.check_every * ladder.CHECKS >= run.plan.steps and len(run.plan.depths) == 1


def test_a_cell_is_trained_judged_and_not_done_twice(tmp_path):
    out = tmp_path / "rows.jsonl"
    command = [
        sys.executable,
        ROOT / "benchmarks" / "ladder.py",
        "--factors",
        "orbit",
        "3 rounds",
        "--rungs",
        "sudoku6",
    ]
    command += ["--seeds", "0", "--share", "0.02", "--limit", "20", "--workers", "1", "--out", out]
    first = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert not first.returncode, first.stderr[-2000:]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["factor"] for r in rows] == ["orbit", "3 rounds"]
    for row in rows:
        assert math.isclose(row["tera"], 0.02 * ladder.RUNGS["sudoku6"].tera, rel_tol=0.1)
        assert 5 <= len(row["curve"]) <= ladder.CHECKS and "1" in row["accuracy"] and row["born"]["torch"]
        assert row["curve"][-1][0] == pytest.approx(row["tera"])
    assert rows[1]["MFLOP"] < 0.7 * rows[0]["MFLOP"] and rows[1]["steps"] > rows[0]["steps"]
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert not again.returncode and len(out.read_text().splitlines()) == 2


def test_flops_to_a_level_lie_between_validations():
    curve = [[1.0, 0.2], [2.0, 0.6], [3.0, 0.5], [4.0, 0.9]]
    assert ladder.reached(curve, 0.4) == pytest.approx(1.5) and ladder.reached(curve, 0.1) == pytest.approx(0.5)
    assert ladder.reached(curve, 0.9) == pytest.approx(4.0) and ladder.reached(curve, 0.95) is None


def row(factor, seed, accuracy, flops, rung="r"):
    to = {"0.5": flops and flops / 2, "0.9": flops}
    return {"rung": rung, "factor": factor, "seed": seed, "share": 1, "accuracy": {"1": accuracy, "32": 1.0}, "to": to}


def test_ratios_are_of_pairs_and_their_interval_is_students():
    rows = [row("orbit", s, 0.9, 1.0) for s in range(3)] + [row("x", s, 0.8, f) for s, f in enumerate((2.0, 4.0, None))]
    rows[-1]["to"] = {"0.5": 1.0, "0.9": None}
    worse = ladder_table.error_ratio(rows, "x")
    assert worse.mean == pytest.approx(2) and worse.low == pytest.approx(2) and worse.pairs == 3
    flops, never = ladder_table.flop_ratio(rows, "x")
    assert flops.mean == pytest.approx(8**0.5) and never == 1
    assert flops.low == pytest.approx(math.exp(math.log(8) / 2 - 12.71 * math.log(2) / 2), rel=1e-3)
    assert ladder_table.Ratio.of([3.0]).high == math.inf and ladder_table.Ratio.of([]) is None
    assert [line[0] for line in ladder_table.lines(rows, ["x", "orbit", "y"])] == ["orbit", "x"]


def test_how_far_a_small_rung_foretells_a_large_one():
    def measured(rung, *accuracies):
        return [row(f, 0, a, 1.0, rung) for f, a in zip(("orbit", "x", "y", "z"), accuracies, strict=True)]

    small = measured("s", 0.9, 0.8, 0.7, 0.6)
    assert ladder_table.foretold(small, measured("l", 0.99, 0.98, 0.9, 0.5))[1] == pytest.approx(1)
    assert ladder_table.foretold(small, measured("l", 0.5, 0.9, 0.98, 0.99))[1] == pytest.approx(-1)
    assert ladder_table.ranks([3.0, 1.0, 3.0, 0.0]) == [2.5, 1.0, 2.5, 0.0]
    factors, _ = ladder_table.foretold(small, measured("l", 0.5, 0.9, 0.98, 0.99)[:2])
    assert factors == ["orbit", "x"]
