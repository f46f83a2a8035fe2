"""Models to hand on: one file, a folder with a card, a repository; what comes back answers bit for bit as before."""

import base64
import hashlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from innerloop import cli, pretrained, tasks
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.export import hub as sharing
from innerloop.export.card import card
from innerloop.runs.folder import open_run
from innerloop.runs.single import CHECKSUM_KEY, FORMAT_KEY, TEXTS, digest, open_single, read_attached, read_texts

ROOT = Path(__file__).resolve().parents[2]
PUZZLE = "1.3.34.2.1.34.2."
CHANGES = ["plan.steps=100", "plan.check_every=100", "plan.save_every=100", "plan.warmup=10", "data.holdout=60"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run that was trained and evaluated."""
    path = tmp_path_factory.mktemp("pretrained") / "mine"
    assert cli.main(["train", "sudoku4_trm", "--out", str(path), "--device", "cpu", "--set", *CHANGES]) == 0
    assert cli.main(["eval", str(path), "--depth", "1,8", "--device", "cpu"]) == 0
    return path


@pytest.fixture
def single(folder, tmp_path):
    path = tmp_path / "mine.safetensors"
    sharing.save_single(open_run(folder), path)
    return path


@torch.no_grad()
def answers(opened, rows=64, depth=8):
    """Logits of some puzzles."""
    inputs = torch.from_numpy(opened.task.make(rows, 5).inputs.astype(np.int64))
    return think(opened.loop, Question(inputs, torch.zeros(rows, dtype=torch.long)), depth).answer.logits


def one_sentence(told):
    assert "\n" not in str(told.value) and len(str(told.value)) < 400
    return str(told.value)


# -- one file ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_single_file_is_the_run(folder, single):
    was, found = open_run(folder), open_single(single)
    assert torch.equal(answers(was), answers(found))
    assert found.run == was.run and found.task.options == was.task.options and found.folder == single
    assert all(torch.equal(a, b) for a, b in zip(was.loop.parameters(), found.loop.parameters(), strict=True))
    with safe_open(single, "pt") as file:
        metadata = file.metadata()
    for name in ("run.json", "config.json", "result.json", "eval.json"):
        assert json.loads(metadata[name]) == json.loads((folder / name).read_text()), name
        assert read_attached(found, name) == json.loads((folder / name).read_text())
    assert read_attached(found, "calibration.json") is None
    assert {"command", "commit", "seeds", "device", "torch"} <= set(json.loads(metadata["run.json"])["born"])


def test_a_file_of_a_file_is_the_same(single, tmp_path):
    again = tmp_path / "again.safetensors"
    sharing.save_single(open_single(single), again)
    assert read_texts(again) == read_texts(single)
    assert torch.equal(answers(open_single(single)), answers(open_single(again)))


@pytest.mark.slow
def test_half_the_size_where_no_answer_changes(tmp_path, capsys):
    """A run that computes in bfloat16 loses nothing by storing its weights so."""
    folder, single, path = (tmp_path / name for name in ("run", "single.safetensors", "half.safetensors"))
    small = ["plan.steps=4", "plan.batch=8", "plan.depths=2", "data.holdout=8", "config.net.hidden_size=32"]
    small += ["config.thoughts=1", "config.dtype=bfloat16"]
    assert cli.main(["train", "sudoku4_trm", "--out", str(folder), "--device", "cpu", "--set", *small]) == 0
    sharing.save_single(open_run(folder), single)
    assert cli.main(["export", str(folder), "--single", str(path), "--dtype", "bfloat16"]) == 0
    assert "all 500 answers at depth 8 are as before" in capsys.readouterr().out
    texts = sum(len(text) for text in read_texts(path).values())
    weights = (folder / "model.safetensors").stat().st_size
    assert path.stat().st_size < 0.6 * weights + 2 * texts < single.stat().st_size
    was, found = open_run(folder), open_single(path)
    assert {p.dtype for p in found.loop.parameters()} == {torch.float32}
    assert sharing.count_changed(was, found, was.task.make(100, 9), 8) == 0
    assert torch.equal(answers(sharing.stored_copy(was, "bfloat16")), answers(found)), "stored is not what was tried"


@pytest.mark.slow
def test_narrower_weights_that_change_answers_are_refused(folder, tmp_path, monkeypatch):
    """Here the format is one that takes a quarter of every weight away."""
    monkeypatch.setattr(sharing, "cast", lambda v, dtype: v * 0.75 if v.ndim > 1 else v)
    path = tmp_path / "x.safetensors"
    was = open_run(folder)
    assert sharing.count_changed(was, sharing.stored_copy(was, "bfloat16"), was.task.make(60, 9), 8) > 0
    assert cli.main(["export", str(folder), "--single", str(path), "--dtype", "bfloat16"]) == 2
    assert not path.exists()


def test_names_and_dtypes_are_checked(folder, tmp_path):
    was = open_run(folder)
    with pytest.raises(InputError, match="does not end in"):
        sharing.save_single(was, tmp_path / "model.bin")
    with pytest.raises(InputError, match='not stored as "int8"'):
        sharing.save_single(was, tmp_path / "m.safetensors", "int8")


def rewritten(single, path, metadata=None, state=None):
    """The file with other metadata, or other tensors."""
    with safe_open(single, "pt") as file:
        held, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    held |= metadata or {}
    save_file(tensors if state is None else state, path, {k: v for k, v in held.items() if v is not None})
    return path


def test_damaged_and_foreign_files_say_so_in_one_sentence(single, tmp_path):
    data, bad = single.read_bytes(), tmp_path / "bad.safetensors"

    def told(match, source=bad):
        with pytest.raises(InputError, match=match) as error:
            open_single(source)
        assert source.name in one_sentence(error)

    bad.write_bytes(data[:-100])
    told("damaged")
    bad.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    told("checksum")
    bad.write_bytes(b"\x80\x04 a pickle, perhaps")
    told("not a safetensors file")
    bad.write_bytes(b"")
    told("not a safetensors file")
    save_file({"w": torch.zeros(3)}, bad)
    told("weights but no run")
    rewritten(single, bad, {FORMAT_KEY: "2"})
    told("install a later one")
    rewritten(single, bad, {"run.json": "{"})
    told("no JSON")
    rewritten(single, bad, {"run.json": '{"run": {"system": "nobody"}}'})
    told("no system is called")
    other = {"w": torch.zeros(3)}
    rewritten(single, bad, {CHECKSUM_KEY: digest(other)}, other)
    told("another configuration")
    told("check the path", tmp_path / "none.safetensors")


def test_a_file_is_written_whole_or_not_at_all(folder, single, monkeypatch):
    before = single.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        sharing.save_single(open_run(folder), single)
    assert single.read_bytes() == before
    assert [p.name for p in single.parent.iterdir()] == [single.name]


# -- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_run_knows(folder):
    opened = open_run(folder)
    text = sharing.model_texts(opened)["README.md"]
    for row in json.loads((folder / "eval.json").read_text())["rows"]:
        assert f"| {row['depth']} | 1 | none | 60 | {row['exact']:.1%} |" in text
    born = json.loads((folder / "eval.json").read_text())["born"]
    trained = json.loads((folder / "run.json").read_text())["born"]
    for certificate in (born, trained):
        assert f"| command | `{certificate['command']}` |" in text
        assert not certificate["commit"] or f"| commit | `{certificate['commit']}` |" in text
    assert f"| parameters | {sum(p.numel() for p in opened.loop.parameters()):,} |" in text
    assert "[arXiv 2510.04871](https://arxiv.org/abs/2510.04871)" in text
    assert "| learned from | 240 puzzles, generated by the task, seed 0 |" in text
    head = ["Use", "What it is", "Data", "Results", "Birth certificate", "Limits"]
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == head
    question = shlex.split(next(line for line in text.splitlines() if line.startswith("innerloop solve")))[-1]
    assert opened.task.encode(question).shape == (16,)
    data = pytest.importorskip("huggingface_hub").ModelCard(text).data
    assert data.library_name == "innerloop" and {"trm", "sudoku"} <= set(data.tags)


def test_a_card_says_what_chose_the_weights_and_what_was_held_out(folder):
    opened = open_run(folder)
    notes = {n: json.loads((folder / n).read_text()) for n in ("run.json", "result.json", "eval.json")}
    own = card(opened, notes)
    assert "60 validation puzzles, which chose the weights, sudoku generated with seed 1000003:" in own
    assert "No test set was evaluated" in own
    other = card(opened, notes | {"eval.json": notes["eval.json"] | {"data": "others.csv"}})
    assert "60 puzzles of others.csv:" in other and "No test set was evaluated" not in other
    row = {"level": "all", "depth": 16, "puzzles": 9, "exact": 0.5, "low": 0.3, "high": 0.7}
    held = {"source": "x.csv", "puzzles": 9, "levels": {"singles": 0.25, "beyond": 0.75}, "rows": [row]}
    text = card(opened, notes | {"difficulty": [held]})
    assert "| x.csv | 9 | 25% | 75% | 50.0% (30 to 70) |" in text and "No test set was evaluated" not in text


def test_a_system_of_our_own_cites_no_paper_as_its_own():
    text = card(pretrained.open("demo-sudoku4"), {"run.json": {}})
    line = next(x for x in text.splitlines() if x.startswith("| system |"))
    own, _, built = line.partition("No paper; it builds on ")
    assert "arXiv" not in own and "TRM ([arXiv 2510.04871]" in built and "URM ([arXiv 2512.14693]" in built


def test_a_card_without_results_says_that_there_are_none(folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("run.json", "config.json", "model.safetensors"):
        (bare / name).write_bytes((folder / name).read_bytes())
    text = sharing.model_texts(open_run(bare))["README.md"]
    assert "No evaluation is recorded" in text and "No test set was evaluated" in text


# -- a folder and a repository ----------------------------------------------------------------------------------------


def test_save_and_from_pretrained_are_bit_equal(folder, tmp_path):
    pytest.importorskip("huggingface_hub")
    was, out = open_run(folder), tmp_path / "out"
    sharing.Pretrained(was).save_pretrained(out)
    held = {p.name for p in out.iterdir()}
    assert held == {"run.json", "config.json", "model.safetensors", "result.json", "eval.json", "README.md"}
    found = sharing.Pretrained.from_pretrained(out)
    assert torch.equal(answers(was), answers(found.opened))
    assert (found.run, found.task.name) == (was.run, "sudoku") and not found.loop.training
    assert cli.main(["solve", str(out), PUZZLE, "--quiet", "--device", "cpu"]) == 0
    (out / "README.md").write_text("mine")
    found.save_pretrained(out)
    assert (out / "README.md").read_text() == "mine", "a card that somebody wrote stays"
    found.save_pretrained(tmp_path / "next")
    assert (tmp_path / "next/README.md").read_text() == "mine"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as its client needs to create, commit to, list and read one repository."""

    files: dict = {}  # noqa: RUF012 -- one server a test
    seen: list = []  # noqa: RUF012
    commit = "a" * 40

    def log_message(self, *_):
        self.seen.append((self.command, self.path, self.headers.get("Authorization")))

    def say(self, value, status=200):
        self.send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def send(self, data, status, headers, body=True):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def received(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def do_POST(self):
        body, here = self.received(), f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            return self.say({"url": f"{here}/me/model"})
        if "/preupload/" in self.path:
            plain = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.say({"files": plain})
        if "/commit/" in self.path:
            for entry in map(json.loads, body.splitlines()):
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self.say({"commitOid": self.commit, "commitUrl": f"{here}/me/model/commit/{self.commit}"})
        return self.say({"errors": [], "warnings": []})  # of the card's front matter

    def do_GET(self, body=True):
        if "/resolve/" not in self.path:
            if "/tree/" in self.path:
                rows = [{"type": "file", "path": k, "size": len(v), "oid": "0"} for k, v in self.files.items()]
                return self.say(rows)
            return self.say({"id": "me/model", "sha": self.commit, "siblings": [{"rfilename": k} for k in self.files]})
        name = self.path.split("/resolve/")[1].partition("/")[2].partition("?")[0]
        if name not in self.files:
            return self.send(b"", 404, {"X-Error-Code": "EntryNotFound"})
        data = self.files[name]
        tag = {"X-Repo-Commit": self.commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        return self.send(data, 200, tag, body)

    def do_HEAD(self):
        self.do_GET(body=False)


@pytest.fixture
def hub():
    Hub.files, Hub.seen = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def client(code, home, endpoint, **more):
    """Run code in a process of its own, whose hub is at `endpoint`: the client reads that once, when it is imported."""
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=ROOT, timeout=120)


@pytest.mark.slow
def test_push_to_hub_and_back(folder, hub, tmp_path):
    """The real client against a hub on this machine: what was pushed is what is fetched, to the last bit."""
    pytest.importorskip("huggingface_hub")
    env = {"HF_TOKEN": "hf_of_a_test"}
    words = ["export", str(folder), "--hub", "me/model"]
    pushed = client(f"from innerloop import cli; raise SystemExit(cli.main({words!r}))", tmp_path / "a", hub, **env)
    assert pushed.returncode == 0 and f"{hub}/me/model/commit/{Hub.commit}" in pushed.stdout, pushed.stderr
    assert ("POST", "/api/models/me/model/commit/main", "Bearer hf_of_a_test") in Hub.seen
    assert set(Hub.files) == {*TEXTS, "model.safetensors"} - {"calibration.json", "identifiers.json"}
    assert Hub.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert Hub.files["README.md"].decode() == sharing.model_texts(open_run(folder))["README.md"]
    code = f"""
from innerloop.export.hub import Pretrained, save_single
save_single(Pretrained.from_pretrained("me/model").opened, {str(tmp_path / "back.safetensors")!r})
"""
    fetched = client(code, tmp_path / "b", hub)
    assert fetched.returncode == 0, fetched.stderr
    was, back = open_run(folder), open_single(tmp_path / "back.safetensors")
    assert back.run == was.run and torch.equal(answers(was), answers(back))


@pytest.mark.slow
def test_a_hub_that_does_not_answer(folder, tmp_path):
    pytest.importorskip("huggingface_hub")
    code = """
from innerloop.errors import InputError
from innerloop.export.hub import Pretrained
try:
    Pretrained.from_pretrained("me/model")
except InputError as error:
    print(error)
"""
    done = client(code, tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert done.stdout.startswith("the hub could not serve me/model") and done.stdout.count("\n") == 1, done.stderr


def test_without_the_extra(monkeypatch):
    sharing.hub_class.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'innerloop\[hub\]'"):
        _ = sharing.Pretrained
    sharing.hub_class.cache_clear()
    with pytest.raises(AttributeError):
        _ = sharing.Nothing


# -- models that come along -------------------------------------------------------------------------------------------


def test_models_are_opened_by_name_by_file_and_by_folder(folder, single, monkeypatch, tmp_path, capsys):
    shelf = tmp_path / "shelf"
    assert cli.main(["export", str(folder), "--single", str(shelf / "demo-sudoku4.safetensors")]) == 0
    monkeypatch.setattr(pretrained, "FOLDER", shelf)
    monkeypatch.chdir(tmp_path)
    assert pretrained.names() == ["demo-sudoku4"]
    want = answers(open_run(folder))
    for source in ("demo-sudoku4", single, str(single), folder):
        assert torch.equal(answers(pretrained.open(source)), want)
    assert pretrained.card("demo-sudoku4").startswith("---\nlibrary_name: innerloop\n")
    capsys.readouterr()
    assert cli.main(["solve", "demo-sudoku4", PUZZLE, "--quiet", "--device", "cpu"]) == 0
    told = capsys.readouterr().out.splitlines()[0]
    assert cli.main(["solve", str(folder), PUZZLE, "--quiet", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == told
    with pytest.raises(InputError, match='did you mean "demo-sudoku4"'):
        pretrained.open("demo-sudoku5")
    assert cli.main(["solve", "quite-another", PUZZLE]) == 2
    assert "give the folder of a run, such as runs/demo, or a model that comes along" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "demo-sudoku9")) for n in pretrained.names()]
)
def test_every_model_that_comes_along(name):
    """Under 4 MB, with a card that has results, and right on most puzzles of its own kind."""
    opened = pretrained.open(name)
    assert opened.folder.stat().st_size < pretrained.MAX_FILE_BYTES
    assert "No evaluation is recorded" not in pretrained.card(name)
    found = opened.task.make(50, 77_000_001)
    with torch.no_grad():
        x = Question(torch.from_numpy(found.inputs.astype(np.int64)), torch.zeros(50, dtype=torch.long))
        tokens = think(opened.loop, x, 32).answer.logits.argmax(-1).numpy().astype(np.uint8)
    assert opened.task.valid_batch(found.inputs, tokens).mean() > 0.8


# -- the Space --------------------------------------------------------------------------------------------------------


@pytest.fixture
def space(single, monkeypatch):
    monkeypatch.setenv("MODEL", str(single))
    spec = importlib.util.spec_from_file_location("space_app", ROOT / "examples/space/app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    return app


def test_the_space_shows_every_step(space, single):
    name = space.choices()[0]
    assert name == str(single) and len(space.another(name)) == 16
    boards = space.thoughts(name, PUZZLE + "\n", 8)
    assert len(boards) == 9 and boards[0][1] == "the puzzle" and boards[8][1].startswith("step 8, confidence")
    assert all(svg.startswith("<svg") for svg, _ in boards)
    assert boards[8][0] == tasks.get("sudoku", size=4).svg(*solved(single))


def solved(single):
    opened = open_single(single)
    question = opened.task.encode(PUZZLE)
    x = Question(torch.from_numpy(question.astype(np.int64))[None], torch.zeros(1, dtype=torch.long))
    with torch.no_grad():
        return question, think(opened.loop, x, 8).answer.logits.argmax(-1)[0].numpy().astype(np.uint8)


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is no dependency of the tests")
def test_the_page_of_the_space_is_built(single):
    code = "import app; print(sorted(str(f.api_name) for f in app.page().fns.values()))"
    env = {**os.environ, "MODEL": str(single), "GRADIO_ANALYTICS_ENABLED": "False"}
    where = ROOT / "examples/space"
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0 and "'solve'" in done.stdout, done.stderr
