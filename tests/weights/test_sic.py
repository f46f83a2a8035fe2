"""SiC: TRM inside it, who wins, and that the gradient is the winner's alone."""

import pytest
import torch
import torch.nn.functional as F

from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.weights import trm
from innerloop.weights.sic import Config, SiC

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)


def made(**changes):
    torch.manual_seed(0)
    loop = SiC(Config(TINY, **({"dtype": "float32", "latents": 3, "cycles": 2, "thoughts": 2} | changes)))
    with torch.no_grad():
        loop.heads.q.weight.normal_()  # a head that tells states apart
    return loop


def plain(loop, k):
    """TRM with the loop's weights, starting from its latent k."""
    alone = trm.TRM(trm.Config(TINY, cycles=2, thoughts=2, dtype="float32"))
    alone.load_state_dict(loop.state_dict() | {"z0": loop.z0[k]})
    return alone


def asked(rows=6, target=False):
    draw = torch.Generator().manual_seed(1)
    inputs, labels = torch.randint(1, 6, (2, rows, 16), generator=draw)
    return Question(inputs, torch.zeros(rows, dtype=torch.long), labels if target else None)


@torch.no_grad()
def test_with_one_latent_it_is_trm():
    loop, x = made(latents=1), asked()
    a, b = think(loop, x, 3).state, think(plain(loop, 0), x, 3).state
    assert torch.equal(a.y, b.y) and torch.equal(a.z[:, 0], b.z)


@torch.no_grad()
def test_one_of_many_latents_can_be_tested_alone():
    loop, x = made(), asked()
    loop.latents = 1
    s = think(loop, x, 3).state
    assert s.z.shape[1] == 1 and torch.equal(s.y, think(plain(loop, 0), x, 3).state.y)


@torch.no_grad()
def racers(loop, x):
    """The first step of every latent: states, cross-entropies and halting logits, (K, B)."""
    alone = [plain(loop, k) for k in range(3)]
    states = [a.step(a.init(x), x) for a in alone]
    answers = [a.read(s) for a, s in zip(alone, states, strict=True)]
    nll = [F.cross_entropy(a.logits.transpose(1, 2), x.target, reduction="none").sum(1) for a in answers]
    return states, torch.stack(nll), torch.stack([a.q_halt for a in answers])


@torch.no_grad()
def test_the_winner_passes_on_its_answer_and_every_latent_keeps_its_thought():
    loop, x = made(), asked(rows=32, target=True)
    states, nll, q = racers(loop, x)
    for question, winner in ((x, nll.argmin(0)), (x._replace(target=None), q.argmax(0))):
        s = loop.step(loop.init(x), question)
        assert len(winner.unique()) > 1
        for row, k in enumerate(winner.tolist()):
            assert torch.allclose(s.y[row], states[k].y[row], atol=1e-5)
        for k in range(3):
            assert torch.allclose(s.z[:, k], states[k].z, atol=1e-5)


def test_the_gradient_is_the_winners_alone():
    loop, x = made(), asked(rows=1, target=True)
    _, nll, _ = racers(loop, x)
    alone = plain(loop, int(nll.argmin()))
    for net in (loop, alone):
        logits = net.read(net.step(net.init(x), x)).logits
        F.cross_entropy(logits.transpose(1, 2), x.target).backward()
    for (name, p), q in zip(loop.net.named_parameters(), alone.net.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-6) and (p.grad != 0).any(), name


@torch.no_grad()
def test_places_without_a_label_do_not_decide_the_race():
    loop, x = made(), asked(rows=32, target=True)
    some = x.target.masked_fill(torch.arange(16) > 2, -1)
    other = x.target.masked_fill(torch.arange(16) > 2, -100)
    a, b, c = (loop.step(loop.init(x), x._replace(target=t)).y for t in (some, other, x.target))
    assert torch.equal(a, b) and (a != c).any()


def test_a_race_needs_a_runner():
    with pytest.raises(InputError, match="latents"):
        Config(latents=0)
