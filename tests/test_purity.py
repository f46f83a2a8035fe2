"""The library leaves the process as it found it; only programs set it up (learn.precision.prepare)."""

import warnings
from dataclasses import replace

import pytest
import torch

from innerloop import memory, recipes
from innerloop.core import think
from innerloop.learn import precision
from innerloop.learn.evaluate import batches, evaluate
from innerloop.learn.train import train
from innerloop.runs.fit import build, build_model
from innerloop.runs.run import override
from innerloop.solve.solver import Solver
from innerloop.study.contract import CHECKS, Subject, sample_question


def tiny():
    changes = ["config.net.hidden_size=32", "data.count=20", "data.holdout=24", "plan.steps=2", "plan.batch=4"]
    changes += ["config.dtype=float32"]
    return override(recipes.get("sudoku4_trm"), changes)


@pytest.fixture(scope="module")
def built():
    return build(tiny())


def process():
    """What a function could change for everybody."""
    # The optimizers load it, and with it sympy, which sets filters of warnings: before the first look.
    import torch._dynamo.config as dynamo

    return {
        "matmul": torch.get_float32_matmul_precision(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "random": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "graphs": (dynamo.recompile_limit, dynamo.accumulated_recompile_limit),
        "filters": list(warnings.filters),
    }


CALLS = {
    "build": lambda b, path: build(b.run),
    "evaluate": lambda b, path: evaluate(b.loop, b.task, b.validation, (2,), halting=(False, True)),
    "think": lambda b, path: think(b.loop, next(batches(b.validation, 4, "cpu"))[1], 2),
    "solve": lambda b, path: Solver(b.loop, b.task).solve(b.validation, depth=2, pick="q"),
    "calibrate": lambda b, path: Solver(b.loop, b.task).calibrate(b.validation, depth=2),
    "train": lambda b, path: train(b.loop, b.task, b.train, b.run.plan, path, validation=b.validation, live=False),
    "check": lambda b, path: CHECKS["shapes"](Subject("trm", lambda: build_model(b.run), sample_question())),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_of_the_library_leaves_the_process_as_it_was(name, built, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(memory, "set_malloc_thresholds", lambda *limits: told.append(limits) or True)
    precision.fast_float32.cache_clear()  # else it would be set already
    before = process()
    CALLS[name](built, tmp_path)
    after = process()
    assert {k: v for k, v in after.items() if v != before[k]} == {} and not told


def test_a_program_sets_its_process_up(built, monkeypatch):
    told = []
    monkeypatch.setattr(memory, "set_malloc_thresholds", lambda *limits: told.append(limits) or True)
    precision.fast_float32.cache_clear()
    assert "float32 products" in precision.prepare(built.loop, "cpu") and told
    precision.fast_float32.cache_clear()


def test_fresh_weights_follow_from_the_seed_alone(built):
    """The same bits as torch.manual_seed gives, wherever the global generator stands."""
    torch.manual_seed(built.run.seed)
    kind = type(built.loop)
    want = kind(built.run.config).state_dict()
    torch.manual_seed(99)
    for loop in (build_model(built.run), build(tiny()).loop):
        assert all(torch.equal(v, want[k]) for k, v in loop.state_dict().items())
    other = build_model(replace(built.run, seed=1)).state_dict()
    assert any(not torch.equal(v, want[k]) for k, v in other.items())
