"""Probing: what a model declares is checked by calls, against servers that refuse or ignore it."""

import pytest

from innerloop.cli import main
from innerloop.ledger import counting
from innerloop.lm.endpoint import Endpoint
from innerloop.lm.fake_server import FakeServer, Faults
from innerloop.lm.probing import CHECKS, probe
from innerloop.lm.protocol import CAPABILITIES
from innerloop.lm.scripted import Scripted

WORDS = ["four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen"]


def count(prompt, seed):
    """Counts on from the last word of the prompt; seeds other than 0 begin with a number of their own."""
    last = prompt.split()[-1] if "assistant:" not in prompt else "three"
    first = WORDS.index(last) + 1 if last in WORDS else 0
    return (f" {seed}" if seed else "") + " " + " ".join(WORDS[first:])


def holds(model):
    return {f.name: f.holds for f in probe(model)}


def endpoint(server, **how):
    return Endpoint(server.url, "any", **({"key": "", "api": "completions", "retries": 0} | how))


def test_every_capability_has_a_check_and_a_model_that_has_all_passes():
    assert CHECKS.keys() == CAPABILITIES.keys()
    with counting() as cost:
        findings = probe(Scripted(count))
    assert [f.name for f in findings] == list(CHECKS) and 8 < cost.completions < 30
    assert all(f.holds and f.said and "\n" not in f.said for f in findings)


@pytest.mark.parametrize("api", ["chat", "completions", "responses"])
def test_an_honest_server_holds_what_its_api_declares(api):
    with FakeServer(Scripted(count)) as server:
        model = endpoint(server, api=api)
        found = holds(model)
    assert found.keys() == model.capabilities and set(found.values()) == {True}


def test_what_a_server_ignores_or_refuses_is_found():
    with FakeServer(Scripted(count), refuses=["n"]) as server:
        found = {f.name: f for f in probe(endpoint(server))}
        assert {name for name, f in found.items() if f.holds is False} == {"n"}
        assert found["n"].said.startswith("it was refused") and "Unsupported parameter: 'n'" in found["n"].said
    with FakeServer(Scripted(count), ignores=["stop", "logprobs", "seed", "n"]) as server:
        found = {f.name: f for f in probe(endpoint(server))}
        assert {name for name, f in found.items() if f.holds is False} == {"stop", "logprobs", "n"}
        assert found["seed"].holds is None and found["stop"].said.startswith("it did not end at the text")
    calls = iter(range(1000))
    with FakeServer(Scripted(lambda prompt, seed: count(prompt, next(calls) if seed else 0))) as server:
        assert holds(endpoint(server))["seed"] is False, "a new sample at every call"
    with FakeServer(Scripted(count)) as server:
        found = {f.name: f for f in probe(endpoint(server, api="chat", capabilities=["prefill"]))}
        assert found["prefill"].holds is False and "begun with its own words" in found["prefill"].said
    with FakeServer(Scripted(["four"])) as server:
        found = holds(endpoint(server))
        assert found["stop"] is found["prefill"] is found["seed"] is None, "too short to tell"


def test_wrong_counts_are_found():
    class Miscounting(Scripted):
        def complete(self, prompts, sampling, prefix):
            return [r.__class__(r.completions, 5) for r in super().complete(prompts, sampling, prefix)]

        def score(self, prompts, continuations):
            return [(0.5,) for _ in prompts]

    found = {f.name: f for f in probe(Miscounting(count))}
    assert found["usage"].holds is False and "5 of one twice as long" in found["usage"].said
    assert found["scoring"] == ("scoring", False, "it gave 0.5 as a log probability")


def test_the_command_says_what_holds(capsys):
    with FakeServer(Scripted(count)) as server:
        assert main(["probe", f"any@{server.url}", "--key", ""]) == 0
        said = capsys.readouterr().out
        assert "seed      holds" in said and "completions" in said.splitlines()[-1]
    with FakeServer(Scripted(count), ignores=["stop"]) as server:
        assert main(["probe", f"any@{server.url}", "--key", ""]) == 1
        assert "stop      fails" in capsys.readouterr().out
    with FakeServer(Scripted(count), faults=Faults(broken=1.0)) as server:
        assert main(["probe", f"any@{server.url}", "--key", ""]) == 2
