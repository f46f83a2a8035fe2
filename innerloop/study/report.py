"""One self-contained page about a run: what was trained, what came of it, and a puzzle to turn the depth dial on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from innerloop.learn import checkpoint
from innerloop.study.figures import depth_curve, inline_svg, learning_curve, read_metrics

__all__ = ["page"]

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f27;--soft:#667080;--line:#dfe3e9;--page:#fbfbfc;--card:#fff;--blue:#0072B2;
--good:#0a7d55;--bad:#c4202b}
@media (prefers-color-scheme:dark){:root{--ink:#e8ebf0;--soft:#98a2b3;--line:#2c323c;--page:#101318;--card:#171b21;
--blue:#62b6ef;--good:#4fc795;--bad:#ff8087}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 ui-sans-serif,system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:48px 24px 64px}
h1{font-size:2rem;line-height:1.2;margin:0 0 .25rem;letter-spacing:-.02em}
h2{font-size:1.05rem;margin:0 0 .75rem}
p{margin:.25rem 0}.soft{color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px 24px;margin:28px 0}
.facts b{display:block;font-size:1.7rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.facts span{color:var(--soft);font-size:.85rem;line-height:1.35;display:block}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:20px;margin:20px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;min-width:0}
.card>svg{width:100%;height:auto;display:block}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:500;text-align:right;padding:4px 10px 6px 0;border-bottom:1px solid var(--line)}
td{text-align:right;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child td{border-bottom:0}
table.pairs td{text-align:left;white-space:normal;overflow-wrap:anywhere}
table.pairs td:first-child{color:var(--soft);white-space:nowrap;width:1%;padding-right:20px}
.dial{display:grid;grid-template-columns:minmax(0,380px) 1fr;gap:8px 36px;align-items:start}
@media (max-width:700px){.dial{grid-template-columns:1fr}}
.frame{display:none}.frame.on{display:block}.frame svg{width:100%;height:auto;display:block}
.big{font-size:2.2rem;font-weight:650;line-height:1.1;font-variant-numeric:tabular-nums}
input[type=range]{width:100%;accent-color:var(--blue);margin:14px 0}
.good{color:var(--good)}.bad{color:var(--bad)}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.7 ui-monospace,monospace}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""

SCRIPT = """
const frames=[...document.querySelectorAll('.frame')],dial=document.getElementById('dial');
function turn(){const i=+dial.value-1;frames.forEach((f,j)=>f.classList.toggle('on',i===j));
const d=frames[i].dataset;document.getElementById('step').textContent=d.step;
document.getElementById('sure').textContent=d.sure;document.getElementById('right').textContent=d.right;
const v=document.getElementById('rules');v.textContent=d.valid==='1'?'the rules hold':'the rules do not hold';
v.className=d.valid==='1'?'good':'bad'}
dial.addEventListener('input',turn);turn();
"""


def page(run: Any, task: Any, folder: Path, question: Any, label: Any, frames: Sequence[Any]) -> str:
    """The page as text. run: a recipes Run; frames: (step, answer, confidence, valid) of one puzzle, step by step."""
    result = _json(folder / "result.json")
    judged = _json(folder / "eval.json")
    metrics = folder / "metrics.jsonl"
    charts = []
    if judged:
        svg = inline_svg(depth_curve({run.name: judged}), "accuracy over depth")
        charts.append(_card("Thinking longer", svg))
    if metrics.exists():
        svg = inline_svg(learning_curve({run.name: read_metrics(metrics)}), "learning curve")
        charts.append(_card("Learning", svg))
    size = "x".join(map(str, task.shape))
    body = [
        f"<h1>{escape(folder.resolve().name)}</h1>",
        f'<p class="soft">{escape(run.system.upper())} on {escape(task.name)} {size}'
        + (f" &middot; {escape(run.about)}" if run.about else "")
        + "</p>",
        _facts(result, judged),
        f'<div class="row">{"".join(charts)}</div>' if charts else "",
        _dial(task, question, label, frames),
        _card("Results", _results(judged["rows"]), wide=True) if judged else "",
        '<div class="row">' + _card("What was trained", _pairs(_config(run))),
        "<div>" + _card("Birth certificate", _pairs(_born(result, judged))),
        _card("Go on", f"<pre>{escape(_commands(folder, task, question))}</pre>") + "</div></div>",
    ]
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width,initial-scale=1'>"
    title = f"<title>{escape(folder.resolve().name)} &middot; innerloop</title>"
    return (
        f"<!doctype html><html lang='en'><head>{head}{title}<style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _card(title: str, inside: str, wide: bool = False) -> str:
    kind = "card wide" if wide else "card"
    return f'<section class="{kind}" style="margin-top:20px"><h2>{escape(title)}</h2>{inside}</section>'


def _facts(result: dict[str, Any], judged: dict[str, Any]) -> str:
    """The few numbers somebody in a hurry wants."""
    facts = []
    rows = [r for r in judged.get("rows", []) if not r["halting"]]
    if rows:
        first, deep = (pick(rows, key=lambda r: (r["depth"], -r["width"])) for pick in (min, max))
        facts.append((f"{first['exact']:.1%}", f"solved exactly with {_steps(first['depth'])} of thought"))
        facts.append((f"{deep['exact']:.1%}", f"with {_steps(deep['depth'])}, of {deep['puzzles']:,} held-out puzzles"))
    if "parameters" in result:
        facts.append((f"{result['parameters'] / 1e6:.2f} M", "parameters"))
    if "seconds" in result:
        facts.append((f"{result['seconds']:.0f} s", f"of training, {result['steps']:,} optimizer steps"))
    if "train_puzzles" in result:
        facts.append((f"{result['train_puzzles']:,}", "puzzles to learn from"))
    cells = "".join(f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in facts)
    return f'<div class="facts">{cells}</div>'


def _steps(n: int) -> str:
    return "1 step" if n == 1 else f"{n} steps"


def _dial(task: Any, question: Any, label: Any, frames: Sequence[Any]) -> str:
    """A puzzle and a slider: every step's answer is in the page, one of them is shown."""
    shown = []
    counted = label != 0
    for f in frames:
        sure = "" if f.confidence is None else f"{f.confidence:.1%}"
        right = f"{int(((f.answer == label) & counted).sum())} of {int(counted.sum())}"
        data = f'data-step="{f.step}" data-sure="{sure}" data-right="{right}" data-valid="{int(f.valid)}"'
        shown.append(f'<div class="frame" {data}>{task.svg(question, f.answer, label)}</div>')
    n = len(frames)
    side = (
        f'<div><p class="soft">after</p><p class="big">step <span id="step">{n}</span></p>'
        f'<input id="dial" type="range" min="1" max="{n}" value="1" aria-label="steps of thought">'
        '<table class="pairs"><tr><td>cells right</td><td id="right"></td></tr>'
        '<tr><td>confidence</td><td id="sure"></td></tr>'
        '<tr><td>verdict</td><td><span id="rules"></span></td></tr></table>'
        '<p class="soft" style="margin-top:14px;font-size:.88rem">Bold cells were given, blue ones are the '
        "model's, red ones are wrong. Turn the dial to let it think longer about this puzzle, which was held out from "
        "training.</p></div>"
    )
    return _card("Turn the depth dial", f'<div class="dial"><div>{"".join(shown)}</div>{side}</div>')


def _results(rows: Sequence[dict[str, Any]]) -> str:
    head = ("depth", "width", "halting", "exact", "95 % interval", "token", "valid", "mean steps", "NFE", "seconds")
    lines = ["<table><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>"]
    for r in rows:
        wide = f"{r['width']} ({r['pick']})" if r["width"] > 1 else "1"
        cells = [str(r["depth"]), wide, "its own" if r["halting"] else "all steps", f"<b>{r['exact']:.1%}</b>"]
        cells += [f"{100 * r['low']:.1f} to {100 * r['high']:.1f}", f"{r['token']:.1%}"]
        cells.append("unknown" if r["valid"] is None else f"{r['valid']:.1%}")
        cells += [f"{r['steps']:.1f}", f"{r['nfe']:.1f}", f"{r['seconds']:.2f}"]
        lines.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return "".join(lines) + "</table>"


def _config(run: Any) -> dict[str, Any]:
    """Every field of the run in one flat table; long ones are counted, not shown."""
    flat: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{name}.{key}" if name else key, inner)
        elif isinstance(value, list | tuple) and len(value) > 8:
            flat[name] = f"{len(value)} of them"
        elif value not in ("", {}, (), []):
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value

    walk("", {k: v for k, v in dataclasses.asdict(run).items() if k != "about"})
    return flat


def _born(result: dict[str, Any], judged: dict[str, Any]) -> dict[str, Any]:
    born = judged.get("born") or result.get("born") or {}
    own = {"trained by": result.get("born", {}).get("command"), "evaluated by": judged.get("born", {}).get("command")}
    own |= {k: v for k, v in born.items() if k != "command"}
    own |= {k.replace("_", " "): judged[k] for k in ("data", "test_puzzles", "train_puzzles") if k in judged}
    if result.get("leakage"):
        own["leakage"] = result["leakage"]
    if result.get("best"):
        own["weights kept"] = f"best validation, step {result['best']['step']:.0f}"
    if result.get("warnings"):
        own["warnings"] = "; ".join(result["warnings"])
    return {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in own.items() if v not in (None, "")}


def _pairs(pairs: dict[str, Any]) -> str:
    lines = (f"<tr><td>{escape(str(k))}</td><td>{escape(str(v))}</td></tr>" for k, v in pairs.items())
    return f'<table class="pairs">{"".join(lines)}</table>'


def _commands(folder: Path, task: Any, question: Any) -> str:
    text = task.decode(question)
    solve = f'innerloop solve {folder} "{text}"' if len(text) <= 100 else f"innerloop solve {folder} puzzles.csv"
    return "\n".join(
        (
            solve,
            f"innerloop eval {folder} --depth 1,4,16,64 --halt both",
            f"innerloop eval {folder} --depth 16 --width 1,8 --noise 0.5,0 --pick q",
            f"innerloop plot {folder}",
        )
    )


def _json(path: Path) -> dict[str, Any]:
    return checkpoint.read_json(path) if path.exists() else {}
