"""Solving for real: a model trained in seconds, all dials, and "I don't know" where the rule is not met."""

import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from innerloop import pretrained, tasks
from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.learn.train import train
from innerloop.parts import fused
from innerloop.recipes import get
from innerloop.runs.fit import build
from innerloop.runs.run import override
from innerloop.solve import choose as rules
from innerloop.solve import hybrid
from innerloop.solve.calibrate import IsotonicCurve, auroc, calibrate_rule, ece, fit, from_json, risk_coverage, to_json
from innerloop.solve.choose import RULES, Trajectories, choose
from innerloop.solve.hybrid import tune_fallback
from innerloop.solve.nfe import CompiledLoop, compile_step
from innerloop.solve.solver import Budget, SolveOptions, Solver
from innerloop.width import Noisy


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    made = build(override(get("sudoku4_trm"), ["plan.steps=150", "plan.check_every=150", "data.holdout=20"]))
    train(made.loop, made.task, made.train, made.run.plan, tmp_path_factory.mktemp("run"), live=False)
    made.loop.eval()
    return made


@pytest.fixture
def solver(built):
    return Solver(built.loop, built.task, rows=16)


@pytest.fixture(scope="module")
def test_set(built):
    return built.task.make(60, 4_000_003)


@torch.no_grad()
def plain(built, test_set, depth):
    x = Question(torch.from_numpy(test_set.inputs.astype(np.int64)), torch.zeros(len(test_set), dtype=torch.long))
    return think(built.loop, x, depth).answer.logits.argmax(-1).numpy()


def test_width_one_without_a_verifier_is_plain_thinking(built, solver, test_set):
    found = solver.solve(test_set, depth=6, pick="q")
    assert np.array_equal(np.stack([s.answer for s in found]), plain(built, test_set, 6))
    assert all(s.steps == 6 and s.nfe == 6 * solver.nfe_per_step and s.width == 1 and s.trajectory == 0 for s in found)
    assert [s.text for s in found] == [built.task.decode(s.answer) for s in found]


def test_known_means_valid_and_width_with_the_verifier_knows_more(built, solver, test_set):
    one = solver.solve(test_set, depth=1)
    wide = solver.solve(test_set, depth=1, width=12)
    for found in (one, wide):
        valid = built.task.valid_batch(test_set.inputs, np.stack([s.answer for s in found]))
        assert [s.known for s in found] == valid.tolist() == [s.valid for s in found]
        assert all(s.confidence == float(s.known) and s.pick == "verified" for s in found)
    assert sum(s.known for s in wide) >= sum(s.known for s in one)
    assert any(s.trajectory > 0 and s.known for s in wide), "no puzzle was won by another view: the test shows nothing"
    lost = [s for s in one if not s.known]
    assert all("accepts none of 1" in s.why for s in lost)


def test_a_solution_does_not_depend_on_company_or_rows(built, test_set):
    for how in ({"pick": "vote"}, {"pick": "verified"}, {"pick": "residual", "noise": (0.5, 0.2), "views": False}):
        together = Solver(built.loop, built.task, rows=64).solve(test_set, 4, 5, **how)
        some = Solver(built.loop, built.task, rows=3).solve(test_set.take(slice(7, 12)), 4, 5, **how)
        for a, b in zip(together[7:12], some, strict=True):
            assert np.array_equal(a.answer, b.answer) and (a.known, a.steps) == (b.known, b.steps)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "count"), [(1, 8), (64, 24)])
def test_the_winner_by_verification_is_a_matter_of_the_puzzle_alone(built, test_set, rows, count):
    """Of few givens, so that several answers are valid: another winner would be another answer."""
    hard = tasks.get("sudoku", size=4, givens=(4, 5)).make(count, 77).inputs.copy()
    for row in hard:
        row[np.flatnonzero(row > 1)[0]] = 1  # one given less
    solver, dials = Solver(built.loop, built.task, rows=rows), {"depth": 3, "width": 20, "noise": (0.5, 0.2)}
    shown = lambda found: [(s.known, s.trajectory, s.steps, s.text) for s in found]  # noqa: E731
    every = solver.trajectories(hard, SolveOptions(pick="vote", **dials))
    whole, single = shown(solver.solve(hard, **dials)), [shown(solver.solve(q, **dials))[0] for q in hard]
    assert whole == single == shown(Solver(built.loop, built.task).solve(hard, **dials))
    assert len({t for known, t, *_ in whole if known}) > count // 8
    for (known, _, steps, _), t in zip(whole, every, strict=True):
        assert known or not t.valid.any()  # nothing that is valid at the end was given up
        assert known or steps == 3


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_solver_says_the_same(built, test_set):
    plain, quick = (Solver(built.loop, built.task, rows=16, compile=how) for how in (False, True))
    for dials in ({"depth": 3, "width": 5}, {"depth": 4, "width": 2, "pick": "residual"}):
        a, b = plain.solve(test_set, **dials), quick.solve(test_set, **dials)
        assert [s.text for s in a] == [s.text for s in b]
        assert sum(s.steps != t.steps for s, t in zip(a, b, strict=True)) <= 1  # rounding can tip a halting head
    assert len(quick._compiled) == 1


def test_budgets_hold_and_easy_puzzles_leave_more_to_hard_ones(solver, test_set):
    budget = 2.0 * solver.nfe_per_step
    found = solver.solve(test_set, depth=16, width=8, pick="verified", budget=Budget(nfe=budget))
    spent = [s.nfe for s in found]
    assert sum(spent) <= budget * len(test_set) + 16 * solver.nfe_per_step  # one tick may overshoot
    assert max(spent) > budget and min(spent) < budget
    hurried = solver.solve(test_set, depth=10_000, pick="q", budget=Budget(rate=len(test_set) / 0.2))
    assert len(hurried) == len(test_set) and max(s.steps for s in hurried) < 10_000
    assert max(s.seconds for s in hurried) < 5
    nothing = solver.solve(test_set, depth=4, budget=Budget(seconds=1e-9))
    assert not any(s.known for s in nothing if s.steps == 0) and any("before its first step" in s.why for s in nothing)


def test_an_exact_solver_stands_behind(built, solver, test_set):
    pytest.importorskip("ortools")
    found = solver.solve(test_set, depth=1, exact=10)
    assert all(s.known and s.valid for s in found)
    assert {s.source for s in found} == {"model", "exact"}
    assert all("the exact solver found it" in s.why for s in found if s.source == "exact")


def test_what_the_model_leaves_costs_the_exact_solvers_mean_time(built, monkeypatch):
    """A model that takes no time and solves three of four: a quarter of the exact solver's time is left."""

    class Instant:
        task = built.task

        def trajectories_differ(self, options):
            return False

        def solve(self, questions, depth, width, pick):
            return [SimpleNamespace(known=int(q[0]) < 3) for q in questions]

    monkeypatch.setattr(hybrid, "exact", lambda *a, **k: time.sleep(0.05))
    found = tune_fallback(Instant(), np.arange(4)[:, None], depths=(1,), batched=True)
    assert found.known == 0.75 and found.depth == 1
    assert found.seconds == pytest.approx(found.exact_seconds / 4, abs=0.005)


@pytest.mark.slow
def test_patience_is_the_time_that_pays(built, test_set, monkeypatch):
    """An exact solver that is slow is asked late, one that is quick at once."""
    solver = Solver(built.loop, built.task)
    questions = test_set.inputs[:6]
    found = tune_fallback(solver, questions, depths=(1, 4), widths=(1, 2))
    assert found.seconds <= found.exact_seconds and 0 <= found.known <= 1 and found.depth in (0, 1, 4)
    real = hybrid.exact
    monkeypatch.setattr(hybrid, "exact", lambda *a, **k: (time.sleep(0.15), real(*a, **k))[1])
    late = tune_fallback(solver, questions, depths=(1, 4), widths=(1, 2))
    assert late.depth >= 1 and late.known > 0.5 and late.seconds < late.exact_seconds and late.exact_seconds > 0.15
    monkeypatch.setattr(hybrid, "exact", lambda *a, **k: time.sleep(0.05))
    many = tune_fallback(solver, test_set.inputs[:40], depths=(4,), widths=(1,), batched=True)
    assert many.depth == 4 and many.seconds < many.exact_seconds
    with pytest.raises(InputError, match="no exact model"):
        tune_fallback(
            Solver(built.loop, tasks.get("grid", alphabet="ab", shape=(4, 4)), verify=lambda q, a: a[:, 0] > 0),
            questions,
        )


def test_what_is_asked_in_whatever_form(built, solver, test_set):
    text = built.task.decode(test_set.inputs[0])
    for form in (text, [text], test_set.inputs[0], test_set.inputs[:1], test_set.take(slice(1))):
        (found,) = solver.solve(form, depth=4)
        assert found.text == solver.solve(test_set, depth=4)[0].text
    seen = []
    solver.solve(test_set.take(slice(3)), 4, watch=lambda i, k, m: seen.append((i, k, m.step)), pick="q")
    assert sorted(seen) == [(i, 0, t) for i in range(3) for t in range(1, 5)]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda q: q.astype(int) + 256, "run from 25[6-9] to 2"),
        (lambda q: q.astype(int) - 256, "run from -25"),
        (lambda q: q + 0.9, "fractions"),
        (lambda q: q + np.nan, "not finite"),
        (lambda q: np.full_like(q, 6), "0..5"),
        (lambda q: q.reshape(-1, 4, 4), "3 dimensions"),
        (lambda q: q[:, :15], "takes"),
        (lambda q: q[:0], "no puzzle"),
        (lambda q: [], "no puzzle"),
        (lambda q: ["1" * 15], "15 cells"),
        (lambda q: ["\ud800" * 16], "in cell 1"),
        (lambda q: [list(q[0]), list(q[0, :3])], "different lengths"),
        (lambda q: SimpleNamespace(inputs=q.astype(int) + 256, puzzle=np.zeros(len(q), int)), "run from"),
        (lambda q: SimpleNamespace(inputs=q, puzzle=np.zeros(len(q) + 1, int)), "identifiers"),
        (lambda q: SimpleNamespace(inputs=q, puzzle=np.full(len(q), -1)), "identifiers run from -1"),
        (lambda q: SimpleNamespace(inputs=q, puzzle=np.full(len(q), 0.5)), "identifiers are float64"),
    ],
)
def test_no_array_wraps_is_rounded_or_reaches_the_model_unfit(solver, test_set, made, said):
    """The same puzzles in any whole type are answered; anything else is one sentence."""
    with pytest.raises(InputError, match=said):
        solver.solve(made(test_set.inputs[:2]), depth=1)


def test_identifiers_that_a_loop_has_not_learned_are_refused(solver, test_set, monkeypatch):
    size = replace(solver.loop.c.net, puzzles=3, puzzle_emb_size=8, prefix=1)
    monkeypatch.setattr(solver.loop, "c", replace(solver.loop.c, net=size))
    assert solver.check_identifiers(np.array([0, 2]), 2).tolist() == [0, 2]
    with pytest.raises(InputError, match="run from 0 to 3: give 0 to 2"):
        solver.check_identifiers(np.array([0, 3]), 2)


def test_whole_numbers_of_any_type_are_the_same_puzzle(solver, test_set):
    q = test_set.inputs[:2]
    want = [s.text for s in solver.solve(q, depth=1)]
    for same in (q.astype(np.int64), q.astype(float), q.tolist(), torch.from_numpy(q)):
        assert [s.text for s in solver.solve(same, depth=1)] == want


@pytest.mark.parametrize(
    "how",
    [
        {"depth": 10**12}, {"width": 10**9}, {"depth": 1.5}, {"width": True}, {"noise": (np.nan, 0.0)},
        {"noise": (np.inf, 0.0)}, {"min_confidence": np.nan}, {"seed": -1}, {"seed": 2**64}, {"exact": -1.0},
        {"exact": np.nan},
        {"budget": Budget(nfe=np.nan)}, {"budget": Budget(seconds=-1)}, {"budget": Budget(rate=np.inf)},
        {"width": 10_000, "pick": "vote", "puzzles": 2000},
    ],
)  # fmt: skip
def test_too_much_is_refused_before_anything_is_made(solver, test_set, how, monkeypatch):
    monkeypatch.setattr(Solver, "views", lambda *_: pytest.fail("something was made"))
    puzzles = np.repeat(test_set.inputs[:1], how.get("puzzles", 1), 0)
    with pytest.raises(InputError):
        solver.solve(puzzles, **{k: v for k, v in how.items() if k != "puzzles"})


def test_only_rules_that_this_loop_can_be_picked_by_are_named(built, solver):
    assert solver.rules == ["verified", "vote", "q", "residual", "certainty", "first"]
    grid = Solver(built.loop, tasks.get("grid", alphabet=".1234", shape=(4, 4), blank="."))
    assert "verified" not in grid.rules
    with pytest.raises(InputError, match="vote, q, residual, certainty, first, or auto") as caught:
        grid.resolve(SolveOptions(pick="evil"))
    assert "verified" not in str(caught.value) and "value" not in str(caught.value)


class Lost:
    """A loop whose numbers are not finite."""

    def __init__(self, loop):
        self.loop = loop

    def __getattr__(self, name):
        return getattr(self.loop, name)

    def read(self, s):
        answer = self.loop.read(s)
        return answer._replace(logits=answer.logits * float("nan"))


@pytest.mark.parametrize("pick", ["vote", "residual", "certainty", "q", "verified"])
def test_an_answer_of_no_numbers_is_never_known(built, test_set, pick):
    grid = tasks.get("grid", alphabet=built.task.charset, shape=(4, 4), blank=".")
    task = built.task if pick == "verified" else grid
    for found in Solver(Lost(built.loop), task).solve(test_set.inputs[:3], 2, 1, pick):
        assert not found.known and not found.confidence
        assert pick == "verified" or "not finite" in found.why


def test_an_incomplete_answer_is_never_known(built, test_set):
    """The question itself as answer: every given is kept, and its blanks are left."""

    class Echo(Lost):
        def read(self, s):
            answer = self.loop.read(s)
            blanks = torch.nn.functional.one_hot(torch.ones(answer.logits.shape[:2], dtype=torch.long), 6)
            return answer._replace(logits=blanks.float())

    grid = tasks.get("grid", alphabet=built.task.charset, shape=(4, 4), blank=".")
    (found,) = Solver(Echo(built.loop), grid).solve("." * 16, 2, 1, "vote")
    assert not found.known and found.text == "." * 16 and "not complete" in found.why


def test_calibration_takes_more_trajectories_than_fit_into_the_queue(monkeypatch):
    opened = pretrained.open("demo-sudoku4")
    solver = Solver(opened.loop, opened.task, rows=8)
    make = solver.engine
    monkeypatch.setattr(solver, "engine", lambda *options, **how: limited(make(*options, **how), 8))
    rows = solver.trajectories(opened.task.make(20, 1), SolveOptions(depth=2, width=2, pick="vote", noise=(0.1, 0.0)))
    assert len(rows) == 20 and all(len(t.answers) == 2 for t in rows)
    with pytest.raises(InputError, match='no selection rule is called "best"'):
        solver.calibrate(opened.task.make(4, 1), rules=("best",), depth=2)


def limited(engine, capacity):
    engine.capacity = capacity
    return engine


def test_trajectories_of_no_numbers_do_not_outvote_the_others():
    answers = np.array([[0, 0], [0, 0], [2, 3]], np.uint8)
    k3 = {n: np.zeros(3) for n in ("q", "value", "residual", "steps", "halted", "valid")}
    choice = choose(Trajectories(answers=answers, mean_log_prob=np.array([np.nan, np.nan, -1.0]), **k3), "vote")
    assert choice.winner == 2 and np.isfinite(choice.score)


def test_the_seconds_of_a_call_hold_for_the_exact_solver_too(solver, test_set, monkeypatch):
    asked = []
    monkeypatch.setattr("innerloop.solve.solver.need_exact", lambda task: None)
    monkeypatch.setattr(
        "innerloop.solve.solver.with_exact_fallback",
        lambda task, q, found, left, seed: (time.sleep(0.02), asked.append(left), found)[2],
    )
    solver.solve(test_set.inputs[:12], depth=1, exact=100.0, budget=Budget(seconds=0.2))
    assert max(asked) < 0.2 and asked == sorted(asked, reverse=True)


def test_a_verifier_of_ones_own_stands_at_the_gate(built, test_set):
    nothing = Solver(built.loop, built.task, verify=lambda q, a: np.zeros(len(a), bool))
    assert not any(s.known for s in nothing.solve(test_set, 4, 3))


def test_bad_dials_are_one_sentence(built, solver):
    puzzle = built.task.make(1, 3)
    for how, said in (
        ({"depth": 0}, "must both be 1"),
        ({"width": 0}, "must both be 1"),
        ({"pick": "best"}, "no selection rule"),
        ({"pick": "value"}, "no head for"),
        ({"noise": (-1.0, 0.0)}, "noise is"),
        ({"min_confidence": 2.0}, "min_confidence is"),
        ({"width": 2, "views": False, "guess": False}, "same trajectory"),
        ({"budget": Budget(nfe=0)}, "not above 0"),
    ):
        with pytest.raises(InputError, match=said):
            solver.solve(puzzle, **how)
    grid = tasks.get("grid", alphabet=".1234", shape=(4, 4), blank=".")
    unknown = Solver(built.loop, grid)
    assert unknown.verify is None
    for how, said in (({"pick": "verified"}, "are not known"), ({"pick": "auto"}, "calibrate first")):
        with pytest.raises(InputError, match=said):
            unknown.solve(puzzle, **how)
    found = unknown.solve(puzzle, depth=4, pick="q")[0]
    assert found.known and found.valid is None and found.confidence is None


# -- rules ------------------------------------------------------------------------------------------------------------


def made(**columns):
    k = 4
    base = {
        "answers": np.arange(4 * 2, dtype=np.uint8).reshape(4, 2), "mean_log_prob": np.zeros(k),
        "q": np.full(k, np.nan), "value": np.full(k, np.nan), "residual": np.ones(k),
        "steps": np.full(k, 5), "halted": np.zeros(k, bool), "valid": np.zeros(k, bool),
    }  # fmt: skip
    return Trajectories(**(base | {n: np.asarray(v) for n, v in columns.items()}))


@pytest.mark.parametrize(
    ("rule", "columns", "winner"),
    [
        ("vote", {"answers": np.array([[1, 1], [2, 2], [2, 2], [3, 3]], np.uint8)}, 1),
        ("q", {"q": [0.1, 0.9, np.nan, 0.9]}, 1),
        ("value", {"value": [0.1, 0.2, 0.7, 0.3]}, 2),
        ("residual", {"residual": [0.1, 1e-3, 1e-2, np.nan]}, 1),
        ("certainty", {"mean_log_prob": [-3.0, -1.0, -0.5, -2.0]}, 2),
        ("first", {"halted": [False, True, True, True], "steps": [1, 9, 4, 4], "q": [1, 0.1, 0.2, 0.9]}, 3),
        ("first", {"halted": [True, True, False, False], "steps": [3, 2, 1, 1], "q": [1.0, 0.0, 1, 1]}, 1),
        ("verified", {"valid": [False, False, True, True]}, 2),
        ("verified", {"valid": [False, True, True, True], "steps": [1, 9, 7, 4]}, 3),
    ],
)
def test_each_rule_takes_its_winner(rule, columns, winner):
    choice = choose(made(**columns), rule)
    assert choice.winner == winner and np.isfinite(choice.score) and choice.why
    assert set(RULES) == set(rules.REASONS)


def test_an_unmet_rule_says_so_and_guesses_by_vote():
    answers = np.array([[1, 1], [2, 2], [2, 2], [3, 3]], np.uint8)
    for rule, said in (("verified", "accepts none of 4"), ("first", "none of 4 trajectories halted")):
        choice = choose(made(answers=answers), rule)
        assert choice.winner == 1 and choice.score == float("-inf") and said in choice.why


def test_answers_of_logits_that_are_not_finite_are_no_guess_either():
    answers = np.array([[9, 9], [9, 9], [1, 2], [3, 4]], np.uint8)
    choice = choose(made(answers=answers, mean_log_prob=[np.nan, np.nan, -0.5, -0.6]), "verified")
    assert choice.winner == 2 and choice.score == float("-inf")


# -- trust ------------------------------------------------------------------------------------------------------------


def drawn(n=4000, seed=0):
    """Scores whose true chance of being right is known: score squared."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return scores, rng.random(n) < scores**2


def test_calibration_finds_the_true_curve_and_its_tests_agree_with_theory():
    scores, right = drawn(40_000)
    curve = fit(scores, right)
    for s in (0.2, 0.5, 0.8, 0.95):
        assert abs(curve(s) - s**2) < 0.05
    assert (np.diff(curve.chances) >= 0).all() and curve(-np.inf) == 0 and 0 < curve(2.0) < 1
    # P(right answer scores above a wrong one) with densities 3 s^2 and 1.5 (1 - s^2): the integral is 7/8
    assert abs(auroc(scores, right) - 7 / 8) < 0.01
    assert ece(scores**2, right) < 0.01 and abs(ece(scores, right) - 1 / 6) < 0.01
    coverage, risk = risk_coverage(scores, right)
    half = np.searchsorted(coverage, 0.5)  # scores above 1/2: wrong with 1 - mean of s^2 there, 1 - 7/12
    assert abs(risk[half] - 5 / 12) < 0.02 and abs(risk[-1] - 2 / 3) < 0.01


def test_auroc_is_the_share_of_pairs_and_ties_count_half():
    rng = np.random.default_rng(1)
    scores, right = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[right] for b in scores[~right]]
    assert auroc(scores, right) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(scores, np.ones(60, bool)))


def test_trust_of_a_small_set_by_hand(monkeypatch):
    """The first half fits, the second is judged: one wrong answer scores above one right answer."""
    monkeypatch.setattr(
        "innerloop.solve.calibrate.np.random.default_rng", lambda seed: SimpleNamespace(permutation=np.arange)
    )
    scores = np.r_[np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 2), np.arange(9.0), 8.0]
    right = np.r_[np.zeros(4), np.ones(6), np.zeros(5), [1, 1, 0, 1, 1]].astype(bool)
    t = calibrate_rule("vote", scores, right)
    assert t.curve.scores == (1.0, 2.0, 3.0, 5.0) and t.curve.chances == pytest.approx((1 / 6, 1 / 6, 7 / 8, 7 / 8))
    assert t.curve(2.5) == pytest.approx((1 / 6 + 7 / 8) / 2) and t.curve(float("nan")) == 0 == t.curve(-np.inf)
    assert (t.puzzles, t.accuracy) == (10, 0.4) and t.auroc == pytest.approx(22 / 24)
    assert t.coverage == pytest.approx(np.arange(2, 11) / 10), "the two surest score alike"
    assert t.risk == pytest.approx([0, 1 / 3, 1 / 4, 1 / 5, 2 / 6, 3 / 7, 4 / 8, 5 / 9, 6 / 10])
    assert t.aurc == pytest.approx(sum(t.risk) / 10) and t.risk_at(0.3) == t.risk[1] == t.risk_at(0.25)
    sure = np.array([t.curve(s) for s in scores[10:]])
    assert t.ece == pytest.approx(np.abs(sure - right[10:]).mean()), "ten bins of one"


def test_the_best_rule_is_the_most_often_right_and_among_equals_the_surest(built):
    grid = Solver(built.loop, tasks.get("grid", alphabet=".1234", shape=(4, 4), blank="."))
    base = calibrate_rule("vote", *drawn(40))
    grid.calibrations = {
        "vote": replace(base, rule="vote", accuracy=0.5, aurc=0.1),
        "q": replace(base, rule="q", accuracy=0.9, aurc=0.3, ece=0.0),
        "residual": replace(base, rule="residual", accuracy=0.9, aurc=0.2),
    }
    assert grid.best_rule() == "residual"
    label = np.array([2, 0, 3], np.uint8)
    answers = np.array([[2, 5, 3], [2, 0, 3], [2, 0, 2]], np.uint8)
    assert grid.is_right(answers[0], label, answers).tolist() == [True, True, False], (
        "a cell without a label is not judged"
    )


def test_equal_scores_are_answered_together():
    coverage, risk = risk_coverage(np.array([1.0, 1.0, 0.0, 0.0]), np.array([True, False, False, True]))
    assert coverage.tolist() == [0.5, 1.0] and risk.tolist() == [0.5, 0.5]


def test_isotonic_regression_is_that_of_scipy():
    scipy = pytest.importorskip("scipy.optimize")
    scores, right = drawn(300)
    curve = fit(scores, right)
    best = scipy.isotonic_regression(right[np.argsort(scores)].astype(float)).x
    blocks = np.split(best, np.flatnonzero(np.diff(best)) + 1)
    smoothed = np.concatenate([np.full(len(b), (b.sum() + 1) / (len(b) + 2)) for b in blocks])
    ours = np.array([curve(s) for s in np.sort(scores)])
    assert np.abs(ours - np.maximum.accumulate(smoothed)).max() < 1e-9


def test_trust_is_measured_on_other_puzzles_than_it_is_fitted_to_and_keeps():
    scores, right = drawn()
    found = calibrate_rule("vote", scores, right)
    assert found.puzzles == 2000 and abs(found.auroc - 7 / 8) < 0.03 and found.ece < 0.05
    order = np.random.default_rng(0).permutation(len(right))
    judged = np.zeros(len(right), bool)
    judged[order[2000:]] = True
    assert calibrate_rule("vote", scores, right & judged).accuracy == right[judged].mean(), "the second half is judged"
    assert calibrate_rule("vote", scores, right & judged).curve(1.0) < 0.01, "and the first is fitted"
    assert from_json(to_json({"vote": found})) == {"vote": found}
    assert isinstance(found.curve, IsotonicCurve)
    with pytest.raises(InputError, match="too few"):
        calibrate_rule("vote", scores[:19], right[:19])
    with pytest.raises(InputError, match=r"calibration\.json: vote lacks .puzzles."):
        from_json({"vote": {"rule": "vote"}})


@pytest.mark.slow
def test_a_calibrated_solver_says_how_sure_it_is_and_auto_takes_the_best_rule(built, test_set):
    grid = tasks.get("grid", alphabet=built.task.charset, shape=(4, 4), blank=".")
    solver = Solver(built.loop, grid, rows=64)
    with_noise = {"depth": 2, "width": 5, "noise": (0.5, 0.5)}
    found = solver.calibrate(test_set, **with_noise)
    assert {"vote", "q", "residual", "certainty"} <= set(found)
    answers = solver.solve(test_set, **with_noise)
    assert {s.pick for s in answers} == {max(found.values(), key=lambda t: (t.accuracy, -t.ece)).rule}
    assert all(0 < s.confidence < 1 and s.known == (s.confidence >= 0.5) for s in answers)
    picky = solver.solve(test_set, **with_noise, min_confidence=0.999)
    assert not any(s.known for s in picky)


def test_from_depth_256_on_the_state_is_float32(built, test_set):
    config = replace(built.run.config, dtype="bfloat16")
    loop = type(built.loop)(config).eval()
    loop.load_state_dict(built.loop.state_dict())
    few = test_set.take(slice(3))
    exact = Solver(built.loop, built.task).solve(few, 256, pick="q")
    deep = Solver(loop, built.task).solve(few, 256, pick="q")
    assert all(np.array_equal(a.answer, b.answer) for a, b in zip(exact, deep, strict=True))


def test_a_loop_that_runs_as_a_compiled_region_is_not_compiled_again():
    opened = pretrained.open("demo-sudoku4")
    questions = opened.task.make(6, 1).inputs
    plain, asked = (Solver(opened.loop, opened.task, rows=4, compile=c) for c in (False, True))
    if opened.loop.net.fused:  # there is a C++ compiler
        assert (
            type(asked.engine(SolveOptions(noise=(0.1, 0.0))).loop.loop) is Noisy
            and asked.engine(SolveOptions()).sizes is None
        )
    with fused.plain():
        assert isinstance(compile_step(opened.loop), CompiledLoop)
    found = [[(s.text, s.steps) for s in solver.solve(questions, 8)] for solver in (plain, asked)]
    assert found[0] == found[1]
