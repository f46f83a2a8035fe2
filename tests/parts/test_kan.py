"""Kolmogorov-Arnold layers: bases against scipy, what the grid promises, refinement, and a function learned."""

import math

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.kan import KAN, KANMlp, bases, extended
from innerloop.parts.layers import SwiGLU, inner_width


def grid(intervals=5, order=3, inputs=1, low=-1.0, high=1.0):
    return extended(torch.linspace(low, high, intervals + 1).double().expand(inputs, -1), order)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("intervals", [1, 5, 8])
def test_bases_are_those_of_scipy(order, intervals):
    from scipy.interpolate import BSpline

    knots = grid(intervals, order)
    x = torch.linspace(-1, 1, 101).double()
    want = BSpline.design_matrix(x.numpy(), knots[0].numpy(), order).toarray()
    got = bases(x[:, None], knots, order)[:, 0]
    assert got.shape == (101, intervals + order)
    assert (got - torch.from_numpy(want)).abs().max() <= 1e-12
    single = bases(x.float()[:, None], knots.float(), order)[:, 0]
    assert (single.double() - got).abs().max() <= 1e-6


def test_bases_on_uneven_knots_are_those_of_scipy():
    from scipy.interpolate import BSpline

    knots = extended(torch.tensor([[-1.0, -0.7, -0.65, 0.1, 0.8, 1.3]]).double(), 3)
    x = torch.linspace(-1, 1.3, 77).double()
    want = BSpline.design_matrix(x.numpy(), knots[0].numpy(), 3).toarray()
    assert (bases(x[:, None], knots)[:, 0] - torch.from_numpy(want)).abs().max() <= 1e-12


def test_bases_sum_to_one_on_the_grid_with_both_ends_and_vanish_far_from_it():
    x = torch.cat((torch.rand(1000).double() * 2 - 1, torch.tensor([-1.0, 1.0]).double()))
    assert (bases(x[:, None], grid()).sum(-1) - 1).abs().max() <= 1e-12
    far = bases(torch.tensor([[-2.3], [2.3]]).double(), grid())
    assert not far.any()


def test_beyond_its_grid_an_input_meets_silu_alone():
    layer, x = KAN(3, 4), torch.full((1, 3), 5.0)
    assert torch.equal(layer(x), layer.base(torch.nn.functional.silu(x)))


def test_a_layer_is_the_sum_of_its_functions_and_linear_in_its_weights():
    layer, x = KAN(3, 2).double(), torch.rand(7, 3).double() * 2 - 1
    slow = torch.zeros(7, 2).double()
    for j in range(2):
        for i in range(3):
            spline = bases(x[:, i : i + 1], layer.knots[i : i + 1])[:, 0] @ layer.spline[j, i]
            slow[:, j] += layer.base.weight[j, i] * torch.nn.functional.silu(x[:, i]) + spline
    assert (layer(x) - slow).abs().max() <= 1e-12
    y = layer(x)
    for p in layer.parameters():
        p.data.mul_(3)
    assert (layer(x) - 3 * y).abs().max() <= 1e-12


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(("finer", "tol"), [(10, 2e-6), (15, 2e-6), (8, 5e-2)])
def test_refining_keeps_the_function(finer, tol, uneven):
    """To rounding where the intervals split the old; on other grids as near as splines of that grid can be."""
    torch.manual_seed(0)
    layer, x = KAN(4, 3, intervals=5), torch.rand(500, 4) * 1.8 - 0.9
    if uneven:
        layer.update_grid(x**3)
        x = x**3
    layer.spline.data.normal_(0, 0.3)
    refined = layer.refined(finer)
    assert refined.spline.shape == (3, 4, finer + 3)
    assert (refined(x) - layer(x)).abs().max() <= tol * layer(x).abs().max()


def test_a_grid_that_follows_its_data_keeps_the_function_there():
    torch.manual_seed(0)
    layer, x = KAN(4, 3), torch.randn(2000, 4) * 0.3
    layer.spline.data.normal_(0, 0.3)
    before, wide = layer(x), x.abs().amax()
    assert wide < 1.6
    inside = (x.abs() < 1).all(1)
    layer.update_grid(x[inside])
    assert (layer(x[inside]) - before[inside]).abs().mean() <= 0.02 * before.abs().mean()
    ends = layer.knots[:, 3:-3]
    assert (
        (ends.diff() > 0).all() and (ends[:, 0] < x[inside].amin(0)).all() and (ends[:, -1] > x[inside].amax(0)).all()
    )
    share = ((x[inside][:, 0] >= ends[0, 0]) & (x[inside][:, 0] < ends[0, 1])).float().mean()
    assert share == pytest.approx(1 / 5, abs=0.03)  # as many inputs in the first interval as in each other


@pytest.mark.parametrize("case", ["constant", "few", "two heaps"])
def test_following_poor_data_leaves_no_nan(case):
    """Known to break other implementations: knots that coincide, intervals without inputs."""
    x = {"constant": torch.full((50, 2), 0.3), "few": torch.rand(2, 2), "two heaps": torch.rand(64, 2).round()}[case]
    layer = KAN(2, 3)
    before = layer(x)
    layer.update_grid(x)
    assert (layer.knots.diff() > 0).all() and layer.spline.isfinite().all()
    assert (layer(x) - before).abs().max() <= 1e-4
    layer(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_an_mlp_of_kans_has_the_weights_of_a_swiglu_and_stays_on_its_grid():
    config = NetConfig(prefix=0, puzzle_emb_size=0)
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    swiglu = SwiGLU(config.hidden_size, inner_width(config.hidden_size, config.expansion, config.multiple_of))
    mlp = KANMlp(config)
    assert count(mlp) == pytest.approx(count(swiglu), rel=0.01)
    x = torch.randn(1, 3, 512) * 50
    for layer in (mlp.up, mlp.down):
        layer.register_forward_hook(lambda m, args, _out: seen.append(m.bases(args[0]).sum(-1)))
    seen = []
    mlp(x)
    assert len(seen) == 2 and all((total - 1).abs().max() < 1e-5 for total in seen)


@pytest.mark.slow
def test_it_learns_a_function_of_the_paper():
    """exp(sin(pi x) + y^2) by a [2, 5, 1] KAN, on 5 intervals and then on 10: error 1e-2 or less on unseen points."""
    torch.manual_seed(0)
    truth = lambda x: torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2)  # noqa: E731
    x, unseen = torch.rand(1000, 2) * 2 - 1, torch.rand(1000, 2) * 2 - 1
    net = torch.nn.Sequential(KAN(2, 5), KAN(5, 1))
    errors = []
    for intervals in (5, 10):
        net = torch.nn.Sequential(*(layer.refined(intervals) for layer in net))
        for iterations in (100, 150):
            h = x
            for layer in net:
                layer.update_grid(h)
                h = layer(h)
            optimizer = torch.optim.LBFGS(net.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

            def closure(net=net, optimizer=optimizer):
                optimizer.zero_grad()
                loss = (net(x) - truth(x)).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
            errors.append((net(unseen) - truth(unseen)).square().mean().sqrt().item())
    assert errors[-1] <= 1e-2 and errors[-1] < errors[1], errors


def test_layers_are_checked_at_the_door():
    for wrong in ({"intervals": 0}, {"order": 0}, {"low": 1.0}):
        with pytest.raises(InputError):
            KAN(2, 2, **wrong)
