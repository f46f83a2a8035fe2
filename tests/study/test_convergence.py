"""Residuals show hierarchical convergence in nets that never learned; fates and blanks are counted right."""

from dataclasses import replace

import pytest
import torch

from innerloop import weights
from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.interval import cluster_bootstrap, proportion
from innerloop.parts.config import NetConfig
from innerloop.study.contract import sample_question
from innerloop.study.convergence import (
    OUTCOMES,
    AnswerTrace,
    answer_trace,
    blank_out,
    classify_outcomes,
    cycle_ratios,
    is_correct,
    near_solved,
    period,
    residual_cycles,
    residuals,
    stages,
)

SIZE = NetConfig(vocab=6, seq=16, rows=4, hidden_size=128, heads=2, layers=1, multiple_of=32, puzzle_emb_size=128)


def made(name, seed, **fields):
    make, config = weights.get(name)
    torch.manual_seed(seed)
    return make(config(net=SIZE, dtype="float32", **fields)).eval()


# -- hierarchical convergence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_untrained_hrm_settles_within_each_cycle_and_is_stirred_between(seed):
    """T = 8 low updates, N = 4 cycles: the low residual falls manifold in each, and leaps when the plan moves."""
    curves = residuals(made("hrm", seed, cycles=4, low_cycles=8), sample_question(), 1)
    assert curves.names == (["l"] * 8 + ["h"]) * 4 and curves.steps == [1] * 36
    runs = residual_cycles(curves, "l")
    assert [len(r) for r in runs] == [8] * 4
    for run in runs:
        assert bool((run[1:] < run[:-1]).float().mean() > 0.95), "within a cycle the residual falls"
    low = cycle_ratios(runs)
    assert bool((low.falls.mean(1) > 6).all()), low.falls.mean(1)
    assert bool((low.spikes.mean(1) > 6).all()), low.spikes.mean(1)
    high = curves.slots["h"]
    assert bool(high.isnan().any(1).eq(torch.tensor([n == "l" for n in curves.names])).all())
    heights = [float(r[0].mean()) for r in runs]
    assert heights == sorted(heights, reverse=True), "each spike is lower than the one before"


class Plain:
    """The low net alone, fed its own output and the question: no plan above it."""

    def __init__(self, hrm):
        self.hrm = hrm

    def init(self, x):
        return self.hrm.init(x).l

    def step(self, s, x):
        return self.hrm.low(s, self.hrm.embed(x, torch.float32))

    def read(self, s):
        return self.hrm.heads(s)


@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_plain_loop_falls_without_spikes(seed):
    """As many updates of the same net, without a slow slot: the residual falls once, and stays low.

    Not strictly so at every update of every net: a random one may wobble by a tenth near its end.
    """
    curves = residuals(Plain(made("hrm", seed)), sample_question(), 32)
    (run,) = residual_cycles(curves, "state")
    assert len(run) == 32 and len(cycle_ratios([run]).spikes) == 0
    mean = run.mean(1)
    assert float(mean[-1] / mean[0]) < 0.1
    assert float((mean[1:] / mean[:-1]).max()) < 1.2, "no leap anywhere"


def test_residuals_are_those_of_the_definition():
    loop, x = made("trm", 0, cycles=1, thoughts=2), sample_question()
    curves = residuals(loop, x, 1)
    s = loop.init(x)
    with torch.no_grad():
        e = loop.embed(x, torch.float32)
        z1 = loop.net(s.z, s.y + e)
    want = (z1 - s.z).flatten(1).norm(dim=1) / z1.flatten(1).norm(dim=1)
    assert torch.allclose(curves.slots["z"][0], want, rtol=1e-5)
    with pytest.raises(InputError, match="have y, z"):
        residual_cycles(curves, "w")


# -- where thoughts end -----------------------------------------------------------------------------------------------


def test_periods():
    def window(tokens):
        t = torch.tensor(tokens)
        return t[:, None] == t[None, :]

    for tokens, want in (("aaaaaaaa", 1), ("abababab", 2), ("abcabcab", 3), ("abcdabcd", 4), ("abcdefgh", 0)):
        same = window([ord(c) for c in tokens])[:, :, None]
        assert int(period(same)) == want, tokens
    assert int(period(window([1, 2, 3, 4, 5, 6, 7, 7])[:, :, None])) == 0, "one repetition is no fixed point"


class Walk:
    """A loop that reads its answers of every step off a table: row b follows its own path, from a phase of its own."""

    def __init__(self, paths, vocab=8):
        self.paths, self.vocab = torch.tensor(paths), vocab  # (B, T)

    def init(self, x):
        return (torch.zeros(len(x.inputs), 1), self.hot(torch.zeros(len(x.inputs), dtype=torch.long)))

    def hot(self, tokens):
        return torch.nn.functional.one_hot(tokens, self.vocab).float()

    def step(self, s, x):
        t = int(s[0][0])
        return (s[0] + 1, self.hot(self.paths[:, min(t, self.paths.shape[1] - 1)]))

    def read(self, s):
        return Answer(s[1][:, None].expand(-1, 3, -1))


def test_fates_and_stages():
    paths = [
        [1, 1, 5, 5, 5, 5, 5, 5, 5, 5],  # solved at step 3
        [1, 2, 3, 3, 3, 3, 3, 3, 3, 3],  # trapped
        [5, 2, 6, 2, 6, 2, 6, 2, 6, 2],  # right once, then cycling
        [1, 2, 3, 4, 1, 3, 6, 2, 7, 4],  # unsettled
    ]
    loop, x = Walk(paths), Question(torch.ones(4, 3, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    path = answer_trace(loop, x, 10)
    assert path.answers.shape == (10, 4, 3) and len(path.states) == 8
    ends = classify_outcomes(
        AnswerTrace(path.answers, path.residual, [s[1] for s in path.states]), torch.full((4, 3), 5)
    )
    assert [OUTCOMES[k] for k in ends.kind] == ["solved", "trapped", "cycling", "unsettled"]
    assert ends.answer_period.tolist() == [1, 1, 2, 0] == ends.state_period.tolist()
    assert ends.first_right.tolist() == [3, 0, 1, 0] and ends.lost.tolist() == [False, False, True, False]
    assert {k: s.value for k, s in ends.counts().items()} == dict.fromkeys(OUTCOMES, 0.25)
    shown = stages(path, torch.full((4, 3), 5), ends)
    assert shown["right"].tolist() == [0, 0] + [0.25] * 8
    assert shown["right for now"].tolist() == [0.25] + [0.0] * 9
    assert shown["stuck"].tolist() == [0, 0] + [0.25] * 8, "the last answer of a cycle is no trap"
    assert torch.allclose(torch.stack(list(shown.values())).sum(0), torch.ones(10))


def test_where_nothing_is_asked_an_answer_may_change():
    """The first two cells are fixed and right; the third, which is given, changes at every step."""
    path = [[5, 5, step] for step in range(10)]
    answers = torch.tensor(path)[:, None]
    trace = AnswerTrace(answers, torch.zeros(10, 1), [torch.randn(1, 3, 8) for _ in range(8)])
    asked, all_ = torch.tensor([[5, 5, 0]]), torch.tensor([[5, 5, 5]])
    assert OUTCOMES[int(classify_outcomes(trace, asked).kind)] == "solved"
    assert OUTCOMES[int(classify_outcomes(trace, all_).kind)] == "unsettled"
    assert stages(trace, asked, classify_outcomes(trace, asked))["right"].tolist() == [1] * 10


def test_a_thought_that_is_too_short_for_a_period_is_refused():
    loop, x = Walk([[1, 2]]), Question(torch.ones(1, 3, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match="think deeper"):
        classify_outcomes(answer_trace(loop, x, 4), torch.ones(1, 3))


def test_places_without_a_label_are_not_judged():
    answers = torch.tensor([[1, 2, 3], [1, 9, 3]])
    assert is_correct(answers, torch.tensor([[1, 2, 0], [1, 2, -100]])).tolist() == [True, False]


# -- solved boards ----------------------------------------------------------------------------------------------------


def test_emptied_boards_are_nested_and_keep_padding():
    boards = torch.randint(2, 6, (50, 16), generator=torch.Generator().manual_seed(1))
    boards[:, 12:] = 0
    one, four = (blank_out(boards, 1, k, seed=3) for k in (1, 4))
    assert torch.equal(blank_out(boards, 1, 0), boards)
    assert (one == 1).sum(1).tolist() == [1] * 50 and (four == 1).sum(1).tolist() == [4] * 50
    assert bool(((one == 1) <= (four == 1)).all()) and bool((four[:, 12:] == 0).all())
    with pytest.raises(InputError, match="13 blanks"):
        blank_out(boards, 1, 13)
    asked = torch.arange(16) % 3 == 0
    some = blank_out(boards, 1, 4, seed=3, places=asked.expand(50, -1))
    assert bool(((some == 1).nonzero()[:, 1] % 3 == 0).all()) and (some == 1).sum(1).tolist() == [4] * 50
    with pytest.raises(InputError, match="5 blanks"):
        blank_out(boards, 1, 5, places=asked.expand(50, -1))


class Copier:
    """Keeps what is given, fills blanks with 2, and from step 3 on spoils its first place where that holds 3."""

    def init(self, x):
        return (x.inputs, torch.zeros(len(x.inputs)))

    def step(self, s, x):
        return (s[0], s[1] + 1.0)

    def read(self, s):
        tokens = torch.where(s[0] == 1, 2, s[0])
        spoiled = (s[1] >= 3) & (tokens[:, 0] == 3)
        tokens = torch.cat((torch.where(spoiled, 4, tokens[:, 0])[:, None], tokens[:, 1:]), 1)
        return Answer(torch.nn.functional.one_hot(tokens, 6).float())


def test_a_solved_board_stays_solved_or_it_is_noticed():
    boards = torch.full((40, 9), 2)
    boards[:10, 0] = 3
    x = Question(boards, torch.zeros(40, dtype=torch.long))
    rows = near_solved(Copier(), x, boards, 1, (0, 3), depth=5, batch=16)
    assert [r.blanks for r in rows] == [0, 3]
    assert rows[0].solved.value == 0.75 == rows[0].always.value and rows[0].kept.value == 0.75
    assert rows[0].solved.n == 40 and rows[0].solved.low < 0.75 < rows[0].solved.high
    early = near_solved(Copier(), x, boards, 1, (0,), depth=2)[0]
    assert early.solved.value == early.always.value == 1.0 and early.solved.high == 1.0


# -- intervals --------------------------------------------------------------------------------------------------------


def test_wilson():
    """Against the published example of 81 of 263 (Newcombe 1998, method 3: 0.2553 to 0.3662)."""
    found = proportion([True] * 81 + [False] * 182)
    assert (round(found.low, 4), round(found.high, 4), found.n) == (0.2553, 0.3662, 263)
    assert proportion([False] * 10).low == 0 and proportion([True] * 10).high == 1 and proportion([]).n == 0


def test_grouped_rows_are_less_sure_than_they_look():
    torch.manual_seed(0)
    by_group = (torch.rand(40) < 0.5).numpy()
    hits, groups = by_group.repeat(50), torch.arange(40).numpy().repeat(50)
    wide, narrow = cluster_bootstrap(hits, groups), proportion(hits)
    assert wide.value == narrow.value
    assert (wide.high - wide.low) > 4 * (narrow.high - narrow.low)


def test_bf16_states_are_measured_too():
    make, config = weights.get("trm")
    torch.manual_seed(0)
    loop = make(config(net=replace(SIZE, hidden_size=32, puzzle_emb_size=32), cycles=1, thoughts=2))
    curves = residuals(loop, sample_question(), 2)
    assert curves.slots["z"].dtype == torch.float32 and bool(curves.slots["z"][0].isfinite().all())
