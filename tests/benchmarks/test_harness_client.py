"""The relay between a harness and the server keeps what went over it, and usage that does not add up is found."""

import copy
import json
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import harness_client as client  # noqa: E402

from innerloop.lm.fake_server import FakeServer  # noqa: E402
from innerloop.lm.scripted import Scripted  # noqa: E402


def completion(text, read, written, total):
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": total}
    return {"choices": [{"message": {"content": text}}], "usage": usage}


def test_usage_that_does_not_add_up_and_answers_that_were_changed_are_found():
    replies = [(200, completion(q, 10, 2, 12)) for q, _ in client.ITEMS]
    found, total = {"rows": [{"said": q} for q, _ in client.ITEMS]}, {"in": 50, "out": 10}
    assert all(client.checks(found, replies, total).values())
    names = list(client.checks(found, replies, total))

    def failed(found=found, replies=replies, total=total):
        return [names.index(name) for name, holds in client.checks(found, replies, total).items() if not holds]

    wrong = copy.deepcopy(replies)
    wrong[0][1]["usage"]["total_tokens"] = 13
    assert failed(replies=wrong) == [2, 3] and failed(total={"in": 50, "out": 11}) == [3]
    assert failed(found={"rows": found["rows"][1:]}) == [1] and 0 in failed(replies=replies[1:])
    assert 0 in failed(replies=[(500, replies[0][1]), *replies[1:]])


def test_the_relay_passes_on_and_keeps():
    with FakeServer(Scripted(["4"])) as server, client.Relay(server.url.removesuffix("/v1")) as relay:
        body = json.dumps({"model": "any", "messages": [{"role": "user", "content": "2 + 2?"}]}).encode()
        at = f"http://127.0.0.1:{relay.server_port}/v1/chat/completions"
        with urllib.request.urlopen(urllib.request.Request(at, body, {"Content-Type": "application/json"})) as reply:
            said = json.load(reply)
        assert relay.replies == [(200, said)] and said["choices"][0]["message"]["content"] == "4"
        relay.shutdown()


def test_the_tokens_of_the_metrics_are_read():
    text = (
        'innerloop_tokens_total{direction="in",model="m"} 12.0\ninnerloop_tokens_total{direction="out",model="m"} 3.0\n'
    )
    assert dict(client.SAMPLE.findall(text)) == {"in": "12.0", "out": "3.0"}
