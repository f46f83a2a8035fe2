"""`compare`: several ways to think on the same questions, under the same budget, beside a null arm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from innerloop import files
from innerloop.cli.inputs import refuse_overwrite
from innerloop.cli.thinking import NO_FLAGS, ModelFlags, ModelName, parse_budget, read_shots
from innerloop.data.gym import gym_questions
from innerloop.data.questions import questions_of, read_questions
from innerloop.errors import InputError
from innerloop.ledger import counting
from innerloop.lm.cassette import Recorded
from innerloop.registry import open_run, with_depth
from innerloop.runs.certificate import birth_certificate
from innerloop.schema import Range, Share
from innerloop.show.comparison import amount, page, verdict_words
from innerloop.study.compare import NULL, ArmRow, Comparison, ItemRow
from innerloop.study.compare import compare as run_comparison
from innerloop.text import printable
from innerloop.tokens.marks import ORACLE, judges, with_verifier
from innerloop.tokens.prompts import Shot
from innerloop.tokens.samples import Samples
from innerloop.tokens.way import Item, Way
from innerloop.tokens.ways import way_of

__all__ = ["compare"]

RESULT, PAGE, CALLS = "compare.json", "compare.html", "calls.jsonl"
PER_QUESTION = 1000  # tokens, where no budget is given
TASK_QUESTIONS = 200  # of a run's own task, where no file is given
GYM = "gym:"  # before the name of a dataset of reasoning-gym
GIVEN = {"a calculator": {"act", "plan"}, "names of steps": {"shorthand"}}  # to ways that are called so
AT = " @ "  # between a way and a model of its own
Questions = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[FILE]")]


def compare(
    model: ModelName,
    questions: Questions = "",
    think: tuple[str, ...] = ("direct", "vote(8)"),
    budget: str = "",
    null: str = "direct",
    kind: str = "",
    verify: str = "",
    shots: str = "",
    limit: Annotated[int, Range(0, 100_000)] = 0,
    score: Share = 1.0,
    samples: Annotated[int, Range(1, 1024)] = 32,
    seed: Annotated[int, Range(0, (1 << 63) - 1)] = 0,
    out: str = "",
    replay: bool = False,
    how: Annotated[ModelFlags, tyro.conf.OmitArgPrefixes] = NO_FLAGS,
) -> int:
    """Compare ways to think on the same questions at equal spending, beside independent samples that cost as much.

    Example:  innerloop compare smollm2 examples/products.jsonl --think direct "vote(8, direct)" --budget 50k-tokens

    Every call is kept in FOLDER/calls.jsonl: the same command goes on where it was, and pays nothing twice.

    Args:
        model: A run that learned to write, a model of innerloop get, a file.gguf, or MODEL@URL of an endpoint.
        questions: JSON Lines, JSON or CSV with the fields question and answer; gym:NAME, a dataset of reasoning-gym; of
            a run, by default what its own task makes and it never learned from.
        think: Ways to think (innerloop list), such as direct, "vote(8)" or "best(8, verify)"; by another model where
            that is named, "direct @ runs/looped", or "direct @ runs/looped:8" for 8 steps of its loop at every token.
        budget: Of each way, over all questions: 200k-tokens, 500-completions, and of runs 20G-flops or 5k-nfe. Default:
            1000 tokens a question.
        null: The way of which the null arm takes samples.
        kind: Of all answers: number, choice, yesno, valid, math or text; by default as each right answer looks.
        verify: A Python file with check(question, answer); or "answers", a verifier that knows them: an upper bound.
        shots: A file of worked examples: question, chain, answer.
        limit: Questions to take, from the first on; 0: all of a file, 200 of those that are made.
        score: Of reasoning-gym's scorers, from 0 to 1: the least at which an answer is right.
        samples: Most samples of the null arm for a question.
        out: Folder of the result; by default runs/compare-NAME of the file.
        replay: Ask nobody: everything comes from the calls that were kept.
    """
    items = with_verifier(asked_questions(model, questions, kind, limit, seed, score), verify)
    worked = read_shots(shots)
    unit, each = budget_of_each(budget, len(items))
    folder = Path(out or f"runs/compare-{Path(questions or model).name.partition('.')[0].replace(':', '-')}")
    refuse_overwrite(folder / RESULT, read_result)
    opened = (models := Models(folder, how, replay)).named(model)
    ways = ways_of(think, models, model, worked)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    sampled = Samples(way_of(null, opened, worked, temperature=0.7), samples)
    with console.status("thinking") as status, counting(flops=True):
        seen = Progress(status, len(items) * (len(ways) + 1))
        result = run_comparison(
            items, ways, sampled, {unit: each}, seed=seed, workers=how.workers, on_row=seen,
            knows=known(list(ways), verifier_in_words(verify, items), bool(worked)),
        )  # fmt: skip
    keep(folder, as_json(result, opened, questions, null, seed, items))
    print_result(console, result, null, judges(items))
    console.print(f"{models.paid}; {files.shown(folder / RESULT)}, {PAGE}", markup=False, style="dim")
    return 0


def keep(folder: Path, found: dict[str, Any]) -> None:
    """Write the result and its page."""
    files.write_json(folder / RESULT, found)
    files.write_text(folder / PAGE, page(found))


def asked_questions(model: str, questions: str, kind: str, limit: int, seed: int, score: float) -> list[Item]:
    """The questions of a file, of a dataset of reasoning-gym, or those that the task of a run makes."""
    if questions.startswith(GYM):
        if kind:
            raise InputError(
                f"--kind is of files: the answers to {printable(questions, 60)} are marked by its own scorer"
            )
        return gym_questions(questions.removeprefix(GYM), limit or TASK_QUESTIONS, seed, score)
    if questions:
        return read_questions(questions, kind, limit, score)
    name, _ = with_depth(model)
    if not Path(name).is_dir():
        raise InputError(f"give a file of questions: {printable(model, 60)} is no run with a task that makes some")
    task: Any = open_run(name).task
    if not hasattr(task, "questions"):
        raise InputError(f"{printable(model, 60)} learned {task.name}, which asks no questions in text: give a file")
    return questions_of(task, limit or TASK_QUESTIONS)


def ways_of(think: Sequence[str], models: Models, model: str, shots: Sequence[Shot]) -> dict[str, Way]:
    """The ways by their texts. Raises InputError for one that is named twice."""
    ways = {text: way_of(way, models.named(other or model), shots) for text, way, other in map(split_arm, think)}
    if len(ways) < len(think):
        raise InputError("a way to think is named twice: name each once")
    return ways


def split_arm(text: str) -> tuple[str, str, str]:
    """(an arm as it is written, its way, its own model or "")."""
    way, at, model = text.rpartition(AT)
    return (text, way.strip(), model.strip()) if at else (text, text, "")


class Models:
    """The models of the arms, each opened once, with the calls of each in a file of the folder."""

    def __init__(self, folder: Path, how: ModelFlags, replay: bool) -> None:
        self.folder, self.how, self.replay = folder, how, replay
        self.opened: dict[str, Recorded] = {}

    @property
    def paid(self) -> str:
        """What was asked of the models themselves, in words."""
        completions = int(sum(m.paid.completions for m in self.opened.values()))
        dollars = sum(m.paid.money for m in self.opened.values())
        told = f"{completions:,} completions were paid" if completions else "nothing was paid"
        return told + (f", ${dollars:.4g}" if dollars else "")

    def named(self, name: str) -> Recorded:
        """The first model's calls are in calls.jsonl, the second's in calls-2.jsonl, and so on."""
        if name not in self.opened:
            number = len(self.opened) + 1
            path = self.folder / (CALLS if number == 1 else f"calls-{number}.jsonl")
            made = Recorded.offline(path) if self.replay else Recorded(self.how.open(name), path)
            if self.replay:
                made.prices = self.how.prices_of(name)
            self.opened[name] = made
        return self.opened[name]


def budget_of_each(budget: str, count: int) -> tuple[str, float]:
    """(unit, amount) of one of `count` questions, in one way. Raises InputError for a budget that is too small."""
    unit, total = parse_budget(budget) if budget else ("tokens", float(PER_QUESTION * count))
    each = total / count if unit == "money" else total // count
    if each <= 0:
        raise InputError(f"a budget of {budget} leaves nothing for each of {count} questions: give a larger one")
    return unit, each


class Progress:
    """Shows how many questions are answered."""

    def __init__(self, status: Any, total: int) -> None:
        self.status, self.total, self.done = status, total, 0

    def __call__(self, arm: str, row: ItemRow) -> None:
        self.done += 1
        self.status.update(f"{self.done:,} of {self.total:,} answers ({printable(arm, 40)})")


def verifier_in_words(verify: str, items: Sequence[Item]) -> str:
    """The verifier that ways may ask; "" for none."""
    if verify:
        return "a verifier that knows the answers" if verify == ORACLE else f"the verifier {Path(verify).name}"
    return "the verifier that comes with the questions" if any(i.check for i in items) else ""


def known(ways: Sequence[str], verifier: str, shots: bool) -> dict[str, str]:
    """What each arm is given to know besides the question."""
    told = {}
    for name in ways:
        parts = ["worked examples"] if shots and "direct" not in name else []
        if verifier and any(word in name for word in ("verify", "retry", "best(")):
            parts.append(verifier)
        used = set(re.findall(r"\w+", name.partition(AT)[0]))
        parts += [what for what, ways_with in GIVEN.items() if used & ways_with]
        told[name] = " and ".join(parts)
    return told


def print_result(console: Console, result: Comparison, null: str, marked: Sequence[str]) -> None:
    """The table, the verdicts in words, and what marked the answers where it is more than their equality."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("way", "right %", "95 % interval", "unparsed", "cut", result.unit, f"{NULL} %"):
        table.add_column(name, justify="left" if name == "way" else "right", no_wrap=name != "way")
    for row in result.rows:
        name = f"{NULL}: samples of {null}" if row.name == NULL else row.name
        shares = f"{100 * row.accuracy:.1f}", f"{100 * row.low:.1f} to {100 * row.high:.1f}"
        lost = str(row.marks["unparsed"]), str(row.marks["cut"])
        against = "" if row.null_accuracy is None else f"{100 * row.null_accuracy:.1f}"
        table.add_row(f"{name}{' *' * row.on_frontier}", *shares, *lost, amount(row.spent.get(result.unit, 0)), against)
    console.print(table)
    note = f"{result.rows[0].n} questions; {result.unit} of one; {NULL} %: of as many samples as cost the same"
    console.print(f"{note}; * nothing cheaper is as good", markup=False, style="dim")
    for row in result.rows:
        if row.against_null is not None:
            verdict = verdict_words(row.null_samples, row.against_null)
            console.print(f"{row.name}: {verdict}{details_of(row, result)}", markup=False)
    for told in marked:
        console.print(f"marked: {told}", markup=False, style="dim")


def details_of(row: ArmRow, result: Comparison) -> str:
    """What an arm could have selected, and what it was given to know."""
    parts = []
    if row.coverage:
        most = max(row.coverage)
        parts.append(f"one of its {most} samples is right in {row.coverage[most]:.1%}")
    if told := result.knows.get(row.name):
        parts.append(f"it was given {told}")
    return "; " * bool(parts) + "; ".join(parts)


def as_json(
    result: Comparison, model: Any, questions: str, null: str, seed: int, items: Sequence[Item]
) -> dict[str, Any]:
    """The result as it is kept."""
    return {
        "model": model.name, "questions": questions, "null": null, "unit": result.unit, "limits": result.limits,
        "seed": seed, "marked": judges(items), "knows": result.knows,
        "rows": [asdict(row) | paired_json(row) for row in result.rows],
        "null_curve": [list(point) for point in result.null_curve],
        "asked": {i.id: {"question": i.question, "answer": i.answer} for i in items},
        "arms": [
            {"name": a.name, "items": [{"id": r.id, "mark": r.mark, "spent": r.spent} | asdict(r.said) for r in a.rows]}
            for a in result.arms
        ],
        "born": birth_certificate([seed]),
    }  # fmt: skip


def paired_json(row: ArmRow) -> dict[str, Any]:
    return {"against_null": None if row.against_null is None else row.against_null._asdict()}


def read_result(path: Any) -> None:
    """Raise InputError unless this is a result that `compare` wrote."""
    value = files.read_json(path)
    if not isinstance(value, dict) or not {"rows", "arms", "null_curve", "born"} <= set(value):
        raise InputError(f"{files.shown(path)} is no result of compare")
