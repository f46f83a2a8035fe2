"""HRM and TRM against independent.py, with small random weights: held where no golden vectors are."""

from dataclasses import replace

import independent as plain
import numpy as np
import pytest
import torch

from innerloop.core import Question
from innerloop.learn.loss import stablemax_cross_entropy
from innerloop.learn.supervise import Batch, Draw, HaltingConfig, initial_carry, supervised_step
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import rms_norm
from innerloop.weights import hrm, trm

SIZE = NetConfig(
    vocab=6, seq=6, rows=2, hidden_size=16, heads=2, layers=2, multiple_of=8, prefix=2, puzzles=3, puzzle_emb_size=20
)
FAMILIES = {
    "trm": (trm.TRM, trm.Config(SIZE, cycles=2, thoughts=3, dtype="float32")),
    "trm-mixer": (
        trm.TRM,
        trm.Config(replace(SIZE, block="tokens", positions="none"), cycles=2, thoughts=2, dtype="float32"),
    ),
    "hrm": (hrm.HRM, hrm.Config(SIZE, cycles=2, low_cycles=3, dtype="float32")),
    "hrm-learned": (
        hrm.HRM,
        hrm.Config(replace(SIZE, positions="learned"), cycles=2, low_cycles=2, dtype="float32"),
    ),
}


def made(name):
    """The system with every weight random, the puzzle table and the halting head too, which start at a constant."""
    kind, config = FAMILIES[name]
    torch.manual_seed(1)
    loop = kind(config)
    with torch.no_grad():
        for weight in (loop.embed.puzzles.weight, loop.heads.q.weight, loop.heads.q.bias):
            weight.normal_()
    return loop


def array(tensor):
    return tensor.detach().double().numpy()


def blocks(net):
    found = []
    for b in net.blocks:
        mix = b.mix.mlp if hasattr(b.mix, "mlp") else b.mix
        names = ("up", "down") if hasattr(b.mix, "mlp") else ("qkv", "out")
        weights = {n: array(getattr(mix, n).weight) for n in names}
        found.append({"mix": weights, "mlp": {n: array(getattr(b.mlp, n).weight) for n in ("up", "down")}})
    return found


def weights(loop):
    w = {"tokens": array(loop.embed.tokens.weight), "puzzles": array(loop.embed.puzzles.weight)}
    if hasattr(loop.embed, "places"):
        w["places"] = array(loop.embed.places.weight)
    return w | {
        "head": array(loop.heads.tokens.weight),
        "q": array(loop.heads.q.weight),
        "q_bias": array(loop.heads.q.bias),
    }


def stepped(name, loop, tokens, puzzle, a, b):
    """Another step of the plain reading, from the two slots of one example."""
    c, rope = loop.c, loop.c.net.positions == "rope"
    e = plain.embedded(weights(loop), tokens, puzzle, c.net.prefix)
    if name.startswith("trm"):
        return plain.trm_step(blocks(loop.net), a, b, e, c.cycles, c.thoughts, c.net.heads, rope)
    return plain.hrm_step(blocks(loop.low), blocks(loop.high), a, b, e, c.cycles, c.low_cycles, c.net.heads, rope)


def batch(labelled=True):
    draw = torch.Generator().manual_seed(3)
    inputs = torch.randint(1, 6, (3, 6), generator=draw)
    labels = torch.randint(1, 6, (3, 6), generator=draw)
    labels[0, 2:4] = -100  # places that are not asked about
    return Batch(Question(inputs, torch.tensor([0, 2, 1])), labels)


@pytest.mark.parametrize("name", FAMILIES)
def test_two_steps_answers_and_losses_are_those_of_the_plain_reading(name):
    loop, given = made(name), batch()
    carry, halting = initial_carry(loop, given), HaltingConfig(2, explore=0.0)
    draw = Draw(torch.zeros(3, dtype=torch.long), torch.full((3,), 2))
    near = 1e-3 if name == "trm-mixer" else 5e-5  # its float32 is the noisiest
    for step in (1, 2):
        mine = [tuple(array(slot[i]) for slot in carry.state) for i in range(3)]
        out = supervised_step(loop, carry._replace(halted=carry.halted & (step == 1)), given, halting, draw)
        carry, w, want = out.carry, weights(loop), 0.0
        for i in range(3):
            tokens, puzzle = given.question.inputs[i].numpy(), int(given.question.puzzle[i])
            mine[i] = stepped(name, loop, tokens, puzzle, *mine[i])
            for slot, theirs in zip(carry.state, mine[i], strict=True):
                assert np.abs(array(slot[i]) - theirs).max() < near
            logits, q = plain.read(w, mine[i][0], loop.c.net.prefix)
            assert np.abs(array(out.answer.logits[i]) - logits).max() < 10 * near
            assert abs(out.answer.q_halt[i].item() - q[0]) < 10 * near
            target = None
            if name.startswith("hrm"):
                assert abs(out.answer.q_continue[i].item() - q[1]) < 10 * near
                ahead = plain.read(w, stepped(name, loop, tokens, puzzle, *mine[i])[0], loop.c.net.prefix)[1]
                target = 1 / (1 + np.exp(-(ahead[0] if step == 2 else max(ahead))))
                assert abs(out.target[i].item() - target) < 10 * near
            want += plain.loss(logits, q, np.maximum(given.labels[i].numpy(), 0), target)
        assert sum(v.item() for v in out.losses.values()) == pytest.approx(want, rel=10 * near)


def test_the_halting_head_learns_from_what_is_right():
    """A row whose labels are its own answers counts as right, and the loss says so."""
    loop, given = made("trm"), batch()
    first = supervised_step(loop, initial_carry(loop, given), given, HaltingConfig(2), None)
    said = first.answer.logits.argmax(-1)
    own = given._replace(labels=said.where(said > 0, -100))
    out = supervised_step(loop, initial_carry(loop, own), own, HaltingConfig(2), None)
    want = 0.0
    for i in range(3):
        q = array(loop.heads.q(out.carry.state.y[i, 0]))
        assert (own.labels[i] > 0).any()
        want += plain.loss(array(out.answer.logits[i]), q, own.labels[i].clamp_min(0).numpy())
    assert sum(v.item() for v in out.losses.values()) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_is_that_of_the_last_updates_alone(name):
    """TRM: the last cycle; HRM: the last low and the last high call. The head's weight is reached through them."""
    loop, given = made(name), batch()
    state = loop.step(loop.init(given.question), given.question)
    loop.read(state).logits.double().square().sum().backward()
    got = {n: p.grad.clone() for n, p in loop.named_parameters() if p.grad is not None}
    loop.zero_grad()
    c, x = loop.c, given.question
    a, b = loop.init(x)
    e = loop.embed(x, torch.float32)
    first = "z" if name.startswith("trm") else "l"
    kept = {"trm": len(loop.schedule) // c.cycles, "hrm": 2}[name[:3]]
    for at, update in enumerate(loop.schedule):
        with torch.set_grad_enabled(at >= len(loop.schedule) - kept):
            if name.startswith("trm"):
                a, b = (a, loop.net(b + (a + e))) if update == first else (loop.net(a + b), b)
            else:
                a, b = (a, loop.low(b + (a + e))) if update == first else (loop.high(a + b), b)
    loop.read(type(state)(a, b)).logits.double().square().sum().backward()
    for n, p in loop.named_parameters():
        if n in got and got[n].layout == torch.strided:
            assert torch.allclose(got[n], p.grad, rtol=1e-3, atol=1e-4 * p.grad.abs().max().item()), n


def test_norm_and_losses_at_their_edges():
    """Where an epsilon, a sign or a clamp would show: tiny states, logits far from zero and at it."""
    x = np.random.default_rng(0).normal(size=(4, 8)) * np.array([[1e-4], [3e-3], [1.0], [1e3]])
    assert np.abs(array(rms_norm(torch.tensor(x))) - plain.rms(x)).max() < 1e-6
    logits = np.array([[-50.0, -1.0, 0.0, 1e-9], [3.0, 70.0, -0.5, 2.0]])
    for label in range(4):
        got = stablemax_cross_entropy(torch.tensor(logits)[None], torch.full((1, 2), label))
        assert array(got)[0] == pytest.approx([plain.stablemax_nll(row, label) for row in logits], rel=1e-12)


def half_net(blocks, x, heads):
    """plain.net with rotary attention, in bfloat16: products and sums are rounded; norms, turns and softmax are not."""
    low = lambda a: torch.tensor(np.asarray(a)).float().bfloat16()  # noqa: E731
    norm = lambda a: (a.float() * torch.rsqrt(a.float().square().mean(-1, keepdim=True) + 1e-5)).bfloat16()  # noqa: E731
    for w in blocks:
        qkv, out, up, down = (
            low(w[k][n]).T for k, n in (("mix", "qkv"), ("mix", "out"), ("mlp", "up"), ("mlp", "down"))
        )
        parts = (x @ qkv).chunk(3, -1)
        e, seen = x.shape[1] // heads, []
        for h in range(heads):
            q, k, v = (p[:, h * e : (h + 1) * e] for p in parts)
            q, k = (low([plain.turned(row, i) for i, row in enumerate(array(t))]) for t in (q, k))
            seen.append(((q * e**-0.5) @ k.T).float().softmax(-1).bfloat16() @ v)
        x = norm(x + torch.cat(seen, -1) @ out)
        gate, value = (x @ up).chunk(2, -1)
        x = norm(x + (torch.nn.functional.silu(gate) * value) @ down)
    return x


@pytest.mark.parametrize("name", ["trm", "hrm"])
def test_bfloat16_is_what_it_computes_in(name):
    """A few calls in bfloat16 are near a plain reading in bfloat16, and far from float32 that is rounded at the end."""
    wide = made(name)
    loop = type(wide)(replace(wide.c, dtype="bfloat16"))
    loop.load_state_dict(wide.state_dict())
    x = torch.randn(3, SIZE.length, SIZE.hidden_size, generator=torch.Generator().manual_seed(4))
    net, exact = (m.net if name == "trm" else m.low for m in (loop, wide))
    ours, want, rounded = x.bfloat16(), x.bfloat16(), x.bfloat16().float()
    for _ in range(3):
        ours, rounded = net(ours), exact(rounded)
        want = torch.stack([half_net(blocks(net), row, SIZE.heads) for row in want])
    assert ours.dtype == torch.bfloat16
    off = lambda other: (ours.float() - other.bfloat16().float()).abs().mean().item()  # noqa: E731
    assert off(want) < 0.25 * off(rounded) and off(rounded) > 2e-3
    with torch.no_grad():
        x = batch().question
        state = loop.step(loop.init(x), x)
    assert all(slot.dtype == torch.bfloat16 for slot in state) and loop.read(state).logits.dtype == torch.bfloat16
