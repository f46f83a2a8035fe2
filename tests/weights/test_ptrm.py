"""PTRM, noise on a trained TRM (arXiv 2605.19943), as Noisy and a pick; and the other picks."""

import pytest
import torch

from innerloop.core import Answer, Question, Thought, think
from innerloop.errors import InputError
from innerloop.halt import confident, halting_margin
from innerloop.noise import key_of, normal, salted, scramble
from innerloop.parts.config import NetConfig
from innerloop.weights import trm
from innerloop.width import Noisy, best, by_value, first_to_halt, lowest_residual, think_wide

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)


def made():
    torch.manual_seed(0)
    loop = trm.TRM(trm.Config(TINY, cycles=2, thoughts=2, dtype="float32")).eval()
    with torch.no_grad():
        loop.heads.q.weight.normal_()
    return loop


def asked(rows=6):
    inputs = torch.randint(1, 6, (rows, 16), generator=torch.Generator().manual_seed(1))
    return Question(inputs, torch.zeros(rows, dtype=torch.long))


def noisy(loop, sigma=0.3, seed=4, slots=("z",)):
    return Noisy(loop, sigma, sigma, slots, seed)


@torch.no_grad()
def test_it_is_the_papers_recursion_bit_for_bit():
    loop, x = made(), asked()
    s, key = loop.init(x), scramble(key_of(x) + scramble(torch.full((6,), 4)))
    for _ in range(5):  # z <- z + sigma e;   y, z <- deep recursion(x, y, z)
        s = loop.step(trm.State(s.y, s.z + 0.3 * normal(scramble(key ^ (1 << 32)), *s.z.shape[1:])), x)
        key = scramble(key + 1)
    got = think(noisy(loop), x, 5)
    assert torch.equal(got.state.inner.y, s.y) and torch.equal(got.answer.logits, loop.read(s).logits)
    assert torch.equal(got.answer.q_halt, loop.read(s).q_halt)


@torch.no_grad()
def test_without_noise_it_is_trm_and_the_answer_slot_is_never_shaken():
    loop, x = made(), asked()
    assert torch.equal(think(noisy(loop, 0.0), x, 3).state.inner.z, think(loop, x, 3).state.z)
    once, plain = (think(f, x, 1).state for f in (Noisy(loop, path=0.3, slots=("z",)), loop))
    assert torch.equal(once.inner.y, plain.y) and (once.inner.z != plain.z).all((1, 2)).all()
    everywhere = think(Noisy(loop, path=0.3), x, 1).state.inner
    assert (everywhere.y != plain.y).any()
    begun = think(Noisy(loop, start=0.3, slots=("z",)), x, 1).state.inner
    assert (begun.y != plain.y).any()
    with pytest.raises(InputError, match="no slot 'w'"):
        noisy(loop, slots=("w",)).init(x)


@torch.no_grad()
def test_the_noise_of_a_puzzle_is_its_own_whatever_the_batch():
    loop, x = made(), asked()
    alone = [think(noisy(loop), Question(x.inputs[i : i + 1], x.puzzle[i : i + 1]), 3) for i in range(6)]
    together = think(noisy(loop), x, 3)
    assert torch.allclose(torch.cat([t.state.inner.z for t in alone]), together.state.inner.z, atol=1e-5)
    other = think(noisy(loop), x, 3, state=salted(noisy(loop).init(x), 1))
    assert (other.state.inner.z != together.state.inner.z).all((1, 2)).all()


@torch.no_grad()
def test_the_halting_head_picks_the_best_of_k():
    loop, x = made(), asked()
    shaken = noisy(loop)
    every = [think(shaken, x, 3, state=salted(shaken.init(x), i)) for i in range(8)]
    chosen = think_wide(noisy(loop), x, 8, best(), 3)
    q = torch.stack([t.answer.q_halt for t in every])
    assert torch.equal(chosen.answer.q_halt, q.max(0).values) and len(q.argmax(0).unique()) > 1


@pytest.mark.slow
@torch.no_grad()
def test_an_oracles_pick_never_falls_with_more_trajectories():
    loop, x = made(), asked(16)
    labels = torch.randint(1, 6, (16, 16), generator=torch.Generator().manual_seed(3))
    right = lambda answer: (answer.logits.argmax(-1) == labels).float().mean(1)  # noqa: E731
    curve = [right(think_wide(noisy(loop, 1.0), x, n, best(right), 2).answer) for n in range(1, 13)]
    rises = torch.stack(curve).diff(dim=0)
    assert (rises >= 0).all() and (rises > 0).any()


def thought(steps, q=None, value=None, mark=0.0):
    b = len(q) if q is not None else 2
    answer = Answer(torch.full((b, 1, 2), mark), None if q is None else torch.tensor(q), None, value)
    return Thought(answer, (torch.full((b,), mark),), steps, [])


def test_the_first_to_halt_wins_and_confidence_settles_ties():
    runs = [
        thought(torch.tensor([5, 3, 9]), [0.0, 0.0, 5.0], mark=0.0),
        thought(torch.tensor([4, 3, 9]), [-9.0, 1.0, 2.0], mark=1.0),
        thought(torch.tensor([4, 8, 9]), [-8.0, 9.0, 60.0], mark=2.0),
    ]
    assert first_to_halt(runs).state[0].tolist() == [2.0, 1.0, 2.0]
    assert first_to_halt(runs).steps.tolist() == [4, 3, 9]
    with pytest.raises(InputError, match="halted by itself"):
        first_to_halt([thought(4, [0.0]), thought(4, [1.0])])


@torch.no_grad()
def test_the_first_to_halt_of_real_trajectories_spends_the_fewest_steps():
    loop, x = made(), asked()
    shaken = noisy(loop, 1.0)
    firsts = [salted(shaken.init(x), i) for i in range(5)]
    every = torch.stack([think(shaken, x, 6, halt=confident(), state=s).steps for s in firsts])
    chosen = think_wide(noisy(loop, 1.0), x, 5, first_to_halt, 6, halt=confident())
    assert torch.equal(chosen.steps, every.min(0).values) and every.float().std() > 0


def test_value_picks_and_what_is_missing_is_said():
    runs = [thought(1, [0.0, 0.0], torch.tensor(v), mark=m) for v, m in (([0.2, 0.9], 0.0), ([0.3, 0.1], 1.0))]
    assert best(by_value)(runs).state[0].tolist() == [1.0, 0.0]
    with pytest.raises(InputError, match="no head for that score"):
        best(by_value)([thought(1, [0.0]), thought(1, [1.0])])
    with pytest.raises(InputError, match="no head for that score"):
        best(halting_margin)([thought(1), thought(1)])
    with pytest.raises(InputError, match="no field `residual`"):
        lowest_residual(runs)


def test_a_diverged_trajectory_never_wins():
    runs = [thought(1, [float("nan"), 1.0], mark=0.0), thought(1, [-3.0, float("nan")], mark=1.0)]
    assert best()(runs).state[0].tolist() == [1.0, 0.0]
