"""Nets of attention blocks that read from a cache: the compiled form gives what the plain one does."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from innerloop.ledger import count_flops, counting
from innerloop.lm.decoding import TextJob, TextReader, TokenLoop, draw
from innerloop.parts import fused, fused_decode
from innerloop.parts.attention import AttentionContext, Reading, attention_context
from innerloop.parts.cache import Cache
from innerloop.parts.config import NetConfig
from innerloop.parts.layers import NORMS
from innerloop.parts.mixers import BLOCKS, Net
from innerloop.rows import Rows
from innerloop.weights.looped import Config, Looped

PLACES, ROWS = 24, 5
SIZE = NetConfig(
    vocab=12, seq=PLACES, rows=1, hidden_size=32, heads=2, layers=3, multiple_of=16, norm="pre", mask="causal",
    prefix=0, puzzle_emb_size=0,
)  # fmt: skip

pytestmark = [
    pytest.mark.skipif(fused_decode.library() is None, reason="no C++ compiler: these nets have no compiled form"),
    pytest.mark.filterwarnings("error::UserWarning"),
]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def calls(monkeypatch):
    """A list that grows by one at every call of the kernel."""
    seen, run = [], fused_decode.Plan.run
    monkeypatch.setattr(fused_decode.Plan, "run", lambda self, *given: seen.append(1) or run(self, *given))
    return seen


def net_of(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net(replace(SIZE, **changes))
        for p in net.parameters():
            nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return net.eval()


def read(net, cache, places, x_BPD, first=None, last=None, width=None):
    """The net at these places (B, P), that see the places `first` to `last`."""
    cache.at(places, int(places.max()) + 1 if width is None else width)
    cache.phase("step")
    reading = Reading(torch.zeros_like(places) if first is None else first, places if last is None else last, cache)
    z_BPD = net(x_BPD, context=attention_context(SIZE, reading))
    cache.done(1)
    return z_BPD


def both(net, script, rows=ROWS):
    """The values of script(cache), by the kernel and by the plain form, and the two caches."""
    caches, found = [Cache(rows, PLACES), Cache(rows, PLACES)], []
    for cache, allowed in zip(caches, (True, False), strict=True):
        torch.manual_seed(1)
        if allowed:
            found.append(script(cache))
        else:
            with fused.plain():
                found.append(script(cache))
    return found, caches


def close(found, bound=1e-5):
    ours, plain = found
    assert len(ours) == len(plain) > 0
    for a, b in zip(ours, plain, strict=True):
        assert a.isfinite().all() and (a - b).abs().max() <= bound * (1 + b.abs().max())


def written(net, rows=ROWS, steps=12):
    """A script: prompts of 4 places, then every row goes on at a place of its own, and falls back now and then."""

    def script(cache):
        width = net.blocks[0].mix.out.weight.shape[0]
        found = [read(net, cache, torch.arange(4).expand(rows, -1), torch.randn(rows, 4, width))]
        at = torch.randint(4, 8, (rows, 1))
        for now in range(4, 8):  # so that every place below is filled
            read(net, cache, torch.full((rows, 1), now), torch.randn(rows, 1, width))
        for _ in range(steps):
            found.append(read(net, cache, at, torch.randn(rows, 1, width)))
            at = torch.where(torch.rand(rows, 1) < 0.2, torch.randint(2, 8, (rows, 1)), (at + 1).clamp(max=PLACES - 1))
        return found

    return script


@pytest.mark.parametrize("positions", ["rope", "none"])
@pytest.mark.parametrize("norm", NORMS)
def test_it_gives_what_the_plain_form_does(calls, norm, positions):
    net = net_of(norm=norm, positions=positions)
    found, caches = both(net, written(net))
    close(found)
    assert len(calls) == 17 and caches[0].kept.keys() == caches[1].kept.keys()
    for key, tensors in caches[0].kept.items():
        close((tensors, caches[1].kept[key]))


SHAPES = [(8, 1, 1), (16, 2, 3), (48, 1, 33), (48, 2, 16), (64, 4, 70), (96, 3, 17), (96, 2, 2), (128, 2, 40)]


@pytest.mark.parametrize(("width", "heads", "rows"), SHAPES)
def test_it_gives_it_for_every_width_and_any_number_of_rows(calls, width, heads, rows):
    net = net_of(hidden_size=width, heads=heads, layers=2, multiple_of=3, norm="magic")
    close(both(net, written(net, rows, steps=6), rows)[0])
    assert len(calls) == 11


@pytest.mark.parametrize("threads", [1, 3])
def test_the_result_of_a_row_does_not_depend_on_others_or_on_threads(threads):
    net, before = net_of(), torch.get_num_threads()
    x, places = torch.randn(70, 3, 32), torch.arange(3).expand(70, -1)
    alone = [read(net, Cache(1, PLACES), places[:1], row[None])[0] for row in x]
    try:
        torch.set_num_threads(threads)
        together = read(net, Cache(70, PLACES), places, x)
    finally:
        torch.set_num_threads(before)
    assert (together == torch.stack(alone)).all()


def test_a_place_sees_what_its_reading_says_and_no_place_that_is_not_looked_at(calls):
    """As in a row of several texts, and in a prompt that is read in both directions."""
    net = net_of(norm="magic")

    def script(cache):
        places = torch.arange(6).expand(ROWS, -1)
        first = torch.tensor([0, 0, 2, 2, 2, 5]).expand(ROWS, -1).contiguous()
        last = torch.tensor([1, 1, 4, 4, 9, 5]).expand(ROWS, -1)
        return [read(net, cache, places, torch.randn(ROWS, 6, 32), first, last, width=6)]

    close(both(net, script)[0])
    assert calls


def test_rows_are_taken_and_put_between_two_calls():
    net = net_of(norm="sandwich")

    def script(cache):
        read(net, cache, torch.arange(4).expand(ROWS, -1), torch.randn(ROWS, 4, 32))
        fresh = Cache(2, PLACES)
        read(net, fresh, torch.arange(4).expand(2, -1), torch.randn(2, 4, 32))
        cache.put_rows(torch.tensor([3, 1]), fresh)
        wide = cache.take_rows(torch.tensor([4, 3, 1])).concat_rows(fresh)
        return [read(net, wide, torch.full((5, 1), 4), torch.randn(5, 1, 32))]

    close(both(net, script)[0])


def test_places_that_took_fewer_steps_are_read_by_the_plain_form(calls):
    net, cache = net_of(), Cache(2, PLACES)
    x, reads = torch.randn(2, 1, 32), []
    for place, steps in ((0, 2), (1, 1), (2, 2)):
        at = torch.full((2, 1), place)
        cache.at(at, place + 1)
        context = attention_context(SIZE, Reading(torch.zeros_like(at), at, cache))
        for _ in range(steps):
            cache.phase("step")
            before = len(calls)
            net(x, context=context)
            reads.append((place, len(calls) - before, cache._call))
        cache.done(steps)
    assert reads == [(0, 1, 3), (0, 1, 3), (1, 1, 3), (2, 0, 3), (2, 0, 3)]


def test_new_weights_hooks_and_other_modules_are_seen(calls):
    net, places, x = net_of(), torch.zeros(ROWS, 1, dtype=torch.long), torch.randn(ROWS, 1, 32)

    def values():
        return [read(net, Cache(ROWS, PLACES), places, x)]

    changes = [
        lambda: net.blocks[1].mlp.up.weight.mul_(1.5),
        lambda: setattr(net.blocks[0].mix.qkv.weight, "data", torch.randn(96, 32) * 0.2),
        lambda: setattr(
            net.blocks[2].mlp.down, "weight", nn.Parameter(torch.randn_like(net.blocks[2].mlp.down.weight))
        ),
        lambda: setattr(net.blocks[0], "mix", net_of().blocks[1].mix),
    ]
    outputs = values()
    for change in changes:
        change()
        with fused.plain():
            want = values()
        close((values(), want))
        outputs += want
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(outputs))
    seen = []
    for name in ("blocks.1", "blocks.2.mix", "blocks.0.mlp.up"):
        values()
        handle = net.get_submodule(name).register_forward_hook(lambda *_: seen.append(1))
        before = len(calls)
        seen.clear()
        values()
        assert len(calls) == before and seen, "a hook sees every call"
        handle.remove()
        values()
        assert len(calls) == before + 1


OTHERS = ["gradient", "bfloat16", "a mask of its own", "another memory", "heads of 20", "switched off", "flops counted"]


@pytest.mark.parametrize("why", OTHERS)
def test_calls_that_are_not_supported_take_the_plain_form(calls, why):
    net = net_of(hidden_size=40) if why == "heads of 20" else net_of()
    x, at, cache = (
        torch.randn(ROWS, 1, len(net.blocks[0].mix.out.weight)),
        torch.zeros(ROWS, 1).long(),
        Cache(5, PLACES),
    )
    cache.at(at, 1)
    cache.phase("step")
    context = attention_context(SIZE, Reading(at, at, cache))
    if why == "a mask of its own":
        context = context._replace(mask=torch.ones(1, 1, 1, 1, dtype=torch.bool))
    if why == "another memory":
        context = context._replace(memory=lambda layer, k, v: (k, v))
    if why == "flops counted":
        assert count_flops(lambda: net(x, context=context)) > 0
    elif why == "switched off":
        with fused.plain():
            net(x, context=context)
    else:
        with torch.set_grad_enabled(why == "gradient"):
            z = net(x.bfloat16() if why == "bfloat16" else x, context=context)
        assert z.requires_grad == (why == "gradient")
    assert not calls


@pytest.mark.parametrize("block", sorted({"gated", "graded", "moe", "kan"} & set(BLOCKS)))
def test_other_blocks_keep_their_own_form(calls, block):
    net = net_of(block=block)
    read(net, Cache(ROWS, PLACES), torch.zeros(ROWS, 1).long(), torch.randn(ROWS, 1, 32))
    assert not calls


def test_without_a_compiler_the_plain_form_runs(calls, monkeypatch):
    net = net_of()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    fused_decode.library.cache_clear()
    try:
        read(net, Cache(ROWS, PLACES), torch.zeros(ROWS, 1).long(), torch.randn(ROWS, 1, 32))
        assert not calls
    finally:
        monkeypatch.undo()
        fused_decode.library.cache_clear()


def test_a_place_outside_the_memory_of_a_cache_is_no_place(calls):
    cache, at = Cache(ROWS, 200), torch.full((ROWS, 1), 150)
    net = net_of(positions="none")
    for kernel in (True, False):
        with nullcontext() if kernel else fused.plain(), pytest.raises(IndexError):
            read(net, cache, at, torch.randn(ROWS, 1, 32), width=2)
    assert calls


def test_a_cache_that_grows_keeps_what_it_holds():
    net = net_of(positions="none")

    def script(cache):
        cache = Cache(ROWS, 200)
        read(net, cache, torch.arange(60).expand(ROWS, -1), torch.randn(ROWS, 60, 32))
        return [read(net, cache, torch.full((ROWS, 1), i), torch.randn(ROWS, 1, 32)) for i in range(60, 70)]

    close(both(net, script)[0])


def test_a_call_is_charged_as_a_plain_one():
    net, costs = net_of(), []

    def script(cache):
        with counting() as cost:
            found = written(net)(cache)
        costs.append((cost.nfe, cost.calls, cost.serial_steps))
        return found

    both(net, script)
    assert costs[0] == costs[1] and costs[0][0] == 17 * ROWS


def test_a_context_without_its_mask_makes_it():
    cache, at = Cache(2, PLACES), torch.tensor([[3], [1]])
    cache.at(at, 4)
    context = attention_context(SIZE, Reading(torch.tensor([[1], [0]]), at, cache))
    assert context.mask is None
    assert context.masked().mask[:, 0, 0].tolist() == [[False, True, True, True], [True, True, False, False]]
    assert AttentionContext().masked() == AttentionContext()


@pytest.mark.parametrize("norm", ["magic", "pre"])
def test_texts_are_the_same_when_rows_are_refilled(calls, norm):
    torch.manual_seed(3)
    loop = Looped(Config(replace(SIZE, norm=norm), dtype="float32")).eval()
    jobs = [
        TextJob(tuple(torch.randint(1, 12, (1 + i % 4,)).tolist()), 3 + 2 * i, key=i, temperature=i % 3 * 0.7)
        for i in range(9)
    ]

    def texts():
        rows = Rows(TokenLoop(loop, 2), 4, TextReader(PLACES, -1))
        for job in jobs:
            rows.submit(job)
        return {jobs.index(done.job): done.result for done in rows.run()}

    ours = texts()
    assert calls
    with fused.plain():
        plain = texts()
    for i in range(9):
        assert ours[i].ids == plain[i].ids and ours[i].steps == plain[i].steps
        assert ours[i].logprobs == pytest.approx(plain[i].logprobs, abs=1e-5)


@pytest.mark.parametrize("vocab", [2, 9, 17, 64, 101])
def test_tokens_are_drawn_as_by_the_plain_form(vocab):
    torch.manual_seed(vocab)
    logits, u = 3 * torch.randn(200, vocab), torch.rand(200)
    temperature = torch.arange(200) % 4 * 0.5
    logits[5, 1:] = -torch.inf
    logits[5, vocab // 2 or 1] = 0.0
    ours, top_p = draw(logits, temperature, torch.ones(200), u), torch.ones(200)
    with fused.plain():
        plain = draw(logits, temperature, top_p, u)
    assert (ours[0] == plain[0]).float().mean() > 0.99 and (ours[0] > 0).all()
    same = ours[0] == plain[0]
    assert (ours[1] - plain[1])[same].abs().max() < 1e-5
