"""A server of a language model in a thread of this process, and a model that writes word by word."""

import contextlib
import json
import threading
import time
from functools import partial

import httpx

from innerloop.lm.scripted import Scripted
from innerloop.lm.watch import Piece, watched
from innerloop.serve.access import AccessState
from innerloop.serve.metrics import Metrics
from innerloop.serve.openai import create_text_app
from innerloop.serve.server import Server, bind
from innerloop.serve.text_page import offers
from innerloop.serve.text_work import TextLimits, TextService, Thinking
from innerloop.tokens.way import Item
from innerloop.tokens.ways import way_of


class Slow(Scripted):
    """Texts by `write(prompt, seed)`, in pieces of a word each.

    may    cleared, every completion waits after `free` words until it is set or cancelled
    """

    def __init__(self, write, free=0):
        super().__init__(write)
        self.free, self.may, self.written = free, threading.Event(), 0
        self.may.set()

    def complete(self, prompts, sampling, prefix):
        replies, watch = super().complete(prompts, sampling, prefix), watched()
        if watch is None or watch.piece is None:
            return replies
        for i, text in enumerate(c.text for r in replies for c in r.completions):
            for k, word in enumerate(text.split(" ")):
                while k >= self.free and not watch.cancelled and not self.may.wait(0.02):
                    pass
                if watch.cancelled:
                    return replies
                self.written += 1
                watch.piece(Piece(i, (word, " "), (0.0, 0.0)))
        return replies


def products(prompt, seed):
    """Right three times of four, and once without an answer."""
    start = " I multiply six by seven, as the question says, step by step."
    return start + (" I like cheese." if seed % 8 == 7 else f" The answer is {42 if seed % 4 else 41}.")


class Served:
    """A server in a thread of this process."""

    def __init__(self, url, service, access, server):
        self.service, self.access, self.server = service, access, server
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self.url, self.name = url, service.name

    def chat(self, question="2 + 2 =", status=200, **body):
        messages = body.pop("messages", [{"role": "user", "content": question}])
        return self.post("/v1/chat/completions", {"model": self.name, "messages": messages, **body}, status)

    def complete(self, prompt="2 + 2 =", status=200, **body):
        return self.post("/v1/completions", {"model": self.name, "prompt": prompt, **body}, status)

    def post(self, path, body, status=200):
        reply = self.http.post(path, json=body)
        assert reply.status_code == status, reply.text
        return reply.json()

    def refused(self, path, body, status):
        """The error of a request, whose form is checked."""
        said = self.post(path, body, status)
        assert set(said) == {"error"} and set(said["error"]) == {"message", "type", "param", "code"}, said
        assert said["error"]["message"] and said["error"]["type"]
        return said["error"]

    def stream(self, path, body):
        """The chunks of a stream, all but the last [DONE]."""
        with self.http.stream("POST", path, json={"model": self.name, "stream": True, **body}) as reply:
            assert reply.status_code == 200, reply.read()
            assert reply.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in reply.iter_lines() if line]
        assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@contextlib.contextmanager
def serving(model, think="", name="tiny", check=None, kind="number", **limits):
    """A server over a model, which ends as after a signal."""
    metrics, access = Metrics(), AccessState()
    item = lambda q: Item("question", q, kind=kind, check=check)  # noqa: E731
    thinking = Thinking(think, partial(way_of, think, model, ()), item) if think else None
    service = TextService(
        model, name, TextLimits(**limits), thinking, partial(metrics.count_tokens, name), offers(model, item)
    )
    ready = threading.Event()
    try:
        server = Server(create_text_app(service, access, metrics), service, access, 20.0, ready.set)
        sock = bind("127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        assert ready.wait(30)
        made = Served(f"http://127.0.0.1:{sock.getsockname()[1]}", service, access, server)
        try:
            yield made
        finally:
            made.http.close()
            server.should_exit = True
            thread.join(30)
            sock.close()
            assert not thread.is_alive()
    finally:
        service.close()


def until(what):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
