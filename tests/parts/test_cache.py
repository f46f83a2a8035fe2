"""Caches of loops that run many times: which slot holds what, and that reading on equals reading at once."""

from dataclasses import replace

import pytest
import torch

from innerloop import tree
from innerloop.core import Question
from innerloop.errors import InputError
from innerloop.parts.attention import context_of, reading_of
from innerloop.parts.cache import Cache, policy
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import Net

SIZE = NetConfig(
    vocab=6, seq=12, rows=1, hidden_size=16, heads=2, layers=2, multiple_of=16, prefix=0, puzzle_emb_size=0,
    mask="causal",
)  # fmt: skip
CALLS, STEPS = 4, 12


def table(name, calls=CALLS, steps=STEPS):
    slot = policy(name)
    return [slot(n, calls) for n in range(calls * steps)]


def asked(rows, size=SIZE, **more):
    tokens = torch.ones(rows, size.seq, dtype=torch.long)
    return Question(tokens, tokens[:, 0], **more)


def test_slot_tables_are_the_published_ones():
    """Huginn counts two layers of prelude first, so that its step i is our n = i - 2."""
    steps = range(2, 2 + CALLS * STEPS)
    assert table("full") == [i - 2 for i in steps]
    assert table("compress-s16") == [(i - 2) % 16 + 2 - 2 for i in steps]
    anchored = [i if i - 2 < 4 * 8 else 34 + (i - 34) % 4 for i in steps]
    assert table("anchor") == [i - 2 for i in anchored]
    assert [len(set(table(p))) for p in ("full", "compress-s16", "compress-s4", "anchor")] == [48, 16, 4, 36]


def test_a_slot_never_mixes_calls_of_a_step():
    for name in ("full", "compress-s8", "anchor"):
        for n, slot in enumerate(table(name)):
            assert slot % CALLS == n % CALLS
    with pytest.raises(InputError, match="would mix layers"):
        table("compress-s6")


@pytest.mark.parametrize("chunks", [(12,), (5, 7), (4,) + (1,) * 8])
def test_reading_on_equals_reading_at_once(chunks):
    torch.manual_seed(0)
    net, x = Net(SIZE), torch.randn(3, 12, 16)
    with torch.no_grad():
        want = x
        for _ in range(3):
            want = net(want, x, context=context_of(SIZE, asked(3)))
        cache, got, seen = Cache(3, 12), [], 0
        for places in chunks:
            cache.at(torch.arange(seen, seen + places).expand(3, -1), seen + places)
            look = context_of(SIZE, asked(3, cache=cache))
            new = z = x[:, seen : seen + places]
            for _ in range(3):
                cache.phase("step")
                z = net(z, new, context=look)
            cache.done(3)
            seen += places
            got.append(z)
    assert (torch.cat(got, 1) - want).abs().max() < 1e-5
    assert sorted(cache.kept) == [("step", n) for n in range(6)]


def test_rows_at_different_places_read_as_if_alone():
    torch.manual_seed(0)
    net, x, lengths = Net(SIZE), torch.randn(3, 12, 16), torch.tensor([4, 7, 2])
    with torch.no_grad():
        want = net(x, context=context_of(SIZE, asked(3)))
        cache = Cache(3, 12)
        cache.at(torch.arange(7).expand(3, -1), 7)  # the longest; what lies behind a row's own places is written anew
        cache.phase("step")
        net(x[:, :7], context=context_of(SIZE, asked(3, cache=cache)))
        cache.done(1)
        for i in range(5):
            at = (lengths + i)[:, None]
            cache.at(at, int(at.max()) + 1)
            cache.phase("step")
            got = net(x.gather(1, at[..., None].expand(-1, -1, 16)), context=context_of(SIZE, asked(3, cache=cache)))
            cache.done(1)
            assert (got - want.gather(1, at[..., None].expand(-1, -1, 16))).abs().max() < 1e-5


def marks(cache, place, depth, calls=2):
    """Reads one place with `depth` steps whose keys are numbers; what each call is shown, as lists."""
    cache.at(torch.tensor([[place]]), place + 1)
    shown = []
    for step in range(depth):
        cache.phase("step")
        for call in range(calls):
            k, v = cache.swap(
                call, *(torch.full((1, 1, 1, 1), s * (100.0 * place + 10 * step + call)) for s in (1, -1))
            )
            assert torch.equal(k, -v) and k.shape[2] == place + 1
            shown.append(k.flatten().tolist())
    cache.done(depth)
    return shown


@pytest.mark.parametrize(("name", "slots"), [("compress-s2", 2), ("compress-s4", 4), ("anchor", 18), ("full", 24)])
def test_shared_slots_hold_what_the_last_call_wrote(name, slots):
    """Twelve steps of two calls: as many slots as the table says, the written ones being those of the last steps."""
    cache = Cache(1, 6, name)
    shown = [marks(cache, place, 12) for place in range(3)]
    assert len(cache.kept) == slots
    slot = policy(name)
    for place in range(1, 3):
        for n, k in enumerate(shown[place]):
            last = max(m for m in range(24) if slot(m, 2) == slot(n, 2))
            earlier = [100.0 * p + 10 * (last // 2) + last % 2 for p in range(place)]
            assert k == [*earlier, 100.0 * place + 10 * (n // 2) + n % 2]


@pytest.mark.parametrize("name", ["full", "anchor", "compress-s8"])
def test_a_place_of_few_steps_gives_its_last(name):
    """Places thought about 3, 1 and 2 steps deep, then one of 4: each shows its deepest step up to the asking one."""
    cache, depths = Cache(1, 4, name), (3, 1, 2, 4)
    for place, depth in enumerate(depths):
        for n, k in enumerate(marks(cache, place, depth)):
            step, call = divmod(n, 2)
            shown = [min(step, d - 1) for d in depths[:place]] + [step]
            assert k == [100.0 * p + 10 * s + call for p, s in enumerate(shown)]


def test_rows_move_and_are_replaced():
    def filled(*numbers):
        cache = Cache(len(numbers), 3)
        cache.at(torch.zeros(len(numbers), 1, dtype=torch.long), 1)
        cache.phase("step")
        cache.swap(0, torch.tensor(numbers, dtype=torch.float32)[:, None, None, None])
        cache.done(1)
        return cache

    def held(cache):
        return cache.kept["step", 0][0][:, 0, 0, 0].tolist()

    cache = filled(1, 2, 3)
    assert held(tree.take((cache,), torch.tensor([2, 0]))[0]) == [3, 1]
    assert held(tree.concat((cache,), (filled(7),))[0]) == [1, 2, 3, 7]
    (same,) = tree.put((cache,), torch.tensor([0, 2]), (filled(8, 9),))
    assert same is cache and held(cache) == [8, 2, 9]
    assert same.even == 1 and tree.take((None, 3), torch.tensor([0])) == (None, 3)


def test_what_a_cache_cannot_do_is_said():
    with pytest.raises(InputError, match="no room"):
        Cache(1, 2).at(torch.tensor([[2]]), 3)
    for size in (replace(SIZE, mask="none"), replace(SIZE, prefix=1)):
        with pytest.raises(InputError, match="reads in order"):
            reading_of(size, asked(1, cache=Cache(1, 12)))
    for name in ("half", "compress-s0", "compress-4", "latest"):
        with pytest.raises(InputError, match="no cache policy"):
            Cache(1, 2, name)
