"""URM: its short convolution against torch's, and where its tape begins."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.core import Question
from innerloop.parts.config import NetConfig
from innerloop.parts.convglu import ConvSwiGLU
from innerloop.weights.urm import URM, Config

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=2, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)


def made(**changes):
    torch.manual_seed(0)
    return URM(Config(TINY, **({"dtype": "float32"} | changes)))


def asked(rows=3):
    inputs = torch.randint(1, 6, (rows, 16), generator=torch.Generator().manual_seed(1))
    return Question(inputs, torch.zeros(rows, dtype=torch.long))


@pytest.mark.parametrize("kernel", [2, 3])
def test_the_mlp_is_a_swiglu_with_a_depthwise_convolution(kernel):
    torch.manual_seed(0)
    mlp, x = ConvSwiGLU(8, 12, kernel).double(), torch.randn(2, 7, 8, dtype=torch.float64)
    gate, up = F.linear(x, mlp.up.weight).chunk(2, -1)
    conv = nn.Conv1d(12, 12, kernel, padding=kernel - 1, groups=12, bias=False).double()
    conv.weight = mlp.near.weight
    near = conv((F.silu(gate) * up).transpose(1, 2))[..., :7].transpose(1, 2)
    assert (mlp(x) - F.linear(F.silu(near), mlp.down.weight)).abs().max() < 1e-12


def test_the_mlp_sees_a_token_and_the_one_before():
    torch.manual_seed(0)
    mlp, x = ConvSwiGLU(8, 12), torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 3] += 1
    moved = (mlp(changed) != mlp(x)).any(-1)[0].tolist()
    assert moved == [False, False, False, True, True, False]


def test_every_blocks_mlp_is_replaced_and_blocks_without_one_stay():
    assert all(isinstance(b.mlp, ConvSwiGLU) for b in made().net.blocks)
    size = replace(TINY, block="conv", positions="none")
    assert not any(isinstance(m, ConvSwiGLU) for m in URM(Config(size, dtype="float32")).modules())
    plain = URM(Config(replace(TINY, block="tokens", positions="none"), dtype="float32"))
    assert all(isinstance(b.mlp, ConvSwiGLU) for b in plain.net.blocks)


@pytest.mark.parametrize(("loops", "untaped"), [(8, 2), (12, 6)])
def test_the_first_loops_carry_no_gradient(loops, untaped):
    loop, x, calls = made(loops=loops), asked(), []
    loop.net.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    loop.step(loop.init(x), x)
    assert calls == [False] * untaped + [True] * 6


def test_the_gradient_is_that_of_the_last_loops_from_where_the_first_end():
    loop, x = made(), asked()
    loop.read(loop.step(loop.init(x), x)).logits.square().sum().backward()
    got = {n: p.grad.clone() for n, p in loop.named_parameters() if p.grad is not None and not p.grad.is_sparse}
    loop.zero_grad(set_to_none=True)
    z, e = loop.init(x).z, loop.embed(x, torch.float32)
    for i in range(8):
        z = loop.net(z.detach() if i == 2 else z, e.detach() if i < 2 else e)
    loop.heads(z).logits.square().sum().backward()
    for name, p in loop.named_parameters():
        if name in got and p.grad is not None:
            assert torch.allclose(got[name], p.grad, rtol=1e-4, atol=1e-6), name
