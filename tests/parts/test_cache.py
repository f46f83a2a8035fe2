"""Caches of nets that run many times: which slot holds what, and that reading on equals reading at once."""

from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.parts.attention import attention_context
from innerloop.parts.cache import Cache, policy
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import Net

SIZE = NetConfig(
    vocab=6,
    seq=12,
    rows=1,
    hidden_size=16,
    heads=2,
    layers=2,
    multiple_of=16,
    prefix=0,
    puzzle_emb_size=0,
    mask="causal",
)
LAYERS, CALLS = 4, 12


def table(name, layers=LAYERS, calls=CALLS):
    slot = policy(name)
    return [slot(n, layers) for n in range(layers * calls)]


def test_slot_tables_are_the_published_ones():
    """Huginn counts two layers of prelude first, so that its step i is our n = i - 2."""
    steps = range(2, 2 + LAYERS * CALLS)
    assert table("full") == table("latest") == [i - 2 for i in steps]
    assert table("compress-s16") == [(i - 2) % 16 + 2 - 2 for i in steps]
    anchored = [i if i - 2 < 4 * 8 else 34 + (i - 34) % 4 for i in steps]
    assert table("anchor") == [i - 2 for i in anchored]
    assert [len(set(table(p))) for p in ("full", "compress-s16", "compress-s4", "anchor")] == [48, 16, 4, 36]


def test_a_slot_never_mixes_layers():
    for name in ("full", "compress-s8", "anchor"):
        for n, slot in enumerate(table(name)):
            assert slot % LAYERS == n % LAYERS
    with pytest.raises(InputError, match="would mix layers"):
        table("compress-s6")


def test_slots_of_a_schedule_are_those_of_transformers():
    """HRM-Text there: (h (T + 1) + l) layers + layer; here the call's number in LLLH LLLH, times the layers."""
    slot, layers, low = policy("full"), 3, 3
    for h in range(2):
        for l in range(low + 1):
            for layer in range(layers):
                call = h * (low + 1) + l
                assert slot(call * layers + layer, layers) == (h * (low + 1) + l) * layers + layer


@pytest.mark.parametrize("chunks", [(12,), (5, 7), (4,) + (1,) * 8])
@pytest.mark.parametrize("name", ["full", "latest"])
def test_reading_on_equals_reading_at_once(chunks, name):
    torch.manual_seed(0)
    net, x = Net(SIZE), torch.randn(3, 12, 16)
    whole = attention_context(SIZE, torch.zeros(3))
    with torch.no_grad():
        want = x
        for _ in range(3):
            want = net(want, x, context=whole)
        cache, got = Cache(12, name), []
        for places in chunks:
            new = z = x[:, cache.seen : cache.seen + places]
            for call in range(3):
                z = net(z, new, context=cache.context(whole, places, "net", 2, call))
            cache.seen += places
            got.append(z)
    assert (torch.cat(got, 1) - want).abs().max() < 1e-5
    assert sorted(cache.kept) == [("net", n) for n in range(6)]


@pytest.mark.parametrize(("name", "slots"), [("compress-s2", 2), ("compress-s4", 4), ("anchor", 18), ("full", 24)])
def test_shared_slots_hold_what_the_last_call_wrote(name, slots):
    """Twelve calls of two layers: as many slots as the table says, the written ones being those of the last calls."""
    cache, whole = Cache(6, name), attention_context(replace(SIZE, seq=6), torch.zeros(1))
    seen = []
    for place in range(3):
        for call in range(12):
            look = cache.context(whole, 1, "core", 2, call)
            for layer in range(2):
                mark = torch.full((1, 1, 1, 1), 1000.0 * place + 10 * call + layer)
                k, v = look.memory(layer, mark, -mark)
                assert torch.equal(k, -v) and k.shape[2] == place + 1
                seen.append((place, call, layer, k.flatten().tolist()))
        cache.seen += 1
    assert len(cache.kept) == slots
    slot = policy(name)
    for place, call, layer, k in seen:
        mine = slot(2 * call + layer, 2)
        last = max(c for c in range(12) if slot(2 * c + layer, 2) == mine)
        assert k == [1000.0 * p + 10 * last + layer for p in range(place)] + [1000.0 * place + 10 * call + layer]


def test_latest_shows_the_deepest_call_that_a_place_has():
    """Places thought about 3, 1 and 2 calls deep, then one of 4: each shows its deepest call up to the asking one."""
    cache, whole = Cache(4, "latest"), attention_context(replace(SIZE, seq=4), torch.zeros(1))
    depths = (3, 1, 2, 4)
    for place, depth in enumerate(depths):
        for call in range(depth):
            look = cache.context(whole, 1, "core", 2, call)
            for layer in range(2):
                mark = torch.full((1, 1, 1, 1), 100.0 * place + 10 * call + layer)
                k, _ = look.memory(layer, mark, mark)
                shown = [min(call, d - 1) for d in depths[: place + 1]]
                assert k.flatten().tolist() == [100.0 * p + 10 * c + layer for p, c in enumerate(shown)]
        cache.seen += 1


def test_what_a_cache_cannot_do_is_said():
    whole, mark = attention_context(replace(SIZE, seq=4), torch.zeros(1)), torch.zeros(1, 1, 1, 1)
    cache = Cache(2)
    cache.context(whole, 1, "core", 1, 0).memory(0, mark, mark)
    cache.seen = 1
    with pytest.raises(InputError, match="less deeply"):
        cache.context(whole, 1, "core", 1, 1).memory(0, mark, mark)
    with pytest.raises(InputError, match="no room"):
        cache.context(whole, 2, "core", 1)
    with pytest.raises(InputError, match="reads in order"):
        cache.context(None, 1, "core", 1)
    for name in ("half", "compress-s0", "compress-4"):
        with pytest.raises(InputError, match="no cache policy"):
            Cache(2, name)
