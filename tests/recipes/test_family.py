"""The family: every pair of system and task is built and learns, or is refused with its reason; budgets match."""

from dataclasses import replace

import pytest

from innerloop import weights
from innerloop.errors import InputError
from innerloop.learn.train import train
from innerloop.recipes import family
from innerloop.runs.fit import build
from innerloop.runs.run import from_json, to_json

PAIRS = [(s, t) for s in weights.names() for t in family.FAMILY_TASKS]
GOOD = [(s, t) for s, t in PAIRS if not family.refusal_reason(s, t)]


def test_pairs_without_sense_are_refused_with_the_reason():
    refused = set(PAIRS) - set(GOOD)
    assert {t for s, t in refused if s == "imagine"} == set(family.FAMILY_TASKS) - {"walk"}
    assert {s for s, t in refused if t == "sums"} >= {"trm", "hrm", "gram", "urm"}
    assert {s for s, t in GOOD if t == "sums"} >= {"huginn", "hrm_text", "mor", "ut", "looped"}
    with pytest.raises(InputError, match="reads every place at once"):
        family.family("trm", "sums")
    with pytest.raises(InputError, match="use one of"):
        family.family("trm", "chess")
    with pytest.raises(InputError, match="did you mean"):
        family.family("gran", "sudoku6")


def test_most_pairs_make_sense():
    assert len(GOOD) > 0.8 * len(PAIRS) - len(family.FAMILY_TASKS)


@pytest.mark.slow
@pytest.mark.parametrize("system", weights.names())
def test_parameters_and_training_flops_match_the_reference(system):
    task = "walk" if system == "imagine" else "sudoku6"
    run, other = family.family(system, task), family.family(family.REFERENCE, task)
    assert abs(family.parameter_count(run) / family.parameter_count(other) - 1) < 0.12
    spent = [r.plan.steps * family.flops_per_step(r.system, task) for r in (run, other)]
    assert abs(spent[0] / spent[1] - 1) < 0.02
    assert to_json(from_json(to_json(run))) == to_json(run)


def cover():
    """Pairs in which every system and every task stands.

    What a system and a block do together is held by the contract (tests/weights/test_contract.py).
    """
    tasks_of = {system: [t for s, t in GOOD if s == system] for system in weights.names()}
    return [(system, mine[i % len(mine)]) for i, (system, mine) in enumerate(tasks_of.items())]


def test_the_cover_leaves_out_no_system_and_no_task():
    assert {s for s, _ in cover()} == set(weights.names()) and {t for _, t in cover()} == set(family.FAMILY_TASKS)


@pytest.mark.slow
@pytest.mark.parametrize(("system", "task"), cover())
def test_pairs_learn_with_the_one_trainer(system, task, tmp_path):
    """A few optimizer steps, a validation, a checkpoint: the plumbing of a pair."""
    run = family.unmatched_run(system, task, 16)
    run = replace(run, data=replace(run.data, count=16, holdout=4))
    run = replace(run, plan=replace(run.plan, batch=4, **family.schedule_fields(3)))
    built = build(run)
    how = {"validation": built.validation, "seed": 0, "live": False}
    result = train(built.loop, built.task, built.train, built.run.plan, tmp_path, **how)
    assert result.steps == 3 and not result.stopped and result.best
