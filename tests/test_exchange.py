"""Official checkpoints become runs and runs become official checkpoints, bit for bit."""

from dataclasses import replace

import pytest
import torch

from innerloop import cli, recipes, tasks
from innerloop.recipes import run as runs
from innerloop.tasks.files import write_csv


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("system", ["trm", "hrm"])
def test_export_and_import_are_bit_equal(tmp_path, system):
    size = replace(recipes.get("sudoku4_trm").config.size, mix="attention", positions="rope", prefix=1, puzzle_width=64)
    size = replace(size, vocab=11, seq=81, rows=9, width=64, heads=1, multiple=256, expansion=4.0, puzzle_width=64)
    module = __import__(f"innerloop.weights.{system}", fromlist=["Config"])
    run = replace(
        recipes.get("sudoku4_trm"), system=system, config=module.Config(size), data=runs.Data("sudoku", {"size": 9})
    )
    runs.write_run(tmp_path / "a", run)
    loop = runs.model(run)
    runs.checkpoint.save_weights(tmp_path / "a" / "model.safetensors", loop.state_dict())
    assert cli.main(["export", "a", "--out", "step_1"]) == 0
    words = ["--prefix", "1", "--cycles", str(run.config.cycles), "--low", str(tuple(vars(run.config).values())[2])]
    assert cli.main(["import", "step_1", "--out", "b", *words]) == 0
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    theirs = torch.load("step_1", weights_only=True)
    theirs = {k: v.bfloat16() if k.endswith(("H_init", "L_init")) else v for k, v in theirs.items()}
    torch.save(theirs, "step_2")
    arch = {
        "H_layers": size.layers if system == "hrm" else 0,
        "L_layers": size.layers,
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
    size = replace(recipes.get("sudoku4_trm").config.size, mix="attention", positions="rope", prefix=1, puzzle_width=64)
    size = replace(size, vocab=6, seq=16, rows=4, width=64, heads=1, multiple=256, expansion=4.0, puzzles=5, units=())
    value = replace(recipes.get("sudoku4_trm"), config=replace(recipes.get("sudoku4_trm").config, size=size))
    runs.write_run(tmp_path / "a", value)
    loop = runs.model(value)
    torch.nn.init.normal_(loop.embed.puzzles.weight)
    runs.checkpoint.save_weights(tmp_path / "a" / "model.safetensors", loop.state_dict())
    assert cli.main(["export", "a", "--out", "s"]) == 0
    assert cli.main(["import", "s", "--data", "d", "--prefix", "1", "--out", "b"]) == 0
    assert "mean of the old ones" in capsys.readouterr().out
    table = runs.open_run("b").loop.embed.puzzles.weight
    assert torch.allclose(table, loop.embed.puzzles.weight.mean(0, keepdim=True))
