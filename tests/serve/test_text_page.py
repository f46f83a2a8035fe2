"""What the page of a language model asks for: GET and POST /think of real servers on loopback."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from text_server import Slow, products, serving, until

from innerloop.lm.endpoint import Endpoint
from innerloop.lm.fake_server import FakeServer
from innerloop.lm.scripted import Scripted
from innerloop.tokens.way import Verdict

QUESTION = "What is 6 * 7?"


def events(server, status=200, **body):
    """(name, data) of the events of a stream."""
    with server.http.stream("POST", "/think", json={"question": QUESTION, **body}) as reply:
        text = reply.read().decode()
        assert reply.status_code == status, text
    if status != 200:
        return json.loads(text)["error"]
    blocks = [block.split("\n", 1) for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def of(told, name):
    return [data for event, data in told if event == name]


@pytest.fixture(scope="module")
def vote():
    with serving(Slow(products), think="vote(6)", tokens=5000) as made:
        yield made


def test_what_can_be_asked_is_said(vote):
    said = vote.http.get("/think").json()
    names = [way["name"] for way in said["ways"]]
    assert said["model"] == "tiny" and said["tokens"] == 5000 and said["kinds"][0]["name"] == "number"
    assert names[0] == "vote(6)" and {"direct", "chain", "vote(8)", "budget(512, wait=2)"} <= set(names)
    assert not {"best(8, verify)", "retry(4)"} & set(names), "there is no verifier"
    assert {w["name"]: w["samples"] for w in said["ways"]} | {"vote(6)": 6, "chain": 0, "best(4, score)": 4} == {
        w["name"]: w["samples"] for w in said["ways"]
    }
    assert all(way["about"] for way in said["ways"])
    with serving(Scripted(products), check=lambda a: Verdict(a == "42")) as checked:
        said = checked.http.get("/think").json()
        assert {"best(8, verify)", "retry(4)"} <= {way["name"] for way in said["ways"]}
        assert [kind["name"] for kind in said["kinds"]] == ["number"], "a verifier is of one kind of answer"


def test_a_model_trained_here_offers_what_it_was_trained_in(untrained):
    model = untrained()
    model.forms = {"direct": "=", "chain": "+"}
    with serving(model, tokens=600) as server:
        assert [way["name"] for way in server.http.get("/think").json()["ways"]][:3] == ["direct", "chain", "vote(4)"]
        told = events(server, question="1+1", way="vote(4)", seed=3)
        done = of(told, "done")[0]
        assert done["samples"] == 4 and {tuple(p["sample"]) for p in of(told, "piece")} == {(i,) for i in range(4)}
        texts = {i: "".join(p["text"] for p in of(told, "piece") if p["sample"] == [i]) for i in range(4)}
        whole = {s["sample"][0]: s["text"] for s in of(told, "sample")}
        assert all(whole[i].startswith(texts[i]) and len(texts[i]) > len(whole[i]) // 2 for i in range(4)), "as written"
        assert [t[0] for t in told].index("piece") < [t[0] for t in told].index("sample")


def test_every_piece_and_result_says_its_sample_and_the_end_says_what_the_api_says(vote):
    told = events(vote, seed=3)
    done, samples = told[-1][1], {s["sample"][0]: s for s in of(told, "sample")}
    assert told[-1][0] == "done" and set(samples) == set(range(6)) == {p["sample"][0] for p in of(told, "piece")}
    for i, sample in samples.items():
        pieces = "".join(p["text"] for p in of(told, "piece") if p["sample"] == [i])
        assert pieces.split() == sample["text"].split() and sample["answer"] in ("41", "42")
    api = vote.chat(QUESTION, seed=3)
    thinking = api["innerloop"]
    assert {k: done[k] for k in ("way", "outcome", "answer", "confidence", "tally")} == {
        k: thinking[k] for k in ("way", "outcome", "answer", "confidence", "tally")
    }
    assert done["text"] == api["choices"][0]["message"]["content"] == samples[done["winner"]]["text"]
    assert samples[done["winner"]]["answer"] == done["answer"] == "42" and done["sure_of"] == "of the votes"
    spent = dict(done["spent"])
    assert spent.pop("seconds") > 0 and spent == thinking["spent"] and done["samples"] == 6


def test_a_way_of_one_sample_and_of_samples_of_samples(vote):
    told = events(vote, way="chain", seed=1)
    assert {tuple(p["sample"]) for p in of(told, "piece")} == {()} and not of(told, "sample")
    assert told[-1][1]["confidence"] is None and told[-1][1]["winner"] is None
    with serving(Slow(products), think="vote(2, vote(2))", tokens=5000) as nested:
        told = events(nested, seed=1)
    inner = {(i, j) for i in range(2) for j in range(2)}
    assert {tuple(p["sample"]) for p in of(told, "piece")} == inner
    assert {tuple(s["sample"]) for s in of(told, "sample")} == inner | {(0,), (1,)}


def test_attempts_and_judges_are_told_apart():
    check = lambda a: Verdict(a == "42", "too small")  # noqa: E731
    write = lambda p, s: " The answer is " + ("42." if "too small" in p else "41.")  # noqa: E731
    with serving(Slow(write), check=check, tokens=5000) as server:
        told = events(server, way="retry(4)")
        assert [s["answer"] for s in of(told, "sample")] == ["41", "42"]
        assert [s["sample"] for s in of(told, "sample")] == [[0], [1]]
        assert told[-1][1]["winner"] == 1 and told[-1][1]["sure_of"] == "verified"
    with serving(Slow(lambda p, s: "7" if "Proposed" in p else f" The answer is {s % 9}."), tokens=9000) as server:
        told = events(server, way="best(4, score)")
        assert {tuple(p["sample"]) for p in of(told, "piece")} == {("judge",), (0,), (1,), (2,), (3,)}
        assert told[-1][1]["sure_of"] == "by the judge" and told[-1][1]["confidence"] == 0.7


def test_no_answer_and_a_spent_budget_are_said(vote):
    with serving(Slow(lambda p, s: " I like cheese."), think="chain") as server:
        done = of(events(server), "done")[0]
        assert (done["outcome"], done["answer"]) == ("unparsed", None) and "trusted" in done["why"]
        assert of(events(server, kind="text"), "done")[0]["answer"] == "i like cheese"
    for tokens in (1, 300):
        told = events(vote, tokens=tokens, seed=3)
        done = of(told, "done")[0]
        assert done["outcome"] == "cut" and done["budget"] == tokens >= done["spent"].get("tokens", 0)
    assert {s["outcome"] for s in of(told, "sample")} <= {"cut"}


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"question": " "}, "question", "is empty"),
        ({"question": "\ud800"}, None, "Unicode"),
        ({"way": "vote(100000)"}, "way", "offers no way"),
        ({"way": "vote(8, direct)"}, "way", "offers no way"),
        ({"kind": "colour"}, "kind", "offers no kind"),
        ({"tokens": 5001}, "tokens", "at most 5000"),
        ({"tokens": 0}, "tokens", "greater than"),
        ({"n": 3}, "n", "not a field"),
    ],
)
def test_what_is_not_offered_is_refused_in_a_sentence(vote, change, param, said):
    body = json.dumps({"question": QUESTION, **change})
    reply = vote.http.post("/think", content=body, headers={"Content-Type": "application/json"})
    error = reply.json()["error"]
    assert reply.status_code == 400 and said in error["message"] and error["param"] == param, error


def test_the_gate_is_that_of_the_other_routes(vote):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        assert vote.http.post("/think", json={"question": QUESTION}, headers=headers).status_code == 403
    names = ('requests_total{route="/think",status="200"}', 'tokens_total{direction="out",model="tiny"}')

    def counts():
        lines = dict(line.rsplit(" ", 1) for line in vote.http.get("/metrics").text.splitlines())
        return [float(lines.get(f"innerloop_{name}", 0)) for name in names]

    before, told = counts(), events(vote, seed=5)
    until(lambda: counts() != before)
    assert [b - a for a, b in zip(before, counts(), strict=True)] == [1, told[-1][1]["spent"]["tokens_out"]]


def test_requests_beyond_the_queue_get_429_and_late_ones_an_error():
    model = Slow(products)
    model.may.clear()
    with serving(model, think="chain", workers=1, queue=0) as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(events, server)
        until(lambda: server.service.live)
        assert events(server, 429)["type"] == "rate_limit_error"
        model.may.set()
        assert waiting.result()[-1][0] == "done"
    model.may.clear()
    with serving(model, think="chain", seconds=0.3) as server:
        assert "longer than 0.3 s" in events(server, 504)["message"]


def test_a_client_that_goes_away_ends_all_samples():
    model = Slow(lambda p, s: " word" * 50, free=4)
    model.may.clear()
    with serving(model, think="vote(4)", tokens=5000) as server:
        with server.http.stream("POST", "/think", json={"question": QUESTION}) as reply:
            next(reply.iter_lines())
        until(lambda: not server.service.in_flight)
        assert model.written <= 4 * 4 and not server.access.active_requests
        assert "innerloop_streams 0.0" in server.http.get("/metrics").text


def test_an_endpoint_behind_it_streams_and_is_hung_up_on():
    with FakeServer(Scripted(products), pause=0.005) as behind:
        model = Endpoint(behind.url, "any", key="")
        with serving(model, think="vote(3)", tokens=9000) as server:
            told = events(server, seed=3)
            samples = of(told, "sample")
            assert behind.streams == len(samples) == 3 and told[-1][0] == "done"
            for sample in samples:
                pieces = [p["text"] for p in of(told, "piece") if p["sample"] == sample["sample"]]
                assert len(pieces) > 8 and "".join(pieces) == sample["text"]
            assert told[-1][1]["spent"]["tokens_out"] == behind.served.tokens_out
            behind.pause = 0.05
            with server.http.stream("POST", "/think", json={"question": QUESTION}) as reply:
                next(reply.iter_lines())
            until(lambda: not server.service.in_flight)
            until(lambda: behind.hung_up == 3)


def test_the_page_and_its_files_come_with_a_policy(vote):
    page = vote.http.get("/")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("style.css", "text.css", "text.js", "text_cards.js", "dom.js", "api.js"):
        assert vote.http.get(f"/static/{name}").status_code == 200
    assert vote.http.get("/static/nothing.js").json()["error"]["code"] == "not_found"
