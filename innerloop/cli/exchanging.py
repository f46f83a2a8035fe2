"""`import` and `export`: official HRM and TRM checkpoints and dataset folders, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import tyro

from innerloop import tasks
from innerloop.cli.inputs import open_run, read_run
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.recipes import exchange
from innerloop.recipes import run as runs
from innerloop.tasks.official import write_official


def import_(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")],
    out: str,
    arch: str = "",
    data: str = "",
    heads: int = 0,
    cycles: int = 0,
    low: int = 0,
    prefix: int = 0,
    seq: int = 0,
) -> int:
    """Turn an official HRM or TRM checkpoint into a run that every other verb opens.

    Example:  innerloop import step_26040 --arch all_config.yaml --data data/sudoku-extreme --out runs/official

    Example:  innerloop import step_26040 --heads 8 --cycles 3 --low 6 --out runs/official

    Args:
        file: Checkpoint that the official trainer saved (step_N).
        out: Folder of the new run.
        arch: The all_config.yaml beside the checkpoint, or the same as JSON; without it shapes and defaults decide.
        data: Official dataset folder it was trained on.
        heads: Attention heads, where --arch is not given; 0: one for every 64 channels.
        cycles: H_cycles, where --arch is not given; 0: as published.
        low: L_cycles, where --arch is not given; 0: as published.
        prefix: puzzle_emb_len, where --arch is not given; 0: as published.
        seq: Tokens of a puzzle, where neither --arch nor --data say.
    """
    given = {"heads": heads, "cycles": cycles, "low": low, "prefix": prefix, "seq": seq}
    run, notes = exchange.bring(file, Path(out), arch, data, **given)
    for note in notes:
        print(note)
    print(f"{run.system} for {run.data.task} is in {out}; next: innerloop eval {out} --depth 1,4,16")
    return 0


def export(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")],
    out: str = "",
    prefix: str = "_orig_mod.model.",
    data: str = "",
    split: str = "train",
) -> int:
    """Write a run as an official checkpoint, or puzzles as an official dataset folder.

    Example:  innerloop export runs/mine --out step_1000

    Example:  innerloop export runs/mine --data data/mine       (its puzzles: train/ and test/)

    Example:  innerloop export puzzles.csv --data data/mine --split test

    Args:
        source: Folder of a run; with --data also a file of puzzles.
        out: File of the checkpoint.
        prefix: Before every key; the official trainer's own, of a compiled model, by default.
        data: Folder to write the puzzles to.
        split: train or test, for a file of puzzles.
    """
    if bool(out) == bool(data):
        raise InputError("give either --out for a checkpoint or --data for a folder of puzzles")
    if out:
        state, notes = exchange.send(open_run(source), prefix)
        checkpoint.write(Path(out), lambda path: torch.save(state, path))
        print("\n".join([*notes, f"{len(state)} tensors written to {out}"]))
        return 0
    if split not in ("train", "test"):
        raise InputError(f'--split is "{split}": use train or test')
    if (Path(source) / "run.json").exists():
        task, train, validation = runs.sets(read_run(Path(source)).data)
        sets = {"train": train, "test": validation}
    else:
        task, found = tasks.open_set(source)
        sets = {split: found}
    for name, s in sets.items():
        print(f"{len(s):,} puzzles written to {write_official(data, s, name, task.options)}")
    return 0
