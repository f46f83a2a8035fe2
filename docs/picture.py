"""Draw docs/demo.svg, the README's picture: a bundled model on an unseen puzzle, and its accuracy over depth.

python docs/picture.py demo-sudoku9
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from drawn_from import mark

from innerloop.cli.drawing import instructive_row
from innerloop.cli.inputs import open_run
from innerloop.data.opening import open_set
from innerloop.data.protocols import Examples
from innerloop.learn.evaluate import score_set
from innerloop.pretrained import HARD_SUDOKUS
from innerloop.runs.fit import load_data, unseen_puzzles
from innerloop.runs.folder import OpenedRun
from innerloop.solve.solver import Solver

GAP, BOARD, TOP = 26, 292, 34
DEPTHS = (1, 2, 4, 8, 16, 32, 64)


def boards(opened: OpenedRun, examples: Examples) -> tuple[list[str], int]:
    """SVG groups of four moments of one unseen puzzle: after 1, 2, 4 steps and when it is right."""
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


def solved(opened: OpenedRun, puzzles: Examples, width: int, depth: int) -> float:
    """Share of puzzles with a valid answer; trajectories after the first try a cell that it guessed."""
    found = Solver(opened.loop, opened.task).solve(puzzles.inputs, depth, width, "verified")
    return sum(bool(s.valid) for s in found) / len(found)


def curves(opened: OpenedRun, examples: Examples, hard: Examples, x: int) -> str:
    """Share solved over depth, as a small line drawing at horizontal offset x; a line a set and width."""
    found = {
        f"{len(examples.inputs)} of its own kind": [
            score_set(opened.loop, opened.task, examples, d).exact.mean() for d in DEPTHS
        ]
    }
    for width, say in ((1, f"{len(hard.inputs)} that need a guess"), (16, "the same, 16 trajectories")):
        found[say] = [solved(opened, hard, width, d) for d in DEPTHS]
    width, height = 300.0, 230.0
    across = np.log2(DEPTHS)
    place = lambda d, share: (x + 40 + width * d / across.max(), TOP + 18 + height * (1 - share))  # noqa: E731
    parts = [f'<text class="say" x="{x + 10}" y="20">unseen puzzles solved, by depth</text>']
    for share in (0, 0.5, 1):
        (_, y) = place(0, share)
        parts.append(f'<line class="rule" x1="{x + 40}" y1="{y:.1f}" x2="{x + 40 + width}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x + 34}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for d, depth in zip(across, DEPTHS, strict=True):
        px, y = place(d, 0)
        parts.append(f'<text class="tick" x="{px:.1f}" y="{y + 18:.1f}" text-anchor="middle">{depth}</text>')
    for i, (say, shares) in enumerate(found.items()):
        points = [place(d, share) for d, share in zip(across, shares, strict=True)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline class="curve c{i}" points="{line}"/>')
        parts += [f'<circle class="dot d{i}" cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in points]
        y = TOP + 165 + 22 * i
        parts.append(f'<circle class="dot d{i}" cx="{x + 180}" cy="{y - 4}" r="4"/>')
        parts.append(f'<text class="tick" x="{x + 192}" y="{y}">{say}</text>')
    return "".join(parts)


STYLE = """<style>
.say{font:600 15px ui-sans-serif,system-ui,sans-serif;fill:#3a4150}
.tick{font:12px ui-sans-serif,system-ui,sans-serif;fill:#6b7280}
.rule{stroke:#d5d9e0;stroke-width:1}.curve{fill:none;stroke-width:2.5}
.c0{stroke:#1a63c9}.d0{fill:#1a63c9}.c1{stroke:#c2571a}.d1{fill:#c2571a}.c2{stroke:#1b7f5c}.d2{fill:#1b7f5c}
@media (prefers-color-scheme:dark){.say{fill:#d6dae2}.tick{fill:#9aa3b2}.rule{stroke:#3b424e}
.c0{stroke:#79b2ff}.d0{fill:#79b2ff}.c1{stroke:#f0a070}.d1{fill:#f0a070}.c2{stroke:#5fd0a5}.d2{fill:#5fd0a5}}
</style>"""


def main(name: str) -> None:
    opened = open_run(name)
    examples = unseen_puzzles(opened.task, load_data(opened.run.data)[1], opened.run.data, 500)
    hard = open_set(str(HARD_SUDOKUS), opened.task)[1]
    groups, count = boards(opened, examples)
    width = count * (BOARD + GAP)
    size = f'viewBox="0 0 {width + 370} {TOP + BOARD + 6}"'
    title = "<title>A small model refines its answer to a Sudoku it has never seen</title>"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{title}{STYLE}'
    target = Path(__file__).with_name("demo.svg")
    target.write_text(f"{head}{''.join(groups)}{curves(opened, examples, hard, width)}</svg>\n")
    mark(target, name)
    print(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
