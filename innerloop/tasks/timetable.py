"""Timetable repair: a teacher or a room has become unavailable; move few lessons so that all rules hold again.

The board on the staff-room wall: a row for each teacher, a column for each period of the week, in each cell the class
taught then. The last column names the special room (a laboratory, a gymnasium) that the row's lessons need.

    question        answer          tokens (0 is padding)
    ..c|cba|1       .cb|c.a|1       . free   , free, better kept so   # teacher or room not available
    cba|acb|-       cba|acb|-       - 1 2 ..  the special room of the row's lessons, - none
    bA#|,.,|1       b##|,a,|1       a b ..    a lesson of class a, b ..
                                    A B ..    a lesson struck, as its teacher or room is not available
    Two days of three periods. Teacher 3 is away on day 1 after period 1; the only free period with class a free is
    day 2, period 2, when teacher 1 has their room, whose lesson with b must move too, and then one more: cost 3.

1. A row keeps its lessons: every class as often as in the question, struck lessons among them.
2. A class has one lesson at a time: no letter twice in a column.
3. A teacher teaches a class at most once a day: no letter twice in a row's part of a day.
4. A special room holds one lesson at a time: of the rows of one room, at most one has a letter in a column.
5. '#' and struck lessons are '#' in the answer; a free cell stays as it was or takes a lesson; a cell that a lesson
   leaves is '.'; the last column stays.

Cost: 1 for each lesson in a place where it did not stand, and 1 more if that place was ','. A question has many valid
answers, so `exact` against the one label under-counts: `valid` and `cost` are what matters. Labels are cheapest
repairs, found by a search that takes only questions which few moves repair; a rating is the number of places it tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from string import ascii_lowercase as LETTERS
from typing import Any

import numpy as np
from rich.text import Text

from innerloop.data import picture
from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.rules import timetable_plan as plans
from innerloop.rules.bounds import SearchBound
from innerloop.rules.symmetry import Views, same_names
from innerloop.tasks.task import Task, as_units, item_rng

__all__ = ["Timetable"]

FREE, UNWANTED, AWAY, NO_ROOM = 1, 2, 3, 4  # tokens; then rooms, classes, struck classes
LIMIT, TRIES = 300, 300  # places tried for a label before another timetable is drawn; timetables drawn
W, H, GAP, TOP = 36, 30, 10, 50  # px of the picture: a cell, between days, above the first row
FILLS = ("#8ec3e8", "#f2b179", "#8fd3b0", "#f5dd7f", "#c3b1e8", "#f2a3b5", "#b7d96f", "#a9dfe6", "#d8b98f", "#c9ced6")
LEGEND = ("framed: moved \u00b7 dashed: stood here", "hatched: not available \u00b7 ~ better kept free")
STYLE = """
.tt-day,.tt-head,.tt-side,.tt-lesson,.tt-gone,.tt-wish{font:13px ui-sans-serif,system-ui,sans-serif;fill:#5a6372;
dominant-baseline:central;text-anchor:middle}.tt-side{text-anchor:start}.tt-day{font-weight:700}.tt-head{font-size:12px}
.tt-lesson{font-size:14px;font-weight:600;fill:#14171c}.tt-gone{text-decoration:line-through;fill:#8a93a1}
.tt-block{fill:#f4f6f9}.tt-chip{stroke:none}.tt-away{fill:url(#tt-hatch)}.tt-hatch{stroke:#aeb5c0;stroke-width:2}
.tt-left{fill:none;stroke:#8a93a1;stroke-width:1.5;stroke-dasharray:3 3}
.tt-moved{fill:none;stroke:#1348a0;stroke-width:3}.tt-wrong{fill:#c4202b;fill-opacity:.2;stroke:#c4202b;stroke-width:3}
@media (prefers-color-scheme:dark){.tt-day,.tt-head,.tt-side,.tt-wish{fill:#aab3c2}.tt-block{fill:#1e232b}
.tt-hatch{stroke:#4a5260}.tt-moved{stroke:#ffffff}.tt-wrong{stroke:#ff8087}}
"""
HATCH = """<pattern id="tt-hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<line class="tt-hatch" y2="7"/></pattern>"""
WHEN = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Timetable(Task):
    """`teachers` x (`days` * `periods`) slots for `classes`, and `rooms` that two teachers share each.

    load: about the share of its slots in which a class has a lesson. absences: (fewest, most) of a generated question;
    each takes a teacher, or a room, away for a day or a part of one. wishes: share of free cells that had better stay
    free. `units` are rows, columns and a teacher's days; the shorter ones repeat their last cell. The words of pictures
    and sentences are in teacher_names, class_names, room_names and day_names: set them to yours.
    """

    name = "timetable"

    def __init__(
        self,
        teachers: int = 8,
        classes: int = 6,
        days: int = 3,
        periods: int = 3,
        rooms: int = 1,
        load: float = 0.85,
        absences: tuple[int, int] = (1, 2),
        wishes: float = 0.3,
    ) -> None:
        if not (2 <= teachers <= 40 and 2 <= classes <= 26 and 1 <= days <= 7 and 1 <= periods <= 12):
            raise InputError(
                f"{teachers} teachers, {classes} classes and {days} days of {periods} periods: "
                "choose 2 to 40 teachers, 2 to 26 classes, 1 to 7 days and 1 to 12 periods."
            )
        if not 0 <= rooms <= min(9, teachers // 2):
            raise InputError(f"{rooms} rooms cannot be shared by two of {teachers} teachers each; choose fewer rooms.")
        low, high = absences
        if not (0 < load <= 1 and 0 <= wishes <= 1 and 1 <= low <= high <= 9):
            told = f"load={load}, absences=({low}, {high}), wishes={wishes}"
            raise InputError(f"{told}: give a share above 0, 1 <= fewest <= most <= 9, and a share from 0.")
        self.teachers, self.classes, self.days, self.periods, self.rooms = teachers, classes, days, periods, rooms
        self.load, self.absences, self.wishes = load, (int(low), int(high)), wishes
        self.slots, self.shape = days * periods, (teachers, days * periods + 1)
        self.charset = ".,#-" + "123456789"[:rooms] + LETTERS[:classes] + LETTERS[:classes].upper()
        self.vocab = len(self.charset) + 1
        self.first, self.struck = NO_ROOM + rooms + 1, NO_ROOM + rooms + 1 + classes  # tokens of the first class
        self.rest = np.full(256, 255, np.uint8)  # what a cell of the question is without a lesson; 255: no such cell
        self.rest[[FREE, UNWANTED, AWAY]] = FREE, UNWANTED, AWAY
        self.symbols = (tuple(range(self.first, self.struck)), tuple(range(self.struck, self.vocab)))
        self.rest[self.first : self.struck], self.rest[self.struck : self.vocab] = FREE, AWAY
        self.class_of = np.full((2, 256), -1, np.int32)  # of a token; in row 1 of a struck lesson too
        self.class_of[:, self.first : self.struck] = self.class_of[1, self.struck : self.vocab] = np.arange(classes)
        cells = np.arange(teachers * (self.slots + 1)).reshape(self.shape)
        self.units = as_units((*cells, *cells.T, *cells[:, :-1].reshape(-1, periods)))
        self.teacher_names = [f"Teacher {i + 1}" for i in range(teachers)]
        self.room_names = [f"Room {i + 1}" for i in range(rooms)]
        self.class_names, self.day_names = list(LETTERS[:classes]), list(WHEN[:days])
        plain = ("teachers", "classes", "days", "periods", "rooms", "load", "wishes")
        self.options = {name: getattr(self, name) for name in plain} | {"absences": list(self.absences)}

    # --- examples -----------------------------------------------------------------------------------------------------
    def sample(self, seed: int, i: int) -> Example:
        rng, size = item_rng(seed, i), (self.teachers, self.days, self.periods)
        for _ in range(TRIES):
            room = np.zeros(self.teachers, int)
            room[rng.permutation(self.teachers)[: 2 * self.rooms]] = np.arange(2 * self.rooms) // 2 + 1
            at = plans.random_timetable(*size, self.classes, room.tolist(), self.load, rng)
            away = plans.random_absences(*size, room, int(rng.integers(self.absences[0], self.absences[1] + 1)), rng)
            unwanted = (rng.random(at.shape) < self.wishes) & (at < 0) & ~away
            if not ((at >= 0) & away).any():
                continue
            question = self._tokens(at, room, away, unwanted)
            found = plans.repair(self.plan(question), LIMIT)
            if found is not None:
                answer = self._tokens(np.array(found.at), room, away, unwanted)
                return Example(question, answer, float(found.tries))
        raise InputError(f"few moves repair none of {TRIES} timetables drawn; give less load or fewer absences.")

    def _tokens(self, at: np.ndarray, room: np.ndarray, away: np.ndarray, unwanted: np.ndarray) -> np.ndarray:
        empty = np.where(away, AWAY, np.where(unwanted, UNWANTED, FREE))
        body = np.where(at >= 0, at + np.where(away, self.struck, self.first), empty)
        return np.concatenate([body, room[:, None] + NO_ROOM], 1).astype(np.uint8).reshape(-1)

    def plan(self, question: np.ndarray) -> plans.TimetablePlan:
        """What the search works on. Raises InputError for a question with symbols where they have no meaning."""
        body = question.reshape(self.shape)[:, :-1]
        room = question.reshape(self.shape)[:, -1].astype(int) - NO_ROOM
        if (self.rest[body] == 255).any() or room.min() < 0 or room.max() > self.rooms:
            raise InputError(
                "a timetable has '-' or a digit at the end of each row, and there alone; correct the text."
            )
        at, away = self._classes_in(question[None], struck=True)[0], self.rest[body] == AWAY
        return plans.plan_of(at, room, away, body == UNWANTED, self.classes, self.periods)

    def every(self, question: np.ndarray, limit: int, bound: SearchBound | None = None) -> np.ndarray:
        """Those that keep the old slots come first; a question mostly has far more than can be listed."""
        found = [np.array(at) for at in plans.every(self.plan(question), limit, bound or SearchBound())]
        answers = np.repeat(question.reshape(1, *self.shape), len(found), 0)
        for answer, at in zip(answers[:, :, :-1], found, strict=True):
            answer[:] = np.where(at >= 0, at + self.first, self.rest[answer])
        return answers.reshape(-1, len(question))

    # --- rules --------------------------------------------------------------------------------------------------------
    def _classes_in(self, tokens: np.ndarray, struck: bool = False) -> np.ndarray:
        """int (B, teachers, slots): the class whose lesson stands there, or with `struck` was to stand; -1 = none."""
        return self.class_of[int(struck)][tokens.reshape(-1, *self.shape)[:, :, :-1]]

    def lessons(self, tokens: np.ndarray, struck: bool = False) -> set[tuple[int, int, int]]:
        """(teacher, class, slot), each from 0, of the lessons that stand in (S,) tokens; or with `struck` were to."""
        taught = self._classes_in(tokens[None], struck)[0]
        return {(int(t), int(taught[t, s]), int(s)) for t, s in np.argwhere(taught >= 0)}

    def _counts(self, classes: np.ndarray) -> np.ndarray:
        """int (B, teachers, classes): lessons of each class in each row, from _classes_in."""
        rows = np.arange(1, len(classes) * self.teachers * (self.classes + 1), self.classes + 1)
        places = (classes.reshape(len(rows), -1) + rows[:, None]).reshape(-1)
        counts = np.bincount(places, minlength=len(rows) * (self.classes + 1))
        return counts.reshape(len(classes), self.teachers, self.classes + 1)[:, :, 1:]

    def _kept(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """bool (B, S), rule 5: the cell holds what it may."""
        lesson = (answers >= self.first) & (answers < self.struck)
        rest = self.rest[inputs]
        ok = (answers == rest) | (lesson & ((rest == FREE) | (rest == UNWANTED)))
        room = slice(self.slots, None, self.slots + 1)
        ok[:, room] = (answers == inputs)[:, room] & (inputs >= NO_ROOM)[:, room] & (inputs < self.first)[:, room]
        return ok

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        self.check(inputs, "questions")
        self.check(answers, "answers")
        taught, due = self._classes_in(answers), self._counts(self._classes_in(inputs, struck=True))
        ok: np.ndarray = self._kept(inputs, answers).all(1) & (self._counts(taught) == due).all((1, 2))
        bits = np.append(1 << np.arange(self.classes), 0)[taught]  # no class twice: the sum is the union
        for group, axis in ((bits, 1), (bits.reshape(len(bits), -1, self.periods), 2)):
            ok &= (group.sum(axis) == np.bitwise_or.reduce(group, axis)).all(1)
        room = inputs.reshape(-1, *self.shape)[:, :, -1:]
        for r in range(NO_ROOM + 1, self.first):
            ok &= (((taught >= 0) & (room == r)).sum(1) <= 1).all(1)
        return ok

    def _broken(self, question: np.ndarray, answer: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Rule by rule, a sentence for each way in which the answer breaks it, and the cells concerned."""
        cell = np.arange(len(question)).reshape(self.shape)
        now, put, due = (self.class_of[k][x[cell[:, :-1]]] for k, x in ((0, answer), (1, answer), (1, question)))
        changed, room, names = (answer != question)[cell[:, :-1]], question[cell[:, -1]], np.array(self.teacher_names)
        for i in np.flatnonzero(~self._kept(question[None], answer[None])[0]).tolist():
            yield self._changed(i, int(question[i]), int(answer[i])), cell.flat[[i]]
        for t, c in np.ndindex(self.teachers, self.classes):
            here, wanted, who = put[t] == c, due[t] == c, f"{self.teacher_names[t]} teaches class {self.class_names[c]}"
            have, want = int(here.sum()), int(wanted.sum())
            if have != want:
                yield f"{who} {have}x instead of {want}x.", cell[t, :-1][changed[t] & (here if have > want else wanted)]
            for d in np.flatnonzero((now[t] == c).reshape(self.days, -1).sum(1) > 1):
                day = np.arange(self.slots) // self.periods == d
                yield f"{who} more than once on {self.day_names[d]}.", cell[t, :-1][day & (now[t] == c)]
        for s in range(self.slots):
            for c in range(self.classes):
                here, who = now[:, s] == c, f"Class {self.class_names[c]} has lessons with"
                if here.sum() > 1:
                    yield f"{who} {' and '.join(names[here])} on {self.when(s)}.", cell[here, s]
            for r in range(NO_ROOM + 1, self.first):
                users = (now[:, s] >= 0) & (room == r)
                if users.sum() > 1:
                    what = self.room_names[r - NO_ROOM - 1]
                    yield f"{what} is used by {' and '.join(names[users])} on {self.when(s)}.", cell[users, s]

    def _changed(self, cell: int, old: int, new: int) -> str:
        t, s = divmod(cell, self.slots + 1)
        may = int(self.rest[old]) if s < self.slots else old
        if may == AWAY and self.first <= new < self.vocab:
            lesson = f"on {self.when(s)}, where class {self.class_names[self.class_of[1, new]]}"
            return f"{self.teacher_names[t]} is not available {lesson} {'is put' if new != old else 'must leave'}."
        where = self.when(s) if s < self.slots else "the column of rooms"
        is_, right = (repr((self.pad_symbol + self.charset + "\ufffd" * 256)[token]) for token in (new, may))
        right += " or a class" if may in (FREE, UNWANTED) else ""
        return f"{self.teacher_names[t]}, {where}: {is_} stands where only {right} may."

    def when(self, slot: int) -> str:
        """What a slot is called."""
        return f"{self.day_names[slot // self.periods]} {slot % self.periods + 1}"

    def explain(self, question: np.ndarray, answer: np.ndarray) -> list[str]:
        """A sentence for each way in which the answer breaks a rule; none where it is valid."""
        return [sentence for sentence, _ in self._broken(question, answer)]

    def wrong_cells(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Even with a label (another repair is not wrong): cells that break a rule, and where a missing lesson was."""
        wrong = np.zeros(len(answer), bool)
        for _, cells in self._broken(question, answer):
            wrong[cells] = True
        return wrong

    # --- exact solving ------------------------------------------------------------------------------------------------
    def cost(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """float64 (B,): lessons in a place where they did not stand, each twice where that had better stayed free."""
        moved = (answers >= self.first) & (answers < self.struck) & (answers != inputs)
        return moved.sum(1) + (moved & (inputs == UNWANTED)).sum(1).astype(np.float64)

    def domain(self, question: np.ndarray) -> np.ndarray:
        """bool (S, vocab): a cell stays as it is or becomes empty; a usable one may hold any class of its row."""
        room = np.arange(len(question)) % (self.slots + 1) == self.slots
        rest = np.where(room, question, self.rest[question])
        may = np.eye(256, self.vocab, dtype=bool)[rest]
        usable = ((rest == FREE) | (rest == UNWANTED)) & ~room
        theirs = self._counts(self._classes_in(question[None], struck=True))[0] > 0  # (teachers, classes)
        may[:, self.first : self.struck] = usable[:, None] & theirs.repeat(self.slots + 1, 0)
        return may

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> Any:
        """Rules 1 to 4 over the lessons that `domain` (rule 5) leaves possible; the objective is `cost`."""
        cell = np.arange(len(question)).reshape(self.shape)
        may = self.domain(question)
        due = self._counts(self._classes_in(question[None], struck=True))[0]
        room = question[cell[:, -1]].astype(int) - NO_ROOM

        def lessons(cells: np.ndarray, *tokens: int) -> list[Any]:
            return [has(i, token) for token in tokens for i in cells[may[cells, token]].tolist()]

        for c, token in enumerate(range(self.first, self.struck)):
            for t in np.flatnonzero(due[:, c]):
                model.add(sum(lessons(cell[t, :-1], token)) == int(due[t, c]))  # 1
                for day in cell[t, :-1].reshape(self.days, -1):
                    model.add_at_most_one(lessons(day, token))  # 3
            for s in range(self.slots):
                model.add_at_most_one(lessons(cell[:, s], token))  # 2
        for r in range(1, self.rooms + 1):
            for s in range(self.slots):
                model.add_at_most_one(lessons(cell[room == r, s], *range(self.first, self.struck)))  # 4
        moved = may & (np.arange(self.vocab) >= self.first) & (np.arange(self.vocab) != question[:, None])
        once, again = moved, moved & (question == UNWANTED)[:, None]
        return sum(has(i, token) for table in (once, again) for i, token in np.argwhere(table).tolist())

    # --- symmetries ---------------------------------------------------------------------------------------------------
    def views(self, count: int, rng: np.random.Generator) -> Views:
        """Teachers, days and the periods of each day in another order, classes and rooms by other names."""
        rows = rng.random((count, self.teachers)).argsort(1)
        days = rng.random((count, self.days)).argsort(1)
        periods = rng.random((count, self.days, self.periods)).argsort(2)
        slots = (days[:, :, None] * self.periods + periods).reshape(count, -1)
        columns = np.concatenate([slots, np.full((count, 1), self.slots)], 1)
        cells = rows[:, :, None] * (self.slots + 1) + columns[:, None]
        names = same_names(count, self.vocab)
        classes = rng.random((count, self.classes)).argsort(1)
        names[:, self.first : self.struck] = classes + self.first
        names[:, self.struck :] = classes + self.struck
        names[:, NO_ROOM + 1 : self.first] = rng.random((count, self.rooms)).argsort(1) + NO_ROOM + 1
        return Views(cells.reshape(count, -1), names)

    def _parts(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `plans` compares: classes and marks (B, teachers, slots), rooms (B, teachers)."""
        self.check(inputs, "questions")
        grid = inputs.reshape(-1, *self.shape)
        return self._classes_in(inputs, struck=True), self.rest[grid[:, :, :-1]], grid[:, :, -1].astype(int) - NO_ROOM

    def canonical_batch(self, inputs: np.ndarray) -> list[bytes]:
        """Equal for every variant; `same` settles equal keys."""
        return plans.canonical_keys(*self._parts(inputs), self.periods)

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        return plans.equivalent(*self._parts(np.stack([a, b])), self.periods)

    # --- pictures -----------------------------------------------------------------------------------------------------
    def glyph(self, token: int) -> str:
        return {FREE: "", UNWANTED: "~", AWAY: "×", NO_ROOM: ""}.get(token, super().glyph(token))

    def colour(self, token: int) -> str:
        if self.first <= token < self.struck:
            return FILLS[(token - self.first) % len(FILLS)]
        return "#9aa1ad" if token == AWAY or token >= self.struck else ""

    def boxes(self) -> tuple[int, int]:
        return (self.teachers, self.periods)

    def terminal(self, question: np.ndarray, answer: np.ndarray, previous: Any = None, label: Any = None) -> Text:
        """Lessons on the colour of their class; underlined what changed since `previous`, or the question."""
        wrong, text = self.wrong_cells(question, answer), Text()
        side, wide = (max(map(len, names)) for names in (self.teacher_names, self.class_names))
        for cell, new in enumerate(answer.tolist()):
            (t, s), lesson = divmod(cell, self.slots + 1), self.class_of[1, new]
            text.append(f"{self.teacher_names[t]:<{side}} " if s == 0 else "")
            text.append("│ " if s % self.periods == 0 else "", style="dim")
            style = "white on #c4202b" if wrong[cell] else f"#14171c on {self.colour(new)}" if lesson >= 0 else "dim"
            style += " bold underline" if (question if previous is None else previous)[cell] != new else ""
            mark = self.class_names[lesson] if lesson >= 0 else self.glyph(new) or self.void
            text.append(f"{mark:<{wide}} " + "\n" * (s == self.slots), style=style)
        text.right_crop(1)
        return text

    def svg(self, question: np.ndarray, answer: np.ndarray, label: np.ndarray | None = None) -> str:
        """Lessons that moved are framed, and dashed where they stood; what breaks a rule is red."""
        left, room = (20 + 7 * max([4, *map(len, names)]) for names in (self.teacher_names, self.room_names))
        xs = [left + s * W + s // self.periods * GAP for s in range(self.slots + 1)]
        width, height = xs[-1] + room, TOP + self.teachers * H + 52
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"><title>timetable'
            f'</title><style>{picture.STYLE}{STYLE}</style>{HATCH}<rect class="il-bg" width="100%" height="100%"/>'
        ]
        parts += [_text("tt-side", 10, height - 30 + 18 * i, line) for i, line in enumerate(LEGEND)]
        for d, name in enumerate(self.day_names):
            x = xs[d * self.periods]
            parts.append(_text("tt-day", x + self.periods * W / 2, 15, name))
            parts.append(_rect("tt-block", x - 3, TOP - 3, self.periods * W + 6, self.teachers * H + 6))
            parts += [_text("tt-head", x + W * (i + 0.5), 35, str(i + 1)) for i in range(self.periods)]
        wrong = self.wrong_cells(question, answer)
        for cell in range(len(answer)):
            t, s = divmod(cell, self.slots + 1)
            old, new, y = int(question[cell]), int(answer[cell]), TOP + t * H
            if s < self.slots:
                parts += self._cell(xs[s], y, old, new, bool(wrong[cell]))
                continue
            name = self.room_names[old - NO_ROOM - 1] if NO_ROOM < old < self.first else ""
            parts += [
                _text("tt-side", x, y + H / 2, who) for x, who in ((10, self.teacher_names[t]), (xs[s] + 4, name))
            ]
        return "".join(parts) + "</svg>"

    def _cell(self, x: float, y: float, old: int, new: int, wrong: bool) -> list[str]:
        was, now = int(self.class_of[1, old]), int(self.class_of[0, new])
        box, middle, parts = (x + 2, y + 2, W - 4, H - 4), (x + W / 2, y + H / 2), []
        if now >= 0:
            parts += [_rect("tt-chip", *box, self.colour(new)), _text("tt-lesson", *middle, self.class_names[now])]
        elif new == AWAY:
            parts.append(_rect("tt-away", *box))
        elif was >= 0:
            parts.append(_rect("tt-left", *box))
        if was >= 0 and now < 0:
            parts.append(_text("tt-gone", *middle, self.class_names[was]))
        if old == UNWANTED:
            parts.append(_text("tt-wish", x + W - 8, y + 8, "~"))
        if wrong or (now >= 0 and new != old):
            parts.append(_rect("tt-wrong" if wrong else "tt-moved", *box))
        return parts


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _rect(kind: str, x: float, y: float, width: float, height: float, fill: str = "") -> str:
    filled = f' fill="{fill}"' if fill else ""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"{filled}/>'
