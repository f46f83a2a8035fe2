"""Plain JSON and command-line text as typed, bounded values, by type hints; every failure is one sentence.

@dataclass(frozen=True)
class Config:
    width: Annotated[int, Range(1, 4096)] = 64

read(Config, {"width": 0}, "run.json")       # run.json: width is 0, but must be a whole number from 1 to 4,096
parse(tuple[int, ...], "1,4,16", "--depth")  # (1, 4, 16)

Kinds: bool, int, float, str, Any, Literal, unions, tuples, lists, dict[str, T], dataclasses and TypedDicts.
A dataclass refuses unknown keys and names the nearest; a TypedDict describes files that gain keys over time, and keeps
them. A whole number serves as a float; nothing else is converted. Floats are finite unless their Range says otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Container, Mapping
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar

from innerloop.errors import InputError
from innerloop.files import parse_json
from innerloop.text import nearest, printable

__all__ = [
    "Amount",
    "Count",
    "Filled",
    "Layers",
    "Length",
    "Many",
    "Positive",
    "Range",
    "Seed",
    "Sets",
    "Share",
    "Whole",
    "check",
    "check_arguments",
    "parse",
    "read",
]

T = TypeVar("T")
Reader = Callable[[Any], Any]
ITEMS = 1_000_000  # of a list or an object, and characters of a text, unless a Length says otherwise
WHOLE = 2**63  # above every whole number, unless a Range says otherwise


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included; with `above` without `low` itself, with `nan` also NaN and inf."""

    low: float
    high: float
    above: bool = False
    nan: bool = False


class Length(NamedTuple):
    """Items of a list or object, or characters of a text: from `low` to `high`."""

    low: int
    high: int = ITEMS


# Ranges of most fields and flags. They are wide: what is beyond them takes all memory or time, or means nothing.
Count = Annotated[int, Range(1, 1_000_000)]
Whole = Annotated[int, Range(0, 1_000_000_000)]
Layers = Annotated[int, Range(1, 512)]
Many = Annotated[int, Range(1, 1_000_000_000)]
Seed = Annotated[int, Range(0, 2**62)]  # numpy takes none below 0; some grow by a few million, and are kept as int64
Share = Annotated[float, Range(0, 1)]
Amount = Annotated[float, Range(0, 1e9)]
Positive = Annotated[float, Range(0, 1e9, above=True)]
Filled = Annotated[tuple[int, ...], Length(1)]
Sets = Annotated[tuple[Filled, ...], Length(0, 10_000)]


SAVED_AS = {  # names of fields in files of runs, which stay as they were first written: old folders open for ever
    "net": "size", "hidden_size": "width", "block": "mix", "puzzle_emb_size": "puzzle_width",
    "multiple_of": "multiple", "grad": "tape",
}  # fmt: skip
FIELD_OF = {key: field for field, key in SAVED_AS.items()}


class Wrong(Exception):
    """What is wrong with a value, and where in it: the sentence is made where the name of the file is known."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem, self.path = problem, path

    def inside(self, key: str) -> Wrong:
        """The same, seen from one level further out."""
        joint = "" if not self.path or self.path.startswith("[") else "."
        return Wrong(self.problem, f"{key}{joint}{self.path}")


# -- what is called ---------------------------------------------------------------------------------------------------


def read(kind: type[T], value: Any, where: str, path: str = "") -> T:
    """`value` of plain JSON as a `kind`; it stands in a file `where`, at `path`.

    Raises InputError: "WHERE: PATH is VALUE, but must be ...".
    """
    try:
        made: T = reader(typing.cast(Any, kind))(value)
        return made
    except Wrong as wrong:
        raise told(wrong.inside(path) if path else wrong, where) from None


def parse(kind: Any, text: str, name: str) -> Any:
    """Text of a shell as a `kind`: texts as they stand, the others as JSON, lists also as "1,4,16"."""
    try:
        return reader(kind)(plain(kind, text))
    except Wrong as wrong:
        raise told(wrong.inside(name), "") from None


def check(value: Any) -> None:
    """Raise InputError where a field of a dataclass that is a number or text is outside its Range or Length.

    For __post_init__: what was made in Python is held to the same ranges as what a file says.
    """
    for name, kind in limited(typing.cast(Any, type(value))).items():
        try:
            reader(kind)(getattr(value, name))
        except Wrong as wrong:
            raise told(wrong.inside(name), "") from None


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any], name: Callable[[str], str] = str) -> None:
    """Raise InputError where an argument is not what the function's hints say; `name` is how a message calls it."""
    kinds = hints(function)
    for key, value in given.items():
        if key in kinds:
            try:
                reader(kinds[key])(value)
            except Wrong as wrong:
                raise told(wrong.inside(name(key)), "") from None


def told(wrong: Wrong, where: str) -> InputError:
    path = printable(wrong.path, 120)
    return InputError(": ".join(part for part in (where, path) if part) + f" {wrong.problem}")


# -- readers, one for each kind ---------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def reader(kind: Any) -> Reader:
    """A function that takes plain JSON and gives a `kind`, or raises Wrong."""
    bare, limits = stripped(kind)
    origin, inner = typing.get_origin(bare) or bare, typing.get_args(bare)
    if origin in (int, float):
        return number(origin, next((x for x in limits if isinstance(x, Range)), None))
    length = next((x for x in limits if isinstance(x, Length)), Length(0))
    if origin in (list, tuple):
        return sequence(origin, inner, length)
    if origin in (typing.Union, types.UnionType):
        return union(kind, inner)
    if origin is typing.Literal:
        return plain_kind(kind, lambda v: any(v is x or (v == x and type(v) is type(x)) for x in inner))
    if origin is dict:
        return mapping(inner[1] if inner else Any, length)
    if origin is str:
        return plain_kind(kind, lambda v: isinstance(v, str) and length.low <= len(v) <= length.high)
    if dataclasses.is_dataclass(origin):
        return record(origin)
    if typing.is_typeddict(origin):
        return table(origin)
    if origin in (bool, types.NoneType):
        return plain_kind(kind, lambda v: isinstance(v, bool) if origin is bool else v is None)
    return lambda value: value  # Any, and what only Python makes


def stripped(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A hint without Annotated, Required and NotRequired, and what was annotated."""
    limits: tuple[Any, ...] = ()
    while typing.get_origin(kind) in (typing.Annotated, typing.Required, typing.NotRequired):
        limits += tuple(getattr(kind, "__metadata__", ()))
        kind = typing.get_args(kind)[0]
    return types.NoneType if kind is None else kind, limits


@lru_cache(maxsize=1024)
def hints(kind: Any) -> dict[str, Any]:
    """Name of each field or argument -> its kind."""
    return typing.get_type_hints(kind, include_extras=True)


@lru_cache(maxsize=1024)
def limited(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass that have limits of their own."""
    return {k: v for k, v in hints(kind).items() if any(isinstance(x, Range | Length) for x in stripped(v)[1])}


def refuse(kind: Any, value: Any) -> Wrong:
    return Wrong(f"is {shown(value)}, but must be {allowed(kind)}")


def plain_kind(kind: Any, fits: Callable[[Any], bool]) -> Reader:
    def take(value: Any) -> Any:
        if not fits(value):
            raise refuse(kind, value)
        return value

    return take


def number(kind: type, limits: Range | None) -> Reader:
    """A whole number or a float, within its range."""
    low, high, above, nan = limits or Range(-WHOLE if kind is int else -math.inf, WHOLE if kind is int else math.inf)
    hint = typing.Annotated[kind, limits] if limits else kind

    def take(value: Any) -> Any:
        if not isinstance(value, int if kind is int else int | float) or isinstance(value, bool):
            raise refuse(hint, value)
        wild = isinstance(value, float) and not math.isfinite(value)
        if not (nan if wild else low < value <= high if above else low <= value <= high):
            raise refuse(hint, value)
        try:
            return kind(value)
        except OverflowError:  # a whole number beyond every float
            raise refuse(hint, value) from None

    return take


def sequence(kind: type, inner: tuple[Any, ...], length: Length) -> Reader:
    """tuple[T, ...], tuple[A, B] or list[T]: from a JSON list, made a tuple or list."""
    every = kind is list or (len(inner) == 2 and inner[1] is Ellipsis) or not inner
    readers = [reader(k) for k in inner if k is not Ellipsis] or [reader(Any)]
    hint: Any = kind if not inner else kind[inner] if kind is tuple else kind[inner[0]]  # type: ignore[index]
    hint = typing.Annotated[hint, length]

    def take(value: Any) -> Any:
        if not isinstance(value, list | tuple) or not length.low <= len(value) <= length.high:
            raise refuse(hint, value)
        if not every and len(value) != len(readers):
            raise refuse(hint, value)
        made = []
        for i, item in enumerate(value):
            try:
                made.append(readers[0 if every else i](item))
            except Wrong as wrong:
                raise wrong.inside(f"[{i}]") from None
        return kind(made)

    return take


def union(kind: Any, inner: tuple[Any, ...]) -> Reader:
    """The first of the kinds that takes it; for an optional value the reason why the other does not."""
    others = [reader(k) for k in inner if k is not types.NoneType]
    none = len(others) < len(inner)

    def take(value: Any) -> Any:
        if none and value is None:
            return None
        for other in others:
            try:
                return other(value)
            except Wrong as wrong:
                if len(others) == 1 and wrong.path:
                    raise
        raise refuse(kind, value)

    return take


def mapping(inner: Any, length: Length) -> Reader:
    """dict[str, T]."""
    each = reader(inner)

    def take(value: Any) -> Any:
        if not isinstance(value, dict) or not length.low <= len(value) <= length.high:
            raise refuse(dict, value)
        return {key: at(key, each, item) for key, item in value.items()}

    return take


def at(key: Any, each: Reader, item: Any) -> Any:
    try:
        return each(item)
    except Wrong as wrong:
        raise wrong.inside(str(key)) from None


def field_of(key: str, known: Container[str]) -> str:
    """The field that a saved key or a command line means: its name in the code, or the name it is saved under."""
    field = FIELD_OF.get(key, key)
    return field if key not in known and field in known else key


def saved(value: Any) -> Any:
    """A dataclass as plain JSON, each field under the name it is saved under."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {SAVED_AS.get(f.name, f.name): saved(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: saved(item) for key, item in value.items()}
    return [saved(item) for item in value] if isinstance(value, (list, tuple)) else value


def record(kind: Any) -> Reader:
    """A dataclass: known fields alone, those without a default all there."""
    kinds = {f.name: reader(hints(kind)[f.name]) for f in dataclasses.fields(kind) if f.init}
    empty = (dataclasses.MISSING, dataclasses.MISSING)
    needed = [f.name for f in dataclasses.fields(kind) if f.init and (f.default, f.default_factory) == empty]

    def take(value: Any) -> Any:
        if not isinstance(value, dict):
            raise refuse(dict, value)
        value = {field_of(key, kinds): item for key, item in value.items()}
        for key in value:
            if key not in kinds:
                raise Wrong(f"has no {shown(key)}: {nearest(str(key), kinds)}")
        for key in needed:
            if key not in value:
                raise Wrong(f'lacks "{key}": it is damaged, or of another kind')
        made = {key: at(key, kinds[key], item) for key, item in value.items()}
        try:
            return kind(**made)
        except InputError as error:  # fields that do not go together
            raise Wrong(f"does not fit together: {error}") from None

    return take


def table(kind: Any) -> Reader:
    """A TypedDict: what it names is checked, what it does not is kept."""
    kinds = {name: reader(hint) for name, hint in hints(kind).items()}
    optional = {n for n, h in hints(kind).items() if typing.get_origin(h) is typing.NotRequired or not kind.__total__}

    def take(value: Any) -> Any:
        if not isinstance(value, dict):
            raise refuse(dict, value)
        for key in kinds:
            if key not in value and key not in optional:
                raise Wrong(f'lacks "{key}": it is damaged, or of another kind')
        return value | {key: at(key, each, value[key]) for key, each in kinds.items() if key in value}

    return take


# -- words ------------------------------------------------------------------------------------------------------------


def plain(kind: Any, text: str) -> Any:
    """Text as plain JSON of a `kind`; text that is none stays text, for its reader to refuse."""
    bare, _ = stripped(kind)
    origin, inner = typing.get_origin(bare) or bare, typing.get_args(bare)
    if origin in (typing.Union, types.UnionType):
        if types.NoneType in inner and text.lower() in ("none", "null"):
            return None
        return plain(next((k for k in inner if k is not types.NoneType), Any), text)
    if origin is str or (origin is typing.Literal and isinstance(inner[0], str)):
        return text
    if origin in (tuple, list) and not text.startswith("["):
        text = f"[{text}]"
    try:
        return float(text) if origin is float else parse_json(text.lower() if origin is bool else text, "it")
    except (InputError, ValueError):
        return text


def allowed(kind: Any, many: bool = False) -> str:
    """What a kind takes, in words."""
    bare, limits = stripped(kind)
    origin, inner = typing.get_origin(bare) or bare, typing.get_args(bare)
    if origin in (int, float):
        word = "whole number" if origin is int else "number"
        return (f"{word}s" if many else f"a {word}") + span(next((x for x in limits if isinstance(x, Range)), None))
    if origin is typing.Literal:
        return " or ".join(json.dumps(x) for x in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(allowed(k, many) for k in inner)
    length = next((x for x in limits if isinstance(x, Length)), Length(0))
    size = "" if length == Length(0) else f" of {length.low:,} to {length.high:,}"
    if origin in (list, tuple):
        items = [k for k in inner if k is not Ellipsis]
        count = f"{len(items)} " if origin is tuple and items and Ellipsis not in inner else ""
        said = allowed(items[0], True) if items else "values"
        return f"{'lists' if many else 'a list'}{size} of {count}{said}"
    if origin is str:
        return ("texts" if many else "text") + (f"{size} characters" if size else "")
    known = {bool: "true or false", types.NoneType: "null"}
    return known.get(origin, "objects" if many else "an object with named values")


def span(limits: Range | None) -> str:
    if limits is None:
        return ""
    low, high, above, _ = limits
    if math.isinf(high):
        return f" above {low:g}" if above else f" from {low:g} up"
    word = f"{high:,}" if isinstance(high, int) else f"{high:g}"
    return f" above {low:g} and up to {word}" if above else f" from {low:,} to {word}"


def shown(value: Any) -> str:
    """A value in a message: short, on one line, as JSON where it can be."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}" if value else "an empty list"
    if isinstance(value, dict):
        return f"an object of {len(value):,}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= WHOLE:
        return "a number of many digits"
    if isinstance(value, str):
        return f'"{printable(value, 60)}"'
    try:
        return printable(json.dumps(value), 60)
    except TypeError:
        return printable(repr(value), 60)
