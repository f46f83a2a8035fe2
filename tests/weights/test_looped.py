"""Looped Transformer: what its window of taped steps is, and is not, a gradient of."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from innerloop.core import detach, think
from innerloop.grad import rule_named
from innerloop.learn.supervise import Batch
from innerloop.learn.unroll import Unroll, unrolled_step
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import Net
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.weights.looped import Config, Looped

SIZE = NetConfig(
    vocab=6,
    seq=16,
    rows=4,
    hidden_size=32,
    heads=2,
    layers=1,
    expansion=2.0,
    multiple_of=32,
    norm="magic",
    positions="learned",
    puzzle_emb_size=32,
)
X = sample_question()
BATCH = Batch(X, X.inputs.flip(1))


def loop(**how):
    torch.manual_seed(0)
    return Looped(Config(SIZE, dtype="float32", **how))


def gradients(net, depth, taped, window, grad=None):
    net.zero_grad()
    unroll = Unroll(depth, grad=grad or f"last({taped})", weigh="window", window=window)
    sum(unrolled_step(net, BATCH, unroll, depth, None).losses.values()).backward()
    return [p.grad.to_dense() if p.grad.is_sparse else p.grad.clone() for p in net.parameters()]


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("multiply", [False, True])
def test_a_window_as_long_as_the_thought_is_full_backpropagation(multiply):
    net = loop(multiply=multiply)
    full = gradients(net, 6, None, 6, "full")
    assert same(gradients(net, 6, 6, 6), full)
    assert not same(gradients(net, 6, 1, 1), gradients(net, 6, None, 1, "full"))  # steps are chained by their gradient


@pytest.mark.parametrize("multiply", [False, True])
def test_steps_before_the_window_have_no_part_in_the_gradient(multiply):
    """It is that of a thought of T steps which starts at state b - T, to the last bit."""
    net, b, T = loop(multiply=multiply), 9, 4
    calls = {True: 0, False: 0}

    def count(*_):
        calls[torch.is_grad_enabled()] += 1

    hook = next(m for m in net.modules() if isinstance(m, Net)).register_forward_hook(count)
    window = gradients(net, b, T, T)
    hook.remove()
    assert calls == {True: T, False: b - T}
    early = detach(think(net, X, b - T).state)
    net.init = lambda x: early
    assert same(gradients(net, T, None, T, "full"), window)


def test_a_thought_shorter_than_the_window_is_taped_whole():
    net = loop()
    assert same(gradients(net, 3, 5, 5), gradients(net, 3, None, 3, "full"))


@torch.no_grad()
def test_the_first_state_is_neutral():
    e = loop().embed(X, torch.float32)
    for multiply, value in ((False, 0.0), (True, 1.0)):
        net = loop(multiply=multiply)
        s = net.init(X)
        assert (s.y == value).all() and torch.equal(net.step(s, X).y, net.net(e))
    s = loop().step(loop().step(s._replace(y=torch.zeros_like(s.y)), X), X)
    assert torch.equal(loop().step(s, X).y, loop().net(s.y + e))


def test_the_curriculum_reaches_the_depth():
    plan, gen = Unroll(12, draw="ramp", first=4, ramp=0.5, grad="last(4)", weigh="window", window=4), torch.Generator()
    depths = [plan.draw_depth(p / 20, gen) for p in range(21)]
    assert depths[0] == 4 and depths[10:] == [12] * 11 and depths == sorted(depths)
    rule_named(plan.grad)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("multiply", [False, True])
def test_the_paper_s_norm_and_both_forms_keep_the_contract(check, multiply):
    size = replace(SIZE, layers=2)
    CHECKS[check](Subject("looped", lambda: Looped(Config(size, multiply, "float32")), X))


def test_default_size_is_the_paper_s():
    net = Looped()
    assert (net.c.net.layers, net.c.net.hidden_size, net.c.net.heads) == (1, 256, 8)
    assert isinstance(net.heads.tokens, nn.Module)
