"""Mixture-of-Recursions: who is worked on, what that costs, what a place may know, and how routers learn."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.learn.stream import ExampleStream
from innerloop.learn.unroll import Unroll, unrolled_step
from innerloop.parts.attention import attend_plain, rotate
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import rms_norm
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.tasks import get
from innerloop.weights.mor import Config, MoR

TINY = NetConfig(
    vocab=6, seq=24, rows=1, hidden_size=32, heads=2, layers=2, multiple_of=32, norm="pre", prefix=0, puzzle_emb_size=0
)
CAPACITIES = (1.0, 2 / 3, 1 / 3)
STEPS = 120


def made(seed=0, size=TINY, **config):
    torch.manual_seed(seed)
    return MoR(Config(size, dtype="float32", **config))


def ask(rows=4, seed=0, places=24):
    draw = torch.Generator().manual_seed(seed)
    return Question(torch.randint(1, 6, (rows, places), generator=draw), torch.zeros(rows, dtype=torch.long))


def states(loop, x, depth=3):
    """The states before and after every step."""
    s = [loop.init(x)]
    for _ in range(depth):
        s.append(loop.step(s[-1], x))
    return s


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"router": "token"}, {}),
        ({"router": "token_bias", "kv": "shared"}, {"mask": "causal"}),
        ({"kv": "shared"}, {"prefix": 2}),
        ({}, {"mask": "causal"}),
        ({}, {"block": "conv", "positions": "none", "rows": 4}),
    ],
)
def test_the_contract_holds_for_every_router_and_cache(check, config, changes):
    c = Config(replace(TINY, seq=16, **changes), dtype="float32", **config)
    CHECKS[check](Subject("mor", lambda: MoR(c), sample_question()))


# --- expert choice ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kv", ["recursion", "shared"])
@pytest.mark.parametrize("capacities", [CAPACITIES, (0.9, 0.5, 0.3, 0.04)])
def test_as_many_places_as_the_capacity_says_nested_and_the_rest_untouched(kv, capacities):
    loop = made(capacities=capacities, kv=kv)
    s = states(loop, ask(), len(capacities))
    before = torch.ones(4, 24, dtype=torch.bool)
    for share, old, new in zip(capacities, s, s[1:], strict=False):
        on = new.depth > old.depth
        assert (on.sum(1) == max(1, math.floor(share * 24))).all()
        assert (on & ~before).sum() == 0
        assert torch.equal(new.h[~on], old.h[~on]) and (new.h[on] != old.h[on]).any(-1).all()
        before = on
    counts = [max(1, math.floor(c * 24)) for c in capacities]
    assert s[-1].depth.sum(1).tolist() == [sum(counts)] * 4


def test_the_chosen_are_the_best_of_those_left():
    loop = made()
    s = states(loop, ask())
    for t, (old, new) in enumerate(pairwise(s)):
        logit = loop.router.score(old.h)[..., t]
        left, on = old.depth == t, new.depth > t
        for row in range(4):
            best = logit[row].masked_fill(~left[row], -math.inf).topk(int(on[row].sum())).indices
            assert sorted(best.tolist()) == on[row].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("kv", ["recursion", "shared"])
def test_full_capacity_and_a_gate_of_one_is_a_plain_loop(kv):
    loop, x = made(capacities=(1.0,) * 3, alpha=2.0, kv=kv), ask()
    loop.router.score.weight.data.zero_()  # sigmoid(0) * 2 = 1
    h = loop.first(loop.embed(x, torch.float32))
    for i, s in enumerate(states(loop, x)[1:]):
        if kv == "recursion" or i == 0:
            h = h + loop.net(h)
            assert torch.allclose(s.h, h, atol=1e-5)
    assert torch.allclose(loop.read(s).logits, loop.head(rms_norm(loop.last(s.h))), atol=1e-6)


def worked(loop, h_kD, places):
    """The shared stack on some places of one row, taken out of it: they keep their positions and see each other."""
    for block in loop.net.blocks:
        a = block.mix
        q, k, v = a.qkv(rms_norm(h_kD)).unflatten(-1, (3, loop.c.net.heads, -1)).unbind(1)
        q, k = (rotate(t[None], a.cos[places], a.sin[places])[0] for t in (q, k))
        said = attend_plain(*(t.transpose(0, 1)[None] for t in (q, k, v)))[0].transpose(0, 1).flatten(1)
        h_kD = h_kD + a.out(said)
        h_kD = h_kD + block.mlp(rms_norm(h_kD))
    return h_kD


def gathered(loop, x, capacities):
    """The official way, one row at a time: the chosen places are taken out, worked on alone, and added back."""
    rows = []
    for row in loop.init(x).h:
        h, places = row, torch.arange(len(row))
        for t, share in enumerate(capacities):
            logit = loop.router.score(h[places])[:, t]
            best = logit.topk(math.floor(share * len(row) + 1e-4)).indices.sort().values
            places, gate = places[best], loop.c.alpha * logit[best].sigmoid()
            h = h.index_add(0, places, gate[:, None] * worked(loop, h[places], places))
        rows.append(h)
    return torch.stack(rows)


def test_masking_equals_gathering_outputs_and_gradients():
    loop, x = made(), ask()
    ours, theirs = think(loop, x, 3).state.h, gathered(loop, x, CAPACITIES)
    assert (ours - theirs).abs().max() < 1e-5
    pattern = torch.arange(ours.numel()).view_as(ours).sin()
    wanted = {n: p for n, p in loop.named_parameters() if n.startswith(("net", "first", "embed", "router"))}
    mine, other = (torch.autograd.grad((h * pattern).sum(), list(wanted.values())) for h in (ours, theirs))
    for name, a, b in zip(wanted, mine, other, strict=True):
        assert (a - b).abs().max() <= 1e-4 * max(1.0, b.abs().max().item()), name


def test_gathering_saves_the_work_that_capacities_promise():
    """Linear maps cost mean(c) of a full loop, attention mean(c^2): counted, and equal to the formula."""
    loop, x, width, places = made(), ask(1), 32, 24
    matrices = sum(p.numel() for p in loop.net.parameters())
    flops = {}
    for name, capacities in (("full", (1.0,) * 3), ("mor", CAPACITIES), ("none", ())):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            gathered(loop, x, capacities)
        flops[name] = counter.get_total_flops()
    per_place = 2 * matrices
    route = [2 * width * 3 * places, 2 * width * 3 * places, 2 * width * 3 * 16]  # of the places that were left
    for name, counts, routed in (("full", [24] * 3, [route[0]] * 3), ("mor", [24, 16, 8], route)):
        want = sum(k * per_place + 2 * 4 * k * k * width for k in counts) + sum(routed)
        assert flops[name] - flops["none"] == want
    ratio = (flops["mor"] - flops["none"]) / (flops["full"] - flops["none"])
    assert 14 / 27 < ratio < 2 / 3  # between mean(c^2) and mean(c)


def test_a_dropped_place_is_not_heard_again():
    loop, x = made(), ask()
    s = states(loop, x)[2]
    dropped = s.depth < 2
    new, other = (loop.step(t, x) for t in (s, s._replace(h=torch.where(dropped[..., None], s.h + 1, s.h))))
    on = new.depth > s.depth
    assert torch.equal(new.h[on], other.h[on])


def test_shared_keys_and_values_are_those_of_the_first_step():
    loop, x = made(kv="shared"), ask()
    s = states(loop, x)
    assert torch.equal(s[1].kv, s[2].kv) and torch.equal(s[1].kv, s[3].kv) and s[1].kv.any()
    h = s[0].h
    for layer, block in enumerate(loop.net.blocks):
        _, k, v = block.mix.qkv(rms_norm(h)).unflatten(-1, (3, 2, -1)).unbind(2)
        k = rotate(k, block.mix.cos, block.mix.sin)
        assert torch.allclose(s[1].kv[:, layer, 0], k.transpose(1, 2), atol=1e-5)
        assert torch.allclose(s[1].kv[:, layer, 1], v.transpose(1, 2), atol=1e-5)
        h = block(h)
    later = s[1]._replace(kv=s[1].kv + 1)
    assert not torch.allclose(loop.step(later, x).h, s[2].h)  # step 2 does read them


def test_capacities_fall_from_one_while_learning_only():
    loop, x = made(warmup=0.5), ask()

    def counts():
        return [int((s.depth > t).sum(1)[0]) for t, s in enumerate(states(loop, x)[1:])]

    seen = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        loop.set_progress(progress)
        seen.append(counts())
    assert seen == [[24, 24, 24], [24, 20, 16], [24, 16, 8], [24, 16, 8]]
    loop.set_progress(0.0)
    loop.eval()
    assert counts() == [24, 16, 8]


# --- what a place may know -------------------------------------------------------------------------------------------
def hears(loop, depth=3, tries=12):
    """Whether any change of a token moved the answer of an earlier place."""
    x = ask(1)
    with torch.no_grad():
        said = think(loop, x, depth).answer.logits[0]
        for place in range(24 - tries, 24):
            rows = x.inputs.clone()
            rows[0, place] = rows[0, place] % 5 + 1
            other = think(loop, Question(rows, x.puzzle), depth).answer.logits[0]
            if (said - other)[:place].abs().max() > 1e-6:
                return True
    return False


def test_top_k_tells_the_past_of_the_future_and_the_threshold_does_not():
    deep = 0
    for seed in range(4):
        loop = made(seed, size=replace(TINY, mask="causal"))
        assert hears(loop.train()), "a top-k over the row must leak: this is the failure the threshold mends"
        assert not hears(loop.eval())
        deep += int((states(loop, ask(1))[-1].depth == 3).sum())
    assert deep > 0, "some places must be worked on to the end, or nothing is tested"


@pytest.mark.slow
@pytest.mark.parametrize("kv", ["recursion", "shared"])
def test_the_other_forms_are_causal_too(kv):
    size = replace(TINY, mask="causal")
    assert not hears(made(size=size, kv=kv).eval())
    for router in ("token", "token_bias"):
        loop = made(size=size, kv=kv, router=router)
        assert not hears(loop.train()) and not hears(loop.eval())


def test_the_threshold_is_the_routers_own_logit():
    loop = made(size=replace(TINY, mask="causal")).eval()
    s = states(loop, ask())
    for t, (old, new) in enumerate(pairwise(s)):
        wants = loop.router.score(old.h)[..., t].sigmoid() > 0.5
        assert torch.equal(new.depth > old.depth, wants & (old.depth == t))


def test_the_extra_loss_is_the_cross_entropy_of_being_chosen():
    loop, want = made(weight=0.5), torch.zeros(4)
    s = states(loop, ask())
    for t, (old, new) in enumerate(pairwise(s)):
        logit, left, on = loop.router.score(old.h)[..., t], old.depth == t, new.depth > t
        for row in range(4):
            kept = left[row]
            want[row] += F.binary_cross_entropy_with_logits(logit[row, kept], on[row, kept].float())
    assert torch.allclose(loop.terms(s[-1])["router_loss"], 0.5 * want, atol=1e-6)


@pytest.mark.slow
def test_the_extra_loss_teaches_the_threshold_to_choose_as_top_k_does():
    loop, x = made(size=replace(TINY, mask="causal"), weight=1.0), ask(8)
    optimizer = torch.optim.Adam(loop.router.parameters(), lr=0.05)

    def differ():
        wide = states(loop.train(), x)[-1].depth
        narrow = states(loop.eval(), x)[-1].depth
        loop.train()
        return (wide != narrow).float().mean().item()

    before = differ()
    for _ in range(60):
        optimizer.zero_grad()
        loop.terms(think(loop, x, 3).state)["router_loss"].sum().backward()
        optimizer.step()
    assert differ() < 0.5 * before


# --- token choice ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("router", ["token", "token_bias"])
def test_a_place_takes_the_steps_it_chose_and_ends_on_its_gate(router):
    loop, x = made(router=router), ask(2)
    loop.router.score.weight.data.mul_(3)
    s = states(loop, x)
    p = loop.router.score(s[0].h).softmax(-1)
    chosen = p.argmax(-1)
    assert len(chosen.unique()) == 3 and torch.equal(s[-1].depth, chosen + 1)
    for t, (old, new) in enumerate(pairwise(s)):
        for row in range(2):
            want, on = old.h[row].clone(), (chosen[row] >= t).nonzero()[:, 0]
            for place, f in zip(on.tolist(), worked(loop, old.h[row, on], on), strict=True):
                ends = chosen[row, place] == t
                want[place] = s[0].h[row, place] + p[row, place, t] * f if ends else f
            assert torch.allclose(new.h[row], want, atol=1e-5)


def test_the_balance_loss_is_the_number_of_steps_times_sum_of_f_p():
    loop, x = made(router="token", weight=0.1), ask()
    s = states(loop, x)
    p = loop.router.score(s[0].h).softmax(-1)
    f = F.one_hot(p.argmax(-1), 3).float().mean(1)
    assert torch.allclose(loop.terms(s[-1])["router_loss"], 0.1 * 3 * (f * p.mean(1)).sum(-1), atol=1e-6)
    assert torch.equal(s[1].loss, s[3].loss)  # asked once
    loop.router.score.weight.data.zero_()
    assert torch.allclose(loop.terms(states(loop, x)[-1])["router_loss"], torch.full((4,), 0.1))  # 1 where p is even


@pytest.mark.slow
def test_a_bias_balances_without_a_loss():
    loop, x = made(router="token_bias"), ask(8)
    loop.router.score.weight.data[0] += 0.03 * states(loop, x, 1)[0].h.mean((0, 1))  # step 1 attracts most places
    spread = []
    for _ in range(200):
        loop.router.load.zero_()
        s = think(loop, x, 3).state
        assert not s.loss.any()
        load = loop.router.load / loop.router.load.sum()
        spread.append((load.max() - load.min()).item())
        gates = [p.requires_grad for p in (loop.router.bias, loop.router.load)]
        loop.after_update()
        assert not loop.router.load.any() and not any(gates)
    assert spread[0] > 0.25 and spread[-1] < 0.5 * spread[0]
    assert loop.router.bias[0] < 0 and loop.router.bias.abs().max() <= 0.2 + 1e-6
    assert "router.bias" in loop.state_dict() and "router.load" not in loop.state_dict()
    loop.eval()
    think(loop, x, 3)
    assert not loop.router.load.any()


def test_wrong_configurations_say_what_is_wrong():
    for wrong, says in (
        ({"router": "random"}, "no router"),
        ({"kv": "none"}, "recursion"),
        ({"capacities": ()}, "shares of the places"),
        ({"capacities": (1.0, 1.5)}, "shares of the places"),
        ({"size": replace(TINY, block="conv", positions="none", rows=4), "kv": "shared"}, "recursion"),
    ):
        with pytest.raises(InputError, match=says):
            made(**wrong)


@pytest.mark.slow
def test_it_learns_sums_and_writes_what_it_reads():
    """Learned by top-k, read by the threshold: exact accuracy under teacher forcing is that of greedy decoding."""
    task = get("sums", digits=1)
    size = replace(TINY, layers=1, vocab=task.vocab, seq=task.shape[1], mask="causal")
    loop = made(size=size, weight=0.05, warmup=0.2).train()
    optimizer = torch.optim.AdamW(loop.parameters(), lr=5e-3, weight_decay=0.1)
    feed = ExampleStream(task.make(1000, seed=0), None, 0)
    for step in range(STEPS):
        loop.set_progress(step / STEPS)
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / STEPS)
        batch = feed.fill(torch.ones(32, dtype=torch.bool), 32 * step)
        loss = sum(unrolled_step(loop, batch, Unroll(3), 3, None, "softmax").losses.values()) / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loop.eval()

    def read(rows):
        x = Question(torch.from_numpy(rows).long(), torch.zeros(len(rows), dtype=torch.long))
        with torch.no_grad():
            thought = think(loop, x, 3)
        worked_on.append(thought.state.depth.float().mean().item())
        return thought.answer.logits.argmax(-1).numpy().astype(np.uint8)

    test, worked_on = task.make(200, seed=1), []
    forced = task.score_batch(test.inputs, read(test.inputs), test.labels)[0]
    assert 0 < worked_on[0] < 3  # the threshold chose some places and not others
    assert np.array_equal(forced, (task.complete(read, test.inputs) == test.inputs).all(1))
    assert 0.2 < forced.mean() < 1
