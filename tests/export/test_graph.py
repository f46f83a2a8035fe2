"""One step of a loop as a graph answers as the loop does: torch.export, ONNX and AOTInductor, every slot."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop import cli, tasks, weights
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.export import graph
from innerloop.export.onnx import save_onnx, translation_table
from innerloop.noise import salted
from innerloop.parts.config import NetConfig
from innerloop.runs import run as runs
from innerloop.runs.fit import build_model
from innerloop.runs.folder import OpenedRun, open_run

ROOT = Path(__file__).resolve().parents[2]
TASK = tasks.get("sudoku", size=4)
UNITS = tuple(tuple(int(c) for c in unit) for unit in TASK.units)
TINY = NetConfig(
    vocab=6,
    seq=16,
    rows=4,
    hidden_size=32,
    heads=2,
    layers=1,
    expansion=2.0,
    multiple_of=32,
    puzzle_emb_size=32,
    units=UNITS,
)
SHORT = {
    "rounds": 2,
    "cycles": 1,
    "thoughts": 1,
    "low_cycles": 1,
    "loops": 2,
    "latents": 2,
    "steps": 1,
    "prelude": 1,
    "coda": 1,
}
DEPTH, TOL = 16, 1e-4
ONNX_KINDS = [("flow", "attention")]  # beside the trained run, which has units
# Of each kind that ONNX_KINDS has not: tied weights, experts.
PROGRAMS = ("orbit", "mor")


def opened(system, **net):
    """A loop as it was drawn, a little flattened: a chaotic map would magnify rounding, whoever computes it."""
    make, config = weights.get(system)
    known = {f.name for f in fields(config)}
    chosen = config(**{"net": replace(TINY, **net), "dtype": "float32", **{k: SHORT[k] for k in known & set(SHORT)}})
    torch.manual_seed(0)
    loop = make(chosen).eval()
    with torch.no_grad():
        for p in loop.parameters():
            p.add_(0.02 * torch.randn_like(p)).mul_(0.8 if p.ndim > 1 else 1.0)
    return OpenedRun(runs.Run(system, system, chosen, runs.Data("sudoku", {"size": 4})), loop, TASK, Path())


def asked(rows):
    draw = torch.Generator().manual_seed(3)
    return Question(torch.randint(1, 6, (rows, 16), generator=draw), torch.zeros(rows, dtype=torch.long))


def session_of(path):
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map[graph.METADATA_KEY])


def turned(session, about, x, fresh, state):
    """One turn of an ONNX graph without salt: its outputs by name."""
    salt = [np.zeros(len(x.inputs), np.int64)] if about["salt"] else []
    names = graph.io_names(about)[0]
    feed = dict(zip(names, [x.inputs.numpy(), x.puzzle.numpy(), fresh, *salt, *state], strict=True))
    held = {i.name for i in session.get_inputs()}  # what a step never reads is no input of its file
    outputs = [o.name for o in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {k: v for k, v in feed.items() if k in held}), strict=True))


def agree(name, ours, theirs):
    """Whole numbers and truths are the same, the others to TOL of their scale."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, name
    if ours.dtype.kind == "f":
        assert np.abs(ours - theirs).max(initial=0) <= TOL * max(1.0, np.abs(ours).max(initial=0)), name
    else:
        assert (ours == theirs).all(), name


@torch.no_grad()
def parity(found, path, rows):
    """DEPTH turns of the file, or of an open session, against the loop: all slots and answers of every step."""
    session, about = session_of(path) if isinstance(path, Path) else path
    x, loop = asked(rows), found.loop
    state, held = loop.init(x), [np.zeros((rows, *s["shape"]), s["dtype"]) for s in about["state"]]
    for step in range(DEPTH):
        state = loop.step(state, x)
        said = turned(session, about, x, np.full(rows, step == 0), held)
        held = [said[f"next.{s['name']}"] for s in about["state"]]
        for slot, ours, theirs in zip(about["state"], graph.flatten(state), held, strict=True):
            agree(f"{slot['name']} at step {step + 1}", ours.numpy(), theirs)
        answer = {k: v for k, v in loop.read(state)._asdict().items() if v is not None}
        assert list(answer) == about["answer"]
        for name, value in answer.items():
            agree(f"{name} at step {step + 1}", value.numpy(), said[name])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that learned a little, in bfloat16."""
    folder = tmp_path_factory.mktemp("graphs") / "run"
    changes = ["plan.steps=60", "plan.check_every=60", "plan.save_every=60", "data.holdout=40"]
    changes += ["plan.batch=8", "config.dtype=bfloat16"]
    assert cli.main(["train", "sudoku4_trm", "--out", str(folder), "--device", "cpu", "--set", *changes]) == 0
    return folder


@pytest.fixture(scope="module")
def onnx_file(trained):
    pytest.importorskip("onnxscript")
    path = trained.parent / "model.onnx"
    assert cli.main(["export", str(trained), "--onnx", str(path)]) == 0
    return path


def in_float32(folder):
    """A run whose loop computes in float32."""
    run = open_run(folder)
    loop = build_model(replace(run.run, config=replace(run.run.config, dtype="float32"))).eval()
    loop.load_state_dict(run.loop.state_dict())
    return run._replace(loop=loop)


# -- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_onnx_of_a_trained_run_answers_as_it_does(trained, onnx_file):
    session = session_of(onnx_file)
    for rows in (1, 7):
        parity(in_float32(trained), session, rows)


@pytest.mark.slow
def test_an_onnx_file_is_described_whole_and_names_no_path_of_this_machine(trained, onnx_file):
    session, about = session_of(onnx_file)
    given, said = graph.io_names(about)
    assert [i.name for i in session.get_inputs()] == given == ["inputs", "puzzle", "fresh", "state.y", "state.z"]
    assert [o.name for o in session.get_outputs()] == said == ["next.y", "next.z", "logits", "q_halt"]
    assert {v.shape[0] for v in [*session.get_inputs(), *session.get_outputs()]} == {"batch"}
    assert about["state"] == [{"name": n, "dtype": "float32", "shape": [16, 64]} for n in "yz"]
    assert (about["charset"], about["rows"], about["depth"], about["salt"]) == (TASK.charset, 4, 8, False)
    data = onnx_file.read_bytes()
    assert str(ROOT).encode() not in data and b"site-packages" not in data
    assert len(data) < 1.2 * (trained / "model.safetensors").stat().st_size, "a weight stands there more than once"


@pytest.mark.slow
def test_the_runner_needs_neither_torch_nor_this_library(trained, onnx_file):
    """It gives the answer that the run gives in float32, from a process in which both cannot be imported."""
    puzzle = "1.3.34.2.1.34.2."

    def call(*more):
        words = [str(ROOT / "examples/solve_onnx.py"), str(onnx_file), *more]
        block = f"import sys, runpy; sys.argv = {words!r}; sys.modules |= dict(torch=None, innerloop=None)"
        code = f"{block}; runpy.run_path(sys.argv[0], None, '__main__')"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    done = call(puzzle, "16")
    assert done.returncode == 0, done.stderr
    question = torch.from_numpy(TASK.encode(puzzle).astype(np.int64))[None]
    with torch.no_grad():
        answer = think(in_float32(trained).loop, Question(question, torch.zeros(1, dtype=torch.long)), 16).answer
    assert done.stdout.strip() == TASK.decode(answer.logits.argmax(-1)[0].numpy())
    wrong = call("1.3")
    assert wrong.returncode == 1 and "give 16 symbols" in wrong.stderr


def test_onnx_without_its_extra(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install 'innerloop\[onnx\]'"):
        save_onnx(open_run(trained), "never.onnx")
    assert not Path("never.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("system", "block"), ONNX_KINDS)
def test_onnx_of_every_kind(system, block, tmp_path):
    """Sixteen turns of the file and of the loop: a key of noise, time, and attention with rotary positions.

    The conversion knows operators, not systems: `test_one_step_as_a_program` holds the others.
    """
    pytest.importorskip("onnxscript")
    found, path = (
        opened(system, block=block, positions="rope" if block == "attention" else "none"),
        tmp_path / "model.onnx",
    )
    save_onnx(found, path)
    session = session_of(path)
    parity(found, session, 1)
    parity(found, session, 5)


@pytest.mark.slow
def test_the_inverse_of_erf_is_good_over_every_number_that_noise_draws(tmp_path):
    """All 2^23 values of noise.uniform, against double precision."""
    pytest.importorskip("onnxscript")
    ort, special = pytest.importorskip("onnxruntime"), pytest.importorskip("scipy.special")

    class Inverse(torch.nn.Module):
        def forward(self, x):
            return torch.erfinv(x)

    x = 2 * ((torch.arange(2**23).float() + 0.5) * 2**-23) - 1
    batch = torch.export.Dim("batch", min=1)
    with graph.quiet():
        program = torch.export.export(Inverse(), (x[:3],), dynamic_shapes=({0: batch},), strict=True)
        made = torch.onnx.export(program, dynamo=True, custom_translation_table=translation_table(), verbose=False)
    session = ort.InferenceSession(made.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert np.abs(ours - special.erfinv(x.numpy().astype(np.float64))).max() < 1e-6


# -- torch.export -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("system", PROGRAMS)
def test_one_step_as_a_program(system):
    """Two turns of the program and of the loop, for more rows than it was traced with: all slots and answers."""
    found, rows = opened(system, hidden_size=16, puzzle_emb_size=16), 5
    turn, about = graph.step_graph(found)
    x, call = asked(rows), turn.module()
    state = found.loop.init(x)
    held = [torch.zeros(rows, *s["shape"], dtype=getattr(torch, s["dtype"])) for s in about["state"]]
    salt = [torch.zeros(rows, dtype=torch.long)] * about["salt"]
    for step in range(2):
        state = found.loop.step(state, x)
        said = call(x.inputs, x.puzzle, torch.full((rows,), step == 0), *salt, *held)
        held = said[: len(held)]
        for slot, ours, theirs in zip(about["state"], graph.flatten(state), held, strict=True):
            agree(f"{slot['name']} at step {step + 1}", ours.numpy(), theirs.numpy())
    answer = [v for v in found.loop.read(state)._asdict().values() if v is not None]
    for name, ours, theirs in zip(about["answer"], answer, said[len(held) :], strict=True):
        agree(name, ours.numpy(), theirs.numpy())


@pytest.mark.slow
@torch.no_grad()
def test_init_step_and_read_as_programs():
    found = opened("hrm", block="units", positions="none")
    loop, call = found.loop, {name: p.module() for name, p in graph.programs(found).items()}
    assert list(call) == ["init", "step", "read"]
    for rows in (1, 4):
        x = asked(rows)
        state, held = loop.init(x), call["init"](x.inputs, x.puzzle)
        for _ in range(3):
            state, held = loop.step(state, x), call["step"](x.inputs, x.puzzle, *held)
        answer = loop.read(state)
        for ours, theirs in zip([*state, *graph.answer_tensors(answer)], [*held, *call["read"](*held)], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_a_file_goes_on_where_rows_begin_anew(tmp_path, trained):
    """Rows of one batch at different depths answer as each does alone; what stood in a fresh row is not looked at."""
    path = tmp_path / "model.pt2"
    assert cli.main(["export", str(trained), "--graph", str(path)]) == 0
    extra = {graph.EXTRA_FILE: ""}
    turn = torch.export.load(str(path), extra_files=extra).module()
    about = json.loads(extra[graph.EXTRA_FILE])
    assert about["state"][0] == {"name": "y", "dtype": "float32", "shape": [16, 64]}
    assert str(ROOT).encode() not in path.read_bytes()
    first, second = asked(4), Question(asked(4).inputs.flip(0), asked(4).puzzle)
    alone = lambda x, depth: repeat(turn, x, depth, about)  # noqa: E731
    held = repeat(turn, first, 3, about)[:2]
    fresh = torch.tensor([True, False, True, False])
    x = Question(torch.where(fresh[:, None], second.inputs, first.inputs), first.puzzle)
    held = [torch.where(fresh[:, None, None], torch.nan, t) for t in held]
    logits = turn(x.inputs, x.puzzle, fresh, *held)[2]
    torch.testing.assert_close(logits[fresh], alone(second, 1)[2][fresh], rtol=0, atol=1e-5)
    torch.testing.assert_close(logits[~fresh], alone(first, 4)[2][~fresh], rtol=0, atol=1e-5)


def repeat(turn, x, depth, about):
    """What the last of `depth` turns gives back."""
    rows = len(x.inputs)
    out = [torch.zeros(rows, *s["shape"]) for s in about["state"]]
    for i in range(depth):
        out = turn(x.inputs, x.puzzle, torch.full((rows,), i == 0), *out[: len(about["state"])])
    return out


@pytest.mark.slow
@torch.no_grad()
def test_salt_leads_to_another_trajectory_the_one_the_library_takes():
    found = opened("pondernet", block="units", positions="none")
    turn, about = graph.step_graph(found)
    x, call = asked(3), turn.module()
    assert about["salt"] and graph.io_names(about)[0][3:] == ["salt", "state.z", "state.key"]
    salt = torch.tensor([0, 1, 2])
    said = call(x.inputs, x.puzzle, torch.ones(3, dtype=torch.bool), salt, torch.zeros(3, 17, 32), salt * 0)
    want = found.loop.step(salted(found.loop.init(x), salt), x)
    assert torch.equal(said[1], want.key) and len(set(said[1].tolist())) == 3


@pytest.mark.slow
def test_what_no_graph_can_hold_is_refused_and_leaves_no_file(tmp_path):
    pytest.importorskip("onnxscript")
    with pytest.raises(InputError, match=r"deq cannot be exported as a graph.*depends on the data") as told:
        save_onnx(opened("deq"), tmp_path / "model.onnx")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="a state of str has no slots"):
        graph.slots(("text",))


def test_an_exporter_asks_for_one_thing(trained, capsys):
    assert cli.main(["export", str(trained), "--onnx", "a.onnx", "--graph", "a.pt2"]) == 2
    assert cli.main(["export", str(trained)]) == 2
    assert capsys.readouterr().err.count("give one of --out, --data, --single, --hub, --graph, --onnx, --aoti") == 2


# -- AOTInductor ------------------------------------------------------------------------------------------------------


def test_compiling_without_a_compiler(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no C\\+\\+ compiler is installed"):
        graph.save_aoti(open_run(trained), tmp_path / "model.pt2")


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_package_answers_as_the_loop_does(tmp_path):
    import shutil

    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler")
    found, path = opened("ut", block="units", positions="none"), tmp_path / "model.pt2"
    about = graph.save_aoti(found, path)
    package = torch._inductor.aoti_load_package(str(path))
    assert json.loads(package.get_metadata()[graph.METADATA_KEY]) == about
    for rows in (1, 6):
        x, state = asked(rows), found.loop.init(asked(rows))
        for _ in range(DEPTH):
            state = found.loop.step(state, x)
        answer = found.loop.read(state)
        for ours, theirs in zip([*state, *graph.answer_tensors(answer)], repeat(package, x, DEPTH, about), strict=True):
            agree("package", ours.numpy(), theirs.numpy())
