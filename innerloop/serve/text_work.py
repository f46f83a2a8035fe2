"""Requests to a language model: each runs in a thread, plain or by a way to think, and tells what it writes.

Requests of one model run at once, up to `workers`, so that those of our own model share its batch. What a request costs
is what its ledger counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from innerloop.budget import limited
from innerloop.core import SomeFailed
from innerloop.errors import InputError
from innerloop.ledger import Ledger, counting
from innerloop.lm.endpoint import EndpointError
from innerloop.lm.protocol import Completion, Prompt, need
from innerloop.lm.scripted import cut_at_stop
from innerloop.lm.watch import Cancelled, Path, Piece, Watch, watching
from innerloop.serve.openai_schema import Refusal
from innerloop.tokens.samples import spent_on
from innerloop.tokens.way import UNKNOWN, Item, Said, Way, answer

__all__ = ["Ask", "Event", "Result", "Sampled", "TextLimits", "TextService", "TextWork", "Thinking"]

log = logging.getLogger("innerloop.serve")


@dataclass(frozen=True)
class TextLimits:
    """The limits of a server of a language model."""

    tokens: int = 2000  # most new tokens of a completion; by a way to think, most read and written for a request
    completions: int = 128  # most of a request
    seconds: float = 600.0  # most time of a request
    workers: int = 8  # requests that run at once
    queue: int = 20_000  # requests that wait
    body: int = 4 << 20  # bytes of a request
    connections: int = 512  # open at once


@dataclass(frozen=True)
class Thinking:
    """A way to think. make: the way, at a temperature."""

    name: str
    make: Callable[[float], Way]
    item: Callable[[str], Item]  # a question, with its verifier


@dataclass(frozen=True)
class Ask:
    """What a request asks for."""

    prompts: tuple[Prompt, ...]
    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1
    seed: int | None = None
    logprobs: bool = False
    ignored: int = 0  # messages that a way to think does not read
    thinking: Thinking | None = None  # the way that answers; None: the model writes as it is asked
    kind: str = ""  # of the answer; "": that of the server


@dataclass(frozen=True)
class Result:
    """The end of a request."""

    completions: tuple[Completion, ...]  # prompt after prompt, n of each
    cost: Ledger
    tokens: tuple[tuple[str, ...], ...] = ()  # texts of the tokens of each, where log probabilities were asked for
    thinking: dict[str, Any] = field(default_factory=dict)  # how a way to think came to it
    said: Said | None = None  # what the way said


class Sampled(NamedTuple):
    """A sample of a way to think that has its result."""

    path: Path
    said: Said


Event = Piece | Sampled | Result


class TextWork:
    """A request that was accepted. `next` is awaited in the event loop; the rest may be called from any thread."""

    def __init__(self, ask: Ask, pieces: bool) -> None:
        self.ask = ask
        self.watch = Watch(self.put, lambda path, said: self.put(Sampled(path, said))) if pieces else Watch()
        self.future: Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | InputError] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self.deadline = float("inf")  # on the clock of time.monotonic()

    def put(self, event: Event | InputError) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and with it the request
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> Event:
        """The next piece or sample, or the result at the end. Raises what went wrong."""
        event = await self._events.get()
        if isinstance(event, InputError):
            raise event
        return event

    async def result(self) -> Result:
        """The result; its pieces are dropped."""
        while not isinstance(event := await self.next(), Result):
            pass
        return event

    def end_by(self, deadline: float, reason: Refusal) -> None:
        """Cancel this, for that reason, at `deadline` (time.monotonic()), unless another one is earlier."""
        if deadline < self.deadline:
            self.deadline = deadline
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._expire, reason)

    def _expire(self, reason: Refusal) -> None:
        self._events.put_nowait(reason)
        self.cancel()

    def cancel(self) -> None:
        """End this; what it has written is charged."""
        if self._timer is not None:
            self._timer.cancel()
        self.watch.cancel()
        if self.future is not None:
            self.future.cancel()


class TextService:
    """A language model that is served. Raises InputError if the way to think cannot answer with this model.

    name      that requests give as `model`
    thinking  the way by which the routes of OpenAI's protocol answer; None: the model writes as it is asked
    charged   called as charged(cost) with the ledger of every request that ran
    offered   further ways of which the page gives the choice; those that cannot answer with this model are left out
    """

    def __init__(
        self,
        model: Any,
        name: str,
        limits: TextLimits,
        thinking: Thinking | None = None,
        charged: Callable[[Ledger], None] = lambda cost: None,
        offered: Sequence[Thinking] = (),
    ) -> None:
        self.model, self.name, self.limits, self.thinking, self.charged = model, name, limits, thinking, charged
        self.began = int(time.time())
        self.live = self.in_flight = 0  # requests that run; those that wait too
        self._works: set[TextWork] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="text")
        self._closing = float("inf")
        if thinking is not None:
            try_out(thinking)
        able = [way for way in offered if is_able(way)]
        self.ways = {way.name: way for way in ([thinking] if thinking else []) + able}

    # -- requests -----------------------------------------------------------------------------------------------------
    def check(self, ask: Ask) -> None:
        """Raise Refusal for a request beyond the limits, or one that a way to think cannot answer."""
        most, completions = self.limits, len(ask.prompts) * ask.n
        if ask.max_tokens > most.tokens:
            raise Refusal(
                f"max_tokens is {ask.max_tokens}: this server allows at most {most.tokens}", param="max_tokens"
            )
        if completions > most.completions:
            raise Refusal(
                f"{completions} completions are asked for: this server gives at most {most.completions} a request",
                param="n",
            )
        if ask.logprobs:
            need(self.model, "logprobs", "ids", purpose="logprobs of a request")
        if ask.seed is not None:
            need(self.model, "seed", purpose="a seed of a request")
        if ask.thinking is None:
            return
        for param, wrong in (("n", completions > 1), ("top_p", ask.top_p < 1), ("logprobs", ask.logprobs)):
            if wrong:
                raise Refusal(
                    f"this server answers by {ask.thinking.name}, one answer a request, with samples of its own: "
                    f"leave out {param}",
                    param=param,
                )

    def start(self, ask: Ask, pieces: bool = False) -> TextWork:
        """Accept a request, of which pieces and samples may be wanted. Raises Refusal, 429 where too many wait."""
        self.check(ask)
        with self._lock:
            if self.in_flight >= self.limits.workers + self.limits.queue:
                raise Refusal(f"{self.limits.queue} requests wait already: try again later", 429, wait=1)
            self.in_flight += 1
        work = TextWork(ask, pieces)
        self._works.add(work)
        late = Refusal(f"the request took longer than {self.limits.seconds:g} s: ask for less", 504)
        work.end_by(time.monotonic() + self.limits.seconds, late)
        work.end_by(self._closing, shutting_down())
        work.future = self._pool.submit(Context().run, self._run, work)
        work.future.add_done_callback(lambda _: self._ended())
        return work

    def finish(self, work: TextWork) -> None:
        """Called in the event loop once a request is answered, or its client has gone."""
        work.cancel()
        self._works.discard(work)

    def _ended(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def _run(self, work: TextWork) -> None:
        with self._lock:
            self.live += 1
        try:
            with watching(work.watch), counting() as cost:
                try:
                    work.put(self._think(work.ask, cost) if work.ask.thinking else self._write(work, cost))
                finally:
                    self.charged(cost)
        except BaseException as error:
            work.put(told(error))
        finally:
            with self._lock:
                self.live -= 1

    def _write(self, work: TextWork, cost: Ledger) -> Result:
        """The model's own completions."""
        ask = work.ask
        replies = self.model.generate(
            list(ask.prompts), max_new_tokens=ask.max_tokens, stop=ask.stop, temperature=ask.temperature,
            top_p=ask.top_p, n=ask.n, seed=self._seed(ask), logprobs=ask.logprobs,
        )  # fmt: skip
        if work.watch.cancelled:
            raise Cancelled("the request was cancelled")
        made = tuple(c for reply in replies for c in reply.completions)
        ids = [c.ids or () for c in made] if ask.logprobs else []
        return Result(made, cost, tuple(tuple(self.model.decode([i]) for i in row) for row in ids))

    def _think(self, ask: Ask, cost: Ledger) -> Result:
        """The answer of the way to think, under a budget."""
        assert ask.thinking is not None
        way, item = ask.thinking.make(ask.temperature), ask.thinking.item(str(ask.prompts[0]))
        item = replace(item, kind=ask.kind or item.kind)
        seed = self._seed(ask)
        with limited(tokens=ask.max_tokens):
            said = answer(way, item, secrets.randbits(62) if seed is None else seed)
        text = said.text if said.answer is not None else f"I don't know: {UNKNOWN[said.outcome]}"
        shown = cut_at_stop(text, ask.stop)
        finish = "length" if said.outcome == "cut" else "stop"
        completion = Completion(shown, finish, int(cost.tokens_out))
        return Result((completion,), cost, thinking=self._told(ask.thinking, said, cost, ask), said=said)

    def _told(self, thinking: Thinking, said: Said, cost: Ledger, ask: Ask) -> dict[str, Any]:
        """What a response says of the way to think."""
        counts = Counter(sample.answer for sample in said.samples)
        return {
            "way": thinking.name, "outcome": said.outcome, "answer": said.answer, "confidence": said.confidence,
            "tally": [{"answer": a, "count": count} for a, count in counts.most_common()],
            "spent": {unit: amount for unit, amount in spent_on(cost).items() if unit != "seconds"},
            "ignored_messages": ask.ignored,
        }  # fmt: skip

    def _seed(self, ask: Ask) -> int | None:
        """The seed of a request; a new one where it gives none and the model takes one."""
        if ask.seed is None and "seed" in self.model.capabilities:
            return secrets.randbits(62)
        return ask.seed

    # -- the end ------------------------------------------------------------------------------------------------------
    def limit_deadlines(self, deadline: float) -> None:
        """Everything is answered by `deadline` (time.monotonic()); what is not done by then is refused."""
        self._closing = min(self._closing, deadline)
        for work in list(self._works):
            work.end_by(deadline, shutting_down())

    def close(self) -> None:
        """Cancel what still runs, and join the threads: torch must not outlive Python."""
        for work in list(self._works):
            work.watch.cancel()
        self._pool.shutdown(cancel_futures=True)
        if hasattr(self.model, "close"):
            self.model.close()


def told(error: BaseException) -> InputError:
    """What a client is told of an error; what it cannot mend stands in the log alone."""
    if isinstance(error, SomeFailed):
        return told(next(iter(error.errors.values())))
    if isinstance(error, EndpointError):
        return Refusal(str(error), 502)
    if isinstance(error, InputError):
        return error
    log.error("a request failed", exc_info=error)
    return Refusal("the server failed: its log says why", 500)


def shutting_down() -> Refusal:
    return Refusal("the server is shutting down: use another one", 503, wait=1)


def try_out(thinking: Thinking) -> None:
    """Raise InputError if a way cannot answer a question. It gets no token to spend, so it asks no model."""
    way: Any = thinking.make(0.0)
    item = thinking.item("1 + 1 =")
    while way is not None:
        with limited(tokens=1):
            answer(way, item)
        way = getattr(way, "inner", None)


def is_able(thinking: Thinking) -> bool:
    """Whether a way can answer questions with its model."""
    try:
        try_out(thinking)
    except InputError:
        return False
    return True
