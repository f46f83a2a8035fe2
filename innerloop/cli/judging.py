"""`eval`: accuracy of a trained run over depths, widths and halting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table

from innerloop import files
from innerloop.cli.inputs import (
    NO_CODE,
    CodeFlags,
    RulesFile,
    RunFolder,
    choose_device,
    load_examples,
    next_command,
    open_run,
    parse_numbers,
    result_path,
    training_set_size,
    with_rules,
)
from innerloop.data.sets import fingerprint
from innerloop.errors import InputError
from innerloop.learn.evaluate import Row, as_dicts, evaluate
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.folder import OpenedRun
from innerloop.runs.group import find_runs, holds_runs
from innerloop.schema import Amount, Count, Range, Seed, Whole
from innerloop.text import markup

WidthArg = Annotated[int, Range(1, 4096)]  # trajectories of a puzzle, thought about at once
HALTS = {"off": (False,), "on": (True,), "both": (False, True)}


def eval_(
    run: RunFolder,
    data: str = "",
    depth: str = "1,4,16,64",
    width: str = "1",
    halt: str = "off",
    pick: str = "vote",
    noise: str = "0,0",
    limit: Whole = 0,
    seed: Seed = 0,
    device: str = "auto",
    out: str = "",
    rules: RulesFile = "",
    code: CodeFlags = NO_CODE,
) -> int:
    """Evaluate a run: accuracy over depth, width and halting, with 95 % intervals.

    Example:  innerloop eval runs/demo --depth 1,4,16,64 --halt both

    Example:  innerloop eval runs/sudoku6 --data examples/sudoku6_test.csv   # all runs in a folder, one by one

    Example:  innerloop eval runs/mine --data examples/sudoku4_test.csv --depth 16 --width 1,8 --noise 0.5,0 --pick q

    Args:
        run: Folder of a trained run, or of several.
        data: Puzzles to judge; without it those the run was validated on.
        depth: Steps of thought, separated by commas; independent of the depth of training.
        width: Trajectories a puzzle gets; above 1 they need --noise, or a system with noise of its own.
        halt: off: all steps; on: each puzzle stops by the model's own rule; both.
        pick: How several trajectories become one: vote, q (most confident), value, residual (steadiest), first to halt.
        noise: Standard deviations of the noise on the first state and on every step.
        limit: At most so many puzzles; 0: all.
        seed: Of the noise.
        device: auto, cpu or cuda.
        out: File of the result; by default eval.json in the run.
    """
    if halt not in HALTS:
        raise InputError(f'--halt is "{halt}": use on, off or both')
    depths, widths = parse_numbers(depth, "--depth", Count), parse_numbers(width, "--width", WidthArg)
    dials = {"halting": HALTS[halt], "pick": pick, "noise": parse_noise(noise), "seed": seed}
    where, why = choose_device(device)
    dials["device"] = where
    folders = find_runs(Path(run)) if holds_runs(Path(run)) else [run]
    if out and len(folders) > 1:
        raise InputError(f"{run} holds {len(folders)} runs, and --out is one file: leave it out")
    for folder in folders:
        if len(folders) > 1:
            print(f"\n{folder}")
        judge(with_rules(open_run(folder, where, code), rules), data, limit, out, (depths, widths), dials, why)
    if len(folders) > 1:
        print(f"next: {next_command('table', run)}")
    return 0


def judge(opened: Any, data: str, limit: int, out: str, sizes: Any, dials: dict[str, Any], why: str) -> None:
    """Evaluate one run, print the table and write the result. sizes: (depths, widths); dials: others of `evaluate`."""
    target = result_path(opened, out, "eval.json")
    examples = load_examples(opened, data, limit)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    chose = "" if data else ", the validation puzzles that chose these weights: --data FILE gives others"
    console.print(f"{len(examples):,} puzzles of {markup(examples.source)} on {markup(why)}{chose}")
    loop: Any = opened.loop
    with console.status("evaluating"):
        rows = evaluate(loop, opened.task, examples, *sizes, **dials)
    record = eval_record(opened, examples, rows, dials["seed"], dials["noise"])
    files.write_json(target, record | ({} if data else {"chose_weights": True}))
    print_rows(Console(emoji=False, highlight=False), rows)
    following = f"; next: [bold]{markup(next_command('plot', opened.folder), 4096)}[/]"
    console.print(f"written to {markup(target)}{following if opened.folder.is_dir() else ''}")


def parse_noise(noise: str) -> tuple[float, float]:
    """The two numbers of --noise."""
    scales = parse_numbers(noise, "--noise", Amount)
    if len(scales) != 2:
        raise InputError(f'--noise is "{noise}": give two numbers of 0 or more, for the first state and for every step')
    return scales[0], scales[1]


def eval_record(opened: OpenedRun, examples: Any, rows: Sequence[Row], seed: int, noise: Sequence[float]) -> Any:
    """What eval.json holds: the rows and what they need to be believed."""
    return {
        "data": examples.source,
        "test_puzzles": len(examples),
        "train_puzzles": training_set_size(opened.folder, opened.run),
        "trained_depth": opened.run.plan.trained_depth,
        "fingerprint": fingerprint(examples),
        "noise": list(noise),
        "rows": as_dicts(rows),
        "born": birth_certificate([opened.run.seed, seed]),
    }


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """The table of results, and a second one by difficulty where it is known."""
    wide, halts = any(r.width > 1 for r in rows), any(r.halting for r in rows)
    columns = ["depth", *["width"] * wide, *["halting"] * halts]
    rules = all(r.valid is not None for r in rows)
    columns += ["exact", "95 % interval", "token", *["valid"] * rules, "steps", "NFE", "seconds"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="right", style="bold" if column == "exact" else "", no_wrap=True)
    for r in rows:
        cells = [str(r.depth), *[f"{r.width} {r.pick}" if r.width > 1 else "1"] * wide]
        cells += [*["its own" if r.halting else "all steps"] * halts, f"{r.exact:.1%}"]
        cells += [f"{100 * r.low:.1f} to {100 * r.high:.1f}", f"{r.token:.1%}"]
        cells += [f"{r.valid:.1%}"] if rules else []
        table.add_row(*cells, f"{r.steps:.1f}", f"{r.nfe:.1f}", f"{r.seconds:.2f}")
    console.print(table)
    spans = list(dict.fromkeys(span for r in rows for span in r.by_rating))
    if len(spans) > 1:
        hard = Table(title="exact by difficulty", title_justify="left", box=None, pad_edge=False, header_style="dim")
        for column in ["depth", *spans]:
            hard.add_column(column, justify="right", no_wrap=True)
        for r in rows:
            name = str(r.depth) + (f" x {r.width}" if r.width > 1 else "") + (" (halting)" if r.halting else "")
            hard.add_row(name, *(f"{r.by_rating[s]:.1%}" if s in r.by_rating else "" for s in spans))
        console.print()
        console.print(hard)
