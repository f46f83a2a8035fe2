"""The command line (tyro): one function per verb, whose module is imported only when the verb is called."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import re
import sys
import typing
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from innerloop.cli.trouble import escape_unencodable, exit_code
from innerloop.cli.verbs import VERBS, load
from innerloop.errors import InputError
from innerloop.schema import check_arguments
from innerloop.text import did_you_mean, printable

__all__ = ["VERBS", "load", "main"]

OPTION_PATTERN = re.compile(r"-h|--[a-z][a-z-]+(=.*)?", re.DOTALL)  # words that look like an option, known or not


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 it went wrong, 2 an input is wrong, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    escape_unencodable()
    if not words or words[0] in ("-h", "--help", "help"):
        from innerloop.cli.catalogue import overview

        overview()
        return 0
    try:
        if words[0] in ("-V", "--version"):
            from importlib.metadata import version

            print(f"innerloop {version('innerloop')}")
            return 0
        code = call(words[0], words[1:])
        sys.stdout.flush()  # a full disk or a closed pipe is met here, where it can be said
        return code
    except (Exception, KeyboardInterrupt) as error:
        return exit_code(error)


def call(verb: str, words: Sequence[str]) -> int:
    """Parse `words` as the arguments of `verb` and call it."""
    function = load(verb)
    import tyro

    said = io.StringIO()
    # Parsed first and called afterwards, so that a parser error can be reduced to one sentence.
    idle = functools.wraps(function)(lambda *given, **named: (given, named))
    try:
        with contextlib.redirect_stderr(said):
            given, named = tyro.cli(
                idle,
                prog=f"innerloop {verb}",
                args=gathered(function, options_first(function, words)),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.SuppressFixed, tyro.conf.AvoidSubcommands),
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            return 0
        raise InputError(f"{parser_message(said.getvalue())}; see innerloop {verb} --help") from None
    check_arguments(function, inspect.signature(function).bind(*given, **named).arguments, flag_name)
    return int(function(*given, **named) or 0)


def flag_name(name: str) -> str:
    """The option name of an argument, for messages."""
    return "--" + name.replace("_", "-")


def options_first(function: Callable[..., Any], words: Sequence[str]) -> list[str]:
    """The words with options first, where a verb takes several words of its own: the parser wants those in one row.

    A puzzle may begin with "-": what is no known option is none. An option of several values takes all words up to the
    next option where own words stand before it, and one otherwise.
    """
    types = flag_types(function)
    several = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if not any(types[name] == tuple[str, ...] for name in several):
        return list(words)
    options: list[str] = []
    own: list[str] = []
    rest = deque(words)
    while rest:
        word = rest.popleft()
        name, equals, _ = word.removeprefix("--").partition("=")
        kind = types.get(name.replace("-", "_")) if word.startswith("--") and name not in several else None
        if word == "--":
            own += rest
            rest.clear()
        elif kind is None and not OPTION_PATTERN.fullmatch(word):
            own.append(word)
        elif kind is None and word not in ("-h", "--help"):
            known = [f"--{key.replace('_', '-')}" for key in types if key not in (*several, "return")]
            raise InputError(f"there is no option {printable(word)}: {did_you_mean(f'--{name}', known)}")
        else:
            options.append(word)
            if kind not in (None, bool) and not equals and rest:
                options.append(rest.popleft())
            while own and kind == tuple[str, ...] and rest and not rest[0].startswith("--"):
                options.append(rest.popleft())
    return [*options, "--", *own] if own else options


def gathered(function: Callable[..., Any], words: Sequence[str]) -> list[str]:
    """The words with all values of an option of several values where it stands first: the parser takes the last alone.

    "--set a=1 --out x --set b=2" becomes "--set a=1 b=2 --out x".
    """
    types = flag_types(function)
    parts: list[list[str]] = [[]]  # an option and the words up to the next one
    first: dict[str, list[str]] = {}
    rest = deque(words)
    while rest and rest[0] != "--":
        word = rest.popleft()
        name, equals, value = word.partition("=")
        kind = types.get(name.removeprefix("--").replace("-", "_")) if OPTION_PATTERN.fullmatch(word) else None
        if kind is None and not OPTION_PATTERN.fullmatch(word):
            parts[-1].append(word)
        elif typing.get_origin(kind) is tuple and name in first:
            first[name] += [value] if equals else []
            parts.append(first[name])
        else:
            parts.append([name, value] if equals and typing.get_origin(kind) is tuple else [word])
            first[name] = parts[-1]
    once = {id(part): part for part in parts}
    return [word for part in once.values() for word in part] + list(rest)


def flag_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The type of every option of a verb; those of a group of options (a NamedTuple) one by one."""
    types = typing.get_type_hints(function)
    groups = [kind for kind in types.values() if isinstance(kind, type) and hasattr(kind, "_fields")]
    for kind in groups:
        types |= typing.get_type_hints(kind)
    return types


def parser_message(box: str) -> str:
    """The parser's framed message without its frame, up to its first ruled line."""
    bare = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:]]
    told = bare[: bare.index("")] if "" in bare else bare
    return " ".join(" ".join(told).split()).rstrip(".:")
