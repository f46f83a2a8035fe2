"""Latent attention: absorbed against expanded, what a decoder keeps, and the layer against transformers."""

from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext
from innerloop.parts.config import NetConfig
from innerloop.parts.mla import MLA, Config

SMALL = NetConfig(
    vocab=6, seq=21, rows=1, hidden_size=32, heads=4, layers=2, multiple_of=32, prefix=0, puzzle_emb_size=0
)
HEADS = Config(heads=4, plain=8, turned=4, value=6, latent=12, query=10)
CAUSAL = torch.ones(21, 21).tril().bool()[None, None]


def gradients(out, inputs):
    return torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).sin()).sum(), inputs)


@pytest.mark.parametrize("mask", [None, CAUSAL])
@pytest.mark.parametrize("c", [HEADS, replace(HEADS, query=0), replace(HEADS, turned=0)])
def test_absorbed_equals_expanded(c, mask):
    mla, x = MLA(SMALL, c), torch.randn(2, 21, 32, requires_grad=True)
    wrt = (x, *mla.parameters())
    one = mla.expanded(*mla.queries(x), mla.latents(x), mask)
    other = mla.absorbed(*mla.queries(x), mla.latents(x), mask)
    assert (one - other).abs().max() <= 1e-5
    for a, b in zip(gradients(one, wrt), gradients(other, wrt), strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max())


def test_a_decoder_keeps_576_numbers_a_place_at_the_papers_sizes():
    c = Config(heads=2)  # heads do not matter for what is kept: that is the point
    kept = MLA(replace(SMALL, seq=5), c).latents(torch.randn(1, 5, 32))
    assert sum(t.numel() for t in kept) == 5 * (512 + 64)
    of = Config.of(NetConfig())
    assert (of.latent + of.turned, 2 * NetConfig().hidden_size) == (
        160,
        1024,
    )  # against plain attention's keys and values


def test_decoding_from_latents_equals_reading_all():
    mla, x = MLA(SMALL, HEADS), torch.randn(2, 21, 32)
    held = {}

    def memory(layer, c, r):
        old = held.get(layer)
        held[layer] = (c, r) if old is None else tuple(torch.cat(p, 2) for p in zip(old, (c, r), strict=True))
        return held[layer]

    ys = []
    for first, part in zip((0, 9, 10, 11), x.split([9, 1, 1, 10], 1), strict=True):
        mask = CAUSAL[:, :, first : first + part.shape[1], : first + part.shape[1]]
        places = torch.arange(first, first + part.shape[1]).expand(2, -1)
        ys.append(mla(part, AttentionContext(mask, places, memory, layer=3)))
    assert (torch.cat(ys, 1) - mla(x, AttentionContext(CAUSAL))).abs().max() <= 1e-5
    assert [t.shape for t in held[3]] == [(2, 1, 21, 12), (2, 1, 21, 4)]


def pairs_first_to_halves(weight, heads, plain, turned):
    """Rows of a projection whose rotary channels stand as (x0 x1)(x2 x3).. -> x0 x2 .. x1 x3 .., as ours do."""
    rows = weight.view(heads, plain + turned, -1)
    order = [*range(plain), *(plain + i for i in range(0, turned, 2)), *(plain + i for i in range(1, turned, 2))]
    return rows[:, order].flatten(0, 1)


@pytest.mark.parametrize("query", [10, 0])
def test_the_layer_equals_that_of_transformers(query):
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

    config = DeepseekV3Config(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=query or None, kv_lora_rank=12,
        qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6, rope_interleave=True, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    theirs, rope = DeepseekV3Attention(config, 0), DeepseekV3RotaryEmbedding(config)
    ours = MLA(SMALL, replace(HEADS, query=query))
    for name, p in theirs.named_parameters():
        torch.nn.init.normal_(p, 1.0 if "norm" in name else 0.0, 0.2)
    t = dict(theirs.named_parameters())
    q_up = t["q_proj.weight"] if not query else t["q_b_proj.weight"] * t["q_a_layernorm.weight"]
    same = [  # our weights as functions of theirs: norms folded in, rotary pairs in our order
        (ours.q_up.weight, pairs_first_to_halves(q_up, 4, 8, 4)),
        (ours.down.weight, pairs_first_to_halves(t["kv_a_proj_with_mqa.weight"], 1, 12, 4)),
        (ours.up.weight, t["kv_b_proj.weight"] * t["kv_a_layernorm.weight"]),
        (ours.out.weight, t["o_proj.weight"]),
    ]
    if query:
        same.append((ours.q_down.weight, t["q_a_proj.weight"]))
    for mine, yours in same:
        mine.data.copy_(yours)
    x = torch.randn(2, 21, 32, requires_grad=True)
    hidden = torch.zeros(1, 1, 21, 21).masked_fill(~CAUSAL, float("-inf"))
    y, y_ = ours(x, AttentionContext(CAUSAL)), theirs(x, rope(x, torch.arange(21)[None]), hidden)[0]
    assert (y - y_).abs().max() <= 1e-5
    grads = gradients(y, (x, *(mine for mine, _ in same)))
    pulled = torch.autograd.grad([yours for _, yours in same], list(t.values()), grads[1:], allow_unused=True)
    wanted = gradients(y_, (x, *t.values()))
    assert (grads[0] - wanted[0]).abs().max() <= 1e-5 * wanted[0].abs().max()
    for a, b in zip(pulled, wanted[1:], strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max())


def test_positions_are_in_the_turned_part_alone():
    x = torch.randn(1, 21, 32)
    order = torch.randperm(21)
    without = MLA(SMALL, replace(HEADS, turned=0))
    assert (without(x[:, order]) - without(x)[:, order]).abs().max() <= 1e-5
    turned = MLA(SMALL, HEADS)
    assert (turned(x[:, order]) - turned(x)[:, order]).abs().max() > 1e-3
    assert MLA(replace(SMALL, positions="none")).c.turned == 0 and MLA(SMALL).c.turned > 0
    with pytest.raises(InputError, match="odd"):
        replace(HEADS, turned=3)
