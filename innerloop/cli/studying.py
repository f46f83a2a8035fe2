"""`study`: analyse a trained run: residuals, outcomes, nearly solved boards, dimension, linear probes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

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
from innerloop.interval import mean_over_runs
from innerloop.learn.stream import to_batch
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build_model
from innerloop.runs.folder import OpenedRun
from innerloop.runs.group import conditions, holds_runs
from innerloop.schema import Range, Seed, Whole
from innerloop.show.tabular import finite
from innerloop.study.dimension import MAX_ROWS
from innerloop.text import markup

__all__ = ["study"]

MEANS = "studies.json"  # in a folder of runs: the means over their seeds


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

    Example:  innerloop study runs/sudoku6                # all runs in a folder, and the means over their seeds

    Writes study.json and figures: residuals of every update; puzzles right, stuck or changing over steps; boards with
    few empty places; participation ratio of each slot beside the same model untrained; linear probes of the open cells.

    Args:
        run: Folder of a trained run, or of several.
        data: Puzzles to think about; without it those the run was validated on.
        depth: Steps of thought.
        control: Folders of other runs of the same task, such as one trained on shuffled labels, to compare dimensions.
        limit: At most so many puzzles; 0: all.
        seed: Of the places and cells that are drawn, and of the bootstrap.
        device: auto, cpu or cuda.
        out: Folder for study.json and figures/; by default the run's.
    """
    where, why = choose_device(device)
    how: dict[str, Any] = {"data": data, "depth": depth, "control": control, "limit": limit, "seed": seed, "why": why}
    if not holds_runs(Path(run)):
        study_one(open_run(run, where, code), out, code, **how)
        return 0
    if out:
        raise InputError(f"{run} holds several runs, and --out is the folder of one study: leave it out")
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    record: dict[str, Any] = {}
    found = conditions([Path(run)])
    for c in found:
        studies = {}
        for number, folder in zip(c.seeds, c.folders, strict=True):
            console.print(f"\n{markup(folder)}")
            studies[number] = list(rows_of(study_one(open_run(folder, where, code), "", code, **how)))
        record[c.name] = means(studies)
        if len(studies) > 1:
            console.print(f"\n[bold]{markup(c.name)}[/]: means over {len(studies)} seeds, ± the standard deviation")
            print_rows(console, (spread(*item) for item in record[c.name].items()))
    target = Path(run) / MEANS
    born = birth_certificate([*sorted({number for c in found for number in c.seeds}), seed])
    files.write_json(target, finite({"means": record, "depth": depth, "born": born}))
    console.print(f"written to {markup(target)}")
    return 0


def study_one(
    opened: OpenedRun, out: str, code: Code, *, data: str, depth: int, control: tuple[str, ...], limit: int, seed: int,
    why: str,
) -> dict[str, Any]:  # fmt: skip
    """Measure one run, write study.json and figures, and print the main numbers; returns what was found."""
    from innerloop.show import plots
    from innerloop.study import survey

    where = next(opened.loop.parameters()).device
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
    print_rows(console, rows_of(found))
    console.print(
        f"written to {markup(folder / 'study.json')} and {len(written)} figures in {markup(folder / 'figures')}"
    )
    return found


def matching_loop(folder: str, opened: OpenedRun, where: Any, code: Code) -> Any:
    """The loop of another run, if it takes the same puzzles."""
    other = open_run(folder, where, code)
    if other.task.name != opened.task.name or other.task.shape != opened.task.shape:
        raise InputError(
            f"{folder} was trained on another task, or another size of it, than {opened.folder}: compare alike ones"
        )
    return other.loop


class Row(NamedTuple):
    """A number of a study."""

    name: str
    value: float
    share: bool = False  # shown in percent
    note: str = ""  # what stands behind it


def rows_of(found: dict[str, Any]) -> Iterator[Row]:
    """The main numbers of a study."""
    for kind, share in found["fates"].items():
        yield Row(kind, share["value"], True, span_of(share))
    for row in found["filled"]:
        name = "solved boards" if not row["blanks"] else f"{row['blanks']} empty place{'s' * (row['blanks'] > 1)}"
        stay = f"right at every step {row['always']['value']:.1%}"
        yield Row(name, row["solved"]["value"], True, f"{span_of(row['solved'])}; {stay}")
    for slot, values in found["residuals"]["slots"].items():
        if "spike" in values:
            yield Row(f"falls within a cycle, slot {slot}", values["fall"], note="times")
            yield Row(f"leaps after it, slot {slot}", values["spike"], note="times")
    for name, by_slot in found["dimension"].items():
        for slot, each in by_slot.items():
            if each[-1]["high"] is None:  # a slot in which puzzles do not differ
                continue
            span = f"{each[-1]['low']:.1f} to {each[-1]['high']:.1f}, n {each[-1]['n']}, d {each[-1]['d']}"
            yield Row(f"dimension of {slot}, {name}", each[-1]["corrected"], note=span)
    for slot, read in found["cells"].get("slots", {}).items():
        said = f"{span_of(read[-1])}, shuffled {read[-1]['control']:.1%}"
        yield Row(f"open cells read from {slot}", read[-1]["accuracy"], True, said)


def span_of(share: dict[str, float]) -> str:
    """The interval of a share, in percent."""
    return f"{100 * share['low']:.1f} to {100 * share['high']:.1f}"


def print_rows(console: Console, rows: Iterable[Row]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    for row in rows:
        value = f"{row.value:.1%}" if row.share else f"{row.value:.1f}"
        table.add_row(markup(row.name), value, f"[dim]{markup(row.note)}[/]")
    console.print(table)


def means(studies: dict[int, list[Row]]) -> dict[str, Any]:
    """Name -> mean and spread over seeds of every number that all studies have, by seed."""
    by_seed = {seed: {row.name: row for row in rows} for seed, rows in studies.items()}
    first, *others = by_seed.values()
    made = {}
    for name, row in first.items():
        if all(name in other for other in others):
            values = {seed: rows[name].value for seed, rows in by_seed.items()}
            mean = mean_over_runs(list(values.values()))
            made[name] = {"share": row.share, **mean._asdict(), "by_seed": values}
    return made


def spread(name: str, known: dict[str, Any]) -> Row:
    """A mean over seeds, its standard deviation and 95 % interval."""
    scale, unit = (100, " points") if known["share"] else (1, "")
    sd, low, high = (scale * known[key] for key in ("sd", "low", "high"))
    return Row(name, known["value"], known["share"], f"± {sd:.1f}{unit}, the mean {low:.1f} to {high:.1f}")
