"""`demo`: train a small model, evaluate it over depth, show one solve, write a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

from innerloop import files
from innerloop.cli.drawing import instructive_row, plot, report
from innerloop.cli.inputs import choose_device, open_run, read_run
from innerloop.cli.judging import eval_record, print_rows
from innerloop.cli.solving import choose_rule, solve_one
from innerloop.cli.training import train
from innerloop.learn.evaluate import evaluate
from innerloop.learn.lock import lock_folder
from innerloop.runs.fit import load_data, unseen_puzzles
from innerloop.runs.solving import solver_of
from innerloop.runs.training import RESULT, delete_run_files
from innerloop.text import command, markup

DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)
TEST_PUZZLES = 500  # puzzles to judge


def demo(recipe: str = "demo", out: str = "runs/demo", set: tuple[str, ...] = (), device: str = "auto") -> int:
    """Train a small model on Sudoku, turn the depth dial, watch it solve a puzzle, write a report.

    Example:  innerloop demo

    Example:  innerloop demo --recipe sudoku4 --out runs/quick

    Args:
        recipe: Recipe to train.
        out: Folder of the run. A finished demo there is replaced; an interrupted one goes on.
        set: Fields to change, such as plan.steps=500.
        device: auto, cpu or cuda.
    """
    console, folder = Console(emoji=False, highlight=False, soft_wrap=True), Path(out)
    with lock_folder(folder):
        if (folder / RESULT).exists() and read_run(folder).name == recipe:
            delete_run_files(folder)
        console.print(Rule("1  learn", align="left"))
        code = train(recipe, out=out, set=set, device=device)
    if code:
        return code
    console.print(Rule("2  turn the depth dial, on new puzzles that neither trained nor chose the model", align="left"))
    where, _ = choose_device(device)
    opened = open_run(out, where)
    examples = unseen_puzzles(opened.task, load_data(opened.run.data, folder)[1], opened.run.data, TEST_PUZZLES)
    loop: Any = opened.loop
    with console.status("evaluating"):
        rows = evaluate(loop, opened.task, examples, DEPTHS, device=where)
        rows += evaluate(loop, opened.task, examples, DEPTHS[-1:], halting=(True,), device=where)
    files.write_json(folder / "eval.json", eval_record(opened, examples, rows, 0, (0.0, 0.0)))
    print_rows(Console(emoji=False, highlight=False), rows)
    console.print(Rule("3  watch one being solved", align="left"))
    row = instructive_row(opened, examples)
    solver = solver_of(opened)
    solve_one(solver, examples.take([row]), {"depth": 16, "pick": choose_rule(solver, "auto")}, examples.labels[row])
    console.print(Rule("4  keep it", align="left"))
    plot((out,))
    report(out)
    question = opened.task.decode(examples.inputs[row])
    console.print(f"\nopen [bold]{markup((folder / 'report.html').resolve())}[/] in a browser. Then try:")
    for words in (
        ("solve", out, question),
        ("eval", out, "--depth", "1,4,16,64", "--halt", "both"),
        ("train", recipe, "--data", "your_puzzles.csv", "--out", "runs/yours"),
    ):
        console.print("  " + markup(command(*words), 4096))
    return 0
