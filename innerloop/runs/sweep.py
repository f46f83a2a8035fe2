"""A sweep: the variants of a run over values of its fields, and successive halving by validation.

    plan.lr=1e-3,3e-3 plan.batch=16,32      four variants, the grid; a list is one value in brackets: plan.depths=[4,8]

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) trains all variants for a few steps, goes on with a
share of them, and so on; the last one trains to the end. Nothing is trained twice: a survivor goes on in its folder.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from innerloop.errors import InputError
from innerloop.learn.plan import Plan
from innerloop.show import records
from innerloop.text import printable

__all__ = ["Score", "Variant", "best_first", "rung_counts", "rung_steps", "score", "variants"]

METRICS = "metrics.jsonl"
MOST = 1000  # variants of a sweep
LONGEST_NAME = 80


class Variant(NamedTuple):
    name: str  # of its folder
    changes: tuple[str, ...]  # as --set takes them


class Score(NamedTuple):
    """The best validation so far, a mean over seeds; variants of equal `exact` are told apart by `second`."""

    exact: float
    second: float  # share of valid answers, or of right cells where the rules are unknown
    seeds: int


def variants(settings: Sequence[str]) -> list[Variant]:
    """Every combination of the values of --set, in order. Raises InputError where no field has several values."""
    values = {}
    for setting in settings:
        path, sign, text = setting.partition("=")
        if not sign:
            raise InputError(f'"{printable(setting)}" changes nothing: write a field and values, as plan.lr=1e-3,3e-3')
        values[path.strip()] = split(text)
    varied = [path for path, found in values.items() if len(found) > 1]
    if not varied:
        raise InputError("no field has several values: give some, as --set plan.lr=1e-3,3e-3")
    count = math.prod(map(len, values.values()))
    if count > MOST:
        raise InputError(f"that makes {count:,} variants: {MOST:,} at most")
    keys = short_keys(varied)
    made: list[Variant] = []
    for combination in itertools.product(*values.values()):
        given = dict(zip(values, combination, strict=True))
        name = ",".join(f"{keys[path]}={given[path]}" for path in varied)
        name = re.sub(r"[^\w.+=,-]", "-", name)[:LONGEST_NAME].lstrip(".-")
        if name in {v.name for v in made}:
            name += f"-{len(made)}"
        made.append(Variant(name, tuple(f"{path}={text}" for path, text in given.items())))
    return made


def split(text: str) -> list[str]:
    """The values in "1e-3,3e-3"; commas in brackets belong to a value."""
    found, depth = [""], 0
    for c in text:
        depth += (c in "[(") - (c in "])")
        if c == "," and depth <= 0:
            found.append("")
        else:
            found[-1] += c
    return list(dict.fromkeys(part for part in map(str.strip, found) if part)) or [""]


def short_keys(paths: Sequence[str]) -> dict[str, str]:
    """path -> its last name, or all of it where two have the same."""
    last = [path.rpartition(".")[2] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}


def score(folders: Sequence[Path], plan: Plan, until: int) -> Score | None:
    """The score of a variant from the validations of its seeds up to a step; None where one has not come so far."""
    best = [best_validation(folder, plan.depths[-1], until) for folder in folders]
    known = [b for b in best if b is not None]
    if len(known) < len(best) or not known:
        return None
    return Score(sum(b[0] for b in known) / len(known), sum(b[1] for b in known) / len(known), len(known))


def best_validation(folder: Path, depth: int, until: int) -> tuple[float, float] | None:
    """(exact, valid or token) of the best validation up to a step; None where there is none at that step."""
    path = folder / METRICS
    rows = [r for r in records.read_metrics(path) if f"valid/exact@{depth}" in r] if path.exists() else []
    if not any(r["step"] >= until for r in rows):
        return None
    second = f"valid/valid@{depth}" if any(f"valid/valid@{depth}" in r for r in rows) else f"valid/token@{depth}"
    return max((r[f"valid/exact@{depth}"], r.get(second, 0.0)) for r in rows if r["step"] <= until)


def best_first(scores: Mapping[str, Score | None]) -> list[str]:
    """The names of variants, the best first; those without a score last; equal ones in their order."""
    worst = (-1.0, -1.0)
    return sorted(scores, key=lambda name: (s.exact, s.second) if (s := scores[name]) else worst, reverse=True)


def rung_counts(count: int, factor: int) -> list[int]:
    """How many variants each rung of successive halving trains: a share 1 / factor of the one before, at least one."""
    counts = [count]
    while counts[-1] > 1:
        counts.append(math.ceil(counts[-1] / factor))
    return counts


def rung_steps(plan: Plan, rung: int, rungs: int, factor: int) -> int:
    """The step up to which a rung trains: the last one to the end, each before for a share 1 / factor of the next.

    Rounded up to a validation, which decides. Raises InputError where the first rung would be the whole training.
    """
    share = factor ** (rung - rungs + 1)
    steps = min(plan.steps, math.ceil(plan.steps * share / plan.check_every) * plan.check_every)
    if rung == 0 and rungs > 1 and steps >= plan.steps:
        raise InputError(
            f"plan.check_every {plan.check_every} leaves no validation before the end by which to choose among "
            f"{plan.steps} steps: set it lower, or leave out --halving"
        )
    return steps
