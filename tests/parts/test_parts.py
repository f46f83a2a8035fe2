"""Parts: every fast path against its slow twin, outputs and all gradients; and what each part promises."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import innerloop
from innerloop import tasks
from innerloop.errors import InputError
from innerloop.learn.compile import compile_blocks, reason_against
from innerloop.parts.attention import attend, attend_plain, rotary, rotate
from innerloop.parts.config import NetConfig
from innerloop.parts.constraints import ConstraintBlock
from innerloop.parts.conv import ConvBlock
from innerloop.parts.heads import Heads
from innerloop.parts.layers import SwiGLU, inner_width, rms_norm, trunc_normal
from innerloop.parts.mixers import Net, mix, mix_plain

SMALL = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=2, multiple_of=32, prefix=0, puzzle_emb_size=0
)
ROWS = tuple(tuple(range(4 * r, 4 * r + 4)) for r in range(4))


def gradients(out, inputs):
    return torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).sin()).sum(), inputs)


def same(a, b, tol):
    scale = max(1.0, b.detach().abs().max().item())
    assert (a.detach().float() - b.detach().float()).abs().max().item() <= tol * scale


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-6), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_plain_attention_equals_the_fused_kernel(dtype, tol):
    q, k, v = (torch.randn(2, 3, 17, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    ours, theirs = attend_plain(q, k, v), F.scaled_dot_product_attention(q, k, v)
    same(ours, theirs, tol)
    for a, b in zip(gradients(ours, (q, k, v)), gradients(theirs, (q, k, v)), strict=True):
        same(a, b, tol)


def test_long_sequences_take_the_fused_kernel(monkeypatch):
    calls = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: calls.append(len(q)) or v)
    x = torch.randn(1, 1, 300, 4)
    attend(x, x, x), attend(x[:, :, :20], x[:, :, :20], x[:, :, :20])
    assert len(calls) == 1


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_mixing_from_the_left_equals_turning_the_state(dtype, tol):
    torch.manual_seed(1)
    mlp, x = SwiGLU(17, 32), torch.randn(3, 17, 8, dtype=dtype, requires_grad=True)
    ours, theirs = mix(x, mlp), mix_plain(x, mlp)
    same(ours, theirs, tol)
    wrt = (x, *mlp.parameters())
    for a, b in zip(gradients(ours, wrt), gradients(theirs, wrt), strict=True):
        same(a, b, tol)


def test_rotary_scores_depend_on_distance_alone():
    cos, sin = rotary(12, 8)
    q, k = torch.randn(8), torch.randn(8)
    turn = lambda v: rotate(v.expand(1, 12, 1, 8), cos, sin)[0, :, 0]  # noqa: E731
    scores = turn(q) @ turn(k).T
    for offset in range(-5, 6):
        diagonal = scores.diagonal(offset)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)
    assert not torch.allclose(scores.diagonal(0)[0], scores.diagonal(3)[0])


def test_rms_norm_leaves_unit_size_over_its_axis():
    x = torch.randn(2, 5, 7) * 30
    assert torch.allclose(rms_norm(x).square().mean(-1), torch.ones(2, 5), atol=1e-4)
    assert torch.allclose(rms_norm(x, dim=1).square().mean(1), torch.ones(2, 7), atol=1e-4)


def test_truncated_normals_have_the_deviation_asked_for():
    x = trunc_normal(400, 400, std=0.3)
    assert x.std().item() == pytest.approx(0.3, rel=0.01) and x.abs().max() < 0.3 * 2.3
    assert not trunc_normal(3, std=0.0).any()


def test_inner_widths_are_the_official_ones():
    assert [inner_width(512, 4.0, 256), inner_width(97, 4.0, 256), inner_width(64, 4.0, 256)] == [1536, 512, 256]


def test_units_carry_information_within_a_unit_and_nowhere_else():
    block = ConstraintBlock(replace(SMALL, units=ROWS, block="units", positions="none"))
    x = torch.randn(1, 16, 32)
    y = x.clone()
    y[0, 5] += 1
    changed = (block(x) - block(y)).abs().sum(-1)[0] > 1e-6
    assert changed.tolist() == [4 <= c < 8 for c in range(16)]
    with pytest.raises(InputError, match="units"):
        ConstraintBlock(replace(SMALL, block="units"))


def test_a_convolution_moves_information_by_one_cell():
    block = ConvBlock(replace(SMALL, block="conv", positions="none", prefix=2))
    x = torch.randn(1, 18, 32)
    y = x.clone()
    y[0, 2 + 5] += 1  # cell (1, 1)
    changed = (block(x) - block(y)).abs().sum(-1)[0] > 1e-7
    near = {2 + 4 * r + c for r in (0, 1, 2) for c in (0, 1, 2)}
    assert {i for i, moved in enumerate(changed.tolist()) if moved} == near


def test_an_unknown_block_is_named():
    with pytest.raises(InputError, match="attention, tokens"):
        Net(replace(SMALL, block="magic"))


@pytest.mark.parametrize(
    "wrong", [{"positions": "sine"}, {"heads": 5}, {"rows": 3}, {"puzzle_emb_size": 900}, {"pool": "max"}]
)
def test_sizes_are_checked_at_the_door(wrong):
    with pytest.raises(InputError):
        replace(SMALL, **wrong)


def test_why_compile_is_off_is_said():
    blocks = list(Net(SMALL).blocks)
    cpu = torch.device("cpu")
    assert "the plan" in reason_against(blocks, "off", cpu, 10_000)
    assert "no block" in reason_against([], "on", cpu, 10_000)
    assert "too few" in reason_against(blocks, "auto", cpu, 10) or "compiler" in reason_against(blocks, "auto", cpu, 10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile warns about its own looking at .grad
@pytest.mark.parametrize("mixer", ["units", "moe"])
def test_compiled_blocks_equal_eager_ones(mixer):
    """The compiled step against the eager one, outputs and all gradients, on the taped and the untaped path.

    A block that recipes compile, and one with branches; the operators of the others are torch's to test.
    """
    if reason_against([Net(SMALL)], "on", torch.device("cpu"), 10_000):
        pytest.skip("no C++ compiler for torch.compile")
    positions = "rope" if mixer == "attention" else "none"
    size = replace(SMALL, block=mixer, positions=positions, units=ROWS)
    torch.manual_seed(0)
    eager, compiled = Net(size), Net(size)
    compiled.load_state_dict(eager.state_dict())
    assert "on for 2 blocks" in compile_blocks(compiled, "on", torch.device("cpu"), 10_000)
    x = torch.randn(3, 16, 32)
    with torch.no_grad():
        same(compiled(x, x), eager(x, x), 1e-5)
    ours, theirs = compiled(x, x), eager(x, x)
    same(ours, theirs, 1e-5)
    for a, b in zip(
        gradients(ours, tuple(compiled.parameters())), gradients(theirs, tuple(eager.parameters())), strict=True
    ):
        same(a, b, 1e-4)
    assert compiled.state_dict().keys() == eager.state_dict().keys()


def test_the_halting_head_only_reads_the_mean_of_all_places():
    """Its gradient reaches the first place where that is what it reads, and no place where it reads the mean."""
    for pool in ("first", "mean"):
        heads = Heads(replace(NetConfig(), hidden_size=8, heads=1, pool=pool, puzzle_emb_size=0), continue_head=True)
        torch.nn.init.ones_(heads.q.weight)
        z = torch.randn(2, 82, 8, requires_grad=True)
        heads(z).q_halt.sum().backward()
        reached = z.grad is not None and z.grad.abs().sum((0, 2)) > 0
        assert (reached.nonzero().flatten().tolist() == [0]) if pool == "first" else z.grad is None
        assert heads.q.weight.grad[0].abs().sum() > 0 and not heads.q.weight.grad[1].any()


@pytest.mark.parametrize("block", ["units", "orbit"])
def test_renamed_parts_keep_their_keys_in_files(block):
    task = tasks.get("sudoku", size=4)
    loops = [innerloop.create("trm", task, seed=s, block=block, hidden_size=32, positions="none") for s in (0, 1)]
    saved = loops[0].state_dict()
    assert {key.split(".")[3] for key in saved if key.startswith("net.blocks.0.")} == {
        "units": {"tell", "back", "own", "out"}, "orbit": {"own", "out", "hear"}
    }[block]  # fmt: skip
    assert not any(torch.equal(p, q) for p, q in zip(loops[0].net.parameters(), loops[1].net.parameters(), strict=True))
    loops[1].load_state_dict(saved)
    assert all(torch.equal(p, q) for p, q in zip(loops[0].net.parameters(), loops[1].net.parameters(), strict=True))
    assert list(loops[1].state_dict()) == list(saved)


def test_the_logits_of_symbols_stand_at_their_own_tokens():
    """Two symbols amid the vocabulary: each logit is of its node, and comes at its token, not behind the plain ones."""
    torch.manual_seed(0)
    config = replace(SMALL, vocab=5, symbols=((3, 1),), hidden_size=8, heads=1)
    heads, z = Heads(config, continue_head=False), torch.randn(2, 16, 8)
    nodes = z.unflatten(2, (2, 4))
    want = nodes.mean(2) @ heads.tokens.weight.T
    for node, token in enumerate((3, 1)):
        want[..., token] = nodes[:, :, node] @ heads.tokens.weight[3]  # one row for all symbols of a form
    same(heads(z).logits, want, 1e-6)
