"""`calibrate`: how far a run's confidence can be trusted, measured on labelled puzzles."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from innerloop import files
from innerloop.cli.inputs import NO_CODE, CodeFlags, RunFolder, choose_device, load_examples, open_run
from innerloop.cli.judging import parse_noise
from innerloop.errors import InputError
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.solving import CALIBRATION, solver_of
from innerloop.schema import Count, Range, Seed, Whole
from innerloop.solve.calibrate import RuleCalibration, to_json
from innerloop.text import markup

__all__ = ["calibrate"]


def calibrate(
    run: RunFolder,
    data: str = "",
    depth: Count = 32,
    width: Annotated[int, Range(1, 65_536)] = 1,
    noise: str = "0,0",
    limit: Whole = 500,
    seed: Seed = 0,
    device: str = "auto",
    code: CodeFlags = NO_CODE,
) -> int:
    """Measure how far every selection rule and its confidence can be trusted, on puzzles the run did not learn from.

    Example:  innerloop calibrate runs/demo --depth 32 --width 8

    Args:
        run: Folder of a trained run.
        data: Labelled puzzles; without it those the run was validated on.
        depth: Steps of thought, as in the solving that will be done.
        width: Trajectories, likewise.
        noise: Standard deviations of the noise on the first state and on every step, likewise.
        limit: At most so many puzzles; 0: all. Half of them make the curves, the others test them.
        seed: Of noise and symmetries.
        device: auto, cpu or cuda.
    """
    where, _ = choose_device(device)
    opened = open_run(run, where, code)
    if not opened.folder.is_dir():
        raise InputError(f"{run} is no folder: calibration.json is written into the folder of a run")
    examples, console = load_examples(opened, data, limit), Console(emoji=False, highlight=False, soft_wrap=True)
    solver = solver_of(opened)
    options: dict[str, Any] = {"depth": depth, "width": width, "noise": parse_noise(noise), "seed": seed}
    with console.status("calibrating"):
        found = solver.calibrate(examples, **options)
    value = {"rules": to_json(found), "dials": options, "data": examples.source, "puzzles": len(examples)}
    value["born"] = birth_certificate([opened.run.seed, seed])
    files.write_json(opened.folder / CALIBRATION, value)
    print_calibration(console, found)
    best = solver.best_rule()
    console.print(f"auto picks by [bold]{best}[/]; written to {markup(opened.folder / CALIBRATION)}")
    return 0


def print_calibration(console: Console, found: dict[str, RuleCalibration]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("rule", "right", "AUROC", "ECE", "AURC", "wrong at 90 % coverage"):
        table.add_column(name, justify="left" if name == "rule" else "right", no_wrap=True)
    for t in found.values():
        numbers_ = ["" if np.isnan(v) else f"{v:.3f}" for v in (t.auroc, t.ece, t.aurc)]
        table.add_row(t.rule, f"{t.accuracy:.1%}", *numbers_, f"{t.risk_at(0.9):.1%}")
    console.print(table)
