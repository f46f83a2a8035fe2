"""`innerloop.train` from Python leaves a folder that `innerloop.open_run` opens."""

import dataclasses
import json

import pytest
import torch

import innerloop
from innerloop import cli, tasks
from innerloop.data.formats import write_csv
from innerloop.errors import InputError

PLAN = innerloop.Plan(steps=4, batch=4, check_every=2, save_every=2, compile="off", depths=(2,), warmup=1)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """(loop, task, examples, validation), with the current folder an empty one."""
    monkeypatch.chdir(tmp_path)
    task = tasks.get("sudoku", size=4)
    loop = innerloop.create("trm", task, hidden_size=32, dtype="float32")
    return loop, task, task.make(12, seed=5), task.make(6, seed=6)


def test_the_folder_opens_with_the_weights_that_were_kept(given, tmp_path):
    loop, task, examples, validation = given
    result = innerloop.train(loop, task, examples, PLAN, "mine", validation=validation, seed=3)
    opened = innerloop.open_run("mine")
    assert result.steps == 4 and opened.run.plan == PLAN and opened.run.seed == 3 and opened.run.system == "trm"
    assert opened.task.options == task.options and opened.run.config == loop.c and opened.run.name == "mine"
    row = innerloop.evaluate(opened.loop, opened.task, validation, depths=(2,))[0]
    assert row.token == result.best["token"]
    told = json.loads((tmp_path / "mine/run.json").read_text())["data"]
    assert told["train"] != told["validation"]
    assert innerloop.open_solver("mine").solve(validation, depth=2)[0].steps


def test_a_second_call_goes_on_and_another_run_is_refused(given, tmp_path):
    loop, task, examples, validation = given
    innerloop.train(loop, task, examples, PLAN, "mine", validation=validation)
    kept = (tmp_path / "mine/run.json").read_text()
    assert innerloop.train(loop, task, examples, PLAN, "mine", validation=validation).steps == 4
    assert (tmp_path / "mine/run.json").read_text() == kept
    other = dataclasses.replace(PLAN, lr=1e-3)
    with pytest.raises(InputError, match=r"another run \(plan.lr"):
        innerloop.train(loop, task, examples, other, "mine", validation=validation)
    with pytest.raises(InputError, match="the data changed"):
        innerloop.train(loop, task, task.make(12, seed=9), PLAN, "mine", validation=validation)


def test_without_validation_the_last_weights_open(given, tmp_path):
    loop, task, examples, _ = given
    innerloop.train(loop, task, examples, dataclasses.replace(PLAN, ema=0.0), "mine")
    opened = innerloop.open_run("mine")
    assert all(torch.equal(value, opened.loop.state_dict()[name]) for name, value in loop.state_dict().items())
    assert "validation" not in json.loads((tmp_path / "mine/run.json").read_text())["data"]


def test_verbs_ask_for_puzzles_that_the_run_does_not_know(given, capsys):
    loop, task, examples, validation = given
    innerloop.train(loop, task, examples, PLAN, "mine", validation=validation)
    for words in (["eval", "mine", "--depth", "2"], ["train", "mine"]):
        assert cli.main(words) == 2 and "gave to innerloop.train" in capsys.readouterr().err
    write_csv("test.csv", validation, task)
    assert cli.main(["eval", "mine", "--depth", "2", "--data", "test.csv", "--device", "cpu"]) == 0


def test_a_loop_that_no_name_makes_again_leaves_its_weights_alone(given, tmp_path):
    loop, task, examples, _ = given

    class Mine(type(loop)):
        pass

    innerloop.train(Mine(loop.c), task, examples, PLAN, "mine")
    assert (tmp_path / "mine/model.safetensors").exists() and not (tmp_path / "mine/run.json").exists()
    with pytest.raises(InputError, match=r"run\.json"):
        innerloop.open_run("mine")
