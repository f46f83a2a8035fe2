"""The driver, over tensors, over text and over a program's names: one contract, three homes."""

from collections import namedtuple
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from innerloop import grad, halt, noise
from innerloop.core import Answer, Question, Thought, refill, repeat, run_schedule, select, think
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.weights import trm
from innerloop.width import Noisy, best, first_to_halt, lowest_residual, think_wide, vote

# -- loops to drive ---------------------------------------------------------------------------------------------------


class Pull:
    """z <- w z + x: converges to x / (1 - w), each row at its own pace."""

    def __init__(self, w=0.5):
        self.w = torch.tensor(w, requires_grad=True)
        self.calls, self.taped = 0, 0

    def init(self, x):
        return (torch.zeros_like(x),)

    def step(self, s, x):
        self.calls += 1
        self.taped += torch.is_grad_enabled()
        return (self.w * s[0] + x,)

    def read(self, s):
        return Answer(s[0], s[0].flatten(1)[:, 0])


class Text(NamedTuple):
    said: str
    steps: int
    done: bool


class Chain:
    """Chain of thought with budget forcing: one line a step; an answer before `least` steps gets `Wait` instead."""

    def __init__(self, lm, least=0):
        self.lm, self.least = lm, least

    def init(self, x):
        return Text(x, 0, False)

    def step(self, s, x):
        line, n = self.lm(s.said), s.steps + 1
        stopping = line.startswith("Answer:")
        if stopping and n < self.least:
            line, stopping = "Wait", False
        return Text(s.said + "\n" + line, n, stopping)

    def read(self, s):
        return s.said.rsplit("Answer:", 1)[-1].strip()


Names = namedtuple("Names", "log names done")


class Recursive:
    """A recursive language model: the prompt is a variable, the model writes code, and the code may think again."""

    def __init__(self, lm, levels):
        self.lm, self.levels = lm, levels

    def ask(self, part):
        return think(Recursive(self.lm, self.levels - 1), part, 4, halt=halt.finished).answer

    def init(self, x):
        return Names((), {"prompt": x, "ask": self.ask if self.levels else self.lm}, False)

    def step(self, s, x):
        names = dict(s.names)
        exec(self.lm(names["prompt"]), names)
        return Names((*s.log, "ran"), names, "answer" in names)

    def read(self, s):
        return s.names.get("answer", "")


# -- thinking ---------------------------------------------------------------------------------------------------------


def test_depth_is_the_number_of_steps_and_the_state_is_the_last():
    loop, x = Pull(), torch.tensor([[1.0], [2.0]])
    t = think(loop, x, 3)
    assert loop.calls == 3 and t.steps == 3
    assert torch.allclose(t.state[0], x * 1.75)
    assert torch.equal(t.answer.logits, t.state[0])


def test_thinking_on_from_a_state_is_thinking_longer():
    loop, x = Pull(), torch.randn(4, 3)
    half = think(loop, x, 3)
    assert torch.equal(think(loop, x, 4, state=half.state).state[0], think(loop, x, 7).state[0])


@pytest.mark.parametrize("depth", [0, -3])
def test_a_depth_below_one_is_refused(depth):
    with pytest.raises(InputError, match="depth"):
        think(Pull(), torch.zeros(1, 1), depth)


def test_each_example_stops_by_itself_and_stays_as_it_was():
    loop, x = Pull(), torch.tensor([[1.0], [100.0], [0.01]])
    by_size = lambda loop, old, new, steps: new[0].flatten(1)[:, 0] > 1.6  # noqa: E731
    t = think(loop, x, 6, halt=by_size)
    assert t.steps.tolist() == [3, 1, 6]
    alone = [think(loop, row[None], 6, halt=by_size) for row in x]
    assert torch.equal(t.state[0], torch.cat([a.state[0] for a in alone]))


def test_nothing_runs_once_all_have_stopped():
    loop = Pull()
    think(loop, torch.ones(2, 1), 50, halt=lambda loop, old, new, steps: torch.ones(2, dtype=torch.bool))
    assert loop.calls == 1


def test_an_example_that_has_stopped_stays_so_whatever_the_rule_says_later():
    said = iter(([False, True], [True, False], [False, False]))
    t = think(Pull(), torch.ones(2, 1), 3, halt=lambda *_: torch.tensor(next(said)))
    assert t.steps.tolist() == [2, 1] and t.state[0].flatten().tolist() == [1.5, 1.0]


def test_a_stopped_row_never_sees_what_its_batch_mates_become():
    """Also where the loop would send it to NaN: selection, not multiplication by a mask."""

    class Explode(Pull):
        def step(self, s, x):
            return (torch.where(s[0] > 0, torch.nan, s[0] + x),)

    t = think(Explode(), torch.ones(2, 1), 3, halt=lambda *_: torch.tensor([True, False]))
    assert t.state[0][0].item() == 1.0 and t.state[0][1].isnan()


def test_record_sees_every_step():
    t = think(Pull(), torch.ones(1, 1), 4, record=lambda loop, s: s[0].item())
    assert t.trace == [1.0, 1.5, 1.75, 1.875]


# -- gradient rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "taped"), [(grad.full, 5), (grad.last(1), 1), (grad.last(3), 3), (grad.last(0), 0)])
def test_a_rule_tapes_the_steps_it_declares(rule, taped):
    loop = Pull()
    think(loop, torch.ones(2, 1), 5, grad=rule)
    assert (loop.calls, loop.taped) == (5, taped)


def test_last_k_equals_a_detach_by_hand():
    loop, x = Pull(), torch.randn(3, 2)
    think(loop, x, 6, grad=grad.last(2)).answer.logits.sum().backward()
    ours, loop.w.grad = loop.w.grad.clone(), None
    s = (think(loop, x, 4).state[0].detach(),)
    for _ in range(2):
        s = loop.step(s, x)
    s[0].sum().backward()
    assert torch.equal(ours, loop.w.grad)


@pytest.mark.parametrize(
    ("schedule", "taped"),
    [
        (("z",) * 6 + ("y",), "zzzzzzy"),
        ((("z",) * 6 + ("y",)) * 3, "zzzzzzy"),
        ((("l", "l", "h")) * 2, "llh"),
        (("f",) * 4, "f"),
    ],
)
def test_last_cycle_is_what_follows_the_previous_final_update(schedule, taped):
    seen = []
    note = lambda name: lambda s: (seen.append(name) if torch.is_grad_enabled() else None, s)[1]  # noqa: E731
    run_schedule(schedule, {n: note(n) for n in set(schedule)}, 0, grad.last_cycle)
    assert "".join(seen) == taped


def test_a_rule_may_replace_the_tape():
    """Implicit differentiation as a rule: for z = w z + x the gradient dz/dw is z / (1 - w), not one step's z."""

    def implicit(schedule, step, s):
        with torch.no_grad():
            (z,) = grad.full(schedule, step, s)
        z = z.requires_grad_()
        (again,) = step(schedule[-1], (z,))
        (slope,) = torch.autograd.grad(again.sum(), z, retain_graph=True)
        return (again.detach() + (again - again.detach()) / (1 - slope),)

    def slope(rule):
        loop = Pull()
        repeat(lambda s: loop.step(s, torch.ones(1, 1)), (torch.zeros(1, 1),), 60, rule)[0].sum().backward()
        return loop.w.grad.item()

    assert slope(implicit) == pytest.approx(4.0, abs=1e-4) == slope(grad.full)
    assert slope(grad.last(1)) == pytest.approx(2.0, abs=1e-4)


def test_named_rules_and_a_wrong_name():
    assert grad.rule_named("full") is grad.full and grad.rule_named("last_cycle") is grad.last_cycle
    loop = Pull()
    think(loop, torch.ones(1, 1), 4, grad=grad.rule_named("last(2)"))
    assert loop.taped == 2
    with pytest.raises(InputError, match="last_cycles"):
        grad.rule_named("last_cycles")


# -- halting ----------------------------------------------------------------------------------------------------------


def test_converged_stops_each_example_at_its_own_residual():
    class Two(Pull):
        def step(self, s, x):
            return (torch.stack([0.1 * s[0][0] + x[0], 0.9 * s[0][1] + x[1]]),)

    t = think(Two(), torch.ones(2, 3), 200, halt=halt.converged(1e-3))
    assert 3 <= t.steps[0] <= 5 and 30 <= t.steps[1] <= 80
    assert torch.allclose(t.state[0][1], torch.tensor(10.0), rtol=2e-2)


def test_confident_waits_for_belief_and_for_the_least_number_of_steps():
    x = torch.tensor([[1.0], [0.3]])
    believing = lambda p, n: think(Pull(), x, 9, halt=halt.confident(p, n)).steps.tolist()  # noqa: E731
    assert believing(0.8, 1) == [2, 9]  # q = 1, 1.5: over logit(0.8) = 1.386 at step 2; 0.6 never is
    assert believing(0.8, 5) == [5, 9]
    with pytest.raises(InputError, match="probability"):
        halt.confident(1.5)


def test_with_a_continue_head_the_margin_decides():
    class Both(Pull):
        def read(self, s):
            q = s[0].flatten(1)[:, 0]
            return Answer(s[0], q, 1 - q)  # halting leads by 2 q - 1

    t = think(Both(), torch.tensor([[0.4], [0.3], [0.2]]), 9, halt=halt.confident(0.5))  # q passes 1/2 at 2, 3, never
    assert t.steps.tolist() == [2, 3, 9]


def test_certain_stops_when_no_place_is_in_doubt():
    logits = torch.tensor([[[4.0, 0.0], [4.0, 0.0]], [[4.0, 0.0], [0.5, 0.0]]])  # probabilities 0.98 and 0.62

    class Fixed:
        def read(self, s):
            return Answer(logits)

    assert [halt.certain(p)(Fixed(), None, None, 1).tolist() for p in (0.6, 0.8, 0.99)] == [
        [True, True], [True, False], [False, False],
    ]  # fmt: skip
    with pytest.raises(InputError, match="probability"):
        halt.certain(1.0)


def test_settled_stops_when_the_answer_no_longer_changes():
    class OverHalf(Pull):
        def read(self, s):
            return Answer(torch.stack((s[0], torch.full_like(s[0], 0.5)), -1))

    t = think(
        OverHalf(), torch.tensor([[0.4], [0.6], [0.3]]), 9, halt=halt.answer_unchanged
    )  # passing 1/2 at step 2, 1, 3
    assert t.steps.tolist() == [1, 2, 1]


def test_the_residual_is_the_move_as_a_share_of_the_new_state():
    old, new = ((torch.tensor([[3.0, 4.0]]), torch.tensor([7])), (torch.tensor([[3.0, 7.0]]), torch.tensor([9])))
    assert halt.residual(old, new).tolist() == pytest.approx([3 / 58**0.5])
    two = tuple((a, b, a * 2) for a, b in (old, new))  # over all floating slots together
    assert halt.residual(*two).tolist() == pytest.approx([((9 + 36) / (58 * 5)) ** 0.5])


def test_the_exits_compare_distributions_and_know_the_first_step():
    """Direct calls: (kl, entropy, stable) of an old and a new answer, at step 1 and at step 2."""

    class Plain:
        def read(self, s):
            return Answer(s[0])

    old, new = (torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]]]),), (torch.tensor([[[0.0, 1.5]], [[2.0, 0.0]]]),)
    p, q = old[0].softmax(-1), new[0].softmax(-1)
    apart = (p * (p / q).log()).sum(-1)[0, 0].item()  # KL(old || new), not the other way round
    back = (q * (q / p).log()).sum(-1)[0, 0].item()
    assert abs(apart - back) > 1e-4
    for tol, stops in ((apart * 1.001, True), (apart * 0.999, False)):
        assert halt.kl(tol)(Plain(), old, new, 2).tolist() == [stops, True]
    even = (torch.full((1, 1, 2), 0.5) * (0.5 / q[:1]).log()).sum().item()  # the first step is held to uniform
    assert [halt.kl(even * k)(Plain(), (new[0][:1],), (new[0][:1],), 1).item() for k in (1.001, 0.999)] == [True, False]
    moved = abs((p * p.log()).sum(-1)[0, 0] - (q * q.log()).sum(-1)[0, 0]).item()
    for tol, stops in ((moved * 1.001, True), (moved * 0.999, False)):
        assert halt.entropy(tol)(Plain(), old, new, 2).tolist() == [stops, True]
    assert halt.entropy(9.0)(Plain(), old, new, 1).tolist() == [False, False]
    rule = halt.unchanged_for(2)
    assert [rule(Plain(), old, new, t).tolist() for t in (1, 2, 3)] == [[False] * 2, [False] * 2, [True] * 2]


def test_a_key_is_of_every_token_its_place_and_the_puzzle():
    base = asks([[1, 2, 3]], [0])
    others = [asks([[1, 3, 2]], [0]), asks([[1, 2, 4]], [0]), asks([[1, 2, 3]], [1]), asks([[0, 2, 4]], [0])]
    keys = [noise.key_of(x).item() for x in (base, *others)]
    assert len(set(keys)) == 5 and noise.key_of(base).item() == keys[0]
    Keyed = namedtuple("Keyed", "key inner")
    state = Keyed(torch.tensor([5, 5]), Keyed(torch.tensor([7, 7]), ()))
    salted = noise.salted(state, torch.tensor([0, 3]))
    assert salted.key[0] == 5 and salted.inner.key[0] == 7, "0 changes nothing"
    assert salted.key[1] != 5 and salted.inner.key[1] != 7


def test_start_noise_comes_once_and_path_noise_after_every_step():
    class Still(Pull):
        def init(self, x):
            return (torch.zeros(len(x.inputs), 4000),)

        def step(self, s, x):
            return s

    x = asks([[1, 2]], [0])
    spread = lambda start, path, depth: think(Noisy(Still(), start, path), x, depth).state.inner[0].std().item()  # noqa: E731
    assert spread(2.0, 0.0, 1) == pytest.approx(2.0, rel=0.1) == spread(2.0, 0.0, 4)
    assert spread(0.0, 0.5, 4) == pytest.approx(1.0, rel=0.1), "four steps of independent noise"


def test_every_slot_gets_noise_of_its_own():
    class Two(Pull):
        def init(self, x):
            return torch.zeros(len(x.inputs), 4000), torch.zeros(len(x.inputs), 4000)

        def step(self, s, x):
            return s

    a, b = think(Noisy(Two(), 1.0), asks([[1, 2]], [0]), 1).state.inner
    assert abs(torch.corrcoef(torch.cat((a, b)))[0, 1]) < 0.1


def test_the_first_of_several_trajectories_is_the_one_that_runs_alone():
    class Asked(Pull):
        def init(self, x):
            return (x.inputs.float(),)

        def step(self, s, x):
            return (self.w * s[0],)

    loop, x, every = Noisy(Asked(), 1.0), asks([[1, 2]], [0]), []
    think_wide(loop, x, 3, lambda thoughts: every.extend(thoughts) or thoughts[0], 2)
    first, second, third = (t.answer.logits for t in every)
    assert torch.equal(first, think(loop, x, 2).answer.logits)
    assert not torch.equal(first, second) and not torch.equal(second, third)


def test_picks_pass_over_what_is_no_number_and_ties_go_to_the_earliest():
    def thought(i, q, steps, moved):
        state = namedtuple("State", "residual")(torch.tensor(moved)[:, None])
        logits = torch.nn.functional.one_hot(torch.tensor([[i], [0]]), 4).float()
        return Thought(Answer(logits, torch.tensor(q)), state, torch.tensor(steps), [])

    nan = float("nan")
    many = [thought(0, [nan, 1.0], [4, 3], [0.5, nan]), thought(1, [1.0, 1.0], [2, 3], [0.1, 0.4]),
            thought(2, [2.0, 0.0], [2, 3], [nan, 0.3])]  # fmt: skip
    assert pick_rows(best(), many) == [2, 0] and pick_rows(lowest_residual, many) == [1, 2]
    assert pick_rows(first_to_halt, many) == [2, 0], "the fewest steps, then the head, then the earliest"


def pick_rows(pick, many):
    """Which of `many` thoughts each row was taken from, by marking their logits."""
    marked = [
        t._replace(answer=t.answer._replace(logits=torch.full_like(t.answer.logits, float(i))))
        for i, t in enumerate(many)
    ]
    return [int(v) for v in pick(marked).answer.logits[:, 0, 0]]


def test_sure_needs_belief_and_an_answer_that_stayed():
    class Told:
        def read(self, s):
            return Answer(torch.nn.functional.one_hot(s[0], 3).float(), s[1])

    state = lambda places, q: (torch.tensor(places), torch.tensor(q))  # noqa: E731
    old = state([[1, 1]] * 4, [9.0] * 4)
    new = state([[1, 1], [1, 1], [1, 2], [1, 2]], [9.0, -9.0, 9.0, -9.0])
    assert halt.confident_and_unchanged(0.5)(Told(), old, new, 2).tolist() == [True, False, False, False]


def test_sure_needs_as_much_belief_as_was_asked_for():
    class Told:
        def read(self, s):
            return Answer(torch.nn.functional.one_hot(s[0], 3).float(), s[1])

    same = (torch.tensor([[1], [1]]), torch.tensor([1.0, 3.0]))  # probabilities 0.73 and 0.95
    stops = [halt.confident_and_unchanged(p)(Told(), same, same, 2).tolist() for p in (0.5, 0.9, 0.99)]
    assert stops == [[True, True], [False, True], [False, False]]


def test_steps_are_counted_row_by_row_also_where_all_stop_at_once():
    at_once = lambda loop, old, new, steps: torch.ones(3, dtype=torch.bool)  # noqa: E731
    assert think(Pull(), torch.zeros(3, 1), 4, halt=at_once).steps.tolist() == [1, 1, 1]


def test_a_vote_counts_whole_answers_not_cells():
    """Two say the same; three others agree with each other in all but one cell, and with nobody wholly."""
    grids = [[0, 0, 0, 0]] * 2 + [[1, 1, 1, 2], [1, 1, 2, 1], [1, 2, 1, 1]]
    many = [
        Thought(Answer(torch.nn.functional.one_hot(torch.tensor([g]), 3).float()), (torch.zeros(1),), 1, [])
        for g in grids
    ]
    assert vote(many[::-1]).answer.logits.argmax(-1).tolist() == [[0, 0, 0, 0]]


def test_settled_needs_every_place_and_a_thought_of_one_step_may_settle():
    class Digits(Pull):
        def read(self, s):
            return Answer(torch.nn.functional.one_hot(s[0].round().long(), 9).float())

    rule = lambda a, b: halt.answer_unchanged(Digits(), (torch.tensor(a),), (torch.tensor(b),), 3).tolist()  # noqa: E731
    before = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    assert rule(before, [[1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [0.0, 2.0, 3.0], [4.0, 5.0, 6.0]]) == [
        True,
        False,
        False,
        False,
    ]


def test_sampled_draws_what_no_step_draws():
    """The halting draw is uniform, and has nothing to do with the numbers that a step draws from the same key."""
    Keyed = namedtuple("Keyed", "key")

    class Even:
        def read(self, s):
            return Answer(torch.zeros(len(s.key), 1, 2), torch.zeros(len(s.key)))

    keys = noise.scramble(torch.arange(4000))
    stops = halt.sampled(Even(), None, Keyed(keys), 1)
    assert abs(stops.float().mean() - 0.5) < 0.04
    for drawn in (keys, noise.scramble(keys + 1), noise.scramble(keys)):
        for places in (1, 2):
            first = noise.uniform(drawn, places)[:, places - 1]
            assert abs((stops == (first < 0.5)).float().mean() - 0.5) < 0.04, "the halt follows a draw of the loop"


# -- carrying on ------------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")


def test_refill_replaces_finished_rows_and_keeps_the_others_bit_for_bit_off_the_tape():
    state = Pair(torch.randn(4, 2, 3, requires_grad=True) * 1, (torch.arange(4), torch.rand(4)))
    fresh = Pair(torch.full((4, 2, 3), torch.nan), (torch.full((4,), -1), torch.zeros(4)))
    done = torch.tensor([False, True, False, True])
    got = refill(state, done, fresh)
    assert isinstance(got, Pair) and not got.a.requires_grad
    assert torch.equal(got.a[[0, 2]], state.a[[0, 2]]) and got.a[[1, 3]].isnan().all()
    assert got.b[0].tolist() == [0, -1, 2, -1]


def test_select_takes_whole_states_for_a_bool():
    assert select(True, "a", "b") == "a" and select(False, (1,), (2,)) == (2,)


# -- width ------------------------------------------------------------------------------------------------------------


def test_noise_is_seeded_and_shakes_floats_alone():
    class Asked(Pull):
        def init(self, x):
            return x.inputs.float(), x.puzzle

        def step(self, s, x):
            return self.w * s[0], s[1]

    x = Question(torch.ones(2, 2, dtype=torch.long), torch.tensor([0, 7]))
    run = lambda seed: think(Noisy(Asked(), 1.0, 0.1, seed=seed), x, 3).state.inner  # noqa: E731
    assert torch.equal(run(1)[0], run(1)[0]) and not torch.equal(run(1)[0], run(2)[0])
    assert run(1)[1].tolist() == [0, 7]


def test_vote_and_best_choose_example_by_example():
    def thought(grids, q):
        logits = torch.nn.functional.one_hot(torch.tensor(grids), 3).float()
        return think(Fixed(Answer(logits, torch.tensor(q))), torch.zeros(2, 1), 1)

    class Fixed(Pull):
        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def read(self, s):
            return self.answer

    many = [
        thought([[0, 1], [2, 2]], [0.0, 9.0]),
        thought([[1, 1], [0, 0]], [5.0, 1.0]),
        thought([[1, 1], [0, 0]], [1.0, 1.0]),
    ]
    assert vote(many).answer.logits.argmax(-1).tolist() == [[1, 1], [0, 0]]
    assert best()(many).answer.logits.argmax(-1).tolist() == [[1, 1], [2, 2]]
    assert best()(many).answer.q_halt.tolist() == [5.0, 9.0]


def asks(inputs, puzzle):
    return Question(torch.as_tensor(inputs), torch.as_tensor(puzzle))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (asks([[1, 6, 1, 1]], [0]), "from 1 to 6: this model has 0 to 5"),
        (asks([[1, -1, 1, 1]], [0]), "from -1 to 1"),
        (asks([[1.0] * 4], [0]), "whole numbers"),
        (asks([[1] * 4], [0.0]), "whole numbers"),
        (asks([[1] * 4] * 3, [0]), "one identifier a row"),
        (asks([[1] * 4], 0), "one identifier a row"),
        (asks([1] * 4, [0] * 4), "one identifier a row"),
        (asks([[1] * 5], [0]), "made for 4"),
    ],
)
def test_a_question_that_does_not_fit_its_loop_is_one_sentence(x, said):
    loop = trm.TRM(
        trm.Config(NetConfig(vocab=6, seq=4, rows=1, hidden_size=8, heads=2, layers=1, prefix=0, puzzle_emb_size=0))
    )
    for noisy in (loop, Noisy(loop, 0.1)):
        with pytest.raises(InputError, match=said):
            think(noisy, x, 1)
        with pytest.raises(InputError, match=said):
            think_wide(noisy, x, 1, vote, 1)


def test_depth_and_width_are_bounded_before_anything_is_made():
    class Never(Pull):
        def init(self, x):
            raise AssertionError("a state was made")

    with pytest.raises(InputError, match="depth is 1000000000000"):
        think(Never(), torch.zeros(1, 1), 10**12)
    with pytest.raises(InputError, match="width is 1000000000"):
        think_wide(Never(), torch.zeros(1, 1), 10**9, vote, 1)


def test_width_below_one_is_refused():
    with pytest.raises(InputError, match="width"):
        think_wide(Pull(), torch.zeros(1, 1), 0, vote, 1)


# -- text and programs ------------------------------------------------------------------------------------------------


def test_a_loop_over_text_shares_the_driver_and_its_budget_is_forced():
    lm = iter(["2+2 is 4", "Answer: 4", "check: 4", "Answer: 4"])
    t = think(Chain(lambda s: next(lm), least=3), "2+2?", 9, halt=halt.finished)
    assert t.answer == "4" and t.steps == 4 and "Wait" in t.state.said


def test_text_is_voted_on():
    lines = iter(["Answer: 7", "Answer: 3", "Answer: 7"])
    t = think_wide(Chain(lambda s: next(lines)), "?", 3, vote, depth=2, halt=halt.finished)
    assert t.answer == "7"


def test_a_loop_in_the_harness_thinks_inside_a_step():
    def lm(prompt):
        small = len(prompt) < 4
        return "answer = str(len(prompt))" if small else "answer = ask(prompt[:3]) + '+' + ask(prompt[3:6])"

    assert think(Recursive(lm, levels=1), "abcdef", 4, halt=halt.finished).answer == "3+3"


def test_tensors_keep_their_type():
    s = think(Pull(), torch.ones(1, 1), 1).state
    assert isinstance(s, tuple) and isinstance(s[0], Tensor)
