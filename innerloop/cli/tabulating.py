"""`table`: what runs reached, as means over seeds with spread, intervals and paired tests."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from innerloop import files
from innerloop.cli.inputs import parse_numbers, refuse_overwrite
from innerloop.errors import InputError
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.group import conditions
from innerloop.runs.summary import METRICS, SHARES, Comparison, Line, Setting, Summary, adjusted, summarise
from innerloop.schema import Count
from innerloop.show.tabular import finite, to_csv, to_latex
from innerloop.text import did_you_mean, markup, printable

FORMATS = {"text": ".txt", "csv": ".csv", "latex": ".tex", "json": ".json"}
LONG = ("run", "seeds", "depth", "width", "halting", "metric", "mean", "sd", "low", "high", "interval of", "by seed")
TESTS = (  # columns of CSV behind those of LONG, empty in rows without a test
    "baseline", "pairs", "difference", "difference low", "difference high", "p (t)", "p (Holm)", "p (signs)",
    "adjusted for",
)  # fmt: skip
HEADER = "made by innerloop table"
WHOLE = ("parameters", "train_steps")  # metrics that are whole numbers, equal for all seeds
WIDTH = 160  # columns of a table that goes to no terminal
NOTE = (
    "± is the standard deviation over seeds; the interval is of the mean over seeds (Student's t), or of the puzzles "
    "(Wilson, marked *) for one seed and where all seeds agree"
)


def table(
    runs: tyro.conf.Positional[tuple[str, ...]],
    metric: str = "exact",
    depth: str = "",
    validation: bool = False,
    format: str = "",
    out: str = "",
) -> int:
    """Tabulate runs: means over seeds, spread, 95 % intervals, and each against the first by paired tests.

    Example:  innerloop table runs/sudoku6

    Example:  innerloop table runs/sudoku6 runs/mine --format latex --out table.tex

    Args:
        runs: Folders of runs, or of several: those that differ in the seed alone make one row, the first the baseline.
        metric: What is compared: exact, valid, token, steps, nfe, train_steps, train_seconds or parameters.
        depth: Steps of thought to show, separated by commas; by default all that were evaluated.
        validation: The best validation of training, even where there is an eval.json.
        format: text, csv, latex or json; by default what the name of --out says.
        out: File for the table, instead of the terminal.
    """
    if not runs:
        raise InputError("no run is given: innerloop table RUN, such as runs/demo")
    if metric not in METRICS:
        raise InputError(f'--metric is "{printable(metric, 60)}": {did_you_mean(metric, METRICS)}')
    kind = format or next((k for k, suffix in FORMATS.items() if suffix == Path(out).suffix), "text")
    if kind not in FORMATS:
        raise InputError(f'--format is "{printable(format, 60)}": use one of {", ".join(FORMATS)}')
    if out:
        refuse_overwrite(Path(out), lambda path: read_table(path, kind))
    summary = at_depths(summarise(conditions([Path(run) for run in runs]), metric, validation), depth)
    if kind == "text":
        written = plain_text(summary) if out else ""
    else:
        written = {"csv": as_csv, "latex": as_latex, "json": as_json}[kind](summary)
    if out:
        files.write_text(out, written)
        print(out)
    elif written:
        print(written, end="")
    else:
        print_summary(summary)
    return 0


def at_depths(summary: Summary, depth: str) -> Summary:
    """The lines and comparisons at the depths that --depth lists, or all; p is adjusted for what is left."""
    if not depth:
        return summary
    depths = parse_numbers(depth, "--depth", Count)
    lines = [line for line in summary.lines if line.setting.depth in depths]
    if not lines:
        known = ", ".join(map(str, sorted({line.setting.depth for line in summary.lines})))
        raise InputError(f"--depth {printable(depth, 60)}: these runs were evaluated at {known}")
    left = [c for c in summary.comparisons if c.setting.depth in depths]
    return summary._replace(lines=lines, comparisons=adjusted(left))


# -- text and LaTeX ---------------------------------------------------------------------------------------------------


def cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) for a reader: one row for each condition and setting; all metrics are in CSV and JSON."""
    groups: dict[tuple[str, Setting], dict[str, Line]] = {}
    for line in summary.lines:
        groups.setdefault((line.name, line.setting), {})[line.metric] = line
    wide, halts = any(s.width > 1 for _, s in groups), any(s.halting for _, s in groups)
    lengths = {f["train_steps"].mean.value for f in groups.values() if "train_steps" in f}
    costs = [*["train_steps"] * (len(lengths) > 1), "train_seconds", "parameters"]
    more = [m for m in costs if any(m in found for found in groups.values())]
    more = ["steps"] * halts + [m for m in more if m != summary.metric]
    columns = ["run", "seeds", "depth", *["width"] * wide, *["halting"] * halts, summary.metric, "95 % interval", *more]
    rows = []
    for (name, setting), found in groups.items():
        row = [name, str(len(next(iter(found.values())).values)), str(setting.depth)]
        row += [f"{setting.width} {setting.pick}" if setting.width > 1 else "1"] * wide
        row += ["its own" if setting.halting else "all steps"] * halts
        main = found.get(summary.metric)
        row += [with_spread(main), interval(main)] if main else ["unknown", ""]
        rows.append([*row, *(with_spread(found[m]) if m in found else "" for m in more)])
    return [c.replace("_", " ") for c in columns], rows


def with_spread(line: Line) -> str:
    """ "99.2 ± 0.3 %": the mean, and the standard deviation over seeds where there are several."""
    several = line.mean.n > 1 and line.metric not in WHOLE
    spread = f" ± {number(line.metric, line.mean.sd)}" if several else ""
    return number(line.metric, line.mean.value) + spread + " %" * (line.metric in SHARES)


def number(metric: str, value: float) -> str:
    """A share in percent, without its sign; parameters whole; others with one decimal."""
    return f"{100 * value:.1f}" if metric in SHARES else f"{value:,.0f}" if metric in WHOLE else f"{value:,.1f}"


def interval(line: Line) -> str:
    if not line.of:
        return ""
    low, high = (number(line.metric, v) for v in (line.mean.low, line.mean.high))
    return f"{low} to {high}" + ("*" if line.of == "puzzles" else "")


def comparison_cells(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    columns = ["against the first", "seeds", "depth", "difference", "95 % interval", "p (t)", "p (Holm)", "p (signs)"]
    rows = []
    for c in comparisons:
        gap, unit = c.test.difference, " points" if c.metric in SHARES else ""
        signed = [f"{100 * min(max(v, -1), 1):+.1f}" if unit else f"{v:+,.1f}" for v in (gap.value, gap.low, gap.high)]
        own = f", {c.setting.width} wide" * (c.setting.width > 1) + ", its own halting" * c.setting.halting
        ps = ["" if math.isnan(p) else f"{p:.3f}" for p in (c.test.p, c.p_holm, c.test.p_signs)]
        row = [c.name, str(len(c.seeds)), f"{c.setting.depth}{own}", f"{c.metric} {signed[0]}{unit}"]
        rows.append([*row, f"{signed[1]} to {signed[2]}" if gap.sd else "no spread", *ps])
    return columns, rows


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """The tables and what they mean, to the terminal or another console."""
    console = console or Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for columns, rows in (cells(summary), comparison_cells(summary.comparisons)):
        if not rows:
            continue
        drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for i, column in enumerate(columns):
            drawn.add_column(column, justify="right" if i else "left", style="bold" if column == "exact" else "")
        for row in rows:
            drawn.add_row(*map(markup, row))
        console.print(drawn)
    for sentence in sentences(summary):
        console.print(f"[dim]{markup(sentence, 2000)}[/]", soft_wrap=True)


def sentences(summary: Summary) -> list[str]:
    """What a reader has to know besides."""
    places = list(dict.fromkeys(summary.puzzles.values()))
    judged = places if len(places) == 1 else [f"{name}: {where}" for name, where in summary.puzzles.items()]
    said = [f"judged on {'; '.join(judged)}", NOTE]
    if summary.comparisons:
        few = min(len(c.seeds) for c in summary.comparisons)
        said.append(
            f"tests are paired over common seeds; with {few} of them a sign test cannot be below {2 / 2**few:.3g}; "
            f"p (Holm) is adjusted for the {tested(summary.comparisons)} p (t) that are shown"
        )
    return [*said, *summary.notes]


def tested(comparisons: Sequence[Comparison]) -> int:
    """How many comparisons have a p, and are adjusted for."""
    return sum(not math.isnan(c.test.p) for c in comparisons)


def plain_text(summary: Summary) -> str:
    text = io.StringIO()
    print_summary(summary, Console(file=text, width=WIDTH, emoji=False, highlight=False, color_system=None))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def as_latex(summary: Summary) -> str:
    parts = [to_latex(*cells(summary), notes=[HEADER, *sentences(summary)])]
    if summary.comparisons:
        parts.append(to_latex(*comparison_cells(summary.comparisons)))
    return "\n".join(parts)


# -- CSV and JSON -----------------------------------------------------------------------------------------------------


def as_csv(summary: Summary) -> str:
    """One row for each condition, setting and metric, with its test against the first where there is one."""
    tests = {(c.name, c.setting, c.metric): c for c in summary.comparisons}
    rows = []
    for line in summary.lines:
        s, m = line.setting, line.mean
        own = [line.name, len(line.values), s.depth, s.width, "its own" if s.halting else "none", line.metric]
        values = " ".join(f"{seed}:{value!r}" for seed, value in line.values.items())
        row = [*own, m.value, m.sd, *((m.low, m.high) if line.of else (math.nan, math.nan)), line.of, values]
        c = tests.get((line.name, s, line.metric))
        rows.append([*row, *(test_cells(c, tested(summary.comparisons)) if c else [""] * len(TESTS))])
    return to_csv(LONG + TESTS, rows)


def test_cells(c: Comparison, count: int) -> list[Any]:
    """The cells of TESTS. count: of the comparisons for which p is adjusted."""
    gap = c.test.difference
    return [c.baseline, gap.n, gap.value, gap.low, gap.high, c.test.p, c.p_holm, c.test.p_signs, count]


def as_json(summary: Summary) -> str:
    lines = [
        {"run": x.name, **x.setting._asdict(), "metric": x.metric, **x.mean._asdict(), "interval_of": x.of}
        | {"by_seed": x.values}
        for x in summary.lines
    ]
    tests = [
        {"run": c.name, "baseline": c.baseline, **c.setting._asdict(), "metric": c.metric, "seeds": c.seeds}
        | {"difference": c.test.difference._asdict(), "p": c.test.p, "p_holm": c.p_holm, "p_signs": c.test.p_signs}
        | {"adjusted_for": tested(summary.comparisons)}
        for c in summary.comparisons
    ]
    seeds = sorted({seed for line in summary.lines for seed in line.values})
    value: dict[str, Any] = {"rows": lines, "comparisons": tests, "puzzles": summary.puzzles, "notes": summary.notes}
    return json.dumps(finite(value | {"born": birth_certificate(seeds)}), indent=2) + "\n"


def read_table(path: Path, kind: str) -> None:
    """Raise InputError unless `path` is an earlier table of this kind."""
    text = files.read_text(path)
    if kind == "json":
        value = files.parse_json(text, files.shown(path))
        ours = isinstance(value, dict) and {"rows", "comparisons", "born"} <= value.keys()
    elif kind == "csv":
        ours = text.startswith(",".join(LONG))  # an earlier version wrote no tests
    else:
        ours = text.startswith(f"% {HEADER}") if kind == "latex" else NOTE in text
    if not ours:
        raise InputError(f"{files.shown(path)} is no table")
