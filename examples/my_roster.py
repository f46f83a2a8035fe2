"""A roster of one's own: from a table of plain names to the cheapest repair, printed and drawn.

    python examples/my_roster.py examples/roster.csv roster.svg

Without words it takes that table. The CSV has a row a person: name, the shifts they can work, most working days, then a
column for each day. A day is their shift, or "-" for off; "E!" may not be changed; "x" is absent; "-/N" is off and asks
for N, "E/-" has E and asks to be off. A row "need E" says how many people each day needs on E. Needs the extra [solve].
"""

import csv
import io
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from innerloop.rules.roster_rules import Names, Sheet
from innerloop.solve.exact import exact
from innerloop.tasks.roster import Roster

PLANNED = Path(__file__).with_name("roster.csv")
STRETCH = 5  # most working days in a row


def read(text: str) -> tuple[Roster, np.ndarray]:
    """The task that fits a table, under the table's own names, and its question."""
    header, *rows = (row for row in csv.reader(io.StringIO(text)) if row)
    people = [row for row in rows if not row[0].startswith("need ")]
    cover = {row[0].removeprefix("need "): row[3:] for row in rows if row[0].startswith("need ")}
    shifts = "".join(cover)
    task = Roster(len(people), len(header) - 3, shifts, stretch=STRETCH)
    task.names = Names([row[0] for row in people], header[3:], ["off", *shifts])
    cells = np.array([row[3:] for row in people])
    number = {"-": 0, "x": 0, "": -1} | {shift: k for k, shift in enumerate(shifts, 1)}
    held, asked = (np.vectorize(lambda c, k=k: number[c.rstrip("!").partition("/")[k]])(cells) for k in (0, 2))
    sheet = Sheet(
        shift=held,
        need=np.array(list(cover.values()), int).T,
        able=np.array([[shift in row[1] for shift in shifts] for row in people]),
        limit=np.array([int(row[2]) for row in people]),
        stretch=np.array(STRETCH),
        absent=cells == "x",
        fixed=np.char.endswith(cells, "!"),
        wish=asked,
    )
    return task, task.write(sheet)


def changes(task: Roster, question: np.ndarray, answer: np.ndarray) -> list[str]:
    """Who is told what."""
    before, after = task.read(question), task.read(question, answer)
    people, days, shifts = task.names
    moved = np.argwhere((before.shift != after.shift) & ~before.absent).tolist()
    return [f"{people[i]}, {days[d]}: {shifts[before.shift[i, d]]} -> {shifts[after.shift[i, d]]}" for i, d in moved]


def main() -> None:
    console = Console(highlight=False)
    text = Path(sys.argv[1] if len(sys.argv) > 1 else PLANNED).read_text()
    task, question = read(text)
    console.print("To repair:", *task.explain(question, question), sep="\n  ")
    found = exact(task, question)
    if found.answer is None:
        console.print(f"No repair: {found.status}. Lower a need, free a day, or find somebody.")
        return
    assert not task.explain(question, found.answer)
    console.print(f"\nRepaired in {found.seconds:.2f} s, cost {found.cost:g} ({found.status}):")
    console.print(*changes(task, question, found.answer), sep="\n")
    console.print("", task.terminal(question, found.answer), sep="\n")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(task.svg(question, found.answer))


if __name__ == "__main__":
    main()
