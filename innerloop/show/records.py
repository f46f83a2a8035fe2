"""Schemas of the files in a run's folder: eval.json, study.json, result.json, calibration.json, metrics.jsonl.

Files gain keys over time: only known keys are checked, and unknown ones are kept.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from innerloop import files, schema
from innerloop.errors import InputError
from innerloop.schema import Amount, Length, Many, Share, Whole
from innerloop.solve.calibrate import RuleCalibration

__all__ = ["FILE_TYPES", "check_record", "read", "read_metrics"]

Score = Annotated[float, schema.Range(-1e12, 1e12)]
Name = Annotated[str, Length(0, 10_000)]
MAX_METRICS_BYTES = 1 << 30  # bytes of metrics.jsonl at most


class BirthCertificate(TypedDict, total=False):
    """A birth certificate, as far as a page shows it by name."""

    command: Name
    commit: Name
    seeds: list[int]


class BestValidation(TypedDict):
    step: Amount
    exact: Share
    valid: NotRequired[Share | None]


class ResultFile(TypedDict, total=False):
    """result.json: how a training ended."""

    steps: Whole
    seconds: Amount
    best: BestValidation | Annotated[dict[str, Any], Length(0, 0)]
    stopped: Name
    warnings: list[Name]
    leakage: Name
    train_puzzles: Whole
    validation_puzzles: Whole
    born: BirthCertificate


class EvalRow(TypedDict):
    """One row of eval.json."""

    depth: Many
    width: Many
    halting: bool
    exact: Share
    low: Share
    high: Share
    valid: Share | None
    steps: Amount
    nfe: Amount
    puzzles: NotRequired[Whole]
    pick: NotRequired[Name]
    token: NotRequired[Share]
    by_rating: NotRequired[dict[str, Share]]


class EvalFile(TypedDict):
    """eval.json."""

    rows: list[EvalRow]
    data: NotRequired[Name]
    test_puzzles: NotRequired[Whole]
    train_puzzles: NotRequired[Whole]
    trained_depth: NotRequired[Whole]
    fingerprint: NotRequired[Name]
    chose_weights: NotRequired[bool]
    born: NotRequired[BirthCertificate]


class SlotDimension(TypedDict, total=False):
    """Directions in use of one slot after one step."""

    corrected: Score | None
    plain: Score | None
    low: Score | None
    high: Score | None
    effective_rank: Score | None


class StudyFile(TypedDict, total=False):
    """study.json, as far as others read it."""

    dimension: dict[str, dict[str, list[SlotDimension]]]
    born: BirthCertificate


class CalibrationFile(TypedDict):
    """calibration.json."""

    rules: dict[str, RuleCalibration]


class RunFile(TypedDict):
    """run.json beside its run, which runs.run reads."""

    born: NotRequired[BirthCertificate]


FILE_TYPES: dict[str, Any] = {
    "eval.json": EvalFile,
    "study.json": StudyFile,
    "result.json": ResultFile,
    "calibration.json": CalibrationFile,
    "run.json": RunFile,
}


def check_record(name: str, value: Any, where: str) -> Any:
    """A value of the file `name`, held to its kind if it has one. Raises InputError, which begins with `where`."""
    if name in FILE_TYPES:
        schema.read(FILE_TYPES[name], value, where)
    return value


def read(folder: Path, name: str) -> dict[str, Any]:
    """What the file `name` of a run's folder holds; {} where there is none."""
    path = folder / name
    return check_record(name, files.read_json(path), files.shown(path)) if path.exists() else {}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The finite numbers of each line of metrics.jsonl; a line that is cut short, or without a step, is left out."""
    records = []
    for line in files.read_text(path, MAX_METRICS_BYTES).splitlines():
        try:
            value = files.parse_json(line, "it")
        except InputError:
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int) and 0 <= value["step"] < schema.WHOLE:
            records.append({k: v for k, v in value.items() if is_number(v)})
    return records


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -1e12 < value < 1e12 and math.isfinite(value)
