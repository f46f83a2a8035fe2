"""Liquid cells: the closed form and the LTC against the authors' package, their bounds, and the loop on them."""

from __future__ import annotations

from dataclasses import replace

import ncps.torch
import ncps.wirings
import pytest
import torch
from torch import nn

from innerloop.core import think
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.parts.liquid import CELLS, LTC, CfC, PureCfC, cell_named
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.weights.liquid import LNN, Config

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)
QUESTION = sample_question()
BASE = Config(TINY, units=16, dtype="float32")


def copied(theirs, ours, names):
    """Load a cell of ncps into one of ours: {our prefix: their prefix}."""
    state = theirs.state_dict()
    new = {}
    for key, value in ours.state_dict().items():
        ours_prefix = next(p for p in names if key == p or key.startswith(p + "."))
        source = state[names[ours_prefix] + key[len(ours_prefix) :]]
        new[key] = source.reshape(value.shape)
    ours.load_state_dict(new)
    return ours


def pair(mode):
    """A cell of ncps with weights off their start, ours with the same, and inputs."""
    torch.manual_seed(0)
    theirs = ncps.torch.CfCCell(5, 7, mode="pure" if mode is PureCfC else "default", backbone_units=16)
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.5)
    names = {"backbone.layers.0": "backbone.0", "f": "ff1"}
    names |= {"w": "w_tau", "A": "A"} if mode is PureCfC else {"g": "ff2", "a": "time_a", "c": "time_b"}
    return (
        theirs.double(),
        copied(theirs, mode(5, 7, 16).double(), names),
        torch.randn(4, 5).double(),
        torch.randn(4, 7).double(),
    )


@pytest.mark.parametrize("cell", [CfC, PureCfC])
@pytest.mark.parametrize("dt", [0.1, 1.0, 10.0])
def test_a_cfc_is_the_authors(cell, dt):
    theirs, ours, x, h = pair(cell)
    want, found = theirs(x, h, dt)[0], ours(x, h, dt)
    assert torch.allclose(found, want, rtol=0, atol=1e-6)
    want.sum().backward()
    found.sum().backward()
    assert torch.allclose(ours.backbone.layers[0].weight.grad, theirs.backbone[0].weight.grad, atol=1e-6)
    irregular = torch.tensor([[0.1], [1.0], [3.0], [0.5]]).double()
    assert torch.allclose(ours(x, h, irregular), theirs(x, h, irregular)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dt", [0.1, 1.0, 50.0])
def test_an_ltc_is_the_authors(dt):
    torch.manual_seed(0)
    theirs = ncps.torch.LTCCell(
        ncps.wirings.FullyConnected(6), 4, input_mapping=None, output_mapping=None, implicit_param_constraints=True
    ).double()
    own = {"w": "w", "mu": "mu", "sigma": "sigma", "e": "erev", "g": "gleak", "e0": "vleak", "C": "cm"}
    names = own | {f"in_{k}": f"sensory_{own[k]}" for k in ("w", "mu", "sigma", "e")}
    ours = copied(theirs, LTC(4, 6).double(), names)
    x, h = torch.randn(5, 4).double(), torch.randn(5, 6).double()
    assert torch.allclose(ours(x, h, dt), theirs(x, h, dt)[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dt", [1e-3, 1.0, 1e3, 1e9])
def test_an_ltc_stays_between_its_potentials_however_long_a_step(dt):
    cell = LTC(4, 6)
    every = torch.cat([cell.e.flatten(), cell.in_e.flatten(), cell.e0])
    low, high = every.min(), every.max()
    h = low + (high - low) * torch.rand(50, 6)
    with torch.no_grad():
        for _ in range(20):
            h = cell(10 * torch.randn(50, 4), h, dt)
            assert bool((h >= low - 1e-6).all() and (h <= high + 1e-6).all())
            assert bool(h.isfinite().all())


def test_an_ltc_is_an_euler_step_of_its_equation_for_short_steps():
    """(h' - h) / dt tends to the right-hand side (g (e0 - v) + sum of w sigmoid(sigma (u - mu)) (e - v)) / C."""
    torch.manual_seed(0)
    cell, x, v = LTC(4, 6).double(), torch.randn(3, 4).double(), torch.rand(3, 6).double()
    soft = nn.functional.softplus
    flow = soft(cell.g) * (cell.e0 - v)
    for u, k in ((v, ""), (x, "in_")):
        w, mu, sigma, e = (getattr(cell, k + n) for n in ("w", "mu", "sigma", "e"))
        gate = soft(w) * torch.sigmoid(sigma * (u[..., None] - mu))
        flow = flow + (gate * (e - v[:, None])).sum(1)
    dt = 1e-6
    assert torch.allclose((cell(x, v, dt) - v) / dt, flow / soft(cell.C), rtol=1e-4, atol=1e-4)


def test_an_ltc_starts_in_the_authors_ranges():
    cell, soft = LTC(40, 30), nn.functional.softplus
    for raw, low, high in ((cell.w, 0.001, 1), (cell.in_w, 0.001, 1), (cell.g, 0.001, 1), (cell.C, 0.4, 0.6)):
        value = soft(raw.detach())
        assert float(value.min()) >= low - 1e-5 and float(value.max()) <= high + 1e-5
        assert float(value.max() - value.min()) > 0.5 * (high - low)
    assert set(cell.in_e.detach().unique().tolist()) == {-1.0, 1.0} and 0.2 < float(cell.in_e.detach().mean()) < 0.45


def test_the_gated_cfc_is_bounded_and_moves_with_time():
    cell, x, h = CfC(5, 7), torch.randn(4, 5), torch.randn(4, 7)
    with torch.no_grad():
        ends = [cell(100 * x, h, dt) for dt in (0.0, 1.0, 1e6)]
    assert all(bool((e.abs() <= 1).all()) for e in ends) and not torch.allclose(ends[0], ends[2])
    pure = PureCfC(5, 7)
    with torch.no_grad():
        assert torch.allclose(pure(100 * x, h, 1e6), pure.A.expand(4, 7))  # all that is left in the end


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_keeps_the_contract(cell):
    for check in CHECKS.values():
        check(Subject(cell, lambda: LNN(replace(BASE, cell=cell)), QUESTION))


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_states_think_finitely_and_near_float32(cell):
    ends = {}
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(0)
        with torch.no_grad():
            ends[dtype] = think(LNN(replace(BASE, cell=cell, dtype=dtype)), QUESTION, 2).state.h
    assert ends["bfloat16"].dtype == torch.bfloat16
    assert float((ends["bfloat16"].float() - ends["float32"]).abs().mean()) < 0.05


def test_the_step_in_time_is_the_configs():
    torch.manual_seed(0)
    short, long = LNN(replace(BASE, dt=0.1)), LNN(replace(BASE, dt=10.0))
    long.load_state_dict(short.state_dict())
    with torch.no_grad():
        a, b = (m.step(m.init(QUESTION), QUESTION).h for m in (short, long))
    assert not torch.allclose(a, b, atol=1e-2)


def test_wrong_configurations_say_so():
    for how in ({"cell": "gru"}, {"dt": 0.0}, {"units": 0}):
        with pytest.raises(InputError):
            LNN(replace(BASE, **how))
    with pytest.raises(InputError, match="no cell"):
        cell_named("gru", 1, 1, 1)
