"""Learning that never waits for its device: the same bits as step by step, and nothing a graph could not replay."""

import copy
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.graph import SYNC_EVERY, on_device
from innerloop.learn.learner import host_state
from innerloop.learn.optim import AdamATan2
from innerloop.learn.train import Trainer, train
from innerloop.recipes import get
from innerloop.runs.fit import build
from innerloop.runs.run import override

SMALL = ["data.count=80", "data.holdout=10", "plan.steps=27", "plan.check_every=15", "plan.save_every=11"]
KINDS = {
    "orbit": ("sudoku4", []),
    "trm, halted by its head": ("sudoku4_trm", ["plan.halting.learned=true", "plan.halting.spread=false"]),
    "explores": ("sudoku4_trm", ["plan.halting.learned=true", "plan.halting.explore=0.5", "plan.optimizer=adam_atan2"]),
    "muon, no average, no clip": ("sudoku4", ["plan.optimizer=muon", "plan.lr=1e-3", "plan.ema=0", "plan.clip=0"]),
}
# What a device must tell the host, or whose shape depends on values
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "repeat_interleave")


def prepared(name, mode, *more):
    recipe, changes = KINDS[name]
    run = override(get(recipe), [*SMALL, *changes, f"plan.device_steps={mode}", *more])
    return build(run)


def trained(name, mode, folder, *more, **how):
    built = prepared(name, mode, *more)
    validation = {"validation": built.validation} if "validation" not in how else {}
    result = train(built.loop, built.task, built.train, built.run.plan, folder, live=False, **validation, **how)
    return result, built.loop.state_dict(), checkpoint.load_state(folder)


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_same_bits_as_step_by_step(name, tmp_path):
    plain, weights, state = trained(name, "off", tmp_path / "off")
    ahead, others, kept = trained(name, "on", tmp_path / "on")
    assert same(weights, others) and plain.best == ahead.best and ahead.steps == 27
    assert state["position"] == kept["position"] and torch.equal(state["draws"], kept["draws"])
    assert same(state["average"], kept["average"])
    rows = zip(state["carries"][0], kept["carries"][0], strict=True)
    assert all(a is b is None or torch.equal(a, b) for a, b in rows)
    lines = [(tmp_path / f / "metrics.jsonl").read_text().splitlines() for f in ("off", "on")]
    assert len(lines[0]) == len(lines[1]) > 3


@pytest.mark.slow
def test_slices_and_a_change_of_mode_leave_the_bits_as_they_are(tmp_path):
    _, weights, _ = trained("explores", "off", tmp_path / "whole")
    modes = ["on", "off", "on", "off"] * 20
    for calls, mode in enumerate(modes):  # noqa: B007
        result, others, _ = trained("explores", mode, tmp_path / "cut", minutes=1e-9)
        if result.steps == 27:
            break
    assert calls > 5 and same(weights, others)


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} would wait for the device"
        masks = [i for i in args[1] if i is not None and i.dtype is torch.bool] if name == "index" else []
        assert not masks, "rows chosen by a mask: their number is not known in advance"
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in KINDS if n != "muon, no average, no clip"])
def test_no_step_asks_the_device_and_every_result_stays_in_its_place(name, tmp_path):
    built = prepared(name, "on")
    t = Trainer(built.loop, built.task, built.train, built.run.plan, tmp_path, live=False)
    t.train_step()
    r = t.graph_trainer
    held = [x for x in checkpoint.flatten((r.carry, r.position, r.step_index, r.sums, r.inputs)) if x is not None]
    places = [x.data_ptr() for x in (*held, *t.loop.parameters(), *t.average.shadow.values())]
    r.prepare(SYNC_EVERY)
    t.set_rate(t.step)
    with NoWaiting():
        for _ in range(SYNC_EVERY):
            r.body()
    now = [x for x in checkpoint.flatten((r.carry, r.position, r.step_index, r.sums, r.inputs)) if x is not None]
    assert places == [x.data_ptr() for x in (*now, *t.loop.parameters(), *t.average.shadow.values())]
    with pytest.raises(AssertionError, match="would wait"), NoWaiting():
        t.stream.fill(r.carry.halted, 0).labels.sum().item()


def test_steps_taken_to_warm_up_are_taken_back(tmp_path):
    built = prepared("explores", "on", "plan.ema=0.9")
    t = Trainer(built.loop, built.task, built.train, built.run.plan, tmp_path, live=False)
    r = t.graph_trainer
    for done in (0, 10):
        assert t.step == done
        r.prepare(3)
        before, fresh = copy.deepcopy(t.state()), [not o.state for o in t.optimizers]
        weights = copy.deepcopy(t.loop.state_dict())
        for _ in range(3):
            r.body()
        assert not same(weights, t.loop.state_dict())
        r.roll_back(before, fresh)
        assert same(weights, t.loop.state_dict()) and t.optimizers[0].param_groups[0]["t"].item() == done
        if not done:
            assert all((v == 0).all() for s in t.optimizers[0].state.values() for v in s.values())
            t = Trainer(built.loop, built.task, built.train, built.run.plan, tmp_path / "next", live=False)
            r = t.graph_trainer
            t.train_step()


def test_rates_on_the_device_are_the_same_rates(tmp_path):
    ways = []
    for there in (False, True):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(5, 3))
        optimizer = AdamATan2([p], lr=1e-2)
        if there:
            on_device(optimizer, torch.device("cpu"))
        for i in range(4):
            p.grad = torch.randn(5, 3)
            rate = 1e-2 * (i + 1)
            group = optimizer.param_groups[0]
            group["lr"] = group["lr"].fill_(rate) if there else rate
            optimizer.step()
        ways.append((p.detach(), host_state(optimizer.state_dict())))
    (one, told), (other, told_there) = ways
    assert (one - other).abs().max() < 1e-6 and told["param_groups"][0]["t"] == told_there["param_groups"][0]["t"] == 4
    assert math.isclose(told_there["param_groups"][0]["lr"], 4e-2, rel_tol=1e-6)


def test_what_diverges_stays_as_it_was_saved(tmp_path):
    trained("orbit", "on", tmp_path, minutes=1e-9)
    saved = checkpoint.load_state(tmp_path)
    built = prepared("orbit", "on")
    t = Trainer(built.loop, built.task, built.train, built.run.plan, tmp_path, live=False)
    with torch.no_grad():
        next(t.loop.parameters()).fill_(float("nan"))
    result = t.run()
    assert "finite" in result.stopped and result.steps > saved["step"] == 10
    after = checkpoint.load_state(tmp_path)
    assert after["step"] == 10 and same(after["model"], saved["model"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["plan.accumulate=2"], "plan.accumulate or plan.unroll"),
        (["plan.device_steps=maybe"], 'use "auto", "on" or "off"'),
    ],
)
def test_what_cannot_run_on_the_device_is_refused_in_words(more, said, tmp_path):
    with pytest.raises(InputError, match=said):
        trained("orbit", "on", tmp_path, *more)


def test_on_a_cpu_nothing_moves_in_by_itself(tmp_path):
    built = prepared("orbit", "auto")
    assert Trainer(built.loop, built.task, built.train, built.run.plan, tmp_path, live=False).graph_trainer is None
