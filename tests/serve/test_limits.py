"""Bounds in time that a test over HTTP would wait too long for."""

import asyncio
import time

import pytest
from starlette.exceptions import HTTPException

from innerloop.serve import access
from innerloop.serve.access import RequestChannel
from innerloop.serve.fallback import Fallback
from innerloop.solve.solver import Solver


def test_a_request_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(access, "ARRIVAL_TIMEOUT", 0.2)
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive():
        if parts:
            return parts.pop()
        await asyncio.sleep(3600)

    async def go(most):
        call = RequestChannel(receive, None, most, {})
        assert (await call.receive())["body"] == b"{"
        await call.receive()

    with pytest.raises(HTTPException, match=r"408.*0\.2 s"):
        asyncio.run(go(10))


def test_a_request_that_has_come_is_listened_to_for_as_long_as_it_takes(monkeypatch):
    monkeypatch.setattr(access, "ARRIVAL_TIMEOUT", 0.1)
    told = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive():
        if len(told) == 1:
            await asyncio.sleep(0.5)
        return told.pop()

    async def go():
        call = RequestChannel(receive, None, 10, {})
        await call.receive()
        assert (await call.receive())["type"] == "http.disconnect" and call.disconnected

    asyncio.run(go())


def test_the_exact_solver_begins_nothing_when_time_is_over(opened):
    solver = Solver(opened.loop, opened.task)
    clash = "11" + "." * 14
    found = solver.solve([clash], 1)[0]
    question = solver.questions([clash])[0][0]

    async def ask(fallback):
        return await fallback.solve_unknown(opened.task, question, found, time.monotonic() + 60)

    fallback = Fallback()
    assert "proved that there is no answer" in asyncio.run(ask(fallback)).why
    fallback.limit_deadlines(time.monotonic())
    assert "no time was left" in asyncio.run(ask(fallback)).why
