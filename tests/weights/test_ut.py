"""Universal Transformer against a stack of torch's own layers; its clock; places that halt one by one."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from innerloop.core import think
from innerloop.errors import InputError
from innerloop.halt import finished
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import EPS
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.weights.ut import UT, Config, sinusoid

SIZE = NetConfig(
    vocab=6,
    seq=16,
    rows=4,
    hidden_size=32,
    heads=4,
    layers=1,
    expansion=2.0,
    multiple_of=32,
    puzzle_emb_size=32,
    positions="none",
)
LEARNED = replace(SIZE, positions="learned")


def loop(size=SIZE, **how):
    torch.manual_seed(0)
    return UT(Config(size, dtype="float32", **how))


def swiglu(x):
    gate, up = x.chunk(2, -1)
    return nn.functional.silu(gate) * up


class Swapped(nn.TransformerEncoderLayer):
    """torch's post-norm layer, with this library's RMS norm and SwiGLU where torch has LayerNorm and ReLU."""

    def __init__(self, block, config):
        inner = block.mlp.down.weight.shape[1]
        super().__init__(
            config.hidden_size, config.heads, inner, dropout=0.0, activation=swiglu, batch_first=True, bias=False
        )
        self.norm1, self.norm2 = (nn.RMSNorm(config.hidden_size, EPS, elementwise_affine=False) for _ in range(2))
        self.linear1 = nn.Linear(config.hidden_size, 2 * inner, bias=False)
        pairs = (
            (self.self_attn.in_proj_weight, block.mix.qkv.weight),
            (self.self_attn.out_proj.weight, block.mix.out.weight),
            (self.linear1.weight, block.mlp.up.weight),
            (self.linear2.weight, block.mlp.down.weight),
        )
        with torch.no_grad():
            for mine, theirs in pairs:
                mine.copy_(theirs)


@pytest.mark.parametrize("config", [SIZE, LEARNED], ids=["no-places", "learned-places"])
@pytest.mark.parametrize("clock", [False, True])
def test_t_steps_are_a_t_layer_transformer_with_copied_weights(config, clock):
    """Norm and MLP are the library's, in both: what is compared is the loop. Gradients are summed over the layers."""
    ut, x, T = loop(config, clock=clock), sample_question(), 6
    block = ut.net.blocks[0]
    layers = nn.ModuleList(copy.deepcopy(Swapped(block, config)) for _ in range(T))
    e = ut.embed(x, torch.float32).detach()
    place = (
        ut.places.weight.detach() * ut.embed.scale
        if config is LEARNED
        else torch.zeros(config.length, config.hidden_size)
    )
    z = e
    for t, layer in enumerate(layers):
        time = sinusoid(torch.tensor([t]), config.hidden_size) if clock else torch.zeros(1, config.hidden_size)
        z = layer(z + place + time)
    state = think(ut, x, T).state
    assert (state.z - z).norm() < 1e-6 * z.norm() and (state.z - z).abs().max() < 1e-5  # in float32, as norms are
    g = torch.randn_like(z)
    (state.z * g).sum().backward()
    (z * g).sum().backward()
    summed = sum(layer.linear2.weight.grad for layer in layers)
    assert (block.mlp.down.weight.grad - summed).abs().max() < 1e-5 * summed.abs().max()


def test_depth_costs_no_parameters_and_a_layer_does():
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    one, more = loop(), loop(replace(SIZE, layers=2))
    assert count(more.net) == 2 * count(one.net)
    x = sample_question()
    answers = [think(one, x, depth).answer.logits for depth in (1, 8)]
    assert not torch.allclose(*answers) and count(one) == count(loop())


@torch.no_grad()
def test_without_the_clock_every_step_is_the_same_map():
    x = sample_question()
    for clock in (False, True):
        ut = loop(LEARNED, clock=clock)
        s = think(ut, x, 2).state
        early, late = (ut.step(s._replace(t=torch.full_like(s.t, t)), x).z for t in (2, 3))
        assert torch.equal(early, late) is not clock


@torch.no_grad()
def test_the_question_enters_once_unless_it_is_injected():
    x = sample_question()
    other = x._replace(inputs=x.inputs.flip(0))
    for inject in (False, True):
        ut = loop(inject=inject)
        s = think(ut, x, 2).state
        assert torch.equal(ut.step(s, x).z, ut.step(s, other).z) is not inject


def tokens(**how):
    ut = loop(LEARNED, halting="tokens", **how)
    nn.init.constant_(ut.halting.unit.bias, -1.0)
    nn.init.normal_(ut.halting.unit.weight, std=0.5)
    return ut


@torch.no_grad()
def test_halted_places_are_copied_on_and_still_attended_to():
    ut, x = tokens(), sample_question()
    s = think(ut, x, 5).state
    done = s.act.done
    assert done.any() and not done.all(1).any()
    after = ut.step(s, x)
    for a, b in zip((s.z, *s.act), (after.z, *after.act), strict=True):
        assert torch.equal(a[done], b[done])
    assert not torch.equal(s.z[~done], after.z[~done])
    moved = ut.step(s._replace(z=s.z + done[..., None] * torch.randn(s.z.shape)), x)
    assert ((moved.z - after.z)[~done].abs().amax(-1) > 1e-4).all()  # every other place saw what the halted ones hold


@torch.no_grad()
def test_places_halted_each_at_its_time_stop_the_example():
    ut, x = tokens(), sample_question(12)
    stopped, on = think(ut, x, 64, halt=finished), think(ut, x, 64)
    assert torch.equal(stopped.steps, on.state.act.n.amax(1)) and len(on.state.act.n.unique()) > 3
    assert torch.equal(stopped.answer.logits, on.answer.logits) and torch.equal(stopped.state.t, stopped.steps)
    assert torch.equal(on.state.t, stopped.steps)
    cost = (on.state.act.n + 1 - on.state.act.total).mean(1)
    assert torch.allclose(ut.terms(on.state)["act_loss"], 0.01 * cost)
    assert loop().terms(loop().init(x)) == {}


@torch.no_grad()
def test_one_step_is_enough_where_the_unit_says_so():
    ut, fixed, x = tokens(), loop(LEARNED), sample_question()
    nn.init.constant_(ut.halting.unit.bias, 30.0)
    fixed.load_state_dict({k: v for k, v in ut.state_dict().items() if "halting" not in k})
    assert torch.equal(think(ut, x, 9).answer.logits, think(fixed, x, 1).answer.logits)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("how", [{"halting": "tokens"}, {"inject": True}], ids=["tokens", "inject"])
def test_variants_keep_the_contract(check, how):
    CHECKS[check](Subject("ut", lambda: UT(Config(LEARNED, dtype="float32", **how)), sample_question()))


def test_bad_settings_say_what_is_wrong():
    for bad in ({"halting": "words"}, {"eps": 2.0}):
        with pytest.raises(InputError):
            Config(SIZE, **bad)
