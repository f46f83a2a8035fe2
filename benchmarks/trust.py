"""How far each selection rule and its confidence can be trusted: AUROC, calibration error, risk against coverage.

    python benchmarks/trust.py RUN --data DATA/sudoku9_medium_test.csv --out results/trust_medium.json

As `innerloop calibrate`, for one width after the other: half of the puzzles make the curves, the numbers are of the
others. `auroc`: chance that a right answer scores above a wrong one. `ece`: mean distance between confidence and
accuracy. `aurc`: mean share of wrong answers over all coverages. `wrong_at_half`, `wrong_at_90`: share of wrong answers
where only the surest half, or 90 %, are given.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from subject import of_model

from innerloop import files
from innerloop.data.opening import open_set
from innerloop.learn.precision import prepare
from innerloop.pretrained import open as open_model
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.solving import solver_of
from innerloop.solve.calibrate import RuleCalibration


def row(t: RuleCalibration, width: int, depth: int) -> dict[str, Any]:
    risks = {f"wrong_at_{name}": t.risk_at(share) for name, share in (("half", 0.5), ("90", 0.9))}
    kept = {k: v for k, v in asdict(t).items() if isinstance(v, (int, float))}
    return {"rule": t.rule, "depth": depth, "width": width} | kept | risks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", required=True, help="labelled puzzles that the run did not learn from")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    opened = open_model(args.run)
    prepare(opened.loop, "cpu")
    examples = open_set(args.data, opened.task, args.limit)[1]
    rows, curves = [], {}
    for width in args.widths:
        found = solver_of(opened).calibrate(examples, depth=args.depth, width=width, seed=args.seed)
        for rule, t in found.items():
            rows.append(row(t, width, args.depth))
            curves[f"{rule}, width {width}"] = {"coverage": t.coverage, "risk": t.risk}
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    value = {"subject": of_model(opened), "run": Path(args.run).name, "data": Path(examples.source).name}
    value["born"] = birth_certificate([opened.run.seed, args.seed])
    files.write_json(args.out, value | {"rows": rows, "curves": curves})


if __name__ == "__main__":
    main()
