"""Official checkpoints become runs and runs become official checkpoints, bit for bit."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innerloop import cli, recipes, tasks
from innerloop.data.formats import write_csv
from innerloop.export import exchange
from innerloop.learn import checkpoint
from innerloop.runs import run as runs
from innerloop.runs.fit import build_model
from innerloop.runs.folder import OpenedRun, open_run, write_run


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("system", ["trm", "hrm"])
def test_export_and_import_are_bit_equal(tmp_path, system):
    config = replace(
        recipes.get("sudoku4_trm").config.net, block="attention", positions="rope", prefix=1, puzzle_emb_size=64
    )
    config = replace(
        config, vocab=11, seq=81, rows=9, hidden_size=64, heads=1, multiple_of=256, expansion=4.0, puzzle_emb_size=64
    )
    module = __import__(f"innerloop.weights.{system}", fromlist=["Config"])
    run = replace(
        recipes.get("sudoku4_trm"), system=system, config=module.Config(config), data=runs.Data("sudoku", {"size": 9})
    )
    write_run(tmp_path / "a", run)
    loop = build_model(run)
    checkpoint.save_weights(tmp_path / "a" / "model.safetensors", loop.state_dict())
    assert cli.main(["export", "a", "--out", "step_1"]) == 0
    words = ["--prefix", "1", "--cycles", str(run.config.cycles), "--low", str(tuple(vars(run.config).values())[2])]
    assert cli.main(["import", "step_1", "--out", "b", *words]) == 0
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    theirs = torch.load("step_1", weights_only=True)
    theirs = {k: v.bfloat16() if k.endswith(("H_init", "L_init")) else v for k, v in theirs.items()}
    torch.save(theirs, "step_2")
    arch = {
        "H_layers": config.layers if system == "hrm" else 0,
        "L_layers": config.layers,
        "hidden_size": 64,
        "num_heads": 1,
    }
    arch |= {"H_cycles": 2, "L_cycles": 2, "expansion": 4, "puzzle_emb_ndim": 64, "puzzle_emb_len": 1}
    text = "\n".join(f"  {k}: {v}" for k, v in arch.items())
    (tmp_path / "all_config.yaml").write_text(f"arch:\n{text}\n  pos_encodings: rope\n  loss:\n    name: x\nlr: 1e-4\n")
    assert cli.main(["import", "step_2", "--arch", "all_config.yaml", "--out", "c"]) == 0
    assert cli.main(["export", "c", "--out", "step_3"]) == 0
    back = torch.load("step_3", weights_only=True)
    assert back.keys() == theirs.keys()
    assert all(back[k].dtype == theirs[k].dtype and torch.equal(back[k], theirs[k]) for k in theirs)


def test_import_with_data_of_other_identifiers_starts_from_the_mean(tmp_path, capsys):
    task = tasks.get("sudoku", size=4)
    write_csv("p.csv", task.make(6, 99), task)
    assert cli.main(["export", "p.csv", "--data", "d"]) == 0
    size = replace(
        recipes.get("sudoku4_trm").config.net, block="attention", positions="rope", prefix=1, puzzle_emb_size=64
    )
    size = replace(
        size, vocab=6, seq=16, rows=4, hidden_size=64, heads=1, multiple_of=256, expansion=4.0, puzzles=5, units=()
    )
    value = replace(recipes.get("sudoku4_trm"), config=replace(recipes.get("sudoku4_trm").config, net=size))
    write_run(tmp_path / "a", value)
    loop = build_model(value)
    torch.nn.init.normal_(loop.embed.puzzles.weight)
    checkpoint.save_weights(tmp_path / "a" / "model.safetensors", loop.state_dict())
    assert cli.main(["export", "a", "--out", "s"]) == 0
    assert cli.main(["import", "s", "--data", "d", "--prefix", "1", "--out", "b"]) == 0
    assert "mean of the old ones" in capsys.readouterr().out
    table = open_run("b").loop.embed.puzzles.weight
    assert torch.allclose(table, loop.embed.puzzles.weight.mean(0, keepdim=True))


# -- what is no checkpoint ---------------------------------------------------------------------------------------------

ARCH = {"H_layers": 0, "L_layers": 1, "hidden_size": 64, "num_heads": 1, "H_cycles": 2, "L_cycles": 2, "expansion": 4}
ARCH |= {"puzzle_emb_ndim": 64, "puzzle_emb_len": 1, "pos_encodings": "rope", "forward_dtype": "float32"}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The state of a small official TRM for 9x9 Sudoku."""
    size = replace(
        recipes.get("sudoku4_trm").config.net, block="attention", positions="rope", prefix=1, puzzle_emb_size=64
    )
    size = replace(size, vocab=11, seq=81, rows=9, hidden_size=64, heads=1, multiple_of=256, expansion=4.0, units=())
    run = replace(recipes.get("sudoku4_trm"), config=replace(recipes.get("sudoku4_trm").config, net=size))
    opened = OpenedRun(run, build_model(run), None, tmp_path_factory.mktemp("none"))
    return exchange.export_official(opened)[0]


KEY = "_orig_mod.model.inner."
TABLE, INIT = KEY + "embed_tokens.embedding_weight", KEY + "H_init"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: [1, 2], "does not hold a state dict"),
        (lambda s: {"model": s}, "does not hold a state dict"),
        (lambda s: {5: torch.zeros(2)}, "does not hold a state dict"),
        (lambda s: {}, "has no embed_tokens.embedding_weight"),
        (lambda s: s | {TABLE: s[TABLE].flatten()}, "of the usual shape"),
        (lambda s: s | {TABLE: s[TABLE][:, :0]}, "of the usual shape"),
        (lambda s: s | {TABLE: s[TABLE].long()}, "torch.int64"),
        (lambda s: s | {TABLE: s[TABLE].to_sparse()}, "torch.sparse_coo"),
        (lambda s: s | {TABLE: s[TABLE].to("meta")}, "on meta"),
        (lambda s: {k: v for k, v in s.items() if k != INIT}, "has no H_init"),
        (lambda s: {k: v for k, v in s.items() if "q_head.bias" not in k}, "lacks inner.q_head.bias"),
        (lambda s: s | {KEY + "extra\x1b[2J": torch.zeros(2)}, r"extra\\x1b"),
    ],
)
def test_odd_checkpoints_end_in_one_sentence(official, change, says, capsys):
    torch.save(change(dict(official)), "s")
    assert cli.main(["import", "s", "--out", "b", "--prefix", "1"]) == 2
    told = capsys.readouterr().err
    assert re.search(says, told) and told.count("\n") == 1 and not Path("b").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": 10**9}, "hidden_size"),
        ({"hidden_size": 128, "num_heads": 2}, "hidden_size is 128, but the checkpoint has 64"),
        ({"L_layers": 10**6}, "L_layers is 1000000, but the checkpoint has 1"),
        ({"H_layers": 10**9}, "H_layers is 1000000000"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"num_heads": "many"}, "num_heads is many"),
        ({"expansion": 10**5}, "configuration"),
        ({"expansion": float("nan")}, "expansion is nan"),
        ({"puzzle_emb_len": 10**6 + 1}, "puzzle_emb_len"),
        ({"H_cycles": None}, "H_cycles is missing"),
        ({"pos_encodings": "spiral"}, "pos_encodings is spiral"),
        ({"forward_dtype": "int8"}, "forward_dtype is int8"),
        ({"seq_len": 10**9}, "no task is known"),
    ],
)
def test_sizes_that_are_not_the_checkpoints_are_refused_before_anything_is_built(official, change, says, capsys):
    torch.save(official, "s")
    Path("a.json").write_text(json.dumps({"arch": ARCH | change}))
    assert cli.main(["import", "s", "--arch", "a.json", "--out", "b"]) == 2
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1 and not Path("b").exists()


def test_files_of_other_kinds_are_refused_and_none_is_replaced(official, capsys):
    torch.save(official, "s")
    Path("empty").touch()
    Path("deep.json").write_text('{"arch": ' + "[" * 10_000)
    os.mkfifo("pipe")
    for words in (["empty"], ["pipe"], ["none"], ["."], ["s", "--arch", "deep.json"], ["s", "--arch", "pipe"]):
        assert cli.main(["import", *words, "--out", "b", "--prefix", "1"]) == 2, words
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["import", "s", "--out", "my run", "--prefix", "1"]) == 0
    assert "next: innerloop eval 'my run' --depth" in capsys.readouterr().out
    Path("notes.safetensors").write_text("mine")
    before = {p: p.read_bytes() for p in (*Path("my run").iterdir(), Path("notes.safetensors"))}
    for words in (
        ["import", "s", "--out", "my run", "--prefix", "1"],
        ["import", "s", "--out", "notes.safetensors", "--prefix", "1"],
        ["export", "my run", "--out", "notes.safetensors"],
        ["export", "my run", "--single", "notes.safetensors"],
        ["export", "my run", "--single", "my run/model.safetensors"],
        ["export", "my run", "--onnx", "my run/run.json"],
    ):
        assert cli.main(words) == 2, words
    assert {p: p.read_bytes() for p in before} == before
    assert cli.main(["export", "my run", "--out", "step"]) == cli.main(["export", "my run", "--out", "step"]) == 0
