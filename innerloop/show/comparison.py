"""A comparison of ways to think as one self-contained page: table, accuracy against spending, traces side by side.

    files.write_text("compare.html", page(result))        # result: the JSON that `innerloop compare` writes

Plain HTML and one SVG, for light and dark; nothing is loaded and nothing runs. Questions on which the ways disagree
come first. All texts of models are escaped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from innerloop.study.verdict import ItemComparison

__all__ = ["amount", "chart", "page", "verdict_words"]

MOST_QUESTIONS, LONGEST = 200, 2000  # shown on the page; characters of a text
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 340, 48, 190, 16, 44  # pixels of the chart and its margins
LINE = 15  # between two labels
MARKS = {"right": "right", "wrong": "wrong", "unparsed": "no answer found", "cut": "cut off"}
STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#59636e;--page:#fff;--line:#d6dbe1;--soft:#f4f6f8;--right:#006b4a;
--wrong:#a33100;--cut:#7a5b00;--mark:#0060a8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--dim:#9aa4ae;--page:#14171a;--line:#363c43;--soft:#1d2126;
--right:#4cc79c;--wrong:#ff8d5c;--cut:#e0b84a;--mark:#6cb8f0}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;padding:20px;
max-width:1200px}
h1{font-size:1.4rem;margin:0 0 .3em}h2{font-size:1.1rem;margin:1.6em 0 .4em}p,li{max-width:75ch}.dim{color:var(--dim)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:500;color:var(--dim)}th:first-child,td:first-child{text-align:left}
svg{width:100%;max-width:720px;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .dim{fill:var(--dim)}svg .axis{stroke:var(--line)}svg .null{stroke:var(--dim);fill:none}
svg .lead{stroke:var(--line)}
svg .arm{fill:var(--mark);stroke:var(--page)}svg .bar{stroke:var(--mark)}svg .best{fill:var(--right)}
details{border:1px solid var(--line);border-radius:6px;margin:6px 0}
summary{cursor:pointer;padding:6px 10px;overflow-wrap:anywhere}
.ways{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,230px),1fr));gap:10px;padding:0 10px 10px}
.way{background:var(--soft);border-radius:6px;padding:8px 10px;min-width:0}.way h3{font-size:.9rem;margin:0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.45 ui-monospace,monospace;margin:.4em 0;max-height:22em;
overflow-y:auto}
.right{color:var(--right)}.wrong{color:var(--wrong)}.cut,.unparsed{color:var(--cut)}
"""


def page(result: Mapping[str, Any]) -> str:
    """The page of a result, as HTML."""
    rows, unit = result["rows"], result["unit"]
    born = result["born"]
    title = f"Ways to think, compared: {result['model']}"
    head = f"{rows[0]['n']} questions, {amount(result['limits'][unit])} {unit} at most for each, in every way"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="dim">{escape(head)}. The null arm spends the same on independent samples of {escape(str(result["null"]))}.</p>
<div class="wide">{table(result)}</div>
{verdicts(rows)}
<h2>Accuracy against spending</h2>
{chart(result)}
<p class="dim">Dashes: the majority of 1, 2, 3, ... samples of the null arm. Bars: 95 % intervals. Green: nothing
cheaper is as good.</p>
<h2>Traces</h2>
{traces(result)}
<p class="dim">{escape(str(born.get("command", "")))} · commit {escape(str(born.get("commit", "")))} · innerloop
{escape(str(born.get("innerloop", "")))}</p>
</body></html>
"""


def table(result: Mapping[str, Any]) -> str:
    """One row a way."""
    unit = result["unit"]
    head = ("way", "right %", "95 % interval", "unparsed", "cut off", f"{unit} of one", "as much on samples %")
    lines = []
    for row in result["rows"]:
        against = "" if row["null_accuracy"] is None else f"{100 * row['null_accuracy']:.1f}"
        cells = [
            row["name"] + " *" * row["on_frontier"], f"{100 * row['accuracy']:.1f}",
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f}", row["marks"]["unparsed"], row["marks"]["cut"],
            amount(row["spent"].get(unit, 0)), against,
        ]  # fmt: skip
        lines.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{escape(h)}</th>' for h in head)}</tr>{''.join(lines)}</table>"


def verdict_words(null_samples: int, paired: ItemComparison) -> str:
    """A verdict against so many samples of the null arm, with the difference, its interval and p."""
    word = "against" if paired.verdict == "undecided" else "than"
    points = f"{100 * paired.difference:+.1f} points, {100 * paired.low:+.1f} to {100 * paired.high:+.1f}"
    more = ""
    if paired.verdict == "undecided" and paired.items_needed is not None:
        more = f"; about {paired.items_needed:,} questions would decide"
    samples = f"{null_samples} sample{'s' * (null_samples != 1)}"
    return f"{paired.verdict} {word} {samples} ({points}, {p_value(paired.adjusted)}{more})"


def verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each way against as many null samples as cost the same."""
    lines = []
    for row in rows:
        if row["against_null"] is not None:
            said = verdict_words(row["null_samples"], ItemComparison(**row["against_null"]))
            lines.append(f"<li>{escape(row['name'])}: {escape(said)}</li>")
    return f"<ul>{''.join(lines)}</ul>"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def amount(value: float) -> str:
    """A spending for people."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**4, "k")):
        if value >= size:
            return f"{value / (1000 if letter == 'k' else size):.3g}{letter}"
    return f"{value:,.4g}"


# -- the chart --------------------------------------------------------------------------------------------------------


def chart(result: Mapping[str, Any]) -> str:
    """Accuracy over spending, on a logarithmic axis, as an SVG."""
    unit = result["unit"]
    arms = [row for row in result["rows"] if row["against_null"] is not None]
    curve = [(spent, right) for _, spent, right in result["null_curve"] if spent > 0]
    spendings = [row["spent"].get(unit, 0) for row in arms] + [spent for spent, _ in curve]
    spendings = [s for s in spendings if s > 0] or [1.0]
    low, high = math.log10(min(spendings)) - 0.08, math.log10(max(spendings)) + 0.08
    x = lambda s: LEFT + (math.log10(max(s, 1e-12)) - low) / (high - low) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    y = lambda a: TOP + (1 - a) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    parts = [axes(x, y, low, high, unit)]
    if curve:
        points = " ".join(f"{x(s):.1f},{y(a):.1f}" for s, a in curve)
        parts.append(f'<polyline class="null" stroke-dasharray="4 3" points="{points}"/>')
    for row in arms:
        at, best = x(row["spent"].get(unit, 0)), " best" * row["on_frontier"]
        parts.append(
            f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{y(row["low"]):.1f}" y2="{y(row["high"]):.1f}"/>'
            f'<circle class="arm{best}" cx="{at:.1f}" cy="{y(row["accuracy"]):.1f}" r="5"/>'
        )
    parts.append(labels([(x(r["spent"].get(unit, 0)), y(r["accuracy"]), r["name"]) for r in arms]))
    said = escape(f"Accuracy of {len(arms)} ways to think over {unit} of a question")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{"".join(parts)}</svg>'


def axes(x: Any, y: Any, low: float, high: float, unit: str) -> str:
    """Lines and numbers of both axes."""
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(share):.1f}" y2="{y(share):.1f}"/>')
        parts.append(f'<text class="dim" x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= math.log10(m * 10.0**d) <= high]
    while len(ticks) > 8:
        ticks = ticks[::2]
    for tick in ticks:
        parts.append(
            f'<text class="dim" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{amount(tick)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(unit)} of a question</text>')
    return "".join(parts)


def labels(places: Sequence[tuple[float, float, str]]) -> str:
    """Names at the right of the chart, none over another, each with a line to its dot."""
    parts, free = [], float(TOP)
    for at, height, name in sorted(places, key=lambda p: (p[1], -p[0])):
        line = max(height, free)
        free = line + LINE
        short = name if len(name) <= 26 else name[:25] + "…"
        parts.append(
            f'<line class="lead" x1="{at + 7:.1f}" y1="{height:.1f}" x2="{WIDTH - RIGHT + 8}" y2="{line:.1f}"/>'
            f'<text x="{WIDTH - RIGHT + 12}" y="{line + 4:.1f}">{escape(short)}</text>'
        )
    return "".join(parts)


# -- traces -----------------------------------------------------------------------------------------------------------


def traces(result: Mapping[str, Any]) -> str:
    """Every question with what each way wrote; those on which the ways disagree first."""
    arms = result["arms"]
    count = len(arms[0]["items"])
    differ = [len({arm["items"][i]["mark"] == "right" for arm in arms}) for i in range(count)]
    order = sorted(range(count), key=lambda i: (-differ[i], i))
    shown = order[:MOST_QUESTIONS]
    asked = result.get("asked", {})
    left = f"<p class='dim'>{count - len(shown)} more are in compare.json.</p>" if len(shown) < count else ""
    return "".join(question(arms, i, asked, open_=n == 0) for n, i in enumerate(shown)) + left


def question(arms: Sequence[Mapping[str, Any]], i: int, asked: Mapping[str, Any], open_: bool) -> str:
    """One question."""
    name = arms[0]["items"][i]["id"]
    text = asked.get(name, {})
    right = f" · right: {text['answer']}" if text.get("answer") else ""
    head = f"{name}: {text.get('question', '')}{right}"[: LONGEST // 4]
    marks = Counter(arm["items"][i]["mark"] for arm in arms)
    told = ", ".join(f"{n} {MARKS[mark]}" for mark, n in marks.most_common())
    ways = "".join(way(arm["name"], arm["items"][i]) for arm in arms)
    return (
        f"<details{' open' * open_}><summary>{escape(head)} <span class='dim'>({escape(told)})</span></summary>"
        f"<div class='ways'>{ways}</div></details>"
    )


def way(name: str, item: Mapping[str, Any]) -> str:
    """What a way wrote, and its answer."""
    samples = item.get("samples") or []
    votes = Counter("none" if s["answer"] is None else str(s["answer"]) for s in samples)
    tally = ", ".join(f"{answer} ({n})" for answer, n in votes.most_common(8))
    winner = item.get("winner")
    text = item["text"] or (samples[winner]["text"] if winner is not None and winner < len(samples) else "")
    answer = "no answer" if item["answer"] is None else str(item["answer"])
    body = f"<pre>{escape(text[:LONGEST].strip())}{'…' * (len(text) > LONGEST)}</pre>" if text.strip() else ""
    return (
        f"<div class='way'><h3>{escape(name)}</h3>{body}"
        f"<div class='{item['mark']}'>{escape(answer)}: {MARKS[item['mark']]}</div>"
        f"{f'<div class=dim>answers: {escape(tally)}</div>' if tally else ''}</div>"
    )
