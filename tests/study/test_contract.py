"""The contract catches loops that break it, and figures show what they are given."""

from dataclasses import replace

import pytest
import torch

from innerloop import grad
from innerloop.core import Answer
from innerloop.parts.config import NetConfig
from innerloop.show.figures import depth_curve, learning_curve
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.weights import trm

SMALL = trm.Config(
    NetConfig(vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, multiple_of=32, puzzle_emb_size=32),
    2,
    2,
    dtype="float32",
)


class Mates(trm.TRM):
    def step(self, s, x):
        new = super().step(s, x)
        return new._replace(y=new.y + 0.1 * new.y.mean(0, keepdim=True))


class Untaped(trm.TRM):
    def step(self, s, x):
        with torch.no_grad():
            s = super().step(s, x)
        return super().step(s, x)


class Growing(trm.TRM):
    def step(self, s, x):
        new = super().step(s, x)
        return new._replace(y=new.y + s.y * 1e3)


class Hidden(trm.TRM):
    calls = 0

    def read(self, s):
        self.calls += 1
        a = super().read(s)
        return a._replace(logits=a.logits + self.calls)


class Unsaved(trm.TRM):
    def __init__(self, c):
        super().__init__(c)
        self.secret = torch.randn(1)

    def read(self, s):
        return super().read(s)._replace(q_halt=self.secret.expand(len(s.y)))


class Flat(trm.TRM):
    def read(self, s):
        return Answer(super().read(s).logits.flatten(1))


class Idle(trm.TRM):
    def __init__(self, c):
        super().__init__(c)
        self.spare = torch.nn.Parameter(torch.zeros(3))


def subject(kind=trm.TRM, config=SMALL):
    return Subject(kind.__name__, lambda: kind(config), sample_question())


BROKEN = {
    "shapes": Flat,
    "gradients": Idle,
    "finite at 4x depth": Growing,
    "same seed, same answer": Hidden,
    "save and load": Unsaved,
    "batch independence": Mates,
    "taped calls": Untaped,
    "refill": Mates,
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("mix", ["attention", "tokens"])
def test_a_good_loop_passes(check, mix):
    config = replace(SMALL, net=replace(SMALL.net, block=mix, positions="none" if mix == "tokens" else "rope"))
    CHECKS[check](subject(config=config))


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_can_fail(check):
    with pytest.raises(AssertionError) as caught:
        CHECKS[check](subject(BROKEN[check]))
    assert len(str(caught.value)) > 20


def test_a_rule_that_is_not_the_declared_one_is_noticed():
    def lying():
        loop = trm.TRM(SMALL)
        rule, loop.grad = loop.grad, grad.full
        loop.step = lambda s, x: [
            setattr(loop, "grad", rule),
            type(loop).step(loop, s, x),
            setattr(loop, "grad", grad.full),
        ][1]
        return loop

    with pytest.raises(AssertionError, match="its rule says"):
        CHECKS["taped calls"](Subject("lying", lying, sample_question()))


def row(depth, exact, halting=False, width=1):
    return {
        "depth": depth,
        "exact": exact,
        "low": exact - 0.05,
        "high": exact + 0.05,
        "valid": exact + 0.02,
        "steps": depth / 2,
        "halting": halting,
        "width": width,
    }


def test_depth_curve_shows_runs_widths_and_halting():
    rows = [row(d, d / 100) for d in (1, 4, 16)] + [row(16, 0.5, True), row(16, 0.6, width=8)]
    judged = {"rows": rows, "test_puzzles": 500, "trained_depth": 16}
    figure = depth_curve({"a": [judged], "b": [{"rows": rows[:3], "test_puzzles": 500}]})
    axes = figure.axes[0]
    said = [t.get_text() for t in axes.get_legend().get_texts()]
    assert {"a, width 1", "a, width 8", "b", "a its own halting"} == set(said)
    assert list(axes.lines[0].get_xdata()) == [1, 4, 16] and list(axes.lines[0].get_ydata()) == [1, 4, 16]
    assert axes.get_xscale() == "log" and "500 held-out puzzles" in axes.get_ylabel()


def test_learning_curve():
    records = [{"step": 10, "train/exact_accuracy": 0.2}, {"step": 20, "valid/exact@4": 0.3, "valid/exact@16": 0.4}]
    figure = learning_curve({"a": [records]})
    assert list(figure.axes[0].lines[1].get_ydata()) == [40]
