"""The shared recursion is TRM's, on any state that holds y and z."""

from typing import NamedTuple

import torch

from innerloop.core import Question, run_schedule
from innerloop.parts.config import NetConfig
from innerloop.parts.recursion import schedule, updates
from innerloop.weights import trm

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)


class Tagged(NamedTuple):
    tag: torch.Tensor
    z: torch.Tensor
    y: torch.Tensor


def test_a_step_of_trm_is_the_shared_recursion_bit_for_bit():
    torch.manual_seed(0)
    loop = trm.TRM(trm.Config(TINY, cycles=3, thoughts=2, dtype="float32"))
    x = Question(torch.randint(1, 6, (4, 16)), torch.zeros(4, dtype=torch.long))
    assert loop.schedule == schedule(2, 3) == ("z", "z", "y") * 3
    s = loop.init(x)
    want = loop.step(s, x)
    tagged = Tagged(torch.arange(4), s.z, s.y)
    got = run_schedule(schedule(2, 3), updates(loop.net, loop.embed(x, torch.float32)), tagged, loop.grad)
    assert torch.equal(got.y, want.y) and torch.equal(got.z, want.z) and torch.equal(got.tag, tagged.tag)
    for a, b in ((got.y, want.y), (got.z, want.z)):
        first, second = (torch.autograd.grad(t.square().sum(), list(loop.net.parameters()), retain_graph=True)
                         for t in (a, b))  # fmt: skip
        assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))
