"""Multi-token prediction: what is shown, what is asked, what is shared; and the module against transformers."""

import pytest
import torch
import torch.nn.functional as F

from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, residual_branch
from innerloop.parts.mixers import AttentionBlock
from innerloop.parts.mla import MLA
from innerloop.parts.mla import Config as Latents
from innerloop.parts.moe import Config as Experts
from innerloop.parts.moe import MoE
from innerloop.parts.mtp import MTP, shift_tokens

TEXT = NetConfig(
    vocab=11, seq=21, rows=1, hidden_size=32, heads=4, layers=1, multiple_of=32, norm="pre", prefix=0, puzzle_emb_size=0
)
CAUSAL = AttentionContext(torch.ones(21, 21).tril().bool()[None, None])


class Block(torch.nn.Module):
    """A causal transformer block."""

    def __init__(self):
        super().__init__()
        self.block = AttentionBlock(TEXT)

    def forward(self, x):
        return self.block(x, CAUSAL)


def test_the_shift():
    t = torch.tensor([[5, 6, 7, 8]])
    assert shift_tokens(t, 1, -100).tolist() == [[6, 7, 8, -100]]
    assert shift_tokens(t, 2, -100).tolist() == [[7, 8, -100, -100]]
    assert shift_tokens(t, 0, 0).tolist() == t.tolist() and shift_tokens(t, 9, 0).tolist() == [[0, 0, 0, 0]]
    with pytest.raises(InputError, match="-1"):
        shift_tokens(t, -1, 0)


def made():
    torch.manual_seed(0)
    embed, head, main, mtp = torch.nn.Embedding(11, 32), Linear(32, 11), Block(), MTP(32, Block())

    def run(tokens):
        return mtp(main(embed(tokens)), embed(shift_tokens(tokens, 1, 0)), head)[1]

    return run, embed, head, main, mtp


def test_place_i_sees_the_next_token_and_not_its_target():
    run, *_ = made()
    tokens = torch.randint(1, 11, (1, 21))
    other = tokens.clone()
    other[0, 12] = tokens[0, 12] % 10 + 1
    moved = (run(tokens) - run(other)).abs().sum(-1)[0] > 1e-6
    assert moved.tolist() == [i >= 11 for i in range(21)]  # place 10, whose target is token 12, does not see it
    asked = shift_tokens(tokens, 2, -100)
    assert asked[0, 10] == tokens[0, 12] and (asked[0, -2:] == -100).all()


def test_what_is_shown_past_the_end_reaches_no_place_with_a_target():
    _, embed, head, main, mtp = made()
    tokens = torch.randint(1, 11, (1, 21))
    ys = [mtp(main(embed(tokens)), embed(shift_tokens(tokens, 1, fill)), head)[1] for fill in (0, 7)]
    places = shift_tokens(tokens, 2, -100) >= 0
    assert torch.equal(ys[0][places], ys[1][places]) and not torch.equal(ys[0], ys[1])


def test_embedding_and_head_are_shared():
    """They are arguments, not parameters; the further loss reaches them, the trunk and the module."""
    run, embed, head, main, mtp = made()
    assert sum(p.numel() for p in mtp.parameters()) == 2 * 32 * 32 + sum(p.numel() for p in main.parameters())
    tokens = torch.randint(1, 11, (2, 21))
    F.cross_entropy(run(tokens).flatten(0, 1), shift_tokens(tokens, 2, -100).flatten()).backward()
    for module in (embed, head, main, mtp):
        assert all(p.grad is not None and p.grad.any() for p in module.parameters())


@pytest.mark.slow
def test_it_learns_the_token_after_the_next():
    """Each token is the sum of the two before, modulo 10: the next one and the one after it can both be known."""
    run, embed, head, main, mtp = made()
    optimizer = torch.optim.Adam([p for m in (embed, head, main, mtp) for p in m.parameters()], 3e-3)
    for _ in range(150):
        tokens = torch.randint(0, 10, (32, 21))
        for i in range(2, 21):
            tokens[:, i] = (tokens[:, i - 1] + tokens[:, i - 2]) % 10
        logits, asked = run(tokens + 1), shift_tokens(tokens + 1, 2, -100)
        loss = F.cross_entropy(logits.flatten(0, 1), asked.flatten())
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    right = (logits.argmax(-1) == asked)[:, 1:-2].float().mean()
    assert right > 0.9, right


@pytest.mark.slow
def test_the_module_equals_that_of_transformers():
    """Around one layer of DeepSeek-V3: latent attention and experts, both with our own parts."""
    from transformers import DeepseekV3Config
    from transformers.modeling_layers import MtpLayer
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as hf

    config = DeepseekV3Config(
        hidden_size=32, moe_intermediate_size=12, n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
        n_shared_experts=1, routed_scaling_factor=2.5, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=10,
        kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6, rope_interleave=False,
        rms_norm_eps=1e-5, first_k_dense_replace=0, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    theirs = MtpLayer(config, hf.DeepseekV3DecoderLayer, hf.DeepseekV3RMSNorm, 0)
    for name, p in theirs.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(p, 0, 0.2)
    mla = MLA(TEXT, Latents(heads=4, plain=8, turned=4, value=6, latent=12, query=10))
    moe = MoE(TEXT, Experts(inner=12, experts=8, chosen=3, groups=4, kept=2, shared=1, scale=2.5))
    layer, t = theirs.mtp_block, dict(theirs.mtp_block.named_parameters())
    up = torch.cat((layer.mlp.shared_experts.gate_proj.weight, layer.mlp.shared_experts.up_proj.weight))
    pairs = [
        (mla.q_down, t["self_attn.q_a_proj.weight"]), (mla.q_up, t["self_attn.q_b_proj.weight"]),
        (mla.down, t["self_attn.kv_a_proj_with_mqa.weight"]), (mla.up, t["self_attn.kv_b_proj.weight"]),
        (mla.out, t["self_attn.o_proj.weight"]), (moe.router, t["mlp.gate.weight"]),
        (moe.shared.up, up), (moe.shared.down, t["mlp.shared_experts.down_proj.weight"]),
    ]  # fmt: skip
    for mine, yours in pairs:
        mine.weight.data.copy_(yours)
    moe.up.data.copy_(layer.mlp.experts.gate_up_proj), moe.down.data.copy_(layer.mlp.experts.down_proj)

    class Layer(torch.nn.Module):
        def forward(self, x):
            return residual_branch("pre", residual_branch("pre", x, lambda u: mla(u, CAUSAL)), moe)

    ours = MTP(32, Layer())
    e, h = theirs.eh_proj.weight.chunk(2, 1)  # theirs takes the embedding first
    ours.merge.weight.data.copy_(torch.cat((h, e), 1))
    states, shown = (torch.randn(2, 21, 32, requires_grad=True) for _ in range(2))
    hidden = torch.zeros(1, 1, 21, 21).masked_fill(~CAUSAL.mask, float("-inf"))
    place = hf.DeepseekV3RotaryEmbedding(config)(states, torch.arange(21)[None])
    y = ours(states, shown, lambda z: z)[1]
    y_ = theirs(shown, states, place, hidden, None, None)
    assert (y - y_).abs().max() <= 1e-5
    push = torch.arange(y.numel()).view_as(y).sin()
    for a, b in zip(*(torch.autograd.grad((z * push).sum(), (states, shown)) for z in (y, y_)), strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max())
