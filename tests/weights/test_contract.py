"""The contract of a loop over every system of the folder, on every block: a new file here is tested without a test."""

from contextlib import nullcontext
from dataclasses import fields, replace

import pytest

from innerloop import core, recipes, weights
from innerloop.parts import fused
from innerloop.parts.config import NetConfig
from innerloop.parts.mixers import BLOCKS
from innerloop.recipes import family
from innerloop.rules.symmetry import dihedral
from innerloop.runs.fit import as_tuples, fit_config
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.tasks import get
from innerloop.weights import orbit

UNITS = tuple(tuple(int(c) for c in unit) for unit in get("sudoku", size=4).units)
TINY = NetConfig(
    vocab=6,
    seq=16,
    rows=4,
    hidden_size=32,
    heads=2,
    layers=1,
    expansion=2.0,
    multiple_of=32,
    puzzle_emb_size=32,
    units=UNITS,
)


SHORT = {"cycles": 2, "thoughts": 2, "low_cycles": 2, "recurrence": 2, "iterations": 4, "loops": 3}
# Each system's own recursion, as far as it goes: enough that its schedule has an inner and an outer round.


def shortened(config):
    """The fields of a system's Config that make its own recursion short."""
    return {f.name: SHORT[f.name] for f in fields(config) if f.name in SHORT}


def subject(system, mix="attention", prefix=1, **short):
    make, config = weights.get(system)
    positions = "rope" if mix == "attention" else "none"
    size = replace(TINY, block=mix, positions=positions, prefix=prefix, puzzle_emb_size=32 if prefix else 0)
    size = replace(size, pool="first" if prefix else "mean")
    config = config(net=size, dtype="float32", **shortened(config) | short)
    return Subject(f"{system}-{mix}", lambda: make(config), sample_question())


LONG = ("finite at 4x depth", "batch independence")  # dozens of steps: of most systems, for the whole suite alone
EVERY = [
    pytest.param(s, c, id=f"{s}-{c}", marks=[pytest.mark.slow] * (s not in ("trm", "ut") and c in LONG))
    for c in CHECKS
    for s in weights.names()
]


@pytest.mark.parametrize(("system", "check"), EVERY)
def test_contract(system, check):
    CHECKS[check](subject(system))


@pytest.mark.parametrize("check", [c for c in CHECKS if c not in LONG])
def test_contract_of_views_side_by_side(check):
    turned = as_tuples(dihedral(TINY.rows, TINY.seq // TINY.rows))
    size = replace(
        TINY, block="orbit", positions="none", prefix=0, puzzle_emb_size=0, pool="mean", local=True, along=True,
        views=turned, view_tokens=(tuple(range(TINY.vocab)),) * len(turned),
    )  # fmt: skip
    config = orbit.Config(net=size, rounds=2)
    CHECKS[check](Subject("orbit in views", lambda: orbit.Orbit(config), sample_question()))


OF_BLOCKS = ("shapes", "gradients", "save and load", "batch independence")  # checks of what a block can break
PLACED = ("shapes", "gradients", "batch independence")  # checks of what a prefix changes: which place is which token


@pytest.mark.slow
@pytest.mark.parametrize("check", OF_BLOCKS)
@pytest.mark.parametrize("mix", [m for m in BLOCKS if m != "attention"])
def test_contract_of_every_block(mix, check):
    """With a call of each kind a step: the recursion is that of `test_contract`, whatever the block."""
    CHECKS[check](subject("trm", mix, prefix=1, cycles=1, thoughts=1))
    if check in PLACED:
        CHECKS[check](subject("trm", mix, prefix=0, cycles=1, thoughts=1))


def trained():
    """(system, block, whether rules speak of neighbours) -> a Run of a recipe that trains it.

    All systems with attention are checked above.
    """
    runs = [make() for name, make in recipes.all_recipes().items() if name != "family"]
    for world in family.FAMILY_TASKS:
        runs += [
            family.unmatched_run(s, world, 32) for s in family.SYSTEM_SETTINGS if not family.refusal_reason(s, world)
        ]
    pairs = {(r.system, r.config.net.block, near(r)): r for r in runs if r.config.net.block != "attention"}
    return dict(sorted(pairs.items()))


def near(run):
    return "near" if run.config.net.block == "orbit" and run.data.task == "maze" else ""


def small(run):
    """The Run's system with its own block, norm and rules, on a puzzle of a few cells, with few channels and calls."""
    task = get("maze", size=5) if near(run) else get("sudoku", size=4)
    width, expansion = (64, 3.0) if run.config.net.block == "orbit" and not near(run) else (32, 4.0)
    size = replace(
        run.config.net, hidden_size=width, expansion=expansion, heads=2, prefix=0, puzzle_emb_size=0, pool="mean"
    )
    size = replace(size, mask="none", positions="none", multiple_of=8)
    config = replace(run.config, net=fit_config(size, task, 1), dtype="float32", **shortened(run.config))
    question = sample_question(vocab=task.vocab, seq=task.shape[0] * task.shape[1])
    return Subject(run.name, lambda: weights.get(run.system)[0](config), question)


TRAINED = trained()
JOINT = ("gradients", "batch independence", "taped calls")
KERNELS = [(key, kernel) for key in TRAINED for kernel in ("fused", "plain") if kernel == "fused" or key[1] == "orbit"]


@pytest.mark.parametrize(
    ("key", "kernel"),
    [
        pytest.param(
            key,
            kernel,
            id="-".join(filter(None, (*key, kernel))),
            marks=[pytest.mark.slow] * ("-" in TRAINED[key].name or kernel == "plain"),
        )
        for key, kernel in KERNELS
    ],
)
def test_contract_of_every_block_that_a_recipe_trains_a_system_with(key, kernel):
    """Those of the recipe `family` are many: of them, only what a system and its block can break together."""
    subject, many = small(TRAINED[key]), "-" in TRAINED[key].name
    with fused.plain() if kernel == "plain" else nullcontext():
        for name in JOINT if many else CHECKS:
            CHECKS[name](subject)


@pytest.mark.slow
@pytest.mark.parametrize("system", weights.names())
def test_without_the_freeze_batch_mates_matter(system, monkeypatch):
    """Proof that the check can fail: let stopped examples run on, and it does."""
    asked = subject(system)
    if hasattr(asked.make().init(asked.question), "done"):
        pytest.skip(f"{system} freezes its stopped examples itself: tests/weights holds that check")
    keep = core.select
    monkeypatch.setattr(core, "select", lambda mask, a, b: keep(False, a, b))
    with pytest.raises(AssertionError, match="alone and in a batch"):
        CHECKS["batch independence"](subject(system))


def test_the_folder_holds_the_systems_it_should():
    assert {"hrm", "trm", "ut"} <= set(weights.names())


@pytest.mark.parametrize(
    ("system", "parameters"), [("trm", 6_828_034), pytest.param("hrm", 27_275_266, marks=pytest.mark.slow)]
)
def test_official_sizes_have_the_official_number_of_parameters(system, parameters):
    """As counted from the official checkpoints' tensors; puzzle tables are not parameters there."""
    make, config = weights.get(system)
    loop = make(config())
    assert sum(p.numel() for n, p in loop.named_parameters() if "puzzles" not in n) == parameters


def test_the_mixer_variant_too():
    make, config = weights.get("trm")
    loop = make(config(net=NetConfig(prefix=16, block="tokens", positions="none")))
    assert sum(p.numel() for n, p in loop.named_parameters() if "puzzles" not in n) == 5_028_866
