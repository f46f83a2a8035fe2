"""Recipes for small language models that reason in text: chain arithmetic, answered directly, in a chain, after dots.

innerloop train chain                              # a plain transformer
innerloop train chain --system huginn              # a loop in the weights, run at every token
innerloop ask runs/chain "7+5*3" --think chain
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from innerloop import weights
from innerloop.errors import InputError
from innerloop.learn.plan import Plan
from innerloop.learn.unroll import Unroll
from innerloop.parts.config import NetConfig
from innerloop.runs.run import Data, Run
from innerloop.text import did_you_mean

NET = NetConfig(
    hidden_size=64, heads=4, layers=3, expansion=4.0, multiple_of=16, norm="magic", mask="causal", prefix=0,
    puzzle_emb_size=0,
)  # fmt: skip
PLAN = Plan(
    steps=2000, batch=32, optimizer="adamw", lr=3e-3, weight_decay=0.05, warmup=100, floor=0.05, clip=1.0, ema=0.995,
    loss="softmax", unroll=Unroll(depth=1), augment=False, compile="off", check_every=250, save_every=250, depths=(1,),
)  # fmt: skip
# The core that runs at every token: system, what of the net and the system differs, and its unroll.
CORES: dict[str, tuple[str, dict[str, Any], dict[str, Any], Unroll]] = {
    "plain": ("looped", {}, {}, Unroll(depth=1)),
    "looped": ("looped", {"layers": 1}, {}, Unroll(depth=3)),
    "ut": ("ut", {"layers": 1, "norm": "post"}, {}, Unroll(depth=3)),
    "huginn": (
        "huginn", {"layers": 1, "norm": "sandwich"}, {"prelude": 1, "coda": 1, "recurrence": 4}, Unroll(4, "poisson"),
    ),
    "hrm_text": ("hrm_text", {"layers": 1, "mask": "prefix"}, {"cycles": 1, "low_cycles": 2}, Unroll(depth=1)),
    "mor": ("mor", {"layers": 1, "norm": "pre"}, {}, Unroll(depth=3)),
}  # fmt: skip


def chain(system: str = "plain") -> Run:
    """A small language model of chain arithmetic, plain or with a loop in the weights as its core."""
    if system not in CORES:
        raise InputError(f'the recipe chain has no "{system}": {did_you_mean(system, CORES)}')
    name, net, config, unroll = CORES[system]
    kind = weights.get(name)[1]
    known = {f.name for f in fields(kind)}
    given = {"net": replace(NET, **net), "dtype": "float32", **config}
    plan = replace(PLAN, unroll=unroll, depths=(unroll.depth,))
    return Run(
        "chain" if system == "plain" else f"chain-{system}",
        name,
        kind(**{k: v for k, v in given.items() if k in known}),
        Data("chain", {"steps": (1, 6), "modulus": 10, "places": 64}, count=60_000, holdout=600),
        plan,
        about=f"a small language model of chain arithmetic ({system})",
    )
