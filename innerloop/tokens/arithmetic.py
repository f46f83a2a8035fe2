"""Expressions of arithmetic in texts, and the check of a game in which given numbers have to make another one.

    fault("(1-1)+3*8", (1, 1, 3, 8), 24)      # "": it is right
    fault("1*3*8", (1, 1, 3, 8), 24)          # "it uses 1, 3, 8, and not 1, 1, 3, 8"

An expression is read by rules of ours (tokens.latex) and computed with fractions; nothing that a model wrote is run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from innerloop.tokens.equality import exact
from innerloop.tokens.latex import Node, plain, read

__all__ = ["expressions", "fault"]

RUN = re.compile(r"(?:\\[a-z]+|[\d+\-*/(){} \t\u2212\u00d7\u00f7\u00b7]|(?<=\d)\.(?=\d))+")
BULLET = re.compile(r"^[ \t]*[-*\u2022][ \t]+", re.MULTILINE)
OPERATIONS = ("+", "-", "*", "/", "neg")


def expressions(text: str) -> list[str]:
    """The expressions of a text that have an operation, without spaces; what follows "=" is none of them."""
    found = []
    for run in RUN.findall(BULLET.sub("", text)):
        one = re.sub(r"\s+", "", plain(run))
        node = read(one)
        if node is not None and node.op in OPERATIONS:
            found.append(one)
    return found


def uses_and_makes(text: str) -> tuple[list[int], Fraction] | None:
    """(the whole numbers that an expression of + - * / uses, its value); None for one that is none."""
    node = read(text)
    if node is None:
        return None
    used, made = list(numbers_of(node)), exact(node)
    if made is None or any(n is None for n in used):
        return None
    return [n for n in used if n is not None], made


def numbers_of(node: Node) -> Iterator[int | None]:
    """The whole numbers of a tree, from left to right; None for anything else than these and + - * /."""
    if node.op == "num":
        number: Any = node.args[0]
        yield int(number) if number.denominator == 1 else None
    elif node.op in OPERATIONS:
        for part in node.args:
            yield from numbers_of(part)
    else:
        yield None


def fault(text: str, numbers: tuple[int, ...], target: int) -> str:
    """What is wrong with an expression that has to make `target` of the numbers, each used once; "" for a right one."""
    found = uses_and_makes(text)
    if found is None:
        return "it is no expression of whole numbers, + - * / and parentheses"
    used, made = found
    if Counter(used) != Counter(numbers):
        return f"it uses {listed(sorted(used))}, and not {listed(sorted(numbers))}"
    return "" if made == target else f"it makes {made}, and not {target}"


def listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
