"""Endpoints: busy, broken and lying servers, keys, concurrency, and costs that equal the server's own counts."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from innerloop.errors import InputError
from innerloop.ledger import counting, in_this_context
from innerloop.lm.endpoint import Endpoint, EndpointError
from innerloop.lm.fake_server import FakeServer, Faults
from innerloop.lm.protocol import MissingCapability
from innerloop.lm.scripted import Scripted
from innerloop.lm.watch import Cancelled, Watch, watching

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


# -- streams ----------------------------------------------------------------------------------------------------------


def words(prompt, seed):
    return f" {prompt if isinstance(prompt, str) else 'chat'} has {seed % 5} of five words"


def seen(model, prompts, **how):
    """(the replies, the text of the pieces of each completion, how many there were)."""
    pieces = []
    with watching(Watch(pieces.append)):
        replies = model.generate(prompts, **how)
    made = sum(len(r.completions) for r in replies)
    return replies, ["".join(p.text for p in pieces if p.completion == i) for i in range(made)], len(pieces)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_call_that_is_watched_is_a_stream_and_says_and_costs_the_same(api):
    prompts = ["one", "two"] if api == "completions" else [[{"role": "user", "content": "one"}]] * 2
    how = {"max_new_tokens": 24, "n": 2, "temperature": 1.0, "seed": 3}
    with FakeServer(Scripted(words)) as server:
        model = endpoint(server, api=api)
        with counting() as plain:
            whole = model.generate(prompts, **how)
        assert server.streams == 0
        with counting() as streamed:
            replies, texts, count = seen(model, prompts, **how)
        assert server.streams == 2 and replies == whole and count > 8
        assert texts == [c.text for r in whole for c in r.completions]
        assert {c.finish for r in whole for c in r.completions} == {"length"}
        for unit in ("tokens_in", "tokens_out", "tokens_cached", "completions"):
            assert getattr(plain, unit) == getattr(streamed, unit), unit
        assert server.served.tokens_out == plain.tokens_out + streamed.tokens_out
        seen(model, prompts, **how | {"logprobs": True})
        assert server.streams == 2, "log probabilities come with whole replies"


@pytest.mark.parametrize(
    "without", [{"refuses": ("stream_options",)}, {"refuses": ("stream",)}, {"ignores": ("stream",)}]
)
def test_a_server_without_streams_gives_whole_replies(without):
    with FakeServer(Scripted(words), **without) as server, counting() as cost:
        model = endpoint(server, retries=0)
        for _ in range(2):
            (reply,), (text,), _ = seen(model, ["one"], max_new_tokens=40)
            assert reply.completions[0].text == words("one", 0) and text == ""
        assert server.streams == 0 and cost.tokens_out == server.served.tokens_out
        assert server.requests == (2 if "ignores" in without else 3), "it is asked for a stream once"


def test_a_stream_that_did_not_begin_is_asked_for_again_and_one_that_did_is_not():
    with FakeServer(Scripted(words), faults=Faults(busy=0.4, broken=0.3, seed=1)) as server, counting() as cost:
        for i in range(6):
            (reply,), (text,), _ = seen(endpoint(server), [f"p{i}"], max_new_tokens=40)
            assert text == reply.completions[0].text == words(f"p{i}", 0)
        assert server.requests > 6 and cost.tokens_out == server.served.tokens_out and cost.completions == 6
    for fault, said in (("truncated", "did not arrive"), ("malformed", "not JSON")):
        with FakeServer(Scripted(words), faults=Faults(**{fault: 1.0})) as server, counting() as cost:
            pieces = []
            with pytest.raises(EndpointError, match=said), watching(Watch(pieces.append)):
                endpoint(server).generate(["one"], max_new_tokens=40)
            assert server.requests == 1 and pieces and words("one", 0).startswith("".join(p.text for p in pieces))
            assert (cost.tokens_out, cost.completions) == (40, 1), "at its most, as nobody said what it cost"
    with FakeServer(Scripted(words), faults=Faults(wrong_usage=1.0)) as server, counting() as cost:
        with pytest.raises(EndpointError, match="says that it took"), watching(Watch(pieces.append)):
            endpoint(server).generate(["one"], max_new_tokens=40)
        assert server.requests == 1 and cost.tokens_out == 40


def test_a_call_under_way_is_cancelled_by_closing_its_connection():
    with FakeServer(Scripted(lambda p, s: " word" * 200), pause=0.02) as server, counting() as cost:
        watch, model = Watch(), endpoint(server)
        watch.piece = lambda piece: watch.cancel()
        with pytest.raises(Cancelled), watching(watch):
            model.generate(["one"], max_new_tokens=2000)
        end = time.monotonic() + 20
        while not server.hung_up:
            assert time.monotonic() < end, "the server writes on"
            time.sleep(0.01)
        assert server.requests == server.streams == 1 and cost.completions == 1 and cost.tokens_out == 2000
    stuck = FakeServer(Scripted(lambda p, s: " a b"), pause=30.0)
    with stuck as server:
        watch, pieces = Watch(), []
        watch.piece = pieces.append
        with ThreadPoolExecutor(1) as pool, watching(watch):
            began = time.monotonic()
            call = pool.submit(in_this_context(endpoint(server).generate), ["one"], max_new_tokens=20)
            while not server.streams:
                time.sleep(0.01)
            time.sleep(0.1)
            watch.cancel()  # while it waits for the second chunk
            with pytest.raises(Cancelled):
                call.result(10)
            assert time.monotonic() - began < 10


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
