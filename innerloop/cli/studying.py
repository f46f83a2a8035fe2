"""`study`: analyse a trained run: residuals, outcomes, nearly solved boards, dimension, linear probes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from rich.table import Table

from innerloop import files
from innerloop.cli.inputs import (
    NO_CODE,
    Code,
    CodeFlags,
    RunFolder,
    choose_device,
    load_examples,
    open_run,
    result_path,
)
from innerloop.errors import InputError
from innerloop.learn.stream import to_batch
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build_model
from innerloop.runs.folder import OpenedRun
from innerloop.schema import Range, Seed, Whole
from innerloop.study.dimension import MAX_ROWS
from innerloop.text import markup

__all__ = ["study"]


def study(
    run: RunFolder,
    data: str = "",
    depth: Annotated[int, Range(1, 4096)] = 16,
    control: tuple[str, ...] = (),
    limit: Whole = 200,
    seed: Seed = 0,
    device: str = "auto",
    out: str = "",
    code: CodeFlags = NO_CODE,
) -> int:
    """Look inside a run: does it settle, where, on how many directions, and what do its states say.

    Example:  innerloop study runs/demo

    Example:  innerloop study runs/sudoku6/seed0 --depth 64 --limit 500 --control runs/sudoku6/seed1 --out studies/seeds

    Writes study.json and figures: residuals of every update; puzzles right, stuck or changing over steps; boards with
    few empty places; participation ratio of each slot beside the same model untrained; linear probes of the open cells.

    Args:
        run: Folder of a trained run.
        data: Puzzles to think about; without it those the run was validated on.
        depth: Steps of thought.
        control: Folders of other runs of the same task, such as one trained on shuffled labels, to compare dimensions.
        limit: At most so many puzzles; 0: all.
        seed: Of the places and cells that are drawn, and of the bootstrap.
        device: auto, cpu or cuda.
        out: Folder for study.json and figures/; by default the run's.
    """
    from innerloop.show import plots
    from innerloop.study import survey

    where, why = choose_device(device)
    opened = open_run(run, where, code)
    folder = result_path(opened, out)
    examples = load_examples(opened, data, limit)
    if not 8 <= len(examples) <= MAX_ROWS:
        raise InputError(f"{len(examples)} puzzles are too few or too many for a study: use --limit 8 to {MAX_ROWS}")
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(f"{len(examples):,} puzzles of {markup(examples.source)} on {markup(why)}")
    x = to_batch(examples.inputs, examples.labels, examples.puzzle, where).question
    labels = torch.from_numpy(examples.labels.astype("int64")).to(where)
    task = opened.task
    open_places = x.inputs == task.blank if task.blank else torch.ones_like(labels, dtype=torch.bool)
    controls: dict[str, Any] = {"untrained": build_model(opened.run).to(where).eval()}
    for other in control:
        name = other if Path(other).name in controls else Path(other).name
        controls[name] = matching_loop(other, opened, where, code._replace(system=""))
    with console.status("measuring"):
        found = survey.survey(opened.loop, x, labels, open_places, depth, controls, task.blank, seed)
    born = birth_certificate([opened.run.seed, seed])
    known = {"data": examples.source, "trained_depth": opened.run.plan.trained_depth}
    files.write_json(folder / "study.json", known | found | {"born": born})
    written = plots.save(found, folder / "figures")
    print_survey(console, found)
    console.print(
        f"written to {markup(folder / 'study.json')} and {len(written)} figures in {markup(folder / 'figures')}"
    )
    return 0


def matching_loop(folder: str, opened: OpenedRun, where: Any, code: Code) -> Any:
    """The loop of another run, if it takes the same puzzles."""
    other = open_run(folder, where, code)
    if other.task.name != opened.task.name or other.task.shape != opened.task.shape:
        raise InputError(
            f"{folder} was trained on another task, or another size of it, than {opened.folder}: compare alike ones"
        )
    return other.loop


def print_survey(console: Console, found: dict[str, Any]) -> None:
    """The main numbers as a table."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    for kind, share in found["fates"].items():
        table.add_row(kind, f"{share['value']:.1%}", f"[dim]{100 * share['low']:.1f} to {100 * share['high']:.1f}[/]")
    for row in found["filled"]:
        name = "solved boards" if not row["blanks"] else f"{row['blanks']} empty place{'s' * (row['blanks'] > 1)}"
        span = f"{100 * row['solved']['low']:.1f} to {100 * row['solved']['high']:.1f}"
        stay = f"right at every step {row['always']['value']:.1%}"
        table.add_row(name, f"{row['solved']['value']:.1%}", f"[dim]{span}; {stay}[/]")
    for slot, values in found["residuals"]["slots"].items():
        if "spike" in values:
            said = f"falls {values['fall']:.1f} times within a cycle, leaps {values['spike']:.1f} times after it"
            table.add_row(f"slot {slot}", "", f"[dim]{said}[/]")
    for name, by_slot in found["dimension"].items():
        for slot, each in by_slot.items():
            if each[-1]["high"] is None:  # a slot in which puzzles do not differ
                continue
            span = f"[dim]{each[-1]['low']:.1f} to {each[-1]['high']:.1f}, n {each[-1]['n']}, d {each[-1]['d']}[/]"
            table.add_row(f"dimension of {slot}, {markup(name)}", f"{each[-1]['corrected']:.1f}", span)
    for slot, read in found["cells"].get("slots", {}).items():
        said = (
            f"[dim]{100 * read[-1]['low']:.1f} to {100 * read[-1]['high']:.1f}, shuffled {read[-1]['control']:.1%}[/]"
        )
        table.add_row(f"open cells read from {slot}", f"{read[-1]['accuracy']:.1%}", said)
    console.print(table)
