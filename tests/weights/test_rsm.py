"""RSM: growth as its recipe says, a tape of one step, tied embeddings, and no halting head."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.halt import confident, converged
from innerloop.learn.supervise import Batch
from innerloop.learn.train import train
from innerloop.learn.unroll import Unroll, unrolled_step
from innerloop.parts.config import NetConfig
from innerloop.recipes import get
from innerloop.runs.fit import build
from innerloop.runs.run import override
from innerloop.weights import trm
from innerloop.weights.rsm import RSM, Config

TINY = NetConfig(
    vocab=6, seq=16, rows=4, hidden_size=32, heads=2, layers=1, expansion=2.0, multiple_of=32, puzzle_emb_size=32
)
TAUGHT = Unroll(depth=8, draw="ramp", first=2, ramp=1.0, grad="last(1)")


def made(**changes):
    torch.manual_seed(0)
    return RSM(Config(TINY, **({"dtype": "float32"} | changes)))


def asked(rows=3):
    inputs = torch.randint(1, 6, (rows, 16), generator=torch.Generator().manual_seed(1))
    return Question(inputs, torch.zeros(rows, dtype=torch.long))


def test_the_inner_depth_grows_at_the_recipes_milestones():
    """The official Sudoku recipe: two thoughts, and one more at 30, 50, 70, 80, 84, 86, 88, 90, 92 and 94 %."""
    loop = made()
    assert int(loop.n) == 12  # before any training it thinks as after it
    for progress, n in ((0, 2), (0.29, 2), (0.31, 3), (0.69, 4), (0.71, 5), (0.83, 6), (0.85, 7), (0.95, 12)):
        loop.set_progress(progress)
        assert int(loop.n) == n and loop.schedule == ("z",) * n + ("y",)


def test_the_outer_depth_grows_by_the_plan():
    draw = torch.Generator()
    assert [TAUGHT.draw_depth(p, draw) for p in (0, 0.2, 0.4, 0.6, 0.8, 0.99)] == [2, 3, 4, 6, 7, 8]


def test_weights_remember_the_depth_they_were_learned_at(tmp_path):
    loop, x = made(), asked()
    loop.set_progress(0.4)
    save_file(loop.state_dict(), tmp_path / "a.safetensors")
    other = made()
    other.load_state_dict(load_file(tmp_path / "a.safetensors"))
    assert int(other.n) == 3 and other.schedule == loop.schedule
    with torch.no_grad():
        assert torch.equal(think(other, x, 3).state.y, think(loop, x, 3).state.y)


@torch.no_grad()
def test_a_step_is_one_cycle_of_trm():
    loop, x = made(thoughts=4, milestones=()), asked()
    plain = trm.TRM(trm.Config(TINY, cycles=1, thoughts=4, dtype="float32"))
    plain.load_state_dict({k: v for k, v in loop.state_dict().items() if k != "n"}, strict=False)
    a, b = think(loop, x, 3).state, think(plain, x, 3).state
    assert torch.equal(a.y, b.y) and torch.equal(a.z, b.z)


def test_learning_tapes_the_last_step_and_judges_its_answer_alone():
    loop, x = made(thoughts=2, milestones=()), asked()
    labels = torch.randint(1, 6, (3, 16))
    calls = []
    hook = loop.net.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    out = unrolled_step(loop, Batch(x, labels), TAUGHT, 5, None, "softmax")
    hook.remove()
    assert calls == [False] * 12 + [True] * 3 and set(out.losses) == {"lm_loss"}
    out.losses["lm_loss"].backward()
    got = [p.grad.clone() for p in loop.net.parameters()]
    loop.zero_grad(set_to_none=True)
    with torch.no_grad():
        before = think(loop, x, 4).state
    logits = loop.read(loop.step(before, x)).logits
    (F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / 16).backward()
    for g, p in zip(got, loop.net.parameters(), strict=True):
        assert torch.allclose(g, p.grad, rtol=1e-4, atol=1e-7)


def test_it_reads_by_its_own_embedding_and_halts_when_settled():
    loop, x = made(), asked()
    answer = loop.read(loop.init(x))
    assert answer.q_halt is None and not hasattr(loop, "heads")
    s = think(loop, x, 2).state
    assert torch.allclose(loop.read(s).logits, s.y[:, 1:] @ loop.embed.tokens.weight.T)
    with pytest.raises(InputError, match="halting head"):
        think(loop, x, 2, halt=confident())
    assert think(loop, x, 40, halt=converged(0.5)).steps.max() < 40


@pytest.mark.slow
def test_it_learns_4x4_and_thinks_deeper_than_it_learned(tmp_path):
    changes = ["plan.steps=100", "plan.check_every=100", "plan.compile=off", "data.count=200", "data.holdout=100"]
    run = override(get("sudoku4_trm"), changes)
    plan = replace(run.plan, unroll=replace(TAUGHT, depth=4), depths=(4, 32))
    config = Config(run.config.net, thoughts=2, milestones=(0.5,), dtype="float32")
    built = build(replace(run, system="rsm", config=config, plan=plan))
    how = {"validation": built.validation, "seed": 0, "live": False}
    result = train(built.loop, built.task, built.train, built.run.plan, tmp_path, **how)
    assert int(built.loop.n) == 3 and result.best["exact"] > 0.9
