"""Arithmetic as running text, for models that read in order: "12+34=" is asked, "46;" is the response.

A row holds prompt, response and end mark, then padding. The question shows all of it, response too, and the label of
a place is the token after it, from the prompt's last place on. That gives nothing away to a model that reads in order:
its row is right here exactly when it is right writing the response by itself, token after token (`complete`). Other
models could copy the answer, so `causal` keeps them out. Tokens: 0 padding, then the digits, + - * = and the end mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.tasks.task import Task, item_rng

__all__ = ["Sums"]

END = ";"
RULES: dict[str, Callable[[int, int], int]] = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


class Sums(Task):
    """Two numbers of 1 to `digits` digits each and one of `operators`; a rating is the response's length.

    Numbers are drawn by length first, so that short ones are as frequent as long ones.
    """

    name = "sums"
    charset = "0123456789+-*=" + END
    vocab = len(charset) + 1
    separator = charset.index("=") + 1  # ends the prompt: for parts.config.NetConfig.separator
    causal = True

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

    def example(self, prompt: str, response: str) -> Example:
        """A row and its labels; the response ends with the end mark."""
        row = self.encode((prompt + response).ljust(self.shape[1], self.pad_symbol))
        labels = np.zeros_like(row)
        asked = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
        labels[asked] = row[len(prompt) : len(prompt) + len(response)]
        return Example(row, labels, float(len(response)))

    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """From the prompt's last place on the answer spells the right number and its end mark; the rest is ignored."""
        self.check(inputs, "questions")
        self.check(answers, "answers")
        wanted = (self.response(row) for row in inputs)
        return np.array([self._says(r, a, w) for r, a, w in zip(inputs, answers, wanted, strict=True)], bool)

    def _says(self, row: np.ndarray, answer: np.ndarray, wanted: np.ndarray | None) -> bool:
        if wanted is None:
            return False
        first = int(np.flatnonzero(row == self.separator)[0])
        return bool(np.array_equal(answer[first : first + len(wanted)], wanted))

    def domain(self, question: np.ndarray) -> np.ndarray:
        """The response from the prompt's last place on; what is ignored is padding."""
        answer, wanted = np.zeros(len(question), np.uint8), self.response(question)
        if wanted is not None:
            first = int(np.flatnonzero(question == self.separator)[0])
            answer[first : first + len(wanted)] = wanted
        return (np.arange(self.vocab) == answer[:, None]) & (wanted is not None)  # type: ignore[no-any-return]

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """Nothing: the domain is the answer."""

    def response(self, row: np.ndarray) -> np.ndarray | None:
        """The tokens that should follow the prompt of this row, end mark included; None where there is no sum."""
        prompt = self.decode(row).partition("=")
        for operator, rule in RULES.items():
            a, _, b = prompt[0].partition(operator)
            if prompt[1] and a.isdigit() and b.isdigit():
                said = f"{rule(int(a), int(b))}{END}"
                return self.encode(said.ljust(self.shape[1], self.pad_symbol))[: len(said)]
        return None

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
