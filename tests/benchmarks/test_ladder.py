"""The ladder: every factor can be trained, a cell is what it says, and the tables count what they claim."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.runs.fit import build

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import ladder  # noqa: E402
import ladder_page  # noqa: E402
import ladder_table  # noqa: E402


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_cell_is_trained_judged_and_not_done_twice(tmp_path, monkeypatch, capsys):
    out, rung = tmp_path / "rows.jsonl", ladder.RUNGS["sudoku6"]
    few = replace(rung.data, count=200, holdout=20)  # making all its puzzles takes most of the time
    monkeypatch.setitem(ladder.RUNGS, "sudoku6", replace(rung, data=few))
    ladder.data.cache_clear()
    words = ["ladder.py", "--factors", "orbit", "3 rounds", "--rungs", "sudoku6", "--seeds", "0", "--share", "0.02"]
    words += ["--limit", "20", "--workers", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    ladder.main()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["factor"] for r in rows] == ["orbit", "3 rounds"]
    for row in rows:
        assert math.isclose(row["tera"], 0.02 * rung.tera, rel_tol=0.1)
        assert 5 <= len(row["curve"]) <= ladder.CHECKS and "1" in row["accuracy"] and row["born"]["torch"]
        assert row["curve"][-1][0] == pytest.approx(row["tera"])
    assert rows[1]["MFLOP"] < 0.7 * rows[0]["MFLOP"] and rows[1]["steps"] > rows[0]["steps"]
    hopeless = [*words, "--seeds", "0", "1", "--hopeful", "1.1"]
    for same in (words, hopeless):
        monkeypatch.setattr(sys, "argv", same)
        ladder.main()
        assert len(out.read_text().splitlines()) == 2
    ladder.data.cache_clear()


def test_flops_to_a_level_lie_between_validations():
    curve = [[1.0, 0.2], [2.0, 0.6], [3.0, 0.5], [4.0, 0.9]]
    assert ladder.reached(curve, 0.4) == pytest.approx(1.5) and ladder.reached(curve, 0.1) == pytest.approx(0.5)
    assert ladder.reached(curve, 0.9) == pytest.approx(4.0) and ladder.reached(curve, 0.95) is None


def row(factor, seed, accuracy, flops, rung="r"):
    at = {"1": accuracy, ladder_table.DEEP: 1.0}
    known = {"rung": rung, "factor": factor, "seed": seed, "share": 1, "to": {ladder_table.LEVEL: flops}}
    return known | {"accuracy": at, "best": accuracy}


def test_ratios_to_the_base_and_their_pooled_intervals():
    known = [("orbit", 0.9, 1.0), ("orbit", 0.9, 4.0), ("x", 0.8, 2.0), ("x", 0.8, 8.0), ("y", 0.1, None)]
    rows = [row(factor, seed, *rest) for seed, (factor, *rest) in enumerate(known)]
    worse = ladder_table.ratio(rows, "x", ladder_table.errors)
    assert (worse.mean, worse.low, worse.high) == pytest.approx((2, 2, 2)) and worse.told() == "2.00"
    slower = ladder_table.ratio(rows, "x", ladder_table.flops)
    one = math.sqrt(2 * math.log(2) ** 2)  # the standard deviation of log 1 and log 4, which is that of log 2 and log 8
    assert slower.mean == pytest.approx(2) and slower.high == pytest.approx(2 * math.exp(2 * one))
    assert ladder_table.ratio(rows, "y", ladder_table.errors).told() == "never"
    assert ladder_table.ratio([*rows, row("x", 9, 0.3, None)], "x", ladder_table.flops).told().endswith("1 of 3 never")
    never = [row("orbit", 0, 0.9, None), row("x", 0, 0.9, 1.0)]
    assert ladder_table.ratio(never, "x", ladder_table.flops).told() == "–"
    assert [line[0] for line in ladder_table.lines(rows, ["x", "orbit", "y", "z"], ["r"])] == ["orbit", "x", "y"]


def test_factors_are_chosen_by_validation_and_not_by_test_puzzles():
    a, b = row("orbit", 0, 0.9, 1.0), row("x", 0, 0.9, 1.0)
    flattered = b | {"accuracy": {"1": 1.0, ladder_table.DEEP: 1.0}, "best": 0.8}
    assert ladder.score([a, flattered], "x") == pytest.approx(2)
    assert ladder_table.ratio([a, flattered], "x", ladder_table.errors).mean == pytest.approx(2)
    assert [line[0] for line in ladder_table.lines([a, flattered], ["x", "orbit"], ["r"])] == ["orbit", "x"]


def test_what_is_solved_says_after_how_many_steps():
    rows = [row("x", seed, 0.5, 1.0) | {"steps": steps} for seed, steps in ((0, 1056), (1, 1056))]
    assert ladder_page.stepped(rows, "x") == "50.0 (1,056 steps)" and ladder_page.stepped(rows, "y") == "–"


def test_how_far_a_small_rung_foretells_a_large_one():
    def measured(*accuracies):
        return [row(f, 0, a, 1.0) for f, a in zip(("orbit", "x", "y", "z"), accuracies, strict=False)]

    small = measured(0.9, 0.8, 0.7, 0.6)
    assert ladder_table.foretold(small, measured(0.99, 0.98, 0.9, 0.5))[1] == pytest.approx(1)
    assert ladder_table.foretold(small, measured(0.5, 0.9, 0.98, 0.99))[1] == pytest.approx(-1)
    assert ladder_table.ranks([3.0, 1.0, 3.0, 0.0]) == [2.5, 1.0, 2.5, 0.0]
    factors, _ = ladder_table.foretold(small, measured(0.5, 0.9))
    assert factors == ["orbit", "x"]
