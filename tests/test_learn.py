"""Training: right, repeatable, and never losing more than one checkpoint interval."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop.core import map_tensors, think
from innerloop.errors import InputError
from innerloop.halt import settled
from innerloop.interval import wilson
from innerloop.learn import checkpoint, precision
from innerloop.learn.evaluate import PICKS, evaluate, judge_set, parts, varies
from innerloop.learn.feed import BLOCK, Feed
from innerloop.learn.loss import IGNORE, judge, softmax_cross_entropy, stablemax_cross_entropy
from innerloop.learn.optim import Average, SparseSignSGD, optimizers, schedule
from innerloop.learn.plan import Plan
from innerloop.learn.supervise import Batch, Draw, Halting, begin, segment
from innerloop.learn.train import Trainer, train
from innerloop.learn.watch import Watch
from innerloop.recipes import get
from innerloop.recipes.run import build, override, to_json, write_run
from innerloop.weights import gram
from innerloop.width import Noisy, wide

TINY = ["config.size.width=32", "plan.batch=16", "plan.compile=off", "data.count=100", "data.holdout=40"]


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
    got = judge(logits, torch.tensor([[0, 1, 1], [IGNORE] * 3]))
    assert got.exact.tolist() == [False, True] and got.places.tolist() == [3, 0]
    assert got.token[0].item() == pytest.approx(2 / 3)


# -- optimizers -------------------------------------------------------------------------------------------------------


def test_schedule_rises_then_falls_to_its_floor_over_the_real_horizon():
    at = [schedule(t, 100, 10, 0.0) for t in range(100)]
    assert at[0] == pytest.approx(0.1) and max(at) == at[10] == 1.0 and at[-1] < 0.001
    assert schedule(99, 100, 10, 1.0) == 1.0


def test_sign_descent_touches_only_the_rows_of_the_batch_and_sums_repeated_ids():
    table = torch.nn.Parameter(torch.ones(5, 2))
    values = torch.tensor([[3.0, -1.0], [-1.0, 2.0], [0.5, 0.5]])
    table.grad = torch.sparse_coo_tensor(torch.tensor([[1, 1, 4]]), values, (5, 2), check_invariants=True)
    SparseSignSGD([table], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(table[1], torch.tensor([0.85, 0.85])) and torch.allclose(table[4], torch.tensor([0.85, 0.85]))
    assert (table[[0, 2, 3]] == 1).all()


@pytest.mark.parametrize("name", ["adam_atan2", "adamw", "muon"])
def test_every_optimizer_trains_every_dense_parameter(name):
    run = tiny(
        "config.size.mix=attention", "config.size.prefix=1", "config.size.puzzle_width=32", "plan.halting.learned=true"
    )
    built = build(run)
    before = {n: p.detach().clone() for n, p in built.loop.named_parameters()}
    plan = replace(built.run.plan, optimizer=name, warmup=1, steps=3, lr=1e-2)
    made = optimizers(built.loop, name, 1e-2, 0.1, 1e-2)
    feed = Feed(built.train, built.task, 0)
    carry = begin(built.loop, feed.fill(torch.ones(8, dtype=torch.bool), 0))
    for i in range(2):
        out = segment(
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


def test_average_swaps_in_and_out_without_a_trace():
    model = torch.nn.Linear(2, 2)
    average, first = Average(model, 0.9), model.weight.detach().clone()
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
    a, b = Feed(built.train, built.task, 3), Feed(built.train, built.task, 3)
    whole = a.rows(0, 5 * BLOCK)
    b.rows(700, 40)
    pieces = [b.rows(i, 1) for i in (0, 63, 64, 200, 319)]
    for i, piece in zip((0, 63, 64, 200, 319), pieces, strict=True):
        assert all(np.array_equal(w[i], p[0]) for w, p in zip(whole, piece, strict=True))
    assert not np.array_equal(whole[0], Feed(built.train, built.task, 4).rows(0, 5 * BLOCK)[0])


def test_a_pass_takes_every_group_once():
    built = build(tiny())
    feed = Feed(built.train, None, 0)
    n = len(built.train)
    for epoch in (0, 1):
        inputs = feed.rows(epoch * n, n)[0]
        assert sorted(r.tobytes() for r in inputs) == sorted(r.tobytes() for r in built.train.inputs)


# -- deep supervision -------------------------------------------------------------------------------------------------


def test_a_row_lives_its_steps_then_leaves_and_the_others_stay():
    built = build(tiny())
    feed, halting = Feed(built.train, None, 0), Halting(3, learned=False)
    carry = begin(built.loop, feed.fill(torch.ones(2, dtype=torch.bool), 0))
    lives, seen, position = torch.tensor([1, 3]), [], 0
    for _ in range(4):
        fresh = feed.fill(carry.halted, position)
        position += int(carry.halted.sum())
        carry = segment(built.loop, carry, fresh, halting, Draw(torch.zeros(2, dtype=torch.long), lives)).carry
        seen.append((carry.steps.tolist(), carry.halted.tolist(), carry.batch.question.inputs.clone()))
    assert [s[0] for s in seen] == [[1, 1], [1, 2], [1, 3], [1, 1]]
    assert [s[1] for s in seen] == [[True, False], [True, False], [True, True], [True, False]]
    assert torch.equal(seen[0][2][1], seen[2][2][1]) and not torch.equal(seen[0][2][0], seen[1][2][0])


def test_a_run_in_slices_is_the_run_in_one_go(tmp_path, monkeypatch):
    """Each call does a step or a few; states are cut into pieces, of which only the last ones stay."""
    monkeypatch.setattr(checkpoint, "PIECE", 30_000)
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
    feed, halting = Feed(built.train, None, 0), Halting(5, learned=False)
    carry, position = begin(built.loop, feed.fill(torch.ones(6, dtype=torch.bool), 0)), 0
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(7):
            fresh = feed.fill(carry.halted, position)
            position += int(carry.halted.sum())
            draw = Draw(torch.zeros(6, dtype=torch.long), torch.randint(1, 6, (6,), generator=gen))
            carry = segment(built.loop, carry, fresh, halting, draw).carry
        assert len(set(carry.steps.tolist())) > 1
        for i, steps in enumerate(carry.steps.tolist()):
            question = map_tensors(lambda t: t[i : i + 1], carry.batch.question)  # noqa: B023
            alone = think(built.loop, question, steps)
            assert torch.allclose(alone.state.y[0], carry.state.y[i], atol=1e-4)


def test_exploration_keeps_a_share_of_rows_for_a_random_number_of_steps():
    draw = Halting(16, explore=0.25).draw(20_000, torch.Generator().manual_seed(0))
    kept = draw.least[draw.least > 0]
    assert 0.23 < len(kept) / 20_000 < 0.27 and kept.min() == 2 and kept.max() == 16
    spread = Halting(4, spread=True).draw(8000, torch.Generator().manual_seed(0)).life
    assert sorted(set(spread.tolist())) == list(range(1, 9))


def test_brief_lives_are_a_share_and_the_others_still_reach_every_depth():
    life = Halting(16, spread=True, brief=0.7).draw(20_000, torch.Generator().manual_seed(0)).life
    assert sorted(set(life.tolist())) == list(range(1, 33))
    longer = (life > 4).float().mean().item()
    assert abs(longer - 0.3 * 28 / 32) < 0.01


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_4x4_is_learnt_from_scratch(tmp_path):
    """The whole way at small size: generated puzzles in, unseen puzzles solved, at every depth."""
    built = build(override(get("sudoku4_trm"), ["plan.steps=250", "plan.compile=off"]))
    result = train(
        built.loop, built.task, built.train, built.run.plan, tmp_path, validation=built.validation, live=False
    )
    assert result.best["exact"] >= 0.9 and result.best["exact"] == result.best["valid"]
    checkpoint.load_weights(tmp_path / checkpoint.MODEL, built.loop)
    rows = evaluate(built.loop.eval(), built.task, built.validation, (1, 8, 64))
    assert rows[1].exact >= 0.9 and rows[2].exact >= rows[1].exact - 0.05
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if "train/loss" in x] == list(range(10, 251, 10))


def test_a_resumed_run_is_bit_equal(tmp_path):
    change = ("plan.steps=40", "plan.save_every=20", "plan.check_every=20")
    whole = trainer(tmp_path / "whole", *change)
    whole.run()
    first = trainer(tmp_path / "cut", *change)
    while first.step < 27:  # beyond its checkpoint, then lost
        first.learn()
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
    change = ["plan.steps=600", "plan.save_every=10", "plan.check_every=300"]
    script = (
        "import sys; from innerloop.recipes import get; from innerloop.recipes.run import *;"
        "from innerloop.learn.train import train;"
        f"b = build(override(get('sudoku4_trm'), {TINY + change!r}));"
        "train(b.loop, b.task, b.train, b.run.plan, sys.argv[1], validation=b.validation, live=False)"
    )
    run = lambda folder: subprocess.Popen([sys.executable, "-c", script, str(folder)])  # noqa: E731
    assert run(tmp_path / "whole").wait() == 0
    rng, folder = np.random.default_rng(0), tmp_path / "killed"
    reached = lambda: (checkpoint.load_state(folder) or {"step": 0})["step"] if folder.exists() else 0  # noqa: E731
    kills = 0
    for _ in range(4):
        before, process = reached(), run(folder)
        while reached() <= before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.2 * rng.random())  # wherever it is by now
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert reached() > before and reached() % 10 == 0
    assert kills >= 2 and run(folder).wait() == 0
    a, b = (torch.load(tmp_path / d / checkpoint.STATE, weights_only=True) for d in ("whole", "killed"))
    assert weights_equal(a["model"], b["model"])
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [s for s in lines if s % 300] == [s for s in range(10, 601, 10) if s % 300]


def test_accumulation_changes_nothing_but_rounding(tmp_path):
    one = trainer(tmp_path / "one", "plan.steps=6", "config.dtype=float32")
    four = trainer(tmp_path / "four", "plan.steps=6", "plan.accumulate=4", "config.dtype=float32")
    one.run(), four.run()
    for (name, p), q in zip(one.loop.named_parameters(), four.loop.parameters(), strict=True):
        assert torch.allclose(p, q, atol=2e-4), name


DDP = """
import sys
from pathlib import Path
from innerloop.recipes import get
from innerloop.recipes.run import build, override
from innerloop.learn.train import Trainer
folder, change, *stop = sys.argv[1:]
b = build(override(get("sudoku4_trm"), change.split(";")))
t = Trainer(b.loop, b.task, b.train, b.run.plan, Path(folder), validation=b.validation, live=False)
if stop:
    while t.step < int(stop[0]):
        t.learn()
    t.save()
else:
    t.run()
t.ranks.close()
"""


def test_two_processes_learn_what_one_does(tmp_path):
    """torchrun with two gloo processes: same weights as one but for the order of sums; resumed, the same bits."""
    change = [
        *TINY,
        "plan.steps=6",
        "config.dtype=float32",
        "plan.check_every=3",
        "config.size.prefix=1",
        "config.size.puzzle_width=32",
    ]
    (tmp_path / "ddp.py").write_text(DDP)

    def learn(world, folder, *stop):
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={world}", "--master_port=0"]
        command += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", str(tmp_path / "ddp.py")]
        command += [str(tmp_path / folder), ";".join(change), *stop]
        quiet = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
        assert done.returncode == 0, done.stderr[:3000] + done.stderr[-2000:]

    learn(1, "one"), learn(2, "two"), learn(2, "cut", "3"), learn(2, "cut"), learn(2, "fewer", "3"), learn(1, "fewer")
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
        t.learn()
    good = {k: v.clone() for k, v in t.loop.state_dict().items()}
    t.loop.embed.tokens.weight.register_hook(lambda g: g * float("nan"))
    result = t.run()
    assert "step 6" in result.stopped and "not finite" in result.stopped and result.steps == 5
    assert weights_equal(t.loop.state_dict(), good)
    assert weights_equal(checkpoint.load_state(tmp_path)["model"], good)


def test_the_best_validated_weights_are_kept(tmp_path):
    watch = Watch()
    assert watch.see(1, 0.5, 0.5) and not watch.see(2, 0.45, 0.45) and not watch.warnings
    assert not watch.see(3, 0.2, 0.2) and watch.warnings[0].startswith("collapse")
    assert watch.best["step"] == 1 and watch.news() and not watch.news()
    again = Watch(**watch.state())
    assert again.best == watch.best and again.see(4, 0.5, 0.6)
    slow = Watch()
    slow.see(0, 0.9, 0.9)
    [slow.see(i, 0.89, 0.89) for i in range(1, 6)]
    assert slow.warnings[0].startswith("overfitting")


def test_memory_does_not_grow_with_untaped_steps():
    """What backward keeps: the taped cycle's activations, however many cycles run before it."""

    def kept(cycles):
        built = build(tiny(f"config.cycles={cycles}"))
        feed = Feed(built.train, None, 0)
        carry = begin(built.loop, feed.fill(torch.ones(8, dtype=torch.bool), 0))
        total = [0]
        pack = lambda t: (total.__setitem__(0, total[0] + t.numel() * t.element_size()), t)[1]  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            halting = Halting(8)
            segment(built.loop, carry, feed.fill(carry.halted, 0), halting, halting.draw(8, torch.Generator()))
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


def test_one_sweep_equals_each_depth_alone_and_halting_reports_its_steps():
    built = build(tiny())
    loop = built.loop.eval()
    swept = evaluate(loop, built.task, built.validation, (1, 3, 6), batch=17)
    for row in swept:
        alone = judge_set(loop, built.task, built.validation, row.depth)
        assert row.exact == alone.exact.mean() and row.token == pytest.approx(alone.token.mean())
    with torch.no_grad():
        loop.heads.q.bias[0] = 9.0
    (row,) = evaluate(loop, built.task, built.validation, (6,), halting=(True,))
    (_, question), *_ = parts(built.validation, 99, "cpu")
    alone = think(loop, question, 6, halt=settled)  # a head that always believes leaves it to the answer to settle
    calls = len(loop.schedule)
    assert row.steps == row.nfe / calls == alone.steps.double().mean().item() < 6
    (row,) = evaluate(loop, built.task, built.validation, (2,), (3,), noise=(1.0, 0.0))
    assert row.nfe == 6.0 * calls and row.pick == "vote"


@pytest.mark.parametrize("wrong", [{"depths": ()}, {"depths": (0,)}, {"widths": (2,)}, {"pick": "luck"}])
def test_an_evaluation_that_makes_no_sense_is_refused(wrong):
    built = build(tiny())
    with pytest.raises(InputError):
        evaluate(built.loop, built.task, built.validation, **wrong)


def keyed():
    """A loop whose trajectories differ by themselves."""
    built = build(tiny())
    return gram.GRAM(gram.Config(built.run.config.size, cycles=1, thoughts=1, dtype="float32")).eval(), built


@pytest.mark.parametrize("pick", ["vote", "q", "value"])
def test_a_loop_with_a_key_is_evaluated_wide_without_noise(pick):
    loop, built = keyed()
    few = built.validation.take(np.arange(12))
    one, three = evaluate(loop, built.task, few, (2,), (1, 3), pick=pick)
    assert (one.pick, three.pick, three.nfe) == ("-", pick, 6.0 * len(loop.schedule))
    (_, question), *_ = parts(few, 99, "cpu")
    with torch.no_grad():
        thought = wide(loop, question, 3, PICKS[pick], 2)
    again = judge_set(loop, built.task, few, 2, 3, pick=pick)
    assert np.array_equal(again.answers, thought.answer.logits.argmax(-1).numpy())


def test_a_noisy_loop_may_be_given_as_it_is_and_others_are_told_to_differ():
    built = build(tiny())
    few = built.validation.take(np.arange(4))
    (row,) = evaluate(Noisy(built.loop, 0.3, 0.3, ("z",)), built.task, few, (2,), (3,), pick="q")
    assert row.nfe == 6.0 * len(built.loop.schedule)
    assert varies(keyed()[0], few) and not varies(built.loop, few)
    with pytest.raises(InputError, match="give them noise"):
        evaluate(built.loop, built.task, few, (2,), (3,))


def test_the_first_to_halt_is_picked_only_where_something_halts():
    built = build(tiny())
    few = built.validation.take(np.arange(4))
    with pytest.raises(InputError, match="halting only"):
        evaluate(built.loop, built.task, few, (2,), (3,), pick="first", noise=(1.0, 0.0))
    (row,) = evaluate(built.loop, built.task, few, (4,), (3,), halting=(True,), pick="first", noise=(1.0, 0.0))
    assert row.pick == "first" and row.steps <= 4


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_write_that_fails_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    checkpoint.write_json(path, {"old": 1})

    def fill(p):
        p.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        checkpoint.write(path, fill)
    assert json.loads(path.read_text()) == {"old": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_weights_of_another_configuration_are_refused_by_name(tmp_path):
    built = build(tiny())
    checkpoint.save_weights(tmp_path / checkpoint.MODEL, built.loop.state_dict())
    other = build(tiny("config.size.width=64"))
    with pytest.raises(InputError, match="another configuration"):
        checkpoint.load_weights(tmp_path / checkpoint.MODEL, other.loop)
    (tmp_path / checkpoint.MODEL).write_bytes(b"not weights")
    with pytest.raises(InputError, match="damaged"):
        checkpoint.load_weights(tmp_path / checkpoint.MODEL, built.loop)


def test_a_folder_keeps_to_its_run(tmp_path):
    run = build(tiny()).run
    write_run(tmp_path, run)
    write_run(tmp_path, run)
    with pytest.raises(InputError, match="seed"):
        write_run(tmp_path, replace(run, seed=7))
    assert json.loads((tmp_path / "run.json").read_text())["run"] == to_json(run)


def test_plans_are_checked_at_the_door():
    for wrong in (
        {"batch": 0},
        {"batch": 10, "accumulate": 3},
        {"loss": "hinge"},
        {"compile": "maybe"},
        {"depths": ()},
        {"lr": 0.0},
    ):
        with pytest.raises(InputError):
            Plan(**wrong)


def test_ignored_labels_become_ignore():
    built = build(tiny())
    batch = Feed(built.train, None, 0).fill(torch.tensor([True, False]), 0)
    assert isinstance(batch, Batch) and (batch.labels[1] == IGNORE).all() and (batch.labels[0] > 1).all()


def test_float32_products_switch_only_where_they_stay_float32(monkeypatch):
    """The decision is made by the error against float64, and what it chooses keeps that error."""
    before = torch.get_float32_matmul_precision()
    try:
        precision.fast_float32.cache_clear()
        said = precision.fast_float32()
        chosen = torch.get_float32_matmul_precision()
        assert ("oneDNN: as exact" in said) == (chosen == "medium")
        assert precision.error(chosen) <= precision.TOLERANCE * precision.error("highest")
        torch.set_float32_matmul_precision("highest")
        precision.fast_float32.cache_clear()
        monkeypatch.setattr(precision, "error", lambda p: 1e-2 if p == "medium" else 1e-7)
        assert "would round" in precision.fast_float32() and torch.get_float32_matmul_precision() == "highest"
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told what to do with freed memory")
def test_freed_memory_is_kept_for_the_next_tensor():
    """Sixty tensors of 64 MB one after the other: their pages are faulted in a few times, not sixty."""
    code = """
import resource, sys, torch
from innerloop import memory
kept = [getattr(memory, how)() for how in sys.argv[1:]]
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(60):
    torch.ones(16_000_000)
print(any(kept), faults() - before)
"""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    run = lambda env, *hows: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code, *hows], env=env, capture_output=True, text=True, check=True
    ).stdout.split()
    kept, few = run(plain, "keep")
    if kept == "False":
        pytest.skip("this C library is not glibc")
    assert int(few) < int(run(plain)[1]) / 4
    assert int(few) < int(run(plain, "keep", "give_back")[1]) / 4
    assert run(plain | {"MALLOC_TRIM_THRESHOLD_": "131072"}, "keep")[0] == "False"
