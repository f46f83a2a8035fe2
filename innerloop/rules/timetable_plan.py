"""School timetables as plain numbers: generate, repair with few moves, list all repairs, compare up to renaming.

The search works on bit masks, one bit a slot. A lesson is (teacher, class, slot). To repair is to move: a lesson that
must move is put into another slot, and lessons that stand in its way there (of its teacher, of its class, of its room,
or its class's other lesson with that teacher on that day) must move in turn. A lesson that has moved stays. `repair`
deepens how much a repair may cost until one is found, so the first one found is a cheapest one: a lesson in nobody's
way need not move, and any cheapest repair can be reached by putting its lessons in place one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from innerloop.rules.bounds import SearchBound

__all__ = [
    "TimetablePlan",
    "TimetableRepair",
    "canonical_keys",
    "equivalent",
    "every",
    "plan_of",
    "random_absences",
    "random_timetable",
    "repair",
]

SLACK = 4  # moves beyond one for each struck lesson that a repair is searched for
REFINEMENT_ROUNDS = 6  # of colour refinement; any number is correct, fewer tell fewer timetables apart

Lesson = tuple[int, int, int]  # teacher, class, slot


class TimetablePlan(NamedTuple):
    """A timetable and what has changed. Slots are numbered day by day."""

    at: list[list[int]]  # teachers x slots: the class taught, -1 = none; lessons struck by `away` among them
    room: list[int]  # of each teacher: 0 = none of the special rooms, else its number
    away: list[int]  # of each teacher: mask of the slots that cannot be used
    unwanted: list[int]  # of each teacher: mask of the free slots that had better stay free
    classes: int
    periods: int  # slots of a day


class TimetableRepair(NamedTuple):
    at: list[list[int]]  # teachers x slots, nothing in slots away
    cost: int  # lessons moved, and once more for each that went to an unwanted slot
    tries: int  # places that were tried


def plan_of(
    at: np.ndarray, room: np.ndarray, away: np.ndarray, unwanted: np.ndarray, classes: int, periods: int
) -> TimetablePlan:
    """A Plan from tables: int (teachers, slots), int (teachers,), bool (teachers, slots) twice."""
    bits = 1 << np.arange(at.shape[1], dtype=object)
    return TimetablePlan(
        at.tolist(), room.tolist(), (away @ bits).tolist(), (unwanted @ bits).tolist(), classes, periods
    )


def random_timetable(
    teachers: int, days: int, periods: int, classes: int, room: list[int], load: float, rng: np.random.Generator
) -> np.ndarray:
    """int (teachers, slots), a random timetable that keeps the rules: the class, -1 = none. A class has a lesson in a
    share of about `load` of all slots.

    Slot by slot, each class in random order takes the first teacher in random order who can teach it.
    """
    slots = days * periods
    at = np.full((teachers, slots), -1)
    order_c = rng.random((slots, classes)).argsort(1).tolist()
    order_t = rng.random((slots, teachers)).argsort(1).tolist()
    works = (rng.random((slots, classes)) < load).tolist()
    today: set[tuple[int, int]] = set()
    for s in range(slots):
        if s % periods == 0:
            today = set()
        free, shut = order_t[s], set[int]()
        for c in order_c[s]:
            chosen = (t for t in free if (t, c) not in today and (not room[t] or room[t] not in shut))
            t = next(chosen, None) if works[s][c] else None
            if t is not None:
                at[t, s] = c
                today.add((t, c))
                shut.add(room[t])
                free.remove(t)
    return at


def random_absences(
    teachers: int, days: int, periods: int, room: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """bool (teachers, slots): `count` times a teacher, or all of a room, cannot teach on a day or a part of it."""
    away = np.zeros((teachers, days, periods), bool)
    for _ in range(count):
        who = np.arange(teachers) == rng.integers(teachers)
        if room.any() and rng.random() < 0.3:
            who = room == rng.integers(1, room.max() + 1)
        first, last = (0, periods) if rng.random() < 0.5 else sorted(rng.integers(periods + 1, size=2))
        away[who, int(rng.integers(days)), first : max(first + 1, last)] = True
    return away.reshape(teachers, -1)


class _Board:
    """A plan whose lessons can be taken off and put on; every table of masks says the same thing from another side."""

    def __init__(self, plan: TimetablePlan) -> None:
        self.plan, self.slots, p = plan, len(plan.at[0]), plan.periods
        self.day = [((1 << p) - 1) << s // p * p for s in range(self.slots)]  # of each slot: all slots of its day
        self.room = plan.room
        self.free = [(1 << self.slots) - 1 & ~away for away in plan.away]
        self.at_t = [[-1] * self.slots for _ in plan.at]  # the class that a teacher teaches
        self.at_c = [[-1] * self.slots for _ in range(plan.classes)]  # the teacher who teaches a class
        self.at_r = [[-1] * self.slots for _ in range(max(plan.room) + 1)]  # the teacher in a room; not kept for room 0
        self.busy_t = [0] * len(plan.at)
        self.busy_c = [0] * plan.classes
        self.busy_r = [0] * len(self.at_r)
        self.pair = [[0] * plan.classes for _ in plan.at]  # slots of a class with a teacher ...
        self.pair_days = [[0] * plan.classes for _ in plan.at]  # ... and all slots of those days

    def put(self, t: int, c: int, s: int) -> None:
        bit, r = 1 << s, self.room[t]
        self.at_t[t][s], self.at_c[c][s] = c, t
        self.busy_t[t] |= bit
        self.busy_c[c] |= bit
        self.pair[t][c] |= bit
        self.pair_days[t][c] |= self.day[s]
        if r:
            self.at_r[r][s] = t
            self.busy_r[r] |= bit

    def take(self, t: int, c: int, s: int) -> None:
        bit, r = ~(1 << s), self.room[t]
        self.at_t[t][s] = self.at_c[c][s] = -1
        self.busy_t[t] &= bit
        self.busy_c[c] &= bit
        self.pair[t][c] &= bit
        self.pair_days[t][c] &= ~self.day[s]
        if r:
            self.at_r[r][s] = -1
            self.busy_r[r] &= bit

    def room_for(self, t: int, c: int) -> int:
        """Slots where the lesson would be in nobody's way."""
        return self.free[t] & ~(self.busy_t[t] | self.busy_c[c] | self.busy_r[self.room[t]] | self.pair_days[t][c])


class _Search(_Board):
    """Depth first, on what must still move, with so much slack."""

    def __init__(self, plan: TimetablePlan, limit: int) -> None:
        super().__init__(plan)
        self.limit, self.tries = limit, 0
        self.held_t, self.held_c, self.held_r = [0] * len(plan.at), [0] * plan.classes, [0] * len(self.at_r)
        self.moving: list[Lesson] = []
        for t, row in enumerate(plan.at):
            for s, c in enumerate(row):
                if c >= 0:
                    if plan.away[t] >> s & 1:
                        self.moving.append((t, c, s))
                    else:
                        self.put(t, c, s)

    def hold(self, t: int, c: int, s: int, on: bool) -> None:
        bit = 1 << s
        for table, i in ((self.held_t, t), (self.held_c, c), (self.held_r, self.room[t])):
            table[i] = table[i] | bit if on else table[i] & ~bit

    def places(self, lesson: Lesson, slack: int) -> list[tuple[int, int, list[Lesson]]]:
        """(extra cost, slot, lessons in the way) of every place that costs at most `slack` extra, cheapest first."""
        (t, c, old), r = lesson, self.room[lesson[0]]
        unwanted = self.plan.unwanted[t]
        clear = self.room_for(t, c) & ~(1 << old)
        found: list[tuple[int, int, list[Lesson]]] = [(0, s, []) for s in _bits(clear & ~unwanted)]
        if not slack:
            return found
        found += [(1, s, []) for s in _bits(clear & unwanted)]
        held = self.held_t[t] | self.held_c[c] | (self.held_r[r] if r else 0) | self.pair[t][c] | 1 << old
        for s in _bits(self.free[t] & ~clear & ~held):
            way = []
            if self.at_t[t][s] >= 0:
                way.append((t, self.at_t[t][s], s))
            if self.at_c[c][s] >= 0:
                way.append((self.at_c[c][s], c, s))
            if r and self.at_r[r][s] not in (-1, t, self.at_c[c][s]):
                way.append((self.at_r[r][s], self.at_t[self.at_r[r][s]][s], s))
            same_day = self.pair[t][c] & self.day[s]
            if same_day:
                if same_day & self.held_t[t]:
                    continue
                way.append((t, c, same_day.bit_length() - 1))
            extra = len(way) + (unwanted >> s & 1)
            if extra <= slack:
                found.append((extra, s, way))
        found.sort(key=lambda place: place[0])
        return found

    def run(self, slack: int) -> bool:
        """Whether everything found its place; the board then holds the repaired plan."""
        if not self.moving:
            return True
        clear = [(self.room_for(t, c) & ~(1 << s)).bit_count() for t, c, s in self.moving]
        least = min(clear)
        if not slack and not least:
            return False
        lesson = self.moving.pop(clear.index(least))
        t, c, _ = lesson
        for extra, s, way in self.places(lesson, slack):
            self.tries += 1
            if self.tries > self.limit:
                break
            for other in way:
                self.take(*other)
            self.moving += way
            self.put(t, c, s)
            self.hold(t, c, s, True)
            before = len(self.moving)
            if self.run(slack - extra):
                return True
            assert len(self.moving) == before
            self.hold(t, c, s, False)
            self.take(t, c, s)
            del self.moving[before - len(way) :]
            for other in way:
                self.put(*other)
        self.moving.insert(clear.index(least), lesson)
        return False


def repair(plan: TimetablePlan, limit: int) -> TimetableRepair | None:
    """A cheapest repair, or None where none is found in `limit` tries or with SLACK extra moves."""
    search = _Search(plan, limit)
    struck = len(search.moving)
    for slack in range(SLACK + 1):
        if search.run(slack):
            return TimetableRepair(search.at_t, struck + slack, search.tries)
        if search.tries > limit:
            break
    return None


def every(plan: TimetablePlan, limit: int, bound: SearchBound) -> Iterator[list[list[int]]]:
    """`limit` timetables with the plan's lessons that keep the rules, or all; those that keep the old slots first.

    Raises Undecided at the `bound`.
    """
    board = _Board(plan)
    old = [[0] * plan.classes for _ in plan.at]
    left: dict[tuple[int, int], int] = {}
    for t, row in enumerate(plan.at):
        for s, c in enumerate(row):
            if c >= 0:
                old[t][c] |= 1 << s
                left[t, c] = left.get((t, c), 0) + 1

    def place() -> Iterator[list[list[int]]]:
        bound.node()
        open_: list[tuple[int, int, int, int]] = []
        for (t, c), count in left.items():
            if count:  # lessons of one pair are alike: they are placed in the order of their slots
                mask = board.room_for(t, c) >> board.pair[t][c].bit_length() << board.pair[t][c].bit_length()
                open_.append((mask.bit_count() - count, t, c, mask))
        if not open_:
            yield [row.copy() for row in board.at_t]
            return
        spare, t, c, mask = min(open_)
        if spare < 0:
            return
        left[t, c] -= 1
        for s in [*_bits(mask & old[t][c]), *_bits(mask & ~old[t][c])]:
            board.put(t, c, s)
            yield from place()
            board.take(t, c, s)
        left[t, c] += 1

    yield from islice(place(), limit)


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


# --- the same timetable? ----------------------------------------------------------------------------------------------
def canonical_keys(at: np.ndarray, mark: np.ndarray, room: np.ndarray, periods: int) -> list[bytes]:
    """A key for each of B timetables, equal for those that differ only by the order or the names of their parts.

    at, mark: (B, teachers, slots), the class of a cell (-1 = none) and what else it is; room: (B, teachers).
    """
    teachers, slots = _refine(at, mark, room, periods)
    return [key.tobytes() for key in _hash(_hash(teachers).sum(1) + np.uint64(3) * _hash(slots).sum(1))]


def equivalent(at: np.ndarray, mark: np.ndarray, room: np.ndarray, periods: int) -> bool:
    """Exactly: are the two timetables (B = 2, as of `keys`) one, but for the order and the names of their parts?

    Where refinement leaves ties in the first, one tied teacher or slot gets a colour of its own, and each candidate of
    the second is tried as its image.
    """

    def match(marked: list[tuple[int, int]]) -> bool:
        start = np.zeros((2, at.shape[1] + at.shape[2]), np.uint64)
        for i, pair in enumerate(marked, 1):
            start[[0, 1], pair] = i
        known = np.concatenate(_refine(at, mark, room, periods, start), 1)
        order = known.argsort(1, kind="stable")
        first, second = np.take_along_axis(known, order, 1)
        if (first != second).any():
            return False
        tie = np.flatnonzero(first[1:] == first[:-1])
        if len(tie):
            images = order[1][second == first[tie[0]]]
            return any(match([*marked, (int(order[0, tie[0]]), int(image))]) for image in images)
        return _as_read(0, order[0]) == _as_read(1, order[1])

    def _as_read(k: int, order: np.ndarray) -> list[list[int]]:
        t, s = order[order < at.shape[1]], order[order >= at.shape[1]] - at.shape[1]
        named = (at[k][t][:, s].reshape(-1), room[k][t] - 1, s // periods)
        return [mark[k][t][:, s].reshape(-1).tolist(), *(_by_appearance(names.tolist()) for names in named)]

    return match([])


def _by_appearance(names: list[int]) -> list[int]:
    """Renamed 0, 1, .. in the order in which they are met; below 0 is no name."""
    met: dict[int, int] = {}
    return [met.setdefault(name, len(met)) if name >= 0 else -1 for name in names]


def _refine(
    at: np.ndarray, mark: np.ndarray, room: np.ndarray, periods: int, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """uint64 (B, teachers), (B, slots): colours after ROUNDS rounds of colour refinement over lessons, rooms and days.

    A sum of hashes does not depend on an order. `start` (B, teachers + slots): the initial colours.
    """
    (b, teachers, slots), classes = at.shape, int(at.max()) + 1
    start = np.zeros((b, teachers + slots), np.uint64) if start is None else start
    of_t, of_s = _hash(start[:, :teachers] + np.uint64(1)), _hash(start[:, teachers:] + np.uint64(2))
    of_c = np.ones((b, classes + 1), np.uint64)
    of_c[:, 0] = 0  # no class
    shared = (room[:, :, None] == room[:, None]) & (room > 0)[:, :, None]
    for _ in range(REFINEMENT_ROUNDS):
        class_hash = np.take_along_axis(of_c, at.reshape(b, -1) + 1, 1).reshape(at.shape)
        cell = _hash(
            _hash(of_t)[:, :, None] + of_s[:, None] * np.uint64(3) + _hash(class_hash + mark.astype(np.uint64))
        )
        for c in range(classes):
            of_c[:, c + 1] = _hash((cell * (at == c)).sum((1, 2)) + np.uint64(4))
        day = _hash(of_s.reshape(b, -1, periods).sum(2)).repeat(periods, 1)
        of_t = _hash(of_t + cell.sum(2) + _hash((of_t[:, None] * shared).sum(2)))
        of_s = _hash(of_s + cell.sum(1) + day)
    return of_t, of_s


def _hash(n: np.ndarray) -> np.ndarray:
    """uint64 -> uint64 that looks random (the finaliser of SplitMix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        n = (n ^ (n >> np.uint64(shift))) * np.uint64(factor)
    return n
