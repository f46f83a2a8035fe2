"""Questions of reasoning-gym: made by its datasets, or read from a file, and marked by its own scorers.

    items = gym_questions("chain_sum", 50, seed=0)        # innerloop compare MODEL gym:chain_sum --limit 50

A scorer gives 0 to 1. An answer is right from `least` on, by default only at 1. The scorers know the answers, so they
mark and are no verifiers of the ways to think. They run in a process of its own (tokens.child).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable
from innerloop.tokens.answers import as_number
from innerloop.tokens.child import Child, Failed, TookTooLong
from innerloop.tokens.way import Item, Verdict

__all__ = ["Scorer", "gym_questions", "gym_row"]

PROCESS = Child()
MAKING_SECONDS = 600.0  # to make a dataset
SHORT = {"zebra": "zebra_puzzles", "rubiks2": "rubiks_cube"}  # names of files that are no names of datasets


class Scorer:
    """Marks the answers to one entry, by reasoning-gym's score_answer."""

    def __init__(self, name: str, least: float, function: str, *entry: Any) -> None:
        self.about = f"{name} by the scorer of reasoning-gym {version('reasoning-gym')}, right from {least:g}"
        self.name, self.least, self.function, self.entry = name, least, function, entry
        self.score = lru_cache(1024)(self.scored)

    def __call__(self, answer: str) -> Verdict:
        return Verdict(self.score(answer) >= self.least)

    def scored(self, answer: str) -> float:
        """0 to 1; 0 where the scorer fails or does not end in time."""
        try:
            return float(PROCESS.ask(self.function, self.name, *self.entry, answer))
        except (TookTooLong, Failed):
            return 0.0


def need_gym(name: str) -> str:
    """The name of a dataset, which is known. Raises InputError."""
    if importlib.util.find_spec("reasoning_gym") is None:
        raise InputError(f"{printable(name, 60)} is of reasoning-gym: pip install 'innerloop[gym]'")
    if name not in (names := gym_names()):
        raise InputError(f'reasoning-gym has no dataset "{printable(name, 60)}": {did_you_mean(name, names)}')
    return name


@lru_cache(1)
def gym_names() -> tuple[str, ...]:
    return tuple(PROCESS.ask("gym_names"))


def gym_questions(name: str, count: int, seed: int = 0, least: float = 1.0) -> list[Item]:
    """`count` questions of a dataset, the same for the same seed. Raises InputError."""
    need_gym(name)
    try:
        entries = PROCESS.ask("gym_entries", name, count, seed, seconds=MAKING_SECONDS)
    except Failed as error:
        raise InputError(f"reasoning-gym cannot make {name}: {printable(str(error), 200)}") from None
    except TookTooLong:
        raise InputError(
            f"reasoning-gym took over {MAKING_SECONDS:.0f} s to make {name}: give a smaller --limit"
        ) from None
    return [
        Item(f"{name}-{i}", question, answer, kind_of(answer), judge=Scorer(name, least, "gym_score", count, seed, i))
        for i, (question, answer) in enumerate(entries)
    ]


def kind_of(answer: str | None) -> str:
    """How answers are found in texts: as numbers where the right one is a whole number, else all that is said."""
    return "number" if answer is not None and as_number(answer) == answer and "/" not in answer else "whole"


def gym_row(row: Mapping[str, Any], file: str, where: str, name: str, least: float) -> Item | None:
    """The question of a row that reasoning-gym made; None for a row that is none.

    It has the fields question, answer and metadata (or meta). The dataset is what metadata.source_dataset says, else
    what the file is called: rg_NAME.jsonl.
    """
    metadata = row.get("metadata", row.get("meta"))
    if not isinstance(metadata, Mapping) or not isinstance(row.get("question"), str) or "answer" not in row:
        return None
    said = metadata.get("source_dataset") or (file.removeprefix("rg_") if file.startswith("rg_") else "")
    if not said:
        return None
    try:
        dataset = need_gym(SHORT.get(str(said), str(said)))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    answer = None if row["answer"] is None else str(row["answer"])
    entry = {"question": row["question"], "answer": answer, "metadata": dict(metadata)}
    judge = Scorer(dataset, least, "gym_score_row", entry)
    return Item(name, row["question"], answer, kind_of(answer), judge=judge)
