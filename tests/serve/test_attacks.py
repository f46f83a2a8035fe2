"""What somebody who means no good sends: connections, bodies, other sites' requests, pipes; each in short."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import httpx
import pytest

from innerloop import pretrained
from innerloop.errors import InputError
from innerloop.serve import access, body, connections, server
from innerloop.serve.access import AccessState
from innerloop.serve.app import create_app
from innerloop.serve.metrics import Metrics
from innerloop.serve.models import Limits, Registry
from innerloop.serve.origin import AllowedHosts
from innerloop.serve.server import Server, bind

EASY = "1.3.34.2.1.34.2."
MODEL = "/v1/models/demo-sudoku4"
JSON = {"Content-Type": "application/json"}
HEAD = b"POST /v1/models/demo-sudoku4/solve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def short():
    """Times that a test can wait for."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HEAD_TIMEOUT": 0.4,
            "KEEP_ALIVE": 0.9,
            "LINGER_TIMEOUT": 0.3,
            "WRITE_TIMEOUT": 1.0,
        }.items():
            patch.setattr(connections, name, value)
        patch.setattr(access, "FIRST_SECONDS", 0.4)
        patch.setattr(server, "SWEEP_TICKS", 1)
        yield


@contextlib.contextmanager
def serving(**limits):
    """A server in a thread of this process."""
    sock = bind("127.0.0.1", 0)
    metrics, access = Metrics(), AccessState()
    registry = Registry(pretrained.open, Limits(**limits), metrics.on_step)
    made = Server(create_app(registry, access, metrics), registry, access, 1.0)
    try:
        registry.add("demo-sudoku4")
        thread = threading.Thread(target=lambda: made.run(sockets=[sock]))
        thread.start()
        while not made.started:
            time.sleep(0.01)
        made.at = sock.getsockname()
        made.url = f"http://127.0.0.1:{made.at[1]}"
        yield made
    finally:
        made.should_exit = True
        thread.join()
        registry.close()
        sock.close()


@pytest.fixture(scope="module")
def served(short):
    with serving(connections=20) as made:
        yield made


@pytest.fixture
def http(served):
    with httpx.Client(base_url=served.url, timeout=20) as made:
        yield made


def connect(served, sent=b""):
    sock = socket.create_connection(served.at)
    sock.settimeout(10)
    sock.sendall(sent)
    return sock


def received(sock):
    """All that comes until the server closes."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            said += part
    return said


# -- connections ------------------------------------------------------------------------------------------------------

STALE = {
    "silent": (b"", b"", 0.4, b""),
    "half a head": (HEAD, b"", 0.4, b""),
    "a head that drips": (HEAD + b"X: ", b"x", 0.4, b""),
    "half a body": (HEAD + b"Content-Length: 500\r\n\r\n{", b"", 0.4, b"408"),
    "a body that drips": (HEAD + b"Content-Length: 500\r\n\r\n{", b" ", 0.4, b"408"),
    "chunks that drip": (CHUNKED, b"1\r\n \r\n", 0.4, b"408"),
    "silence after an answer": (HEALTH + b"\r\n", b"", 0.9, b"200"),
    "a body that nobody reads": (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n",
        b"x",
        0.3,
        b"200",
    ),
}


@pytest.mark.parametrize("kind", STALE)
def test_who_keeps_others_waiting_is_closed(served, kind):
    first, drip, seconds, said = STALE[kind]
    began, sock = time.monotonic(), connect(served, first)
    stop = threading.Event()

    def dripping():
        with contextlib.suppress(OSError):
            while drip and not stop.wait(0.05):
                sock.sendall(drip)

    thread = threading.Thread(target=dripping)
    thread.start()
    try:
        answer = received(sock)
    finally:
        stop.set()
        thread.join()
        sock.close()
    assert seconds <= time.monotonic() - began < seconds + 2.5
    assert said in answer and (said or not answer)


def test_who_does_not_read_is_closed(served):
    """More is asked for than the buffers on the way hold; without an end to it the server would wait for ever."""
    with connect(served, b"GET /static/standalone.html HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100):
        until(lambda: any(c.unsent_bytes for c in list(served.pool.members)))
        (stuck,) = [c for c in list(served.pool.members) if c.unsent_bytes]
        until(lambda: stuck not in served.pool.members)


def until(what, seconds=8.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_where_all_places_are_taken_those_who_wait_make_room(served, http):
    idle = [connect(served) for _ in range(60)]
    try:
        began = time.monotonic()
        for _ in range(5):
            with httpx.Client(base_url=served.url) as other:
                assert other.post(f"{MODEL}/solve", json={"puzzle": EASY}).status_code == 200
        assert time.monotonic() - began < 2 and len(served.pool.members) <= 20
    finally:
        for sock in idle:
            sock.close()


def test_whose_request_is_under_way_keeps_the_place(served):
    """As many as there are places wait for an answer; a newcomer waits, and is let in when one is done."""
    text = json.dumps({"puzzle": EASY, "depth": 1000, "pick": "residual", "seconds": 0.8}).encode()
    asked = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connect(served, asked)) for _ in range(20)]
        until(lambda: sum(c.is_answering for c in list(served.pool.members)) == 20)
        late = stack.enter_context(
            connect(served, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        )
        assert b"200 OK" in received(late)
        assert all(b"200 OK" in received(sock) for sock in busy)


def test_nobody_loses_a_place_that_nobody_asks_for(served):
    """Exactly as many connections as there are places, all at once: each of them stays."""
    until(lambda: not served.pool.members)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(served, HEALTH + b"\r\n"))
        until(lambda: len(served.pool.members) == 20)


class Scarce:
    """A socket for which the system has no descriptors left for a while."""

    def __init__(self, sock, times):
        self.sock, self.times = sock, times

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def accept(self):
        if self.times:
            self.times -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self.sock.accept()


def test_without_descriptors_it_waits_and_does_not_spin(served, http, caplog):
    listener = served.servers[0]
    listener._last_warning = -connections.LOG_INTERVAL
    listener.sock = scarce = Scarce(listener.sock, 3)
    try:
        began = time.monotonic()
        assert http.get("/healthz").status_code == 200
        seconds = time.monotonic() - began
    finally:
        listener.sock = scarce.sock
    assert 3 * connections.ACCEPT_RETRY_SECONDS <= seconds < 3 and scarce.times == 0
    assert [r.getMessage().startswith("cannot accept connections (Too many") for r in caplog.records] == [True]


def test_room_is_left_for_files(monkeypatch):
    monkeypatch.setattr(connections.resource, "getrlimit", lambda what: (64, 64))
    monkeypatch.setattr(connections.os, "listdir", lambda path: range(20))
    assert (
        connections.connection_limit(512) == 64 - 20 - connections.SPARE_DESCRIPTORS
        and connections.connection_limit(5) == 5
    )
    monkeypatch.setattr(connections.os, "listdir", lambda path: range(60))
    assert connections.connection_limit(512) == connections.MIN_CONNECTIONS


@pytest.mark.parametrize(
    "sent",
    [b"\x00\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", HEAD + b"X: " + b"x" * 70_000, HEAD + b"Content-Length: -1\r\n\r\n",
     CHUNKED + b"z\r\n", CHUNKED + b"1\r\n \r\n" * 5000],
    ids=["zero", "no host", "long head", "length", "chunk", "chunks"],
)  # fmt: skip
def test_what_is_no_http_is_answered_in_json_and_not_logged(served, sent, caplog):
    with connect(served, sent) as sock:
        head, _, text = received(sock).partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0] and list(json.loads(text)) == ["error"]
    assert caplog.records == []


# -- bodies -----------------------------------------------------------------------------------------------------------

MANY = 2_000_000
BOMBS = {
    "values": (b'{"puzzles": [' + b"0," * MANY + b"0]}", body.TooManyValues),
    "fields": (b"{" + b",".join(b'"a%d":0' % i for i in range(300_000)) + b"}", body.TooManyValues),
    "strings": (b'["' + b'","' * 1_300_000 + b'"]', body.TooManyValues),
    "quotes": (b'"' * 4_000_000, body.TooManyValues),
    "lists": (b"[" + b"[]," * 1_000_000 + b"0]", body.Malformed),
    "depth": (b"[" * 100_000, body.Malformed),
    "digits": (b'{"depth": ' + b"9" * 5000 + b"}", body.Malformed),
    "utf-16": ('{"puzzles": [' + "0," * 1_000_000 + "0]}").encode("utf-16"),
    "marks in a text": (json.dumps({"puzzle": ',[{:"\\' * 500_000}).encode(), None),
}
BOMBS["utf-16"] = (BOMBS["utf-16"], body.Malformed)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_body_costs_little_before_it_is_known_to_be_one(kind):
    text, error = BOMBS[kind]
    began = time.process_time()
    with pytest.raises(error) if error else contextlib.nullcontext():
        body.parse(text, body.Bounds(1000))
    assert time.process_time() - began < 0.25  # 20 s and 2.7 GB once; alone some 30 ms


@pytest.mark.parametrize("text", ["{}", '{"a": "\\\\", "b": [1, 2]}', '"\\""', '{"puzzles": ["a,b", "c:d"]}', "3"])
def test_counting_leaves_what_is_read_as_it_is(text):
    assert body.parse(text.encode(), body.Bounds(0)) == json.loads(text)
    assert body.count_values(text, 9) == (text.count("[") + text.count("{"), body.count_values(text, 9)[1])
    assert body.count_values(text, 9)[1] <= 6


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (BOMBS["values"][0], 413, "more than 1064 values"),
        (b"[" * 100_000, 422, "16 lists"),
        (b'{"puzzle": "1", "depth": ' + b"9" * 5000 + b"}", 422, "digits"),
        (b'{"puzzle": "1", "depth": ' + b"9" * 4000 + b"}", 422, "depth"),
        (b'{"puzzle": "1", "' + b"k" * 1_000_000 + b'": 0}', 422, "Extra inputs"),
        (b'{"puzzle": "1", "a\\n\\u202eb": 0}', 422, "Extra inputs"),
        (b'{"puzzle": "' + b"1" * 1_000_000 + b'"}', 400, "too long"),
        (b'{"puzzle": "' + EASY.encode() + b'", "pick": "' + b"evil" * 10_000 + b'"}', 400, "no selection rule"),
    ],
    ids=["values", "depth", "digits", "number", "field", "escapes", "puzzle", "pick"],
)
def test_errors_are_short_and_one_sentence(http, text, status, said):
    reply = http.post(f"{MODEL}/solve", content=text, headers=JSON)
    error = reply.json()["error"]
    assert reply.status_code == status and list(reply.json()) == ["error"] and said in error
    assert len(error) < 600 and error.isprintable()


def test_a_bomb_is_refused_before_all_of_it_is_here(served):
    with connect(served, HEAD + b"Content-Length: 4000000\r\n\r\n" + BOMBS["values"][0][:200_000]) as sock:
        assert b" 413 " in sock.recv(100)


def test_a_wrong_rule_is_answered_with_those_that_there_are(http):
    rules = http.get("/v1/models").json()["models"][0]["rules"]
    for pick in ("evil", "value"):
        said = http.post(f"{MODEL}/solve", json={"puzzle": EASY, "pick": pick})
        assert said.status_code == 400 and said.json()["error"].endswith(f"use one of {', '.join(rules)}, or auto")
    for pick in [*rules, "auto"]:
        assert http.post(f"{MODEL}/solve", json={"puzzle": EASY, "pick": pick, "depth": 4}).status_code == 200


def test_large_bodies_share_what_memory_they_may_take(served, http, monkeypatch):
    monkeypatch.setattr(served.access, "large_body_bytes", access.MAX_LARGE_BODIES * served.registry.limits.body)
    assert http.post(f"{MODEL}/solve", json={"puzzle": EASY, "depth": 4}).status_code == 200
    full = http.post(f"{MODEL}/solve", content=b" " * 100_000 + b"{}", headers=JSON)
    assert full.status_code == 429 and full.headers["retry-after"] == "1"
    monkeypatch.undo()
    assert served.access.large_body_bytes == 0


# -- other sites ------------------------------------------------------------------------------------------------------

LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FRAME = {**LINK, "sec-fetch-dest": "iframe"}
HERE = "127.0.0.1:8000"
ASKED = [  # (bound, allowed, method, headers, let in)
    ("127.0.0.1", (), "GET", {"host": HERE}, True),
    ("127.0.0.1", (), "GET", {"host": "localhost:8000"}, True),
    ("127.0.0.1", (), "GET", {"host": "LOCALHOST."}, True),
    ("127.0.0.1", (), "GET", {"host": "[::1]:8000"}, True),
    ("127.0.0.1", (), "GET", {}, True),  # HTTP/1.0, which no browser speaks
    ("127.0.0.1", (), "GET", {"host": "rebind.example:8000"}, False),
    ("127.0.0.1", (), "GET", {"host": "127.0.0.1.rebind.example"}, False),
    ("127.0.0.1", (), "GET", {"host": "localhost.rebind.example"}, False),
    ("127.0.0.1", (), "GET", {"host": "10.0.0.5:8000"}, False),
    ("127.0.0.1", (), "GET", {"host": ""}, False),
    ("0.0.0.0", (), "GET", {"host": "10.0.0.5:8000"}, True),
    ("0.0.0.0", (), "GET", {"host": "rebind.example"}, False),
    ("lab.example", (), "GET", {"host": "lab.example:80"}, True),
    ("0.0.0.0", ("puzzles.example",), "GET", {"host": "Puzzles.example"}, True),
    ("0.0.0.0", ("*",), "GET", {"host": "anything.example"}, True),
    ("127.0.0.1", (), "POST", {"host": HERE, "origin": f"http://{HERE}"}, True),
    ("127.0.0.1", (), "POST", {"host": HERE, "origin": "http://127.0.0.1:3000"}, False),
    ("127.0.0.1", (), "POST", {"host": HERE, "origin": "http://evil.example"}, False),
    ("127.0.0.1", (), "POST", {"host": HERE, "origin": "null"}, False),
    ("127.0.0.1", ("a.example",), "POST", {"host": HERE, "origin": "https://a.example"}, True),
    ("127.0.0.1", ("*",), "POST", {"host": HERE, "origin": "https://a.example"}, False),
    ("127.0.0.1", (), "POST", {"host": HERE, "sec-fetch-site": "same-origin"}, True),
    ("127.0.0.1", (), "GET", {"host": HERE, "sec-fetch-site": "none"}, True),
    ("127.0.0.1", (), "GET", {"host": HERE, "sec-fetch-site": "same-site"}, False),
    ("127.0.0.1", (), "POST", {"host": HERE, "sec-fetch-site": "cross-site"}, False),
    ("127.0.0.1", (), "GET", {"host": HERE, **LINK}, True),
    ("127.0.0.1", (), "POST", {"host": HERE, **LINK}, False),
    ("127.0.0.1", (), "GET", {"host": HERE, **FRAME}, False),
]


@pytest.mark.parametrize(("bound", "allowed", "method", "headers", "let_in"), ASKED, ids=str)
def test_which_requests_a_browser_may_bring(bound, allowed, method, headers, let_in):
    given = {name.encode(): value.encode() for name, value in headers.items()}
    assert (AllowedHosts(bound, allowed).refusal(method, "/v1/models", given) == "") == let_in


@pytest.mark.parametrize("name", ["a b", "http://a.example", "", "a.example:80"])
def test_a_name_that_is_none(name):
    with pytest.raises(InputError, match="--allow-host"):
        AllowedHosts("127.0.0.1", [name])


def test_no_website_drives_the_server(served, http):
    loaded = served.registry.get("demo-sudoku4")
    for path in ("/", "/v1/models", MODEL, "/metrics", "/static/app.js"):
        rebound = http.get(path, headers={"Host": "rebind.example"})
        assert rebound.status_code == 403 and "--allow-host" in rebound.json()["error"]
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "rebind.example"}):
        refused = http.post(f"{MODEL}/reload", headers=headers)
        assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers
    assert served.registry.get("demo-sudoku4") is loaded
    assert http.get("/healthz", headers={"Host": "balancer.example"}).status_code == 200


def test_nothing_that_is_sent_is_framed_sniffed_or_read_elsewhere(http):
    for path in ("/", "/v1/models", "/healthz", "/nowhere", "/static/app.js", "/openapi.json"):
        headers = http.get(path).headers
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "unsafe" not in headers["content-security-policy"] and "access-control-allow-origin" not in headers


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_pipe_or_odd_values_in_a_run_keep_nobody_waiting(served, http, tmp_path):
    from innerloop.export.hub import save_folder

    folder = tmp_path / "odd"
    save_folder(pretrained.open("demo-sudoku4"), folder)
    (folder / "calibration.json").unlink(missing_ok=True)
    try:
        served.registry.add(str(folder))
        for bad in ('{"rows": {}}', '{"rows": [3, {"depth": "x"}]}', "[]", "[" * 100_000, "{" * 5, "1" * 5000, "\xff"):
            (folder / "eval.json").write_text(bad, encoding="latin-1")
            (folder / "study.json").write_text(json.dumps({"dimension": {"trained": {"z": [3], "y": 4}}}))
            said = http.get("/v1/models/odd")
            assert said.status_code == 200 and said.json()["curves"]["depth"] == []
            assert "eval.json" in said.json()["born"]["left out"] and "study.json" in said.json()["born"]["left out"]
        for name in ("eval.json", "calibration.json", "run.json", "model.safetensors"):
            (folder / name).unlink(missing_ok=True)
            os.mkfifo(folder / name)
            assert http.get("/v1/models/odd").status_code == 200
            again = http.post("/v1/models/odd/reload")
            assert again.status_code == 400 and "pipe" in again.json()["error"]
            (folder / name).unlink()
            (folder / name).write_text("{}")
        (folder / "calibration.json").write_text('{"rules": {"vote": {"rule": "vote", "curve": 3}}}')
        assert http.post("/v1/models/odd/reload").status_code == 400
    finally:
        served.registry.served.pop("odd", None)


# -- a process of its own ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_in_which_something_hangs_ends_all_the_same():
    script = """
        import asyncio, os, threading, time
        from innerloop.serve import server
        from innerloop.serve.access import AccessState
        from innerloop.serve.models import Limits, Registry
        server.CLOSE_TIMEOUT, server.HANG_TIMEOUT = 0.2, 0.3

        async def app(scope, receive, send):
            time.sleep(3600)  # the event loop itself

        made = server.Server(app, Registry(None, Limits()), AccessState(), 0.5, lambda: print("ready", flush=True))
        sock = server.bind("127.0.0.1", 0)
        print(sock.getsockname()[1], flush=True)
        made.run(sockets=[sock])
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stdout.readline())
        assert process.stdout.readline() == "ready\n"
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 1 and "hangs, so the process exits" in said
