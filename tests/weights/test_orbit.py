"""Orbit: what follows from symmetries, and that its answer turns with its question, exactly."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from innerloop import cli, create, recipes, tasks
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.learn.train import train
from innerloop.noise import salted
from innerloop.parts import fused
from innerloop.parts.config import NetConfig
from innerloop.parts.embed import Embed, initial_vectors
from innerloop.parts.orbits import Lines, Message, Near
from innerloop.recipes.sudoku import FAST
from innerloop.rules.symmetry import kinds, lines, orbits, relations
from innerloop.runs.fit import build, fit_config
from innerloop.runs.run import Data, Run, from_json, override, to_json
from innerloop.weights.orbit import SIZE, Config, Orbit

TASKS = {
    "sudoku9": ("sudoku", {"size": 9}),
    "sudoku6": ("sudoku", {"size": 6}),
    "sudoku4": ("sudoku", {"size": 4}),
    "colouring": ("colouring", {"size": 6}),
    "timetable": ("timetable", {"teachers": 5, "classes": 4, "days": 2, "periods": 3, "absences": (1, 1)}),
    "names": ("grid", {"alphabet": ".abc", "shape": (3, 4), "blank": ".", "symmetries": ("names",)}),
    "turns": ("grid", {"alphabet": ".abc", "shape": (4, 4), "blank": ".", "symmetries": ("turns",)}),
    "signs": ("grid", {"alphabet": ".<>^v1", "shape": (3, 4), "blank": ".", "symmetries": ("mirror <>", "flip ^v")}),
    "both": ("grid", {"alphabet": ".abc", "shape": (4, 4), "blank": ".", "symmetries": ("turns", "names")}),
}


def made(task, **changes):
    torch.manual_seed(0)
    size = replace(SIZE, hidden_size=4 * (len(task.symbols[0]) if task.symbols else 1), heads=2, most_views=8)
    return Orbit(Config(fit_config(size, task, 1), **changes)).eval()


def asked(inputs):
    return Question(torch.from_numpy(inputs.astype(np.int64)), torch.zeros(len(inputs), dtype=torch.long))


def puzzles(task, count=3):
    if task.name != "grid":
        return task.make(count, 0).inputs
    return np.random.default_rng(0).integers(1, task.vocab, (count, task.shape[0] * task.shape[1])).astype(np.uint8)


@pytest.mark.parametrize("name", TASKS)
def test_the_answer_turns_with_the_question(name):
    task = tasks.get(TASKS[name][0], **TASKS[name][1])
    loop, x = made(task), puzzles(task)
    views = task.views(len(x), np.random.default_rng(1))
    with torch.no_grad():
        plain, turned = (think(loop, asked(i), 4).answer.logits.numpy() for i in (x, views.apply(x)))
    want = np.empty_like(plain)
    for k in range(len(x)):
        want[k][:, views.tokens[k]] = plain[k][views.cells[k]]
    assert np.abs(turned - want).max() < 1e-3 * np.abs(plain).max()
    assert np.abs(turned - plain).max() > 0.01 * np.abs(plain).max(), "the views must move something"


def test_views_that_nothing_would_take_are_refused_or_said(capsys):
    for system, block in (("trm", "orbit"), ("orbit", "attention")):
        with pytest.raises(InputError, match=rf"most_views is 8, and \w+ with the block {block} thinks about one view"):
            create(system, "sudoku", most_views=8, block=block)
    with pytest.raises(InputError, match="most_views is 8"):
        build(override(recipes.get("sudoku4_trm"), ["config.net.most_views=8"]))
    words = ["train", "sudoku4", "--dry-run", "--device", "cpu", "--set", "data.count=8", "data.holdout=8"]
    for views in (8, 0):
        assert cli.main([*words, f"config.net.most_views={views}", "config.net.hidden_size=16"]) == 0
        assert ("this task tells no symmetries to view side by side" in capsys.readouterr().out) is (views == 8)


def test_noise_breaks_the_tie_and_salt_makes_another_trajectory():
    task = tasks.get("sudoku", size=4)
    loop, x = made(task), asked(puzzles(task))
    first, again = (think(loop, x, 2).answer.logits for _ in range(2))
    assert (first == again).all()
    other = think(loop, x, 2, state=salted(loop.init(x), 3)).answer.logits
    assert (first - other).abs().max() > 0.01
    third, no = (think(loop, x, 2, state=salted(loop.init(x), i)).answer.logits for i in (4, 0))
    assert (third - other).abs().max() > 0.01 and (no == first).all()
    h = loop.add_start_noise(salted(loop.init(x), 3)).unflatten(2, (4, 4))
    assert (h[:, :, 0] != h[:, :, 1]).all() and (h[0] == h[1]).all(), "of the trajectory, not of the question"
    double = made(task, sigma=2.0)
    some = salted(loop.init(x), torch.tensor([0, 3, 3]))
    moved = [(m.add_start_noise(some) - some.h) for m in (loop.train(), double.train())]
    assert not moved[0][0].any() and torch.allclose(2 * moved[0], moved[1], atol=1e-5), (
        "sigma times, none without a key"
    )
    loop.eval()
    still = loop.step(loop.init(x), x)
    assert (loop.add_start_noise(still) == still.h).all(), "noise comes once"
    shaken = loop.step(salted(loop.init(x), 3), x)
    assert not shaken.key.any(), "also on a trajectory that has noise"
    assert (loop.add_start_noise(shaken) == shaken.h).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 6, 8, 9, 16])
def test_the_lines_of_sudoku_follow_from_its_symmetries(size):
    task = tasks.get("sudoku", size=size)
    cells = task.views(48, np.random.default_rng(0)).cells
    found, units = set(lines(cells, size)), {tuple(sorted(u)) for u in task.units.tolist()}
    assert units <= found
    if size in (9, 16):
        assert found == units
        number = kinds(sorted(found), cells)
        assert np.bincount(number).tolist() in ([2 * size, size], [size, 2 * size]), "rows and columns are one kind"


def test_without_symmetries_nothing_follows():
    still = np.arange(16)[None]
    assert lines(still, 4) == [] and (orbits(still) == np.arange(16)).all()
    assert len(np.unique(relations(still))) == 16 * 17 // 2
    assert lines(tasks.get("maze", size=8).views(20, np.random.default_rng(0)).cells, 4) == []


def test_kinds_are_what_moves_take_to_each_other():
    swap = np.array([[1, 0, 2, 3], [0, 1, 2, 3]])
    assert kinds([(0,), (1,), (2,), (2, 3)], swap) == [0, 0, 1, 2]
    assert kinds([(0, 2), (3,)], swap) == [0, 1], "moved to what is no set: a kind of its own"


@pytest.mark.parametrize(
    ("task", "options", "hears"),
    [
        ("sudoku", {"size": 4}, {"symbols", "lines"}),
        ("maze", {"size": 8}, {"near"}),
        ("queens", {"size": 6}, {"lines"}),
        ("timetable", {}, {"symbols", "lines"}),
        ("grid", {"alphabet": ".ab", "shape": (1, 8)}, {"far"}),
        ("grid", {"alphabet": ".ab", "shape": (2, 4)}, {"lines", "near"}),
    ],
)
def test_what_a_node_hears_follows_from_the_task(task, options, hears):
    assert set(made(tasks.get(task, **options)).net.blocks[0].messages) == hears


def test_attention_joins_in_where_places_are_told_apart():
    task = tasks.get("maze", size=8)
    size = fit_config(replace(SIZE, hidden_size=8, heads=2, positions="learned"), task, 1)
    assert set(Orbit(Config(size)).net.blocks[0].messages) == {"near", "far"}


def test_a_given_is_seen_by_its_own_node_and_by_the_others_alike():
    size = fit_config(replace(SIZE, hidden_size=12), tasks.get("grid", **TASKS["names"][1]), 1)
    embed = Embed(size)
    row = torch.full((1, 12), 3)  # "b", the second of three names
    seen = embed(Question(row, torch.zeros(1, dtype=torch.long)), torch.float32)[0, 0].view(3, 4)
    table = embed.tokens.weight * 2.0  # the root of a node's width
    assert torch.equal(seen[1], table[2]) and torch.equal(seen[0], table[4]) and torch.equal(seen[2], table[4])
    first = initial_vectors(size, 2).view(2, 3, 4)
    assert torch.equal(first[:, 0], first[:, 2]) and not torch.equal(first[0], first[1])


def test_two_forms_of_a_symbol_are_told_apart():
    task = tasks.get("timetable", **TASKS["timetable"][1])
    embed = made(task).embed
    one, struck = task.symbols[0][1], task.symbols[1][1]
    assert len(set(embed.symbol_rows[[one, struck]].flatten().tolist())) == 4
    assert embed.symbol_rows[one, 1] == task.symbols[0][0] and embed.symbol_rows[struck, 1] == task.symbols[1][0]


def test_lines_add_up_what_their_places_say():
    """Against the sum written out, for two kinds, a prefix and two nodes."""
    torch.manual_seed(0)
    config = NetConfig(vocab=5, seq=4, rows=2, hidden_size=6, heads=1, prefix=1, puzzle_emb_size=0, positions="none",
                orbits=(((0, 1), (2, 3)), ((0, 2, 3),)), symbols=((2, 3),))  # fmt: skip
    part, x = Lines(config, 8), torch.randn(2, 5, 2, 3)
    want = torch.zeros(2, 5, 2, 16)
    for message, kind in zip(part.kinds, config.orbits, strict=True):
        for line in kind:
            places = [p + 1 for p in line]
            said = message(x[:, places].sum(1) * len(line) ** -0.5) * len(line) ** -0.5
            for p in places:
                want[:, p] += said
    assert (part(x) - want).abs().max() < 1e-5
    assert isinstance(part.kinds[0], Message) and len(part.kinds) == 2


def test_near_hears_the_cells_about_it_and_no_prefix():
    torch.manual_seed(0)
    size = NetConfig(
        vocab=5, seq=9, rows=3, hidden_size=4, heads=1, prefix=2, puzzle_emb_size=0, positions="none", local=True
    )
    part, x = Near(size, 8), torch.randn(1, 11, 1, 4)
    moved = x.clone()
    moved[:, 2] += 1  # the first cell
    heard = (part(moved) != part(x)).any(-1)[0, :, 0].tolist()
    assert heard == [False, False, True, True, False, True, True, False, False, False, False]
    assert (part(x)[:, :2] == 0).all()


def test_widths_that_do_not_split_are_refused():
    with pytest.raises(InputError, match="does not split into 3 nodes"):
        replace(SIZE, symbols=((2, 3, 4),), hidden_size=16, heads=2)


def test_a_run_keeps_its_orbits():
    run = build(
        Run("x", "orbit", Config(replace(SIZE, hidden_size=16)), Data("sudoku", {"size": 4}, count=4, holdout=2))
    ).run
    assert from_json(to_json(run)) == run and len(run.config.net.orbits) == 3


@pytest.mark.slow
def test_it_learns_what_a_net_without_ties_does_not(tmp_path):
    """9x9 from 300 puzzles in sixty steps: most cells of puzzles never seen."""
    data = Data("sudoku", {"givens": (40, 50)}, count=300, holdout=60)
    plan = replace(
        FAST, steps=60, lr=1e-2, ema=0.9, warmup=5, check_every=60, save_every=60, depths=(8,), compile="off"
    )
    built = build(Run("x", "orbit", Config(), data, plan))
    seen = []
    how = {"validation": built.validation, "live": False, "on_check": lambda step, rows: seen.append(rows[-1].token)}
    result = train(built.loop, built.task, built.train, plan, tmp_path, **how)
    assert not result.stopped and seen[-1] > 0.7, seen


@pytest.mark.parametrize("region", [True, False])
def test_a_finer_loop_passes_through_the_same_states(region):
    loop, x = made(tasks.get("sudoku", size=4)), asked(puzzles(tasks.get("sudoku", size=4)))
    first = salted(loop.init(x), torch.tensor([0, 1, 2]))
    fine = loop.split_steps(3)
    with torch.no_grad(), nullcontext() if region else fused.plain():
        want, got = loop.step(loop.step(first, x), x), first
        for _ in range(6):
            got = fine.step(got, x)
    assert torch.equal(got.h, want.h) and torch.equal(got.key, want.key)
    assert next(fine.parameters()) is next(loop.parameters()) and loop.c.rounds == 6
    with pytest.raises(InputError, match="6 rounds"):
        loop.split_steps(4)
