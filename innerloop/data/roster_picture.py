"""Draw a roster as text (rich) or SVG: a column a day, a row a person, the cover below."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple, Protocol

import numpy as np
from rich.text import Text

from innerloop.rules.roster_rules import Sheet

__all__ = ["FILLS", "GREY", "svg", "terminal"]

# Middle tones on which both light and dark text can be read, told apart without red and green (after Okabe and Ito).
FILLS = ("", "#b8791c", "#2f86b5", "#7a6cc4", "#2f8f6f")
GREY = "#828995"
WIDE, HIGH, PAD = 40, 34, 12  # px of a day's cell; around the picture
MIN_LEGEND_WIDTH = 450  # px the legend takes
STYLE = """
.il-r{font:15px ui-sans-serif,system-ui,sans-serif;text-anchor:middle;dominant-baseline:central;fill:#1b1f27}
.il-r-page{fill:#ffffff}.il-r-line{stroke:#e3e6eb}.il-r-rule{stroke:#9aa3b1;stroke-width:1.5}
.il-r-left{text-anchor:start}.il-r-head{font-size:13px;fill:#5a6372}.il-r-small{font-size:12px}.il-r-tiny{font-size:10px}
.il-r-dim{fill:#8a93a1}.il-r-held{font-weight:600}.il-r-past{opacity:.45}.il-r-off{fill:#b6bdc8}
.il-r-1{fill:#fbe0a6}.il-r-2{fill:#c2e4f6}.il-r-3{fill:#d3cff5}.il-r-4{fill:#c4e9da}.il-r-ill{fill:#e4e7ec}
.il-r-new{fill:none;stroke:#0b5fcc;stroke-width:2.5}.il-r-was{fill:#0b5fcc;font-size:10px;font-weight:600}
.il-r-met{fill:#0b7a5b;font-size:10px}.il-r-unmet{fill:#b3530b;font-size:10px;font-weight:700}
.il-r-bad{fill:#fbdfe1;stroke:#c4202b;stroke-width:2}.il-r-badtext{fill:#c4202b;font-weight:700}
@media (prefers-color-scheme:dark){
.il-r{fill:#eef1f6}.il-r-page{fill:#15181e}.il-r-line{stroke:#2a303a}.il-r-rule{stroke:#5d6675}
.il-r-head{fill:#a7b0be}.il-r-dim{fill:#7c8695}.il-r-off{fill:#4d5562}
.il-r-1{fill:#6e4c0c}.il-r-2{fill:#135173}.il-r-3{fill:#443a91}.il-r-4{fill:#135a44}.il-r-ill{fill:#343a45}
.il-r-new{fill:none;stroke:#79b2ff}.il-r-was{fill:#79b2ff}.il-r-met{fill:#5fd3ad}.il-r-unmet{fill:#ffae70}
.il-r-bad{fill:#4a2329;stroke:#ff8087}.il-r-badtext{fill:#ff8087}}
"""


class DrawnRoster(Protocol):
    """What a picture asks of the task (innerloop.tasks.roster)."""

    name: str
    shape: tuple[int, int]
    staff: int
    days: int
    kinds: int
    names: Any
    code: Any

    def read(self, question: np.ndarray, answer: np.ndarray | None = None) -> Any: ...
    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray: ...
    def explain(self, question: np.ndarray, answer: np.ndarray) -> Any: ...
    def cost(self, inputs: np.ndarray, answers: np.ndarray) -> Any: ...


class RosterView(NamedTuple):
    """What a picture shows: the old roster and the answer, in plain numbers, and where the answer is wrong."""

    old: Sheet
    new: Sheet
    odd: np.ndarray  # bool (N, D): the token answers no question like this
    wrong: np.ndarray  # bool (N + K, 2 + D)
    changed: np.ndarray  # bool (N, D)


def roster_view(task: DrawnRoster, question: np.ndarray, answer: np.ndarray) -> RosterView:
    old, new = task.read(question), task.read(question, answer)
    odd = ~task.code.follows(question, answer).reshape(task.shape)[task.code.people, 2:]
    wrong = task.wrong_cells(question, answer).reshape(task.shape)[1:]
    return RosterView(old, new, odd, wrong, (old.shift != new.shift) & ~old.absent & ~odd)


def summary(task: DrawnRoster, question: np.ndarray, answer: np.ndarray) -> str:
    """One line: changes, requests, cost, and whether the rules hold."""
    seen = roster_view(task, question, answer)
    asked = int((seen.old.wish >= 0).sum())
    unmet = int(((seen.old.wish >= 0) & (seen.new.shift != seen.old.wish)).sum())
    faults = len(task.explain(question, answer))
    count = int(seen.changed.sum())
    said = [f"{count} change{'' if count == 1 else 's'}"]
    said += [f"{asked - unmet} of {asked} requests met"] if asked else []
    said += [f"cost {task.cost(question[None], answer[None])[0]:g}"]
    return ", ".join([*said, "every rule kept" if not faults else f"{faults} fault{'' if faults == 1 else 's'}"])


# -- text -------------------------------------------------------------------------------------------------------------


def terminal(task: DrawnRoster, question: np.ndarray, answer: np.ndarray, previous: np.ndarray | None) -> Text:
    """See Roster.terminal."""
    seen, names, text = roster_view(task, question, answer), task.names, Text()
    moved = np.zeros(len(answer), bool) if previous is None else previous != answer
    moved = moved.reshape(task.shape)[1:, 2:]
    heads = [day.removeprefix("day ") for day in names.days]
    left, can, wide = (
        max(map(len, names.people)) + 1,
        max(4, task.kinds + 1),
        max(4, *(len(head) + 1 for head in heads)),
    )
    text.append(" " * left + "can".ljust(can) + "days  ", "dim")
    text.append("".join(head.ljust(wide) for head in heads).rstrip() + "\n", "dim")
    for i, person in enumerate(names.people):
        text.append(person.ljust(left))
        able = "".join(s if a else "·" for s, a in zip(names.shifts[1:], seen.old.able[i], strict=True))
        text.append(able.ljust(can), "red" if seen.wrong[i, 0] else "dim")
        worked = f"{int((seen.new.shift[i] > 0).sum())}/{int(seen.old.limit[i])}"
        text.append(worked.ljust(6), "bold red" if seen.wrong[i, 1] else "dim")
        for d in range(task.days):
            words, style = _cell_text(task, seen, i, d)
            text.append(words, f"{style} underline" if moved[i, d] else style)
            text.append(" " * (wide - len(words)))
        text.append("\n")
    text.append("─" * (left + can + 6 + wide * task.days) + "\n", "dim")
    for k, shift in enumerate(names.shifts[1:]):
        text.append(f"{shift} needs".ljust(left + can + 6), "dim")
        for d in range(task.days):
            words, bad = _cover(seen, k, d), seen.wrong[task.staff + k, 2 + d]
            text.append(words.ljust(wide), "bold red" if bad else "dim")
        text.append("\n")
    text.right_crop(1)
    return text


def _cell_text(task: DrawnRoster, seen: RosterView, i: int, d: int) -> tuple[str, str]:
    """A cell's words and their style."""
    held, wish, wrong = int(seen.new.shift[i, d]), int(seen.old.wish[i, d]), bool(seen.wrong[i, 2 + d])
    if seen.old.absent[i, d] and not seen.odd[i, d]:
        return "✚", "magenta"
    words = "?" if seen.odd[i, d] else task.names.shifts[held] if held else "·"
    words += "" if wish < 0 else "♥" if wish == held else "♡"
    if wrong:
        return words, "bold red"
    if seen.changed[i, d]:
        return words, "bold cyan"
    return words, "dim" if seen.old.fixed[i, d] or not held else "bold"


def _cover(seen: RosterView, k: int, d: int) -> str:
    there, need = int((seen.new.shift[:, d] == k + 1).sum()), int(seen.old.need[d, k])
    return str(need) if there == need else f"{there}/{need}"


# -- SVG --------------------------------------------------------------------------------------------------------------


def svg(task: DrawnRoster, question: np.ndarray, answer: np.ndarray) -> str:
    """See Task.svg."""
    seen, names = roster_view(task, question, answer), task.names
    left = PAD + max(8.6 * max(map(len, names.people)), 64) + 12  # where skills begin
    days = left + 11 * task.kinds + 62  # where days begin
    top, cover = PAD + 26, PAD + 26 + HIGH * task.staff + 8
    width, bottom = max(days + WIDE * task.days + PAD, MIN_LEGEND_WIDTH), cover + 26 * task.kinds
    height = bottom + 44 + PAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
        f"<title>{escape(task.name)} of {task.staff} people on {task.days} days</title><style>{STYLE}</style>",
        f'<rect class="il-r-page" width="{width:g}" height="{height:g}" rx="10"/>',
    ]
    for d, day in enumerate(names.days):
        head = day.removeprefix("day ")
        parts.append(_text(days + WIDE * (d + 0.5), PAD + 11, head if len(head) < 6 else str(d + 1), "il-r-head"))
    parts += [_text(left - 2, PAD + 11, "can", "il-r-head il-r-left"), _text(days - 30, PAD + 11, "days", "il-r-head")]
    for i, person in enumerate(names.people):
        y = top + HIGH * (i + 0.5)
        parts.append(f'<path class="il-r-line" d="M{PAD} {y - HIGH / 2:g}H{width - PAD:g}"/>')
        parts.append(_text(PAD + 2, y, person, "il-r-left"))
        parts += _person(task, seen, i, left, days - 30, y)
        for d in range(task.days):
            parts += _cell(task, seen, i, d, days + WIDE * d, top + HIGH * i)
    parts.append(f'<path class="il-r-rule" d="M{PAD} {cover - 4}H{width - PAD:g}"/>')
    for k, shift in enumerate(names.shifts[1:]):
        y = cover + 26 * (k + 0.5)
        parts.append(f'<rect class="il-r-{k + 1}" x="{PAD}" y="{y - 10:g}" width="22" height="20" rx="5"/>')
        parts += [_text(PAD + 11, y, shift, "il-r-held il-r-small"), _text(PAD + 30, y, "needs", "il-r-left il-r-head")]
        for d in range(task.days):
            bad = seen.wrong[task.staff + k, 2 + d]
            x = days + WIDE * (d + 0.5)
            if bad:
                box = f'x="{x - 16:g}" y="{y - 11:g}" width="32" height="22" rx="5"'
                parts.append(f'<rect class="il-r-bad" {box}/>')
            parts.append(_text(x, y, _cover(seen, k, d), "il-r-small " + ("il-r-badtext" if bad else "il-r-dim")))
    parts.append(_text(PAD + 2, bottom + 20, summary(task, question, answer), "il-r-left il-r-small"))
    parts += _legend(PAD + 2, bottom + 40)
    return "".join(parts) + "</svg>"


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text class="il-r {kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _person(task: DrawnRoster, seen: RosterView, i: int, left: float, right: float, y: float) -> list[str]:
    """What a person may work, and how many of their days they do."""
    parts = [
        _text(left + 4 + 11 * k, y, shift if able else "·", "il-r-tiny " + ("" if able else "il-r-off"))
        for k, (shift, able) in enumerate(zip(task.names.shifts[1:], seen.old.able[i], strict=True))
    ]
    worked = f"{int((seen.new.shift[i] > 0).sum())}/{int(seen.old.limit[i])}"
    return [*parts, _text(right, y, worked, "il-r-small " + ("il-r-badtext" if seen.wrong[i, 1] else "il-r-dim"))]


def _cell(task: DrawnRoster, seen: RosterView, i: int, d: int, x: float, y: float) -> list[str]:
    """One person's day: the shift as a tile, what it was before, what was asked for, what is wrong."""
    held, before, wish = int(seen.new.shift[i, d]), int(seen.old.shift[i, d]), int(seen.old.wish[i, d])
    shifts, tile = task.names.shifts, f'x="{x + 2:g}" y="{y + 2:g}" width="{WIDE - 4}" height="{HIGH - 4}" rx="7"'
    middle, past = (x + WIDE / 2, y + HIGH / 2), " il-r-past" if seen.old.fixed[i, d] else ""
    parts = []
    if seen.wrong[i, 2 + d]:
        parts.append(f'<rect class="il-r-bad" {tile}/>')
    elif seen.old.absent[i, d]:
        parts.append(f'<rect class="il-r-ill" {tile}/>')
    elif held:
        parts.append(f'<rect class="il-r-{held}{past}" {tile}/>')
    if seen.odd[i, d]:
        return [*parts, _text(*middle, "?", "il-r-badtext")]
    if seen.old.absent[i, d]:
        return [*parts, _text(*middle, "✚", "il-r-dim")]
    kind = "il-r-badtext" if seen.wrong[i, 2 + d] else "il-r-held" if held else "il-r-off"
    parts.append(_text(*middle, shifts[held] if held else "·", kind + past))
    if seen.changed[i, d]:
        parts.append(f'<rect class="il-r-new" {tile}/>')
        parts.append(_text(x + 10, y + 10, shifts[before] if before else "–", "il-r-was"))
    if wish >= 0:
        met = wish == held
        parts.append(_text(x + 31, y + 25, "♥" if met else "♡", "il-r-met" if met else "il-r-unmet"))
        if not met:
            parts.append(_text(x + 31, y + 11, shifts[wish] if wish else "–", "il-r-unmet"))
    return parts


def _legend(x: float, y: float) -> list[str]:
    """The marks in words, from left to right."""
    said = (
        ("▢", "il-r-was", "changed (what it was)"),
        ("♥", "il-r-met", "request met"),
        ("♡", "il-r-unmet", "not met (what was asked)"),
        ("✚", "il-r-dim", "absent"),
    )
    parts = []
    for sign, kind, words in said:
        parts += [_text(x + 5, y, sign, kind), _text(x + 14, y, words, "il-r-left il-r-tiny il-r-dim")]
        x += 26 + 5.3 * len(words)
    return parts
