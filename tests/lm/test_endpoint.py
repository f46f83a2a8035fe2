"""Endpoints: busy, broken and lying servers, keys, concurrency, and costs that equal the server's own counts."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from innerloop.errors import InputError
from innerloop.ledger import counting
from innerloop.lm.endpoint import Endpoint, EndpointError
from innerloop.lm.fake_server import FakeServer, Faults
from innerloop.lm.protocol import MissingCapability
from innerloop.lm.scripted import Scripted

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import ledger


def write(prompt, seed):
    return "x" * ((7 * len(prompt) + 13 * seed) % 40)


def endpoint(server, **how):
    return Endpoint(server.url, "any", **({"key": "", "api": "completions", "retries": 12, "backoff": 0.001} | how))


def test_a_busy_or_broken_server_is_asked_again_and_costs_nothing_more():
    with FakeServer(Scripted(write), faults=Faults(busy=0.3, broken=0.3, seed=1)) as server, counting() as cost:
        replies = endpoint(server).generate([f"p{i}" for i in range(12)], max_new_tokens=30)
        assert len(replies) == 12 and server.requests > 12
        assert (cost.tokens_in, cost.tokens_out) == (server.served.tokens_in, server.served.tokens_out)


@pytest.mark.parametrize("fault", ["truncated", "malformed", "wrong_usage"])
def test_a_reply_that_is_lost_is_charged_at_its_most(fault):
    with FakeServer(Scripted(write), faults=Faults(**{fault: 0.5}, seed=2)) as server, counting() as cost:
        model = endpoint(server)
        for i in range(8):
            model.generate([f"p{i}"], max_new_tokens=30)
        assert server.requests > 8 and cost.completions == server.served.completions == server.requests
        assert server.served.tokens_out < cost.tokens_out <= 30 * server.requests


def test_a_time_out_is_charged_and_asked_again():
    with FakeServer(Scripted(write), faults=Faults(slow=0.4, delay=0.6, seed=5)) as server, counting() as cost:
        endpoint(server, timeout=0.2).generate(["p"] * 8, max_new_tokens=30)
        assert cost.completions == server.requests > 8


def test_what_cannot_be_mended_is_said_at_once(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with FakeServer(Scripted(write), key="right") as server:
        with pytest.raises(EndpointError, match=r"HTTP 401, the key is not valid: check the key"):
            endpoint(server).generate(["p"], max_new_tokens=3)
        assert server.requests == 1
        monkeypatch.setenv("A_KEY", "right")
        assert endpoint(server, key="A_KEY").generate(["p"], max_new_tokens=3)
        gone = server.url
    with pytest.raises(EndpointError, match="cannot be reached"):
        Endpoint(gone, "any", key="", retries=1).generate([[{"role": "user", "content": "p"}]], max_new_tokens=3)
    with pytest.raises(InputError, match="set the environment variable NO_SUCH_KEY"):
        Endpoint("https://example.com/v1", "any", key="NO_SUCH_KEY")
    with pytest.raises(InputError, match='no API is called "chats"'):
        Endpoint(gone, "any", api="chats")


def test_a_key_is_in_no_record(monkeypatch):
    monkeypatch.setenv("A_KEY", "very-secret")
    with FakeServer(Scripted(write), key="other") as server:
        model = endpoint(server, key="A_KEY", retries=0)
        with pytest.raises(EndpointError) as caught:
            model.generate(["p"], max_new_tokens=3)
    assert "very-secret" not in f"{caught.value} {vars(model)} {model.name}"


def test_eight_prompts_are_asked_at_once_and_no_more_than_workers():
    with FakeServer(Scripted(write), latency=0.15) as server:
        model = endpoint(server, workers=4)
        began = time.perf_counter()
        model.generate(["p"] * 8, max_new_tokens=3)
        assert server.most_at_once <= 4 and time.perf_counter() - began < 8 * 0.15


def test_a_client_of_ones_own_is_used():
    seen = []
    hooks = {"request": [lambda request: seen.append(request.url.path)]}
    with FakeServer(Scripted(write)) as server, httpx.Client(event_hooks=hooks) as client:
        endpoint(server, client=client).generate(["p"], max_new_tokens=3)
    assert seen == ["/v1/completions"]


def test_what_a_server_can_and_wants_besides_is_said():
    with FakeServer(Scripted(lambda prompt, seed: prompt[-12:])) as server:
        with_it = endpoint(server, api="chat", capabilities=("prefill", "-n"), extra={"max_tokens": 5})
        question = [{"role": "user", "content": "2 + 2?"}]
        (reply,) = with_it.generate([question], max_new_tokens=30, prefix="so it is")
        assert reply.completions[0].finish == "length" and reply.tokens_out == 5, "extra fields are sent"
        with pytest.raises(MissingCapability, match="several completions"):
            with_it.generate([question], max_new_tokens=3, n=2, temperature=1.0)


class Client:
    """What an `openai.OpenAI` offers, over httpx."""

    def __init__(self, url):
        self.url, self.chat, self.options = url, SimpleNamespace(completions=self), {}

    def with_options(self, **options):
        self.options = options
        return self

    def create(self, extra_body=None, **body):
        answer = httpx.post(f"{self.url}/chat/completions", json=body | (extra_body or {}))
        if answer.status_code != 200:
            raise type("RateLimitError", (Exception,), {"status_code": answer.status_code})("busy")
        return SimpleNamespace(model_dump=answer.json)


def test_a_client_object_of_another_package_is_used_and_its_errors_are_retried():
    question = [{"role": "user", "content": "2 + 2?"}]
    with FakeServer(Scripted(write), faults=Faults(busy=0.5, seed=4)) as server, counting() as cost:
        client = Client(server.url)
        model = endpoint(server, api="chat", client=client)
        replies = [model.generate([question], max_new_tokens=9)[0] for _ in range(4)]
        assert client.options == {"max_retries": 0} and server.requests > 4 and len(set(replies)) == 1
        assert cost.tokens_out == server.served.tokens_out


@pytest.mark.parametrize("losses", [0.0, 0.05])
def test_the_ledger_of_random_programs_is_the_servers_own_count(losses):
    """benchmarks/ledger.py runs a thousand; the cap ends these."""
    row = ledger.measure(40, losses, 4000)
    assert row["requests"] > 100 and row["never_below"] and row["equal"] is (losses == 0)
    assert row["overshoot"] == row["still_reserved"] == 0 and row["ledger"]["tokens_out"] > 1000


def test_the_limit_of_tokens_has_the_name_that_the_server_knows():
    question = [{"role": "user", "content": "2 + 2?"}]
    with FakeServer(Scripted(write), refuses=["max_tokens"]) as server:
        with pytest.raises(EndpointError, match="Unsupported parameter: 'max_tokens'"):
            endpoint(server, api="chat").generate([question], max_new_tokens=3)
        (reply,) = endpoint(server, api="chat", limit="max_completion_tokens").generate([question], max_new_tokens=3)
        assert reply.completions[0].finish == "length" and reply.tokens_out == 3
        sent = {}

        def answer(request):
            sent.update(json.loads(request.content))
            return httpx.Response(400, json={"error": {"message": "enough"}})

        for api, name in (("chat", "max_completion_tokens"), ("completions", "max_tokens")):
            with httpx.Client(transport=httpx.MockTransport(answer)) as client:
                model = Endpoint("https://api.openai.com/v1", "gpt", api=api, client=client, retries=0)
                with pytest.raises(EndpointError, match="enough"):
                    model.generate([question if api == "chat" else "2 + 2?"], max_new_tokens=7)
            assert sent.pop(name) == 7 and not {"max_tokens", "max_completion_tokens"} & sent.keys()
            sent.clear()
