"""What a system cannot serve it refuses in one sentence, or says what it kept; nothing saved is lost."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

from innerloop import halt, weights
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.learn.train import train
from innerloop.parts.config import NetConfig
from innerloop.parts.solvers import NotConverged, Picard
from innerloop.recipes import family
from innerloop.runs.fit import build
from innerloop.runs.run import override
from innerloop.schema import bounded_fields

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=16, heads=2, layers=1, multiple_of=16, prefix=0, puzzle_emb_size=0, pool="mean"
)


def made(system, **changes):
    make, config = weights.get(system)
    return make(config(net=replace(TINY, **changes), dtype="float32"))


def asked(seq=16):
    return Question(torch.randint(1, 6, (3, seq)), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("system", weights.names())
def test_a_depth_of_zero(system):
    with pytest.raises(InputError, match="depth of 1 or more"):
        think(made(system), asked(), 0)


@pytest.mark.parametrize("system", weights.names())
def test_a_question_of_another_size(system):
    with pytest.raises(InputError, match=r"12 tokens.*16"):
        think(made(system), asked(12), 1)


@pytest.mark.parametrize("system", ["rsm", "mor", "huginn", "hrm_text"])
def test_a_halting_rule_it_cannot_serve(system):
    with pytest.raises(InputError, match="no halting head"):
        think(made(system), asked(), 2, halt=halt.confident())


def test_chance_without_a_key():
    with pytest.raises(InputError, match="no `key`"):
        think(made("trm"), asked(), 2, halt=halt.sampled)


def test_a_solver_that_does_not_converge_says_so_and_keeps_its_best():
    with pytest.warns(NotConverged, match="best"):
        found = Picard(tol=1e-12)(lambda v: -v + 1, torch.full((2, 3), 0.1), 5)
    assert found.z.isfinite().all() and not found.converged.any()


def test_units_and_masks_that_do_not_fit():
    with pytest.raises(InputError, match="names its units"):
        made("trm", block="units")
    with pytest.raises(InputError, match="sees every place"):
        made("huginn", block="conv", mask="causal")


@pytest.mark.slow
@pytest.mark.parametrize("system", ["gram", "deq", "pondernet"])
def test_a_loss_that_is_not_finite_stops_with_the_last_good_state(system, tmp_path, monkeypatch):
    run = replace(family.unmatched_run(system, "sudoku4", 16), name="x")
    run = override(run, ["plan.batch=4", "data.count=16", "data.holdout=4", "plan.steps=200", "plan.check_every=2"])
    built = build(override(run, ["plan.save_every=2"]))
    read, seen = type(built.loop).read, []

    def breaks(self, s):
        seen.append(1)
        answer = read(self, s)
        bad = torch.is_grad_enabled() and len(seen) > 60
        return answer._replace(logits=answer.logits * float("nan")) if bad else answer

    monkeypatch.setattr(type(built.loop), "read", breaks)
    how = {"validation": built.validation, "live": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = train(built.loop, built.task, built.train, built.run.plan, tmp_path, **how)
    assert "not finite" in result.stopped and 2 <= result.steps < 200
    assert (tmp_path / "model.safetensors").exists()
    steps = [json.loads(line).get("step") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


@pytest.mark.parametrize("system", weights.names())
def test_a_config_made_in_python_is_held_to_its_ranges(system):
    """One number of each, below the least that its field may be: what a file may not say, a program may not either."""
    config = weights.get(system)[1]
    for name in bounded_fields(config):
        if isinstance(value := getattr(config(), name), int | float):
            with pytest.raises(InputError, match=f"{name} is -1"):
                config(**{name: type(value)(-1)})
