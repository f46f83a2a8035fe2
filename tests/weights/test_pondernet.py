"""PonderNet: its law of halting, its divergence from the prior, and halting by a draw."""

import math

import pytest
import torch
from scipy.stats import chi2
from torch.distributions import Geometric, kl_divergence

from innerloop import halt
from innerloop.core import Answer, Question, think
from innerloop.errors import InputError
from innerloop.learn.supervise import Batch
from innerloop.learn.unroll import Unroll, log_geometric_prior, log_halting_probabilities, ponder_losses, unrolled_step
from innerloop.noise import salted
from innerloop.parts.config import NetConfig
from innerloop.study.contract import sample_question
from innerloop.weights.act import ACT
from innerloop.weights.act import Config as ActConfig
from innerloop.weights.pondernet import Config, PonderNet

SIZE = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)


def logit(p):
    return math.log(p / (1 - p))


def divergence(chance, prior, steps):
    """KL(halting || prior) of one example whose every lambda is `chance`, as the loss computes it."""
    labels = torch.ones(1, 2, dtype=torch.long)
    q = torch.tensor([logit(chance)], dtype=torch.float64)
    answers = [Answer(torch.zeros(1, 2, 3), q)] * steps
    unroll = Unroll(steps, weigh="ponder", prior=prior, beta=1.0)
    return ponder_losses(answers, labels, torch.ones(1), unroll, "softmax")[0]["ponder_loss"].item()


def test_chances_sum_to_one_also_where_they_saturate():
    torch.manual_seed(0)
    for scale in (1, 10, 1000):
        p = log_halting_probabilities(scale * torch.randn(50, 64, dtype=torch.float64)).exp()
        assert (p >= 0).all() and (p.sum(0) - 1).abs().max() < 1e-14
    lam = torch.rand(6, 1, dtype=torch.float64)
    stay = (1 - lam).cumprod(0)
    want = torch.cat((lam[:1], lam[1:-1] * stay[:-2], stay[-2:-1]))
    assert (log_halting_probabilities(lam.logit()).exp() - want).abs().max() < 1e-15


def test_the_divergence_is_that_of_geometric_laws():
    closed = math.log(0.3 / 0.2) + 0.7 / 0.3 * math.log(0.7 / 0.8)
    oracle = kl_divergence(Geometric(torch.tensor(0.3).double()), Geometric(torch.tensor(0.2).double())).item()
    assert closed == pytest.approx(0.09389, abs=5e-6) and oracle == pytest.approx(closed, rel=1e-6)
    assert divergence(0.3, 0.2, 200) == pytest.approx(closed, abs=2e-6)
    reverse = kl_divergence(Geometric(torch.tensor(0.2)), Geometric(torch.tensor(0.3))).item()
    assert abs(reverse - closed) > 0.02  # the direction matters, and is KL(p || prior)


@pytest.mark.parametrize(("chance", "steps"), [(0.2, 20), (0.1, 30), (0.9, 3), (0.5, 1)])
def test_equal_laws_do_not_diverge(chance, steps):
    assert abs(divergence(chance, chance, steps)) < 1e-6
    assert log_geometric_prior(chance, steps).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_a_far_step_under_a_hasty_prior_costs_what_it_must_and_no_more():
    """0.1 ** 63 is below any float32; its logarithm is not."""
    assert divergence(1e-9, 0.9, 64) == pytest.approx(63 * math.log((1 - 1e-9) / 0.1), rel=1e-5)


@torch.no_grad()
def test_drawn_steps_follow_the_law():
    rows, depth = 6000, 8
    draw = torch.Generator().manual_seed(5)
    x = Question(torch.randint(1, 6, (rows, 16), generator=draw), torch.zeros(rows, dtype=torch.long))
    lam = torch.tensor([0.1, 0.35, 0.2, 0.05, 0.5, 0.15, 0.3, 0.9])

    class Known:
        """A loop whose lambda at every step is known."""

        init, step = PonderNet.init, PonderNet.step

        def read(self, s):
            return Answer(s.z, lam[s.z[:, 0, 0].long() - 1].logit())

    loop = Known()
    loop.c, loop.dtype = Config(NetConfig(hidden_size=2, heads=1, seq=16, rows=4, puzzle_emb_size=2)), torch.float32
    loop.embed, loop.net = (lambda x, dtype: torch.ones(())), (lambda z, e: z + e)
    p = log_halting_probabilities(lam[:, None].logit()).exp()[:, 0]
    for salt in (0, 1, 2):
        steps = think(loop, x, depth, halt=halt.sampled, state=salted(loop.init(x), salt)).steps
        seen = torch.bincount(steps, minlength=depth + 1)[1:]
        statistic = ((seen - rows * p) ** 2 / (rows * p)).sum().item()
        assert statistic < chi2.isf(1e-3, depth - 1), f"salt {salt}: {statistic:.1f}"


@torch.no_grad()
def test_a_draw_does_not_heed_batch_mates_but_heeds_the_salt():
    x, loop = sample_question(30), PonderNet(Config(SIZE, start=0.3, dtype="float32")).eval()
    together = think(loop, x, 40, halt=halt.sampled)
    assert len(together.steps.unique()) > 3
    for i in range(0, 30, 7):
        one = think(loop, Question(x.inputs[i : i + 1], x.puzzle[i : i + 1]), 40, halt=halt.sampled)
        assert one.steps == together.steps[i]
    other = think(loop, x, 40, halt=halt.sampled, state=salted(loop.init(x), 1))
    assert not torch.equal(other.steps, together.steps)


def test_a_loop_without_a_key_cannot_draw():
    x, loop = sample_question(), ACT(ActConfig(SIZE, dtype="float32"))
    with pytest.raises(InputError, match="key"):
        think(loop, x, 2, halt=halt.sampled)


def test_before_learning_it_halts_as_it_is_told():
    x, loop = sample_question(), PonderNet(Config(SIZE, start=0.2, dtype="float32"))
    for t in think(loop, x, 3, record=lambda loop, s: loop.read(s).q_halt.sigmoid()).trace:
        assert torch.allclose(t, torch.tensor(0.2))
    batch = Batch(x, x.inputs.clone())
    out = unrolled_step(loop, batch, Unroll(6, weigh="ponder", prior=0.2), 6, torch.arange(6))
    assert out.losses["ponder_loss"].abs() < 1e-6 and set(out.losses) == {"lm_loss", "ponder_loss"}
    out.losses["lm_loss"].backward()
    assert loop.heads.q.weight.grad.abs().max() > 0  # answers that differ in their loss teach the halting


def test_a_chance_is_a_chance():
    with pytest.raises(InputError):
        Config(SIZE, start=0.0)
