"""What benchmarks that train once a seed share: their options, and rows that are kept as soon as they are measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from innerloop import files
from innerloop.runs.certificate import birth_certificate


def options(about: str, runs: str, seeds: tuple[int, ...] = (0, 1, 2)) -> argparse.ArgumentParser:
    """The parser of such a script. about: its docstring; runs: the folder of its trainings."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, such as plan.steps=500")
    parser.add_argument("--runs", type=Path, default=Path(runs))
    parser.add_argument("--out", type=Path, required=True)
    return parser


def kept(out: Path) -> list[dict[str, Any]]:
    """The rows that are measured already."""
    return json.loads(out.read_text())["rows"] if out.exists() else []


def keep(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows, under one certificate; each has a `seed`."""
    files.write_json(out, {"born": birth_certificate(sorted({r["seed"] for r in rows})), "rows": rows})


def measure_each(
    args: argparse.Namespace,
    cases: Iterable[Mapping[str, Any]],
    measured: Callable[..., dict[str, Any]],
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """A row for every case, such as {"seed": 0}, that has none yet: measured(*its values, args), told and kept at once.

    A row holds what its case holds, by the same names.
    """
    torch.set_num_threads(args.threads)
    rows = kept(args.out)
    for case in cases:
        if not any(all(row[name] == value for name, value in case.items()) for row in rows):
            rows.append(measured(*case.values(), args))
            tell(rows[-1])
            keep(args.out, rows)
