"""Orbit against TRM that is told the structure: what is chosen by what, and both spreads."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import baseline_structure as baseline  # noqa: E402
import ladder  # noqa: E402

LOW, MIDDLE, *_, HIGH = baseline.RATES
OTHERS = baseline.RATES[2:]


def trial(rate, best, curve=(0.0, 0.5), seed=baseline.TUNED_BY, right=None, arm="Orbit"):
    row = {"rung": "r", "arm": arm, "share": 1, "rate": rate, "seed": seed, "best": best, "steps": 10}
    row |= {"curve": [[float(i), a] for i, a in enumerate(curve)], "to": {"0.9": None}}
    return row if right is None else row | {"right": baseline.packed(np.array(right)), "puzzles": len(right)}


def test_a_rate_is_chosen_by_validation_and_never_by_test():
    best_on_test = trial(LOW, 0.7, right=[True] * 9)
    assert baseline.chosen([best_on_test, trial(MIDDLE, 0.8, right=[False] * 9), trial(HIGH, 0.6)]) == MIDDLE
    tie = [trial(LOW, 0.9, (0.1, 0.9)), trial(MIDDLE, 0.9, (0.5, 0.9)), trial(HIGH, 0.9, (0.3, 0.9))]
    assert baseline.chosen(tie) == MIDDLE == baseline.chosen(tie[::-1])


def test_what_is_reported_are_fresh_seeds_at_the_chosen_rate_after_all_rates_were_tried():
    tried = [trial(LOW, 0.7), trial(MIDDLE, 0.8), *(trial(rate, 0.6) for rate in OTHERS)]
    fresh = [trial(rate, 1.0, seed=seed, right=[True]) for rate in (LOW, MIDDLE) for seed in baseline.SEEDS]
    found = baseline.judged([*tried, *fresh, trial(MIDDLE, 1.0, seed=99)], "r", "Orbit", 1)
    assert [(r["rate"], r["seed"]) for r in found] == [(MIDDLE, seed) for seed in baseline.SEEDS]
    assert baseline.judged([*tried[:-1], *fresh], "r", "Orbit", 1) == []
    assert baseline.TUNED_BY not in baseline.SEEDS


def test_both_spreads_are_what_they_say():
    right = np.arange(100) % 4 > 0
    assert np.array_equal(baseline.unpacked(baseline.packed(right[:13]), 13), right[:13])
    same = [trial(LOW, 1.0, seed=seed, right=right) for seed in (1, 2, 3)]
    s = baseline.summary(same)
    assert s.mean == pytest.approx(0.75) and s.deviation == pytest.approx(0)
    assert 0.14 < s.high - s.low < 0.20, "three trainings that answer alike know no more of the puzzles than one"
    other = [trial(LOW, 1.0, right=[True] * 100), trial(LOW, 1.0, right=[False] * 100)]
    t = baseline.summary(other)
    assert (t.low, t.high) == pytest.approx((0.5, 0.5)) and t.deviation == pytest.approx(0.5**0.5)


def test_a_verdict_needs_every_training_and_the_puzzles():
    def arm(*shares, n=400):
        return [trial(LOW, 1.0, right=np.arange(n) < share * n) for share in shares]

    assert baseline.verdict(arm(0.95, 0.94), arm(0.8, 0.7)) == "first"
    assert baseline.verdict(arm(0.8, 0.7), arm(0.95, 0.94)) == "second"
    assert baseline.verdict(arm(0.95, 0.75), arm(0.8, 0.7)) == "undecided", "the trainings overlap"
    assert baseline.verdict(arm(0.75, 0.75, n=4), arm(0.5, 0.5, n=4)) == "undecided", (
        "one puzzle of four decides nothing"
    )
    assert baseline.verdict(arm(0.95), arm(0.1)) == "undecided", "one training says nothing of others"


def test_the_table_holds_what_is_complete():
    tried = [trial(LOW, 0.7), trial(MIDDLE, 0.8), *(trial(rate, 0.6) for rate in OTHERS)]
    fresh = [trial(MIDDLE, 1.0, seed=seed, right=[True, True, True, False]) for seed in (1, 2)]
    rows = [*tried, *fresh, trial(LOW, 0.5, arm="TRM, units")]
    (line,) = baseline.lines(rows)
    assert line[:4] == ["`r`", "Orbit", "1x", "10"] and line[5] == "75.0" and "**0.003**: 80" in line[4]
    assert line[7] == "75.0, 75.0 (sd 0.0)" and line[8] == "never" and line[9] == ""
    worse = [trial(rate, rate, arm="TRM, units") for rate in baseline.RATES]
    worse += [trial(HIGH, 1.0, seed=seed, right=[False] * 4, arm="TRM, units") for seed in (1, 2)]
    assert [line[9] for line in baseline.lines([*tried, *fresh, *worse])] == ["", "Orbit ahead"]


def test_every_arm_is_taught_alike_and_told_what_it_says():
    runs = {arm: ladder.drawn("colouring8", name, 1) for arm, name in baseline.ARMS.items()}
    assert all((run.plan, run.data) == (runs["Orbit"].plan, runs["Orbit"].data) for run in runs.values())
    assert {run.config.net.hidden_size for run in runs.values()} == {48} and runs[
        "TRM, units"
    ].config.net.block == "units"
    assert runs["TRM, Orbit's block"].config.net == runs["Orbit"].config.net
    assert baseline.TOLD.keys() == baseline.ARMS.keys() == baseline.BUDGETS.keys()


def test_a_trial_is_not_shown_the_test_puzzles(tmp_path, monkeypatch):
    shown, out = [], tmp_path / "rows.jsonl"

    def run(cell, test):
        shown.append((cell.rate, cell.seed, test))
        return trial(cell.rate, 1 - cell.rate, seed=cell.seed, right=[True] if test else None) | {
            "accuracy": 1.0, "cpu_seconds_in_all": 0.0
        }  # fmt: skip

    monkeypatch.setattr(baseline, "run", run)
    baseline.group("r", "Orbit", 1, out)
    assert shown == [(r, 0, False) for r in baseline.RATES] + [(LOW, seed, True) for seed in baseline.SEEDS]
    baseline.group("r", "Orbit", 1, out)
    assert len(shown) == len(out.read_text().splitlines()) == len(baseline.RATES) + 3, "what is there is not done again"
    assert all(json.loads(line)["born"]["seeds"] for line in out.read_text().splitlines())
