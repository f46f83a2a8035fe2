"""The results about loops in the tokens: a section of docs/results.md, and the tables of docs/tokens.md."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from marked import between, born, table

RESULTS = Path(__file__).resolve().parents[1] / "results"
NAMES = ("where", "compared", "own_model", "macros", "wait", "decoding", "ledger", "first_run", "interrupted")
MODES = ("direct", "chain", "dots")


def shares(values: list[float]) -> str:
    """Per cent: a mean, and the least and the most of several seeds."""
    low, high, mean = min(values), max(values), statistics.mean(values)
    same = round(100 * low) == round(100 * high)
    return f"{100 * mean:.0f}" if same else f"{100 * mean:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def counted(seeds: list[Any]) -> str:
    """How many seeds, and what cells tell of them."""
    return f"{len(seeds)} seed{'s' * (len(seeds) > 1)}: mean, least and most"


def compared(value: dict[str, Any]) -> list[str]:
    """The table of `innerloop compare`, with verdicts."""
    rows = []
    for row in value["rows"]:
        paired = row["against_null"]
        verdict = "" if paired is None else paired["verdict"]
        against = "" if paired is None else f"{100 * row['null_accuracy']:.1f}"
        name = f"samples of {value['null']}, as many as the budget buys" if paired is None else f"`{row['name']}`"
        rows.append(
            [
                name, f"{100 * row['accuracy']:.1f} ({100 * row['low']:.0f} to {100 * row['high']:.0f})",
                f"{row['spent']['tokens']:.1f}", against, verdict,
            ]
        )  # fmt: skip
    low, high = value["steps"]
    return [
        *table(["way to think", "% right", "tokens a question", "as much on samples, %", "verdict"], rows),
        f"{value['rows'][0]['n']} held-out questions of {low} to {high} steps of arithmetic, a model of "
        f"{value['subject']['parameters']:,} parameters, one seed; verdicts by McNemar's test, Holm over the ways.",
        "",
        f"- {born(value)}",
        "",
    ]


def own_model(value: dict[str, Any]) -> list[str]:
    """Accuracy of every mode by number of steps, and bits per character beside n-grams."""
    rows = value["rows"]
    lengths = sorted({r["steps"] for r in rows[0]["accuracy"]})
    by = {
        (mode, steps): [
            r["right"] / r["questions"]
            for row in rows
            for r in row["accuracy"]
            if (r["mode"], r["steps"]) == (mode, steps)
        ]
        for mode in MODES
        for steps in lengths
    }
    cells = rows[0]["accuracy"]
    minutes = statistics.mean(r["cpu_minutes"] for r in rows)
    best = min(rows[0]["ngram_bits"], key=lambda order: statistics.mean(r["ngram_bits"][order] for r in rows))
    bits, floor = (statistics.mean(v) for v in ([r["bits"] for r in rows], [r["ngram_bits"][best] for r in rows]))
    return [
        f"% right on {cells[-1]['questions']} held-out questions a cell ({cells[0]['questions']} of one step, which "
        f"are all), {len(rows)} seed{'s' * (len(rows) > 1)}: mean, least and most. The model has "
        f"{rows[0]['subject']['parameters']:,} parameters and learned from {rows[0]['texts']:,} texts of 1 to 6 steps "
        f"in {minutes:.1f} CPU minutes on average; 7 to 10 steps are longer than any it saw.",
        "",
        *table(["steps", *MODES], [[steps, *(shares(by[mode, steps]) for mode in MODES)] for steps in lengths]),
        f"Right responses to held-out questions cost it {bits:.3f} bits a character; the best n-gram model of the same "
        f"texts, of order {best}, {floor:.3f}.",
        "",
        f"- {born(value)}",
        "",
    ]


def where(value: dict[str, Any]) -> list[str]:
    """Loops in the weights, in the tokens and around them, over seeds."""
    seeds = value["rows"]
    shown = []
    for rows in zip(*(seed["rows"] for seed in seeds), strict=True):
        row = rows[0]
        accuracy, cost = [r["accuracy"] for r in rows], statistics.mean(r["spent"]["flops"] for r in rows)
        null = row["against_null"] is None
        against = "" if null else shares([r["null_accuracy"] for r in rows])
        verdicts = [] if null else [r["against_null"]["verdict"] for r in rows]
        told = ", ".join(f"{v} {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
        name = "samples of plain: direct, as many as the budget buys" if null else row["name"]
        shown.append([name, shares(accuracy), f"{cost / 1e6:.1f}", against, told])
    first, n = seeds[0], seeds[0]["rows"][0]["n"]
    return [
        *table(["way", "% right", "MFLOPs a question", "as much on samples, %", "verdict, seeds"], shown),
        f"{n} held-out questions of 1 to 6 steps, {counted(seeds)}. Plain is three layers with "
        f"{first['plain']['parameters']:,} parameters; looped has {first['looped']['parameters']:,}, and runs its one "
        f"layer 8 times at every token. Both learned all three modes in {first['plain']['steps']:,} optimizer steps; "
        "one of looped costs 8/3 of the FLOPs. Verdicts are against samples of plain that cost as much.",
        "",
        f"- {born(value)}",
        "",
    ]


def macros(value: dict[str, Any]) -> list[str]:
    """Chains with macros that were mined, and with others, beside chains as they are."""
    seeds = value["rows"]
    shown = []
    for rows in zip(*(seed["rows"] for seed in seeds), strict=True):
        right, tokens = shares([r["right"] / r["n"] for r in rows]), statistics.mean(r["tokens_out"] for r in rows)
        texts = " ".join(f"`{text}`" for text in rows[0]["texts"].values())
        shown.append([rows[0]["macros"], right, f"{tokens:.1f}", texts])
    head = ["macros", "% right", "tokens written a question", "those of the first seed"]
    return [
        *table(head, shown),
        f"{seeds[0]['rows'][0]['n']} held-out questions of 1 to 6 steps, {counted(seeds)}; every model learned for as "
        "many optimizer steps.",
        "",
        f"- {born(value)}",
        "",
    ]


def first_run(value: dict[str, Any]) -> list[str]:
    """Seconds of the first comparison with a real model, and how often its samples are right."""
    (row,) = value["rows"]
    kinds = {"one_sample": "one sample", "majority_of_8": "majority of 8", "any_of_8": "any of 8"}
    shown = []
    for key, name in kinds.items():
        share = row[key]
        right, low, high = (100 * x for x in (share["right"] / share["n"], share["low"], share["high"]))
        shown.append([name, f"{right:.0f} ({low:.0f} to {high:.0f})"])
    return [
        *table([value["model"], "% right"], shown),
        f"{row['questions']} one-digit products, three ways and the null arm: {row['median']:.0f} s, the median of "
        f"{len(row['seconds'])} runs without network; {row['tokens']:,.0f} tokens, {row['tokens_a_second']:.0f} a "
        "second.",
        "",
        f"- {born(value)}",
        "",
    ]


def interrupted(value: dict[str, Any]) -> list[str]:
    """Comparisons that were killed again and again, beside one that nobody touched."""
    rows = [
        [r["kills"], r["requests_with_kills"], r["requests"], r["under_way_at_most"], r["paid_twice"],
         "yes" if r["equal"] else "no"]
        for r in value["rows"]
    ]  # fmt: skip
    head = ["kills", "requests", "requests without kills", "under way at a kill, at most", "paid twice", "equal result"]
    return [*table(head, rows), f"- {born(value)}", ""]


def wait(value: dict[str, Any]) -> list[str]:
    """Accuracy over forced rechecks beside the law."""
    rows = value["rows"]
    waits = [r["waits"] for r in rows[0]["accuracy"]]
    shown = []
    for row in rows:
        cells = [f"{100 * r['right'] / r['samples']:.0f} ({100 * r['law']:.0f})" for r in row["accuracy"]]
        shown.append([row["model"], row["seed"], f"{row['p0']:.2f}", f"{row['q']:.2f}", f"{row['b']:.3f}", *cells])
    inside = sum(r["within"] for row in rows for r in row["accuracy"])
    return [
        "% right after so many rechecks, and in brackets what the law says from p0, q and b, which were measured on "
        f"other samples; {inside} of {len(rows) * len(waits)} lie within the interval of what was measured.",
        "",
        *table(["learned from traces that", "seed", "p0", "q", "b", *map(str, waits)], shown),
        f"- {born(value)}",
        "",
    ]


def decoding(value: dict[str, Any]) -> list[str]:
    """Rates beside transformers, and mixed lengths beside the ideal."""
    head = ["width", "parameters", "tokens a second", f"transformers {value['transformers']}", "ratio",
            "mixed lengths, of the ideal", "largest difference without a cache"]  # fmt: skip
    rows = [
        [
            r["width"], f"{r['parameters']:,}", f"{r['ours']:,.0f}", f"{r['transformers']:,.0f}", f"{r['ratio']:.1f}",
            f"{r['of_ideal']:.0%}", f"{r['twin']:.1e}",
        ]
        for r in value["rows"]
    ]  # fmt: skip
    first = value["rows"][0]
    return [
        f"{first['layers']} layers, float32, {first['batch']} texts at once, prompts of {first['prompt']} tokens, "
        f"{first['new']} new ones; medians of {len(first['repeats'])} turns in one process.",
        "",
        *table(head, rows),
        f"- {born(value)}",
        "",
    ]


def ledger(value: dict[str, Any]) -> list[str]:
    """What a thousand random programs were charged, beside the server's own counts."""
    head = ["programs", "replies lost", "requests", "tokens charged", "tokens the server counted", "overshoot of a cap"]
    rows = [
        [
            f"{r['programs']:,}", f"{100 * r['losses']:.0f} %", f"{r['requests']:,}",
            f"{r['ledger']['tokens_in'] + r['ledger']['tokens_out']:,}",
            f"{r['server']['tokens_in'] + r['server']['tokens_out']:,}", f"{r['overshoot']:g}",
        ]
        for r in value["rows"]
    ]  # fmt: skip
    return [*table(head, rows), f"- {born(value)}", ""]


def section(values: dict[str, Any]) -> list[str]:
    """Of docs/results.md."""
    lines = ["## Loops in the tokens", ""]
    for name in NAMES:
        if name in values:
            lines += [f"### {name}", "", *globals()[name](values[name])]
    return lines if len(lines) > 2 else []


def first(text: str) -> str:
    """README with the comparison that it shows."""
    path = RESULTS / "compared.json"
    return between(text, "compared", compared(json.loads(path.read_text()))[:-3]) if path.exists() else text


def page(text: str) -> str:
    """docs/tokens.md with its tables renewed."""
    for name in NAMES:
        path = RESULTS / f"{name}.json"
        if path.exists():
            text = between(text, name, globals()[name](json.loads(path.read_text()))[:-1])
    return text
