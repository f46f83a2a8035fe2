"""Arithmetic as running text, for models that read in order: "12+34=" is asked, "46;" is the response.

A row holds prompt, response and end mark, then padding. The question shows all of it, response too, and the label of
a place is the token after it, from the prompt's last place on. That gives nothing away to a model that reads in order:
its row is right here exactly when it is right writing the response by itself, token after token (`complete`). Other
models could copy the answer, so `causal` keeps them out. Tokens: 0 padding, then the digits, + - * = and the end mark.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.tasks.task import item_rng
from innerloop.tasks.text import END, TextTask

__all__ = ["Sums"]

RULES: dict[str, Callable[[int, int], int]] = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


class Sums(TextTask):
    """Two numbers of 1 to `digits` digits each and one of `operators`; a rating is the response's length.

    Numbers are drawn by length first, so that short ones are as frequent as long ones.
    """

    name = "sums"
    charset = "0123456789+-*=" + END
    vocab = len(charset) + 1
    separator = charset.index("=") + 1  # ends the prompt: for parts.config.NetConfig.separator
    end = 0  # a row is one text
    packs = False
    modes = ("direct",)
    forms = {"direct": "="}  # noqa: RUF012

    def __init__(self, digits: int = 2, operators: str = "+"):
        if not 1 <= digits <= 9:
            raise InputError(f"numbers of {digits} digits are out of range; choose 1 to 9 digits.")
        if not operators or set(operators) - set(RULES):
            raise InputError(
                f"operators={operators!r} must name one or more of {' '.join(RULES)}; leave out the others."
            )
        self.digits, self.operators = digits, operators
        most = 10**digits - 1
        responses = [str(RULES[o](a, b)) for o in operators for a, b in ((most, most), (0, most))]
        self.shape = (1, 2 * digits + 2 + max(map(len, responses)) + 1)
        self.options = {"digits": digits, "operators": operators}

    def sample(self, seed: int, i: int) -> Example:
        rng = item_rng(seed, i)
        lengths = rng.integers(1, self.digits + 1, 2)
        a, b = (int(rng.integers(0 if n == 1 else 10 ** (n - 1), 10**n)) for n in lengths.tolist())
        operator = self.operators[rng.integers(len(self.operators))]
        return self.example(f"{a}{operator}{b}=", f"{RULES[operator](a, b)}{END}")

    def explain(self, question: str) -> tuple[str, str] | None:
        for operator, rule in RULES.items():
            a, _, b = question.partition(operator)
            if a.isdigit() and b.isdigit():
                return "", str(rule(int(a), int(b)))
        return None

    def parse(self, text: str) -> tuple[str, str, str] | None:
        prompt, mark, rest = text.partition("=")
        return (prompt, "direct", rest.partition(END)[0]) if mark else None

    def complete(self, read: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> np.ndarray:
        """Rows (B, S) of prompts with the responses that a reader writes by itself, greedily; they end with their mark.

        `read` maps rows (B, S) to the likeliest token after each place, (B, S), and must read in order. What `inputs`
        hold after their prompts is not shown to it. A response that does not end goes on to the end of the row.
        """
        self.check(inputs, "questions")
        hit = inputs == self.separator
        rows = np.where((hit.cumsum(1) - hit) == 0, inputs, 0)
        going = hit.any(1)
        for place in range(rows.shape[1] - 1):
            writing = going & hit[:, : place + 1].any(1)
            if writing.any():
                rows[:, place + 1] = np.where(writing, read(rows)[:, place], rows[:, place + 1])
                going &= ~(writing & (rows[:, place + 1] == self.vocab - 1))
        return rows
