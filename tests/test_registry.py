"""The public list: what there is by name, a fresh model of it, a trained one."""

import inspect

import pytest
import torch

import innerloop
from innerloop import pretrained, tasks, weights
from innerloop.core import Question
from innerloop.errors import InputError


def test_every_public_name_is_there_and_shown():
    for name in innerloop.__all__:
        assert getattr(innerloop, name) is not None
    assert [name for name in dir(innerloop) if not name.startswith("_")] == sorted(innerloop.__all__)
    assert set(innerloop._HOME) == set(innerloop.__all__)
    seen = set(inspect.getsource(innerloop).split("if TYPE_CHECKING:")[1].split("_HOMES")[0].replace(",", " ").split())
    assert set(innerloop.__all__) <= seen, "an editor is not shown every name"


def test_names_by_kind():
    assert innerloop.list() == innerloop.list("systems") == weights.names()
    assert innerloop.list("tasks") == tasks.names() and "demo" in innerloop.list("recipes")
    assert innerloop.list("pretrained") == pretrained.names() and "orbit" in innerloop.list("blocks")
    with pytest.raises(InputError, match='did you mean "systems"'):
        innerloop.list("system")


@pytest.mark.parametrize("system", ["orbit", "trm"])
def test_a_fresh_model_fits_its_task(system):
    task = tasks.get("sudoku", size=4)
    before = torch.random.get_rng_state()
    loops = [innerloop.create(system, task, seed=seed, hidden_size=64, dtype="float32") for seed in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), before)
    first = [next(loop.parameters()) for loop in loops]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
    puzzles = torch.from_numpy(task.make(3, 0).inputs.astype("int64"))
    thought = innerloop.think(loops[0], Question(puzzles, torch.zeros(3, dtype=torch.long)), depth=2)
    assert thought.answer.logits.shape == (3, 16, task.vocab)


def test_unknown_fields_and_systems_are_named():
    with pytest.raises(InputError, match='did you mean "hidden_size"'):
        innerloop.create("trm", hiden_size=64)
    with pytest.raises(InputError, match="trm"):
        innerloop.create("trn")


def test_a_trained_model_by_name_solves():
    assert innerloop.open_run("demo-sudoku4").task.name == "sudoku"
    solution = innerloop.open_solver("demo-sudoku4").solve("1.3.34.2.1.34.2.")[0]
    assert solution.known and solution.valid
