"""What a model is asked at its door and says of itself, whatever kind of run it comes from."""

import asyncio
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from innerloop import cli
from innerloop.cli.inputs import Code, open_run
from innerloop.cli.serving import Opener
from innerloop.errors import InputError
from innerloop.export.hub import save_single
from innerloop.learn.checkpoint import save_weights
from innerloop.recipes import get as get_recipe
from innerloop.runs.fit import build
from innerloop.runs.folder import write_run
from innerloop.runs.run import Data
from innerloop.serve import schema
from innerloop.serve.about import DetailCache, held_out_puzzles, model_info
from innerloop.serve.models import Limits, ModelNotFound, Registry, RequestTooLarge, batch_sizes
from innerloop.solve.hybrid import with_exact_fallback
from innerloop.tasks import get

EASY = "1.3.34.2.1.34.2."


@pytest.fixture
def registry():
    made = Registry(open_run, Limits(depth=100, width=4, puzzles=3, queue=8))
    yield made
    made.close()


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    """A run of puzzles whose rules nobody told, from a file."""
    folder = tmp_path_factory.mktemp("grid")
    found, names = get("sudoku", size=4).make(60, 5), str.maketrans(".1234", "-abcd")
    text = get("sudoku", size=4).decode
    rows = [f"{text(q)},{text(a)}".translate(names) for q, a in zip(found.inputs, found.labels, strict=True)]
    (folder / "p.csv").write_text("\n".join(["question,answer", *rows]))
    small = ["plan.steps=4", "plan.batch=8", "plan.compile=off", "config.net.hidden_size=32", "config.dtype=float32"]
    words = ["train", "grid", "--data", str(folder / "p.csv"), "--out", str(folder / "run"), "--device", "cpu"]
    assert cli.main([*words, "--set", *small, "data.holdout=20", "data.task=grid"]) == 0
    return folder


def asked(**dials):
    return schema.SolveRequest(puzzle=EASY, **dials)


def test_a_folder_whose_name_no_url_can_hold_is_served(registry, run, tmp_path):
    copy = tmp_path / "Anna's run 1"
    shutil.copytree(run, copy)
    assert registry.add(str(copy)).name == "Anna-s-run-1"


def test_names(registry, run):
    assert registry.add(str(run)).name == "four" and registry.add(f"b={run}").name == "b"
    assert registry.get("b").source == str(run)
    with pytest.raises(InputError, match="two models"):
        registry.add(f"b={run}")
    with pytest.raises(InputError, match="cannot be the name"):
        registry.add(f"a/b={run}")
    with pytest.raises(ModelNotFound, match="the models are four, b"):
        registry.get("c")


def test_a_puzzle_identifier_is_given_by_name_or_number(registry, tmp_path):
    pairs = [{"input": [[k]], "output": [[0]]} for k in range(4)]
    (tmp_path / "p.json").write_text(json.dumps({n: {"train": pairs[:3], "test": pairs[3:]} for n in ("aa", "bb")}))
    run = get_recipe("grid_attention")
    small = {"hidden_size": 32, "heads": 1, "layers": 1, "prefix": 1, "puzzle_emb_size": 32}
    small |= {"positions": "learned", "block": "attention"}
    config = replace(run.config, net=replace(run.config.net, **small))
    built = build(replace(run, config=config, data=Data("", {}, train=str(tmp_path / "p.json"), count=0, holdout=2)))
    write_run(tmp_path / "arc", built.run, built)
    save_weights(tmp_path / "arc" / "model.safetensors", built.loop.state_dict())
    served = registry.add(str(tmp_path / "arc"))
    text = served.task.decode(built.train.inputs[0])
    request = lambda i: schema.SolveRequest(puzzle=text, identifier=i, depth=1)  # noqa: E731
    number = served.identifier_names.index("bb")
    for given in ("bb", number, float(number)):
        (case,) = served.make_work([text], request(given), None, lambda: None).puzzles
        assert case.puzzle == number > 0
    with pytest.raises(
        InputError, match='identifier "bc" is not one that this model was trained on: did you mean "bb"'
    ):
        served.solve_options(request("bc"))
    with pytest.raises(ValidationError):
        request(-1)


def test_the_door(registry, run):
    served = registry.add(str(run))
    for dials, said in [
        ({"depth": 101}, "depth 101"),
        ({"width": 5}, "width 5"),
        ({"seconds": 31.0}, "seconds 31"),
        ({"identifier": 1}, "identifier 1"),
        ({"identifier": "aa"}, 'identifier "aa" is not one .* it has 0 names'),
        ({"pick": "value"}, "has no selection rule"),
        ({"width": 2, "views": False, "guess": False}, "same trajectory"),
    ]:
        with pytest.raises(InputError, match=said):
            served.solve_options(asked(**dials))
    many = schema.SolveManyRequest(puzzles=[EASY] * 3, width=3)
    with pytest.raises(RequestTooLarge, match="queue holds"):
        served.make_work(many.puzzles, many, None, lambda: None)
    with pytest.raises(RequestTooLarge, match="at once: 3"):
        served.make_work([EASY] * 4, asked(), None, lambda: None)
    with pytest.raises(InputError, match="limit of rows is 0"):
        Limits(rows=0)


def test_few_batch_sizes_are_run_and_little_is_padded(registry, run):
    assert batch_sizes(64) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]
    assert batch_sizes(1) == [1] and batch_sizes(9) == [*range(1, 9), 9]
    for rows in range(1, 200):
        found = batch_sizes(rows)
        assert found == sorted(set(found)) and found[-1] == rows
        assert all(min(s for s in found if s >= n) < 1.25 * n for n in range(1, rows + 1))
    served = registry.add(str(run))
    assert served.engine_factory.engine(served.solve_options(asked())).sizes == batch_sizes(64)


@pytest.mark.slow
def test_rules_that_nobody_knows(registry, unknown):
    """No verdict, no verified answer, no probability: a head or a vote picks, and nobody pretends otherwise."""
    served = registry.add(f"grid={unknown / 'run'}")
    said = model_info(served)
    assert not said.verifies and not said.exact and "verified" not in said.rules and said.units is None
    assert served.solve_options(asked()).pick == ("q" if "q" in said.rules else "vote")
    with pytest.raises(InputError, match="exact model"):
        served.solve_options(asked(exact=True))
    with pytest.raises(InputError, match='no selection rule "verified"'):
        served.solve_options(asked(pick="verified"))
    detail = asyncio.run(DetailCache(served).detail())
    assert len(detail.examples) == 12 and detail.source == "p.csv" and set(detail.examples[0].question) <= set("-abcd")
    held, _ = held_out_puzzles(served.opened, 1000)
    assert len(held) == 20


def test_rules_of_ones_own_make_a_verifier_and_an_exact_model(unknown, tmp_path):
    """Of the same run: what `serve --rules` says of it, on which the page builds."""
    pytest.importorskip("ortools", reason="OR-tools is not installed: pip install 'innerloop[solve]'")
    (tmp_path / "rules.py").write_text(
        "def constrain(model, has, question: str):\n"
        "    for cell in range(16):\n"
        "        if question[cell] != '-':\n"
        "            model.add(has(cell, question[cell]) == 1)\n"
        "    for row in range(4):\n"
        "        for symbol in 'abcd':\n"
        "            model.add_exactly_one([has(4 * row + i, symbol) for i in range(4)])\n"
    )
    source = str(unknown / "run")
    registry = Registry(Opener((source,), "cpu", Code(), str(tmp_path / "rules.py")), Limits())
    try:
        served = registry.add(f"grid={source}")
        said = model_info(served)
        assert said.verifies and said.exact and "verified" in said.rules and served.task.verifies
        text = "ab-" + "d" + "-" * 12
        question = served.tokens([text])
        guess = served.solver.solve(text, depth=1)[0]
        found = with_exact_fallback(served.task, question[0], guess, 10.0)
        assert found.valid and found.text[:4] == "abcd" and {*found.text} == {*"abcd"}
        assert registry.served["grid"].solver.verify(question, found.answer[None])[0]
        assert not served.solver.verify(question, question)[0]
    finally:
        registry.close()


def test_a_run_whose_file_is_gone(registry, unknown, tmp_path):
    shutil.copytree(unknown / "run", tmp_path / "run")
    opened = open_run(tmp_path / "run")
    away = opened.run.data.train.replace("p.csv", "q.csv")
    lost = opened._replace(run=opened.run.__class__(**{**vars(opened.run), "data": data_of(opened, train=away)}))
    assert held_out_puzzles(lost, 10) == (None, "the run's puzzles are not on this machine")
    sudoku = lost._replace(task=get("sudoku", size=4))  # one that can make its own
    found, source = held_out_puzzles(sudoku, 10)
    assert len(found) == 10 and "not on this machine" in source


def data_of(opened, **changes):
    return opened.run.data.__class__(**{**vars(opened.run.data), **changes})


@pytest.mark.slow
def test_calibrated_confidence_and_single_files(registry, unknown, run, tmp_path):
    assert cli.main(["calibrate", str(unknown / "run"), "--depth", "4", "--device", "cpu"]) == 0
    try:
        served = registry.add(f"known={unknown / 'run'}")
    finally:
        (unknown / "run" / "calibration.json").unlink()
    said, detail = model_info(served), asyncio.run(DetailCache(served).detail())
    assert said.calibrated and {t.rule for t in detail.curves.trust} <= set(said.rules)
    assert served.solve_options(asked()).pick in {t.rule for t in detail.curves.trust}
    save_single(open_run(run), tmp_path / "one.safetensors")
    single = registry.add(str(tmp_path / "one.safetensors"))
    assert single.name == "one" and not model_info(single).calibrated
    told = asyncio.run(DetailCache(single).detail())
    assert told.born["seeds"] == [open_run(run).run.seed] and len(told.examples) == 12


def test_what_is_sent_of_a_solution(registry, run):
    served = registry.add(str(run))
    found = served.solver.solve(["." * 16], 1, 1, "residual")[0]
    question = served.tokens(["." * 16])[0]
    said = served.solution_body(found, question)
    assert said.wrong and not said.valid and said.confidence == 0.0
    clean = served.solution_body(served.solver.solve([EASY], 16)[0], served.tokens([EASY])[0])
    assert clean.valid and clean.wrong == [] and np.allclose(clean.certainty, np.round(clean.certainty, 3))
