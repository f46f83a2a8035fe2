"""Sudoku: from a 4x4 that a laptop learns in seconds to Sudoku-Extreme."""

from __future__ import annotations

from dataclasses import replace

from innerloop.learn.plan import Plan
from innerloop.learn.supervise import HaltingConfig
from innerloop.parts.config import NetConfig
from innerloop.runs.run import Data, Run
from innerloop.weights import hrm, orbit, trm

# One net of ten thousand weights, called six times a step with all calls on the tape; sixteen channels a symbol.
TIED = orbit.Config()
# Halting is off and step limits are spread, so that deep steps are trained too: accuracy then holds at any test depth.
SPREAD = HaltingConfig(max_steps=16, learned=False, explore=0.0, spread=True)
QUICK = Plan(
    steps=1800,
    batch=32,
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.1,
    warmup=50,
    clip=1.0,
    ema=0.995,
    loss="softmax",
    halting=SPREAD,
    check_every=300,
    save_every=300,
)
# What the ladder found for tied nets: small batches at a high rate, half of the puzzles short (docs/recipe.md).
MIXED = replace(SPREAD, short_fraction=0.5)
FAST = replace(QUICK, batch=16, lr=5e-3, halting=MIXED)
LONG = replace(FAST, check_every=1500, save_every=500, ema=0.998)
# The same for nets without ties: one block over given units, TRM's recursion.
SMALL = NetConfig(
    hidden_size=96,
    heads=4,
    layers=1,
    expansion=3.0,
    multiple_of=32,
    block="units",
    positions="none",
    prefix=0,
    puzzle_emb_size=0,
    pool="mean",
)


def sized(width: int) -> orbit.Config:
    """Orbit with so many channels a place."""
    return replace(TIED, net=replace(TIED.net, hidden_size=width))


def sudoku4() -> Run:
    """4x4 in seconds."""
    plan = replace(
        FAST, steps=300, warmup=20, ema=0.98, halting=replace(MIXED, max_steps=4), depths=(4,), check_every=100
    )
    data = Data("sudoku", {"size": 4, "givens": (4, 8)}, count=240, holdout=500)
    return Run("sudoku4", "orbit", sized(64), data, plan, about="4x4 Sudoku, in seconds")


def sudoku4_trm() -> Run:
    """The same by TRM with the units given to it, to compare."""
    plan = replace(
        QUICK, steps=300, warmup=20, ema=0.98, halting=replace(SPREAD, max_steps=4), depths=(4,), check_every=100
    )
    # float32 is five times as fast on a CPU.
    config = trm.Config(replace(SMALL, hidden_size=64), cycles=1, thoughts=3, dtype="float32")
    return replace(sudoku4(), name="sudoku4_trm", system="trm", config=config, plan=plan, about="4x4 Sudoku by TRM")


def sudoku6() -> Run:
    """6x6 in a quarter of a minute."""
    plan = replace(
        FAST, steps=800, warmup=30, ema=0.99, halting=replace(MIXED, max_steps=8), depths=(8,), check_every=200
    )
    data = Data("sudoku", {"size": 6, "givens": (8, 20)}, count=3000, holdout=500)
    return Run("sudoku6", "orbit", sized(96), data, plan, about="6x6 Sudoku, in a quarter of a minute")


def demo() -> Run:
    """9x9 with 24 to 45 givens in under a minute: what `make demo` trains."""
    data = Data("sudoku", {"size": 9, "givens": (24, 45)}, count=3000, holdout=500)
    return Run("demo", "orbit", TIED, data, FAST, about="9x9 Sudoku with 24-45 givens, in under a minute on a laptop")


def sudoku9() -> Run:
    """9x9 with 22 to 45 givens, easy and hard mixed: the model that comes with the library."""
    data = Data("sudoku", {"size": 9, "givens": (22, 45)}, count=20_000, holdout=500)
    plan = replace(LONG, steps=4000, batch=64, warmup=100, check_every=500, save_every=250)
    return Run("sudoku9", "orbit", TIED, data, plan, about="9x9 Sudoku with 22-45 givens, in five minutes")


def sudoku_easy() -> Run:
    """Kaggle's million: solved by singles."""
    plan = replace(FAST, check_every=600)
    return Run("sudoku_easy", "orbit", TIED, Data("sudoku", {}), plan, about="9x9 from a file of easy puzzles")


def sudoku_hard() -> Run:
    """Puzzles that need more than singles, from a file. The longer the training, the larger its batches may be."""
    plan = replace(LONG, steps=9000, batch=64, warmup=100, check_every=1000, save_every=250)
    return Run("sudoku_hard", "orbit", TIED, Data("sudoku", {}), plan, about="9x9 from a file of hard puzzles")


OFFICIAL = Plan(steps=65_104, floor=1.0)
HUB = "sapientinc/sudoku-extreme"
SUDOKU_EXTREME = Data("sudoku", {}, train=HUB, test=f"{HUB}/test", count=1000, holdout=1000)


def orbit_extreme() -> Run:
    """Orbit on the same 1,000 puzzles, twice as wide: for one data-centre GPU."""
    plan = replace(LONG, steps=20_000, batch=256, warmup=500, ema=0.999, check_every=1000)
    return Run("orbit_extreme", "orbit", sized(288), SUDOKU_EXTREME, plan, about="Orbit on Sudoku-Extreme, one GPU")


def trm_extreme() -> Run:
    """TRM-MLP as published for Sudoku-Extreme-1k; its paper reports 87.4 % (arXiv 2510.04871)."""
    size = NetConfig(prefix=16, block="tokens", positions="none")
    return Run(
        "trm_extreme", "trm", trm.Config(size), SUDOKU_EXTREME, OFFICIAL, about="official TRM-MLP, Sudoku-Extreme"
    )


def trm_extreme_attention() -> Run:
    """TRM with attention on the same data; its paper reports 74.7 % (arXiv 2510.04871)."""
    size = NetConfig(prefix=16)
    about = "official TRM with attention, Sudoku-Extreme"
    return Run("trm_extreme_attention", "trm", trm.Config(size), SUDOKU_EXTREME, OFFICIAL, about=about)


def trm_extreme_fast() -> Run:
    """The same TRM-MLP with Muon and a short horizon: for twenty minutes of one data-centre GPU."""
    plan = replace(OFFICIAL, steps=6000, batch=384, optimizer="muon", lr=1e-3, weight_decay=0.1, warmup=200, floor=0.0)
    return replace(trm_extreme(), name="trm_extreme_fast", plan=plan, about="TRM-MLP with Muon, twenty GPU minutes")


def hrm_extreme() -> Run:
    """HRM as published for the same data; its paper reports 55 % (arXiv 2506.21734)."""
    plan = replace(OFFICIAL, steps=26_041, ema=0.0)
    return Run("hrm_extreme", "hrm", hrm.Config(), SUDOKU_EXTREME, plan, about="official HRM, Sudoku-Extreme")
