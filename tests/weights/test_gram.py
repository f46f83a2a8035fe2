"""GRAM: the push and its cost against their definitions, where gradients go, and what width buys."""

import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.core import Question, detach, map_tensors, think
from innerloop.data.sets import Example
from innerloop.learn.plan import Plan
from innerloop.learn.supervise import HaltingConfig, loss_and_metrics
from innerloop.learn.train import train
from innerloop.noise import normal, salted, scramble
from innerloop.parts.config import NetConfig
from innerloop.parts.guidance import INITIAL_STD, Gaussian, Guidance, balanced_kl, kl
from innerloop.parts.mixers import Net
from innerloop.runs.fit import fit_config
from innerloop.study.coverage import coverage
from innerloop.tasks.task import Task
from innerloop.weights.gram import GRAM, Config
from innerloop.weights.trm import TRM
from innerloop.weights.trm import Config as TRMConfig
from innerloop.width import best, think_wide

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=1.5, multiple_of=32, puzzle_emb_size=32
)


def made(seed=0, **changes):
    """A loop a little off its start, so that heads that begin at zero say something."""
    torch.manual_seed(seed)
    loop = GRAM(Config(TINY, **({"dtype": "float32", "cycles": 2, "thoughts": 2} | changes)))
    with torch.no_grad():
        for p in loop.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return loop


def asked(rows=3, seed=0, target=False):
    draw = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randint(1, 6, (2, rows, 16), generator=draw)
    return Question(inputs, torch.zeros(rows, dtype=torch.long), labels if target else None)


def gaussians(shape=(2, 5, 4), seed=0):
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(4, *shape, generator=draw, dtype=torch.float64)
    q_mean, q_log, p_mean, p_log = (v.requires_grad_() for v in values.unbind())
    return (q_mean, q_log, p_mean, p_log), Gaussian(q_mean, q_log.exp()), Gaussian(p_mean, p_log.exp())


# -- the push and its cost --------------------------------------------------------------------------------------------


def test_the_kl_is_that_of_torch():
    _, q, p = gaussians()
    want = torch.distributions.kl_divergence(torch.distributions.Normal(*q), torch.distributions.Normal(*p))
    assert (kl(q, p) - want).abs().max() < 1e-12
    assert (balanced_kl(q, p, 0.8) - want.sum(-1).mean(-1)).abs().max() < 1e-12


def test_balance_splits_the_gradient_and_leaves_the_value():
    leaves, q, p = gaussians()
    whole = torch.autograd.grad(kl(q, p).sum(-1).mean(-1).sum(), leaves, retain_graph=True)
    split = torch.autograd.grad(balanced_kl(q, p, 0.8).sum(), leaves)
    for full, part, share in zip(whole, split, (0.2, 0.2, 0.8, 0.8), strict=True):
        assert torch.allclose(part, share * full, rtol=1e-12, atol=0) and full.abs().min() > 0


def test_the_pushs_gradient_is_that_of_finite_differences():
    """Reparametrised: for fixed noise the push is a smooth function of the state and of every weight."""
    torch.manual_seed(0)
    guidance = Guidance(replace(TINY, hidden_size=4, heads=1, puzzle_emb_size=4, multiple_of=4), 0.5).double()
    for p in guidance.parameters():
        nn.init.normal_(p, std=0.5)
    u, noise, y = torch.randn(3, 2, 3, 4, dtype=torch.float64)

    def total(u, y):
        push, cost = guidance(u, noise, y)
        return (push * torch.linspace(1, 2, 24, dtype=torch.float64).view(2, 3, 4)).sum() + 0 * cost.sum()

    assert torch.autograd.gradcheck(total, (u.requires_grad_(), y.requires_grad_()), eps=1e-6, atol=1e-6)
    total(u, y).backward()
    for name, p in guidance.posterior.named_parameters():
        index = tuple(s // 2 for s in p.shape)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                p[index] += sign * 1e-6
                ends.append(total(u, y).item())
                p[index] -= sign * 1e-6
        slope = (ends[0] - ends[1]) / 2e-6
        assert p.grad[index].item() == pytest.approx(slope, rel=1e-5, abs=1e-7), name
    assert all((p.grad == 0).all() for p in guidance.prior.parameters())


def test_before_learning_the_mean_is_nothing_and_the_scatter_is_known():
    torch.manual_seed(0)
    guidance = Guidance(TINY, 0.8)
    for y in (None, torch.randn(2, 17, 32)):
        push, cost = guidance(torch.randn(2, 17, 32), torch.ones(2, 17, 32), y)
        assert torch.allclose(push, torch.tensor(INITIAL_STD)) and (cost.abs() < 1e-6).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_mean_and_scatter_it_is_the_deterministic_core(dtype):
    torch.manual_seed(0)
    loop, x = GRAM(Config(TINY, cycles=2, thoughts=3, dtype=dtype)), asked()
    nn.init.constant_(loop.guidance.prior.bias, -torch.inf)  # softplus of it is 0, and the means begin at 0
    with torch.no_grad():
        s = loop.init(x)
        h, l, e = s.h, s.l, loop.embed(x, loop.dtype)
        for _ in range(4):
            for _ in range(3):
                l = loop.low(l, h + e)
            h = loop.high(h, l)
        state = think(loop, x, 2).state
    assert torch.equal(state.h, h) and torch.equal(state.l, l)


# -- the system -------------------------------------------------------------------------------------------------------


def test_it_has_the_papers_size():
    """10.5 million at D = 512 with FFN 512 without the embeddings; the paper's tables say 10M."""
    loop = GRAM(Config())
    core = sum(p.numel() for n, p in loop.named_parameters() if n.split(".")[0] in ("low", "high", "guidance"))
    assert core == 2 * 2 * (4 * 512**2 + 3 * 512**2) + 4 * 3 * 512**2 + 2 * 512 == 10_486_784


def test_the_last_transition_alone_is_taped():
    loop, x = made(cycles=3, thoughts=4), asked(target=True)
    taped = []
    for net in (loop.low, loop.high):
        net.register_forward_hook(lambda *_: taped.append(torch.is_grad_enabled()))
    loop.step(loop.init(x), x)
    assert taped == [False] * 10 + [True] * 5 and all(isinstance(m, Net) for m in (loop.low, loop.high))


def test_learning_draws_from_the_posterior_and_answering_from_the_prior():
    loop = made()
    x, other = asked(target=True), asked(target=True)._replace(target=asked(seed=5, target=True).target)
    first, second = (loop.step(loop.init(q), q) for q in (x, other))
    assert (first.kl > 0).all() and (first.h != second.h).any()
    free = loop.step(loop.init(x), x._replace(target=None))
    assert (free.kl == 0).all() and set(loop.terms(free)) == {"kl_loss"} and (free.h != first.h).any()
    assert torch.allclose(loop.terms(first)["kl_loss"], 0.07 * first.kl[:, 0])


def test_the_kl_is_that_of_the_last_transition():
    loop, x = made(cycles=1), asked(target=True)
    once = loop.step(loop.init(x), x)
    twice = loop.step(once, x)
    both = made(cycles=2)
    both.load_state_dict(loop.state_dict())
    assert torch.allclose(both.step(both.init(x), x).kl, twice.kl, rtol=1e-4) and not torch.allclose(once.kl, twice.kl)


def test_places_without_a_label_show_nothing():
    loop, x = made(), asked(target=True)
    hidden = torch.arange(16) % 3 == 0
    a, b = (x._replace(target=x.target.masked_fill(hidden, none)) for none in (-100, -1))
    assert torch.equal(loop.step(loop.init(a), a).h, loop.step(loop.init(b), b).h)
    shown = loop.shown(a)
    assert shown.shape == (3, 17, 32) and (shown[:, :1] == 0).all() and (shown[:, 1:][:, hidden] == 0).all()
    assert (shown[:, 1:][:, ~hidden] != 0).any(-1).all()


def test_every_transition_draws_anew():
    loop, x = made(cycles=2), asked()
    s = loop.init(x)
    keys = [s.key, scramble(s.key + 1), scramble(scramble(s.key + 1) + 1)]
    assert torch.equal(loop.step(s, x).key, keys[2]) and len(torch.cat(keys).unique()) == 9


def test_halting_and_value_learn_without_moving_the_core():
    loop, x = made(), asked(target=True)
    answer = loop.read(loop.step(loop.init(x), x))
    (answer.q_halt.sum() + answer.value.sum()).backward()
    reached = {n for n, p in loop.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    assert reached == {"heads.q.weight", "heads.q.bias", "value.weight", "value.bias"}
    assert ((answer.value > 0) & (answer.value < 1)).all()


def test_the_value_learns_the_share_of_places_that_are_right():
    loop, x = made(), asked(target=True)
    answer = loop.read(loop.step(loop.init(x), x))
    free = torch.ones(3, dtype=torch.bool)
    losses, _ = loss_and_metrics(answer, x.target, torch.ones(3).long(), free, None, "softmax")
    right = (answer.logits.argmax(-1) == x.target).float().mean(1)
    assert torch.allclose(losses["value_loss"], ((answer.value - right) ** 2).sum())


def test_another_salt_is_another_trajectory_and_the_same_salt_the_same():
    loop, x = made(), asked()
    with torch.no_grad():
        a, b, c = (think(loop, x, 2, state=salted(loop.init(x), i)).state.h for i in (1, 2, 1))
    assert torch.equal(a, c) and (a != b).any((1, 2)).all()


def test_trajectories_folded_into_a_batch_are_those_of_a_loop():
    loop, x = made(), asked()
    with torch.no_grad():
        alone = torch.stack([think(loop, x, 3, state=salted(loop.init(x), i)).answer.logits for i in range(5)], 1)
        many = map_tensors(lambda t: t.repeat_interleave(5, 0), x._replace(target=None))
        folded = think(loop, many, 3, state=salted(loop.init(many), torch.arange(5).repeat(3))).answer.logits
    assert torch.allclose(folded.unflatten(0, (3, 5)), alone, atol=1e-4)


@pytest.mark.slow
def test_the_best_of_n_by_an_oracle_never_falls_with_n():
    loop, x = made(), asked(rows=8)
    labels = asked(rows=8, target=True).target
    oracle = best(lambda answer: (answer.logits.argmax(-1) == labels).float().mean(1))
    with torch.no_grad():
        answers = [think_wide(loop, x, n, oracle, 2).answer.logits.argmax(-1) for n in range(1, 13)]
    curve = [(a == labels).float().mean(1) for a in answers]
    rises = torch.stack(curve).diff(dim=0)
    assert (rises >= 0).all() and (rises > 0).any()


def test_the_elbo_stays_below_the_importance_weighted_bound():
    """The full bound, of all transitions: its KL as the state keeps it is what sampled log ratios come to."""
    depth, n, loop = 3, 400, made(cycles=1, thoughts=1)
    x = map_tensors(lambda t: t.expand(n, -1) if t.ndim > 1 else t.expand(n), asked(rows=1, target=True))
    with torch.no_grad():
        s = salted(loop.init(x), torch.arange(n))
        cost, ratio = torch.zeros(n), torch.zeros(n)
        for _ in range(depth):
            l = loop.low(s.l, s.h + loop.embed(x, torch.float32))
            u, noise = loop.high(s.h, l), normal(s.key, 17, 32)
            p, q = loop.guidance.prior(u), loop.guidance.posterior(u + loop.shown(x))
            e = q.mean + q.std * noise
            s = loop.step(s, x)
            assert torch.allclose(s.h, u + e, atol=1e-5)
            ratio += sum(sign * torch.distributions.Normal(*d).log_prob(e).sum((1, 2)) for sign, d in ((1, p), (-1, q)))
            cost += 17 * s.kl[:, 0]
        log_p = torch.log_softmax(loop.read(s).logits, -1).gather(-1, x.target[..., None]).sum((1, 2))
    elbo, weights = log_p - cost, log_p + ratio
    off = (elbo - weights).mean().abs() / ((elbo - weights).std() / n**0.5)
    assert off < 4 and cost.mean() > 1
    bounds = [
        (torch.logsumexp(weights.view(-1, k), 1) - torch.log(torch.tensor(float(k)))).mean() for k in (1, 5, 20, 100)
    ]
    assert elbo.mean() - 3 * weights.std() / n**0.5 < bounds[0] and bounds == sorted(bounds)
    assert elbo.mean() < bounds[1]


# -- learning ---------------------------------------------------------------------------------------------------------


class Two(Task):
    """One question, two right answers: abab and baba."""

    name, shape, charset, vocab, blank = "two", (1, 4), "ab?", 4, 3
    both = np.array([[1, 2, 1, 2], [2, 1, 2, 1]], np.uint8)

    def sample(self, seed, i):
        return Example(np.full(4, 3, np.uint8), self.both[np.random.default_rng([seed, i]).integers(2)], 0.0)

    def every(self, question, limit):
        return self.both[:limit]

    def valid_batch(self, inputs, answers):
        return (answers[:, None] == self.both).all(2).any(1)


def learned(loop, task):
    calm = HaltingConfig(8, learned=False, explore=0.0)
    long = {"steps": 400, "check_every": 400, "save_every": 400, "warmup": 10}
    how = {"batch": 16, "optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.01, "clip": 1.0, "ema": 0.0}
    plan = Plan(**long, **how, loss="softmax", halting=calm, compile="off")
    with tempfile.TemporaryDirectory() as folder:
        train(loop, task, task.make(64, 0), plan, folder, live=False)
    (found,) = coverage(loop.eval(), task, task.make(1, 1), (20,), 8)
    return found


@pytest.mark.slow
def test_of_two_solutions_it_finds_both_and_a_deterministic_loop_one():
    task = Two()
    small = replace(
        TINY, hidden_size=16, multiple_of=16, block="tokens", positions="none", prefix=0, puzzle_emb_size=0, pool="mean"
    )
    size = fit_config(small, task, 1)
    torch.manual_seed(0)
    plain = learned(TRM(TRMConfig(size, cycles=1, thoughts=1, dtype="float32")), task)
    torch.manual_seed(0)
    gram = learned(GRAM(Config(size, cycles=1, thoughts=1, beta=0.5, dtype="float32")), task)
    print(f"coverage: TRM {plain.coverage.value}, GRAM {gram.coverage.value}; GRAM valid {gram.valid.value}")
    assert plain.coverage.value <= 0.5 and plain.answers == 1
    assert gram.coverage.value == 1.0 and gram.valid.value > 0.7


def test_a_carried_state_starts_the_next_transition_without_its_tape():
    loop, x = made(), asked(target=True)
    s = detach(loop.step(loop.init(x), x))
    assert not any(t.requires_grad for t in s)
