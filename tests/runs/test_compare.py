"""Runs compared: which are one condition, their means and tests, and the values of a sweep. No run is trained here."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from innerloop import cli, recipes
from innerloop.errors import InputError
from innerloop.runs import sweep
from innerloop.runs.group import conditions, find_runs, seed_runs
from innerloop.runs.run import override, to_json
from innerloop.runs.summary import Setting, summarise
from innerloop.show.tabular import to_latex

BASE = recipes.get("sudoku4")


def write(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def made(folder, seed, best=0.9, changes=(), rows=None, fingerprint="f", **result):
    """A run as training would leave it, with an eval.json where `rows` (depth -> exact) are given."""
    run = override(replace(BASE, seed=seed), list(changes))
    write(folder, "run.json", {"run": to_json(run), "data": {"train": "t", "validation": "v", "paths": {}}})
    best = {"exact": best, "valid": best, "token": best, "step": 3}
    result = {
        "steps": 300,
        "seconds": 2.0,
        "parameters": 10,
        "validation_puzzles": 100,
        "stopped": "",
        "best": best,
    } | result
    write(folder, "result.json", result)
    if rows:
        listed = [
            {"depth": d, "width": 1, "halting": False, "exact": e, "low": e - 0.1, "high": min(1, e + 0.1), "valid": e}
            | {"token": e, "steps": d, "nfe": 6 * d}
            for d, e in rows.items()
        ]
        write(folder, "eval.json", {"rows": listed, "data": "p.csv", "test_puzzles": 100, "fingerprint": fingerprint})
    return folder


@pytest.fixture
def two(tmp_path):
    """Two conditions of three seeds, evaluated."""
    for seed, (a, b) in enumerate([(0.8, 0.9), (0.7, 0.85), (0.75, 0.8)]):
        made(tmp_path / "plain" / f"seed{seed}", seed, rows={1: a, 4: a})
        made(tmp_path / "wide" / f"seed{seed}", seed, changes=["config.net.hidden_size=96"], rows={1: b, 4: 1.0})
    return tmp_path


# -- conditions -------------------------------------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_alone_are_one_condition(two):
    found = conditions([two])
    assert [(c.name, c.seeds) for c in found] == [("plain", (0, 1, 2)), ("wide", (0, 1, 2))]
    assert len(find_runs(two)) == 6 and len(seed_runs(two / "plain")) == 3 and not seed_runs(two)
    made(two / "other" / "plain" / "seed0", 0, changes=["plan.lr=0.1"])
    assert {c.name for c in conditions([two])} == {f"{two.name}/plain", "other/plain", "wide"}
    made(two / "seed10", 10), made(two / "seed9", 9)
    assert conditions([two / "plain", two / "seed10", two / "seed9"])[0].seeds == (0, 1, 2, 9, 10)


def test_a_seed_given_twice_is_no_second_seed(two):
    made(two / "again", 1)
    with pytest.raises(InputError, match="same run with the same seed 1"):
        conditions([two / "plain", two / "again"])
    with pytest.raises(InputError, match="holds no run"):
        (two / "empty").mkdir()
        conditions([two / "empty"])
    with pytest.raises(InputError, match="there is no folder"):
        conditions([two / "nowhere"])


# -- means and tests --------------------------------------------------------------------------------------------------


def lines(summary):
    return {(x.name, x.setting.depth, x.metric): x for x in summary.lines}


def test_means_and_paired_tests(two):
    summary = summarise(conditions([two]))
    found = lines(summary)
    line = found["plain", 1, "exact"]
    assert math.isclose(line.mean.value, 0.75) and math.isclose(line.mean.sd, 0.05) and line.of == "seeds"
    assert line.values == {0: 0.8, 1: 0.7, 2: 0.75} and line.mean.low < 0.75 < line.mean.high <= 1
    agree = found["wide", 4, "exact"]  # no spread among seeds is no certainty
    assert agree.of == "puzzles" and agree.mean.low == 0.9
    test = next(c for c in summary.comparisons if c.setting == Setting(1))
    assert (test.name, test.baseline, test.seeds) == ("wide", "plain", (0, 1, 2))
    assert (
        math.isclose(test.test.difference.value, 0.1) and 0 < test.test.p <= test.p_holm and test.test.p_signs == 0.25
    )
    assert summary.puzzles["plain"] == "100 puzzles of p.csv"


def test_p_is_adjusted_for_the_comparisons_that_are_shown(two, capsys):
    def comparisons(*words):
        assert cli.main(["table", str(two), *words, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)["comparisons"]

    both, one = comparisons(), comparisons("--depth", "1")
    smaller = min(both, key=lambda c: c["p"])
    assert len(both) == 2 and smaller["p_holm"] == 2 * smaller["p"]
    assert [c["p_holm"] for c in one] == [c["p"] for c in both if c["depth"] == 1]
    for count, words in ((2, []), (1, ["--depth", "1"])):
        assert cli.main(["table", str(two), *words]) == 0
        assert f"p (Holm) is adjusted for the {count} p (t) that are shown" in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(two):
    made(two / "alone", 7, changes=["plan.lr=0.1"], rows={1: 0.5})
    made(two / "other", 0, changes=["plan.lr=0.2"], rows={1: 0.5}, fingerprint="g")
    made(two / "bad", 0, changes=["plan.lr=0.3"], stopped="step 7: the loss is not finite")
    summary = summarise(conditions([two / "plain", two / "alone", two / "other", two / "bad"]))
    said = " ".join(summary.notes)
    assert "no seed in common" in said and "different puzzles" in said and "not finite" in said
    assert not summary.comparisons and lines(summary)["alone", 1, "exact"].of == "puzzles"
    made(two / "plain" / "seed1", 1, rows={1: 0.5}, fingerprint="g")
    with pytest.raises(InputError, match="seeds of plain were judged on different puzzles"):
        summarise(conditions([two / "plain"]))
    (two / "plain" / "seed1" / "eval.json").unlink()
    with pytest.raises(InputError, match=r"has no eval\.json and others have"):
        summarise(conditions([two / "plain"]))
    assert lines(summarise(conditions([two / "plain"]), validation=True))["plain", 4, "exact"].mean.value == 0.9


def test_the_formats_say_the_same(two, capsys, monkeypatch):
    monkeypatch.chdir(two)
    assert cli.main(["table", "plain", "wide", "--depth", "1"]) == 0
    text = capsys.readouterr().out
    assert "75.0 ± 5.0 %" in text and "exact +10.0 points" in text and "100 puzzles of p.csv" in text
    for name in ("t.csv", "t.tex", "t.json", "t.txt"):
        for _ in range(2):  # it replaces its own
            assert cli.main(["table", "plain", "wide", "--out", name]) == 0
        (two / name).write_text("mine")
        assert cli.main(["table", "plain", "--out", name]) == 2 and (two / name).read_text() == "mine"
    capsys.readouterr()
    assert cli.main(["table", "plain", "wide", "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    row = next(r for r in value["rows"] if (r["run"], r["depth"], r["metric"]) == ("plain", 1, "exact"))
    assert row["by_seed"] == {"0": 0.8, "1": 0.7, "2": 0.75} and value["born"]["seeds"] == [0, 1, 2]
    assert cli.main(["table", "plain", "wide", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(r["mean"]) for r in rows if (r["run"], r["depth"], r["metric"]) == ("plain", "1", "exact")] == [0.75]
    for c in value["comparisons"]:  # CSV has the tests as well, each in the row of its run, depth and metric
        (r,) = (r for r in rows if (r["run"], r["depth"], r["metric"]) == (c["run"], str(c["depth"]), "exact"))
        assert (r["baseline"], r["pairs"], r["adjusted for"]) == ("plain", "3", "2")
        told = [r[k] for k in ("difference", "difference low", "difference high", "p (t)", "p (Holm)", "p (signs)")]
        gap = c["difference"]
        assert [*map(float, told)] == [gap["value"], gap["low"], gap["high"], c["p"], c["p_holm"], c["p_signs"]]
    assert sum(r["p (t)"] != "" for r in rows) == 2 and len(rows[0]) == 21
    assert cli.main(["table", "plain", "wide", "--format", "latex"]) == 0
    assert r"75.0 $\pm$ 5.0 \%" in capsys.readouterr().out
    for words in (["--metric", "exakt"], ["--format", "xml"], ["--depth", "3"], ["nowhere"]):
        assert cli.main(["table", "plain", *words]) == 2


def test_latex_takes_any_name():
    table = to_latex(["run"], [["a_b & 5%$#{}~^\\\n"]])
    assert r"a\_b \& 5\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in table
    assert table.count(r"\\") == 2


# -- sweeps -----------------------------------------------------------------------------------------------------------


def test_values_of_a_sweep():
    found = sweep.variants(["plan.lr=1e-3,3e-3", "plan.depths=[4],[4,8]", "plan.batch=16"])
    assert [v.name for v in found][:2] == ["lr=1e-3,depths=-4-", "lr=1e-3,depths=-4,8-"] and len(found) == 4
    assert found[3].changes == ("plan.lr=3e-3", "plan.depths=[4,8]", "plan.batch=16")
    assert [v.name for v in sweep.variants(["plan.seed=1,2", "data.seed=3"])] == ["seed=1", "seed=2"]
    both = sweep.variants(["data.seed=1,2", "plan.seed=3,4"])
    assert both[0].name == "data.seed=1,plan.seed=3"
    assert len({v.name for v in sweep.variants(["data.train=a/b,a-b"])}) == 2
    for wrong in (["plan.lr=1e-3"], ["plan.lr"], ["a=" + ",".join(map(str, range(2000)))]):
        with pytest.raises(InputError):
            sweep.variants(wrong)


def test_rungs_of_successive_halving():
    assert (
        sweep.rung_counts(9, 3) == [9, 3, 1] and sweep.rung_counts(4, 2) == [4, 2, 1] and sweep.rung_counts(1, 2) == [1]
    )
    plan = replace(BASE.plan, steps=900, check_every=50)
    assert [sweep.rung_steps(plan, i, 3, 3) for i in range(3)] == [100, 300, 900]
    assert sweep.rung_steps(plan, 0, 1, 0) == 900
    with pytest.raises(InputError, match="check_every"):
        sweep.rung_steps(replace(plan, check_every=900), 0, 3, 3)


def test_a_variant_is_scored_by_validations_up_to_the_rung(tmp_path):
    plan = replace(BASE.plan, depths=(4,))
    for seed, (early, late) in enumerate([(0.2, 0.9), (0.4, 0.5)]):
        steps = [{"step": s, "valid/exact@4": v, "valid/valid@4": v} for s, v in ((100, early), (200, late))]
        (tmp_path / f"{seed}").mkdir()
        (tmp_path / f"{seed}" / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
    folders = [tmp_path / "0", tmp_path / "1"]
    assert math.isclose(sweep.score(folders, plan, 100).exact, 0.3)
    assert math.isclose(sweep.score(folders, plan, 200).exact, 0.7)
    assert sweep.score(folders, plan, 300) is None and sweep.score([tmp_path / "2"], plan, 100) is None
    scores = {"a": None, "b": sweep.Score(0.5, 0.1, 1), "c": sweep.Score(0.5, 0.2, 1), "d": sweep.Score(0.6, 0.0, 1)}
    assert sweep.best_first(scores) == ["d", "c", "b", "a"]
