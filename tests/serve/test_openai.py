"""A language model by OpenAI's protocol: real servers on loopback, asked by httpx and by the `openai` client."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from text_server import serving, until

from innerloop import cli
from innerloop.errors import InputError
from innerloop.lm.endpoint import Endpoint
from innerloop.lm.fake_server import FakeServer, Faults
from innerloop.lm.protocol import MissingCapability
from innerloop.lm.scripted import Scripted
from innerloop.lm.watch import watched
from innerloop.serve.local import running
from innerloop.serve.server import Server


def counting_up(prompt, seed):
    return " ".join(str(len(prompt) + seed % 7 + i) for i in range(20)) + "\nand more"


@pytest.fixture(scope="module")
def own(untrained):
    with serving(untrained(), tokens=100) as made:
        yield made


@pytest.fixture(scope="module")
def scripted():
    with serving(Scripted(counting_up), tokens=100, completions=8) as made:
        yield made


# -- plain ------------------------------------------------------------------------------------------------------------


def test_the_model_is_listed(own):
    listed = own.http.get("/v1/models").json()
    assert listed["object"] == "list" and [m["id"] for m in listed["data"]] == ["tiny"]
    assert own.http.get("/v1/models/tiny").json() == listed["data"][0]
    missing = own.http.get("/v1/models/other")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_found"


def test_a_chat_is_what_the_model_says_and_costs_what_its_ledger_counts(scripted):
    said = scripted.chat("2 + 2 =", max_tokens=12, seed=3)
    messages = [{"role": "user", "content": "2 + 2 ="}]
    (reply,) = scripted.service.model.generate([messages], max_new_tokens=12, temperature=1.0, seed=3)
    choice = said["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": reply.completions[0].text, "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    usage = said["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (reply.tokens_in, reply.tokens_out)
    assert usage["total_tokens"] == reply.tokens_in + reply.tokens_out
    assert said["object"] == "chat.completion" and said["model"] == "tiny" and said["id"].startswith("chatcmpl-")


def test_messages_come_as_clients_send_them(scripted):
    parts = [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2 ="}]
    as_text = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2 =", "type": "text"}]
    in_parts = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    one, two = (scripted.chat(messages=m, seed=1, max_completion_tokens=9) for m in (as_text, in_parts))
    assert one["choices"] == two["choices"]
    idle = {"tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "user": "u", "frequency_penalty": 0}
    assert scripted.chat(messages=as_text, seed=1, max_tokens=9, **idle)["choices"] == one["choices"]


@pytest.mark.parametrize("prompt", ["so ", ["1+1=", "2+2="], [3, 4, 5], [[3, 4], [5, 6, 7]]])
def test_completions_of_texts_and_of_token_ids(own, prompt):
    prompts = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
    how = {"temperature": 0.8, "top_p": 0.9, "seed": 5}
    said = own.complete(prompt, n=2, max_tokens=20, stop=["\n", "+"], **how)
    replies = own.service.model.generate(prompts, n=2, max_new_tokens=20, stop=("\n", "+"), **how)
    made = [c for r in replies for c in r.completions]
    assert [c["text"] for c in said["choices"]] == [c.text for c in made]
    assert [c["finish_reason"] for c in said["choices"]] == [c.finish for c in made]
    assert [c["index"] for c in said["choices"]] == list(range(2 * len(prompts)))
    assert said["usage"]["prompt_tokens"] == sum(r.tokens_in for r in replies)
    assert said["usage"]["completion_tokens"] == sum(r.tokens_out for r in replies)


def test_an_equal_seed_gives_the_same_and_no_seed_another(own):
    one, two, other = (own.complete("so ", max_tokens=30, n=2, seed=s)["choices"] for s in (7, 7, 8))
    assert one == two != other and one[0]["text"] != one[1]["text"]
    unseeded = {own.complete("so ", max_tokens=30)["choices"][0]["text"] for _ in range(3)}
    assert len(unseeded) == 3


def test_requests_that_share_a_batch_say_what_each_says_alone(own):
    asks = [{"prompt": f"{i}+{i}=", "max_tokens": 10 + 9 * (i % 3), "seed": i, "n": 1 + i % 2} for i in range(8)]
    alone = [own.complete(**ask) for ask in asks]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda ask: own.complete(**ask), asks))
    assert [r["choices"] for r in together] == [r["choices"] for r in alone]
    assert [r["usage"] for r in together] == [r["usage"] for r in alone]


def test_log_probabilities_are_those_of_the_tokens(own, scripted):
    said = own.complete("so ", max_tokens=12, seed=2, logprobs=0)["choices"][0]
    (reply,) = own.service.model.generate(["so "], max_new_tokens=12, temperature=1.0, seed=2, logprobs=True)
    found = said["logprobs"]
    assert "".join(found["tokens"]) == said["text"] and found["text_offset"] == list(range(len(said["text"])))
    assert found["token_logprobs"] == pytest.approx(list(reply.completions[0].logprobs), rel=1e-6)
    content = scripted.chat(max_tokens=5, seed=1, logprobs=True)["choices"][0]
    assert "".join(e["token"] for e in content["logprobs"]["content"]) == content["message"]["content"]
    assert all(e["bytes"] == list(e["token"].encode()) for e in content["logprobs"]["content"])
    assert {e["logprob"] for e in content["logprobs"]["content"]} == {0.0}


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [False, True])
def test_the_pieces_of_a_stream_are_the_whole_response(own, stopped):
    body = {"prompt": ["so ", "1+1="], "n": 2, "max_tokens": 40, "seed": 11, "logprobs": 1}
    whole = own.complete(**body)
    if stopped:  # by several characters each, which must not be sent before it is known what they are
        body["stop"] = [choice["text"][5:8] for choice in whole["choices"] if len(choice["text"]) > 10]
        whole = own.complete(**body)
        assert body["stop"] and "stop" in {choice["finish_reason"] for choice in whole["choices"]}
    chunks = own.stream("/v1/completions", body | {"stream_options": {"include_usage": True}})
    *chunks, last = chunks
    assert last["choices"] == [] and last["usage"] == whole["usage"] and all(c["usage"] is None for c in chunks)
    assert len({c["id"] for c in chunks}) == 1 and {c["object"] for c in chunks} == {"text_completion"}
    for i, choice in enumerate(whole["choices"]):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == i]
        assert "".join(c["text"] for c in mine) == choice["text"]
        assert [c["finish_reason"] for c in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
        assert len(mine) > len(choice["text"]) // 2, "token by token"
        for name in ("tokens", "text_offset"):
            assert [v for c in mine if c["logprobs"] for v in c["logprobs"][name]] == choice["logprobs"][name]


def test_pieces_come_while_the_text_is_written(own, monkeypatch):
    """The loop does not take its fifth step before the client has read the second piece."""
    model, read, steps = own.service.model, threading.Event(), []
    tick = model.scheduler.rows.tick

    def held():
        steps.append(1)
        assert len(steps) < 5 or read.wait(30)
        return tick()

    monkeypatch.setattr(model.scheduler.rows, "tick", held)
    body = {"model": "tiny", "prompt": "so ", "max_tokens": 30, "seed": 11, "stream": True}
    with own.http.stream("POST", "/v1/completions", json=body) as reply:
        lines = (line for line in reply.iter_lines() if line)
        first = [json.loads(next(lines).removeprefix("data: ")) for _ in range(2)]
        assert all(c["choices"][0]["text"] for c in first) and len(steps) <= 5
        read.set()
        assert [*lines][-1] == "data: [DONE]" and len(steps) > 5


def test_a_chat_of_a_model_that_gives_no_pieces_is_one_chunk(scripted):
    whole = scripted.chat(max_tokens=9, seed=4)["choices"][0]
    chunks = scripted.stream(
        "/v1/chat/completions", {"messages": [{"role": "user", "content": "2 + 2 ="}], "max_tokens": 9, "seed": 4}
    )
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"} and "usage" not in chunks[0]
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": whole["message"]["content"]}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]


class Breaks(Scripted):
    """Writes two pieces, then fails."""

    def complete(self, prompts, sampling, prefix):
        from innerloop.lm.watch import Piece

        if watched().piece and prompts != ["at once"]:
            for text in "ab":
                watched().piece(Piece(0, (text,), (0.0,)))
        raise RuntimeError("a secret path")


def test_what_fails_in_a_stream_ends_it_with_an_error_and_what_fails_before_has_its_status():
    with serving(Breaks([""])) as server:
        chunks = server.stream("/v1/completions", {"prompt": "x"})
        assert [c["choices"][0]["text"] for c in chunks[:-1]] == ["a", "b"]
        assert chunks[-1]["error"]["type"] == "server_error" and "secret" not in str(chunks)
        body = {"model": "tiny", "prompt": "at once", "stream": True}
        assert server.refused("/v1/completions", body, 500)["type"] == "server_error"
        until(lambda: not server.service.live)
        assert server.http.get("/v1/models").status_code == 200


# -- a client that goes away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_the_work(own, monkeypatch, stream):
    model = own.service.model
    body = {"model": "tiny", "prompt": "so ", "max_tokens": 100, "n": 3, "seed": 1}
    assert own.complete("so ", max_tokens=100, n=3, seed=1)["usage"]["completion_tokens"] > 40, "it would go on"
    rows, gone = model.scheduler.rows, threading.Event()
    tick, ticks, ended = rows.tick, [], rows.counters.ended["cancelled"]

    def held():
        ticks.append(1)
        assert len(ticks) < 4 or gone.wait(30)
        return tick()

    monkeypatch.setattr(rows, "tick", held)
    body["stream"] = stream
    if stream:
        with own.http.stream("POST", "/v1/completions", json=body) as reply:
            next(reply.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout), httpx.Client(trust_env=False) as http:
            http.post(f"{own.url}/v1/completions", json=body, timeout=httpx.Timeout(30, read=0.5))
    until(lambda: not own.access.active_requests)  # the server knows
    gone.set()
    until(lambda: not own.service.in_flight)
    assert rows.counters.ended["cancelled"] > ended and len(ticks) < 10 and not len(rows)


# -- refusals ---------------------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
USER = [{"role": "user", "content": "hi"}]
REFUSED = [
    ({"model": "other"}, 404, "model", "does not exist"),
    ({"tools": [{"type": "function"}]}, 400, "tools", "not supported"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported"),
    ({"logit_bias": {"5": 1}}, 400, "logit_bias", "not supported"),
    ({"presence_penalty": 0.5}, 400, "presence_penalty", "not supported"),
    ({"top_logprobs": 3}, 400, "top_logprobs", "not supported"),
    ({"temprature": 1}, 400, "temprature", "not a field"),
    ({"max_tokens": 101}, 400, "max_tokens", "at most 100"),
    ({"max_completion_tokens": 0}, 400, "max_completion_tokens", "greater than or equal"),
    ({"n": 9}, 400, "n", "at most 8"),
    ({"n": 2, "temperature": 0}, 400, None, "all the same"),
    ({"temperature": "warm"}, 400, "temperature", "number"),
    ({"seed": -1}, 400, "seed", "greater than"),
    ({"stop": ""}, 400, "stop", "1 character"),
    ({"stop": ["x"] * 17}, 400, "stop", "at most 16"),
    ({"messages": []}, 400, "messages", "at least 1"),
    ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages", "system"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages", "is a text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, None, "Unicode"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options", "stream=true"),
]


@pytest.mark.parametrize(("change", "status", "param", "said"), REFUSED, ids=lambda v: str(v)[:40])
@pytest.mark.parametrize("stream", [False, True])
def test_bad_chats_are_refused_in_the_protocols_form(scripted, change, status, param, said, stream):
    if stream and "stream_options" in change:
        return
    body = {"model": "tiny", "messages": USER, "stream": stream, **change}
    reply = scripted.http.post("/v1/chat/completions", content=json.dumps(body).encode(), headers=JSON)
    error = reply.json()["error"]
    assert reply.status_code == status and set(error) == {"message", "type", "param", "code"}
    assert said in error["message"] and error["param"] == param and error["type"] == "invalid_request_error"


def test_bad_completions_bodies_and_paths_are_refused_likewise(scripted, own):
    for change, param in (({"echo": True}, "echo"), ({"suffix": "x"}, "suffix"), ({"best_of": 2}, "best_of"),
                          ({"logprobs": 5}, "logprobs"), ({"prompt": []}, "prompt")):  # fmt: skip
        error = scripted.refused("/v1/completions", {"model": "tiny", "prompt": "x", **change}, 400)
        assert error["param"] == param, error
    error = own.refused("/v1/chat/completions", {"model": "tiny", "messages": USER}, 400)
    assert error["code"] == "missing_capability" and "chat messages" in error["message"]
    for prompt, said in (("Z", "does not know the character"), ("1" * 200, "context"), ("", "empty")):
        assert said in own.refused("/v1/completions", {"model": "tiny", "prompt": prompt}, 400)["message"]
    assert "there is no POST /v1/embeddings" in scripted.refused("/v1/embeddings", {}, 404)["message"]
    for content, status in ((b"{", 400), (b'{"prompt": [' + b"1," * 200_000 + b"1]}", 413), (b" " * (5 << 20), 413)):
        reply = scripted.http.post("/v1/completions", content=content, headers=JSON)
        assert reply.status_code == status and reply.json()["error"]["message"], reply.text
    reply = scripted.http.get("/v1/models", headers={"Host": "evil.example"})
    assert reply.status_code == 403 and reply.json()["error"]["type"] == "permission_error"


class Holds(Scripted):
    """Writes once it may."""

    def __init__(self):
        super().__init__(["done"])
        self.may, self.began = threading.Event(), threading.Semaphore(0)

    def complete(self, prompts, sampling, prefix):
        self.began.release()
        assert self.may.wait(30)
        return super().complete(prompts, sampling, prefix)


def test_requests_beyond_the_queue_get_429_and_the_others_are_answered():
    model = Holds()
    with serving(model, workers=1, queue=1) as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.complete, "x", max_tokens=9) for _ in range(2)]
        until(lambda: server.service.in_flight == 2)
        reply = server.http.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
        assert reply.status_code == 429 and reply.headers["retry-after"] == "1"
        assert reply.json()["error"]["type"] == "rate_limit_error"
        assert (server.service.live, server.service.in_flight) == (1, 2)
        model.may.set()
        assert [w.result()["choices"][0]["text"] for w in waiting] == ["done", "done"]
        until(lambda: not server.service.in_flight)
        page = server.http.get("/metrics").text
        assert 'innerloop_tokens_total{direction="out",model="tiny"} 10.0' in page
        assert 'innerloop_requests_total{route="/v1/completions",status="429"} 1.0' in page


def test_time_is_limited_and_an_ending_server_answers_what_it_has_accepted():
    model = Holds()
    with serving(model, seconds=0.2) as server:
        assert server.refused("/v1/completions", {"model": "tiny", "prompt": "x"}, 504)["type"] == "timeout_error"
        model.may.set()
    model = Holds()
    with serving(model) as server, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(server.complete, "x", max_tokens=9)
        assert model.began.acquire(timeout=30)
        server.server._loop.call_soon_threadsafe(server.server._shut_down)
        until(lambda: server.access.closing)
        reply = httpx.post(f"{server.url}/v1/completions", json={"model": "tiny", "prompt": "x"}, trust_env=False)
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "unavailable"
        model.may.set()
        assert accepted.result()["choices"][0]["text"] == "done"


def test_an_endpoint_behind_it_that_fails_is_a_bad_gateway():
    with FakeServer(Scripted(["4"]), faults=Faults(broken=1.0)) as behind:
        model = Endpoint(behind.url, "any", key="", retries=0)
        with serving(model) as server:
            error = server.refused("/v1/chat/completions", {"model": "tiny", "messages": USER}, 502)
            assert "HTTP 500" in error["message"]
    with FakeServer(Scripted(["4"])) as behind, serving(Endpoint(behind.url, "any", key="", retries=0)) as server:
        said = server.chat("2 + 2 =", max_tokens=9)
        assert said["choices"][0]["message"]["content"] == "4"
        assert said["usage"]["completion_tokens"] == behind.served.tokens_out == 2


# -- ways to think ----------------------------------------------------------------------------------------------------


def products(prompt, seed):
    """Right three times of four."""
    return f" The answer is {42 if seed % 4 else 41}."


def test_a_vote_says_its_winner_and_what_all_samples_cost():
    with serving(Scripted(products), think="vote(6)") as server:
        said = server.chat("What is 6 * 7?", seed=3)
        told, usage = said["innerloop"], said["usage"]
        assert said["choices"][0]["message"]["content"] == " The answer is 42." and told["answer"] == "42"
        assert told["way"] == "vote(6)" and told["outcome"] == "answered" and told["ignored_messages"] == 0
        counts = {entry["answer"]: entry["count"] for entry in told["tally"]}
        assert sum(counts.values()) == 6 and told["confidence"] == counts["42"] / 6
        spent = told["spent"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (spent["tokens_in"], spent["tokens_out"])
        assert spent["completions"] == 6 and spent["tokens"] == usage["total_tokens"]
        assert server.chat("What is 6 * 7?", seed=3)["innerloop"] == told, "an equal seed"
        talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 6 * 7?"}]
        assert server.chat(messages=talk, seed=3)["innerloop"] == told | {"ignored_messages": 1}
        assert server.complete("What is 6 * 7?", seed=3)["choices"][0]["text"] == " The answer is 42."
        assert server.complete("What is 6 * 7?", seed=3, stop=" is")["choices"][0]["text"] == " The answer"
        chunks = server.stream("/v1/chat/completions", {"messages": talk[1:], "seed": 3})
        assert chunks[-1]["innerloop"] == told
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == " The answer is 42."


@pytest.mark.parametrize("most", [1, 50, 200, 700, 1500])
def test_a_request_never_costs_more_than_it_allows_and_says_when_it_does_not_know(most):
    with serving(Scripted(lambda p, s: "x" * 60 + products(p, s)), think="vote(4)", tokens=1500) as server:
        said = server.chat("What is 6 * 7?", max_tokens=most, seed=3)
        content, choice = said["choices"][0]["message"]["content"], said["choices"][0]
        assert said["usage"]["total_tokens"] <= most
        if most < 700:
            assert content.startswith("I don't know: the budget") and choice["finish_reason"] == "length"
            assert said["innerloop"]["outcome"] == "cut" and said["innerloop"]["answer"] is None
        else:
            assert said["innerloop"]["answer"] == "42" and choice["finish_reason"] == "stop"


def test_no_answer_that_can_be_trusted_is_said_plainly():
    with serving(Scripted(["I like cheese."]), think="direct") as server:
        said = server.chat("What is 6 * 7?")
        assert said["choices"][0]["message"]["content"] == "I don't know: no answer that can be trusted"
        assert said["choices"][0]["finish_reason"] == "stop" and said["innerloop"]["outcome"] == "unparsed"


def test_a_way_thinks_with_our_own_model_in_one_batch(untrained):
    """Votes of requests that run at once are rows of one batch, and each is as alone."""
    model = untrained()
    ask = lambda i: server.complete(f"{i}+{i}", seed=i)  # noqa: E731
    with serving(model, think="vote(3, direct)", tokens=600) as server:
        refusal = server.refused("/v1/completions", {"model": "tiny", "prompt": "1+1"}, 400)
        assert "does not know the character" in refusal["message"], "the prompt of `direct` has letters"
        model.forms = {"direct": "=", "chain": "+"}
        alone = [ask(i) for i in range(4)]
        counters = model.scheduler.rows.counters
        ticks, steps = counters.ticks, counters.steps
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(ask, range(4)))
        assert [t["innerloop"] for t in together] == [a["innerloop"] for a in alone]
        assert [t["choices"] for t in together] == [a["choices"] for a in alone]
        assert counters.steps - steps == steps > ticks, "as many steps, of several rows a tick"
        assert sum(a["usage"]["completion_tokens"] for a in alone) == steps, "and as many tokens"


def test_what_a_way_cannot_do_is_refused():
    with serving(Scripted(products), think="vote(6)", tokens=500) as server:
        base = {"model": "tiny", "messages": USER}
        for change, param in (({"n": 2}, "n"), ({"top_p": 0.5}, "top_p"), ({"logprobs": True}, "logprobs"),
                              ({"max_tokens": 501}, "max_tokens"),
                              ({"messages": [{"role": "system", "content": "x"}]}, "messages")):  # fmt: skip
            assert server.refused("/v1/chat/completions", base | change, 400)["param"] == param
        for prompt in (["a", "b"], [1, 2]):
            assert server.refused("/v1/completions", {"model": "tiny", "prompt": prompt}, 400)["param"] == "prompt"
        assert "empty question" in server.refused("/v1/completions", {"model": "tiny", "prompt": " "}, 400)["message"]


def test_a_way_that_cannot_answer_is_refused_at_the_start():
    class Plain(Scripted):
        def __init__(self):
            super().__init__(products)
            self.capabilities = self.capabilities - {"prefill"}

        def complete(self, *call):
            raise AssertionError("no model is asked at the start")

    for think, error, said in (
        ("budget(64, wait=1)", MissingCapability, "prefill"),
        ("vote(3, zero_shot)", MissingCapability, "prefill"),
        ("best(3, verify)", InputError, "needs a verifier"),
        ("vote(2, retry(2))", InputError, "needs a verifier"),
        ("vote(2, dots)", InputError, "worked examples"),
        ("vite(8)", InputError, "no way to think is called"),
    ):
        with pytest.raises(error, match=said), serving(Plain(), think=think):
            pass


# -- the client of others ---------------------------------------------------------------------------------------------


def client_of(server):
    openai = pytest.importorskip("openai", reason="the openai client is not installed: pip install openai")
    http = httpx.Client(trust_env=False)
    return openai, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http)


def test_the_openai_client_completes_and_streams(own):
    openai, client = client_of(own)
    with client:
        assert [m.id for m in client.models.list()] == ["tiny"] and client.models.retrieve("tiny").id == "tiny"
        how = {"model": "tiny", "prompt": ["so ", "1+1="], "max_tokens": 30, "seed": 4, "n": 2, "stop": ["\n"]}
        whole = client.completions.create(logprobs=1, **how)
        texts = dict.fromkeys(range(4), "")
        for chunk in client.completions.create(stream=True, stream_options={"include_usage": True}, **how):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == {c.index: c.text for c in whole.choices} and chunk.usage == whole.usage
        assert all("".join(c.logprobs.tokens) == c.text for c in whole.choices)
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="tiny", prompt="x", suffix="y")
        assert caught.value.param == "suffix" and caught.value.type == "invalid_request_error"
        with pytest.raises(openai.NotFoundError) as caught:
            client.completions.create(model="other", prompt="x")
        assert caught.value.code == "model_not_found"


def test_the_openai_client_chats_with_a_way_to_think():
    with serving(Scripted(products), think="vote(6)") as server:
        _, client = client_of(server)
        with client:
            said = client.chat.completions.create(model="tiny", messages=USER, seed=3)
            assert said.choices[0].message.content == " The answer is 42." and said.innerloop["way"] == "vote(6)"
            with client.chat.completions.create(model="tiny", messages=USER, seed=3, stream=True) as stream:
                chunks = list(stream)
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == " The answer is 42."
            assert chunks[-1].innerloop == said.innerloop


def test_the_openai_client_is_told_of_an_error_in_a_stream():
    with serving(Breaks([""])) as server:
        openai, client = client_of(server)
        with client, pytest.raises(openai.APIError, match="the server failed"):
            list(client.completions.create(model="tiny", prompt="x", stream=True))


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_told_to_end():
    with FakeServer(Scripted(products)) as behind:
        with running(lm=f"any@{behind.url}", think="vote(3)", key="") as made:
            body = {"model": "any", "messages": USER, "seed": 3}
            said = httpx.post(f"{made.url}/v1/chat/completions", json=body, trust_env=False, timeout=60).json()
            assert said["innerloop"]["answer"] == "42" and said["innerloop"]["spent"]["completions"] == 3
            assert said["usage"]["completion_tokens"] == behind.served.tokens_out > 0
            assert made.stop() == 0 and not made.log()
        with (
            pytest.raises(InputError, match="begun for it"),
            running(lm=f"any@{behind.url}", think="budget(9)", key=""),
        ):
            pass


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lm", "smolm2"], 'no language model is called "smolm2"'),
        (["runs/a", "--lm", "smollm2"], "a run is given beside --lm"),
        (["--lm", "smollm2", "--rules", "r.py"], "--rules is given beside --lm"),
        (["--lm", "smollm2", "--device", "cuda"], "--device is given beside --lm"),
        (["--lm", "smollm2", "--depth", "8"], "--depth is given beside --lm"),
        (["--lm", "smollm2", "--streams", "2"], "--streams is given beside --lm"),
        (["runs/a", "--think", "vote(8)"], "--think is of a language model"),
        ([], "there is nothing to serve"),
        (["--lm", "any@http://127.0.0.1:9/v1", "--verify", "check.py"], "--verify is of a way to think"),
        (["--lm", "any@http://127.0.0.1:9/v1", "--think", "voted(3)"], 'did you mean "vote"'),
        (["--lm", "any@http://127.0.0.1:9/v1", "--think", "budget(9)"], "begun for it"),
        (["--lm", "any@http://127.0.0.1:9/v1", "--think", "best(3, verify)"], "needs a verifier"),
        (["--lm", "any@http://127.0.0.1:9/v1", "--think", "vote(3)", "--kind", "colour"], "no kind of answer"),
        (["--lm", "any@http://127.0.0.1:9/v1", "--think", "vote(3)", "--verify", "answers"], "come without answers"),
        (["--lm", "any@http://127.0.0.1:9/v1", "--tokens", "0"], "--tokens is 0"),
        (["--lm", "any@http://127.0.0.1:9/v1", "--workers", "0"], "--workers 0"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_the_command_refuses_what_it_cannot_serve(words, said, capsys, monkeypatch):
    monkeypatch.setattr(Server, "run", lambda self, sockets: pytest.fail("it serves"))
    assert cli.main(["serve", "--port", "0", *words]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1
