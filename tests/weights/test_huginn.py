"""Huginn: its start, adapter and first weights, the tape, path independence, early exits, caches."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from innerloop.core import Answer, Question, think
from innerloop.errors import InputError
from innerloop.grad import last
from innerloop.halt import converged, cosine, entropy, kl, unchanged_for
from innerloop.learn.stream import ExampleStream, to_batch
from innerloop.learn.unroll import Unroll, unrolled_step
from innerloop.lm.decoding import CachedPass
from innerloop.noise import salted
from innerloop.parts.cache import Cache
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import Linear, rms_norm
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.tasks import get
from innerloop.weights.huginn import Config, Huginn, agreement

TINY = NetConfig(
    vocab=6,
    seq=16,
    rows=1,
    hidden_size=32,
    heads=2,
    layers=2,
    multiple_of=32,
    norm="sandwich",
    prefix=0,
    puzzle_emb_size=0,
)
DEPTH = 6  # mean of training, less one
EXITS = {"kl": kl(), "entropy": entropy(), "latent": converged(0.02), "cosine": cosine(), "stable": unchanged_for()}


def made(seed=0, recurrence=4, **changes):
    torch.manual_seed(seed)
    return Huginn(Config(replace(TINY, **changes), 1, 1, recurrence, "float32"))


def ask(rows=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Question(torch.randint(1, 6, (rows, 16), generator=draw), torch.zeros(rows, dtype=torch.long))


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("changes", [{"mask": "causal"}, {"mask": "prefix", "separator": 3, "prefix": 1}])
def test_the_contract_holds_where_places_are_hidden(check, changes):
    config = Config(replace(TINY, **changes), 1, 1, 4, "float32")
    CHECKS[check](Subject("huginn", lambda: Huginn(config), sample_question()))


# --- what it is made of ----------------------------------------------------------------------------------------------
def test_the_start_is_truncated_noise_of_variance_two_fifths():
    loop = made(hidden_size=64)
    z = loop.start(torch.arange(2000)).double()
    sigma = math.sqrt(0.4)
    kept = 1 - 6 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2))  # variance between +-3
    assert abs(z.mean()) < 3e-3 and z.var().item() == pytest.approx(0.4 * kept, rel=5e-3)
    assert 2.9 * sigma < z.abs().max() <= 3 * sigma + 1e-6
    flat = z.flatten(1)[:40]
    assert (torch.corrcoef(flat) - torch.eye(40)).abs().max() < 0.2


def test_the_first_step_draws_and_every_step_adapts():
    loop, x = made(), ask()
    s = loop.init(x)
    assert not s.z.any()
    e = loop.prelude(loop.embed(x, torch.float32))
    assert torch.equal(s.e, e)
    z = loop.start(s.key)
    for _ in range(3):
        s = loop.step(s, x)
        z = loop.core(F.linear(torch.cat((z, e), -1), loop.adapt.weight))
        assert torch.allclose(s.z, z, atol=1e-6)
    want = F.linear(rms_norm(loop.coda(rms_norm(z))), loop.embed.tokens.weight)
    assert torch.allclose(loop.read(s).logits, want, atol=1e-5)


def test_another_salt_is_another_start():
    loop, x = made(), ask()
    a, b, c = (loop.step(salted(loop.init(x), salt), x).z for salt in (0, 0, 1))
    assert torch.equal(a, b) and (a - c).abs().mean() > 0.1
    assert len(loop.init(x).key.unique()) == 4


def test_first_weights_are_scaled_to_the_depth_of_training():
    """Every matrix sqrt(2 / 5d), and those that write into the stream by sqrt(2 * 132) less, 132 = 2 + 2 + 4 * 32."""
    size = replace(TINY, hidden_size=96, heads=4, layers=4, multiple_of=96, vocab=300)
    loop = Huginn(Config(size, dtype="float32"))
    base = math.sqrt(2 / (5 * 96))
    seen = {True: 0, False: 0}
    for name, m in loop.named_modules():
        if isinstance(m, Linear) or name == "embed.tokens":
            leaves = name.endswith((".out", ".down"))
            want = base / math.sqrt(2 * 132) if leaves else base
            assert m.weight.std().item() == pytest.approx(want, rel=0.05), name
            seen[leaves] += 1
    assert seen == {True: 16, False: 18}
    x = Question(torch.randint(1, 300, (2, 16)), torch.zeros(2).long())
    assert loop.embed(x, torch.float32).std().item() == pytest.approx(math.sqrt(0.4), rel=0.05)


def test_updates_older_than_the_tape_get_no_gradient():
    loop, x, on_tape = made(), ask(), []
    thought = think(loop, x, 12, grad=last(8), record=lambda _, s: on_tape.append(s.z.requires_grad))
    assert on_tape == [False] * 4 + [True] * 8
    loss = thought.answer.logits.square().mean()
    loss.backward()
    got = {n: p.grad.clone() for n, p in loop.named_parameters()}
    loop.zero_grad()
    with torch.no_grad():
        old = think(loop, x, 4).state
    fresh = loop.init(x)  # the prelude is on the tape whatever the depth
    think(loop, x, 8, state=old._replace(e=fresh.e)).answer.logits.square().mean().backward()
    for name, p in loop.named_parameters():
        assert torch.allclose(got[name], p.grad, atol=1e-6), name
    assert got["prelude.blocks.0.mix.qkv.weight"].abs().max() > 0


def moved(loop, place):
    x = ask(2)
    changed = x.inputs.clone()
    changed[0, place] = changed[0, place] % 5 + 1
    changed[changed == 3] = 2
    rows = torch.where(x.inputs == 3, 2, x.inputs)
    rows[:, 5] = changed[:, 5] = 3  # the only separator
    with torch.no_grad():
        a, b = (think(loop, Question(r, x.puzzle), 3).answer.logits[0] for r in (rows, changed))
    return (a - b).abs().amax(-1) > 1e-6


def test_nothing_tells_of_the_future_not_even_the_noise():
    for changes, free in (({"mask": "causal"}, 0), ({"mask": "prefix", "separator": 3}, 6)):
        loop = made(**changes)
        for place in (7, 10, 15):
            assert not moved(loop, place)[:place].any()
        assert moved(loop, 2)[:2].any() == (free > 0)


# --- exits -----------------------------------------------------------------------------------------------------------
class Told(NamedTuple):
    z: torch.Tensor  # (B, 2)
    t: torch.Tensor  # (B,)


class Script:
    """A loop whose answers are given: logits (T, B, S, V), the first being what is read before any step."""

    def __init__(self, logits):
        self.logits = logits

    def init(self, x):
        rows = self.logits.shape[1]
        return Told(torch.ones(rows, 2), torch.zeros(rows, dtype=torch.long))

    def step(self, s, x):
        return Told(s.z + torch.tensor([1.0, 0.0]), s.t + 1)

    def read(self, s):
        return Answer(self.logits[s.t, torch.arange(len(s.t))])


def script(*per_row):
    """Logits of one place with two values, log-odds given for each row and time."""
    odds = torch.tensor(per_row, dtype=torch.float)
    return Script(torch.stack((odds.T, torch.zeros_like(odds.T)), -1)[:, :, None])


def steps(loop, halt, depth):
    return torch.as_tensor(think(loop, None, depth, halt=halt).steps).tolist()


def divergence(a, b):
    """KL(a || b) of two chances of the first value."""
    p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_kl_stops_when_answers_do_and_holds_the_first_to_uniform():
    loop = script([9, 1, 1.5, 1.6, 1.6], [9, 0.01, 2, 3, 3], [1, 1, 1, 1, 1])
    assert steps(loop, kl(5e-3), 4) == [3, 1, 2]  # row 2: uniform at step 1; row 3: its own step 0 is not asked
    for tol in (divergence(1, 1.5) * 1.01, divergence(1, 1.5) * 0.99):
        assert steps(script([9, 1, 1.5, 4, -2]), kl(tol), 4) == [2 if tol > divergence(1, 1.5) else 4]


def test_entropy_looks_at_certainty_alone_and_never_stops_at_once():
    loop = script([1, 1, -1, 1, 5], [0, 0, 1, 2, 2], [0, 3, 0.1, 0.1, 0.2])
    assert steps(loop, entropy(1e-3), 4) == [2, 4, 3]


def test_cosine_measures_the_turn_of_the_state():
    """The state is (1 + t, 1): it turns less and less."""
    turns = [
        1 - (t * (t + 1) + 1) / math.hypot(t, 1) / math.hypot(t + 1, 1)
        for t in range(1, 20)
    ]  # fmt: skip
    for n in (1, 2, 5):
        assert steps(script([0.0] * 21), cosine(turns[n - 1] * 1.001), 20) == [n]


def test_stable_counts_steps_in_a_row_and_forgets_between_thoughts():
    loop = script([1, 1, 1, -1, -1, -1, -1, 1, 1], [1, -1, 1, -1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1, 1])
    rule = unchanged_for(2)
    for _ in range(2):
        assert steps(loop, rule, 8) == [5, 6, 3]  # nothing is compared at step 1
    assert steps(script([1] * 9), rule, 8) == [3]  # another batch
    assert steps(loop, unchanged_for(5), 8) == [8, 8, 6]
    with pytest.raises(InputError, match="1 or more"):
        unchanged_for(0)


def test_an_example_stops_when_all_its_places_agree():
    logits = torch.zeros(5, 1, 2, 2)
    logits[1:, 0, 1, 0] = torch.tensor([0.0, 2, 2, 2])  # the second place moves at step 2
    assert steps(Script(logits), kl(1e-3), 4) == [1]
    logits[1, 0, 0, 0] = 3.0
    assert steps(Script(logits), kl(1e-3), 4) == [3]


# --- a trained one ---------------------------------------------------------------------------------------------------
class Trained(NamedTuple):
    task: object
    loop: Huginn
    x: Question
    labels: torch.Tensor
    rows: object


@pytest.fixture(scope="module")
def trained():
    """One-digit sums by random depths of mean 7, with the last 8 steps taped."""
    task = get("sums", digits=1)
    loop = made(vocab=task.vocab, seq=task.shape[1], mask="causal", layers=1, recurrence=DEPTH).train()
    plan, draws = Unroll(DEPTH, "poisson", grad="last(8)"), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(loop.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    feed = ExampleStream(task.make(1000, seed=0), None, 0)
    for step in range(250):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, step / 20) * (1 - step / 250)
        batch = feed.fill(torch.ones(32, dtype=torch.bool), 32 * step)
        salt = torch.randint(1, 1 << 40, (32,), generator=draws)
        loss = unrolled_step(loop, batch, plan, plan.draw_depth(0, draws), salt, "softmax").losses["lm_loss"] / 32
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(loop.parameters(), 1.0)
        optimizer.step()
    rows = task.make(200, seed=1)
    batch = to_batch(rows.inputs, rows.labels, rows.puzzle, "cpu")
    return Trained(task, loop.eval(), batch.question, batch.labels, rows)


def nats(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100).item()


@torch.no_grad()
@pytest.mark.slow
def test_deeper_is_better_and_then_stays(trained):
    loss = {r: nats(think(trained.loop, trained.x, r).answer.logits, trained.labels) for r in (1, 2, 7, 28)}
    assert loss[1] > loss[7] + 0.05 and abs(loss[28] - loss[7]) < 0.1 and loss[7] < 0.8
    assert loss[2] > loss[7]


@torch.no_grad()
@pytest.mark.slow
def test_the_end_does_not_depend_on_the_start(trained):
    after = {depth: agreement(trained.loop, trained.x, depth) for depth in (1, 24)}
    assert after[24].min() > 0.99 and after[24].mean() > after[1].mean()
    fresh = agreement(made(), ask(), 1)
    assert fresh.max() < 0.99  # the check can fail: one step does not forget


@torch.no_grad()
@pytest.mark.parametrize(("name", "rule"), EXITS.items())
@pytest.mark.slow
def test_exits_come_before_the_cap_and_change_little(trained, name, rule):
    loop, x, cap = trained.loop, trained.x, 32
    stopped, whole = think(loop, x, cap, halt=rule), think(loop, x, cap)
    assert stopped.steps.max() <= cap and stopped.steps.float().mean() < 0.8 * cap
    following = loop.read(loop.step(stopped.state, x)).logits.log_softmax(-1)
    said = stopped.answer.logits.log_softmax(-1)
    after = (said.exp() * (said - following)).sum(-1)
    assert after.max() < (5e-3 if name == "kl" else 0.1)  # another step would have changed little, at any place
    if name == "kl":
        assert (after.amax(1) < 5e-4).float().mean() > 0.9
    assert abs(nats(stopped.answer.logits, trained.labels) - nats(whole.answer.logits, trained.labels)) < 0.01


def decoded(trained, name, depths, chunks):
    """(logits of all places, the cache), read in chunks of so many places and steps each."""
    loop, x, first, said = trained.loop, trained.x, 0, []
    cache = Cache(len(x.inputs), loop.c.net.length, name)
    for places, depth in zip(chunks, depths, strict=True):
        cache.at(torch.arange(first, first + places).expand(len(x.inputs), -1), first + places)
        thought = think(CachedPass(loop, cache), x._replace(cache=cache), depth)
        cache.done(thought.steps)
        said.append(thought.answer.logits)
        first += places
    return torch.cat(said, 1), cache


@torch.no_grad()
@pytest.mark.parametrize("chunks", [(7,), (3, 4), (1,) * 7])
@pytest.mark.slow
def test_decoding_from_a_full_cache_equals_reading_at_once(trained, chunks):
    want = think(trained.loop, trained.x, 8).answer.logits
    got, cache = decoded(trained, "full", [8] * len(chunks), chunks)
    assert (got - want).abs().max() < 1e-5
    assert len(cache.kept) == 1 + 8 + 1 and cache.even == 8


@torch.no_grad()
@pytest.mark.slow
def test_shared_caches_cost_little_once_the_state_has_settled(trained):
    ones = (1,) * 7
    want, delta = nats(decoded(trained, "full", [16] * 7, ones)[0], trained.labels), {}
    for name, slots in (("compress-s1", 1), ("compress-s4", 4), ("anchor", 9)):
        logits, cache = decoded(trained, name, [16] * 7, ones)
        assert len(cache.kept) == 1 + slots + 1
        delta[name] = nats(logits, trained.labels) - want
    assert max(map(abs, delta.values())) < 0.05, delta


@torch.no_grad()
@pytest.mark.slow
def test_places_of_different_depths_share_by_the_latest(trained):
    logits, cache = decoded(trained, "full", (4, 12, 6, 9, 3, 12, 8), (1,) * 7)
    assert cache.even is None
    whole = think(trained.loop, trained.x, 12).answer.logits
    assert abs(nats(logits, trained.labels) - nats(whole, trained.labels)) < 0.3


@torch.no_grad()
@pytest.mark.slow
def test_what_it_writes_is_what_teacher_forcing_says(trained):
    def read(rows):
        x = Question(torch.from_numpy(rows).long(), torch.zeros(len(rows), dtype=torch.long))
        return think(trained.loop, x, 8).answer.logits.argmax(-1).numpy().astype(np.uint8)

    rows = trained.rows
    forced = trained.task.score_batch(rows.inputs, read(rows.inputs), rows.labels)[0]
    assert np.array_equal(forced, (trained.task.complete(read, rows.inputs) == rows.inputs).all(1))
    assert forced.mean() > 0.3


def test_a_model_that_sees_everything_has_no_cache():
    with pytest.raises(InputError, match="reads in order"):
        made().init(ask()._replace(cache=Cache(len(ask().inputs), 16)))
