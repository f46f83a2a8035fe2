"""TextTask: questions and answers as running text over one set of characters, for models that read in order.

    "7+5*3c>"      a prompt: the question, a mode, and the mark that ends it
    "2,6=6;"       a response: the chain of thought, "=", the answer, the end mark

Modes: "direct" (the answer alone), "chain" (a chain before it), and the control "dots" (as many dots as the chain has
characters). The label of a place is the token after it, from the prompt's last place on, so a row is right here exactly
when a model that reads in order writes the response by itself. Questions are split by a hash of their text: lists of a
large seed, which runs use for validation and tests, hold only those that no list of a small seed ever holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from innerloop.data.sets import Example
from innerloop.errors import InputError
from innerloop.tasks.task import Task, item_rng

__all__: list[str] = []  # the base is no task

END, ENDS_PROMPT, CUE = ";", ">", "="
CHARSET = "0123456789abcdefghijklmnopqrstuvwxyz +-*/%()<,.:?|#^" + CUE + ENDS_PROMPT + END
MODES = {"direct": "d", "chain": "c", "dots": "."}  # name: its mark in the prompt
HELD_OUT = 10  # one question of so many is held out
FIRST_HELD_OUT_SEED = 1_000_003  # of lists that hold these alone (runs.fit)
LONGEST = 4096  # characters of a row
TRIES = 10_000  # questions drawn until one belongs to the list


class TextTask(Task):
    """A task file fills in `pose` and `explain`, and what `longest` needs; see the module docstring."""

    charset = CHARSET
    vocab = len(CHARSET) + 1
    separator = CHARSET.index(ENDS_PROMPT) + 1  # ends the prompt: for parts.config.NetConfig.separator
    end = CHARSET.index(END) + 1  # ends a text: for NetConfig.end
    causal = True
    packs = True  # several texts share a row in training
    answer_kind = "number"  # of innerloop.tokens.answers
    cue = CUE  # before the answer in a response
    modes: tuple[str, ...] = tuple(MODES)

    def setup(self, places: int, modes: Sequence[str], **options: Any) -> None:
        """Set shape, modes and options. Raises InputError."""
        if not modes or (unknown := [m for m in modes if m not in MODES]):
            raise InputError(f"modes {list(modes)} hold {unknown}: use one or more of {', '.join(MODES)}")
        if not 2 <= places <= LONGEST:
            raise InputError(f"a text of {places} characters is out of range: give 2 to {LONGEST}, or smaller options")
        self.modes, self.shape = tuple(modes), (1, places)
        self.options = {**options, "modes": list(modes), "places": places}

    # -- what a task says ---------------------------------------------------------------------------------------------
    def pose(self, rng: np.random.Generator) -> str:
        """A question drawn at random."""
        raise NotImplementedError

    def explain(self, question: str) -> tuple[str, str] | None:
        """(chain, answer) of a question; None for a text that is no question of this task."""
        raise NotImplementedError

    def is_right(self, question: str, answer: str) -> bool:
        """Whether an answer is right; here it is the only right one."""
        explained = self.explain(question)
        return explained is not None and answer == explained[1]

    @property
    def answers_alone(self) -> bool:
        """Whether a question has one right answer."""
        return type(self).is_right is TextTask.is_right

    # -- texts --------------------------------------------------------------------------------------------------------
    @property
    def forms(self) -> dict[str, str]:
        """What follows a question in the prompt, by mode."""
        return {mode: MODES[mode] + ENDS_PROMPT for mode in self.modes}

    def respond(self, question: str, mode: str) -> str | None:
        """The right response, without the end mark; None for a text that is no question."""
        explained = self.explain(question)
        if explained is None:
            return None
        chain, answer = explained
        before = {"direct": "", "chain": chain, "dots": "." * len(chain)}[mode]
        return f"{before}{CUE}{answer}" if before else answer

    def parse(self, text: str) -> tuple[str, str, str] | None:
        """(question, mode, response) of a row's text; None where it is none. The response ends before its end mark."""
        prompt, mark, rest = text.partition(ENDS_PROMPT)
        mode = next((m for m in self.modes if prompt.endswith(MODES[m])), None)
        return (prompt[:-1], mode, rest.partition(END)[0]) if mark and mode else None

    # -- examples -----------------------------------------------------------------------------------------------------
    def draw(self, seed: int, i: int) -> tuple[str, np.random.Generator]:
        """(question i of a list, the generator it was drawn with)."""
        rng, held_out = item_rng(seed, i), seed >= FIRST_HELD_OUT_SEED
        for _ in range(TRIES):
            question = self.pose(rng)
            if is_held_out(question) == held_out:
                return question, rng
        raise InputError(f"{self.name} has no {'held-out' if held_out else 'training'} question: give larger options")

    def sample(self, seed: int, i: int) -> Example:
        question, rng = self.draw(seed, i)
        mode = self.modes[int(rng.integers(len(self.modes)))]
        response = self.respond(question, mode)
        assert response is not None
        return self.example(f"{question}{self.forms[mode]}", f"{response}{END}")

    def questions(self, count: int, seed: int = FIRST_HELD_OUT_SEED) -> list[str]:
        """`count` different questions of a list, fewer where it has no more; by default held-out ones."""
        drawn: dict[str, None] = {}
        for i in range(20 * count):
            if len(drawn) == count:
                break
            drawn[self.draw(seed, i)[0]] = None
        return list(drawn)

    def example(self, prompt: str, response: str) -> Example:
        """A row and its labels; the response ends with the end mark. The rating is the response's length."""
        if len(prompt) + len(response) > self.shape[1]:
            raise InputError(f"{prompt}{response} is longer than a row of {self.shape[1]}: give more places")
        row = self.encode((prompt + response).ljust(self.shape[1], self.pad_symbol))
        labels = np.zeros_like(row)
        asked = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
        labels[asked] = row[len(prompt) : len(prompt) + len(response)]
        return Example(row, labels, float(len(response)))

    # -- scores -------------------------------------------------------------------------------------------------------
    def valid_batch(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """From the prompt's last place on the answer spells the right response and its end mark."""
        self.check(inputs, "questions")
        self.check(answers, "answers")
        wanted = (self.response(row) for row in inputs)
        return np.array([self._says(r, a, w) for r, a, w in zip(inputs, answers, wanted, strict=True)], bool)

    def _says(self, row: np.ndarray, answer: np.ndarray, wanted: np.ndarray | None) -> bool:
        if wanted is None:
            return False
        first = int(np.flatnonzero(row == self.separator)[0])
        return bool(np.array_equal(answer[first : first + len(wanted)], wanted))

    def response(self, row: np.ndarray) -> np.ndarray | None:
        """The tokens that should follow the prompt of this row, end mark included; None where there is no question."""
        parsed = self.parse(self.decode(row))
        said = None if parsed is None else self.respond(*parsed[:2])
        if said is None or len(said) >= self.shape[1]:
            return None
        return self.encode(f"{said}{END}".ljust(self.shape[1], self.pad_symbol))[: len(said) + 1]

    def domain(self, question: np.ndarray) -> np.ndarray:
        """The response from the prompt's last place on; what is ignored is padding."""
        answer, wanted = np.zeros(len(question), np.uint8), self.response(question)
        if wanted is not None:
            first = int(np.flatnonzero(question == self.separator)[0])
            answer[first : first + len(wanted)] = wanted
        return (np.arange(self.vocab) == answer[:, None]) & (wanted is not None)  # type: ignore[no-any-return]

    def constrain(self, model: Any, has: Callable[[int, int], Any], question: np.ndarray) -> None:
        """Nothing: the domain is the answer."""


def is_held_out(question: str) -> bool:
    """Whether a question is one of the tenth that no training list holds."""
    return hashlib.sha256(question.encode()).digest()[0] % HELD_OUT == 0
