"""Full unrolls: depth schedules, tapes, weighting by halting; and noise that is a function of a key."""

import math
from collections import Counter

import pytest
import torch
from torch import nn

from innerloop import noise
from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.learn.supervise import Batch
from innerloop.learn.unroll import Unroll, geometric_prior, log_halting_probabilities, unrolled_step
from innerloop.noise import key_of, normal, salted, scramble, uniform
from innerloop.recipes import get
from innerloop.runs.fit import build
from innerloop.runs.run import override


class Counting(nn.Module):
    """A state that grows by a weight a step; its halting logit is a constant."""

    def __init__(self, q=0.0):
        super().__init__()
        self.w, self.q = nn.Parameter(torch.tensor(0.5, dtype=torch.float64)), q

    def init(self, x):
        return (x.inputs.double() * 0,)

    def step(self, s, x):
        return (s[0] + self.w,)

    def read(self, s):
        return Answer(torch.stack((-s[0], s[0]), -1), torch.full((len(s[0]),), self.q, dtype=torch.float64))


BATCH = Batch(Question(torch.ones(3, 2, dtype=torch.long), torch.zeros(3, dtype=torch.long)), torch.ones(3, 2).long())


def grad_of(unroll, depth, q=0.0):
    loop = Counting(q)
    sum(unrolled_step(loop, BATCH, unroll, depth, None, "softmax").losses.values()).backward()
    return loop.w.grad.item()


def nll(w, n):
    return math.log1p(math.exp(-2 * w * n))


def slope(n):
    return -2 * n / (1 + math.exp(2 * 0.5 * n))


def test_the_last_answer_is_weighed_and_the_tape_is_the_rule():
    per_row = slope(4)
    assert grad_of(Unroll(4), 4) == pytest.approx(3 * per_row, rel=1e-5)
    assert grad_of(Unroll(4, grad="last(1)"), 4) == pytest.approx(3 * per_row / 4, rel=1e-5)


def test_a_window_is_the_mean_over_the_last_answers():
    want = 3 * (slope(3) + slope(4)) / 2
    assert grad_of(Unroll(4, weigh="window", window=2), 4) == pytest.approx(want, rel=1e-5)


def test_ponder_weighs_answers_by_the_chance_to_halt_there():
    out = unrolled_step(Counting(0.3), BATCH, Unroll(3, weigh="ponder", prior=0.4, beta=0.1), 3, None, "softmax")
    lam = 1 / (1 + math.exp(-0.3))
    p = [lam, (1 - lam) * lam, (1 - lam) ** 2]
    g = [0.4, 0.6 * 0.4, 0.36]
    want = 3 * sum(a * nll(0.5, n) for n, a in enumerate(p, 1))
    assert out.losses["lm_loss"].item() == pytest.approx(want, rel=1e-6)
    kl = sum(a * math.log(a / b) for a, b in zip(p, g, strict=True))
    assert out.losses["ponder_loss"].item() == pytest.approx(3 * 0.1 * kl, rel=1e-5)
    assert "q_halt_loss" not in out.losses


def test_the_steps_of_a_pondering_thought_are_their_mean():
    metrics = unrolled_step(Counting(0.3), BATCH, Unroll(3, weigh="ponder"), 3, None, "softmax").metrics
    lam = 1 / (1 + math.exp(-0.3))
    assert metrics["steps"].item() == pytest.approx(3 * (lam + 2 * (1 - lam) * lam + 3 * (1 - lam) ** 2))
    assert metrics["count"] == 3


def test_halting_laws_sum_to_one_and_equal_laws_have_no_divergence():
    logits = torch.linspace(-60, 60, 7)[:, None].double()
    assert log_halting_probabilities(logits).exp().sum(0).item() == pytest.approx(1, abs=1e-12)
    same = torch.full((20, 1), math.log(0.2 / 0.8)).double()
    p, prior = log_halting_probabilities(same), geometric_prior(0.2, 20).double()
    assert (p.exp()[:, 0] * (p[:, 0] - prior.log())).sum().abs() < 1e-6


def test_depth_schedules():
    gen = torch.Generator().manual_seed(0)
    ramp = Unroll(8, "ramp", first=2, ramp=0.5)
    assert [ramp.draw_depth(p, gen) for p in (0, 0.25, 0.49, 0.5, 1)] == [2, 5, 8, 8, 8]
    seen = Counter(Unroll(4, "uniform").draw_depth(0, gen) for _ in range(400))
    assert set(seen) == {1, 2, 3, 4}
    drawn = torch.tensor([float(Unroll(32, "poisson").draw_depth(0, gen)) for _ in range(6000)])
    assert abs(drawn.mean() - 33) < 1 and abs(drawn.median() - 29) <= 1 and abs(drawn.std() - 18) < 1.5


def test_bad_unrolls_say_what_is_wrong():
    for bad in (
        {"draw": "often"},
        {"weigh": "all"},
        {"window": 0},
        {"prior": 1.0},
        {"grad": "none"},
        {"draw": "ramp", "first": 5},
    ):
        with pytest.raises(InputError):
            Unroll(4, **bad)


@pytest.mark.slow
def test_a_system_learns_by_whole_thoughts(tmp_path):
    from innerloop.learn.train import train

    changes = ("plan.unroll.depth=4", "plan.steps=150", "plan.check_every=150", "data.count=200", "data.holdout=100")
    run = override(get("sudoku4"), changes)
    from dataclasses import replace

    from innerloop.weights import ut

    run = replace(run, system="ut", config=ut.Config(run.config.net, dtype="float32"))
    built = build(run)
    how = {"validation": built.validation, "seed": 0, "live": False}
    result = train(built.loop, built.task, built.train, built.run.plan, tmp_path, **how)
    assert result.best["exact"] > 0.5
    assert built.run.plan.trained_depth == 4


def test_keyed_noise_is_normal_and_a_function_of_the_key_alone():
    x = Question(torch.randint(1, 9, (64, 20)), torch.zeros(64, dtype=torch.long))
    key = key_of(x)
    assert len(key.unique()) == 64 and torch.equal(key[5:6], key_of(Question(x.inputs[5:6], x.puzzle[5:6])))
    z = normal(key, 50, 40)
    assert z.isfinite().all() and abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert (z**3).mean().abs() < 0.03 and abs((z**4).mean() - 3) < 0.1
    assert torch.equal(z[7], normal(key[7:8], 50, 40)[0])
    flat = z.flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(64)
    assert correlation.abs().max() < 0.12  # 2016 pairs of 2000 draws: 0.022 each
    following = normal(scramble(key + 1), 50, 40).flatten(1)
    assert ((flat * following).mean(1)).abs().max() < 0.1
    u = uniform(key, 1000)
    assert u.min() > 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.01


def test_keyed_noise_is_finite_at_the_ends_of_its_interval():
    ends = noise._between(torch.tensor([0, 2**23 - 1]))
    assert ends[0] > 0 and ends[1] < 1 and ends[0] == 1 - ends[1]
    assert torch.erfinv(2 * ends - 1).isfinite().all()


def test_a_salt_makes_another_trajectory_and_zero_none():
    from typing import NamedTuple

    class State(NamedTuple):
        key: torch.Tensor

    state = State(torch.arange(5))
    assert torch.equal(salted(state, 0).key, state.key)
    keys = torch.cat([salted(state, i).key for i in range(20)])
    assert len(keys.unique()) == 100
    mixed = salted(state, torch.tensor([0, 1, 0, 2, 3])).key
    assert mixed[0] == 0 and mixed[1] == salted(state, 1).key[1]
    assert salted((1, 2), 3) == (1, 2)
