"""The driver, over tensors, over text and over a program's names: one contract, three homes."""

from collections import namedtuple
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from innerloop import grad, halt
from innerloop.core import Answer, Question, follow, refill, repeat, select, think
from innerloop.errors import InputError
from innerloop.width import Noisy, best, vote, wide

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
    follow(schedule, {n: note(n) for n in set(schedule)}, 0, grad.last_cycle)
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
    assert grad.named("full") is grad.full and grad.named("last_cycle") is grad.last_cycle
    loop = Pull()
    think(loop, torch.ones(1, 1), 4, grad=grad.named("last(2)"))
    assert loop.taped == 2
    with pytest.raises(InputError, match="last_cycles"):
        grad.named("last_cycles")


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

    t = think(OverHalf(), torch.tensor([[0.4], [0.6], [0.3]]), 9, halt=halt.settled)  # passing 1/2 at step 2, 1, 3
    assert t.steps.tolist() == [1, 2, 1]


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


def test_width_below_one_is_refused():
    with pytest.raises(InputError, match="width"):
        wide(Pull(), torch.zeros(1, 1), 0, vote, 1)


# -- text and programs ------------------------------------------------------------------------------------------------


def test_a_loop_over_text_shares_the_driver_and_its_budget_is_forced():
    lm = iter(["2+2 is 4", "Answer: 4", "check: 4", "Answer: 4"])
    t = think(Chain(lambda s: next(lm), least=3), "2+2?", 9, halt=halt.finished)
    assert t.answer == "4" and t.steps == 4 and "Wait" in t.state.said


def test_text_is_voted_on():
    lines = iter(["Answer: 7", "Answer: 3", "Answer: 7"])
    t = wide(Chain(lambda s: next(lines)), "?", 3, vote, depth=2, halt=halt.finished)
    assert t.answer == "7"


def test_a_loop_in_the_harness_thinks_inside_a_step():
    def lm(prompt):
        small = len(prompt) < 4
        return "answer = str(len(prompt))" if small else "answer = ask(prompt[:3]) + '+' + ask(prompt[3:6])"

    assert think(Recursive(lm, levels=1), "abcdef", 4, halt=halt.finished).answer == "3+3"


def test_tensors_keep_their_type():
    s = think(Pull(), torch.ones(1, 1), 1).state
    assert isinstance(s, tuple) and isinstance(s[0], Tensor)
