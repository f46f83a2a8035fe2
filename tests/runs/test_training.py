"""`fit` from Python, a part of a training, the fields of a run, and what a training will cost."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import innerloop
from innerloop import cli, recipes, weights
from innerloop.errors import InputError
from innerloop.learn.train import Trainer
from innerloop.recipes import family
from innerloop.runs.fields import FITTED, config_json, fields_of
from innerloop.runs.fit import build
from innerloop.runs.forecast import forecast
from innerloop.runs.run import Run, override, read_config
from innerloop.runs.training import is_finished

TINY = ["plan.steps=6", "plan.batch=8", "plan.check_every=3", "plan.save_every=3", "plan.compile=off"]
TINY += ["data.count=12", "data.holdout=8", "config.dtype=float32", "config.net.hidden_size=32"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return override(recipes.get("sudoku4_trm"), TINY)


# -- fit --------------------------------------------------------------------------------------------------------------


def test_fit_leaves_a_folder_that_opens_and_what_train_leaves(run, tmp_path):
    before = torch.get_rng_state()
    result = innerloop.fit(run, "mine")
    assert torch.equal(torch.get_rng_state(), before)
    opened = innerloop.open_run("mine")
    assert result.steps == 6 and opened.run.plan == run.plan and opened.task.name == "sudoku"
    assert cli.main(["train", "sudoku4_trm", "--out", "theirs", "--device", "cpu", "--set", *TINY]) == 0
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "mine" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert json.loads((tmp_path / "mine/result.json").read_text())["train_puzzles"] == 12
    with pytest.raises(InputError, match="holds another run"):
        innerloop.fit(dataclasses.replace(run, seed=1), "mine")
    assert is_finished(tmp_path / "mine", run) and not is_finished(tmp_path / "mine", override(run, ["plan.lr=0.1"]))


def test_a_training_in_parts_ends_with_the_same_bits(run, tmp_path):
    first = innerloop.fit(run, "parts", until=3)
    assert first.steps == 3 and first.best["step"] == 3 and not is_finished(tmp_path / "parts", run)
    assert innerloop.fit(run, "parts", until=2).steps == 3  # it never goes back
    assert innerloop.fit(run, "parts").steps == 6
    innerloop.fit(run, "whole")
    one, other = (torch.load(tmp_path / n / "train_state.pt", weights_only=True)["model"] for n in ("parts", "whole"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.slow
def test_what_was_measured_of_earlier_weights_is_set_aside(run, tmp_path, capsys):
    innerloop.fit(run, "mine", until=3)
    Path("mine/eval.json").write_text("{}")
    Path("mine/calibration.json").write_text("{}")
    assert cli.main(["train", "mine", "--device", "cpu"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "What was measured before (eval.json, calibration.json) is of earlier weights" in said
    assert not Path("mine/eval.json").exists() and Path("mine/calibration.earlier.json").exists()
    assert "measured before" not in json.loads(Path("mine/result.json").read_text())["leakage"]
    Path("mine/eval.json").write_text("{}")
    assert cli.main(["train", "mine", "--device", "cpu"]) == 0 and Path("mine/eval.json").exists(), "it was finished"


def test_a_part_of_a_training_says_how_good_it_is(run, capsys):
    assert cli.main(["train", "sudoku4_trm", "--out", "p", "--device", "cpu", "--until", "3", "--set", *TINY]) == 0
    said = capsys.readouterr().out
    assert "best validation: exact" in said and "step 3 of 6; go on with" in said


def test_training_ends_where_accuracy_no_longer_rises(run, tmp_path, capsys):
    """Nothing is learnt in these steps: the first check is the last rise, and two more without one end it."""
    patient = override(run, ["plan.steps=60", "plan.patience=2"])
    result = innerloop.fit(patient, "flat")
    assert result.best["exact"] == 0 and result.steps == 9 and result.flat.endswith("since step 3")
    assert is_finished(tmp_path / "flat", patient) and innerloop.fit(patient, "flat") == result
    assert innerloop.fit(patient, "parts", until=6).flat == "" and not is_finished(tmp_path / "parts", patient)
    assert innerloop.fit(patient, "parts").steps == 9
    words = ["train", "sudoku4_trm", "--out", "said", "--device", "cpu", "--set", *TINY, "plan.patience=2"]
    assert cli.main([*words, "plan.steps=60"]) == 0 and "ended at step 9 of 60" in capsys.readouterr().out
    assert cli.main(["train", "said"]) == 0 and "is finished at step 9" in capsys.readouterr().out
    assert innerloop.fit(override(run, ["plan.steps=60"]), "whole").steps == 60


def test_where_every_validation_puzzle_is_solved_two_more_checks_are_enough(run, tmp_path):
    built = build(override(run, ["plan.patience=8", "plan.steps=60"]))
    learner = Trainer(built.loop, built.task, built.train, built.run.plan, tmp_path, validation=built.validation)
    for exact, flat in ((0.9, False), (1.0, True)):
        learner.tracker.observe(3, exact, exact)
        learner.step = 9
        assert bool(learner.early_stop_reason()) is flat


# -- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", weights.names())
def test_every_field_has_a_meaning_and_takes_what_it_says(system):
    run = Run("x", system, weights.get(system)[1]())
    fields = [f for f in fields_of(run) if not f.fitted]
    assert not [f.path for f in fields if not f.meaning]
    named = [f for f in fields if isinstance(f.value, str) and f.path.startswith(("config", "plan"))]
    for field in named:
        assert field.takes != "text" and (field.value in field.takes or field.path.endswith("grad"))
        if field.path in ("plan.optimizer", "config.net.block"):  # checked when they are built
            continue
        for value in field.takes.replace("phantom(5, 0.5)", "phantom(5,0.5)").split(", "):
            override(run, [f"{field.path}={value}"])
    for path in ("config.net.norm", "plan.loss", "plan.unroll.weigh", "plan.unroll.grad"):
        with pytest.raises(InputError):
            override(run, [f"{path}=nothing"])


def test_a_config_file_is_saved_edited_and_trained(run, capsys):
    assert cli.main(["show", "sudoku4_trm", "--set", *TINY, "--out", "my.json"]) == 0
    value = json.loads(Path("my.json").read_text())
    assert not set(FITTED) & set(value["config"]["net"]) and value["plan"]["steps"] == 6
    assert build(read_config(value, "my.json")).run == build(run).run
    value["plan"]["steps"] = 3
    Path("my.json").write_text(json.dumps(value))
    assert cli.main(["train", "my.json", "--device", "cpu", "--set", "seed=4"]) == 0
    assert innerloop.open_run("runs/my").run.plan.steps == 3 and innerloop.open_run("runs/my").run.seed == 4
    capsys.readouterr()
    assert cli.main(["show", "runs/my", "--part", "plan.steps"]) == 0
    assert "plan.steps  3 " in capsys.readouterr().out
    for text in ('{"plan": {}}', "[]", "no", json.dumps(value | {"plan": {"stepz": 1}})):
        Path("bad.json").write_text(text)
        assert cli.main(["train", "bad.json"]) == 2
    assert cli.main(["show", "sudoku4", "--part", "plam"]) == 2 and 'mean "plan"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--part", "lr"], 'mean "plan.lr"?'),
        (["--part", "zzz"], "there are config, config.net, "),
        (["--set", "lr=1e-3"], 'mean "plan.lr"?'),
        (["--set", "plan.lrr=1e-3"], 'mean "plan.lr"?'),
        (["--set", "max_step=4"], 'mean "plan.halting.max_steps"?'),
        (["--set", "data.size=9"], 'mean "data.options.size"?'),
        (["--set", "zzz=1"], "there are name, system, "),
    ],
)
def test_the_nearest_field_is_named_with_its_whole_path(words, told, capsys):
    assert cli.main(["show", "sudoku4", *words]) == 2
    assert told in capsys.readouterr().err


def test_config_files_hold_every_recipe():
    for name in recipes.all_recipes():
        run = recipes.get(name)
        again = read_config(json.loads(json.dumps(config_json(run))), name)
        fresh = {f: getattr(run.config.net, f) for f in FITTED}
        assert dataclasses.replace(again.config, net=dataclasses.replace(again.config.net, **fresh)) == run.config
        assert (again.plan, again.data.task, again.system) == (run.plan, run.data.task, run.system)


# -- what it will cost ------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_is_to_come_and_leaves_nothing(run, tmp_path, capsys):
    built = build(run)
    found = forecast(built, torch.device("cpu"))
    assert found.parameters == sum(p.numel() for p in built.loop.parameters())
    weights_and_states = 4 * found.parameters * 5  # weights, gradients, two moments, average
    assert weights_and_states <= found.weights_bytes < 1.5 * weights_and_states + 10_000
    assert found.activation_bytes > 8 * 17 * 32 * 4 and found.flops_per_step > 0 and found.validations == 2
    assert found.seconds(6) > 6 * found.step_seconds > 0
    assert cli.main(["train", "sudoku4_trm", "--dry-run", "--set", *TINY]) == 0
    said = capsys.readouterr().out
    assert f"{found.parameters:,}" in said and "FLOPs" in said and "nothing was trained" in said
    assert not list(tmp_path.iterdir())


# -- a match that a swapped part would break --------------------------------------------------------------------------


def test_a_swapped_part_is_matched_again():
    base = family.family("trm", "sudoku4")
    changes = ["config.net.block=attention", "config.net.positions=learned"]
    run, said = recipes.matched("family", changes, system="trm", task="sudoku4")
    after, want = override(run, changes), family.parameter_count(base)
    assert abs(family.parameter_count(build(after).run) / want - 1) < family.LOOSE and said.startswith("matched to trm")
    assert after.config.net.hidden_size != base.config.net.hidden_size and after.plan.steps != base.plan.steps
    fixed, said = recipes.matched("family", ["config.net.hidden_size=64"], system="trm", task="sudoku4")
    assert said.startswith("no longer matched") and fixed.config.net.hidden_size == base.config.net.hidden_size
    for harmless in (["plan.lr=0.1"], ["seed=3"]):
        assert recipes.matched("family", harmless, system="trm", task="sudoku4") == (base, "")
    assert recipes.matched("sudoku4", changes)[1] == ""
