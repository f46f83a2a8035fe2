r"""Whether two answers in LaTeX are equal by our own rules, cautious and bounded; and the one form of an answer.

    equal(r"\frac{1}{2}", "0.5")                     # True
    equal(r"(2,\infty)", r"\left(2, \infty\right]")  # False: an interval that is closed is another one
    equal(r"\sin x", "0")                            # None: what is not read is not judged

Expressions are equal if they have one value, to 40 digits, at three places of their letters; equations, if one is a
multiple of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import chain
from typing import Any

from innerloop.tokens.latex import FLAT, Node, Unreadable, read

__all__ = ["equal", "exact", "normal"]

MOST_BITS = 20_000  # of an exact number
DIGITS, CLOSE = 60, Decimal("1e-40")  # computed with, and the relative difference of what is equal
POINTS = 3
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


# -- values -----------------------------------------------------------------------------------------------------------


def value(
    node: Node, number: Callable[[Any], Any], letter: Callable[[str], Any], power: Callable[[Any, Any], Any]
) -> Any:
    """What an expression is worth, in the numbers of `number`. Raises Unreadable and ArithmeticError."""
    if node.op == "num":
        return number(node.args[0])
    if node.op in ("var", "pi"):
        return letter(node.args[0] if node.args else "pi")
    if node.op not in ("+", "-", "*", "/", "^", "neg", "root"):
        raise Unreadable
    a, *rest = (value(n, number, letter, power) for n in node.args)
    if node.op == "neg":
        return -a
    b = rest[0]
    if node.op in ("root", "^"):
        return power(b, 1 / a) if node.op == "root" else power(a, b)
    return a + b if node.op == "+" else a - b if node.op == "-" else a * b if node.op == "*" else a / b


def exact(node: Node) -> Fraction | None:
    """The value of an expression of numbers alone, as a fraction; None where it has none."""

    def none(name: str) -> Any:
        raise Unreadable

    def power(base: Fraction, exponent: Fraction) -> Fraction:
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if exponent.denominator != 1 or size * abs(exponent) > MOST_BITS:
            raise Unreadable
        return Fraction(base ** int(exponent))

    try:
        return value(node, Fraction, none, power)  # type: ignore[no-any-return]
    except (Unreadable, ArithmeticError):
        return None


def at_point(node: Node, point: int) -> Decimal:
    """The value with some positive number for each letter; inside a context of DIGITS."""

    def letter(name: str) -> Decimal:
        return PI if name == "pi" else Decimal(7 * ord(name) % 89 + 11 * point + 3) / 83

    def power(base: Decimal, exponent: Decimal) -> Decimal:
        if base < 0 and exponent != exponent.to_integral_value():
            if exponent != 1 / Decimal(3):
                raise Unreadable
            return -((-base) ** exponent)
        return base**exponent

    return value(node, lambda n: Decimal(n.numerator) / n.denominator, letter, power)  # type: ignore[no-any-return]


def values(node: Node) -> list[Decimal]:
    return [at_point(node, point) for point in range(POINTS)]


def near(a: Decimal, b: Decimal) -> bool:
    return abs(a - b) <= CLOSE * max(Decimal(1), abs(a), abs(b))


# -- equality ---------------------------------------------------------------------------------------------------------


def equal(left: str, right: str) -> bool | None:
    """Whether two answers are equal; None where one of them is not read."""
    if left == right:
        return True
    a, b = read(left), read(right)
    if a is None or b is None:
        return None
    try:
        with localcontext(prec=DIGITS):
            return alike(a, b)
    except (Unreadable, ArithmeticError):
        return None


def alike(a: Node, b: Node) -> bool:
    if a == b:
        return True
    if (a.op == "eq") != (b.op == "eq"):
        a, b = (n.args[1] if n.op == "eq" else n for n in (a, b))
    if a.op == b.op == "eq":
        sides = [[left - right for left, right in zip(*map(values, n.args), strict=True)] for n in (a, b)]
        return all(near(p * sides[1][0], q * sides[0][0]) for p, q in zip(*sides, strict=True)) and all(map(any, sides))
    if (a.op == "percent") != (b.op == "percent"):  # 50% answers for 50, as is usual, and for 1/2
        part, other = (a, b) if a.op == "percent" else (b, a)
        hundredth = Node("/", (part.args[0], Node("num", (Fraction(100),))))
        return alike(part.args[0], other) or alike(hundredth, other)
    if structured(a) or structured(b):
        return a.op == b.op and parts_alike(a, b)
    return all(near(p, q) for p, q in zip(values(a), values(b), strict=True))


def structured(node: Node) -> bool:
    return node.op in ("tuple", "matrix", "word", "infty", *FLAT) or (node.op == "neg" and structured(node.args[0]))


def parts_alike(a: Node, b: Node) -> bool:
    if a.op in ("word", "infty"):
        return a == b
    if a.op == "matrix":
        same_shape = [len(row) for row in a.args] == [len(row) for row in b.args]
        return same_shape and all(map(alike, chain(*a.args), chain(*b.args)))
    if len(a.args) != len(b.args):
        return False
    if a.op == "tuple":
        return bool(a.args[0] == b.args[0]) and all(map(alike, a.args[1:], b.args[1:]))
    return all(map(alike, a.args, b.args)) if a.op == "neg" else matched(a.args, list(b.args))


def matched(some: Sequence[Node], others: list[Node]) -> bool:
    """Whether two lists hold the same, in any order."""
    for node in some:
        found = next((i for i, other in enumerate(others) if alike(node, other)), None)
        if found is None:
            return False
        others.pop(found)
    return True


# -- one form ---------------------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    r"""An answer in one form, which reads as the same: "1/2" of "\frac12" and "0.5"; itself where it is not read."""
    node = read(text)
    return " ".join(text.split()).rstrip(".") if node is None else written(node)


def written(node: Node) -> str:
    number = exact(node)
    if number is not None:
        return str(number)
    texts = [written(n) if isinstance(n, Node) else str(n) for n in node.args] if node.op != "matrix" else []
    if node.op == "matrix":
        rows = r" \\ ".join(" & ".join(map(written, row)) for row in node.args)
        return rf"\begin{{pmatrix}} {rows} \end{{pmatrix}}"
    if node.op == "tuple":
        return f"{texts[0][0]}{', '.join(texts[1:])}{texts[0][1]}"
    forms: dict[str, Callable[..., str]] = {
        "var": lambda a: a, "pi": lambda: r"\pi", "infty": lambda: r"\infty", "percent": lambda a: rf"{a}\%",
        "word": lambda a: rf"\text{{{a}}}", "neg": lambda a: f"-{grouped(node.args[0], a)}",
        "eq": lambda a, b: f"{a} = {b}", "+": lambda a, b: f"{a} + {b}",
        "-": lambda a, b: f"{a} - {grouped(node.args[1], b)}",
        "*": lambda a, b: f"{grouped(node.args[0], a)} {grouped(node.args[1], b, first=False)}",
        "/": lambda a, b: rf"\frac{{{a}}}{{{b}}}", "^": lambda a, b: f"{grouped(node.args[0], a, power=True)}^{{{b}}}",
        "root": lambda a, b: rf"\sqrt{{{b}}}" if a == "2" else rf"\sqrt[{a}]{{{b}}}",
        "list": lambda *a: rf"\{{{', '.join(a)}\}}", "union": lambda *a: r" \cup ".join(a),
    }  # fmt: skip
    return forms[node.op](*texts)


def grouped(node: Node, text: str, first: bool = True, power: bool = False) -> str:
    """A part of a product or a power, in parentheses where it needs them."""
    plainly = node.op in ("var", "pi", "root", "tuple") or (node.op in ("^", "*", "/") and not power)
    whole = text.isdigit() and first
    return text if whole or (plainly and exact(node) is None) else f"({text})"
