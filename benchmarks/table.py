"""Write docs/results.md and the tables of README and of the other pages of docs/ from results/*.json.

python benchmarks/table.py          # --check: only say whether the page is up to date
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import baseline_structure
import difficulty_page
import engine_page
import grids_page
import ladder_page
import ladder_table
import speed_page
import tokens_page
from marked import between, born, table

ROOT = Path(__file__).resolve().parents[1]
PAGE, README, DECIDES = ROOT / "docs" / "results.md", ROOT / "README.md", ROOT / "docs" / "solve_for_real.md"
RECIPE, LADDER = ROOT / "docs" / "recipe.md", ROOT / "results" / "ladder.jsonl"
STRUCTURE = ROOT / "results" / "baseline_structure.jsonl"
TOKENS = ROOT / "docs" / "tokens.md"
SPEED, SPEEDS = ROOT / "docs" / "speed.md", ("speed_cpu", "cost_cpu")
LONG = 1000  # what a page does not repeat of a file


def record(name: str, value: dict[str, Any]) -> list[str]:
    """A trained model's section: what it learned from, and its curve over depth."""
    train, test = value["train"], value["test"]
    lines = [f"### {name}", "", value["recipe"]["about"] + "."]
    reached = {k: v for k, v in value["seconds_to_validated_exact"].items() if v is not None}
    times = ", ".join(f"{k} after {v:.0f} s" for k, v in reached.items()) or "none of 90, 95, 98, 99 %"
    lines += [
        "",
        f"- learned from {train['puzzles']:,} puzzles ({train['source']}) in {train['seconds']:.0f} s of training, "
        f"{value['result']['steps']:,} steps, {value['parameters']:,} parameters",
        f"- validated exact accuracy reached: {times}",
        f"- tested on {test['source']}; {value['leakage']}",
        f"- trained depth {value['trained_depth']}; {value['selection']}",
        f"- {born(value, value['slices'][-1]['born']['command'])}",
        "",
    ]
    rows = []
    for r in value["rows"]:
        halting = "its own" if r["halting"] else "none"
        interval = f"{100 * r['low']:.1f} to {100 * r['high']:.1f}"
        cells = (
            r["depth"],
            f"{r['puzzles']:,}",
            halting,
            f"{r['exact']:.1%}",
            interval,
            "" if r["valid"] is None else f"{r['valid']:.1%}",
            f"{r['steps']:.1f}",
        )
        rows.append(cells)
    lines += table(["depth", "puzzles", "halting", "exact", "95 % interval", "valid", "mean steps"], rows)[:-1]
    hardest = value["rows"][0]["by_rating"]
    if len(hardest) > 1:
        shares = ", ".join(f"rating {k}: {v:.1%}" for k, v in hardest.items())
        lines += ["", f"Exact by difficulty, at depth {value['rows'][0]['depth']}: {shares}."]
    lines += ["", value["note"]] if value.get("note") else []
    if value["result"]["warnings"]:
        lines += ["", "Warnings of the run: " + "; ".join(value["result"]["warnings"]) + "."]
    return [*lines, ""]


def plain(name: str, value: dict[str, Any]) -> list[str]:
    """A benchmark's section: its rows as they are."""
    keys = list(dict.fromkeys(k for r in value["rows"] for k in r))
    show = lambda v: f"{v:.3g}" if isinstance(v, float) else str(v).replace("|", "/")  # noqa: E731
    rows = [[show(r.get(k, "")) for k in keys] for r in value["rows"]]
    lines = [f"### {name}", "", f"- {born(value)}", "", *table(keys, rows)[:-1]]
    for key, extra in value.items():
        told = json.dumps(extra)
        if key not in ("born", "rows") and len(told) < LONG:
            lines += ["", f"{key.replace('_', ' ')}: {told}"]
    return [*lines, ""]


def family(value: dict[str, Any]) -> list[str]:
    """The comparison of systems: one table a task, best first; mean over seeds, and the spread between them."""
    lines = [
        "Systems at matched parameters and training FLOPs ([how](../innerloop/recipes/family.py)); share of unseen",
        "puzzles whose answer obeys the rules: mean over seeds, and standard deviation between them. 1x is the deepest",
        "step a system was trained at. `own` is where its halting head is sure and its answer settled.",
        "",
        "![accuracy of every system over depth](family.svg)",
        "",
        f"- {born(value)}",
        "",
    ]
    for task in dict.fromkeys(r["task"] for r in value["rows"]):
        rows = [r for r in value["rows"] if r["task"] == task]
        systems = {s: [r for r in rows if r["system"] == s] for s in dict.fromkeys(r["system"] for r in rows)}
        harder = "harder_accuracy" in rows[0]
        head = ["system", "seeds", "parameters", "MFLOP a step", "steps", "seconds", "taped calls", "taped kB"]
        head += ["1x is", "at 1x", "2x", "4x", "8x", "own", "own steps", *["longer, 1x", "4x", "8x"] * harder]
        order = sorted(systems, key=lambda s: -statistics.mean(r["accuracy"][1] for r in systems[s]))
        lines += [f"#### {task}", "", *table(head, [family_row(s, systems[s], harder) for s in order])]
    return lines


def family_row(system: str, rows: list[dict[str, Any]], harder: bool) -> list[str]:
    first, mean = rows[0], lambda key: statistics.mean(r[key] for r in rows)
    curve = [[r["accuracy"][i] for r in rows] for i in range(1, 5)]
    cells = [system, str(len(rows)), f"{first['parameters']:,}", f"{first['MFLOP_per_example']:.0f}"]
    cells += [f"{first['optimizer_steps']:,}", f"{mean('seconds'):.0f}", str(first["taped_calls"])]
    cells += [f"{first['taped_kB_per_example']:.0f}", str(first["trained_depth"])]
    own = "own_steps" in first  # some have no halting head
    cells += [spread(c) for c in curve]
    cells += [spread([r["own_halting"] for r in rows]), f"{mean('own_steps'):.1f}"] if own else ["", ""]
    if harder:
        cells += [spread([r["harder_accuracy"][i] for r in rows]) for i in range(3)]
    return cells


def spread(shares: list[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{deviation}"


def coverage_command(name: str, task: str, setup: dict[str, Any]) -> str:
    """The command of such a result, which says its options as its setup."""
    names = ("steps", "depth", "samples", "sigma", "width", "batch", "lr", "puzzles", "limit")
    told = " ".join(f"--{k} {setup[k]}" for k in names) + f" --out results/{name}.json"
    file = f" --test {task}={setup['test'][task]}" if setup["test"] != "generated" else ""
    return f"coverage.py --tasks {task}{file} --beta {task}={setup['beta'][task]:g} {told}"


def covering(name: str, value: dict[str, Any]) -> list[str]:
    """How many of all solutions samples find: mean over seeds, and standard deviation between them."""
    rows = value["rows"]
    first, setup = rows[0], value["setup"]
    source = "the task" if setup["test"] == "generated" else setup["test"][first["task"]]
    lines = [
        f"### {name}",
        "",
        f"{first['test_puzzles']} puzzles of {source}, {first['solutions']:.1f} solutions each on average; "
        f"{setup['steps']:,} steps of training, depth {setup['depth']}, block `{setup['block']}`. Coverage is the "
        "share of all solutions found; the ceiling is what so many different right answers could find at best.",
        "",
        f"- {born(value, coverage_command(name, first['task'], setup))}",
        f"- setup: `{json.dumps(setup)}`",
        "",
    ]
    head = ["system", "samples", "coverage", "ceiling", "% valid", "different answers", "seeds", "seconds"]
    shown = []
    for system in dict.fromkeys(r["system"] for r in rows):
        for samples in sorted({r["samples"] for r in rows}):
            mine = [r for r in rows if (r["system"], r["samples"]) == (system, samples)]
            cells = [spread([r[k] for r in mine]) for k in ("coverage", "valid")]
            answers, seconds = (statistics.mean(r[k] for r in mine) for k in ("answers", "seconds"))
            ceiling = f"{100 * mine[0]['ceiling']:.1f}"
            shown.append([system, samples, cells[0], ceiling, cells[1], f"{answers:.1f}", len(mine), f"{seconds:.0f}"])
    return lines + table(head, shown)


# -- solving -----------------------------------------------------------------------------------------------------------


def within(row: dict[str, Any]) -> str:
    """A share with its interval."""
    return f"{100 * row['accuracy']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def solving(name: str, value: dict[str, Any]) -> list[str]:
    """Depth, width and rules: all rules at the best depth for one trajectory, and the best of each at equal cost."""
    rows = value["rows"]
    widths = sorted({r["width"] for r in rows})
    rules = [r for r in dict.fromkeys(r["rule"] for r in rows) if r not in ("oracle", "mean")]
    at = {(r["rule"], r["depth"], r["width"]): r for r in rows}
    deepest = max({r["depth"] for r in rows}, key=lambda d: (at["oracle", d, 1]["accuracy"], -d))
    lines = [
        f"### {name}",
        "",
        f"{value['test_puzzles']:,} puzzles ({value['data']}); {value['system']}, trained at depth "
        f"{value['trained_depth']}, {value['block_calls_a_step']} block calls a step. % solved, 95 % interval. "
        "`oracle`: some trajectory is right.",
        "",
        f"- {born(value)}",
        "",
        f"At depth {deepest}, where one trajectory is best, by width:",
        "",
    ]
    shown = [[rule, *(within(at[rule, deepest, w]) for w in widths)] for rule in [*rules, "oracle"]]
    lines += table(["rule", *map(str, widths)], shown)
    lines += ["At equal cost, the best that so many block calls a puzzle buy:", ""]
    alone = [r for r in rows if r["rule"] == "oracle" and r["width"] == 1]
    costs = [value["block_calls_a_step"] * 4**k for k in range(2, 8)]
    head = ["block calls", "depth alone", *rules, "oracle"]

    def best(some: list[dict[str, Any]], cost: float) -> str:
        fit = [r for r in some if r["nfe"] <= cost]
        top = max(fit, key=lambda r: (r["accuracy"], -r["nfe"]), default=None)
        return "" if top is None else f"{100 * top['accuracy']:.1f} ({top['depth']} x {top['width']})"

    some = {rule: [r for r in rows if r["rule"] == rule] for rule in [*rules, "oracle"]}
    return lines + table(head, [[f"{c:,}", best(alone, c), *(best(some[r], c) for r in some)] for c in costs])


def batching(name: str, value: dict[str, Any]) -> list[str]:
    """The engine against its rivals, and latency under load."""
    chosen = value["chosen"]
    lines = [
        f"### {name}",
        "",
        f"{value['test_puzzles']:,} puzzles ({value['data']}), {value['batch']} at once, full depth {value['depth']}. "
        f"On {value['validation_puzzles']:,} others: best fixed depth {chosen['fixed_depth']}, best fixed number of "
        f"rounds {chosen['rounds']} ({chosen['rounds_of_a_step']} are a step), halting by "
        f"{engine_page.rule(chosen['continuous'])}, verified {chosen['verified']['looks']} times a step; "
        f"{100 * value['slack']:.1f} points of accuracy may be lost.",
        "",
        f"- {born(value)}",
        "",
    ]
    head = ["policy", "% solved", "mean steps", "puzzles/s", "of the ideal", "against fixed", "against full"]
    rows = [
        [
            r["policy"], f"{100 * r['accuracy']:.1f}", f"{r['mean_steps']:.2f}",
            f"{r['puzzles_per_s']:.0f} ({r['low']:.0f} to {r['high']:.0f})", f"{100 * r['occupancy']:.0f} %",
            f"{r['against_fixed']:.2f}x", f"{r['against_full']:.2f}x",
        ]
        for r in value["rows"]
    ]  # fmt: skip
    lines += [*table(head, rows), "Puzzles that arrive at random moments:", ""]
    kept = [[r["policy"], r["load"], f"{r['rate']:.0f}", f"{r['p50_ms']:.0f}", f"{r['p99_ms']:.0f}"]
            for r in value["arrivals"]]  # fmt: skip
    return lines + table(["policy", "load", "puzzles/s", "p50 ms", "p99 ms"], kept)


def deciding(value: dict[str, Any]) -> list[str]:
    """Solver, model and hybrid: the table that decides."""
    lines = []
    for run in value["runs"]:
        trained = f", {run['training_seconds']:.0f} s of training" if run["training_seconds"] else ""
        lines += [
            f"### {run['run']}",
            "",
            f"{run['instances']:,} unseen instances of {run['task']}, {run['cells']} cells ({run['data']}); the model "
            f"({run['parameters']:,} parameters{trained}) thinks to "
            f"{dials(run, 'single')} for one instance, {dials(run, 'together')} for all together.",
            "",
            f"- {born(run)}",
            "",
        ]
        costly = any("gap" in r for r in run["rows"])
        rows = [
            [r["method"], f"{100 * r['valid']:.1f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})", *dear(r, costly)]
            for r in run["rows"]
        ]
        lines += table(["method", "% valid", *DEAR, *COSTLY * costly], rows)
    return lines


DEAR = ["solver calls", "p50 ms", "p99 ms", "mean ms", "a second, together", "solver calls then"]
COSTLY = ["cost above the best", "% best"]


def dear(row: dict[str, Any], costly: bool) -> list[str]:
    """What one method's answers cost."""
    cells = [f"{row['solver_calls']:,}", *(f"{row[k]:.1f}" for k in ("p50_ms", "p99_ms", "mean_ms"))]
    cells += [f"{row['per_second']:.0f}", f"{row['together_calls']:,}"]
    gap = (
        [f"{row['gap']:.2f} of {row['best_cost']:.1f}", f"{100 * row['best']:.1f}"]
        if row.get("gap") is not None
        else ["", ""]
    )
    return cells + gap * costly


def dials(run: dict[str, Any], how: str) -> str:
    d = run[how]["dials"]
    return f"depth {d['depth']} x width {d['width']}"


def decision(text: str) -> str:
    """docs/solve_for_real.md with its tables renewed: one a family of tasks, smallest first."""
    path = ROOT / "results" / "hybrid.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    lines: list[str] = []
    for task in dict.fromkeys(r["task"] for r in runs):
        mine = sorted((r for r in runs if r["task"] == task), key=lambda r: r["cells"])
        costly = any("gap" in r for run in mine for r in run["rows"])
        rows = [
            [run["run"] if i == 0 else "", r["method"], f"{100 * r['valid']:.1f}", *dear(r, costly)]
            for run in mine
            for i, r in enumerate(run["rows"])
        ]
        depths = "; ".join(f"`{r['run']}` {dials(r, 'single')}, together {dials(r, 'together')}" for r in mine)
        lines += [f"**{task}**, {mine[0]['instances']:,} instances each. {depths}.", ""]
        lines += table(["model", "method", "% valid", *DEAR, *COSTLY * costly], rows)
    return between(text, "decision", lines[:-1])


def page() -> str:
    """The whole page."""
    files = sorted((ROOT / "results").glob("*.json"))
    values = {p.stem: json.loads(p.read_text()) for p in files}
    lines = [
        "# Results",
        "",
        "Beside every number stands the command that measured it, with the commit it was run at; a later version may",
        "rename a flag. Results about a bundled model or a recipe are held to what ships, by a test. One seed a run",
        "unless several are listed; intervals are of the test sample (Wilson), not of the training seed. What failed",
        "is in [the log](log.md). DATA is a folder of puzzle sets, which are not in this repository; `runs/NAME` is",
        "what `innerloop train NAME` leaves.",
        "",
        "## Trained models",
        "",
    ]
    for name, value in values.items():
        if "recipe" in value and isinstance(value["recipe"], dict):
            lines += record(name, value)
    if "family" in values:
        lines += ["## The family compared", "", *family(values["family"])]
    for name, value in values.items():
        lines += covering(name, value) if name.startswith("coverage") else []
    lines += difficulty_page.section(values["difficulty"]) if "difficulty" in values else []
    lines += difficulty_page.trajectories(values["trajectories"]) if "trajectories" in values else []
    lines += ["## Solving", ""]
    for name, value in values.items():
        lines += solving(name, value) if name.startswith("solve_") else []
        lines += batching(name, value) if "arrivals" in value else []
        lines += deciding(value) if "runs" in value else []
    lines += tokens_page.section(values)
    lines += ["## Benchmarks", ""]
    for name, value in values.items():
        elsewhere = name in ("family", "difficulty", "trajectories", *SPEEDS, *tokens_page.NAMES)
        elsewhere |= name.startswith(("solve_", "coverage")) or "arrivals" in value or "runs" in value
        if not isinstance(value.get("recipe"), dict) and not elsewhere:
            lines += grids_page.section(value) if name == "grids" else plain(name, value)
    return "\n".join(lines)


def readme() -> str:
    """The README with its table of trained models renewed."""
    head = [
        "puzzles",
        "learned from",
        "training on a CPU",
        "solved at the trained depth",
        "of some of them: there, and far deeper",
    ]
    rows = []
    for path in sorted((ROOT / "results").glob("*.json")):
        value = json.loads(path.read_text())
        if not isinstance(value.get("recipe"), dict) or "_seed" in path.stem:
            continue
        fixed = [r for r in value["rows"] if not r["halting"]]
        source = value["train"]["source"].split(" with seed")[0]
        train = f"{value['train']['puzzles']:,}, " + ("generated" if source.endswith("generated") else f"`{source}`")
        seconds, threads = value["train"]["seconds"], value["born"]["threads"]
        time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
        whole, deepest = fixed[0], max(fixed, key=lambda r: r["depth"])
        if not deepest["exact"]:
            continue  # what was not learned stands in docs/log.md
        same = next(r for r in fixed[1:] if r["depth"] == whole["depth"])  # of the puzzles that were judged deeper
        deep = [
            f"**{whole['exact']:.1%}** ({100 * whole['low']:.1f} to {100 * whole['high']:.1f}) of "
            f"{whole['puzzles']:,} at {whole['depth']}",
            f"{same['exact']:.1%} to **{deepest['exact']:.1%}** ({100 * deepest['low']:.1f} to "
            f"{100 * deepest['high']:.1f}) of {deepest['puzzles']:,} at {deepest['depth']}",
        ]
        others = [json.loads(p.read_text())["rows"][0] for p in sorted(path.parent.glob(f"{path.stem}_seed*.json"))]
        if others:
            deep[0] += "; other seeds " + ", ".join(f"{r['exact']:.1%}" for r in others)
        rows.append([value["recipe"]["about"].split(",")[0], train, f"{time}, {threads} thread(s)", *deep])
    text = between(README.read_text(), "results", table(head, rows)[:-1])
    read = lambda name: json.loads(p.read_text()) if (p := ROOT / "results" / f"{name}.json").exists() else None  # noqa: E731
    text = between(tokens_page.first(text), "width", difficulty_page.width(read("trajectories")))
    return between(text, "difficulty", difficulty_page.short(read("difficulty")))


def main() -> None:
    engines = [json.loads(path.read_text()) for path in sorted((ROOT / "results").glob("engine_*.json"))]
    made = {TOKENS: tokens_page.page(TOKENS.read_text())}
    made |= {PAGE: page(), README: readme(), DECIDES: engine_page.page(decision(DECIDES.read_text()), engines)}
    speeds = [ROOT / "results" / f"{name}.json" for name in SPEEDS]
    if all(path.exists() for path in speeds):
        made[SPEED] = speed_page.page(SPEED.read_text(), *(json.loads(path.read_text()) for path in speeds))
    made |= {RECIPE: ladder_page.page(RECIPE.read_text(), ladder_table.read(LADDER))} if LADDER.exists() else {}
    if STRUCTURE.exists():
        made[RECIPE] = baseline_structure.page(made.get(RECIPE) or RECIPE.read_text(), ladder_table.read(STRUCTURE))
    if "--check" in sys.argv:
        stale = [path.name for path, text in made.items() if not path.exists() or path.read_text() != text]
        sys.exit(f"{', '.join(stale)}: stale, run benchmarks/table.py" if stale else 0)
    for path, text in made.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
