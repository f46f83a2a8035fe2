"""The participation ratio: closed forms, its bias and the bias' removal, controls."""

import itertools

import numpy as np
import pytest
import torch

from innerloop import weights
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.study.contract import sample_question
from innerloop.study.dimension import compare, dimension, effective_rank, participation_ratio, sample_position, traces


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize(("n", "d"), [(324, 512), (100, 50), (60, 400)])
def test_isotropic_rows_give_the_bias_formula_and_the_correction_gives_d(n, d):
    """n = 324, d = 512 -> 198, not 512."""
    found = [dimension(normal(n, d, seed), draws=0) for seed in range(6)]
    plain, corrected = (np.mean([getattr(f, k) for f in found]) for k in ("plain", "corrected"))
    assert abs(plain / (1 / (1 / d + 1 / n)) - 1) < 0.02
    assert abs(corrected / d - 1) < 0.03
    assert (found[0].n, found[0].d) == (n, d)


def test_closed_forms():
    """tr(C)^2 / |C|^2 = (sum l)^2 / sum l^2 of the eigenvalues l; k equal directions: k; one: 1."""
    rows = normal(200, 20) * np.linspace(0.1, 3, 20)
    values = np.linalg.eigvalsh(np.cov(rows.T))
    assert participation_ratio(rows) == pytest.approx(values.sum() ** 2 / np.square(values).sum(), rel=1e-10)
    assert participation_ratio(rows.T[:, :10].T) == pytest.approx(participation_ratio(rows[:10]), rel=1e-12)
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=4))) @ np.linalg.qr(normal(9, 4))[0].T
    assert participation_ratio(corners) == pytest.approx(4, rel=1e-10)
    assert effective_rank(corners) == pytest.approx(4, rel=1e-10)
    line = np.outer(np.arange(20.0), normal(1, 7)[0])
    assert participation_ratio(line) == pytest.approx(1, rel=1e-9) and effective_rank(line) == pytest.approx(1)
    p = values / values.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def test_traces_are_the_sums_over_four_different_rows():
    x, rng = normal(7, 3), np.random.default_rng(1)
    half = np.square(x[:, None] - x[None]).sum(-1) / 2
    for w in (np.ones(7), rng.integers(0, 3, 7).astype(float), rng.random(7)):
        above = below = weight = 0.0
        for i, j, k, l in itertools.permutations(range(7), 4):
            v = w[i] * w[j] * w[k] * w[l]
            above += v * half[i, j] * half[k, l]
            below += v * ((x[i] - x[j]) @ (x[k] - x[l])) ** 2 / 4
            weight += v
        assert traces(half, w) == pytest.approx((above / weight, below / weight), rel=1e-9)


def test_the_correction_presumes_no_gaussian():
    """Heavy tails and fixed norms: the truth is tr(C)^2 / tr(C^2) all the same."""
    d, scale = 12, np.linspace(1, 3, 12)
    truth = (scale**2).sum() ** 2 / (scale**4).sum()
    draw = np.random.default_rng(0)
    tails = [dimension(draw.standard_t(6, (150, d)) / np.sqrt(1.5) * scale, draws=0).corrected for _ in range(60)]
    assert abs(np.mean(tails) / truth - 1) < 0.03
    sphere = normal(150 * 40, d) * 1.0
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    balls = [dimension(part, draws=0).corrected for part in np.split(sphere, 40)]
    assert abs(np.mean(balls) / d - 1) < 0.02


def test_the_interval_covers():
    d = 10
    scale = np.linspace(1, 2, d)
    truth = (scale**2).sum() ** 2 / (scale**4).sum()
    inside = 0
    for seed in range(60):
        found = dimension(normal(120, d, seed) * scale, draws=100, seed=seed)
        assert found.low <= found.corrected <= found.high
        inside += found.low <= truth <= found.high
    assert inside >= 50, "a 95 % interval that misses one in six is none"


def test_rows_that_do_not_differ_have_no_dimension():
    found = dimension(np.ones((20, 4)), draws=10)
    assert np.isinf(found.corrected) and np.isinf(found.low) and found.effective_rank == pytest.approx(1)


def test_too_few_or_shapeless_rows_are_refused():
    with pytest.raises(InputError, match="8 to 4096"):
        dimension(normal(5, 3))
    with pytest.raises(InputError, match="flatten"):
        dimension(np.zeros((3, 4, 5)))


def test_one_place_of_each_example():
    slot = torch.arange(40.0).view(5, 4, 2)
    rows = sample_position(slot, 3)
    assert rows.shape == (5, 2) and torch.equal(rows, sample_position(slot, 3))
    assert [int(r[0]) // 8 for r in rows] == list(range(5))


def test_controls_see_the_same_examples_at_the_same_n():
    size = NetConfig(vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, multiple_of=32, puzzle_emb_size=32)
    make, config = weights.get("hrm")
    loops = {}
    for name in ("one", "same", "other"):
        torch.manual_seed(name == "other")
        loops[name] = make(config(net=size, dtype="float32"))
    found = compare(loops, sample_question(24), 3, draws=20)
    assert set(found) == set(loops) and set(found["one"]) == {"h", "l"}
    assert found["one"] == found["same"] != found["other"]
    assert all(f.n == 24 and f.d == 32 for loop in found.values() for slot in loop.values() for f in slot)
    assert [len(v) for v in found["one"].values()] == [3, 3]
