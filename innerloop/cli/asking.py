"""`ask`: one question to a language model, by a way to think, under a budget."""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from innerloop.budget import limited
from innerloop.cli.thinking import NO_FLAGS, ModelFlags, ModelName, read_shots, tally, worded_spending
from innerloop.cli.watching import shown
from innerloop.schema import Range
from innerloop.tokens.marks import with_verifier
from innerloop.tokens.samples import spent_on
from innerloop.tokens.way import UNKNOWN, Item, answer
from innerloop.tokens.ways import sure_of, way_of

__all__ = ["ask"]

Question = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="QUESTION")]


def ask(
    model: ModelName,
    question: Question,
    think: str = "chain",
    kind: str = "number",
    verify: str = "",
    shots: str = "",
    tokens: Annotated[int, Range(1, 1 << 30)] = 2000,
    temperature: Annotated[float, Range(0, 100)] = 0.0,
    seed: Annotated[int, Range(0, (1 << 63) - 1)] = 0,
    how: Annotated[ModelFlags, tyro.conf.OmitArgPrefixes] = NO_FLAGS,
) -> int:
    """Ask a language model one question by a way to think, and say the answer, how sure it is, and what it cost.

    In a terminal, what it writes is shown while it is written.

    Example:  innerloop ask smollm2 "What is 7 times 8?" --think "vote(8)"

    Args:
        model: A run that learned to write, a model of innerloop get, a file.gguf, the folder of a Hugging Face model,
            or MODEL@URL of an endpoint.
        question: What is asked.
        think: A way to think (innerloop list), such as direct, "vote(8)" or "budget(512, wait=2)".
        kind: Of the answer: number, choice, yesno, valid, math or text.
        verify: A Python file with check(question, answer), which returns True, False or what is wrong.
        shots: A file of worked examples: question, chain, answer.
        tokens: Most tokens, read and written.
        temperature: Of a way of one sample; ways of several samples take at least 0.7 by themselves.
    """
    (item,) = with_verifier([Item("question", question, kind=kind)], verify)
    worked = read_shots(shots)
    opened = how.open(model)
    way = way_of(think, opened, worked, temperature)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    with shown(console), limited(tokens=tokens) as budget:
        said = answer(way, item, seed)
    if said.text.strip():
        console.print(said.text.strip(), markup=False, style="dim")
    if said.samples:
        console.print(f"answers: {tally([s.answer for s in said.samples])}", markup=False)
    if said.answer is None:
        console.print(f"I don't know: {UNKNOWN[said.outcome]}", markup=False)
    else:
        sure = "" if said.confidence is None else f" ({said.confidence:.0%} {sure_of(way)})"
        console.print(f"{said.answer}{sure}", markup=False, style="bold")
    console.print(worded_spending(spent_on(budget)), markup=False)
    return 0
