"""What a run learned from: found from any folder, the same as when it began, its puzzles known by name, shared."""

import json
import re
import shlex
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop import cli, pretrained, recipes, tasks
from innerloop.core import think
from innerloop.data import sets as sets_of
from innerloop.data.arc_files import augmented, read_arc
from innerloop.data.formats import write_csv
from innerloop.data.hub import is_hub_name
from innerloop.data.leakage import leakage
from innerloop.data.official import write_official
from innerloop.data.opening import open_set
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.export import hub
from innerloop.export.card import example
from innerloop.learn import checkpoint
from innerloop.learn.stream import to_batch
from innerloop.runs import origin
from innerloop.runs import run as runs
from innerloop.runs.fit import build, build_model, fit_config, load_data
from innerloop.runs.folder import open_run, write_run
from innerloop.runs.single import match_identifiers

TINY = {"hidden_size": 32, "heads": 1, "layers": 1, "prefix": 1, "puzzle_emb_size": 32, "positions": "learned"}
TINY |= {"block": "attention"}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def csv(path, letters="abc", rows=81):
    lines = ["question,answer"]
    for q in list(product(letters, repeat=4))[:rows]:
        lines.append("".join(q) + "," + "".join(letters[(letters.index(c) + 1) % len(letters)] for c in q))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(lines) + "\n")
    return str(path)


def sudokus(path, rows):
    task = tasks.get("sudoku", size=4)
    write_csv(path, task.make(rows, 0), task)
    return str(path)


def saved(folder, data, base="grid_attention", **size):
    """The folder of a small model with random weights, as `train` leaves it."""
    run = recipes.get(base)
    config = replace(run.config, net=replace(run.config.net, **(TINY | size)))
    built = build(replace(run, config=config, data=data))
    write_run(Path(folder), built.run, built)
    torch.nn.init.normal_(built.loop.embed.puzzles.weight) if hasattr(built.loop.embed, "puzzles") else None
    checkpoint.save_weights(Path(folder) / "model.safetensors", built.loop.state_dict())
    return built


def refused(words, capsys, *says):
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    errors = [line for line in told.splitlines() if " is read as " not in line]  # what a file was taken for is no error
    assert len(errors) == 1 and all(part in errors[0] for part in says), told
    return told


# -- paths ------------------------------------------------------------------------------------------------------------


def test_a_relative_path_is_found_from_another_folder(tmp_path, monkeypatch, capsys):
    saved("runs/my", runs.Data("", {}, train=sudokus("data/my.csv", 40), test=sudokus("data/more.csv", 20), holdout=10))
    eval_ = ["eval", str(tmp_path / "runs/my"), "--depth", "1", "--device", "cpu"]
    assert cli.main(eval_) == 0
    here = json.loads(Path("runs/my/eval.json").read_text())
    assert here["data"] == "data/more.csv", "where it is found as given, it is called so"
    (tmp_path / "else/data").mkdir(parents=True)
    sudokus(tmp_path / "else/data/more.csv", 7)  # another file of that name is not taken for it
    monkeypatch.chdir(tmp_path / "else")
    assert cli.main(eval_) == 0
    assert json.loads((tmp_path / "runs/my/eval.json").read_text())["rows"][0]["exact"] == here["rows"][0]["exact"]
    capsys.readouterr()
    monkeypatch.chdir("/")
    (tmp_path / "data/more.csv").unlink()
    refused(eval_, capsys, "there is no file", "data/more.csv")
    assert "paths" not in hub.model_texts(open_run(tmp_path / "runs/my"))["run.json"].replace('"paths": {}', "")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("owner/set", True), ("owner/set/test", True), ("data/my.csv", False), ("data/my.csv.gz", False)]
    + [(n, False) for n in ("a/b.jsonl", "a/b.npz", "a/b.JSON", "./a/b", "../a/b", "/a/b", "a/b.csv/train", "a\\b")],
)
def test_what_ends_as_a_file_is_no_hub_name(name, is_one, capsys):
    assert is_hub_name(name) is is_one
    if not is_one:
        path = str(Path(name)).removesuffix("/train")
        refused(["train", "grid", "--data", name], capsys, f"there is no file {path}")


# -- fingerprints -----------------------------------------------------------------------------------------------------


def test_a_run_whose_data_changed_is_not_gone_on_with(capsys):
    built = saved("r", runs.Data("", {}, train=sudokus("my.csv", 40), holdout=10))
    hub.save_single(open_run("r"), "m.safetensors")
    before = {p.name: p.read_bytes() for p in Path("r").iterdir()}
    write_run(Path("r"), built.run, build(built.run, "r"))  # the same data: it goes on
    assert cli.main(["eval", "m.safetensors", "--depth", "1", "--out", "e.json"]) == 0
    assert "no fingerprint" not in capsys.readouterr().err
    sudokus("my.csv", 39)
    refused(["eval", "m.safetensors", "--depth", "1", "--out", "e.json"], capsys, "the data changed", "validated on")
    refused(["train", "r", "--device", "cpu"], capsys, "the data changed", "my.csv", "learned from", "--fresh")
    refused(["eval", "r", "--device", "cpu"], capsys, "the data changed", "my.csv", "validated on")
    refused(["export", "r", "--data", "out"], capsys, "the data changed")
    assert {p.name: p.read_bytes() for p in Path("r").iterdir()} == before
    other = replace(built.run, data=replace(built.run.data, holdout=5))
    with pytest.raises(InputError, match="holds another run"):  # asked for by the user: not the file's doing
        write_run(Path("r"), other, build(other))
    value = json.loads(before["run.json"])
    Path("r/run.json").write_text(json.dumps({k: v for k, v in value.items() if k != "data"}))
    write_run(Path("r"), built.run, build(built.run, "r"))  # a run from before goes on as before
    assert cli.main(["eval", "r", "--depth", "1", "--device", "cpu"]) == 0
    assert "no fingerprint of what" in capsys.readouterr().err


def test_the_same_puzzles_by_another_path_are_the_same_run(tmp_path):
    built = saved("r", runs.Data("", {}, train=sudokus("my.csv", 40), holdout=10))
    before = json.loads(Path("r/run.json").read_text())

    def given(path):
        run = replace(built.run, data=replace(built.run.data, train=str(path)))
        write_run(Path("r"), run, build(run))
        return json.loads(Path("r/run.json").read_text())

    absolute = given(tmp_path / "my.csv")
    assert absolute["run"]["data"]["train"] == str(tmp_path / "my.csv") and absolute["born"] == before["born"]
    assert absolute["data"] == before["data"] | {"paths": {}}
    Path("else").mkdir()
    Path("my.csv").rename("else/moved.csv")
    assert given("else/moved.csv")["data"]["paths"] == {"train": "../else/moved.csv"}
    with pytest.raises(InputError, match=r'holds another run \(data\.train is "else/moved\.csv" there'):
        given(sudokus("my.csv", 39))


def test_where_only_the_puzzles_of_validation_changed_nothing_is_exported(capsys):
    data = runs.Data("", {}, train=sudokus("my.csv", 40), test=sudokus("other.csv", 12), holdout=0)
    saved("r", data)
    sudokus("other.csv", 11)
    refused(["export", "r", "--data", "out"], capsys, "the data changed", "other.csv", "validated on")
    assert not Path("out").exists()


def test_a_fingerprint_is_of_everything_that_is_learned_from(monkeypatch):
    s = tasks.get("arc").make(5, 0)
    was = origin.fingerprint(s)
    monkeypatch.setattr(sets_of, "PIECE", 1000)
    assert origin.fingerprint(s) == was, "in whatever pieces"
    for change in (
        {"inputs": s.inputs[::-1]},
        {"labels": s.labels[::-1]},
        {"puzzle": (s.puzzle + 1) % 6},
        {"group": s.group + 1},
        {"identifiers": (*s.identifiers[:-1], "other")},
        {"vocab": 13},
    ):
        assert origin.fingerprint(replace(s, **change)) != was, change
    assert origin.fingerprint(replace(s, rating=np.ones(5, np.float32), source="elsewhere")) == was


# -- names ------------------------------------------------------------------------------------------------------------


def arc(path, names, tests=1, outputs=True):
    """Puzzles of 3 demonstrations and some tests, of which no two are alike up to turns and colours."""
    held = {}
    for i, name in enumerate(names):
        pairs = [{"input": [[7] * k + [0] * (7 + i - k)], "output": [[i] * k]} for k in range(1, 4 + tests)]
        held[name] = {"train": pairs[:3], "test": [p if outputs else {"input": p["input"]} for p in pairs[3:]]}
    Path(path).write_text(json.dumps(held))
    return str(path)


@pytest.fixture
def named():
    arc("p.json", ["aa", "bb", "cc"])
    return saved("r", runs.Data("", {}, train="p.json", count=0, holdout=3))


def test_solve_answers_for_the_files_own_puzzle(named, capsys):
    """The table's rows differ, so a puzzle that is asked by another's row gets another answer."""
    opened = open_run("r")
    assert json.loads(Path("r/identifiers.json").read_text()) == ["<blank>", "aa", "bb", "cc"]
    arc("one.json", ["cc"], outputs=False)  # number 1 in its own file, 3 in the run
    assert cli.main(["export", "r", "--single", "m.safetensors"]) == 0
    asked = read_arc("one.json", "test", hidden=True)
    right, wrong = (answer(opened, asked, row) for row in (3, 1))
    assert right != wrong
    for source in ("r", "m.safetensors"):
        assert match_identifiers(pretrained.open(source), asked).puzzle.tolist() == [3]
    assert (
        cli.main(["solve", "r", "one.json", "--depth", "1", "--pick", "vote", "--device", "cpu", "--out", "a.csv"]) == 0
    )
    head, row = Path("a.csv").read_text().splitlines()
    assert head.endswith(",puzzle") and row.endswith(",cc") and row.split(",")[1] == right
    capsys.readouterr()
    arc("two.json", ["aa", "dd"])
    for verb in (["solve", "r", "two.json"], ["eval", "r", "--data", "two.json"]):
        refused([*verb, "--device", "cpu"], capsys, "the puzzle dd is none that this model has learned")
    Path("r/identifiers.json").unlink()  # a run from before goes by number
    assert match_identifiers(opened, read_arc("two.json")).puzzle.max() == 2


@torch.no_grad()
def answer(opened, asked, row):
    x = to_batch(asked.inputs, asked.labels, np.array([row]), "cpu").question
    return opened.task.decode(think(opened.loop, x, 1).answer.logits.argmax(-1)[0].numpy())


def test_identifiers_are_numbered_by_name():
    s = PuzzleSet(
        np.ones((3, 4)), np.ones((3, 4)), vocab=3, shape=(2, 2), puzzle=[2, 1, 0], identifiers=("<blank>", "x", "y")
    )
    found = origin.renumber_identifiers(s, ("<blank>", "y", "z", "x"))
    assert found.puzzle.tolist() == [1, 3, 0] and found.identifiers[3] == "x"
    assert (
        origin.renumber_identifiers(s, s.identifiers) is s
        and origin.renumber_identifiers(s, (*s.identifiers, "more")) is s
    )
    loose = origin.renumber_identifiers(s, ("<blank>", "y"), strict=False)
    assert loose.puzzle.tolist() == [1, 2, 0] and loose.identifiers == ("<blank>", "y", "x")
    with pytest.raises(InputError, match="the puzzle x is none"):
        origin.renumber_identifiers(s, ("<blank>", "y"))
    with pytest.raises(InputError, match="the puzzle y is none"):
        origin.renumber_identifiers(s, ("<blank>", "x"))  # a list that agrees as far as it goes


def test_validating_on_puzzles_that_never_train_is_refused(named, capsys):
    arc("q.json", ["zz"])
    with pytest.raises(InputError, match="the puzzle zz is none"):
        saved("s", runs.Data("", {}, train="p.json", test="q.json", count=0))
    _, train, validation = load_data(runs.Data("", {}, train="p.json", test=arc("o.json", ["cc"]), count=0))
    assert set(validation.puzzle) == {3} and train.identifiers[3] == "cc"


# -- what is held out -------------------------------------------------------------------------------------------------


def test_arc_validates_on_test_pairs_of_puzzles_that_train(named):
    task, train, validation = load_data(named.run.data)
    assert len(train) == 9 and len(validation) == 3 and set(validation.puzzle) <= set(train.puzzle)
    assert leakage(train, validation, task).count == 0
    assert np.array_equal(validation.inputs, read_arc("p.json", "test").inputs)
    Path("r/run.json").write_text(json.dumps({"run": runs.to_json(named.run)}))  # of a run from before
    assert not set(load_data(named.run.data, "r")[2].puzzle) & set(load_data(named.run.data, "r")[1].puzzle)


@pytest.mark.parametrize("variants", [0, 3])
def test_where_outputs_are_hidden_a_pair_of_a_puzzle_is_held_out(variants):
    s = read_arc(arc("h.json", [f"p{i}" for i in range(6)], outputs=False))
    task, s = tasks.get("arc"), augmented(s, variants, 0) if variants else s
    write_official("d", s, "train", task.options)
    _, train, validation = load_data(runs.Data("", {}, train="d", count=0, holdout=4))
    assert len(validation) == 4 == len(set(validation.group)) and set(validation.puzzle) <= set(train.puzzle)
    assert leakage(train, validation, task).count == 0
    again = load_data(runs.Data("", {}, train="d", count=0, holdout=4))[2]
    assert np.array_equal(again.inputs, validation.inputs) and set(train.group) == set(range(6))


def test_an_official_folder_of_arc_validates_on_its_test_split():
    task, s = tasks.get("arc"), read_arc(arc("h.json", ["a", "b"]))
    write_official("d", s, "train", task.options)
    write_official("d", read_arc("h.json", "test"), "test", task.options)
    for path in ("d", "d/train"):
        _, train, validation = load_data(runs.Data("", {}, train=path, count=0, holdout=9))
        assert len(train) == len(s) and validation.source.endswith("test") and len(validation) == 2


def test_other_tasks_are_split_as_ever():
    task = tasks.get("sudoku", size=4)
    write_official("d", task.make(30, 0), "train", task.options)
    write_official("d", task.make(9, 1), "test", task.options)
    _, train, validation = load_data(runs.Data("", {}, train="d", count=0, holdout=6, seed=3))
    kept, held = open_set("d")[1].split(0.2, 3)
    assert np.array_equal(kept.inputs, train.inputs) and np.array_equal(held.inputs, validation.inputs)


# -- sharing ----------------------------------------------------------------------------------------------------------

SMALL = {
    "maze": {"size": 5},
    "queens": {"size": 4},
    "sudoku": {"size": 4},
    "grid": {"alphabet": "abc", "shape": [2, 2]},
}


@pytest.mark.parametrize("name", tasks.names())
def test_a_model_of_every_task_is_shared(name, tmp_path):
    """As one file and as a folder: it opens, has a card, and its example, if there is one, can be read."""
    task = tasks.get(name, **SMALL.get(name, {}))
    run = recipes.get("grid_attention")
    size = fit_config(replace(run.config.net, **TINY), task, len(task.identifiers))
    run = replace(run, config=replace(run.config, net=size), data=runs.Data(name, task.options))
    write_run(tmp_path / "r", run)
    checkpoint.save_weights(tmp_path / "r/model.safetensors", build_model(run).state_dict())
    opened = open_run("r")
    hub.save_single(opened, "m.safetensors")
    hub.save_folder(opened, "f")
    for source in ("m.safetensors", "f"):
        found = pretrained.open(source)
        state = opened.loop.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in found.loop.state_dict().items())
        line = next(x for x in pretrained.card(source).splitlines() if x.startswith("innerloop solve"))
        *_, question = shlex.split(line)
        assert question == example(task)
        if question not in ("QUESTION", "PUZZLES.json"):
            assert found.task.encode(question).shape == (task.shape[0] * task.shape[1],)


def test_a_grid_from_a_file_is_shared_and_solves(capsys):
    saved("r", runs.Data("", {}, train=csv("my.csv"), holdout=10))
    assert cli.main(["export", "r", "--single", "m.safetensors"]) == 0
    assert "QUESTION" in pretrained.card("m.safetensors"), "a user's puzzles are not put on a card"
    for verb in (["solve", "m.safetensors", "abca", "--quiet", "--pick", "vote"], ["report", "r"]):
        assert cli.main(verb) == 0
    pytest.importorskip("huggingface_hub")
    hub.Pretrained(open_run("r")).save_pretrained("f")
    assert hub.Pretrained.from_pretrained("f").task.charset == "abc"
    with pytest.raises(InputError, match="f holds another run"):
        hub.save_folder(pretrained.open("demo-sudoku4"), "f")


# -- official folders -------------------------------------------------------------------------------------------------


def export(path, split="train", out="d"):
    return cli.main(["export", path, "--data", out, "--split", split])


def test_a_second_export_keeps_what_the_first_means(capsys):
    assert export(csv("a.csv")) == 0
    before = {p: p.read_bytes() for p in Path("d").rglob("*") if p.is_file()}
    for split in ("train", "test"):
        capsys.readouterr()
        refused(["export", csv("b.csv", "bcd"), "--data", "d", "--split", split], capsys)
    write_other = tasks.get("sudoku", size=4)
    with pytest.raises(InputError, match="d holds another data set: its task"):
        write_official("d", write_other.make(3, 0), "test", write_other.options)
    assert {p: p.read_bytes() for p in Path("d").rglob("*") if p.is_file()} == before
    assert export(csv("few.csv", rows=5), "test") == 0, "whose letters are some of those"
    task, s = open_set("d/test")
    assert task.charset == "abc" and task.decode(s.inputs[0]) == "aaaa" and len(open_set("d/train")[1]) == 81


def test_a_folder_of_another_program_is_not_described_anew():
    task = tasks.get("sudoku", size=4)
    write_official("d", task.make(3, 0), "train")
    Path("d/innerloop.json").unlink()
    with pytest.raises(InputError, match="another program"):
        write_official("d", task.make(3, 1), "test", task.options)


def test_both_splits_count_the_names_of_a_list_that_grew():
    write_official("d", read_arc(arc("p.json", ["a"])), "train", tasks.get("arc").options)
    write_official("d", read_arc(arc("p.json", ["a", "b"]), "test"), "test", tasks.get("arc").options)
    counts = [json.loads(Path(f"d/{s}/dataset.json").read_text())["num_puzzle_identifiers"] for s in ("train", "test")]
    assert counts == [3, 3] and open_set("d")[1].identifiers == ("<blank>", "a", "b")


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("stated", [True, False])
def test_one_huge_identifier_is_refused(listed, stated):
    s = read_arc(arc("p.json", ["a", "b"]))
    folder = write_official("d", s, "train", tasks.get("arc").options)
    if not listed:
        Path("d/identifiers.json").unlink()
    if stated:
        about = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps(about | {"num_puzzle_identifiers": 2**31 - 1}))
    else:
        np.save(folder / "all__puzzle_identifiers.npy", np.array([1, 2**31 - 1], np.int32))
    with pytest.raises(InputError, match=r"2,?147,?483,?647"):
        open_set("d")


# -- commands that are said -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_command_that_is_said_can_be_run(tmp_path, capsys):
    """Paths with spaces, quotes, and what rich takes for its own."""
    where = tmp_path / "my [bold]run's"
    saved(where, runs.Data("", {}, train=sudokus("my.csv", 20), holdout=10))
    assert cli.main(["eval", str(where), "--depth", "1", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert shlex.split(told.split("next: ")[1])[:3] == ["innerloop", "plot", str(where)]
    for path in Path(cli.__file__).parents[2].rglob("*.py"):
        assert not re.search(rf"innerloop ({'|'.join(cli.VERBS)}) {{", path.read_text()), f"{path}: use text.command"
