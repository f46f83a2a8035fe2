"""Adaptive computation time: accumulators against a scalar loop, the cost's slope, the freeze, the system."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from innerloop.core import think
from innerloop.errors import InputError
from innerloop.halt import finished
from innerloop.parts import act
from innerloop.parts.config import NetConfig
from innerloop.study.contract import CHECKS, Subject, make_perturbed, sample_question
from innerloop.weights.act import ACT, Config

EPS, T = 0.01, 12
SIZE = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)
SLOW = -1.5  # bias of a halting unit under which examples differ in their steps


def cases():
    """(B, T) float64 probabilities: ordinary ones, halting at once, never before the cap, and saturated to 0 and 1."""
    draw = torch.Generator().manual_seed(1)
    p = (
        torch.rand(64, T, dtype=torch.float64, generator=draw)
        * torch.linspace(0.05, 1, 64, dtype=torch.float64)[:, None]
    )
    p[0, 0] = 0.995
    p[1] = 0.01
    p[2] = 0.0
    p[3] = 1.0
    p[4] = (torch.arange(T) == 5).double()
    return p


def run(p_BT, z_BTD, form="graves", granularity=1):
    """Accumulators after every step, from given probabilities and states, and the states as they are held."""
    z = torch.zeros_like(z_BTD[:, 0])
    a, seen = act.initial_act(z, granularity), []
    for t in range(p_BT.shape[1]):
        a, old = act.advance(a, z, p_BT[:, t], EPS, form), a
        z = act.freeze_halted(old.done, z, z_BTD[:, t])
        seen.append((a, z))
    return seen


def scalar(p, z, form):
    """One example, as the paper writes it; (weighted state, N, R) when it halts or the probabilities end."""
    total, mean = 0.0, 0.0
    for n, (chance, state) in enumerate(zip(p, z, strict=True), 1):
        last = total + chance >= 1 - EPS or n == len(p)
        w = 1 - total if last else chance
        mean = (mean if form == "graves" else mean * (1 - w)) + w * state
        if last:
            return mean, n, w
        total += chance
    raise AssertionError


def test_weights_sum_to_one_and_only_steps_before_the_last_cost():
    p = cases().requires_grad_()
    a, z = run(p, torch.eye(T, dtype=torch.float64).expand(len(p), T, T))[-1]
    weights = act.weighted(a, z).detach()  # states are unit vectors, so the weighted state lists the weights
    assert max(abs(math.fsum(row) - 1) for row in weights.tolist()) <= 1e-15
    assert (weights >= 0).all()
    act.ponder_cost(a).sum().backward()
    want = -(torch.arange(T) < a.n[:, None] - 1).double()
    assert torch.equal(p.grad, want)
    assert a.n[0] == 1 and a.n[3] == 1 and a.n[4] == 6  # at once, and saturated
    assert a.n[1] == T and a.n[2] == T and not a.done[1:3].any()  # the cap
    assert len(a.n.unique()) > 5


@pytest.mark.parametrize("form", act.FORMS)
def test_the_same_as_a_scalar_loop_at_every_cap(form):
    p = cases()
    z = torch.randn(64, T, 3, dtype=torch.float64)
    for cap, (a, held) in enumerate(run(p, z, form), 1):
        for i in range(64):
            mean, n, r = scalar(p[i, :cap].tolist(), z[i, :cap], form)
            assert a.n[i] == n and act.remainder(a)[i].item() == pytest.approx(r, abs=1e-15)
            assert act.ponder_cost(a)[i].item() == pytest.approx(n + r, abs=1e-14)
            assert (act.weighted(a, held, form)[i] - mean).abs().max() < 1e-14


def test_places_halt_one_by_one_and_stay_to_the_last_bit():
    p, z = cases().float(), torch.randn(64, T, 5)
    examples = run(p, z)
    places = run(p.view(4, 16, T).transpose(1, 2), z.view(4, 16, T, 5).transpose(1, 2), granularity=2)
    for (a, held), (b, wide) in zip(examples, places, strict=True):
        assert all(torch.equal(s.flatten(), t.flatten()) for s, t in zip((*a, held), (*b, wide), strict=True))
    for (a, held), (b, after) in pairwise(examples):
        assert all(torch.equal(s[a.done], t[a.done]) for s, t in zip((*a, held), (*b, after), strict=True))
        assert not torch.equal(held[~a.done], after[~a.done])


def test_interpolation_is_another_form():
    wide = torch.float64
    p, z = torch.tensor([[0.3, 0.3, 0.4]], dtype=wide), torch.tensor([[[1.0], [2.0], [4.0]]], dtype=wide)
    for form, want in (("graves", 2.5), ("interpolate", 2.086)):
        assert act.weighted(*run(p, z, form)[-1], form).item() == pytest.approx(want, abs=1e-12)


def test_sums_are_float32_beside_bfloat16_states():
    p = torch.full((1, 120), 0.009)
    seen = run(p, torch.ones(1, 120, 2, dtype=torch.bfloat16))
    a, z = seen[-1]
    assert a.total.dtype == a.mean.dtype == torch.float32 and act.weighted(a, z).dtype == torch.bfloat16
    assert a.n == 110  # 110 * 0.009 = 0.99
    low = torch.tensor(0.0, dtype=torch.bfloat16)
    for _ in range(110):
        low = low + p[0, 0].bfloat16()
    assert abs(low.item() - 0.99) > 0.01


def loop(bias=SLOW, **how):
    torch.manual_seed(3)
    net = ACT(Config(SIZE, dtype="float32", **how))
    torch.nn.init.constant_(net.halting.unit.bias, bias)
    return net


@torch.no_grad()
def test_a_system_stops_by_itself_and_may_run_on():
    x, net = sample_question(12), loop()
    stopped, cut = think(net, x, 64, halt=finished), think(net, x, 3)
    on = think(net, x, 64)
    assert torch.equal(stopped.steps, on.state.act.n) and len(stopped.steps.unique()) > 2
    assert stopped.state.done.all() and stopped.steps.max() < 64
    for a, b in zip((*stopped.state.act, stopped.state.z), (*on.state.act, on.state.z), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(stopped.answer.logits, on.answer.logits)
    assert torch.equal(cut.state.act.n, on.state.act.n.clamp_max(3)) and not cut.state.done.all()
    n, r = on.state.act.n, 1 - on.state.act.total
    assert torch.allclose(net.terms(on.state)["act_loss"], 0.01 * (n + r))


@torch.no_grad()
def test_the_flag_marks_the_first_step_alone():
    x, net = sample_question(), loop()
    one, two = net.step(net.init(x), x), net.step(net.step(net.init(x), x), x)
    net.flag.add_(1.0)
    assert not torch.equal(net.step(net.init(x), x).z, one.z)
    assert torch.equal(net.step(one, x).z, two.z)


def test_the_answer_alone_teaches_halting():
    x, net = sample_question(), loop(tau=0.0)
    think(net, x, 8).answer.logits.square().sum().backward()
    assert net.halting.unit.weight.grad.abs().max() > 0 and net.flag.grad.abs().max() > 0


def test_no_step_after_the_halt_has_a_slope():
    x, net = sample_question(), loop(bias=20.0)
    shallow, deep = think(net, x, 1), think(net, x, 6)
    assert torch.equal(shallow.answer.logits, deep.answer.logits)
    a, b = (torch.autograd.grad(t.answer.logits.sum(), net.net.parameters()) for t in (shallow, deep))
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("how", ["interpolate", "mean"])
def test_variants_keep_the_contract(check, how):
    size = replace(SIZE, pool="mean", prefix=0, puzzle_emb_size=0) if how == "mean" else SIZE
    config = Config(size, form="graves" if how == "mean" else how, dtype="float32")
    CHECKS[check](Subject("act", lambda: ACT(config), sample_question()))


@torch.no_grad()
def test_an_example_thinks_alone_as_in_a_batch():
    x = sample_question(12)
    net = make_perturbed(Subject("act", loop, x)).eval()
    together = think(net, x, 64, halt=finished)
    assert len(together.steps.unique()) > 2
    for i in range(12):
        one = think(net, x._replace(inputs=x.inputs[i : i + 1], puzzle=x.puzzle[i : i + 1]), 64, halt=finished)
        assert one.steps == together.steps[i]
        assert torch.allclose(one.answer.logits[0], together.answer.logits[i], atol=1e-5)


def test_bad_settings_say_what_is_wrong():
    for bad in ({"eps": 0.0}, {"eps": 1.0}, {"tau": -1.0}, {"form": "mean"}):
        with pytest.raises(InputError):
            Config(SIZE, **bad)
