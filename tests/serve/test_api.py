"""The server as its users meet it: a process of its own, asked over HTTP."""

import concurrent.futures
import contextlib
import json
import socket
import time

import httpx
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from innerloop import cli
from innerloop.errors import InputError
from innerloop.serve import schema
from innerloop.serve.client import Client, RequestFailed
from innerloop.serve.local import running
from innerloop.solve.exact import exact
from innerloop.solve.options import Budget
from innerloop.solve.solver import Solver

EASY = "1.3.34.2.1.34.2."
LONG = {"depth": 100_000, "pick": "residual"}  # as long as it is let


@pytest.fixture(scope="module")
def server(run):
    with running(run, f"twin={run}", seconds=60, depth=100_000) as made:
        yield made
        assert "Traceback" not in made.log(), made.log()


@pytest.fixture(scope="module")
def client(server):
    return server.client


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def solver(opened):
    return Solver(opened.loop, opened.task)


def metric(http, name, **labels):
    """The sum of a metric over what matches."""
    total = 0.0
    for line in http.get("/metrics").text.splitlines():
        if line.startswith((f"{name} ", f"{name}{{")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            total += float(line.split()[-1])
    return total


def until(what, seconds=60.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@contextlib.contextmanager
def asking(server, verb, dials, puzzles=50):
    """A request that is under way, from somebody who then hangs up without waiting for the answer."""
    puzzle = {"puzzles": [EASY] * puzzles} if verb == "solve_many" else {"puzzle": EASY}
    text = json.dumps(puzzle | dials)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        head = f"POST /v1/models/four/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        sock.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        yield


# -- what is there ----------------------------------------------------------------------------------------------------


def test_health_readiness_and_metrics(http):
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}
    said = http.get("/metrics")
    assert said.headers["content-type"].startswith("text/plain")
    for name in ("requests_total", "request_seconds_bucket", "waiting", "live_rows", "steps_total", "nfe_total"):
        assert f"innerloop_{name}" in said.text
    assert "process_resident_memory_bytes" in said.text


def test_answers_are_not_kept_back(http):
    """With Nagle's algorithm on, a client that delays its acknowledgements would wait 40 ms for every body."""
    times = [http.post("/v1/models/four/check", json={"puzzle": "1", "answer": "1"}).elapsed for _ in range(30)]
    assert min(times).total_seconds() < 0.03


def test_models_say_what_the_page_needs(http, opened):
    first, second = http.get("/v1/models").json()["models"]
    assert (first["name"], second["name"]) == ("four", "twin")
    assert first["rows"] * first["columns"] == 16 and first["charset"] == ".1234" and first["blank"] == "."
    assert first["boxes"] == [2, 2] and len(first["units"]) == 12 and all(len(u) == 4 for u in first["units"])
    assert first["glyphs"]["3"] == "3" and first["glyphs"]["."] == "" and set(first["colours"]) == set("_.1234")
    assert first["parameters"] == sum(p.numel() for p in opened.loop.parameters())
    assert first["trained_depth"] == opened.run.plan.trained_depth
    assert (
        first["verifies"] and first["exact"] and first["views"] and not first["stochastic"] and not first["calibrated"]
    )
    assert set(first["rules"]) == {"verified", "vote", "q", "residual", "certainty", "first"}
    assert first["limits"] == {"depth": 100_000, "width": 128, "puzzles": 1000, "seconds": 60.0, "stream_steps": 4096}


def test_all_about_one_model(client, opened, solver):
    until(lambda: not client.model("four").measuring)
    found = client.model("four")
    ratings = [e.rating for e in found.examples]
    assert len(found.examples) == 12 and ratings == sorted(ratings)
    assert found.difficulty == "guesses that a plain search makes"
    told = [client.solve(e.question, "four", depth=64, width=1, pick="verified") for e in found.examples]
    assert told[found.start].steps == max(t.steps for t in told if t.known), "the page opens on what takes the longest"
    for e in found.examples:
        question, answer = opened.task.encode(e.question), opened.task.encode(e.answer)
        assert opened.task.valid_batch(question[None], answer[None])[0]
    held = opened.task.make(40, opened.run.data.seed + 1_000_003)  # what the run was validated on, and nothing else
    assert {e.question for e in found.examples} <= {opened.task.decode(q) for q in held.inputs}
    assert len(found.curves.halting) == 40
    alone = solver.solve(held, 64, 1, "certainty", halting=True, views=False)
    assert sorted((h.steps, h.right) for h in found.curves.halting) == sorted((s.steps, s.valid) for s in alone)
    assert found.born["seeds"] == [opened.run.seed] and found.curves.depth == []


def test_what_was_measured_of_a_run_is_told(client, run):
    row = {"depth": 4, "width": 1, "halting": False, "exact": 0.5, "low": 0.4, "high": 0.6, "valid": None, "steps": 4}
    (run / "eval.json").write_text(json.dumps({"rows": [row | {"nfe": 4.0}, {"depth": 8}]}))
    dimension = {"corrected": 3.25, "low": 3.0, "high": 3.5, "effective_rank": None}
    (run / "study.json").write_text(json.dumps({"dimension": {"trained": {"z": [{}, dimension]}}}))
    try:
        curves = client.model("four").curves
    finally:
        (run / "eval.json").unlink()
        (run / "study.json").unlink()
    assert [(p.depth, p.exact, p.valid) for p in curves.depth] == [(4, 0.5, None)]
    told = {"slot": "z", "participation_ratio": 3.25, "low": 3.0, "high": 3.5, "effective_rank": None}
    assert curves.modules == [schema.Slot(**told)]


def test_the_page_and_its_files_are_served(http):
    from innerloop import web

    page = http.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    for name in web.names():
        assert http.get(f"/static/{name}").content == web.asset(name)[0]
    for path in ("/static/nothing.js", "/static/../pyproject.toml", "/static/%2e%2e/asset.py", "/nowhere"):
        gone = http.get(path)
        assert gone.status_code == 404 and list(gone.json()) == ["error"]


# -- solving ----------------------------------------------------------------------------------------------------------


def test_one_puzzle(http, opened):
    said = http.post("/v1/models/four/solve", json={"puzzle": EASY}).json()
    assert set(said) == set(schema.SolutionBody.model_fields)
    answer = opened.task.encode(said["answer"])
    assert said["known"] and said["valid"] and said["confidence"] == 1.0 and said["pick"] == "verified"
    assert opened.task.valid_batch(opened.task.encode(EASY)[None], answer[None])[0]
    assert said["wrong"] == [] and len(said["certainty"]) == 16 and said["source"] == "model"


@pytest.mark.slow
@pytest.mark.parametrize(
    "dials",
    [
        {"depth": 16, "width": 1, "pick": "verified"},
        {"depth": 16, "width": 6, "pick": "verified", "seed": 4},
        {"depth": 16, "width": 4, "pick": "vote", "seed": 3},
        {"depth": 16, "width": 4, "pick": "residual", "views": False, "noise": [0.2, 0.2], "seed": 9},
        {"depth": 40, "width": 1, "pick": "certainty", "halting": True},
        {"depth": 260, "width": 1, "pick": "residual"},
    ],
    ids=str,
)
def test_many_puzzles_are_answered_as_by_the_solver(client, solver, puzzles, dials):
    if dials["depth"] > 100:
        puzzles = puzzles[:6]
    found = client.solve_many(puzzles, "four", **dials)
    alone = solver.solve(puzzles, **(dials | {"noise": tuple(dials.get("noise", (0.0, 0.0)))}))
    assert [s.answer for s in found] == [s.text for s in alone]
    assert [(s.known, s.valid, s.steps, s.nfe) for s in found] == [(s.known, s.valid, s.steps, s.nfe) for s in alone]
    for mine, other in zip(found, alone, strict=True):
        assert np.allclose(mine.certainty, other.certainty, atol=6e-4)
        assert bool(mine.wrong) == (not mine.valid)


def test_a_budget_of_block_calls(client, solver, puzzles):
    found = client.solve_many(puzzles, "four", depth=40, width=4, pick="residual", nfe=60)
    alone = solver.solve(puzzles, 40, 4, "residual", budget=Budget(nfe=60))
    assert [s.nfe for s in found] == [s.nfe for s in alone] and sum(s.nfe for s in found) < 70 * len(puzzles)


def test_a_deadline_answers_in_time_with_what_there_is(client, puzzles):
    began = time.monotonic()
    found = client.solve(puzzles[0], "four", seconds=1.0, **LONG)
    assert 1 <= time.monotonic() - began < 30 and 0 < found.steps < LONG["depth"]  # all its steps would take minutes


def test_what_the_model_does_not_know_the_exact_solver_does(client, opened):
    """The empty board has 288 answers; one step of a small model finds none of them, the rules do."""
    empty = "." * 16
    without = client.solve(empty, "four", depth=1)
    found = client.solve(empty, "four", depth=1, exact=True)
    assert not without.known and without.source == "model"
    assert found.known and found.source == "exact" and found.confidence == 1.0 and found.wrong == []
    assert opened.task.valid_batch(opened.task.encode(empty)[None], opened.task.encode(found.answer)[None])[0]
    clash = "11" + "." * 14
    assert exact(opened.task, opened.task.encode(clash)).status == "infeasible"
    none = client.solve(clash, "four", depth=2, exact=True)
    assert not none.known and none.source == "model" and "proved that there is no answer" in none.why


def test_check_judges_by_the_rules(client):
    right = client.solve(EASY, "four").answer
    assert client.check(EASY, right, "four") == schema.Check(valid=True, wrong=[], explanation=[])
    last = "1" if right[-1] != "1" else "2"
    judged = client.check(EASY, right[:-1] + last, "four")
    assert judged.valid is False and 15 in judged.wrong


# -- thinking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dials",
    [
        {"depth": 12, "width": 1, "pick": "verified"},
        {"depth": 12, "width": 5, "pick": "verified", "seed": 1},
        {"depth": 24, "width": 3, "pick": "first", "seed": 2},
        {"depth": 12, "width": 4, "pick": "vote", "noise": [0.3, 0.1], "halting": True},
    ],
    ids=str,
)
def test_a_stream_tells_every_step_and_ends_as_solve_answers(client, opened, puzzles, dials):
    for puzzle in (puzzles[1], puzzles[-1]):
        begin, *steps, done = client.think(puzzle, "four", **dials)
        depth, width = dials["depth"], dials["width"]
        assert begin == schema.Begin(width=width, depth=depth, rule=dials["pick"])
        every = [(k, t) for k in range(width) for t in range(1, depth + 1)]
        assert sorted((s.trajectory, s.step) for s in steps) == every
        question = opened.task.encode(puzzle)
        before = dict.fromkeys(range(width), puzzle)
        for s in steps:
            pairs = zip(before[s.trajectory], s.answer, strict=True)
            assert s.changed == [i for i, (a, b) in enumerate(pairs) if a != b]
            valid = bool(opened.task.valid_batch(question[None], opened.task.encode(s.answer)[None])[0])
            assert s.valid == valid and bool(s.wrong) == (not valid)
            before[s.trajectory] = s.answer
        for k in range(width):
            stops = [s.step for s in steps if s.trajectory == k and s.would_halt]
            assert stops == ([] if done.halts[k] is None else [done.halts[k]])
        assert [len(path) for path in done.paths] == [depth] * width
        assert 0 <= done.explained[1] <= done.explained[0] <= 1 and sum(done.explained) <= 1.001
        alone = client.solve(puzzle, "four", **dials)
        assert done.solution.model_dump(exclude={"seconds"}) == alone.model_dump(exclude={"seconds"})
        assert [score.trajectory for score in done.scores] == list(range(width))


@pytest.mark.slow
def test_where_it_would_halt_is_where_it_halts(client, puzzles):
    for puzzle in puzzles[:6]:
        halted = client.solve(puzzle, "four", depth=40, pick="certainty", halting=True)
        done = list(client.think(puzzle, "four", depth=40, pick="certainty"))[-1]
        assert done.halts == [halted.steps if halted.steps < 40 else None]


def test_a_stream_is_made_of_server_sent_events(http):
    body = {"puzzle": EASY, "depth": 3}
    with http.stream("POST", "/v1/models/four/think", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        blocks = reply.read().decode().strip().split("\n\n")
    assert [b.split("\n")[0] for b in blocks] == ["event: begin", *["event: step"] * 3, "event: done"]
    assert all(json.loads(b.split("\n")[1].removeprefix("data: ")) for b in blocks)


# -- who goes away ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["solve", "solve_many", "think"])
def test_what_nobody_waits_for_is_not_thought_about(server, http, verb):
    body = {"depth": 4096, "pick": "residual"} if verb == "think" else LONG
    route = f"/v1/models/{{name}}/{verb}"
    before = metric(http, "innerloop_cancelled_total", route=route)
    with asking(server, verb, body):
        until(lambda: metric(http, "innerloop_live_rows", model="four") > 0)
    until(lambda: metric(http, "innerloop_cancelled_total", route=route) == before + 1)
    until(lambda: metric(http, "innerloop_live_rows", model="four") == 0)
    assert metric(http, "innerloop_waiting", model="four") == 0 and metric(http, "innerloop_streams") == 0


# -- what is refused --------------------------------------------------------------------------------------------------

BAD = [
    ("/v1/models/none/solve", {"puzzle": EASY}, 404, 'no model is called "none"'),
    ("/v1/models/four/solve", {"puzzle": "12"}, 400, "2 of 16 cells: 14 missing"),
    ("/v1/models/four/solve", {"puzzle": "x" * 16}, 400, "“x” in row 1, column 1 is none of .1234"),
    ("/v1/models/four/solve", {"puzzle": EASY, "depth": 100_001}, 400, "at most 100000"),
    ("/v1/models/four/solve", {"puzzle": EASY, "width": 129}, 400, "at most 128"),
    ("/v1/models/four/solve", {"puzzle": EASY, "seconds": 61}, 400, "at most 60"),
    ("/v1/models/four/solve", {"puzzle": EASY, "pick": "value"}, 400, 'no selection rule "value"'),
    ("/v1/models/four/solve", {"puzzle": EASY, "identifier": 1}, 400, "it has 0 to 0"),
    ("/v1/models/four/solve", {"puzzle": EASY, "width": 2, "views": False, "guess": False}, 400, "same trajectory"),
    ("/v1/models/four/solve", {"puzzle": EASY, "pick": "best"}, 400, 'no selection rule "best": use one of verified'),
    ("/v1/models/four/solve", {"puzzle": EASY, "depth": "8"}, 422, "depth"),
    ("/v1/models/four/solve", {"puzzle": EASY, "dept": 8}, 422, "dept"),
    ("/v1/models/four/solve", {"puzzle": EASY, "noise": [0.1]}, 422, "noise"),
    ("/v1/models/four/solve", {"puzzle": "\ud800" * 16}, 422, "puzzle"),
    ("/v1/models/four/solve", {}, 422, "puzzle"),
    ("/v1/models/four/solve", [], 422, "body"),
    ("/v1/models/four/solve_many", {"puzzles": []}, 422, "puzzles"),
    ("/v1/models/four/solve_many", {"puzzles": [EASY] * 1001}, 413, "1000"),
    ("/v1/models/four/solve_many", {"puzzles": [EASY] * 1000, "width": 100}, 413, "queue"),
    ("/v1/models/four/solve_many", {"puzzles": [EASY, "1"]}, 400, "board 2: 1 of 16 cells: 15 missing"),
    ("/v1/models/four/think", {"puzzle": EASY, "depth": 4097}, 400, "at most 4096"),
    ("/v1/models/four/check", {"puzzle": EASY, "answer": "1"}, 400, "1 of 16 cells"),
    ("/v1/models/none/reload", None, 404, "none"),
]


@pytest.mark.parametrize(("path", "body", "status", "said"), BAD, ids=lambda v: str(v)[:40])
def test_bad_requests_are_refused_in_one_sentence(http, path, body, status, said):
    reply = http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert list(reply.json()) == ["error"] and said in reply.json()["error"] and "\n" not in reply.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"puzzle": NaN}', b"null"], ids=str)
def test_bodies_that_are_no_json(http, body):
    reply = http.post("/v1/models/four/solve", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422) and list(reply.json()) == ["error"]


def test_nothing_but_json_numbers_within_reason(http):
    for dial in ('"seconds": Infinity', '"min_confidence": NaN', '"seed": 1e300', '"noise": [0, -Infinity]'):
        text = f'{{"puzzle": "{EASY}", {dial}}}'
        reply = http.post("/v1/models/four/solve", content=text, headers={"Content-Type": "application/json"})
        assert reply.status_code == 422 and list(reply.json()) == ["error"]
    assert http.post("/v1/models/four/solve", json={"puzzle": EASY, "depth": 8.0}).status_code == 200


def test_large_bodies_are_not_read(server, http):
    large = json.dumps({"puzzle": "." * (5 << 20)})
    reply = http.post("/v1/models/four/solve", content=large, headers={"Content-Type": "application/json"})
    assert reply.status_code == 413 and "4194304 bytes" in reply.json()["error"]

    def parts():  # of a length that is not told beforehand
        for _ in range(5 << 4):
            yield b" " * (1 << 16)

    try:
        reply = http.post("/v1/models/four/solve", content=parts(), headers={"Content-Type": "application/json"})
        assert reply.status_code == 413
    except httpx.WriteError:
        pass  # it hung up in the middle, as it may
    assert http.get("/healthz").status_code == 200


def test_other_methods_and_media_types(http):
    wrong = http.get("/v1/models/four/solve")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "POST" and list(wrong.json()) == ["error"]
    text = http.post(
        "/v1/models/four/solve", content=json.dumps({"puzzle": EASY}), headers={"Content-Type": "text/plain"}
    )
    assert text.status_code == 422 and list(text.json()) == ["error"]


def test_every_error_is_described(http):
    described = http.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for kind in methods.values():
            for status, reply in kind["responses"].items():
                schema_of = reply["content"].get("application/json", {}).get("schema", {})
                if int(status) >= 400:
                    assert schema_of == {"$ref": "#/components/schemas/Error"}, (path, status)
            if "/v1/" in path:
                assert {"500", "503"} <= set(kind["responses"])
            if "{name}" in path:
                assert "404" in kind["responses"]
    events = described["paths"]["/v1/models/{name}/think"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    for kind in events["itemSchema"]["oneOf"]:
        assert kind["properties"]["data"]["contentSchema"]["$ref"].split("/")[-1] in described["components"]["schemas"]


# -- the client -------------------------------------------------------------------------------------------------------


def test_the_client_speaks_in_sentences(client, server):
    assert [m.name for m in client.models()] == ["four", "twin"]
    with pytest.raises(InputError, match="name the model"):
        client.solve(EASY)
    with pytest.raises(RequestFailed, match="2 of 16 cells") as refused:
        client.solve("12", "four")
    assert refused.value.status == 400
    with pytest.raises(RequestFailed, match="Extra inputs"):
        client.solve(EASY, "four", deph=3)
    with pytest.raises(RequestFailed, match="there is no POST"):
        list(client.think(EASY, "a/../b?c"))
    with pytest.raises(RequestFailed, match="no model"):
        client.model("\u00e4?")
    with pytest.raises(RequestFailed, match="does not answer"), Client("http://127.0.0.1:9") as nobody:
        nobody.models()
    with pytest.raises(InputError, match="is not a valid URL"):
        Client("http://here:there")
    assert not Client("http://127.0.0.1:9").ready()


def test_the_client_leaves_a_stream_and_the_server_stops(client, http):
    for event in client.think(EASY, "twin", depth=4096, pick="residual"):
        if isinstance(event, schema.StepBody):
            break
    until(lambda: metric(http, "innerloop_streams") == 0)
    until(lambda: metric(http, "innerloop_live_rows", model="twin") == 0)


# -- hot swap ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_reload_loses_nobody_and_changes_the_weights(server, client, http, run, puzzles):
    """Requests go on while a run changes under the server's feet; each answer is of the old or the new weights."""
    dials = {"depth": 6, "pick": "residual"}
    kept = (run / "model.safetensors").read_bytes()
    state = load_file(run / "model.safetensors")
    before = [s.answer for s in client.solve_many(puzzles, "four", **dials)]
    try:
        save_file({k: v + 0.3 if v.is_floating_point() else v for k, v in state.items()}, run / "model.safetensors")
        with asking(server, "solve", LONG), concurrent.futures.ThreadPoolExecutor(8) as pool:
            until(lambda: metric(http, "innerloop_live_rows", model="four") > 0)
            waiting = pool.submit(client.solve, EASY, "four", seconds=2.0, **LONG)
            asked = [pool.submit(client.solve_many, puzzles, "four", **dials) for _ in range(6)]
            loaded = client.reload("four").loaded
            asked += [pool.submit(client.solve_many, puzzles, "four", **dials) for _ in range(6)]
            found = [[s.answer for s in f.result()] for f in asked]
            assert http.post("/v1/models/four/reload").status_code == 200  # while the first is still at work
            assert waiting.result().steps > 0  # what was under way ended on the weights it had begun with
        after = [s.answer for s in client.solve_many(puzzles, "four", **dials)]
        assert before != after and all(f in (before, after) for f in found) and found[-1] == after
        assert loaded.startswith("20")
        (run / "model.safetensors").write_bytes(b"broken")
        assert http.post("/v1/models/four/reload").status_code == 400
        assert [s.answer for s in client.solve_many(puzzles, "four", **dials)] == after
    finally:
        (run / "model.safetensors").write_bytes(kept)
    client.reload("four")
    assert [s.answer for s in client.solve_many(puzzles, "four", **dials)] == before
    assert metric(http, "innerloop_requests_total", status="500") == 0


# -- starting, a full queue, and the end ------------------------------------------------------------------------------


def test_what_cannot_be_served_is_said_at_once(run, tmp_path, capsys):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    (tmp_path / "no model here").mkdir()
    for words, said in [
        ((run, "--port", port), "cannot be bound"),
        ((tmp_path / "nothing",), "there is no folder"),
        ((run, run), "two models"),
        ((f"a b={run}",), "cannot be the name"),
        ((run, "--queue", 0), "queue is 0"),
    ]:
        assert cli.main(["serve", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.strip().splitlines()) == 1, error
    taken.close()


@pytest.mark.slow
def test_a_full_queue_a_patient_client_and_the_end(run, puzzles):
    """429 with Retry-After while it is full; then SIGTERM: not ready, 503 for new ones, answers for all inside, 0."""
    with running(run, seconds=60, depth=100_000, queue=8, puzzles=8, streams=1, host="0.0.0.0") as server:
        assert "asks nobody who they are" in server.log()
        client, http = server.client, httpx.Client(base_url=server.url, timeout=60)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            with asking(server, "solve_many", LONG, 8):
                until(lambda: metric(http, "innerloop_live_rows") == 8)
                full = http.post("/v1/models/four/solve", json={"puzzle": EASY})
                assert full.status_code == 429 and 1 <= int(full.headers["retry-after"]) <= 60
                assert "8 is the limit" in full.json()["error"]
                with pytest.raises(RequestFailed, match="is the limit"), Client(server.url, patience=0) as hasty:
                    hasty.solve(EASY)
                patient = pool.submit(client.solve, EASY, depth=8)
                until(lambda: metric(http, "innerloop_requests_total", status="429") == 3)
            assert patient.result().known  # it waited until there was room
            told = client.think(EASY, depth=4096, pick="residual")
            next(told)
            busy = http.post("/v1/models/four/think", json={"puzzle": EASY})
            assert busy.status_code == 429 and "1 streams are open" in busy.json()["error"]
            told.close()
            until(lambda: metric(http, "innerloop_streams") == 0)

            inside = [pool.submit(client.solve, p, seconds=4.0, **LONG) for p in puzzles[:4]]
            until(lambda: metric(http, "innerloop_live_rows") == 4)
            server.process.terminate()
            until(lambda: http.get("/readyz").status_code == 503)
            late = http.post("/v1/models/four/solve", json={"puzzle": EASY})
            assert late.status_code == 503 and "shutting down" in late.json()["error"] and "retry-after" in late.headers
            assert http.get("/healthz").status_code == 200
            assert all(f.result().steps > 0 for f in inside)
        http.close()
        assert server.stop() == 0 and "Traceback" not in server.log()


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_the_grace_is_bounded_and_a_second_signal_ends_it(run, signals):
    """A client that never sends all of its request keeps nobody waiting for long either."""
    grace = {1: 1, 2: 60}[signals]
    with (
        running(run, seconds=60, depth=100_000, grace=grace) as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
        asking(server, "solve", LONG),
    ):
        found = pool.submit(server.client.solve, EASY, **LONG)
        stream = pool.submit(lambda: list(server.client.think(EASY, depth=4096, pick="residual")))
        half = contextlib.nullcontext() if signals == 1 else stalled(server)
        with httpx.Client(base_url=server.url) as http, half:
            until(lambda: metric(http, "innerloop_live_rows") == 3)
            began = time.monotonic()
            for _ in range(signals):
                server.process.terminate()
                until(lambda: http.get("/readyz").status_code == 503)
            assert found.result().steps > 0  # with what it had by then
            assert isinstance(stream.result()[-1], schema.Done)
            assert server.stop() == 0
        assert time.monotonic() - began < 45  # not the 60 seconds they had


@contextlib.contextmanager
def stalled(server):
    """A request of which half has come."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        head = "POST /v1/models/four/solve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        sock.sendall(f'{head}Content-Length: 100\r\n\r\n{{"puz'.encode())
        yield
