r"""Answers in LaTeX, read as trees.

    read(r"\frac{1}{2}")          # Node("/", (Node("num", (1,)), Node("num", (2,))))
    read(r"\sin x")               # None: it is not read

Read are numbers, fractions, powers, roots, pi and letters; tuples, intervals, unions, sets, lists and matrices of them;
equations; words. Units, degrees, currency signs and the letter that an equation names ("x = 5") are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

__all__ = ["FLAT", "LONGEST", "Node", "Unreadable", "read"]

LONGEST, DEEPEST = 400, 40  # characters of an answer, brackets inside each other

TOKEN = re.compile(r'\s+|"[^"]*"|\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\.\d+|[a-zA-Z]+|.', re.DOTALL)
TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathbb|operatorname)\s*\{([^{}]*)\}")
LETTER = re.compile(r"\(?([A-Za-z])\)?")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
PLAIN = {  # as written: as read
    "\u2212": "-", "\u00d7": "*", "\u00f7": "/", "\u00b7": "*", "\u221e": r"\infty", "\u03c0": r"\pi",
    "\u222a": r"\cup",
    "\u2208": r"\in", "\u221a": r"\sqrt", "\u00b0": "", r"^\circ": "", r"^{\circ}": "", r"\degree": "",
    r"\left": "", r"\right": "", r"\displaystyle": "", r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac",
    r"\times": "*", r"\cdot": "*", r"\div": "/", "{,}": ",", r"\$": "", r"\%": "%", r"\!": "", r"\,": "", r"\;": " ",
    r"\:": " ", r"\ ": " ", "~": " ", r"\(": "", r"\)": "", r"\[": "", r"\]": "", "$": "", r"\lbrace": r"\{",
    r"\rbrace": r"\}", "**": "^", "bmatrix": "pmatrix",
}  # fmt: skip
PLAIN_SIGNS = re.compile(
    "|".join(re.escape(k) + (r"(?![a-zA-Z])" if k[-1].isalpha() else "") for k in sorted(PLAIN, key=len, reverse=True))
)
NAMED = {"sqrt": r"\sqrt", "pi": r"\pi", "infinity": r"\infty", "inf": r"\infty"}
UNITS = {"cm", "mm", "km", "kg", "mg", "ft", "mi", "lb", "oz", "ml", "hr", "mph"}
SMALL_WORDS = {"of", "in", "on", "to", "at", "is", "it", "as", "by", "we", "so", "no"}  # and no products of letters
JOINS = {'"and"', '"or"', "and", "or", ","}
FLAT = ("list", "union")  # operations of which the order of parts does not matter


class Unreadable(ValueError):
    """What is read by no rule of ours."""


class Node(NamedTuple):
    """A part of an answer: its operation, and what that is of."""

    op: str
    args: tuple[Any, ...] = ()


def plain(text: str) -> str:
    """A text in fewer signs; words become "words" in quotes."""
    text = text.strip().rstrip(".").replace('"', "")

    def word(found: re.Match[str]) -> str:
        inner = found[1].strip(" .,")
        return f" {one[1]} " if (one := LETTER.fullmatch(inner)) else f' "{inner}" ' if inner else " "

    text = PLAIN_SIGNS.sub(lambda found: PLAIN[found[0]], TEXT.sub(word, text))
    return text if re.search(r"[\[({]", text) else THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)


def read(text: str) -> Node | None:
    """The tree of an answer; None for one that is not read."""
    if len(text) > LONGEST:
        return None
    try:
        return Reader(plain(text)).whole()
    except Unreadable:
        return None


class Reader:
    """Reads the signs of a text from left to right."""

    def __init__(self, text: str) -> None:
        self.tokens = [t for t in TOKEN.findall(text) if t.strip()]
        self.depth = 0

    @property
    def next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, wanted: str = "") -> str:
        """The next sign, which is taken away. Raises Unreadable if it is another one than wanted."""
        if not self.tokens or (wanted and self.tokens[0] != wanted):
            raise Unreadable
        return self.tokens.pop(0)

    def whole(self) -> Node:
        """All of it: one side or an equation, of which the side that names what is asked does not matter."""
        sides = [self.side()]
        while self.next == "=":
            self.take()
            sides.append(self.side())
        if self.tokens:
            raise Unreadable
        if len(sides) == 2 and sides[0].op != "var":
            return Node("eq", tuple(sides))
        return sides[-1]

    def side(self) -> Node:
        """Lists, and unions of them; "x in" before one is left out."""
        parts = [self.listed()]
        if self.next == r"\in" and parts[0].op == "var":
            self.take()
            parts = [self.listed()]
        while self.next == r"\cup":
            self.take()
            parts.append(self.listed())
        return parts[0] if len(parts) == 1 else Node("union", tuple(parts))

    def listed(self) -> Node:
        items = [self.item()]
        while self.next in JOINS:
            while self.next in JOINS:
                self.take()
            items.append(self.item())
        return items[0] if len(items) == 1 else Node("list", tuple(items))

    def item(self) -> Node:
        """A word, or an expression with a unit."""
        words = []
        while self.is_word() and self.next not in JOINS:
            words.append(self.take().strip('"'))
        if words:
            return Node("word", (" ".join(words).casefold(),))
        found = self.sum()
        while self.is_word() and self.next not in JOINS:  # a unit
            self.take()
            if self.next == "^":
                self.take()
                self.braced()
        return found

    def is_word(self) -> bool:
        token = self.next
        letters = token.isascii() and token.isalpha() and token not in NAMED
        return token.startswith('"') or (letters and (len(token) > 2 or token.lower() in UNITS | SMALL_WORDS))

    def sum(self) -> Node:
        found = self.signed(self.product)
        while self.next in ("+", "-"):
            found = Node(self.take(), (found, self.product()))
        return found

    def signed(self, following: Callable[[], Node]) -> Node:
        if self.next not in ("+", "-"):
            return following()
        sign, found = self.take(), following()
        if sign == "+":
            return found
        return Node("percent", (Node("neg", found.args),)) if found.op == "percent" else Node("neg", (found,))

    def product(self) -> Node:
        """Factors, with or without a sign between them."""
        found = self.factor()
        while self.next in ("*", "/") or self.begins_factor():
            sign = self.take() if self.next in ("*", "/") else "*"
            found = Node(sign, (found, self.signed(self.factor)))
        return found

    def begins_factor(self) -> bool:
        name = self.next.isascii() and self.next.isalpha() and not self.is_word()
        return name or self.next in ("(", r"\frac", r"\sqrt", r"\pi", r"\infty")

    def factor(self) -> Node:
        found = self.base()
        if self.next == "^":
            self.take()
            found = Node("^", (found, self.braced()))
        if self.next == "%":
            self.take()
            found = Node("percent", (found,))
        return found

    def braced(self) -> Node:
        r"""What stands in braces, or the one sign in their place: \frac12 is 1/2."""
        if self.next == "{":
            self.take()
            found = self.nested(self.sum)
            self.take("}")
            return found
        if re.fullmatch(r"\d{2,}", self.next):
            digits = self.take()
            self.tokens[:0] = [digits[0], digits[1:]]
        return self.signed(self.base)

    def nested(self, following: Callable[[], Any]) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable
        found = following()
        self.depth -= 1
        return found

    def base(self) -> Node:
        token = self.take()
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return self.mixed(Node("num", (Fraction(token),)), token)
        token = NAMED.get(token, token)
        if token == r"\frac":
            return Node("/", (self.nested(self.braced), self.nested(self.braced)))
        if token == r"\sqrt":
            return self.root()
        if token in (r"\pi", r"\infty"):
            return Node(token[1:])
        if token in ("(", "[", r"\{", "{"):
            return self.nested(lambda: self.brackets(token))
        if token == r"\begin":
            return self.nested(self.matrix)
        if token in (r"\emptyset", r"\varnothing", "\u2205"):
            return Node("list")
        if token.isascii() and token.isalpha() and len(token) <= 2 and token.lower() not in UNITS | SMALL_WORDS:
            self.tokens[:0] = list(token[1:])
            return Node("var", (token[0],))
        raise Unreadable

    def mixed(self, whole: Node, token: str) -> Node:
        r"""A number, or a mixed one such as 1\frac{1}{2}."""
        if self.next != r"\frac" or not token.isdigit():
            return whole
        part = self.base()
        if all(n.op == "num" for n in part.args):
            return Node("+", (whole, part))
        return Node("*", (whole, part))

    def root(self) -> Node:
        degree = Node("num", (Fraction(2),))
        if self.next == "[":
            self.take()
            degree = self.nested(self.sum)
            self.take("]")
        return Node("root", (degree, self.nested(self.braced)))

    def brackets(self, opened: str) -> Node:
        """A group, a tuple or an interval with its brackets, or a set."""
        closes = {"{": ("}",), r"\{": (r"\}",)}.get(opened, (")", "]"))
        if self.next in closes:
            items: tuple[Node, ...] = ()
        else:
            inner = self.listed()
            items = inner.args if inner.op == "list" else (inner,)
        closed = self.take()
        if closed not in closes:
            raise Unreadable
        if len(items) == 1 and opened in "({" and closed in ")}":
            return items[0]
        return Node("list", items) if opened in ("{", r"\{") else Node("tuple", (opened + closed, *items))

    def matrix(self) -> Node:
        r"""\begin{pmatrix} a & b \\ c & d \end{pmatrix}: its rows."""
        name = "".join(self.take() for _ in range(3))
        rows: list[list[Node]] = [[self.sum()]]
        while self.next != r"\end":
            if self.take() == "&":
                rows[-1].append(self.sum())
            elif self.next != r"\end":
                rows.append([self.sum()])
        self.take()
        if name != "{pmatrix}" or "".join(self.take() for _ in range(3)) != name:
            raise Unreadable
        return Node("matrix", tuple(map(tuple, rows)))
