"""Budgets: no limit is ever passed, whatever nests, runs at once or fails."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from innerloop.budget import Budget, OverBudget, affordable, limited, reserve
from innerloop.errors import InputError
from innerloop.ledger import charge, counting, in_this_context


def test_a_call_is_reserved_then_settled_and_the_rest_is_free_again():
    with counting() as outside, limited(tokens=100, calls=3) as budget:
        assert affordable("tokens_out", 512, tokens_in=40, calls=1) == 60
        with reserve(tokens_in=40, tokens_out=60, calls=1) as held:
            assert budget.left("tokens") == 0 and affordable("tokens_out", 5, tokens_in=1) == -1
            with pytest.raises(OverBudget, match="may cost 1 tokens, and 0 are left of 100"), reserve(tokens_out=1):
                pass
            held.settle(tokens_in=40, tokens_out=7, calls=1)
        assert budget.left("tokens") == 53 and budget.left("calls") == 2 and not budget.is_spent
        charge(tokens_out=53)
        assert budget.is_spent
    assert (outside.tokens_in, outside.tokens_out, outside.calls) == (40, 60, 1)


def test_what_failed_before_it_was_settled_is_charged_in_full():
    with limited(tokens_out=10) as budget:
        with pytest.raises(RuntimeError), reserve(tokens_out=10, calls=1):
            raise RuntimeError("the line is dead")
        assert (budget.tokens_out, budget.calls, budget.left("tokens_out")) == (10, 1, 0)
        assert not any(budget.reserved.values())


def test_an_outer_budget_holds_for_an_inner_one_and_a_refusal_sets_nothing_aside():
    with limited(tokens=50) as outer, limited(tokens=1000) as inner:
        assert affordable("tokens_out", 100) == 50
        with pytest.raises(OverBudget), reserve(tokens_out=51):
            pass
        assert not any(outer.reserved.values()) and not any(inner.reserved.values())
        with limited(tokens=20), pytest.raises(OverBudget, match="20 are left of 20"), reserve(tokens_out=21):
            pass


def test_a_call_that_cost_more_than_it_might_is_charged_and_said():
    with limited(tokens_out=10) as budget:
        with pytest.raises(InputError, match="cost 9 tokens_out, where 5 were reserved"), reserve(tokens_out=5) as held:
            held.settle(tokens_out=9)
        assert budget.tokens_out == 9 and not any(budget.reserved.values())
        with reserve(tokens_out=1) as held:
            held.settle(tokens_out=1, tokens_cached=5)  # which has no limit


@pytest.mark.parametrize("seed", range(5))
def test_parallel_nested_and_failing_calls_never_pass_a_limit(seed):
    """The sum of what the calls really cost is what every ledger says, or less where a call failed."""
    real = []

    def call(number):
        rng = random.Random(1000 * seed + number)
        asked = rng.randint(1, 40)
        try:
            with limited(tokens=rng.choice([30, 1000])):
                tokens_in = rng.randint(0, 5)
                most = int(affordable("tokens_out", asked, tokens_in=tokens_in, calls=1))
                if most < 1:
                    return
                with reserve(tokens_in=tokens_in, tokens_out=most, calls=1) as held:
                    used = rng.randint(0, most)
                    real.append(tokens_in + used)
                    if rng.random() < 0.2:
                        raise RuntimeError
                    held.settle(tokens_in=tokens_in, tokens_out=used, calls=1)
        except (RuntimeError, OverBudget):  # another call may take the tokens between the two lines
            pass

    with limited(tokens=700) as budget, ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(in_this_context(call), i) for i in range(100)]:
            future.result()
        assert sum(real) <= budget.tokens_in + budget.tokens_out <= 700
        assert not any(budget.reserved.values()) and len(real) > 20


def test_bad_budgets_say_what_is_wrong():
    for limits, said in (({}, "no limit"), ({"token": 3}, "no token: limit one of tokens"), ({"calls": 0}, "nothing")):
        with pytest.raises(InputError, match=said):
            Budget(limits)
    with pytest.raises(InputError, match="a ledger has no token"), reserve(token=1):
        pass
