"""Models that come with the library: NAME.safetensors beside this file, each a single file with its card inside.

`innerloop export RUN --single innerloop/pretrained/NAME.safetensors` adds one. Every model is under 4 MB.
"""

from __future__ import annotations

from pathlib import Path

import torch

from innerloop.errors import InputError
from innerloop.export.hub import model_texts
from innerloop.runs.code import NO_CODE, Code
from innerloop.runs.folder import OpenedRun, open_run
from innerloop.runs.single import README, SUFFIX, open_single
from innerloop.text import did_you_mean, printable

__all__ = ["HARD_SUDOKUS", "card", "names", "open"]

FOLDER = Path(__file__).parent
HARD_SUDOKUS = FOLDER / "sudoku9_hard.csv"  # 100 puzzles that no technique without a guess solves
MAX_FILE_BYTES = 4_000_000  # bytes of one


def names() -> list[str]:
    """Every model that comes with the library."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def open(source: str | Path, device: torch.device | str = "cpu", code: Code = NO_CODE) -> OpenedRun:
    """A trained model ready to use: by the name of one that comes along, a NAME.safetensors, or the folder of a run.

    A folder or file here comes before a model of that name. Raises InputError naming the nearest for an unknown one.
    code: what code of the run may be run, or stands in its place.
    """
    path, known = Path(source), names()
    if path.is_dir():
        return open_run(path, device, code)
    if path.suffix == SUFFIX:
        return open_single(path, device, code)
    if str(source) in known:
        return open_single(FOLDER / f"{source}{SUFFIX}", device, code)
    raise InputError(
        f"there is no folder {printable(str(source))}: give the folder of a run, such as runs/demo, or a model that "
        f"comes along ({did_you_mean(str(source), known)})"
    )


def card(source: str | Path) -> str:
    """The card of a model, as Markdown."""
    return model_texts(open(source))[README]
