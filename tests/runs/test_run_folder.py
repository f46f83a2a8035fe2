"""The folder of a run: killed, full, locked, damaged or of another run, nothing is lost and one sentence says why."""

import contextlib
import errno
import fcntl
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from innerloop import cli, files
from innerloop.cli import judging
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.lock import LOCK, lock_folder
from innerloop.learn.log import Log
from innerloop.learn.train import Trainer
from innerloop.recipes import get
from innerloop.runs import certificate, fit
from innerloop.runs import folder as folders
from innerloop.runs.certificate import birth_certificate, commit
from innerloop.runs.fit import build
from innerloop.runs.folder import first_difference, open_run, write_run
from innerloop.runs.run import override

TINY = [
    "config.net.hidden_size=16",
    "config.net.block=attention",
    "config.dtype=float32",
    "plan.batch=4",
    "plan.compile=off",
]
TINY += ["data.count=8", "data.holdout=20", "plan.steps=2", "plan.check_every=2", "plan.save_every=1"]
WORDS = ["train", "sudoku4_trm", "--device", "cpu", "--set", *TINY]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main([*WORDS[:2], "--out", str(folder), *WORDS[2:]]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "r"))


def trainer(folder, *changes, **how):
    built = build(override(get("sudoku4_trm"), [*TINY, *changes]))
    return Trainer(built.loop, built.task, built.train, built.run.plan, Path(folder), live=False, **how)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def sentence(capsys):
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: "), said
    return said[0]


@contextlib.contextmanager
def room(size):
    """No file may grow beyond `size` bytes: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- metrics ----------------------------------------------------------------------------------------------------------


def lines(*steps):
    return "".join(json.dumps({"step": s, "x": 1.0}) + "\n" for s in steps)


def test_lines_after_the_checkpoint_go_and_a_kill_meanwhile_loses_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(10, 20) + "[1]\n" + '{"step": "x"}\n' + lines(30) + '{"step": 40, "tra')
    before = path.read_bytes()
    with room(8), pytest.raises(InputError, match="cannot be written"):
        Log(tmp_path, 100, 20, live=False)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["metrics.jsonl"]
    Log(tmp_path, 100, 20, live=False).close()
    assert path.read_text() == lines(10, 20)


@pytest.mark.parametrize("start", [0, 20])
def test_the_file_that_a_link_points_to_is_left_alone(tmp_path, start):
    own = tmp_path / "own"
    own.write_text(lines(10, 20))
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "metrics.jsonl").symlink_to(own)
    log = Log(tmp_path / "r", 100, start, live=False)
    log.write({"step": 30})
    log.close()
    assert own.read_text() == lines(10, 20)
    assert (tmp_path / "r" / "metrics.jsonl").read_text() == lines(*(10, 20) * bool(start)) + '{"step": 30}\n'


# -- one training a folder --------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from innerloop.learn.lock import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_dies_with_it(run, capsys):
    before = contents(run)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        for words in (["train", str(run)], ["train", str(run), "--fresh"], ["demo", "--out", str(run)]):
            assert cli.main(words) == 2
            said = sentence(capsys)
            assert f"process {child.pid} on " in said and str(run) in said and " since 20" in said and "-c" in said
        assert contents(run).keys() - before.keys() == {Path(LOCK)}
        child.send_signal(signal.SIGKILL)
    with lock_folder(run) as note:
        assert not note
    assert contents(run) == before


def test_a_thread_may_hold_again_and_another_may_not(tmp_path):
    refused = []

    def other():
        with pytest.raises(InputError, match=f"process {os.getpid()}"), lock_folder(tmp_path):
            pass
        refused.append(True)

    with lock_folder(tmp_path), lock_folder(tmp_path / "." / "x" / ".."):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused and not os.listdir(tmp_path)


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between opening the file and locking it, its last holder may have removed it."""
    real, tries = fcntl.flock, []

    def late(handle, how):
        tries.append(handle)
        if len(tries) == 1:
            (tmp_path / LOCK).unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock_folder(tmp_path):
        assert len(tries) == 2 and json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_where_nothing_can_be_locked_that_is_said_and_training_goes_on(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    assert cli.main([*WORDS[:2], "--out", "r", *WORDS[2:]]) == 0
    assert "r cannot be locked (No locks available)" in capsys.readouterr().out
    assert (tmp_path / "r" / "result.json").exists() and not (tmp_path / "r" / LOCK).exists()


# -- whose folder it is -----------------------------------------------------------------------------------------------


def test_a_run_that_fails_its_checks_claims_no_folder(tmp_path, capsys):
    assert cli.main([*WORDS[:2], "--out", "r", *WORDS[2:], "plan.lr=nan"]) == 2
    sentence(capsys)
    assert not (tmp_path / "r").exists()


def test_begun_anew_with_a_wrong_plan_nothing_is_forgotten(run, monkeypatch, capsys):
    def wrong(*_):
        raise InputError("a wrong plan")

    before = contents(run)
    monkeypatch.setattr(Trainer, "empty_carry", wrong)
    for more in (["--fresh"], []):
        assert cli.main(["train", str(run), *more]) == 2
        assert "a wrong plan" in sentence(capsys)
        assert contents(run) == before


def test_another_run_is_named_by_its_field_and_both_values(run, capsys):
    before = contents(run)
    assert cli.main([*WORDS[:2], "--out", str(run), *WORDS[2:], "plan.lr=0.5"]) == 2
    said = sentence(capsys)
    assert "plan.lr is " in said and "0.5 here" in said and "--fresh" in said and contents(run) == before


def test_a_run_that_learned_nothing_holds_no_folder(tmp_path):
    run = build(override(get("sudoku4_trm"), TINY)).run
    write_run(tmp_path, run)
    write_run(tmp_path, replace(run, seed=7))
    assert files.read_json(tmp_path / "run.json")["run"]["seed"] == 7


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, ("a.b", "[1]", "[2]")),
        ({"a": {}}, {"a": {"b": 1}}, ("a.b", "null", "1")),
        ({"a": "x" * 90}, {"a": {}}, ("a", '"' + "x" * 56 + "...", "{}")),
        ({"a": 1}, {"a": 1}, None),
        ({"config": 1, "data": {"b": 1}}, {"config": 2, "data": {"b": 2}}, ("data.b", "1", "2")),
    ],
)
def test_the_difference_of_two_runs(old, new, told):
    assert first_difference(old, new) == told


def test_a_kill_between_the_files_of_a_run_leaves_none_without_its_configuration(tmp_path, monkeypatch):
    run, written = build(override(get("sudoku4_trm"), TINY)).run, files.write_json

    def killed(path, value):
        written(path, value)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write_run(tmp_path, run)
    assert not (tmp_path / "run.json").exists()
    monkeypatch.setattr(files, "write_json", written)
    write_run(tmp_path, run)
    (tmp_path / "config.json").unlink()  # as an earlier version could leave it
    write_run(tmp_path, run)
    assert files.read_json(tmp_path / "config.json")["system"] == "trm"


# -- its training state -----------------------------------------------------------------------------------------------


def at(*path):
    """A change: the value at this path of the state becomes what `change` makes of it."""

    def changed(change):
        def apply(state):
            inside = state
            for key in path[:-1]:
                inside = inside[key]
            inside[path[-1]] = change(inside[path[-1]])
            return state

        return apply

    return changed


def first(change):
    """Applied to the first value of a dict."""

    def apply(found):
        key = next(iter(found))
        return found | {key: change(found[key])}

    return apply


GROUP, ENTRY = ("optimizers", 0, "param_groups", 0), ("optimizers", 0, "state", 0)
ODD = {
    "no step": lambda s: {k: v for k, v in s.items() if k != "step"},
    "a step of text": at("step")(str),
    "a step below none": at("step")(lambda _: -1),
    "a huge step": at("step")(lambda _: 10**30),
    "a step of truth": at("step")(lambda _: True),
    "endless seconds": at("seconds")(lambda _: float("nan")),
    "a position of text": at("position")(str),
    "weights in a list": at("model")(list),
    "no weights": at("model")(lambda _: {}),
    "a weight of another shape": at("model")(first(lambda t: torch.zeros(3))),
    "a weight that is not finite": at("model")(first(lambda t: t * float("nan"))),
    "a weight of whole numbers": at("model")(first(lambda t: t.int())),
    "a weight of text": at("model")(first(str)),
    "an average of another shape": at("average")(first(lambda t: torch.zeros(3))),
    "no average": at("average")(lambda _: {}),
    "no optimizer": at("optimizers")(lambda _: []),
    "an optimizer of text": at("optimizers")(lambda _: ["x"]),
    "no groups": at("optimizers", 0, "param_groups")(lambda _: []),
    "a rate of text": at(*GROUP, "lr")(lambda _: "x"),
    "a rate that is not finite": at(*GROUP, "base_lr")(lambda _: float("inf")),
    "one beta": at(*GROUP, "betas")(lambda _: (0.9,)),
    "other parameters": at(*GROUP, "params")(lambda p: p[:-1]),
    "memory of nothing": at("optimizers", 0, "state")(lambda s: s | {999: {}}),
    "memory without a part": at(*ENTRY)(lambda e: dict(list(e.items())[:1])),
    "memory of another shape": at(*ENTRY)(first(lambda t: torch.zeros(7, 7))),
    "memory that is not finite": at(*ENTRY)(first(lambda t: t + float("inf"))),
    "draws cut short": at("draws")(lambda t: t[:5]),
    "draws of text": at("draws")(lambda _: "x"),
    "no generator": at("torch")(lambda _: None),
    "no carried states": at("carries")(lambda _: []),
    "carried states in a dict": at("carries")(lambda _: {}),
    "too few carried states": at("carries", 0)(lambda c: c[:-1]),
    "carried states of another batch": at("carries", 0)(lambda c: [t if t is None else t[:-1] for t in c]),
    "carried states of another shape": at("carries", 0, 0)(lambda t: t[..., :-1]),
    "carried tokens out of range": at("carries", 0)(
        lambda c: [t + 99 if isinstance(t, torch.Tensor) and t.dtype == torch.int64 else t for t in c]
    ),
    "a watch of text": at("watch")(lambda _: "x"),
    "a best of text": at("watch", "best")(lambda _: {"step": "x", "exact": 0, "valid": 0}),
    "warnings of numbers": at("watch", "warnings")(lambda _: [1]),
}  # fmt: skip


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    """A trainer that has learned a step, in a folder without a state."""
    made = trainer(tmp_path_factory.mktemp("learner"))
    made.train_step()
    made.restore(thawed(frozen(made.state())))  # shared objects are split up, so that later states are equal as bytes
    return made


@pytest.mark.parametrize("name", ODD)
def test_a_state_of_odd_contents_is_refused_whole(learner, name):
    before = frozen(learner.state())
    learner.restore(thawed(before))  # as it is, it fits
    with pytest.raises(InputError, match=r"train_state\.pt") as told:
        learner.restore(ODD[name](thawed(before)))
    assert "\n" not in str(told.value) and ("--fresh" in str(told.value) or "delete it" in str(told.value))
    assert frozen(learner.state()) == before


def frozen(state):
    into = io.BytesIO()
    torch.save(state, into)
    return into.getvalue()


def thawed(whole):
    return torch.load(io.BytesIO(whole), weights_only=True)


def test_the_state_of_another_run_is_refused_through_the_command(run, capsys):
    state = torch.load(run / checkpoint.STATE, weights_only=True)
    torch.save(ODD["carried states of another batch"](state), run / checkpoint.STATE)
    before = contents(run)
    assert cli.main(["train", str(run)]) == 2
    assert "--fresh" in sentence(capsys) and contents(run) == before


def deflated(folder):
    with zipfile.ZipFile(folder / checkpoint.STATE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50 << 20))


BROKEN = {
    "cut short": lambda f: (f / checkpoint.STATE).write_bytes((f / checkpoint.STATE).read_bytes()[:-200]),
    "empty": lambda f: (f / checkpoint.STATE).write_bytes(b""),
    "a list": lambda f: torch.save([1, 2], f / checkpoint.STATE),
    "a tensor": lambda f: torch.save(torch.zeros(3), f / checkpoint.STATE),
    "compressed": deflated,
    "pieces elsewhere": lambda f: (f / checkpoint.STATE).write_text('["../r/run.json"]'),
    "pieces of numbers": lambda f: (f / checkpoint.STATE).write_text("[1, [2]]"),
    "no pieces": lambda f: (f / checkpoint.STATE).write_text("[]"),
    "a deep list": lambda f: (f / checkpoint.STATE).write_text("[" * 100_000),
    "a piece that is missing": lambda f: (f / checkpoint.STATE).write_text('["train_state.pt.0123456789ab.0"]'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_state_may_be_deleted(run, name, capsys):
    BROKEN[name](run)
    before = contents(run)
    assert cli.main(["train", str(run)]) == 2
    said = sentence(capsys)
    assert "damaged" in said and "delete it to train from the start" in said and contents(run) == before
    (run / checkpoint.STATE).unlink()
    assert checkpoint.load_state(run) is None


def test_pieces_that_do_not_belong_together_and_a_users_own_copy(run, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 20_000)
    state = checkpoint.load_state(run)
    own = run / f"{checkpoint.STATE}.backup"
    own.write_text("mine")
    left = run / f"{checkpoint.STATE}.0123456789ab.0"  # of a save that was killed before its list was written
    left.write_text("half")
    checkpoint.save_state(run, state)
    assert own.exists() and not left.exists()
    assert checkpoint.load_state(run)["step"] == state["step"]
    piece = sorted(checkpoint.pieces(run))[1]
    piece.write_bytes(piece.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="do not belong together"):
        checkpoint.load_state(run)


REFUSALS = {errno.EMFILE: "Too many", errno.EACCES: "Permission", errno.EIO: "Input/output", errno.ENOMEM: "memory"}


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.MODEL, "run.json", "metrics.jsonl"])
def test_a_sound_file_is_never_called_damaged(run, name, number, monkeypatch, capsys):
    real = os.open

    def refused(path, *rest, **more):
        if str(path).endswith(f"/{name}"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *rest, **more)

    before = contents(run)
    monkeypatch.setattr(os, "open", refused)
    words = ["eval", str(run), "--depth", "1"] if name == checkpoint.MODEL else ["train", str(run)]
    assert cli.main(words) == 2
    said = sentence(capsys)
    assert REFUSALS[number] in said and name in said and "damaged" not in said and "delete" not in said
    assert contents(run) == before


def test_memory_that_runs_out_is_no_damage(run, monkeypatch):
    for error in (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 99 bytes")):

        def none(*_, error=error, **__):
            raise error

        monkeypatch.setattr(torch, "load", none)
        with pytest.raises(InputError, match="cannot be read") as told:
            checkpoint.load_state(run)
        assert "damaged" not in str(told.value)


# -- its weights ------------------------------------------------------------------------------------------------------

HEAD = "heads.tokens.weight"
WEIGHTS = {
    "not a number": (lambda t: t * float("nan"), f"{HEAD} has a value that is not finite"),
    "endless": (lambda t: t + float("inf"), f"{HEAD} has a value that is not finite"),
    "beyond float32": (lambda t: t.double() + 1e300, f"{HEAD} has a value that is not finite"),
    "whole numbers": (lambda t: t.to(torch.int32), f"{HEAD} holds int32 where this model has float32"),
    "another shape": (lambda t: t[:-1].clone(), f"another configuration (it differs in {HEAD})"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_no_model_can_have_are_refused_by_name(run, name, capsys):
    path, (change, said) = run / checkpoint.MODEL, WEIGHTS[name]
    state = load_file(path)
    save_file(state | {HEAD: change(state[HEAD])}, path)
    assert cli.main(["solve", str(run), "1.3.34.2.1.34.2.", "--pick", "vote"]) == 2
    assert said in sentence(capsys)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_precision_are_cast(run, dtype):
    path = run / checkpoint.MODEL
    save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in load_file(path).items()}, path)
    assert open_run(run).loop.state_dict()[HEAD].dtype == torch.float32


HEADERS = {
    "a header without end": b"\xff" * 8 + b"{}",
    "a header of a list": (2).to_bytes(8, "little") + b"[]",
    "a header of numbers": (7).to_bytes(8, "little") + b'{"a":1}',
    "a header of odd sizes": (45).to_bytes(8, "little") + b'{"a":{"shape":[-1],"data_offsets":[0,"x"]}}  ',
    "a deep header": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "nothing": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_file_that_is_no_safetensors_is_one_sentence(run, name, capsys):
    (run / checkpoint.MODEL).write_bytes(HEADERS[name])
    (run / "m.safetensors").write_bytes(HEADERS[name])
    for source in (run, run / "m.safetensors"):
        assert cli.main(["solve", str(source), "1.3.34.2.1.34.2."]) == 2
        assert "damaged or not a safetensors file" in sentence(capsys)


def test_a_larger_file_than_the_model_is_not_read(run):
    """A terabyte of zeros, which takes no room on the disk."""
    path = run / checkpoint.MODEL
    held = json.dumps({HEAD: {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}).encode()
    path.write_bytes(len(held).to_bytes(8, "little") + held)
    os.truncate(path, 8 + len(held) + (1 << 40))
    with pytest.raises(InputError, match="another configuration"):
        open_run(run)


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    """The loss and the gradient of the last step were finite; what the update made of the weights is not."""
    learner = trainer(tmp_path, "plan.steps=6", "plan.save_every=1", "plan.check_every=100")
    update = Trainer.update

    def wild(self):
        update(self)
        if self.step == 3:
            with torch.no_grad():
                self.loop.heads.tokens.weight[0, 0] = float("inf")

    monkeypatch.setattr(Trainer, "update", wild)
    result = learner.run()
    assert result.stopped.startswith(f"step 4: {HEAD} has a value that is not finite")
    assert checkpoint.load_state(tmp_path)["step"] == 3
    assert not checkpoint.non_finite(load_file(tmp_path / checkpoint.MODEL))
    with pytest.raises(InputError, match=f"{HEAD} has a value that is not finite"):
        checkpoint.save_weights(tmp_path / checkpoint.MODEL, learner.loop.state_dict())
    assert not checkpoint.non_finite(load_file(tmp_path / checkpoint.MODEL))


# -- where a number comes from ----------------------------------------------------------------------------------------


def test_the_commit_is_that_of_the_beginning(monkeypatch):
    said = iter(["abc1234+", "def5678"])
    monkeypatch.setattr(certificate, "commit_of", lambda root: next(said))
    commit.cache_clear()
    try:
        build(override(get("sudoku4_trm"), TINY))
        assert birth_certificate()["commit"] == "abc1234+"
    finally:
        commit.cache_clear()


def test_a_plus_stands_for_changed_code_and_not_for_other_results(tmp_path):
    git = lambda *words: subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)  # noqa: E731
    assert certificate.commit_of(tmp_path) == ""
    git("init", "-q")
    for name in ("results/a.json", "code.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@example", "commit", "-qm", "first")
    made = certificate.commit_of(tmp_path)
    assert len(made) >= 7 and "+" not in made
    (tmp_path / "results" / "a.json").write_text("2")
    assert certificate.commit_of(tmp_path) == made
    (tmp_path / "code.py").write_text("2")
    assert certificate.commit_of(tmp_path) == made + "+"


def test_a_run_names_all_commits_that_worked_on_it(tmp_path, monkeypatch):
    for made in ("aaa", "aaa", "bbb", "", "aaa"):
        for module in (certificate, fit, folders):
            monkeypatch.setattr(module, "commit", lambda made=made: made)
        assert cli.main([*WORDS[:2], "--out", "r", *WORDS[2:], "plan.steps=5", "--minutes", "1e-9"]) == 0
    born = files.read_json(tmp_path / "r" / "run.json")["born"]
    assert born["commit"] == "aaa" and born["commits"] == ["aaa", "bbb"]
    assert files.read_json(tmp_path / "r" / "result.json")["born"]["commits"] == ["aaa", "bbb"]


def test_a_run_that_was_done_before_keeps_its_certificate(run, capsys):
    before = contents(run)
    assert cli.main(["train", str(run)]) == 0
    assert (run / "result.json").read_bytes() == before[Path("result.json")]
    assert (run / "run.json").read_bytes() == before[Path("run.json")]


def test_a_certificate_names_the_machine_and_no_folder_of_it(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["/opt/bin/innerloop", "train", "/home/me/my data.csv", "data.test=/a/b/c.csv", "a/b"]
    )
    born = birth_certificate([3])
    assert born["command"] == "innerloop train 'my data.csv' data.test=c.csv a/b"
    assert born["cores"] >= 1 and born["memory_gib"] > 0 and born["cpu"] and born["device"]
    module = types.SimpleNamespace(__spec__=types.SimpleNamespace(parent="innerloop.cli"))
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(sys, "argv", ["/opt/innerloop/cli/__main__.py", "train", "demo"])
    assert birth_certificate()["command"] == "python -m innerloop.cli train demo"
    monkeypatch.setenv("INNERLOOP_COMMAND", "innerloop train demo --seeds 0,1")
    assert birth_certificate()["command"] == "innerloop train demo --seeds 0,1"
    monkeypatch.delenv("INNERLOOP_COMMAND")
    monkeypatch.setattr(sys, "argv", [])
    assert birth_certificate()["command"] is not None


# -- a full disk, and what is written first ---------------------------------------------------------------------------

FULL = {
    "train": [*WORDS[:2], "--out", "new", *WORDS[2:]],
    "eval": ["eval", "r", "--depth", "1"],
    "solve": ["solve", "r", "p.csv", "--out", "old"],
    "calibrate": ["calibrate", "r", "--depth", "1"],
    "report": ["report", "r", "--depth", "1"],
    "export a file": ["export", "r", "--single", "old.safetensors"],
    "export a checkpoint": ["export", "r", "--out", "old"],
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_sentence_and_old_files_stay_whole(run, name, capsys, tmp_path):
    Path("p.csv").write_text("question\n1.3.34.2.1.34.2.\n")
    if name.startswith(("export", "solve")):  # which replaces its own earlier files alone
        assert cli.main(FULL[name]) == 0
    else:
        Path("old").write_text("{}")
        for kept in ("r/eval.json", "r/report.html"):
            Path(kept).write_text("{}")
        Path("r/calibration.json").write_text('{"rules": {}}')
    before = contents(tmp_path)
    capsys.readouterr()
    with room(16):
        code = cli.main(FULL[name])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(said) == 1 and "cannot be written (File too large)" in said[0], said
    after = contents(tmp_path)
    assert {k: v for k, v in after.items() if k in before} == before and not after.keys() - before.keys()


def test_results_are_written_before_they_are_shown(run, monkeypatch):
    def broken(*_):
        raise RuntimeError("a table that cannot be drawn")

    monkeypatch.setattr(judging, "print_rows", broken)
    monkeypatch.setenv("INNERLOOP_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main(["eval", str(run), "--depth", "1"])
    assert files.read_json(run / "eval.json")["rows"]
