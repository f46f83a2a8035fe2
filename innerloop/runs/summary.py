"""What several runs reached: means over seeds with their spread and 95 % intervals, and paired tests over common seeds.

    summary = summarise(conditions([Path("runs/sudoku6"), Path("runs/sudoku6_trm")]))

A seed repeats the training, on the same puzzles and judged on the same puzzles: the spread is that of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from innerloop import files
from innerloop.errors import InputError
from innerloop.interval import Mean, Paired, holm, mean_over_runs, paired, wilson
from innerloop.runs.group import Condition
from innerloop.runs.training import RESULT
from innerloop.show import records
from innerloop.text import printable

__all__ = ["METRICS", "SHARES", "Comparison", "Line", "Setting", "Summary", "adjusted", "summarise"]

EVALUATION = "eval.json"
SHARES = ("exact", "valid", "token")  # metrics between 0 and 1
METRICS = (*SHARES, "steps", "nfe", "train_steps", "train_seconds", "parameters")
COSTS = {"steps": "train_steps", "seconds": "train_seconds", "parameters": "parameters"}  # key of result.json -> metric


class Setting(NamedTuple):
    """How a trained run was used: steps, trajectories, whether each puzzle stops by itself, and the rule of choice."""

    depth: int
    width: int = 1
    halting: bool = False
    pick: str = "-"


class Line(NamedTuple):
    """One metric of a condition in one setting."""

    name: str
    setting: Setting
    metric: str
    values: dict[int, float]  # by seed
    mean: Mean  # low and high within the metric's range
    of: str  # what the interval is of: "seeds"; "puzzles" (Wilson) for one seed, and where seeds agree; "" without one


class Comparison(NamedTuple):
    """A condition against the first one, over the seeds that both have."""

    name: str
    baseline: str
    setting: Setting
    metric: str
    seeds: tuple[int, ...]
    test: Paired
    p_holm: float  # the t test's p, adjusted for all comparisons of the summary


class Reading(NamedTuple):
    """What one run reached."""

    puzzles: str  # which puzzles, as text
    key: str  # equal for the same puzzles
    size: int  # how many
    rows: dict[Setting, dict[str, float]]


class Summary(NamedTuple):
    metric: str  # the one that is compared
    lines: list[Line]
    comparisons: list[Comparison]
    puzzles: dict[str, str]  # condition -> the puzzles it was judged on
    notes: list[str]  # sentences: what was left out, and why


def summarise(found: Sequence[Condition], metric: str = "exact", validation: bool = False) -> Summary:
    """The metrics of every condition, and `metric` of each against the first.

    Read from every run's eval.json; from the best validation of training, where no run has one or `validation` asks.
    Raises InputError where some runs have an eval.json and others have not, or were judged on other puzzles than the
    other seeds of the same condition.
    """
    notes: list[str] = []
    judged = {c.name: read_condition(c, validation or not any_evaluated(found), notes) for c in found}
    judged = {name: readings for name, readings in judged.items() if readings}
    if not judged:
        raise InputError(" ".join(notes) + ": train them to their end" if notes else "there are no runs: give some")
    lines = [line for name, readings in judged.items() for line in lines_of(name, readings)]
    puzzles = {name: next(iter(readings.values())).puzzles for name, readings in judged.items()}
    keys = {name: next(iter(readings.values())).key for name, readings in judged.items()}
    return Summary(metric, lines, compare(lines, keys, metric, notes), puzzles, notes)


# -- reading ----------------------------------------------------------------------------------------------------------


def any_evaluated(found: Sequence[Condition]) -> bool:
    return any((folder / EVALUATION).exists() for c in found for folder in c.folders)


def read_condition(c: Condition, validation: bool, notes: list[str]) -> dict[int, Reading]:
    """seed -> what its run reached; a run that is not finished is left out, with a note."""
    readings: dict[int, Reading] = {}
    for seed, folder in zip(c.seeds, c.folders, strict=True):
        result = records.read(folder, RESULT)
        if result.get("stopped") or not result:
            why = result.get("stopped") or "no result.json yet"
            notes.append(f"{files.shown(folder)} is left out: {printable(str(why))}")
            continue
        readings[seed] = from_validation(c, result) if validation else from_evaluation(folder, result)
    if len({r.key for r in readings.values()}) > 1:
        raise InputError(
            f"the seeds of {printable(c.name)} were judged on different puzzles: innerloop eval all of them on one file"
        )
    return readings


def from_validation(c: Condition, result: dict[str, Any]) -> Reading:
    """The best validation of training, at the depth that chose the weights."""
    best, count = result.get("best") or {}, int(result.get("validation_puzzles", 0))
    row = numbers(best, SHARES) | costs(result)
    return Reading(
        "the best validation of each run, which chose its weights",
        f"validation {count}",
        count,
        {Setting(c.run.plan.depths[-1]): row},
    )


def from_evaluation(folder: Path, result: dict[str, Any]) -> Reading:
    """What eval.json holds."""
    value = records.read(folder, EVALUATION)
    if not value:
        raise InputError(
            f"{files.shown(folder)} has no {EVALUATION} and others have: innerloop eval it too, or give --validation"
        )
    rows = {}
    for row in value["rows"]:
        setting = Setting(row["depth"], row["width"], row["halting"], row.get("pick", "-"))
        rows[setting] = numbers(row, (*SHARES, "steps", "nfe", "low", "high")) | costs(result)
    source, count = printable(str(value.get("data", "unknown puzzles"))), int(value.get("test_puzzles", 0))
    key = str(value.get("fingerprint") or f"{source} {count}")
    chose = ", which chose the weights" if value.get("chose_weights") else ""
    return Reading(f"{count:,} puzzles of {source}{chose}", key, count, rows)


def numbers(row: dict[str, Any], names: Sequence[str]) -> dict[str, float]:
    return {name: float(row[name]) for name in names if records.is_number(row.get(name))}


def costs(result: dict[str, Any]) -> dict[str, float]:
    """What training cost, and the size of the model."""
    return {new: float(result[old]) for old, new in COSTS.items() if records.is_number(result.get(old))}


# -- statistics -------------------------------------------------------------------------------------------------------


def lines_of(name: str, readings: dict[int, Reading]) -> list[Line]:
    """Every metric in every setting that all seeds have."""
    first = next(iter(readings.values()))
    made = []
    for setting in first.rows:
        for metric in METRICS:
            rows = {seed: r.rows.get(setting, {}) for seed, r in readings.items()}
            if all(metric in row for row in rows.values()):
                values = {seed: row[metric] for seed, row in rows.items()}
                made.append(Line(name, setting, metric, values, *interval(metric, values, first, rows)))
    return made


def interval(
    metric: str, values: dict[int, float], reading: Reading, rows: dict[int, dict[str, float]]
) -> tuple[Mean, str]:
    """(mean with its interval, what that is of). Equal seeds show no spread, which is no proof that there is none."""
    mean, row = mean_over_runs(list(values.values())), next(iter(rows.values()))
    if metric in SHARES and (mean.n == 1 or mean.sd == 0):
        low, high = wilson(mean.value * reading.size, reading.size)
        if metric == "exact" and "low" in row:
            low, high = row["low"], row["high"]
        return (mean._replace(low=low, high=high), "puzzles") if reading.size and metric != "token" else (mean, "")
    if metric in SHARES:
        mean = mean._replace(low=max(0.0, mean.low), high=min(1.0, mean.high))
    return mean, "seeds" if mean.n > 1 else ""


def compare(lines: Sequence[Line], keys: dict[str, str], metric: str, notes: list[str]) -> list[Comparison]:
    """`metric` of every condition against the first, in the settings that both have."""
    baseline, *others = keys
    table = {(line.name, line.setting): line.values for line in lines if line.metric == metric}
    made: list[Comparison] = []
    for name in others:
        if keys[name] != keys[baseline]:
            notes.append(f"{name} is not compared with {baseline}: they were judged on different puzzles")
            continue
        settings = [s for n, s in table if n == name and (baseline, s) in table]
        seeds = tuple(sorted({seed for s in settings for seed in table[name, s] if seed in table[baseline, s]}))
        if len(seeds) < 2:
            count = "one seed" if seeds else "no seed"
            notes.append(f"{name} is not compared with {baseline}: they have {count} in common, a test needs two")
            continue
        for s in settings:
            a, b = ([table[n, s][seed] for seed in seeds] for n in (name, baseline))
            test = paired(a, b)
            made.append(Comparison(name, baseline, s, metric, seeds, test, test.p))
    return adjusted(made)


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction over these and no others."""
    ps = holm([c.test.p for c in comparisons])
    return [c._replace(p_holm=p) for c, p in zip(comparisons, ps, strict=True)]
