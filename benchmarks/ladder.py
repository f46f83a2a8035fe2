"""The ladder: what each factor of a recipe is worth per training FLOP, on rungs small enough for a CPU.

    python benchmarks/ladder.py --out results/ladder.jsonl                                 # every factor, rung and seed
    python benchmarks/ladder.py --factors orbit muon --rungs sudoku9 --seeds 0             # some of them
    python benchmarks/ladder.py --group trm --share 8 --rungs sudoku6                      # a group, for longer
    python benchmarks/ladder.py --halving --out runs/halving.jsonl                         # quick: the better half goes
    python benchmarks/ladder.py --factors orbit muon --rungs "sudoku9 large" --seeds 0   # ten times as long, and harder
    python benchmarks/ladder.py --table results/ladder.jsonl                               # what is known so far

Every (rung, factor, seed) is trained for the same training FLOPs, counted; a factor that makes a step dearer gets fewer
steps. A row holds the validated accuracy over FLOPs, the FLOPs to fixed accuracies, and the accuracy on unseen puzzles
at 1 to 8 times the trained depth, Orbit's and TRM's to 32. Rows are appended as they are done, and what is in --out is
not done again.
A factor is a name, a base recipe, and what it changes of it: add a line to FACTORS.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import variants
from ladder_table import Row, read

from innerloop import weights
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import evaluate
from innerloop.learn.plan import Plan
from innerloop.learn.precision import prepare
from innerloop.learn.supervise import HaltingConfig
from innerloop.learn.train import train
from innerloop.parts.config import NetConfig
from innerloop.runs.certificate import birth_certificate, commit
from innerloop.runs.cost import training_flops
from innerloop.runs.fit import build, fit_config, load_data, unseen_puzzles
from innerloop.runs.run import Data, Run, override
from innerloop.weights import orbit, trm

CHECKS = 10  # validations over a training, unless --checks says otherwise
LEVELS, TIMES = (0.5, 0.8, 0.9, 0.95, 0.98), (1, 2, 4, 8, 16, 32)  # solved; multiples of the trained depth
LEAST = 0.05  # solved: what solves fewer is judged no deeper than it was trained
FEW, LESS = 50, 8  # puzzles judged deeper than trained: of group "main" at all TIMES, else the first seed up to LESS


@dataclass(frozen=True)
class Rung:
    """A task of the ladder, and what a training may spend."""

    data: Data
    tera: float  # training FLOPs, in 10^12
    width: int  # of Orbit, over all nodes of a place
    depth: int  # trained at most, of Orbit
    plain: dict[str, Any]  # what TRM's authors use for such a task: block, positions, thoughts
    given: dict[str, Any]  # the block that is given the task's units or neighbours, and its width


def perfect(size: int) -> Data:
    return Data("maze", {"size": size, "kind": "perfect"}, count=6000, holdout=100)


def sudoku(size: int, givens: tuple[int, int], count: int = 4000) -> Data:
    return Data("sudoku", {"size": size, "givens": givens}, count=count, holdout=100)


MIXER, LOOK = {"block": "tokens", "positions": "none"}, {"block": "attention", "positions": "rope"}
UNITS, CONV = {"block": "units", "hidden_size": 96}, {"block": "conv", "hidden_size": 48}
RUNGS = {
    "sudoku6": Rung(sudoku(6, (8, 12)), 0.5, 96, 16, MIXER, UNITS),
    "sudoku9": Rung(sudoku(9, (23, 28)), 1.5, 144, 32, MIXER, UNITS),
    "maze11": Rung(perfect(11), 0.5, 32, 16, LOOK, CONV),
    "maze15": Rung(perfect(15), 1.0, 32, 16, LOOK, CONV),
    "sudoku9 large": Rung(sudoku(9, (22, 24), 8000), 15.0, 144, 32, MIXER, UNITS),  # what the others are to predict
}
SMALL = [rung for rung in RUNGS if "large" not in rung]


def ours(rung: Rung) -> Run:
    """Orbit, as the recipes train it."""
    config = orbit.Config(replace(orbit.SIZE, hidden_size=rung.width))
    calm = HaltingConfig(max_steps=rung.depth // 2, learned=False, explore=0.0, spread=True, short_fraction=0.5)
    plan = Plan(batch=16, optimizer="adamw", lr=5e-3, weight_decay=0.1, clip=1.0, ema=0.995, loss="softmax",
                halting=calm, compile="off")  # fmt: skip
    return Run("orbit", "orbit", config, rung.data, plan)


def official(rung: Rung) -> Run:
    """TRM as published, but for sizes: width 64 for 512, batch 32 for 768, and all horizons in proportion."""
    size = NetConfig(hidden_size=64, heads=4, layers=2, multiple_of=8, prefix=1, puzzle_emb_size=0, **rung.plain)
    config = trm.Config(size, thoughts=6 if size.block == "tokens" else 4, dtype="float32")
    return Run("trm", "trm", config, rung.data, Plan(batch=32, lr=1e-3, floor=1.0, compile="off"))


def given(rung: Rung) -> Run:
    """TRM's recursion with a block that is given the puzzle's units or neighbours, taught as Orbit is."""
    size = NetConfig(heads=4, layers=1, expansion=3.0, multiple_of=8, positions="none", prefix=0, puzzle_emb_size=0,
                     pool="mean", **rung.given)  # fmt: skip
    run = ours(rung)
    return replace(run, system="trm", config=trm.Config(size, 1, 5, "full", "float32"))


@dataclass(frozen=True)
class Factor:
    base: Callable[[Rung], Run]
    changes: tuple[str, ...] = ()
    system: str = ""  # another of innerloop.weights, with `config`
    config: dict[str, Any] = field(default_factory=dict)
    make: Callable[[Any], Any] | None = None  # a loop of its own from the configuration


def of(base: Callable[[Rung], Run], *changes: str) -> Factor:
    return Factor(base, changes)


def on_orbits(system: str, *changes: str, **config: Any) -> Factor:
    """Another published recursion on Orbit's block."""
    return Factor(ours, changes, system, {"dtype": "float32", **config})


# fmt: off
FACTORS: dict[str, dict[str, Factor]] = {
    "main": {
        "orbit": of(ours),
        "trm": of(official),
        "trm, given structure": of(given),
    },
    "trm": {  # known from the literature: the ladder must rank them as the literature does
        "trm, rate 1e-4": of(official, "plan.lr=1e-4"),
        "trm, rate 3e-4": of(official, "plan.lr=3e-4"),
        "trm, rate 3e-3": of(official, "plan.lr=3e-3"),
        "trm, rate 1e-2": of(official, "plan.lr=1e-2"),
        "trm, one-step gradient": of(official, "config.grad=last(1)"),
        "trm, no averaging": of(official, "plan.ema=0"),
        "trm, the other mixer": Factor(variants.swapped(official)),
        "trm, learned places": of(official, "config.net.block=attention", "config.net.positions=learned"),
        "trm, QK-norm": of(official, "config.net.block=qk-norm", "config.net.positions=rope"),
        "trm, cosine to zero": of(official, "plan.floor=0"),
        "trm, adamw": of(official, "plan.optimizer=adamw"),
        "trm, muon": of(official, "plan.optimizer=muon"),
        "trm, softmax": of(official, "plan.loss=softmax"),
        "trm, no augmentation": of(official, "plan.augment=false"),
        "trm, never halted": of(official, "plan.halting.learned=false"),
    },
    "step": {  # what a step is
        "trm's two states": on_orbits("trm", cycles=1, thoughts=5, grad="full"),
        "hrm's two nets": on_orbits("hrm", cycles=2, low_cycles=2),
        "eqr's noise and damping": on_orbits("eqr", cycles=1, thoughts=5, grad="full"),
        "four racing thoughts": on_orbits("sic", cycles=1, thoughts=5, grad="full"),
        "starts without noise": of(ours, "config.sigma=0.0"),
        "hears its answer": Factor(ours, make=variants.hears(0.0)),
        "hears its answer, with slips": Factor(ours, make=variants.hears(0.3)),
        "one-step gradient": of(ours, "config.grad=last(1)"),
        "half the gradient": of(ours, "config.grad=last(3)"),
        "3 rounds": of(ours, "config.rounds=3"),
        "12 rounds": of(ours, "config.rounds=12"),
    },
    "net": {  # what the net is
        "symbols untied": of(given),
        "kinds of lines alike": of(ours, "config.net.block=orbit, one kind"),
        "symbols of a place apart": of(ours, "config.net.block=orbit, no place"),
        "norm a node": of(ours, "config.net.block=orbit, norm a node"),
        "plain gate": of(ours, "config.net.block=orbit, plain gate"),
        "attention too": of(ours, "config.net.block=orbit, far"),
        "attention too, 2-D rotary": of(ours, "config.net.block=orbit, far in 2-D"),
        "attention alone": of(ours, "config.net.block=orbit, only far", "config.net.positions=learned"),
        "two blocks": of(ours, "config.net.layers=2", "config.rounds=3"),
        "narrower": Factor(variants.wider(ours, 0.5)),
        "wider": Factor(variants.wider(ours, 2)),
        "wider, lower rate": Factor(variants.wider(ours, 2), ("plan.lr=2.5e-3",)),
        "wider, quarter rate": Factor(variants.wider(ours, 2), ("plan.lr=1.25e-3",)),
        "narrow inner": of(ours, "config.net.expansion=1.5"),
        "wide inner": of(ours, "config.net.expansion=6"),
        "pre-norm": of(ours, "config.net.norm=sandwich"),
        "bfloat16": of(ours, "config.dtype=bfloat16"),
    },
    "plan": {  # how it is taught
        "no averaging": of(ours, "plan.ema=0"),
        "short memory": of(ours, "plan.ema=0.98"),
        "halting in training": of(ours, "plan.halting.learned=true", "plan.halting.explore=0.1",
                                  "plan.halting.spread=false"),
        "long lives": Factor(variants.max_steps_scaled(ours, 4)),
        "short lives": Factor(variants.max_steps_scaled(ours, 0.5)),
        "lives as they come": of(ours, "plan.halting.short_fraction=0"),
        "mostly brief": of(ours, "plan.halting.short_fraction=0.8"),
        "whole thoughts, growing": of(ours, "plan.unroll.depth=8", "plan.unroll.draw=ramp"),
        "batch 8": of(ours, "plan.batch=8"),
        "batch 32": of(ours, "plan.batch=32"),
        "batch 64": of(ours, "plan.batch=64"),
        "batch 64, twice the rate": of(ours, "plan.batch=64", "plan.lr=1e-2"),
        "half the rate": of(ours, "plan.lr=2.5e-3"),
        "twice the rate": of(ours, "plan.lr=1e-2"),
        "muon": of(ours, "plan.optimizer=muon", "plan.lr=1e-3"),
        "muon, half the rate": of(ours, "plan.optimizer=muon", "plan.lr=5e-4"),
        "muon, twice the rate": of(ours, "plan.optimizer=muon", "plan.lr=2e-3"),
        "muon, batch 32": of(ours, "plan.optimizer=muon", "plan.lr=1e-3", "plan.batch=32"),
        "muon, plain gate": of(ours, "plan.optimizer=muon", "plan.lr=1e-3", "config.net.block=orbit, plain gate"),
        "adam-atan2": of(ours, "plan.optimizer=adam_atan2"),
        "stablemax": of(ours, "plan.loss=stablemax"),
        "smoothed labels": of(ours, "plan.loss=smooth"),
        "no weight decay": of(ours, "plan.weight_decay=0"),
        "weight decay 1": of(ours, "plan.weight_decay=1.0"),
        "constant rate": of(ours, "plan.floor=1.0"),
        "no augmentation": of(ours, "plan.augment=false"),
    },
}
# fmt: on
ALL = {name: factor for group in FACTORS.values() for name, factor in group.items()}


def drawn(rung: str, name: str, seed: int) -> Run:
    """The Run of a factor on a rung, its horizon not yet set."""
    r, factor = RUNGS[rung], ALL[name]
    run = replace(factor.base(r), name=f"{rung}-{name}", seed=seed)
    if factor.system:
        run = replace(run, system=factor.system, config=weights.get(factor.system)[1](run.config.net, **factor.config))
    return override(run, factor.changes)


def recipe(rung: str, name: str, seed: int, share: float = 1.0, checks: int = CHECKS, *changes: str) -> tuple[Run, int]:
    """The Run of one cell of the table, and its FLOPs an example and optimizer step."""
    r, factor, run = RUNGS[rung], ALL[name], override(drawn(rung, name, seed), changes)
    fitted = build(replace(run, data=replace(run.data, count=8, holdout=4))).run  # with the sizes of its task
    flops = training_flops(fitted, factor.make and factor.make(fitted.config))
    steps = max(checks, round(share * r.tera * 1e12 / (flops * run.plan.batch)))
    ema = min(run.plan.ema, 1 - 10 / steps) if run.plan.ema else 0.0
    horizon = {"steps": steps, "warmup": max(1, steps // 20), "ema": ema, "save_every": 10**9}
    horizon |= {"check_every": -(-steps // checks), "depths": (run.plan.trained_depth,)}
    return replace(run, plan=replace(run.plan, **horizon)), flops


@cache
def data(rung: str, limit: int) -> tuple[Any, Any, Any, Any]:
    """The task of a rung; its puzzles to learn from, to choose by, and to judge by."""
    what = RUNGS[rung].data
    task, puzzles, validation = load_data(what)
    return task, puzzles, validation, unseen_puzzles(task, puzzles, what, limit)


def one(rung: str, name: str, seed: int, share: float, limit: int, checks: int = CHECKS) -> dict[str, Any]:
    """Train and judge one cell, on one thread."""
    loop, row = trained(rung, name, seed, share, limit, checks)
    task, _, _, test = data(rung, limit)
    depth, main = row["trained_depth"], name in FACTORS["main"]
    judge = lambda times, some: [r.valid for r in evaluate(loop, task, some, [t * depth for t in times])]  # noqa: E731
    judged = judge(TIMES[:1], test)
    if judged[0] >= LEAST and share >= 1 and (main or not seed):
        judged += judge([t for t in TIMES[1:] if main or t <= LESS], test.take(slice(FEW)))
    return row | {"accuracy": dict(zip(map(str, TIMES), judged, strict=False))}


def trained(rung: str, name: str, seed: int, share: float, limit: int, checks: int, *changes: str) -> tuple[Any, Row]:
    """The model of one cell, trained on one thread and not judged, and what is known of its training."""
    torch.set_num_threads(1)
    run, flops = recipe(rung, name, seed, share, checks, *changes)
    task, puzzles, validation, _ = data(rung, limit)
    run = replace(run, config=replace(run.config, net=fit_config(run.config.net, task, len(puzzles.identifiers))))
    torch.manual_seed(seed)
    loop = (ALL[name].make or weights.get(run.system)[0])(run.config)
    curve: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        see = lambda step, rows: curve.append([step * run.plan.batch * flops / 1e12, rows[-1].valid])  # noqa: E731
        began = time.process_time()
        prepare(loop, "cpu")
        result = train(loop, task, puzzles, run.plan, folder, validation=validation, seed=seed, live=False,
                       on_check=see)  # fmt: skip
        cpu = time.process_time() - began
        if result.best:
            checkpoint.load_weights(Path(folder) / checkpoint.MODEL, loop)
    return loop.eval(), {
        "rung": rung, "factor": name, "seed": seed, "share": share,
        "tera": run.plan.steps * run.plan.batch * flops / 1e12,
        "parameters": sum(p.numel() for p in loop.parameters()), "MFLOP": flops / 1e6, "steps": run.plan.steps,
        "seconds": result.seconds, "cpu_seconds": cpu, "stopped": result.stopped, "best": result.best.get("valid"),
        "trained_depth": run.plan.trained_depth, "curve": curve, "commit": commit(),
        "to": {str(level): reached(curve, level) for level in LEVELS},
    }  # fmt: skip


def reached(curve: list[list[float]], level: float) -> float | None:
    """10^12 FLOPs at which the accuracy first reached `level`, between validations by a straight line."""
    before = [0.0, 0.0]
    for at, value in curve:
        if value >= level:
            return before[0] + (at - before[0]) * (level - before[1]) / max(value - before[1], 1e-9)
        before = [at, value]
    return None


def fill(args: argparse.Namespace, factors: list[str], share: float, seeds: list[int]) -> list[dict[str, Any]]:
    """Every cell asked for, done or fetched; as many at once as there are workers."""
    rows = read(args.out) if args.out.exists() else []
    for seed in seeds:
        known = {(r["rung"], r["factor"], r["seed"], r["share"]) for r in rows}
        poor = {(r["rung"], r["factor"]) for r in rows if r["share"] == share and r["best"] < args.hopeful}
        cells = [(rung, factor, seed, share) for rung in args.rungs for factor in factors]
        rows += recorded([cell for cell in cells if cell not in known and cell[:2] not in poor], args)
    return [r for r in rows if r["share"] == share and r["factor"] in factors and r["rung"] in args.rungs]


def recorded(cells: list[tuple[str, str, int, float]], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of these cells, each written and told as it comes."""
    for row in spread(cells, args):
        row["born"] = birth_certificate([row["seed"]])
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        told = {k: round(v, 3) for k, v in row["accuracy"].items()}
        where = f"{row['rung']} {row['factor']} seed {row['seed']}"
        print(f"{where}: {row['seconds']:.0f} s, 90 % at {row['to']['0.9']}, {told}", flush=True)
        yield row


def spread(cells: list[tuple[str, str, int, float]], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of these cells in whatever order they are done: on the cores of this machine, or of many by ray."""
    if args.ray:
        import ray

        ray.init(address=args.ray, log_to_driver=False)
        remote = ray.remote(num_cpus=1)(one)
        waiting = [remote.remote(*cell, args.limit, args.checks) for cell in cells]
        while waiting:
            (done,), waiting = ray.wait(waiting)
            yield ray.get(done)
    elif args.workers == 1:
        yield from (one(*cell, args.limit, args.checks) for cell in cells)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.workers, context) as pool:
            for done in as_completed([pool.submit(one, *cell, args.limit, args.checks) for cell in cells]):
                yield done.result()


def errors(row: dict[str, Any]) -> float:
    """Share of validation puzzles that are wrong at the trained depth, never quite none: factors are chosen by it."""
    return max(1 - row["best"], 0.5 / FEW)


def score(rows: list[dict[str, Any]], factor: str, against: str = "orbit") -> float:
    """Errors as a multiple of another factor's of the same rung and seed: the geometric mean, less is better."""
    base = {(r["rung"], r["seed"]): errors(r) for r in rows if r["factor"] == against}
    ratios = [
        errors(r) / base[r["rung"], r["seed"]] for r in rows if r["factor"] == factor and (r["rung"], r["seed"]) in base
    ]
    return statistics.geometric_mean(ratios) if ratios else float("nan")


def show(rows: list[dict[str, Any]]) -> None:
    """One line a factor, best first: errors as a multiple of Orbit's, and accuracy by rung."""
    factors = sorted({r["factor"] for r in rows}, key=lambda f: score(rows, f))
    rungs = list(dict.fromkeys(r["rung"] for r in rows))
    print(f"{'factor':28} {'errors':>7}  " + "  ".join(f"{r:>24}" for r in rungs))
    for factor in factors:
        cells = []
        for rung in rungs:
            mine = [r for r in rows if r["factor"] == factor and r["rung"] == rung]
            shown = [t for t in ("1", "4", "32") if mine and all(t in r["accuracy"] for r in mine)]
            at = [statistics.mean(r["accuracy"][t] for r in mine) for t in shown]
            cells.append(f"{' '.join(f'{100 * a:6.1f}' for a in at)} n{len(mine)}".rjust(24))
        print(f"{factor:28} {score(rows, factor):7.2f}  " + "  ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", nargs="+", default=[], help="names in FACTORS; none: those of the groups")
    parser.add_argument("--group", nargs="+", default=list(FACTORS), choices=list(FACTORS))
    parser.add_argument("--rungs", nargs="+", default=SMALL, choices=list(RUNGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=1.0, help="of every rung's training FLOPs")
    parser.add_argument("--halving", action="store_true", help="a quarter of it for all, half for the better half")
    parser.add_argument("--hopeful", type=float, default=0.0, help="further seeds only where this was validated")
    parser.add_argument("--checks", type=int, default=CHECKS, help="validations over a training")
    parser.add_argument("--limit", type=int, default=200, help="test puzzles")
    parser.add_argument("--workers", type=int, default=2, help="cells trained at once, each on one thread")
    parser.add_argument("--ray", default="", help="the address of a ray cluster to train on instead")
    parser.add_argument("--table", type=Path, help="show this file, and stop")
    parser.add_argument("--out", type=Path, default=Path("results/ladder.jsonl"))
    args = parser.parse_args()
    if args.table:
        return show(read(args.table))
    factors = args.factors or [name for group in args.group for name in FACTORS[group]]
    if args.halving:
        for share in (args.share / 4, args.share / 2):
            rows = fill(args, list(dict.fromkeys(["orbit", *factors])), share, args.seeds[:1])
            show(rows)
            factors = sorted(factors, key=lambda f: score(rows, f))[: max(2, len(factors) // 2)]
    show(fill(args, factors, args.share, args.seeds))


if __name__ == "__main__":
    main()
