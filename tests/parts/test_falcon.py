"""Falcon-H1: each branch alone, multipliers, heads, and the whole layer against transformers."""

from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts import ssd
from innerloop.parts.attention import AttentionContext
from innerloop.parts.config import NetConfig
from innerloop.parts.falcon import Config, FalconBlock, Multipliers
from innerloop.parts.layers import residual_branch
from innerloop.parts.mixers import Net

SMALL = NetConfig(
    vocab=6, seq=21, rows=1, hidden_size=32, heads=4, layers=2, multiple_of=32, norm="pre", prefix=0, puzzle_emb_size=0
)
MIXER = ssd.Config(inner=24, head_width=8, state=6, chunk=8, normed=False)
MUP = Multipliers(1.2, 0.9, 0.4, 1.25, 0.7, (0.9, 0.5, 1.1, 0.6, 1.3), 0.8, 0.6)
HEADS = Config(heads=4, key_heads=2, head_width=8, mixer=MIXER, inner=48, multipliers=MUP)
CAUSAL = AttentionContext(torch.ones(21, 21).tril().bool()[None, None])


def gradients(out, inputs):
    return torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).sin()).sum(), inputs)


def oracle(normed):
    from transformers import FalconH1Config
    from transformers.models.falcon_h1.modeling_falcon_h1 import FalconH1Model

    m = MUP
    config = FalconH1Config(
        vocab_size=11, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, mamba_d_ssm=24, mamba_n_heads=3, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=6,
        mamba_chunk_size=8, mamba_rms_norm=normed, mamba_norm_before_gate=False, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": HEADS.base}, embedding_multiplier=1.0,
        attention_in_multiplier=m.attention_in, attention_out_multiplier=m.attention_out, key_multiplier=m.key,
        ssm_in_multiplier=m.ssm_in, ssm_out_multiplier=m.ssm_out, ssm_multipliers=list(m.segments),
        mlp_multipliers=[m.gate, m.down], attn_implementation="eager",
    )  # fmt: skip
    model = FalconH1Model(config)
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, 0, 0.2)
    return model.layers[0], model.rotary_emb, model


def copied(ours, theirs):
    """Pairs (our tensor, their tensors, joined along the rows in this order)."""
    a, s, f = theirs.self_attn, theirs.mamba, theirs.feed_forward
    pairs = [
        (ours.attention.q.weight, [a.q_proj.weight]),
        (ours.attention.kv.weight, [a.k_proj.weight, a.v_proj.weight]),
        (ours.attention.out.weight, [a.o_proj.weight]),
        (ours.ssd.enter.weight, [s.in_proj.weight]),
        (ours.ssd.near.weight, [s.conv1d.weight]),
        (ours.ssd.near.bias, [s.conv1d.bias]),
        (ours.ssd.dt_bias, [s.dt_bias]),
        (ours.ssd.a_log, [s.A_log]),
        (ours.ssd.d, [s.D]),
        (ours.ssd.leave.weight, [s.out_proj.weight]),
        (ours.mlp.up.weight, [f.gate_proj.weight, f.up_proj.weight]),
        (ours.mlp.down.weight, [f.down_proj.weight]),
    ]
    if ours.ssd.c.normed:
        pairs.append((ours.ssd.gain, [s.norm.weight]))
    for mine, yours in pairs:
        mine.data.copy_(torch.cat([t.detach() for t in yours]))
    assert {id(p) for p, _ in pairs} == {id(p) for p in ours.parameters()}
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("normed", [False, True])
def test_the_layer_equals_that_of_transformers(normed):
    theirs, rope, _keep = oracle(normed)
    ours = FalconBlock(SMALL, replace(HEADS, mixer=replace(MIXER, normed=normed)))
    pairs = copied(ours, theirs)
    x = torch.randn(2, 21, 32, requires_grad=True)
    hidden = torch.zeros(1, 1, 21, 21).masked_fill(~CAUSAL.mask, float("-inf"))
    place = rope(x, torch.arange(21)[None])
    y, y_ = ours(x, CAUSAL), theirs(x, attention_mask=hidden, position_embeddings=place)[0]
    assert (y - y_).abs().max() <= 1e-5
    got = gradients(y, [x, *(p for p, _ in pairs)])
    want = gradients(y_, [x, *(t for _, yours in pairs for t in yours)])
    assert (got[0] - want[0]).abs().max() <= 1e-5
    rest = iter(want[1:])
    for a, (_, yours) in zip(got[1:], pairs, strict=True):
        b = torch.cat([next(rest) for _ in yours])
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max())


@pytest.mark.parametrize("silent", ["ssm_out", "attention_out"])
def test_a_multiplier_of_zero_leaves_the_other_branch_exactly(silent):
    block = FalconBlock(SMALL, replace(HEADS, multipliers=replace(MUP, **{silent: 0.0})))
    x = torch.randn(2, 21, 32)
    alone = {
        "ssm_out": lambda u: MUP.attention_out * block.attention(MUP.attention_in * u),
        "attention_out": lambda u: MUP.ssm_out * block.ssd(u),
    }[silent]
    assert torch.equal(block(x), residual_branch("pre", residual_branch("pre", x, alone), block.feed_forward))


def test_two_projections_summed_are_one_of_both_side_by_side():
    block = FalconBlock(SMALL, replace(HEADS, multipliers=Multipliers())).double()
    seen = {}
    for name, layer in (("attention", block.attention.out), ("ssd", block.ssd.leave)):
        layer.register_forward_hook(lambda _m, args, _out, name=name: seen.update({name: args[0]}))
    y = block.mix(torch.randn(2, 21, 32).double())
    weight = torch.cat((block.attention.out.weight, block.ssd.leave.weight), 1)
    both = torch.cat((seen["attention"], seen["ssd"]), -1)
    assert (torch.nn.functional.linear(both, weight) - y).abs().max() <= 1e-12


def test_channels_have_the_papers_ratio():
    c = Config.of(NetConfig())
    ssm, attention, mlp = c.mixer.inner, c.heads * c.head_width, c.inner
    assert (
        (ssm, attention, mlp) == (512, 256, 1536)
        and ssm / attention == 2
        and mlp / attention == pytest.approx(5, abs=1)
    )
    assert Config.of(replace(SMALL, heads=1)).heads == 1


def test_under_a_mask_no_place_knows_a_later_one():
    net = Net(replace(SMALL, block="falcon", mask="causal"))
    x = torch.randn(1, 21, 32)
    other = x.clone()
    other[0, 9] += 1
    moved = (net(x, context=CAUSAL) - net(other, context=CAUSAL)).abs().sum(-1)[0] > 1e-7
    assert moved.tolist() == [t >= 9 for t in range(21)]
    assert ((net(x) - net(other)).abs().sum(-1) > 1e-7).all()
    with pytest.raises(InputError, match="keeps no keys"):
        net.blocks[0](x, AttentionContext(memory=lambda layer, k, v: (k, v)))


def test_keys_must_be_shared_equally():
    with pytest.raises(InputError, match="share"):
        replace(HEADS, key_heads=3)
