"""How docstrings of this package become text of the reference: an extension of griffe, which mkdocstrings reads with.

    name    meaning        two columns become a list of definitions; names that are indented more go on a line before
        indented lines     stay as they are, in a block
    f: int = 0  # meaning  the remark behind a field, or behind a method without a body, is its docstring

Everything else is prose. Its signs mean nothing to Markdown, except backticks; papers become links.
"""

from __future__ import annotations

import builtins
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from griffe import Docstring, Expr, ExprName, Extension

NAMES = re.compile(r"([A-Za-z_][\w.*,|+= ()]{0,23}?) {2,}(\S.*)")  # "name  meaning"
PAPER = re.compile(r"arXiv (\d{4}\.\d{4,5})")
REMARK = re.compile(r"""#\s*(?!noqa|type:)(.*?)(?:\s*#\s*(?:noqa|type:).*)?$""")


class PlainDocstrings(Extension):
    """Docstrings, and remarks behind fields, as Markdown."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        if obj.is_alias:
            return
        if obj.is_attribute or obj.is_function:
            _leave_builtins(obj)
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
        elif (obj.is_attribute or obj.is_function) and obj.lineno and (meaning := remark(source_lines(obj))):
            obj.docstring = Docstring(prose(meaning), lineno=obj.lineno, endlineno=obj.endlineno, parent=obj)


def _leave_builtins(obj: Any) -> None:
    """Names of builtins in annotations are theirs: griffe looks for `list` in the package above, which has one."""
    told = [obj.annotation, *(p.annotation for p in getattr(obj, "parameters", ()))]
    for annotation in (a for a in told if isinstance(a, Expr)):
        for name in annotation.iterate(flat=True):
            if isinstance(name, ExprName) and hasattr(builtins, name.name) and name.name not in obj.module.members:
                name.parent = None


def source_lines(obj: Any) -> list[str]:
    """The lines of an object, and those after it as long as they are remarks."""
    lines = obj.lines_collection[obj.filepath]
    end = obj.endlineno
    if obj.is_function and not lines[end - 1].split("#")[0].rstrip().endswith("..."):
        return []  # a remark within a body is none about the function
    while end < len(lines) and re.match(r"\s+# (?!-)", lines[end]):
        end += 1
    return list(lines[obj.lineno - 1 : end])


def remark(lines: Sequence[str]) -> str:
    """What stands behind the # of these lines; of a # in a string nothing is taken for a remark."""
    found = []
    for line in lines:
        code = re.sub(r"\"[^\"]*\"|'[^']*'", lambda quoted: "_" * len(quoted[0]), line)
        if "#" in code and (said := REMARK.match(line[code.index("#") :])):
            found.append(said[1])
    return " ".join(" ".join(found).split())


def prose(text: str) -> str:
    """Text in which no sign is Markdown's, except backticks."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(text: str) -> str:
    escaped = re.sub(r"([\\*_\[\]#])", r"\\\1", text).replace("<", "&lt;")
    return PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", escaped)


def markdown(docstring: str) -> str:
    """A docstring of this package as Markdown."""
    pieces = [_written(kind, [line for _, line in lines]) for kind, lines in groupby(_kinds(docstring), lambda k: k[0])]
    return "\n\n".join(piece for piece in pieces if piece)


def _kinds(docstring: str) -> Iterator[tuple[str, str]]:
    """Every line with what it belongs to: "names", "block" or "prose"; "" is a blank line."""
    kind = ""
    lines = docstring.splitlines()
    for i, line in enumerate(lines):
        if not line.strip():
            inside = kind == "block" and any(re.match(r" {4}", after) for after in lines[i + 1 : i + 2])
            kind = "block" if inside else ""
        elif line.startswith(" "):
            goes_on = kind in ("names", "block") or (kind == "prose" and not line[:4].isspace())
            kind = kind if goes_on else "block"
        else:
            kind = "names" if NAMES.fullmatch(line) else "prose"
        yield kind, line


def _written(kind: str, lines: list[str]) -> str:
    if kind == "names":
        return "\n\n".join(_definitions(lines))
    if kind == "block":
        return "```text\n" + textwrap.dedent("\n".join(lines)).rstrip() + "\n```"
    return "\n".join(prose(line.strip()) for line in lines)


def _definitions(lines: Sequence[str]) -> Iterator[str]:
    """One definition for each name; lines that are indented go on with the one before."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if match := NAMES.fullmatch(line):
            found.append((match[1], [match[2]]))
        else:
            found[-1][1].append(line.strip())
    for name, meaning in found:
        yield f"`{name}`\n:   {prose(' '.join(meaning))}"
