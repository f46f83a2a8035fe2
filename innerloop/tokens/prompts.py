"""Prompts of the ways: a question with an instruction and worked examples, as chat messages or as a plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.errors import InputError
from innerloop.lm.protocol import Prompt
from innerloop.tokens.way import Item

__all__ = ["BETWEEN", "DIRECT", "TRIGGER", "Shot", "answer_cue", "prompt_of"]

DIRECT = "Give only the final answer."
TRIGGER = "Let's think step by step."  # Kojima et al. 2022, arXiv 2205.11916
BEFORE, BETWEEN, AFTER = "Q: ", "\nA:", "\n\n"  # around a question, for models without a chat template
STOP = ("\n\nQ:", "\nQ:")
CUES = {
    "number": "Therefore, the answer (arabic numerals) is",
    "choice": "Therefore, among A through E, the answer is",
    "yesno": "Therefore, the answer (Yes or No) is",
    "text": "Therefore, the answer is",
}


@dataclass(frozen=True)
class Shot:
    """A worked example: what stands between question and answer is the chain, its equation, or dots in its place."""

    question: str
    chain: str
    answer: str
    equation: str = ""  # the sum alone, for the control "equation"

    def text(self, style: str) -> str:
        """The answer as the model is to write it: "chain", "equation" or "dots"."""
        middle = {"chain": self.chain, "equation": self.equation, "dots": "." * len(self.chain)}[style]
        if style == "equation" and not middle:
            raise InputError(f'the example "{self.question[:40]}" has no equation, which this control needs')
        return f"{middle} The answer is {self.answer}." if middle else f"The answer is {self.answer}."


def prompt_of(
    model: Any,
    item: Item,
    instruction: str = "",
    shots: Sequence[Shot] = (),
    style: str = "chain",
) -> tuple[Prompt, tuple[str, ...]]:
    """(the prompt of a question, texts at which the completion ends).

    In the form that the model was trained with, where it has `forms`; else messages, where it takes them, or a text.
    """
    if forms := getattr(model, "forms", None):
        if style not in forms or shots:
            reason = "worked examples" if shots else f'the mode "{style}"'
            raise InputError(
                f"{model.name} was not trained with {reason}: ask it in one of its modes, {', '.join(forms)}"
            )
        return f"{item.question}{forms[style]}", ()
    asked = f"{item.question}\n{instruction}" if instruction else item.question
    if "chat" in model.capabilities:
        messages = []
        for shot in shots:
            messages += [{"role": "user", "content": shot.question}, {"role": "assistant", "content": shot.text(style)}]
        return [*messages, {"role": "user", "content": asked}], ()
    worked = "".join(f"{BEFORE}{s.question}{BETWEEN} {s.text(style)}{AFTER}" for s in shots)
    return f"{worked}{BEFORE}{asked}{BETWEEN}", STOP if "stop" in model.capabilities else ()


def answer_cue(kind: str) -> str:
    """The words after which a model says its answer of this kind (arXiv 2205.11916)."""
    return CUES.get(kind, CUES["text"])
