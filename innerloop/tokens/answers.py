r"""Answers in texts: finding them, and telling whether two are the same.

    found = find("number", "so we pay $29.00 in all")     # "29"
    same("number", found, "29 apples")                    # True

A text says its answer in or after a cue (`<answer>...</answer>`, `\boxed{...}`, "####", "the answer is", "Answer:"),
the last of which counts; without a cue it is the last thing of its kind in the text. Where nothing of its kind follows
a cue, or there is none at all, the answer is None, which is not the same as a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable
from innerloop.tokens.arithmetic import expressions
from innerloop.tokens.equality import normal
from innerloop.tokens.latex import read
from innerloop.tokens.math_judge import same_math

__all__ = ["KINDS", "Kind", "find", "kind_named", "same"]

CUE = re.compile(
    r"####|(?:final\s+answer|answer)\s*(?:is\s*:?|=|:|\*\*:|:\*\*)\s*|therefore,?\s+the\s+answer\s+is", re.IGNORECASE
)
NUMBER = re.compile(
    r"[-+\u2212]?\s?[$€£]?\s?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?:\s?/\s?\d+)?"
)
LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
CHOICE = re.compile(r"\(([A-Za-z])\)|(?<![A-Za-z'])(?![AI] [a-z])([A-R])(?![A-Za-z'])")  # no "A car", no "I think"
YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
VALID = re.compile(r"\b(valid|invalid|not valid)\b", re.IGNORECASE)
IN_MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
ASIDE = re.compile(r".*(?:[=:\u2248]|\b(?:is|are|be|get|equals|gives)\b)")  # before what a sentence says
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
SENTENCES = re.compile(r"\n|(?<=[.!?;])\s+(?=[A-Z])")
FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
WORDS = {"true": "yes", "false": "no"}
LONGEST = 400  # characters of an answer of free text


@dataclass(frozen=True)
class Kind:
    """A kind of answer: `all` finds every one in a text, in order, each as it is compared."""

    about: str
    all: Callable[[str], list[str]]


def numbers(text: str) -> list[str]:
    """Numbers, as exact fractions: "$1,234.50", "-3", "1/2", "2e3"."""
    found = []
    text = LATEX_FRACTION.sub(r"\1/\2", text)
    for match in NUMBER.finditer(text):
        raw = match.group().strip()
        if any(c.isdigit() for c in raw) and (value := as_number(raw)) is not None:
            if raw[0] in "-\u2212" and match.start() and text[match.start() - 1].isalnum():
                value = value.lstrip("-")  # a hyphen or a difference, such as 5-3, and no sign
            found.append(value)
    return found


def as_number(raw: str) -> str | None:
    """A number in its one form: a whole number or "numerator/denominator"; None if it is none."""
    plain = re.sub(r"[\s$€£,+]", "", raw.replace("\u2212", "-"))
    numerator, _, denominator = plain.partition("/")
    try:
        value = Fraction(Decimal(numerator)) / (Fraction(int(denominator)) if denominator else 1)
    except (InvalidOperation, ValueError, ZeroDivisionError, OverflowError):
        return None
    return str(value)


def choices(text: str) -> list[str]:
    """Letters of multiple choice: "(B)", "B"."""
    return [(a or b).upper() for a, b in CHOICE.findall(text)]


def yes_or_no(text: str) -> list[str]:
    """yes or no; true and false are those."""
    return [WORDS.get(word.lower(), word.lower()) for word in YES_NO.findall(text)]


def valid_or_not(text: str) -> list[str]:
    """valid or invalid."""
    return ["valid" if word.lower() == "valid" else "invalid" for word in VALID.findall(text)]


def formulas(text: str) -> list[str]:
    r"""Expressions in LaTeX: what stands in $...$, \(...\) or \[...\]; else what each sentence says."""
    marked = [next(filter(None, groups)).strip() for groups in IN_MATH.findall(text)]
    sentences = SENTENCES.split(text.replace("\\boxed{}", ""))
    told = marked or [said_in(sentence) for sentence in sentences if sentence.strip(" \t*`.")]
    return [normal(t) for t in told if is_answer(t)] or [normal(t) for t in told]


def said_in(sentence: str) -> str:
    """All of a sentence that is read as an expression; else what follows "=" or "is", or its last number."""
    sentence = sentence.strip(" \t*`")
    tail = ASIDE.sub("", sentence, count=1).strip(" \t*`.")
    if read(sentence) is not None or not tail:
        return sentence
    if read(tail) is not None or "\\" in tail:
        return tail
    return next(reversed(numbers(sentence)), sentence)


def is_answer(text: str) -> bool:
    """Whether this is read as an expression, or as one word."""
    node = read(text)
    return node is not None and (node.op != "word" or " " not in node.args[0])


def whole(text: str) -> list[str]:
    """All of it, or of its last code block, without outer blanks; of one line also without quotes and the full stop."""
    blocks = FENCED.findall(text)
    told = "\n".join(line.rstrip() for line in (blocks[-1] if blocks else text).splitlines()).strip("\n")
    told = told if "\n" in told else told.strip(" \t*`\"'$").removesuffix(".")
    return [told] if told.strip() else []


def lines(text: str) -> list[str]:
    """Lines of free text, without case, outer spaces, quotes and the full stop."""
    plain = [re.sub(r"\s+", " ", line).strip(" \t*`\"'.").casefold() for line in text.splitlines()]
    return [line[:LONGEST] for line in plain if line]


KINDS = {
    "number": Kind("a number; units, currency signs and thousands commas do not matter", numbers),
    "choice": Kind("a letter of multiple choice", choices),
    "yesno": Kind("yes or no", yes_or_no),
    "valid": Kind("valid or invalid", valid_or_not),
    "math": Kind("an expression in LaTeX: equal values are the same answer", formulas),
    "expression": Kind("an expression of arithmetic, such as (1-1)+3*8", expressions),
    "whole": Kind("all that is said, or that follows a cue, in several lines", whole),
    "text": Kind("a line of text; case and outer punctuation do not matter", lines),
}


def kind_named(name: str) -> Kind:
    """The kind of that name. Raises InputError."""
    if name not in KINDS:
        raise InputError(f'no kind of answer is called "{printable(name, 60)}": {did_you_mean(name, KINDS)}')
    return KINDS[name]


def find(kind: str, text: str, first: bool = False) -> str | None:
    """The answer that a text gives, in its one form; None where it gives none.

    first: the first of its kind in the text, as after a cue that was given in the prompt; else as the module says.
    """
    every = kind_named(kind).all
    if first:
        return next(iter(every(text)), None)
    if tagged := TAGGED.findall(text):
        return next(reversed(every(tagged[-1])), None)
    if boxed := last_boxed(text):
        text_of_box = every(boxed)
        return text_of_box[-1] if text_of_box else None
    if cues := list(CUE.finditer(text)):
        return next(iter(every(text[cues[-1].end() :])), None)
    found = every(text)
    return found[-1] if found else None


def last_boxed(text: str) -> str:
    r"""What stands in the last \boxed{...} of a text, inner braces included; "" where there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return ""
    depth, begin = 0, start + len("\\boxed")
    for i in range(begin, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[begin + 1 : i]
    return ""


def same(kind: str, a: str | None, b: str | None) -> bool:
    """Whether two answers are the same, the right one last; each may be any text. False where one gives none."""
    left, right = (None if x is None else find(kind, x) for x in (a, b))
    if left is None or right is None:
        return False
    return left == right or (kind == "math" and same_math(left, right))
