"""What a stream keeps, and for how long."""

import asyncio
import gc
import time
import weakref

import pytest

from innerloop.errors import InputError
from innerloop.serve import schema
from innerloop.serve.fallback import Fallback
from innerloop.serve.models import Limits, Registry
from innerloop.serve.stream import ReplayStream
from innerloop.show.replay import Replay

EASY = "1.3.34.2.1.34.2."


@pytest.fixture(scope="module")
def served(run, opened):
    registry = Registry(lambda source: opened, Limits())
    yield registry.add(f"four={run}")
    registry.close()


def run_stream(served, **dials):
    async def go():
        stream = ReplayStream(served, schema.SolveRequest(puzzle=EASY, **dials))
        served.worker.submit(stream.work)
        events = [e async for e in stream.events(Fallback())]
        stream.close()
        return stream, events

    return asyncio.run(go())


def test_nothing_is_left_of_a_stream(served):
    """Its states are megabytes: they must go with it, not when Python looks for cycles."""
    gc.collect()
    gc.disable()
    try:
        stream, _ = run_stream(served, depth=8, width=3, pick="vote")
        gone = weakref.ref(stream)
        del stream
        end = time.monotonic() + 20
        while gone() is not None and time.monotonic() < end:  # the thread may still be about to let go
            time.sleep(0.01)
        assert gone() is None
    finally:
        gc.enable()


def test_what_goes_wrong_in_a_stream_is_its_own_error(served, monkeypatch):
    def broken(*_):
        raise ValueError("no path today")

    monkeypatch.setattr(Replay, "record", broken)
    _, events = run_stream(served, depth=4)
    assert events[-1] == b'event: error\ndata: {"error": "the server failed: its log says why"}\n\n'
    monkeypatch.undo()
    assert run_stream(served, depth=4)[1][-1].startswith(b"event: done")


def test_a_stream_is_bounded(served):
    async def go():
        return ReplayStream(served, schema.SolveRequest(puzzle=EASY, depth=1000, width=5))

    with pytest.raises(InputError, match="at most 4096 steps in all"):
        asyncio.run(go())
