"""Training: right, repeatable, and never losing more than one checkpoint interval."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from innerloop import tasks
from innerloop.core import Answer, Question, map_tensors, think
from innerloop.data.leakage import leakage
from innerloop.data.sets import PuzzleSet
from innerloop.errors import InputError
from innerloop.export import card
from innerloop.halt import answer_unchanged
from innerloop.interval import cluster_bootstrap, proportion, wilson
from innerloop.learn import checkpoint, precision
from innerloop.learn.evaluate import PICKS, batches, by_rating, evaluate, has_own_noise, score_set
from innerloop.learn.log import Log
from innerloop.learn.loss import IGNORE, accuracy_of, softmax_cross_entropy, stablemax_cross_entropy
from innerloop.learn.optim import EMA, AdamATan2, SparseSignSGD, optimizers, schedule
from innerloop.learn.plan import Plan
from innerloop.learn.stream import BLOCK, ExampleStream, to_batch
from innerloop.learn.supervise import (
    Batch,
    Draw,
    HaltingConfig,
    initial_carry,
    loss_and_metrics,
    question_for,
    supervised_step,
)
from innerloop.learn.tracker import BestTracker, upgraded_state
from innerloop.learn.train import Trainer, train
from innerloop.noise import key_of, salted
from innerloop.parts.embed import Table
from innerloop.recipes import get
from innerloop.runs.fit import build, unseen_puzzles
from innerloop.runs.run import override
from innerloop.weights import gram
from innerloop.width import Noisy, think_wide

TINY = ["config.net.hidden_size=32", "plan.batch=16", "plan.compile=off", "data.count=100", "data.holdout=40"]


def tiny(*changes):
    return override(get("sudoku4_trm"), [*TINY, *changes])


def trainer(folder, *changes, **how):
    built = build(tiny(*changes))
    how = {"validation": built.validation, "live": False} | how
    return Trainer(built.loop, built.task, built.train, built.run.plan, Path(folder), **how)


def weights_equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- losses -----------------------------------------------------------------------------------------------------------


def test_stablemax_is_a_distribution_ordered_like_the_logits():
    logits = torch.randn(2, 3, 5) * 4
    nll = torch.stack([stablemax_cross_entropy(logits, torch.full((2, 3), k)) for k in range(5)], -1)
    assert nll.dtype == torch.float64
    assert torch.allclose(nll.neg().exp().sum(-1), torch.ones(2, 3, dtype=torch.float64))
    assert torch.equal(nll.argmin(-1), logits.argmax(-1))


@pytest.mark.parametrize("loss", [softmax_cross_entropy, stablemax_cross_entropy])
def test_ignored_places_cost_and_teach_nothing(loss):
    logits = torch.randn(1, 4, 5, requires_grad=True)
    cost = loss(logits, torch.tensor([[1, IGNORE, 2, IGNORE]]))
    cost.sum().backward()
    assert (cost[0, [1, 3]] == 0).all() and (logits.grad[0, [1, 3]] == 0).all() and (logits.grad[0, 0] != 0).any()


def test_judge_counts_a_row_without_labels_as_exact_but_empty():
    logits = torch.eye(3)[None].repeat(2, 1, 1)
    got = accuracy_of(logits, torch.tensor([[0, 1, 1], [IGNORE] * 3]))
    assert got.exact.tolist() == [False, True] and got.num_labels.tolist() == [3, 0]
    assert got.token[0].item() == pytest.approx(2 / 3)


# -- optimizers -------------------------------------------------------------------------------------------------------


def test_schedule_rises_then_falls_to_its_floor_over_the_real_horizon():
    at = [schedule(t, 100, 10, 0.0) for t in range(100)]
    assert at[0] == pytest.approx(0.1) and max(at) == at[10] == 1.0 and at[-1] < 0.001
    assert schedule(99, 100, 10, 1.0) == 1.0
    half = [schedule(t, 100, 0, 0.2) for t in (0, 50, 100, 999)]
    assert half == pytest.approx([1.0, 0.6, 0.2, 0.2]) and schedule(4, 100, 10, 0.5) == 0.5


def test_adam_atan2_is_its_formula():
    """Three steps of two numbers against the formula of its docstring, written out."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = AdamATan2([p], lr=0.1, betas=(0.8, 0.9), weight_decay=0.3)
    want, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t, g in enumerate(([0.5, -1.0], [2.0, 0.25], [-1.0, 4.0]), 1):
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        m, v = 0.8 * m + 0.2 * np.array(g), 0.9 * v + 0.1 * np.array(g) ** 2
        turn = np.arctan2(m, np.sqrt(v / (1 - 0.9**t))) / (1 - 0.8**t)
        want = want * (1 - 0.1 * 0.3) - 0.1 * turn
        assert np.allclose(p.detach().numpy(), want, rtol=1e-12)


def test_sign_descent_touches_only_the_rows_of_the_batch_and_sums_repeated_ids():
    table = torch.nn.Parameter(torch.ones(5, 2))
    values = torch.tensor([[3.0, -1.0], [-1.0, 2.0], [0.5, 0.5]])
    table.grad = torch.sparse_coo_tensor(torch.tensor([[1, 1, 4]]), values, (5, 2), check_invariants=True)
    SparseSignSGD([table], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(table[1], torch.tensor([0.85, 0.85])) and torch.allclose(table[4], torch.tensor([0.85, 0.85]))
    assert (table[[0, 2, 3]] == 1).all()


@pytest.mark.parametrize("name", ["adam_atan2", "adamw", "muon"])
def test_tables_of_puzzles_have_a_rate_of_their_own(name):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Table(3, 2, std=1.0, sparse=True))
    *_, tables = optimizers(model, name, 1e-3, 0.1, 1e-2)
    (group,) = tables.param_groups
    assert isinstance(tables, SparseSignSGD) and group["params"] == [model[1].weight]
    assert (group["lr"], group["base_lr"], group["weight_decay"]) == (1e-2, 1e-2, 0.1)


@pytest.mark.parametrize("name", ["adam_atan2", "adamw", "muon"])
def test_every_optimizer_trains_every_dense_parameter(name):
    run = tiny(
        "config.net.block=attention",
        "config.net.prefix=1",
        "config.net.puzzle_emb_size=32",
        "plan.halting.learned=true",
    )
    built = build(run)
    before = {n: p.detach().clone() for n, p in built.loop.named_parameters()}
    plan = replace(built.run.plan, optimizer=name, warmup=1, steps=3, lr=1e-2)
    made = optimizers(built.loop, name, 1e-2, 0.1, 1e-2)
    feed = ExampleStream(built.train, built.task, 0)
    carry = initial_carry(built.loop, feed.fill(torch.ones(8, dtype=torch.bool), 0))
    for i in range(2):
        out = supervised_step(
            built.loop,
            carry,
            feed.fill(carry.halted, 8 * i),
            plan.halting,
            plan.halting.draw(8, torch.Generator()),
        )
        sum(out.losses.values()).backward()
        [o.step() for o in made]
        [o.zero_grad() for o in made]
        carry = out.carry
    assert all(not torch.equal(before[n], p) for n, p in built.loop.named_parameters())
    held = [id(p) for o in made for g in o.param_groups for p in g["params"]]
    assert len(held) == len(set(held)) == len(list(built.loop.parameters()))


def test_which_parameters_each_optimizer_and_the_average_take():
    loop = build(tiny("config.net.prefix=1", "config.net.puzzle_emb_size=32")).loop
    for name in ("adam_atan2", "adamw", "muon"):
        groups = [{id(p) for g in o.param_groups for p in g["params"]} for o in optimizers(loop, name, 1e-3, 0.1, 1e-2)]
        assert sorted(i for group in groups for i in group) == sorted(id(p) for p in loop.parameters())
    hidden, rest, tables = ({n for n, p in loop.named_parameters() if id(p) in group} for group in groups)
    assert tables == {"embed.puzzles.weight"} and all(n.startswith("net.") for n in hidden)
    assert rest >= {"heads.tokens.weight", "heads.q.weight", "heads.q.bias", "embed.tokens.weight"}
    assert hidden == {n for n, p in loop.named_parameters() if n.startswith("net.") and p.ndim == 2}
    averaged = {id(p) for p in EMA(loop, 0.9).params.values()}
    assert averaged == groups[0] | groups[1], "a table of puzzles is never averaged"


def test_average_swaps_in_and_out_without_a_trace():
    model = torch.nn.Linear(2, 2)
    average, first = EMA(model, 0.9), model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    average.update()
    live = model.weight.detach().clone()
    average.swap()
    assert torch.allclose(model.weight, first + 0.1)
    average.swap()
    assert torch.equal(model.weight, live)


# -- the stream of examples -------------------------------------------------------------------------------------------


def test_example_n_is_a_function_of_seed_and_n():
    built = build(tiny())
    a, b = ExampleStream(built.train, built.task, 3), ExampleStream(built.train, built.task, 3)
    whole = a.rows(0, 5 * BLOCK)
    b.rows(700, 40)
    pieces = [b.rows(i, 1) for i in (0, 63, 64, 200, 319)]
    for i, piece in zip((0, 63, 64, 200, 319), pieces, strict=True):
        assert all(np.array_equal(w[i], p[0]) for w, p in zip(whole, piece, strict=True))
    assert not np.array_equal(whole[0], ExampleStream(built.train, built.task, 4).rows(0, 5 * BLOCK)[0])


def test_examples_show_a_part_of_their_answer():
    """Givens and answers stay; in half of the rows some blanks are filled, with what the answer has there."""
    built = build(tiny())
    plain = ExampleStream(built.train, built.task, 3).rows(0, 4 * BLOCK)
    shown = ExampleStream(built.train, built.task, 3, reveal=0.5, blank=built.task.blank).rows(0, 4 * BLOCK)
    assert np.array_equal(plain[1], shown[1])
    changed = plain[0] != shown[0]
    assert (plain[0][changed] == built.task.blank).all() and np.array_equal(shown[0][changed], shown[1][changed])
    assert 0.35 < changed.any(1).mean() < 0.6
    parts = changed.sum(1) / (plain[0] == built.task.blank).sum(1)
    assert parts.max() > 0.8 and 0.15 < parts.mean() < 0.35, "a part drawn from 0 to 1 of half of the rows"
    again = ExampleStream(built.train, built.task, 3, reveal=0.5, blank=built.task.blank).rows(70, 5)
    assert np.array_equal(again[0], shown[0][70:75])
    none = ExampleStream(built.train, built.task, 3, reveal=0.5, blank=0).rows(0, BLOCK)
    assert np.array_equal(none[0], plain[0][:BLOCK]), "without a blank nothing is hidden"


def test_augmentation_follows_the_seed_and_moves_on():
    """With one puzzle in the set the order of rows says nothing: what differs is its symmetric image."""
    built = build(tiny())
    one = built.train.take(np.arange(1))
    rows = [ExampleStream(one, built.task, seed).rows(0, 2 * BLOCK)[0] for seed in (1, 1, 2)]
    assert np.array_equal(rows[0], rows[1]) and not np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0][:BLOCK], rows[0][BLOCK:]) and len(np.unique(rows[0], axis=0)) > BLOCK
    plain = ExampleStream(one, None, 1).rows(0, BLOCK)
    assert (plain[0] == one.inputs).all() and (plain[1] == one.labels).all()
    x, y, _ = ExampleStream(one, built.task, 1).rows(0, BLOCK)
    assert built.task.valid_batch(x, y).all(), "question and label move together"


def test_a_pass_takes_every_group_once():
    built = build(tiny())
    feed = ExampleStream(built.train, None, 0)
    n = len(built.train)
    for epoch in (0, 1):
        inputs = feed.rows(epoch * n, n)[0]
        assert sorted(r.tobytes() for r in inputs) == sorted(r.tobytes() for r in built.train.inputs)


def test_every_example_comes_with_its_own_puzzle_identifier():
    ids = np.arange(12)
    tokens = np.repeat(ids[:, None] + 1, 4, 1).astype(np.uint8)
    s = PuzzleSet(tokens, tokens, 13, (2, 2), puzzle=ids, identifiers=tuple(map(str, ids)))
    inputs, labels, puzzle = ExampleStream(s, None, 0).rows(5, 30)
    assert (inputs == puzzle[:, None] + 1).all() and (labels == inputs).all() and set(puzzle) == set(ids)


# -- deep supervision -------------------------------------------------------------------------------------------------


def test_a_believing_row_is_freed_from_its_least_step_on():
    built = build(tiny())
    with torch.no_grad():
        built.loop.heads.q.bias[0] = 9.0
    x = ExampleStream(built.train, None, 0).fill(torch.ones(4, dtype=torch.bool), 0)
    draw = Draw(torch.tensor([0, 1, 2, 3]), torch.full((4,), 8))
    first = supervised_step(built.loop, initial_carry(built.loop, x), x, HaltingConfig(8), draw)
    assert first.carry.halted.tolist() == [True, True, False, False]
    held = first.carry._replace(halted=torch.zeros(4, dtype=torch.bool))
    assert supervised_step(built.loop, held, x, HaltingConfig(8), draw).carry.halted.tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_equal_keys_alone_are_no_leak():
    """Keys may collide: the task's exact comparison decides, also for the second of two rows of one key."""
    built = build(tiny())
    task = SimpleNamespace(canonical_batch=lambda rows: [b"one"] * len(rows), same=np.array_equal)
    s = built.train.take(np.arange(6))
    found = leakage(s.take([0, 1, 2]), s.take([2, 3, 1]), task)
    assert found.rows.tolist() == [0, 2] and found.twins.tolist() == [2, 1] and found.share == pytest.approx(2 / 3)


def test_losses_and_metrics_count_what_is_judged():
    """Three rows: right, wrong, and one with nothing to judge; the second has not halted."""
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2], [1, 3], [0, 0]]), 4) * 5.0
    labels = torch.tensor([[1, 2], [1, 2], [IGNORE, IGNORE]])
    answer = Answer(logits, torch.tensor([2.0, 2.0, -9.0]), None, torch.tensor([0.25, 0.3, 0.2]))
    steps, halted = torch.tensor([3, 4, 5]), torch.tensor([True, False, True])
    losses, metrics = loss_and_metrics(answer, labels, steps, halted, None, "softmax")
    shown = {k: float(v) for k, v in metrics.items()}
    assert shown == {"count": 1, "accuracy": 1, "exact_accuracy": 1, "steps": 3, "q_halt_accuracy": 1}
    every = loss_and_metrics(answer, labels, steps, ~halted | halted, None, "softmax")[1]
    assert {k: float(v) for k, v in every.items()} == {
        "count": 2, "accuracy": 1.5, "exact_accuracy": 1, "steps": 7, "q_halt_accuracy": 1
    }  # fmt: skip
    assert losses["value_loss"].item() == pytest.approx(0.75**2 + 0.2**2 + 0.2**2), "against the share that is right"
    nll = softmax_cross_entropy(logits, labels)
    assert losses["lm_loss"].item() == pytest.approx((nll[0].mean() + nll[1].mean()).item())
    binary = np.log1p(np.exp(-2)) + np.log1p(np.exp(2)) + 9 + np.log1p(np.exp(-9))  # an empty row counts as right
    assert losses["q_halt_loss"].item() == pytest.approx(0.5 * binary)


def test_the_right_answer_is_shown_to_loops_that_are_taught_and_only_while_they_learn():
    batch = Batch(Question(torch.ones(1, 2), torch.zeros(1)), torch.ones(1, 2))
    taught = SimpleNamespace(needs_target=True)
    assert question_for(taught, batch, True).target is batch.labels
    assert (
        question_for(taught, batch, False).target is None
        and question_for(SimpleNamespace(), batch, True).target is None
    )


def test_passes_differ_and_every_member_of_a_group_has_its_turn():
    built = build(tiny())
    s = replace(built.train.take(np.arange(12)), group=np.arange(12, dtype=np.int32) // 4)
    feed = ExampleStream(s, None, 5)
    passes = [feed.row_order(e).tolist() for e in range(40)]
    assert all(sorted(s.group[p].tolist()) == [0, 1, 2] for p in passes)
    assert {r for p in passes for r in p} == set(range(12)) and len({tuple(s.group[p]) for p in passes}) == 6


def test_difficulty_is_told_by_quartiles_of_the_rating():
    rating = np.array([0, 0, 1, 2, 3, 4, 8, 9], np.float32)
    exact = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    assert by_rating(exact, rating) == {"0-0.75": 1.0, "0.75-2.5": 0.5, "2.5-5": 0.5, "5-9": 0.0}
    edge = by_rating(np.array([1, 0, 1, 0, 1], bool), np.arange(5, dtype=np.float32))  # a rating on an edge goes up
    assert edge == {"0-1": 1.0, "1-2": 0.0, "2-3": 1.0, "3-4": 0.5}
    assert by_rating(exact, np.full(8, 3, np.float32)) == {} == by_rating(exact, np.full(8, np.nan, np.float32))


def test_a_row_takes_its_steps_then_leaves_and_the_others_stay():
    built = build(tiny())
    feed, halting = ExampleStream(built.train, None, 0), HaltingConfig(3, learned=False)
    carry = initial_carry(built.loop, feed.fill(torch.ones(2, dtype=torch.bool), 0))
    max_steps, seen, position = torch.tensor([1, 3]), [], 0
    for _ in range(4):
        fresh = feed.fill(carry.halted, position)
        position += int(carry.halted.sum())
        draw = Draw(torch.zeros(2, dtype=torch.long), max_steps)
        carry = supervised_step(built.loop, carry, fresh, halting, draw).carry
        seen.append((carry.steps.tolist(), carry.halted.tolist(), carry.batch.question.inputs.clone()))
    assert [s[0] for s in seen] == [[1, 1], [1, 2], [1, 3], [1, 1]]
    assert [s[1] for s in seen] == [[True, False], [True, False], [True, True], [True, False]]
    assert torch.equal(seen[0][2][1], seen[2][2][1]) and not torch.equal(seen[0][2][0], seen[1][2][0])


def test_a_fresh_puzzle_is_thought_about_with_the_noise_that_was_drawn_for_it():
    """The salt of a row counts when a puzzle enters it, and never for the puzzle that is in it already."""
    State = namedtuple("State", "z key")

    class Keyed:
        def init(self, x):
            return State(torch.zeros(*x.inputs.shape, 3), key_of(x))

        def step(self, s, x):
            return s

        def read(self, s):
            return Answer(s.z)

    x = to_batch(np.ones((2, 4)), np.ones((2, 4)), np.zeros(2), "cpu")
    draw = Draw(torch.zeros(2, dtype=torch.long), torch.tensor([8, 1]), torch.tensor([5, 6]))
    first = supervised_step(Keyed(), initial_carry(Keyed(), x), x, HaltingConfig(8), draw).carry
    assert first.state.key.tolist() == salted(Keyed().init(x.question), draw.salt).key.tolist()
    assert len({*first.state.key.tolist(), *key_of(x.question).tolist()}) == 3
    second = supervised_step(Keyed(), first, x, HaltingConfig(8), draw._replace(salt=torch.tensor([7, 7]))).carry
    assert second.state.key[0] == first.state.key[0] and second.state.key[1] != first.state.key[1]


@pytest.mark.slow
def test_a_run_in_slices_is_the_run_in_one_go(tmp_path, monkeypatch):
    """Each call does a step or a few; states are cut into pieces, of which only the last ones stay."""
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 30_000)
    changes = ["plan.steps=6", "plan.check_every=4", "plan.save_every=5"]
    trainer(tmp_path / "whole", *changes).run()
    reached = []
    while not reached or reached[-1] < 6:
        reached.append(trainer(tmp_path / "slices", *changes, minutes=1e-6).run().steps)
    assert reached == [1, 2, 3, 4, 5, 6]
    a, b = (checkpoint.load_state(tmp_path / d) for d in ("whole", "slices"))
    assert weights_equal(a["model"], b["model"]) and weights_equal(a["average"], b["average"])
    assert all(torch.equal(p, q) for p, q in zip(a["carries"][0], b["carries"][0], strict=True) if p is not None)
    listed = json.loads((tmp_path / "slices" / checkpoint.STATE).read_text())
    found = checkpoint.pieces(tmp_path / "slices")
    assert len(listed) > 2 and {p.name for p in found} == set(listed)
    assert all(p.stat().st_size <= 30_000 for p in found)
    found[0].unlink()
    with pytest.raises(InputError, match="damaged"):
        checkpoint.load_state(tmp_path / "slices")


def test_carried_state_equals_thinking_in_one_go():
    """Rows that were refilled at different times are exactly where a lone thought of their depth would be."""
    run = tiny("config.dtype=float32")
    built = build(run)
    feed, halting = ExampleStream(built.train, None, 0), HaltingConfig(5, learned=False)
    carry, position = initial_carry(built.loop, feed.fill(torch.ones(6, dtype=torch.bool), 0)), 0
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(7):
            fresh = feed.fill(carry.halted, position)
            position += int(carry.halted.sum())
            draw = Draw(torch.zeros(6, dtype=torch.long), torch.randint(1, 6, (6,), generator=gen))
            carry = supervised_step(built.loop, carry, fresh, halting, draw).carry
        assert len(set(carry.steps.tolist())) > 1
        for i, steps in enumerate(carry.steps.tolist()):
            question = map_tensors(lambda t: t[i : i + 1], carry.batch.question)  # noqa: B023
            alone = think(built.loop, question, steps)
            assert torch.allclose(alone.state.y[0], carry.state.y[i], atol=1e-4)


def test_exploration_keeps_a_share_of_rows_for_a_random_number_of_steps():
    draw = HaltingConfig(16, explore=0.25).draw(20_000, torch.Generator().manual_seed(0))
    kept = draw.min_steps[draw.min_steps > 0]
    assert 0.23 < len(kept) / 20_000 < 0.27 and kept.min() == 2 and kept.max() == 16
    spread = HaltingConfig(4, spread=True).draw(8000, torch.Generator().manual_seed(0)).max_steps
    assert sorted(set(spread.tolist())) == list(range(1, 9))


def test_a_share_of_short_puzzles_leaves_every_depth_trained():
    halting = HaltingConfig(16, spread=True, short_fraction=0.7)
    max_steps = halting.draw(20_000, torch.Generator().manual_seed(0)).max_steps
    assert sorted(set(max_steps.tolist())) == list(range(1, 33))
    longer = (max_steps > 4).float().mean().item()
    assert abs(longer - 0.3 * 28 / 32) < 0.01


def test_a_training_whose_puzzles_changed_is_not_gone_on_with(tmp_path):
    """From Python as well, where no run.json says what it learned from; a state of before has no word of it."""
    trainer(tmp_path, "plan.steps=9").save()
    for which, change in (("train", "data.seed=1"), ("validation", "data.holdout=39")):
        with pytest.raises(InputError, match=f"the data changed: the {which} puzzles"):
            trainer(tmp_path, "plan.steps=9", change)
    trainer(tmp_path, "plan.steps=9", "data.seed=1", resume=False)
    state = checkpoint.load_state(tmp_path)
    del state["data"]
    checkpoint.save_state(tmp_path, state)
    trainer(tmp_path, "plan.steps=9", "data.seed=1")


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_4x4_is_learnt_from_scratch(tmp_path):
    """The whole way at small size: generated puzzles in, unseen puzzles solved, at every depth."""
    built = build(override(get("sudoku4_trm"), ["plan.steps=150", "plan.compile=off", "data.holdout=200"]))
    result = train(
        built.loop, built.task, built.train, built.run.plan, tmp_path, validation=built.validation, live=False
    )
    assert result.best["exact"] >= 0.9 and result.best["exact"] == result.best["valid"]
    checkpoint.load_weights(tmp_path / checkpoint.MODEL, built.loop)
    rows = evaluate(built.loop.eval(), built.task, built.validation, (1, 8, 32))
    assert rows[1].exact >= 0.9 and rows[2].exact >= rows[1].exact - 0.05
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if "train/loss" in x] == list(range(10, 151, 10))


def test_a_resumed_run_is_bit_equal(tmp_path):
    change = ("plan.steps=40", "plan.save_every=20", "plan.check_every=20")
    whole = trainer(tmp_path / "whole", *change)
    whole.run()
    first = trainer(tmp_path / "cut", *change)
    while first.step < 27:  # beyond its checkpoint, then lost
        first.train_step()
        if first.step == 20:
            first.save()
    second = trainer(tmp_path / "cut", *change)
    assert second.step == 20
    second.run()
    assert weights_equal(whole.loop.state_dict(), second.loop.state_dict())
    assert weights_equal(whole.average.state_dict(), second.average.state_dict())
    a, b = (torch.load(tmp_path / d / checkpoint.STATE, weights_only=True) for d in ("whole", "cut"))
    kept = [pair for pair in zip(a["carries"][0], b["carries"][0], strict=True) if pair != (None, None)]
    assert len(kept) > 5 and all(torch.equal(p, q) for p, q in kept)
    assert a["position"] == b["position"]


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_at_most_one_interval(tmp_path):
    """Real processes, killed at random moments until the run is done; then bit-equal to an unbroken one."""
    change = ["plan.steps=60", "plan.save_every=10", "plan.check_every=30"]
    script = (
        "import sys; from innerloop.recipes import get; from innerloop.runs.fit import build;"
        "from innerloop.runs.run import override;"
        "from innerloop.learn.train import train;"
        f"b = build(override(get('sudoku4_trm'), {TINY + change!r}));"
        "train(b.loop, b.task, b.train, b.run.plan, sys.argv[1], validation=b.validation, live=False)"
    )
    run = lambda folder: subprocess.Popen([sys.executable, "-c", script, str(folder)])  # noqa: E731
    trainer(tmp_path / "whole", *change).run()
    rng, folder = np.random.default_rng(0), tmp_path / "killed"
    reached = lambda: (checkpoint.load_state(folder) or {"step": 0})["step"] if folder.exists() else 0  # noqa: E731
    kills = 0
    for _ in range(2):
        before, process = reached(), run(folder)
        while reached() <= before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.2 * rng.random())  # wherever it is by now
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert reached() > before and reached() % 10 == 0
    assert kills and run(folder).wait() == 0
    a, b = (torch.load(tmp_path / d / checkpoint.STATE, weights_only=True) for d in ("whole", "killed"))
    assert weights_equal(a["model"], b["model"])
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [s for s in lines if s % 30] == [s for s in range(10, 61, 10) if s % 30]


def test_accumulation_changes_nothing_but_rounding(tmp_path):
    one = trainer(tmp_path / "one", "plan.steps=6", "config.dtype=float32")
    four = trainer(tmp_path / "four", "plan.steps=6", "plan.accumulate=4", "config.dtype=float32")
    one.run(), four.run()
    for (name, p), q in zip(one.loop.named_parameters(), four.loop.parameters(), strict=True):
        assert torch.allclose(p, q, atol=2e-4), name


def test_the_loss_is_a_mean_over_the_whole_batch_however_it_is_cut(tmp_path):
    """Optimizers that ignore the scale of a gradient would hide it: its norm and the loss are compared."""
    told = []
    for cut in (1, 4):
        t = trainer(tmp_path / str(cut), f"plan.accumulate={cut}", "config.dtype=float32", "plan.clip=0")
        told.append(t.train_step()[0])
    for name in ("grad_norm", "loss", "count", "lm_loss"):
        assert told[0][name] == pytest.approx(told[1][name], rel=1e-3), name
    t = trainer(tmp_path / "sum", "config.dtype=float32")
    numbers = t.train_step()[0]
    assert numbers["loss"] == pytest.approx((numbers["lm_loss"] + numbers["q_halt_loss"]) / t.plan.batch)


def test_the_progress_line_shows_the_loss_of_the_answers_alone(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(Log, "step", lambda self, done, loss, exact: shown.append(loss))
    t = trainer(tmp_path, "plan.steps=10", "plan.check_every=10", "data.holdout=4")
    t.run()
    (line,) = (x for x in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()) if "train/loss" in x)
    assert sum(shown) / 10 == pytest.approx(line["train/lm_loss"])
    assert line["train/loss"] == pytest.approx(line["train/lm_loss"] + line["train/q_halt_loss"])


def test_what_is_validated_is_what_is_kept(tmp_path, monkeypatch):
    """The averaged weights are judged, in evaluation mode, and saved; training goes on with the live ones."""
    t = trainer(tmp_path, "plan.steps=3", "plan.check_every=3", "plan.ema=0.5")
    judged = []

    def evaluated(loop, *how, **more):
        judged.append(({k: v.clone() for k, v in loop.state_dict().items()}, loop.training))
        return evaluate(loop, *how, **more)

    monkeypatch.setattr("innerloop.learn.train.evaluate", evaluated)
    t.run()
    ((seen, training),) = judged
    kept = load_file(tmp_path / checkpoint.MODEL)
    assert not training and weights_equal(seen, {k: kept[k] for k in seen})
    name = "heads.tokens.weight"
    assert torch.equal(seen[name], t.average.shadow[name]) and not torch.equal(seen[name], t.loop.state_dict()[name])


def test_puzzles_that_nobody_has_seen_have_no_twin_in_training():
    built = build(tiny())
    data = replace(built.run.data, seed=7)
    fresh = built.task.make(30, data.seed + 2_000_003)
    x, y = built.task.augment(fresh.inputs[:9], fresh.labels[:9], np.random.default_rng(0))
    train = built.task.as_set(np.concatenate([built.train.inputs, x]), np.concatenate([built.train.labels, y]))
    left = unseen_puzzles(built.task, train, data, 30)
    assert not leakage(train, left, built.task).count and 0 < len(left) <= 21
    assert not (fresh.inputs[:9, None] == left.inputs[None]).all(2).any()
    found = leakage(train, fresh, built.task)
    assert set(range(9)) <= set(found.rows.tolist()) and found.share == found.count / 30
    assert all(built.task.same(train.inputs[t], fresh.inputs[r]) for r, t in zip(found.rows, found.twins, strict=True))


DDP = """
import sys
from pathlib import Path
from innerloop.recipes import get
from innerloop.runs.fit import build
from innerloop.runs.run import override
from innerloop.learn.train import Trainer
home, change, *jobs = sys.argv[1:]
trainers = []
for job in jobs:
    folder, _, stop = job.partition(":")
    b = build(override(get("sudoku4_trm"), change.split(";")))
    t = Trainer(b.loop, b.task, b.train, b.run.plan, Path(home, folder), validation=b.validation, live=False)
    trainers.append(t)
    if stop:
        while t.step < int(stop):
            t.train_step()
        t.save()
    else:
        t.run()
trainers[0].distributed.close()
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    """torchrun with two gloo processes: same weights as one but for the order of sums; resumed, the same bits."""
    change = ["plan.steps=6", "config.dtype=float32", "plan.check_every=3"]
    change += ["config.net.prefix=1", "config.net.puzzle_emb_size=32"]
    (tmp_path / "ddp.py").write_text(DDP)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    command += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", str(tmp_path / "ddp.py")]
    command += [str(tmp_path), ";".join([*TINY, *change]), "two", "cut:3", "cut", "fewer:3"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    assert done.returncode == 0, done.stderr[:3000] + done.stderr[-2000:]
    for folder in ("one", "fewer"):
        trainer(tmp_path / folder, *change).run()
    one, two, cut, fewer = (
        torch.load(tmp_path / d / checkpoint.STATE, weights_only=True) for d in ("one", "two", "cut", "fewer")
    )
    assert one["position"] == two["position"] == fewer["position"]
    assert weights_equal(two["model"], cut["model"])
    for name, p in one["model"].items():
        assert torch.allclose(p, two["model"][name], atol=2e-4), name
        assert torch.allclose(p, fewer["model"][name], atol=2e-4), name


def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(tmp_path):
    t = trainer(tmp_path, "plan.steps=30", "plan.save_every=100")
    for _ in range(5):
        t.train_step()
    good = {k: v.clone() for k, v in t.loop.state_dict().items()}
    t.loop.embed.tokens.weight.register_hook(lambda g: g * float("nan"))
    result = t.run()
    assert "step 6" in result.stopped and "not finite" in result.stopped and result.steps == 5
    assert weights_equal(t.loop.state_dict(), good)
    assert weights_equal(checkpoint.load_state(tmp_path)["model"], good)


def test_the_best_validated_weights_are_kept(tmp_path):
    watch = BestTracker()
    assert watch.observe(1, 0.5, 0.5) and not watch.observe(2, 0.45, 0.45) and not watch.warnings
    assert not watch.observe(3, 0.2, 0.2) and watch.warnings[0].startswith("collapse")
    assert watch.best["step"] == 1 and watch.new_warnings() and not watch.new_warnings()
    again = BestTracker(watch.state())
    assert again.best == watch.best and again.observe(4, 0.5, 0.6)
    slow = BestTracker()
    slow.observe(0, 0.9, 0.9)
    [slow.observe(i, 0.89, 0.89) for i in range(1, 5)]
    assert not slow.warnings, "four in a row are none"
    assert not slow.observe(5, 0.8, 0.9) and slow.warnings[0].startswith("overfitting")
    assert slow.observe(6, 0.9, 0.9) and slow.since_best == 0, "a later equal is better"
    assert slow.last_rise == 0 and BestTracker(slow.state()).last_rise == 0, "and no rise"
    assert not slow.observe(7, 0.9, 0.8)


def test_memory_does_not_grow_with_untaped_steps():
    """What backward keeps: the taped cycle's activations, however many cycles run before it."""

    def kept(cycles):
        built = build(tiny(f"config.cycles={cycles}"))
        feed = ExampleStream(built.train, None, 0)
        carry = initial_carry(built.loop, feed.fill(torch.ones(8, dtype=torch.bool), 0))
        total = [0]
        pack = lambda t: (total.__setitem__(0, total[0] + t.numel() * t.element_size()), t)[1]  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            halting = HaltingConfig(8)
            supervised_step(built.loop, carry, feed.fill(carry.halted, 0), halting, halting.draw(8, torch.Generator()))
        return total[0]

    assert kept(2) == kept(9) > 0


# -- evaluation -------------------------------------------------------------------------------------------------------


def test_wilson_intervals_hold_their_promise():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(95, 100)
    assert low == pytest.approx(0.8882, abs=1e-3) and high == pytest.approx(0.9785, abs=1e-3)
    rng = np.random.default_rng(0)
    inside = [low <= 0.97 <= high for low, high in (wilson(h, 200) for h in rng.binomial(200, 0.97, 2000))]
    assert 0.93 < np.mean(inside) < 0.985
    for hits, n in ((1, 7), (95, 100), (400, 1000)):  # its ends are where |p - hits / n| is 1.96 standard deviations
        found = proportion([True] * hits + [False] * (n - hits))
        assert found[1:3] == wilson(hits, n) and found.value == hits / n and found.n == n
        for p in wilson(hits, n):
            assert abs(p - hits / n) == pytest.approx(1.959964 * (p * (1 - p) / n) ** 0.5, rel=1e-6)
    assert wilson(0, 9)[0] == 0 and wilson(9, 9)[1] == 1 and wilson(0, 9)[1] == pytest.approx(1 - wilson(9, 9)[0])
    whole = cluster_bootstrap(np.arange(40) % 4 == 0, np.arange(40) // 4, seed=1)
    assert whole[:3] == (0.25, 0.25, 0.25) and whole.n == 40, "groups that are all alike leave no doubt"
    apart = cluster_bootstrap(np.repeat([True, False], 20), np.repeat([0, 1], 20))
    assert (apart.low, apart.value, apart.high) == (0, 0.5, 1), "two groups leave all of it"


def test_one_sweep_equals_each_depth_alone_and_halting_reports_its_steps():
    built = build(tiny())
    loop = built.loop.eval()
    swept = evaluate(loop, built.task, built.validation, (1, 3, 6), batch=17)
    for row in swept:
        alone = score_set(loop, built.task, built.validation, row.depth)
        assert row.exact == alone.exact.mean() and row.token == pytest.approx(alone.token.mean())
    with torch.no_grad():
        loop.heads.q.bias[0] = 9.0
    (row,) = evaluate(loop, built.task, built.validation, (6,), halting=(True,))
    (_, question), *_ = batches(built.validation, 99, "cpu")
    alone = think(
        loop, question, 6, halt=answer_unchanged
    )  # a head that always believes leaves it to the answer to settle
    calls = len(loop.schedule)
    assert row.steps == row.nfe / calls == alone.steps.double().mean().item() < 6
    (row,) = evaluate(loop, built.task, built.validation, (2,), (3,), noise=(1.0, 0.0))
    assert row.nfe == 6.0 * calls and row.pick == "vote"


@pytest.mark.parametrize(
    "wrong",
    [
        {"depths": ()}, {"depths": (0,)}, {"widths": (2,)}, {"pick": "luck"}, {"depths": (10**12,)},
        {"widths": (10**9,), "noise": (1.0, 0.0)}, {"noise": (float("nan"), 0.0)}, {"noise": (-1.0, 0.0)},
    ],
)  # fmt: skip
def test_an_evaluation_that_makes_no_sense_is_refused(wrong):
    built = build(tiny())
    with pytest.raises(InputError):
        evaluate(built.loop, built.task, built.validation, **wrong)


@pytest.mark.parametrize("name", ["inputs", "labels"])
def test_examples_of_another_task_are_refused_before_they_are_thought_about(name, monkeypatch):
    built = build(tiny())
    monkeypatch.setattr("innerloop.learn.evaluate.think", lambda *_, **__: pytest.fail("a step was taken"))
    other = replace(built.validation, vocab=9, **{name: np.full_like(built.validation.inputs, 8)})
    with pytest.raises(InputError, match=f"{name} run from 8 to 8; tokens are whole numbers 0..5"):
        evaluate(built.loop, built.task, other)


def test_what_no_rule_tells_stays_unknown(tmp_path):
    """Where a task does not verify, no share of valid answers is measured, stored, resumed or put on a card."""
    built = build(tiny())
    grid = tasks.get("grid", alphabet=built.task.charset, shape=(4, 4), blank=".")
    (row,) = evaluate(built.loop.eval(), grid, built.validation, (1,))
    assert row.valid is None and score_set(built.loop, grid, built.validation, 1).valid is None
    plan = replace(built.run.plan, steps=1, check_every=1, depths=(1,))
    best = train(built.loop, grid, built.train, plan, tmp_path, validation=built.validation, live=False).best
    assert best["valid"] is None and best["token"] == pytest.approx(row.token, abs=0.5)
    old = {"best": {"step": 1, "exact": 0.5, "valid": 0.9}, "warnings": [], "told": 0}
    watch = BestTracker(upgraded_state(old, verifies=False))
    assert watch.best["valid"] is None and not watch.observe(2, 0.5, None, 0.8) and watch.observe(3, 0.5, None, 0.95)
    assert upgraded_state(old, verifies=True) == old
    notes = {"result.json": {"best": old["best"], "seconds": 1.0}}
    one, other = (SimpleNamespace(run=built.run, task=task) for task in (grid, built.task))
    assert "valid" not in card.results(one, notes).replace("validat", "") and "valid 90.0%" in card.results(
        other, notes
    )


def keyed():
    """A loop whose trajectories differ by themselves."""
    built = build(tiny())
    return gram.GRAM(gram.Config(built.run.config.net, cycles=1, thoughts=1, dtype="float32")).eval(), built


@pytest.mark.parametrize("pick", ["vote", "q", "value"])
def test_a_loop_with_a_key_is_evaluated_wide_without_noise(pick):
    loop, built = keyed()
    few = built.validation.take(np.arange(12))
    one, three = evaluate(loop, built.task, few, (2,), (1, 3), pick=pick)
    assert (one.pick, three.pick, three.nfe) == ("-", pick, 6.0 * len(loop.schedule))
    (_, question), *_ = batches(few, 99, "cpu")
    with torch.no_grad():
        thought = think_wide(loop, question, 3, PICKS[pick], 2)
    again = score_set(loop, built.task, few, 2, 3, pick=pick)
    assert np.array_equal(again.answers, thought.answer.logits.argmax(-1).numpy())


def test_a_noisy_loop_may_be_given_as_it_is_and_others_are_told_to_differ():
    built = build(tiny())
    few = built.validation.take(np.arange(4))
    (row,) = evaluate(Noisy(built.loop, 0.3, 0.3, ("z",)), built.task, few, (2,), (3,), pick="q")
    assert row.nfe == 6.0 * len(built.loop.schedule)
    assert has_own_noise(keyed()[0], few) and not has_own_noise(built.loop, few)
    with pytest.raises(InputError, match="give noise"):
        evaluate(built.loop, built.task, few, (2,), (3,))


def test_the_first_to_halt_is_picked_only_where_something_halts():
    built = build(tiny())
    few = built.validation.take(np.arange(4))
    with pytest.raises(InputError, match="halting="):
        evaluate(built.loop, built.task, few, (2,), (3,), pick="first", noise=(1.0, 0.0))
    (row,) = evaluate(built.loop, built.task, few, (4,), (3,), halting=(True,), pick="first", noise=(1.0, 0.0))
    assert row.pick == "first" and row.steps <= 4


# -- folders ----------------------------------------------------------------------------------------------------------


def test_weights_of_another_configuration_are_refused_by_name(tmp_path):
    built = build(tiny())
    checkpoint.save_weights(tmp_path / checkpoint.MODEL, built.loop.state_dict())
    other = build(tiny("config.net.hidden_size=64"))
    with pytest.raises(InputError, match="another configuration"):
        checkpoint.load_weights(tmp_path / checkpoint.MODEL, other.loop)
    (tmp_path / checkpoint.MODEL).write_bytes(b"not weights")
    with pytest.raises(InputError, match="damaged"):
        checkpoint.load_weights(tmp_path / checkpoint.MODEL, built.loop)


def test_plans_are_checked_at_the_door():
    for wrong in (
        {"batch": 0},
        {"batch": 10, "accumulate": 3},
        {"loss": "hinge"},
        {"compile": "maybe"},
        {"depths": ()},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"weight_decay": float("nan")},
    ):
        with pytest.raises(InputError):
            Plan(**wrong)


def test_padding_alone_is_ignored():
    assert to_batch([[1, 1, 1]], [[0, 1, 2]], [0], "cpu").labels.tolist() == [[IGNORE, 1, 2]]


def test_ignored_labels_become_ignore():
    built = build(tiny())
    batch = ExampleStream(built.train, None, 0).fill(torch.tensor([True, False]), 0)
    assert isinstance(batch, Batch) and (batch.labels[1] == IGNORE).all() and (batch.labels[0] > 1).all()


def test_float32_products_switch_only_where_they_stay_float32(monkeypatch):
    """The decision is made by the error against float64, and what it chooses keeps that error."""
    before = torch.get_float32_matmul_precision()
    try:
        precision.fast_float32.cache_clear()
        said = precision.fast_float32()
        chosen = torch.get_float32_matmul_precision()
        assert ("oneDNN: as exact" in said) == (chosen == "medium")
        assert precision.matmul_error(chosen) <= precision.TOLERANCE * precision.matmul_error("highest")
        torch.set_float32_matmul_precision("highest")
        precision.fast_float32.cache_clear()
        monkeypatch.setattr(precision, "matmul_error", lambda p: 1e-2 if p == "medium" else 1e-7)
        assert "oneDNN rounds" in precision.fast_float32() and torch.get_float32_matmul_precision() == "highest"
    finally:
        precision.fast_float32.cache_clear()
        torch.set_float32_matmul_precision(before)


def test_a_log_that_is_missing_or_unknown_is_said_at_once(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="tensorboard, wandb, trackio"):
        trainer(tmp_path, sinks=("paper",)).run()
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="pip install wandb"):
        trainer(tmp_path, sinks=("wandb",)).run()


def test_tensorboard_gets_what_the_file_gets(tmp_path):
    pytest.importorskip("tensorboard")
    trainer(tmp_path, "plan.steps=10", "plan.check_every=10", sinks=("tensorboard",)).run()
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told what to do with freed memory")
def test_freed_memory_is_kept_for_the_next_tensor():
    """Sixty tensors of 40 MB one after the other: their pages are faulted in a few times, not sixty.

    Until the heap has found its size, that is seven to nine times.
    """
    code = """
import os, resource, torch
from innerloop import files, memory
def measured(*hows):  # in a process of its own, in which nothing was allocated yet
    if child := os.fork():
        return os.waitpid(child, 0)
    kept = [getattr(memory, how)() for how in hows]
    faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    before = faults()
    for _ in range(60):
        torch.ones(10_000_000)
    print(any(kept), faults() - before, flush=True)
    os._exit(0)
measured("keep"), measured(), measured("keep", "give_back")
os.environ["MALLOC_TRIM_THRESHOLD_"] = "131072"
print(memory.keep())
"""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    kept, few, _, untouched, _, given_back, wanted = done.stdout.split()
    if kept == "False":
        pytest.skip("this C library is not glibc")
    assert int(few) < int(untouched) / 4 and int(few) < int(given_back) / 4
    assert wanted == "False", "whoever set it wants it so"
