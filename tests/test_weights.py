"""The contract of a loop over every system of the folder, on every block: a new file here is tested without a test."""

from dataclasses import replace

import pytest

from innerloop import core, weights
from innerloop.parts.mixers import BLOCKS
from innerloop.parts.size import Size
from innerloop.study.contract import CHECKS, Subject, sample_question
from innerloop.tasks import get

UNITS = tuple(tuple(int(c) for c in unit) for unit in get("sudoku", size=4).units)
TINY = Size(
    vocab=6, seq=16, rows=4, width=32, heads=2, layers=1, expansion=2.0, multiple=32, puzzle_width=32, units=UNITS
)


def subject(system, mix="attention", prefix=1):
    make, config = weights.get(system)
    positions = "rope" if mix == "attention" else "none"
    size = replace(TINY, mix=mix, positions=positions, prefix=prefix, puzzle_width=32 if prefix else 0)
    size = replace(size, pool="first" if prefix else "mean")
    return Subject(f"{system}-{mix}", lambda: make(config(size=size, dtype="float32")), sample_question())


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("system", weights.names())
def test_contract(system, check):
    CHECKS[check](subject(system))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("mix", [m for m in BLOCKS if m != "attention"])
def test_contract_of_every_block(mix, check):
    CHECKS[check](subject("trm", mix, prefix=0))
    CHECKS[check](subject("trm", mix, prefix=1))


@pytest.mark.parametrize("system", weights.names())
def test_without_the_freeze_batch_mates_matter(system, monkeypatch):
    """Proof that the check can fail: let stopped examples run on, and it does."""
    CHECKS["batch independence"](subject(system))
    asked = subject(system)
    if hasattr(asked.make().init(asked.question), "done"):
        pytest.skip(f"{system} freezes its stopped examples itself: tests/systems holds that check")
    keep = core.select
    monkeypatch.setattr(core, "select", lambda mask, a, b: keep(False, a, b))
    with pytest.raises(AssertionError, match="alone and in a batch"):
        CHECKS["batch independence"](subject(system))


def test_the_folder_holds_the_systems_it_should():
    assert {"hrm", "trm", "ut"} <= set(weights.names())


@pytest.mark.parametrize(("system", "parameters"), [("trm", 6_828_034), ("hrm", 27_275_266)])
def test_official_sizes_have_the_official_number_of_parameters(system, parameters):
    """As counted from the official checkpoints' tensors; puzzle tables are not parameters there."""
    make, config = weights.get(system)
    loop = make(config())
    assert sum(p.numel() for n, p in loop.named_parameters() if "puzzles" not in n) == parameters


def test_the_mixer_variant_too():
    make, config = weights.get("trm")
    loop = make(config(size=Size(prefix=16, mix="tokens", positions="none")))
    assert sum(p.numel() for n, p in loop.named_parameters() if "puzzles" not in n) == 5_028_866
