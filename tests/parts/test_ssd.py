"""Mamba-2: the chunked form against the recurrence, decoding against reading, and the layer against transformers."""

from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts.attention import AttentionContext
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import residual_branch
from innerloop.parts.mixers import Net
from innerloop.parts.ssd import Config, Mamba2, SSDBlock, ssd, ssd_steps

SMALL = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=2, multiple_of=32, prefix=0, puzzle_emb_size=0
)
MIXER = Config(inner=32, head_width=8, state=6, groups=2, chunk=8)


def gradients(out, inputs):
    return torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).sin()).sum(), inputs)


def drawn(dtype=torch.float64, length=37, rows=2, heads=4, head=8, groups=2, state=6):
    """x, dt, a, b, c as the layer makes them: dt > 0, a < 0, scores of unit size."""
    x = torch.randn(rows, length, heads, head, dtype=dtype)
    dt, a = 0.5 * torch.rand(rows, length, heads, dtype=dtype), -4 * torch.rand(heads, dtype=dtype)
    b, c = (torch.randn(rows, length, groups, state, dtype=dtype) * state**-0.5 for _ in range(2))
    return [t.requires_grad_() for t in (x, dt, a, b, c)]


@pytest.mark.parametrize("chunk", [4, 8, 16, 64])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-10), (torch.float32, 4e-6)])
def test_chunks_equal_steps(chunk, dtype, tol):
    inputs = drawn(dtype)
    first = torch.randn(2, 4, 8, 6, dtype=dtype, requires_grad=True)
    y, state = ssd(*inputs, first, chunk)
    y_, state_ = ssd_steps(*inputs, first)
    assert y.shape == (2, 37, 4, 8) and state.shape == (2, 4, 8, 6) and y.dtype == dtype
    assert (y - y_).abs().max() <= tol and (state - state_).abs().max() <= tol
    wrt = (*inputs, first)
    for a, b in zip(gradients(y, wrt), gradients(y_, wrt), strict=True):
        assert (a - b).abs().max() <= tol * max(1.0, b.abs().max())


def test_the_size_of_a_chunk_changes_nothing():
    inputs = drawn()
    ys = [ssd(*inputs, chunk=chunk)[0] for chunk in (1, 3, 5, 37, 100)]
    assert all((y - ys[0]).abs().max() <= 1e-12 for y in ys)


def test_without_decay_it_is_masked_linear_attention():
    x, _, _, b, c = drawn()
    y, _ = ssd(x, torch.ones(2, 37, 4).double(), torch.zeros(4).double(), b, c, chunk=8)
    b, c = (t.repeat_interleave(2, 2).transpose(1, 2) for t in (b, c))
    plain = (c @ b.transpose(-1, -2)).tril() @ x.transpose(1, 2)
    assert (y - plain.transpose(1, 2)).abs().max() <= 1e-12


def test_heads_of_a_group_stand_together():
    """Repeating groups the other way round (0 1 0 1 for 0 0 1 1) is a known bug elsewhere."""
    x, dt, a, b, c = drawn()
    y, _ = ssd(x, dt, a, b, c)
    b = torch.stack((b[:, :, 0], torch.zeros_like(b[:, :, 0])), 2)
    y_, _ = ssd(x, dt, a, b, c)
    assert torch.equal(y[:, :, :2], y_[:, :, :2]) and not y_[:, :, 2:].any()


def test_no_place_knows_a_later_one():
    mixer, x = Mamba2(16, MIXER), torch.randn(1, 20, 16)
    other = x.clone()
    other[0, 11] += 1
    moved = (mixer(x) - mixer(other)).abs().sum(-1)[0] > 1e-7
    assert moved.tolist() == [t >= 11 for t in range(20)]


@pytest.mark.parametrize("parts", [[1] * 37, [10, 27], [36, 1], [2, 1, 34]])
def test_decoding_equals_reading(parts):
    mixer, x = Mamba2(16, MIXER), torch.randn(2, 37, 16)
    memory, ys = None, []
    for part in x.split(parts, 1):
        y, memory = mixer.read(part, memory)
        ys.append(y)
    assert (torch.cat(ys, 1) - mixer(x)).abs().max() <= 2e-6
    assert memory.window.shape == (2, 3, 32 + 24) and memory.state.shape == (2, 4, 8, 6)


def test_padding_is_inert():
    """Padding before a text changes nothing after it; masked only before the convolution, its bias would."""
    mixer, x = Mamba2(16, MIXER), torch.randn(2, 20, 16)
    mask = torch.arange(25).expand(2, -1) >= 5
    padded = torch.cat((torch.randn(2, 5, 16) * 9, x), 1)
    assert (mixer(padded, mask)[:, 5:] - mixer(x)).abs().max() <= 1e-6
    _, memory = mixer.read(padded[:, :5], None, mask[:, :5])
    assert not memory.state.any() and not memory.window.any()


def oracle(**kw):
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Block

    config = Mamba2Config(
        hidden_size=16, expand=2, head_dim=8, num_heads=4, state_size=6, n_groups=2, conv_kernel=4, chunk_size=8,
        num_hidden_layers=1, layer_norm_epsilon=1e-5, residual_in_fp32=False, **kw,
    )  # fmt: skip
    block = Mamba2Block(config, 0)
    torch.nn.init.normal_(block.mixer.norm.weight, 1.0, 0.2)
    block.mixer.init_mamba2_weights()
    torch.nn.init.normal_(block.mixer.D)
    return block


NAMES = {
    "enter.weight": "in_proj.weight", "near.weight": "conv1d.weight", "near.bias": "conv1d.bias", "dt_bias": "dt_bias",
    "a_log": "A_log", "d": "D", "gain": "norm.weight", "leave.weight": "out_proj.weight",
}  # fmt: skip


@pytest.mark.parametrize("limit", [(0.0, float("inf")), (0.01, 0.05)])
def test_the_layer_equals_that_of_transformers(limit):
    theirs = oracle(time_step_limit=limit)
    ours = Mamba2(16, replace(MIXER, limit=limit))
    ours.load_state_dict({k: theirs.mixer.state_dict()[v] for k, v in NAMES.items()})
    x = torch.randn(2, 37, 16, requires_grad=True)
    y, y_ = residual_branch("pre", x, ours), theirs(x)
    assert (y - y_).abs().max() <= 1e-5
    wrt, wrt_ = dict(ours.named_parameters()), dict(theirs.mixer.named_parameters())
    grads = gradients(y, (x, *(wrt[k] for k in NAMES)))
    for a, b in zip(grads, gradients(y_, (x, *(wrt_[v] for v in NAMES.values()))), strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max())
    mask = (torch.arange(37).expand(2, -1) >= 6).long()
    assert (residual_branch("pre", x, lambda u: ours(u, mask)) - theirs(x, attention_mask=mask))[
        :, 6:
    ].abs().max() <= 1e-5


def test_the_first_step_sizes_are_the_papers():
    dt = torch.nn.functional.softplus(Mamba2(16, Config(inner=640, head_width=1)).dt_bias)
    assert dt.min() >= 0.99e-3 and dt.max() <= 0.101 and (dt < 1e-2).float().mean() == pytest.approx(0.5, abs=0.1)


def test_a_block_reads_both_ways_and_in_order_under_a_mask():
    block, x = SSDBlock(SMALL), torch.randn(1, 16, 32)
    other = x.clone()
    other[0, 7] += 1
    assert ((block(x) - block(other)).abs().sum(-1) > 1e-7).all()
    assert (block(x.flip(1)).flip(1) - block(x)).abs().max() > 1e-3  # left is not right
    causal = Net(replace(SMALL, block="ssd", mask="causal", positions="none"))
    assert ((causal(x) - causal(other)).abs().sum(-1)[0] > 1e-7).tolist() == [t >= 7 for t in range(16)]
    with pytest.raises(InputError, match="keeps no keys"):
        block(x, AttentionContext(memory=lambda layer, k, v: (k, v)))


def test_bfloat16_keeps_the_recurrence_wide():
    mixer, x = Mamba2(16, MIXER), torch.randn(2, 37, 16)
    y, memory = mixer.read(x.bfloat16())
    assert y.dtype == memory.window.dtype == torch.bfloat16 and memory.state.dtype == torch.float32
    assert (y.float() - mixer(x)).abs().max() <= 0.03 * mixer(x).abs().max()
    for g in gradients(y.float(), tuple(mixer.parameters())):
        assert g.isfinite().all()


def test_configs_are_checked_at_the_door():
    for wrong in ({"head_width": 5}, {"groups": 3}, {"state": 0}):
        with pytest.raises(InputError):
            replace(MIXER, **wrong)
