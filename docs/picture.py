"""Draw docs/demo.svg, the README's picture, from a finished run and an evaluation of it.

innerloop demo && python docs/picture.py runs/demo runs/demo/eval.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from innerloop.cli.drawing import instructive_row
from innerloop.runs.fit import load_data, unseen_puzzles
from innerloop.runs.folder import open_run
from innerloop.solve.solver import Solver

GAP, BOARD, TOP = 26, 292, 34


def boards(folder: str) -> tuple[list[str], int]:
    """SVG groups of four moments of one unseen puzzle: after 1, 2, 4 steps and when it is right."""
    opened = open_run(folder)
    examples = unseen_puzzles(opened.task, load_data(opened.run.data)[1], opened.run.data, 500)
    row = instructive_row(opened, examples)
    question, label = examples.inputs[row], examples.labels[row]
    frames = []
    solver = Solver(opened.loop, opened.task)
    solver.solve(question, 32, 1, "residual", watch=lambda _i, _k, output: frames.append(output))
    right = next(i for i, f in enumerate(frames, 1) if np.array_equal(f.answer, label))
    moments = sorted({1, 2, max(3, (2 + right) // 2), right})
    groups = []
    for i, step in enumerate(moments):
        answer = frames[step - 1].answer
        svg = opened.task.svg(question, answer, label)
        wrong = int((answer != label).sum())
        say = "solved" if not wrong else f"{wrong} cell{'s'[: wrong > 1]} wrong"
        x = i * (BOARD + GAP)
        inner = svg.replace("<svg ", f'<svg x="{x}" y="{TOP}" width="{BOARD}" height="{BOARD}" ', 1)
        groups.append(f'<text class="say" x="{x + 2}" y="20">step {step}: {say}</text>{inner}')
    return groups, len(moments)


def curve(judged: str, x: int) -> str:
    """Accuracy over depth, as a small line drawing at horizontal offset x."""
    value = json.loads(Path(judged).read_text())
    by_depth = {r["depth"]: r for r in value["rows"] if not r["halting"] and r["width"] == 1}
    rows = [by_depth[depth] for depth in sorted(by_depth)]
    width, height = 300.0, 230.0
    across = np.log2([r["depth"] for r in rows])
    place = lambda d, share: (x + 40 + width * d / across.max(), TOP + 18 + height * (1 - share))  # noqa: E731
    points = [place(d, r["exact"]) for d, r in zip(across, rows, strict=True)]
    parts = [f'<text class="say" x="{x + 10}" y="20">unseen puzzles solved, by depth</text>']
    for share in (0, 0.5, 1):
        (_, y) = place(0, share)
        parts.append(f'<line class="rule" x1="{x + 40}" y1="{y:.1f}" x2="{x + 40 + width}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x + 34}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for (px, _), r in zip(points, rows, strict=True):
        y = TOP + 18 + height + 18
        parts.append(f'<text class="tick" x="{px:.1f}" y="{y:.1f}" text-anchor="middle">{r["depth"]}</text>')
    parts.append(f'<polyline class="curve" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
    parts += [f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in points]
    return "".join(parts)


STYLE = """<style>
.say{font:600 15px ui-sans-serif,system-ui,sans-serif;fill:#3a4150}
.tick{font:12px ui-sans-serif,system-ui,sans-serif;fill:#6b7280}
.rule{stroke:#d5d9e0;stroke-width:1}.curve{fill:none;stroke:#1a63c9;stroke-width:2.5}.dot{fill:#1a63c9}
@media (prefers-color-scheme:dark){.say{fill:#d6dae2}.tick{fill:#9aa3b2}.rule{stroke:#3b424e}.curve{stroke:#79b2ff}
.dot{fill:#79b2ff}}
</style>"""


def main(folder: str, judged: str) -> None:
    groups, count = boards(folder)
    width = count * (BOARD + GAP)
    size = f'viewBox="0 0 {width + 370} {TOP + BOARD + 6}"'
    title = "<title>A small model refines its answer to a Sudoku it has never seen</title>"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{title}{STYLE}'
    text = f"{head}{''.join(groups)}{curve(judged, width)}</svg>\n"
    (Path(__file__).parent / "demo.svg").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
