"""Random valid rosters, and random disruptions of them: absences, and shifts that need more people."""

from __future__ import annotations

import numpy as np

from innerloop.rules.roster_rules import Sheet

__all__ = ["disrupt", "random_roster"]

MOST = 9  # people needed on a shift
WEEK = 5 / 7  # working days of a full contract
FILLED = (0.8, 1.0)  # share of what all may work that is needed
SAME = 0.7  # a shift worked the day before draws like so many people missing
ALL_SKILLS, PART_TIME, LEAVE, ASKS, MET = 0.6, 0.25, 0.05, 0.1, 0.7  # shares of people, of people, of days off, ...


def random_roster(
    people: int, days: int, shifts: int, stretch: int, spare: int, rest: np.ndarray, rng: np.random.Generator
) -> Sheet:
    """A valid roster. rest: bool (K + 1, K + 1), which shift must not follow which."""
    able = (rng.random((people, shifts)) < 0.5) | (rng.random((people, 1)) < ALL_SKILLS)
    able[np.arange(people), rng.integers(shifts, size=people)] = True
    full = max(1, round(days * WEEK))
    limit = np.where(rng.random(people) < PART_TIME, rng.integers((full + 1) // 2, full + 1, size=people), full)
    level = limit.sum() * rng.uniform(*FILLED) / days * rng.dirichlet(np.full(shifts, 30.0))
    target = np.minimum((level + rng.random((days, shifts))).astype(np.int64), MOST)
    short, after, kinds = target.tolist(), rest.tolist(), range(1, shifts + 1)
    rows: list[list[int]] = [[]] * people
    for i in rng.permutation(people).tolist():
        may, noise = able[i].tolist(), rng.random((days, shifts)).tolist()
        rows[i] = []
        for d, work in enumerate(working_days(days, int(limit[i]), stretch, rng)):
            before = rows[i][-1] if d else 0
            wanted = [
                (short[d][k - 1] + noise[d][k - 1] + SAME * (k == before), k)
                for k in kinds
                if may[k - 1] and short[d][k - 1] + noise[d][k - 1] > 0.5 and not after[before][k]
            ]
            v = max(wanted)[1] if work and wanted else 0
            rows[i].append(v)
            if v:
                short[d][v - 1] -= 1
    shift, none = np.array(rows), np.zeros((people, days), bool)
    count = (shift[:, :, None] == np.arange(1, shifts + 1)).sum(0)
    need = np.clip(target, count - spare, count)
    return Sheet(shift, need, able, limit, np.array(stretch), none, none.copy(), np.full((people, days), -1))


def working_days(days: int, limit: int, stretch: int, rng: np.random.Generator) -> list[bool]:
    """Which days one person works: blocks with one to three days off between them, some days taken out if too many."""
    blocks = rng.integers([min(2, stretch), 1], [stretch + 1, 4], size=(days, 2)).tolist()
    row = [v for work, off in blocks for v in [True] * work + [False] * off]
    first = int(rng.integers(stretch + 1))
    row = row[first : first + days]
    on = [d for d, v in enumerate(row) if v]
    for k in rng.permutation(len(on))[: max(0, len(on) - limit)].tolist():
        row[on[k]] = False
    return row


def disrupt(sheet: Sheet, times: int, rng: np.random.Generator) -> Sheet:
    """The roster on some day of its span, when `times` bad things have happened; maybe nothing has to change for them.

    Days before that day are fixed, and a few days off are (leave). Some ask for what they have,
    some for something else. What the sheet holds of absences, fixed cells and requests stays.
    """
    (people, days), shifts = sheet.shift.shape, sheet.need.shape[1]
    today = int(rng.integers(days // 2 + 1))
    absent, need = sheet.absent.copy(), sheet.need.copy()
    fixed = sheet.fixed | (np.arange(days) < today) | ((sheet.shift == 0) & (rng.random((people, days)) < LEAVE))
    for _ in range(times):
        working = np.argwhere((sheet.shift > 0) & (np.arange(days) >= today) & ~absent)
        if len(working) and rng.random() < 0.75:
            i, d = working[int(rng.integers(len(working)))].tolist()
            absent[i, d : d + min(1 + int(rng.geometric(0.5)), 4)] = True
        else:
            d, k = int(rng.integers(today, days)), int(rng.integers(shifts))
            need[d, k] = min(int((sheet.shift[:, d] == k + 1).sum()) + 1, MOST)
    fixed &= ~absent
    other = rng.integers(shifts + 1, size=(people, days))
    may = (other == 0) | np.take_along_axis(sheet.able, np.maximum(other - 1, 0), 1)
    wish = np.where((rng.random((people, days)) < MET) | ~may, sheet.shift, other)
    wish = np.where(rng.random((people, days)) < ASKS, wish, -1)
    wish = np.where(sheet.wish >= 0, sheet.wish, wish)
    wish[fixed | absent] = -1
    return sheet._replace(need=need, absent=absent, fixed=fixed, wish=wish)
