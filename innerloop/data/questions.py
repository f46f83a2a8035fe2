"""Files of questions for language models: JSON Lines, JSON or CSV, with a question and mostly an answer a row.

    items = read_questions("questions.jsonl")       # fields question, answer, and id, kind where there are any

Other names that are known, in any case: problem, prompt, input; solution, target, label, expected. What kind of answer
it is (a number, a choice, yes or no, LaTeX, a text) is seen from the right answer, or said by `kind`. So the files of
GSM8K, MATH, AIME and BIG-Bench Hard are read as they are; those of the game of 24 and of reasoning-gym have rows of
their own (data.known, data.gym).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.data.gym import gym_row
from innerloop.data.known import number_game
from innerloop.errors import InputError
from innerloop.text import printable
from innerloop.tokens.answers import as_number, find, kind_named, last_boxed
from innerloop.tokens.latex import read
from innerloop.tokens.math_judge import NEEDS, can_judge
from innerloop.tokens.way import Item, Verdict

__all__ = ["guess_kind", "questions_of", "read_questions"]

NAMES = {  # field: the names it may have in a file, the first of which counts
    "question": ("question", "problem", "prompt", "input"),
    "answer": ("answer", "target", "solution", "label", "expected"),
    "id": ("id", "unique_id", "index", "rank"),
    "kind": ("kind",),
}
MOST_QUESTIONS, LONGEST = 100_000, 1 << 20  # rows of a file, characters of a question


def read_questions(path: Path | str, kind: str = "", limit: int = 0, least: float = 1.0) -> list[Item]:
    """The questions of a file, the first `limit` of them (0: all). Raises InputError that names the row.

    kind    of all answers, where the file does not say; "": as each right answer looks
    least   score from which an answer to a row of reasoning-gym is right
    """
    items: list[Item] = []
    seen: set[str] = set()
    file = Path(path).name.partition(".")[0]
    for where, row in rows_of(Path(path)):
        if limit and len(items) >= limit:
            break
        if len(items) >= MOST_QUESTIONS:
            raise InputError(f"{files.shown(path)} holds more than {MOST_QUESTIONS:,} questions: split it")
        row = {str(name).strip().lower(): value for name, value in row.items()}
        number = str(next((row[n] for n in NAMES["id"] if row.get(n) not in (None, "")), len(items) + 1))
        item = number_game(row, where, number) or gym_row(row, file, where, number, least)
        item = item or item_of(row, where, number, kind)
        if item.id in seen:
            raise InputError(f"{where}: the id {printable(item.id, 60)} occurs twice: give each question its own")
        seen.add(item.id)
        items.append(item)
    if not items:
        raise InputError(f"{files.shown(path)} holds no question")
    return items


def questions_of(task: Any, count: int, seed: int | None = None) -> list[Item]:
    """`count` questions that a text task makes (tasks.text), of those that no training list holds; fewer if it has
    no more.

    A question of which several answers are right has a verifier in place of an answer.
    """
    drawn = task.questions(count) if seed is None else task.questions(count, seed)
    return [task_item(task, str(i), question) for i, question in enumerate(drawn, 1)]


def task_item(task: Any, name: str, question: str) -> Item:
    """One of them."""
    if task.answers_alone:
        return Item(name, question, task.explain(question)[1], task.answer_kind)
    return Item(name, question, None, task.answer_kind, lambda answer: Verdict(task.is_right(question, answer)))


def item_of(row: Mapping[str, Any], where: str, name: str, kind: str) -> Item:
    """The question of a row, whose fields are in lower case."""
    found = {
        field: next((row[n] for n in names if row.get(n) not in (None, "")), None) for field, names in NAMES.items()
    }
    question, answer = found["question"], found["answer"]
    if not isinstance(question, str) or not question.strip():
        raise InputError(
            f"{where} has no question, only {fields_of(row)}: give a field named {' or '.join(NAMES['question'])}, or "
            "numbers and target of a number game"
        )
    if len(question) > LONGEST:
        raise InputError(f"{where} has a question of {len(question):,} characters: give at most {LONGEST:,}")
    text = None if answer is None else str(answer)
    named = kind or (str(found["kind"]) if found["kind"] else "" if text is None else guess_kind(text)) or "number"
    kind_named(named)
    if text is not None and (right := find(named, text)) is None:
        raise InputError(f"{where}: the answer {printable(text, 60)!r} is no {named}: give another kind, or mend it")
    if named == "math" and text is not None and not can_judge(right or ""):
        raise InputError(
            f"{where}: our own rules do not read the answer {printable(text, 60)!r}; with {NEEDS} it is judged"
        )
    return Item(name, question, text, named)


def fields_of(row: Mapping[str, Any]) -> str:
    """The names of a row's fields, for a message."""
    return printable(", ".join(row), 100) or "no field"


def guess_kind(answer: str) -> str:
    """The kind that a right answer is of."""
    plain = (last_boxed(answer) or answer).strip().rstrip(".")
    if "####" in answer or as_number(plain) is not None:
        return "number"
    if re.fullmatch(r"\([A-Za-z]\)|[A-J]", plain):
        return "choice"
    if plain.lower() in ("yes", "no", "true", "false", "valid", "invalid"):
        return "valid" if "valid" in plain.lower() else "yesno"
    return "math" if "\\" in plain or is_formula(plain) else "text"


def is_formula(text: str) -> bool:
    """Whether a text without LaTeX's commands is read as more than letters, words and single signs."""
    node = read(text)
    return node is not None and node.op not in ("word", "var") and bool(re.search(r"\d|[-+*/^=]", text))


def rows_of(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place in the file, for messages; the row) of every row."""
    ending = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if ending == "csv":
        with files.open_text(path) as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                yield f"{files.shown(path)}, row {number}", row
        return
    if ending == "json":
        value = files.read_json(path)
        if isinstance(value, Mapping) and isinstance(value.get("examples"), list):  # as BIG-Bench Hard is published
            value = value["examples"]
        if not isinstance(value, list):
            raise InputError(f"{files.shown(path)} is no list of questions")
        pairs = enumerate(value, 1)
    else:
        texts = enumerate(files.lines(path), 1)
        pairs = ((n, files.parse_json(t, f"{files.shown(path)}, line {n}")) for n, t in texts if t.strip())  # type: ignore[assignment]
    for number, row in pairs:
        where = f"{files.shown(path)}, line {number}"
        if not isinstance(row, Mapping):
            raise InputError(f"{where} is no object with a question")
        yield where, row
