"""A timetable of one's own: from a table of plain names to the cheapest repair, printed and drawn.

    python examples/my_timetable.py examples/timetable.csv timetable.svg

Without words it takes that table. The CSV has a row a teacher: name, special room (or nothing), then a column for each
period, called by its day and number, with the class taught then. Needs the extra [solve].
"""

import csv
import io
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from innerloop.solve.exact import exact
from innerloop.tasks.timetable import Timetable

PLANNED = Path(__file__).with_name("timetable.csv")
AWAY = {("Emil", "Mon 1"), ("Dora", "Wed 1"), ("gym", "Wed 2")}  # a teacher or a room, on a day or in a period
UNWANTED = {("Ben", "Mon"), ("Emil", "Tue 4")}  # free periods that had better stay free


def read(text: str) -> tuple[Timetable, np.ndarray]:
    """The task that fits a table, under the table's own names, and its question."""
    header, *rows = csv.reader(io.StringIO(text))
    periods = header[2:]
    days = list(dict.fromkeys(period.split()[0] for period in periods))
    rooms = sorted({row[1] for row in rows} - {""})
    classes = sorted({cell for row in rows for cell in row[2:]} - {""})
    task = Timetable(len(rows), len(classes), len(days), len(periods) // len(days), len(rooms))
    task.teacher_names, task.class_names = [row[0] for row in rows], classes
    task.room_names, task.day_names = rooms, days
    board = ""
    for name, room, *cells in rows:
        for period, cell in zip(periods, cells, strict=True):
            when = {(who, at) for who in (name, room) for at in (period, period.split()[0])}
            letter = "abcdefghijklmnopqrstuvwxyz"[classes.index(cell)] if cell else ""
            if when & AWAY:
                board += letter.upper() or "#"
            else:
                board += letter or ("," if when & UNWANTED else ".")
        board += str(rooms.index(room) + 1) if room else "-"
    return task, task.encode(board)


def moves(task: Timetable, question: np.ndarray, answer: np.ndarray) -> list[str]:
    """What moved: for each teacher and class, from which period to which."""
    before, after = task.lessons(question, struck=True), task.lessons(answer)
    left, taken = sorted(before - after), sorted(after - before)  # (teacher, class, slot): pairs in the same order
    return [
        f"{task.teacher_names[t]}, class {task.class_names[c]}: {task.when(old)} -> {task.when(new)}"
        for (t, c, old), (_, _, new) in zip(left, taken, strict=True)
    ]


def main() -> None:
    console = Console(highlight=False)
    text = Path(sys.argv[1] if len(sys.argv) > 1 else PLANNED).read_text()
    task, question = read(text)
    console.print("To repair:", *task.explain(question, question), sep="\n  ")
    found = exact(task, question)
    if found.answer is None:
        console.print(f"No repair: {found.status}. Free a period, or give up a lesson.")
        return
    assert not task.explain(question, found.answer)
    console.print(f"\nRepaired in {found.seconds:.2f} s, cost {found.cost:g} ({found.status}):")
    console.print(*moves(task, question, found.answer), sep="\n")
    console.print("", task.terminal(question, found.answer), sep="\n")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(task.svg(question, found.answer))


if __name__ == "__main__":
    main()
