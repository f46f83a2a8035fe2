"""`plot` and `report`: figures of runs (PNG, SVG, PDF), and one HTML page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from innerloop import files
from innerloop.cli.inputs import NO_CODE, CodeFlags, RunFolder, open_run
from innerloop.errors import InputError
from innerloop.runs.group import conditions
from innerloop.schema import Range


def plot(runs: tyro.conf.Positional[tuple[str, ...]], out: str = "") -> int:
    """Draw accuracy over depth and the learning curve, as PNG, SVG and PDF; seeds of a run as one line with a band.

    Example:  innerloop plot runs/demo

    Example:  innerloop plot runs/sudoku6                           # the mean of its seeds, in the band of all

    Example:  innerloop plot runs/demo runs/mine --out figures      # both in one figure

    Args:
        runs: Folders of runs, or of several; what differs in more than the seed is drawn over each other.
        out: Folder for the figures; by default figures/ in the folder given, and of several in the current one.
    """
    if not runs:
        raise InputError("no run is given: innerloop plot RUN, such as runs/demo")
    from innerloop.show import figures

    folders = [Path(r) for r in runs]
    groups = {c.name: c.folders for c in conditions(folders)}
    home = folders[0] / "figures" if len(folders) == 1 else Path("figures")
    for path in figures.draw(groups, Path(out) if out else home):
        print(path)
    return 0


def report(
    run: RunFolder,
    depth: Annotated[int, Range(1, 4096)] = 16,
    out: str = "",
    code: CodeFlags = NO_CODE,
) -> int:
    """Write one self-contained HTML page about a run: puzzles solved step by step, curves, how it was trained.

    It is the page of `serve`, as a recording: it opens from a disk and asks for nothing.

    Example:  innerloop report runs/demo

    Args:
        run: Folder of a trained run.
        depth: Steps of the puzzles shown.
        out: File of the page; by default report.html in the run.
    """
    from innerloop.cli.inputs import load_examples, result_path
    from innerloop.show.report import page

    opened = open_run(run, code=code)
    target = result_path(opened, out, "report.html")
    examples = load_examples(opened, "", 200)
    files.write_text(target, page(opened, examples, instructive_row(opened, examples), depth))
    print(target)
    return 0


def instructive_row(opened: Any, examples: Any) -> int:
    """Row of the first puzzle solved at depth 16 and not at 2, as it shows steps; else the first solved; else 0."""
    from innerloop.learn.evaluate import score_set

    deep, quick = (score_set(opened.loop, opened.task, examples, d).exact for d in (16, 2))
    late = deep & ~quick
    chosen = late if late.any() else deep
    return int(chosen.argmax())
