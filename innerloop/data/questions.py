"""Files of questions for language models: JSON Lines, JSON or CSV, with a question and mostly an answer a row.

    items = read_questions("questions.jsonl")       # fields question, answer, and id, kind where there are any

Other names that are known: problem, prompt, input; solution, target, label, expected. What kind of answer it is (a
number, a choice, yes or no, a text) is seen from the right answer, or said by `kind`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.errors import InputError
from innerloop.text import printable
from innerloop.tokens.answers import as_number, find, kind_named
from innerloop.tokens.way import Item, Verdict

__all__ = ["guess_kind", "questions_of", "read_questions"]

NAMES = {  # field: the names it may have in a file, the first of which counts
    "question": ("question", "problem", "prompt", "input"),
    "answer": ("answer", "target", "solution", "label", "expected"),
    "id": ("id", "ID", "index"),
    "kind": ("kind",),
}
MOST_QUESTIONS, LONGEST = 100_000, 1 << 20  # rows of a file, characters of a question


def read_questions(path: Path | str, kind: str = "", limit: int = 0) -> list[Item]:
    """The questions of a file, the first `limit` of them (0: all). Raises InputError that names the row.

    kind    of all answers, where the file does not say; "": as each right answer looks
    """
    items: list[Item] = []
    seen: set[str] = set()
    for where, row in rows_of(Path(path)):
        if limit and len(items) >= limit:
            break
        if len(items) >= MOST_QUESTIONS:
            raise InputError(f"{files.shown(path)} holds more than {MOST_QUESTIONS:,} questions: split it")
        item = item_of(row, where, str(len(items) + 1), kind)
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


def item_of(row: Mapping[str, Any], where: str, number: str, kind: str) -> Item:
    """The question of a row."""
    found = {
        field: next((row[n] for n in names if row.get(n) not in (None, "")), None) for field, names in NAMES.items()
    }
    question, answer = found["question"], found["answer"]
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"{where} has no question: give a field named {' or '.join(NAMES['question'])}")
    if len(question) > LONGEST:
        raise InputError(f"{where} has a question of {len(question):,} characters: give at most {LONGEST:,}")
    text = None if answer is None else str(answer)
    named = kind or (str(found["kind"]) if found["kind"] else "" if text is None else guess_kind(text)) or "number"
    kind_named(named)
    if text is not None and find(named, text) is None:
        raise InputError(f"{where}: the answer {printable(text, 60)!r} is no {named}: give another kind, or mend it")
    return Item(str(found["id"] if found["id"] is not None else number), question, text, named)


def guess_kind(answer: str) -> str:
    """The kind that a right answer is of."""
    plain = answer.strip().rstrip(".")
    if "####" in answer or as_number(plain) is not None:
        return "number"
    if re.fullmatch(r"\([A-Za-z]\)|[A-J]", plain):
        return "choice"
    return "yesno" if plain.lower() in ("yes", "no", "true", "false") else "text"


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
