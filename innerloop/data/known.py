"""Questions of known benchmarks that are more than a question and its answer: number games, rows of reasoning-gym.

game24     numbers, target             an expression that uses each number once, checked with fractions
24.csv     Puzzles: "1 1 3 8"          the same, as the Tree of Thoughts publishes it
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from innerloop.errors import InputError
from innerloop.tokens.arithmetic import fault
from innerloop.tokens.way import Item, Verdict

__all__ = ["Makes", "number_game"]

MOST_NUMBERS, LARGEST = 12, 10**6  # of a game


class Makes:
    """The check of a number game: it needs no stored answer."""

    about = "expressions by exact arithmetic"

    def __init__(self, numbers: tuple[int, ...], target: int) -> None:
        self.numbers, self.target = numbers, target

    def __call__(self, answer: str) -> Verdict:
        wrong = fault(answer, self.numbers, self.target)
        return Verdict(not wrong, wrong)


def number_game(row: Mapping[str, Any], where: str, name: str) -> Item | None:
    """The question of a game in which numbers make another one; None for a row that is none."""
    numbers, target = row.get("numbers"), row.get("target", 24)
    if isinstance(puzzle := row.get("puzzles"), str) and re.fullmatch(r"\d+(?:[ ,]+\d+)+", puzzle.strip()):
        numbers = [int(n) for n in re.split(r"[ ,]+", puzzle.strip())]
    if row.get("question") or not isinstance(numbers, list):
        return None
    for n in (*numbers, target):
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= LARGEST:
            raise InputError(f"{where}: numbers and target of a number game are whole numbers of 0 to {LARGEST:,}")
    if not 2 <= len(numbers) <= MOST_NUMBERS:
        raise InputError(f"{where} has {len(numbers)} numbers: a number game has 2 to {MOST_NUMBERS}")
    listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    question = (
        f"Make {target} from the numbers {listed}. Use each of them exactly once, with + - * / and parentheses, and "
        f"nothing else. The answer is an expression, such as (a - b) * (c + d)."
    )
    return Item(name, question, None, "expression", Makes(tuple(numbers), target))
