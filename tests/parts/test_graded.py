"""Graded layers: identity, the action of the scalars, bounds, and exact absorption into a plain net."""

from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.graded import LIMIT, Grading, absorb, plain_state
from innerloop.parts.layers import Linear
from innerloop.parts.mixers import Net

SMALL = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=2, multiple_of=32, prefix=0, puzzle_emb_size=0
)


@pytest.mark.parametrize("mode", ["linear", "exponential"])
def test_it_begins_as_the_identity(mode):
    x = torch.randn(3, 5, 32)
    assert torch.equal(Grading(32, mode)(x), x)


def test_both_modes_scale_as_they_say():
    q, x = (0.5, 1.0, 2.0, 0.0), torch.randn(7, 4)
    assert torch.allclose(Grading(4, "exponential", 2.0, q)(x), x * torch.tensor([2**0.5, 2.0, 4.0, 1.0]))
    assert torch.allclose(Grading(4, "linear", grades=(*q[:3], 3.0))(x), x * torch.tensor([0.5, 1.0, 2.0, 3.0]))


def test_scalars_act_one_after_the_other_as_their_product():
    """lambda * (mu * x) = (lambda mu) * x."""
    q, x = (0.0, 1.0, 1.5, 2.0), torch.randn(7, 4).double()
    act = lambda base: Grading(4, "exponential", base, q).double()  # noqa: E731
    assert (act(1.5)(act(2.0)(x)) - act(3.0)(x)).abs().max() <= 1e-6 * x.abs().max() * 9


@pytest.mark.parametrize("mode", ["linear", "exponential"])
def test_no_scale_blows_up_and_the_lipschitz_constant_is_the_largest(mode):
    grading = Grading(4, mode)
    grading.theta.data = torch.tensor([-1e4, -1.0, 1.0, 1e4])
    assert grading.scale.max().item() == pytest.approx(2.718281828**LIMIT, rel=1e-5)
    assert grading.scale.min().item() == pytest.approx(2.718281828**-LIMIT, rel=1e-5)
    x, y = torch.randn(100, 4), torch.randn(100, 4)
    stretch = (grading(x) - grading(y)).norm(dim=1) / (x - y).norm(dim=1)
    assert stretch.max() <= grading.scale.max() * (1 + 1e-6)
    assert torch.linalg.matrix_norm(torch.diag(grading.scale), 2).item() == pytest.approx(grading.scale.max().item())


def test_fixed_grades_are_no_parameters_and_are_saved():
    grading = Grading(4, grades=(0, 1, 2, 3), learned=False)
    assert not list(grading.parameters()) and "theta" in grading.state_dict()


def test_absorption_is_exact():
    """Bit by bit where scales are powers of two, which rounding commutes with; else to the last digits of float64."""
    x, linear = torch.randn(50, 8), Linear(8, 6, bias=True)
    linear.bias.data.normal_()
    before, after = Grading(8, grades=range(3, 11), learned=False), Grading(6, grades=(0, 1, 2, 3, 4, 0))
    before.theta.clamp_(0, 4)
    assert torch.equal(absorb(linear, before, after)(x), after(linear(before(x))))
    before, after, linear = (m.double() for m in (Grading(8), Grading(6, "linear"), linear))
    before.theta.data.normal_(), after.theta.data.normal_()
    y, y_ = absorb(linear, before, after)(x.double()), after(linear(before(x.double())))
    assert (y - y_).abs().max() <= 1e-14 * y_.abs().max()


def test_a_graded_net_is_a_plain_one():
    graded, plain = Net(replace(SMALL, block="graded")), Net(SMALL)
    for name, p in graded.named_parameters():
        if name.endswith("theta"):
            p.data.normal_()
    plain.load_state_dict(plain_state(graded))
    x = torch.randn(2, 16, 32)
    assert (graded(x) - plain(x)).abs().max() <= 1e-5
    assert (graded(x) - Net(SMALL)(x)).abs().max() > 0.1


def test_grades_are_checked_at_the_door():
    for wrong in ({"mode": "cubic"}, {"base": 1.0}, {"grades": (1.0, 2.0)}, {"grades": (1.0, 2.0, 3.0, -1.0)}):
        with pytest.raises(InputError):
            Grading(4, **wrong)
