"""What a stream keeps and tells of states: paths that mean something, within the room there is."""

import asyncio
import gc
import time
import weakref

import numpy as np
import pytest
import torch

from innerloop.errors import InputError
from innerloop.serve import schema, stream
from innerloop.serve.fallback import Fallback
from innerloop.serve.models import Limits, Registry
from innerloop.serve.stream import Sketch, Stream, components, flatten

EASY = "1.3.34.2.1.34.2."


@pytest.fixture(scope="module")
def served(run, opened):
    registry = Registry(lambda source: opened, Limits())
    yield registry.add(f"four={run}")
    registry.end()


def test_components_are_those_of_an_exact_decomposition():
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(60, 3)) * [9, 4, 0.5] @ rng.normal(size=(3, 200)) + 7).astype(np.float32)
    paths, explained = components([list(table[:25]), list(table[25:])])
    assert [len(p) for p in paths] == [25, 35]
    centred = table - table.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found, wanted = np.array(paths[0] + paths[1]), (u * s)[:, :2]
    assert np.allclose(np.abs(found), np.abs(wanted), rtol=2e-3, atol=0.02 * np.abs(wanted).max())
    assert np.allclose(explained, (s**2 / (s**2).sum())[:2], atol=1e-3)
    assert (found[np.abs(found).argmax(0), [0, 1]] > 0).all()


@pytest.mark.parametrize("rows", [[], [[]], [[np.ones(3, np.float32)]], [[np.ones(3, np.float32)] * 4]], ids=str)
def test_components_of_nearly_nothing(rows):
    paths, explained = components(rows)
    assert [len(p) for p in paths] == [len(r) for r in rows] and explained == [0.0, 0.0]


def test_components_of_states_that_are_no_numbers():
    paths, explained = components([[np.full(4, np.nan, np.float32), np.ones(4, np.float32)]])
    assert paths == [[[0.0, 0.0], [0.0, 0.0]]] and explained == [0.0, 0.0]


def test_components_leave_torch_its_random_numbers():
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    components([list(np.random.default_rng(0).normal(size=(9, 30)).astype(np.float32))])
    assert torch.equal(torch.rand(4), wanted)


def test_a_sketch_keeps_distances_in_less_room():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 50_000)).astype(np.float32) * np.linspace(0.1, 3, 40)[:, None].astype(np.float32)
    sketch = Sketch(50_000, 2_000)
    small = np.stack([sketch(r) for r in rows])
    assert small.shape == (40, 2_000)
    exact = np.linalg.norm(rows[:, None] - rows[None], axis=-1)[np.triu_indices(40, 1)]
    rough = np.linalg.norm(small[:, None] - small[None], axis=-1)[np.triu_indices(40, 1)]
    assert np.abs(rough / exact - 1).max() < 0.12  # several times the standard error, sqrt(1 / 2000)
    assert Sketch(100, 2_000)(rows[0, :100]) is not None and Sketch(100, 2_000).fits


def test_states_of_views_are_turned_back():
    """A slot with a row for each cell, after two of a prefix: row c stands for cell c, whatever view it was seen in."""
    cells = np.array([2, 0, 1])
    seen = torch.arange(10.0).reshape(5, 2)  # rows 2, 3, 4 are cells 0, 1, 2 of the view: puzzle's 2, 0, 1
    flat = flatten((seen, torch.tensor(3), torch.ones(4)), 3, cells)
    assert flat.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 4, 5, 1, 1, 1, 1]


def run_stream(served, **dials):
    async def go():
        told = Stream(served, schema.SolveRequest(puzzle=EASY, **dials))
        served.worker.submit(told.order)
        events = [e async for e in told.events(Fallback())]
        told.close()
        return told, events

    return asyncio.run(go())


def test_a_stream_stays_within_its_room(served, monkeypatch):
    monkeypatch.setattr(stream, "ROOM", 4 * 64 * 40)  # 64 numbers for each of 40 moments
    told, events = run_stream(served, depth=20, width=2, pick="vote")
    assert all(len(v) == 64 for rows in told._rows for v in rows)
    assert len(events) == 42


def test_nothing_is_left_of_a_stream(served):
    """Its states are megabytes: they must go with it, not when Python looks for cycles."""
    gc.collect()
    gc.disable()
    try:
        told, _ = run_stream(served, depth=8, width=3, pick="vote")
        gone = weakref.ref(told)
        del told
        end = time.monotonic() + 20
        while gone() is not None and time.monotonic() < end:  # the thread may still be about to let go
            time.sleep(0.01)
        assert gone() is None
    finally:
        gc.enable()


def test_what_goes_wrong_in_a_stream_is_its_own_error(served, monkeypatch):
    def broken(*_):
        raise ValueError("no path today")

    monkeypatch.setattr(Stream, "_flat", broken)
    _, events = run_stream(served, depth=4)
    assert events[-1] == b'event: error\ndata: {"error": "the server failed: its log says why"}\n\n'
    monkeypatch.undo()
    assert run_stream(served, depth=4)[1][-1].startswith(b"event: done")


def test_a_stream_is_bounded(served):
    async def go():
        return Stream(served, schema.SolveRequest(puzzle=EASY, depth=1000, width=5))

    with pytest.raises(InputError, match="at most 4096 steps in all"):
        asyncio.run(go())
