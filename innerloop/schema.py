"""Validation of JSON and command-line text by type hints with bounds; every failure is an InputError of one sentence.

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
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar

from innerloop.errors import InputError
from innerloop.files import parse_json
from innerloop.saved import field_of
from innerloop.text import did_you_mean, printable

__all__ = [
    "Amount", "Count", "Filled", "Layers", "Length", "Many", "Positive", "Range", "Seed", "Sets", "Share",
    "Whole", "check", "check_arguments", "parse", "read",
]  # fmt: skip

T = TypeVar("T")
Reader = Callable[[Any], Any]
ITEMS = 1_000_000  # most items of a list or object, or characters of a text, without a Length
WHOLE = 2**63  # bound of integers without a Range


class Range(NamedTuple):
    """Numbers from `low` to `high`, inclusive; `above` excludes `low`, `nan` allows NaN and inf."""

    low: float
    high: float
    above: bool = False
    nan: bool = False


class Length(NamedTuple):
    """Number of items of a list or object, or of characters of a text: from `low` to `high`."""

    low: int
    high: int = ITEMS


# Ranges of most fields and flags. They are wide: values beyond them take all memory or time, or have no meaning.
Count = Annotated[int, Range(1, 1_000_000)]
Whole = Annotated[int, Range(0, 1_000_000_000)]
Layers = Annotated[int, Range(1, 512)]
Many = Annotated[int, Range(1, 1_000_000_000)]
Seed = Annotated[int, Range(0, 2**62)]  # numpy takes no negative seed; some grow by millions, kept as int64
Share = Annotated[float, Range(0, 1)]
Amount = Annotated[float, Range(0, 1e9)]
Positive = Annotated[float, Range(0, 1e9, above=True)]
Filled = Annotated[tuple[int, ...], Length(1)]
Sets = Annotated[tuple[Filled, ...], Length(0, 10_000)]


class Mismatch(Exception):
    """A value that does not fit its type, and the path to it; `read` makes it an InputError."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem, self.path = problem, path

    def inside(self, key: str) -> Mismatch:
        """The same with `key` put before the path."""
        joint = "" if not self.path or self.path.startswith("[") else "."
        return Mismatch(self.problem, f"{key}{joint}{self.path}")


# -- public functions -------------------------------------------------------------------------------------------------


def read(kind: type[T], value: Any, where: str, path: str = "") -> T:
    """Validate `value` (plain JSON) as a `kind`. `where` and `path` (a file, a key in it) name it in errors.

    Raises InputError: "WHERE: PATH is VALUE, but must be ...".
    """
    try:
        made: T = reader(typing.cast(Any, kind))(value)
        return made
    except Mismatch as wrong:
        raise as_input_error(wrong.inside(path) if path else wrong, where) from None


def parse(kind: Any, text: str, name: str) -> Any:
    """Parse command-line `text` as a `kind`: str unchanged, other kinds as JSON, lists also as "1,4,16"."""
    try:
        return reader(kind)(text_to_json(kind, text))
    except Mismatch as wrong:
        raise as_input_error(wrong.inside(name), "") from None


def check(value: Any) -> None:
    """Raise InputError if a field of a dataclass is outside its Range or Length.

    For __post_init__, so that objects made in Python are checked like those read from files.
    """
    for name, kind in bounded_fields(typing.cast(Any, type(value))).items():
        try:
            reader(kind)(getattr(value, name))
        except Mismatch as wrong:
            raise as_input_error(wrong.inside(name), "") from None


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any], name: Callable[[str], str] = str) -> None:
    """Raise InputError if an argument does not match the function's hints; `name` maps it to its name in messages."""
    kinds = hints(function)
    for key, value in given.items():
        if key in kinds:
            try:
                reader(kinds[key])(value)
            except Mismatch as wrong:
                raise as_input_error(wrong.inside(name(key)), "") from None


def as_input_error(wrong: Mismatch, where: str) -> InputError:
    path = printable(wrong.path, 120)
    return InputError(": ".join(part for part in (where, path) if part) + f" {wrong.problem}")


# -- readers, one for each kind ---------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def reader(kind: Any) -> Reader:
    """A function from plain JSON to a `kind`; it raises Mismatch."""
    bare, limits = unwrap(kind)
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
    return lambda value: value  # Any, and types that JSON cannot hold


def unwrap(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """(the hint without Annotated, Required and NotRequired, the annotations)."""
    limits: tuple[Any, ...] = ()
    while typing.get_origin(kind) in (typing.Annotated, typing.Required, typing.NotRequired):
        limits += tuple(getattr(kind, "__metadata__", ()))
        kind = typing.get_args(kind)[0]
    return types.NoneType if kind is None else kind, limits


@lru_cache(maxsize=1024)
def hints(kind: Any) -> dict[str, Any]:
    """Type hints of a class or function, annotations included."""
    return typing.get_type_hints(kind, include_extras=True)


@lru_cache(maxsize=1024)
def bounded_fields(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass with a Range or Length."""
    return {k: v for k, v in hints(kind).items() if any(isinstance(x, Range | Length) for x in unwrap(v)[1])}


def mismatch(kind: Any, value: Any) -> Mismatch:
    return Mismatch(f"is {shown(value)}, but must be {describe_kind(kind)}")


def plain_kind(kind: Any, fits: Callable[[Any], bool]) -> Reader:
    def take(value: Any) -> Any:
        if not fits(value):
            raise mismatch(kind, value)
        return value

    return take


def number(kind: type, limits: Range | None) -> Reader:
    """A whole number or a float, within its range."""
    low, high, above, nan = limits or Range(-WHOLE if kind is int else -math.inf, WHOLE if kind is int else math.inf)
    hint = typing.Annotated[kind, limits] if limits else kind

    def take(value: Any) -> Any:
        if not isinstance(value, int if kind is int else int | float) or isinstance(value, bool):
            raise mismatch(hint, value)
        wild = isinstance(value, float) and not math.isfinite(value)
        if not (nan if wild else low < value <= high if above else low <= value <= high):
            raise mismatch(hint, value)
        try:
            return kind(value)
        except OverflowError:  # an integer too large for a float
            raise mismatch(hint, value) from None

    return take


def sequence(kind: type, inner: tuple[Any, ...], length: Length) -> Reader:
    """tuple[T, ...], tuple[A, B] or list[T]: from a JSON list, made a tuple or list."""
    every = kind is list or (len(inner) == 2 and inner[1] is Ellipsis) or not inner
    readers = [reader(k) for k in inner if k is not Ellipsis] or [reader(Any)]
    hint: Any = kind if not inner else kind[inner] if kind is tuple else kind[inner[0]]  # type: ignore[index]
    hint = typing.Annotated[hint, length]

    def take(value: Any) -> Any:
        if not isinstance(value, list | tuple) or not length.low <= len(value) <= length.high:
            raise mismatch(hint, value)
        if not every and len(value) != len(readers):
            raise mismatch(hint, value)
        made = []
        for i, item in enumerate(value):
            try:
                made.append(readers[0 if every else i](item))
            except Mismatch as wrong:
                raise wrong.inside(f"[{i}]") from None
        return kind(made)

    return take


def union(kind: Any, inner: tuple[Any, ...]) -> Reader:
    """The first of the kinds that accepts the value; for `T | None` the error is T's."""
    others = [reader(k) for k in inner if k is not types.NoneType]
    none = len(others) < len(inner)

    def take(value: Any) -> Any:
        if none and value is None:
            return None
        for other in others:
            try:
                return other(value)
            except Mismatch as wrong:
                if len(others) == 1 and wrong.path:
                    raise
        raise mismatch(kind, value)

    return take


def mapping(inner: Any, length: Length) -> Reader:
    """dict[str, T]."""
    each = reader(inner)

    def take(value: Any) -> Any:
        if not isinstance(value, dict) or not length.low <= len(value) <= length.high:
            raise mismatch(dict, value)
        return {key: read_item(key, each, item) for key, item in value.items()}

    return take


def read_item(key: Any, each: Reader, item: Any) -> Any:
    try:
        return each(item)
    except Mismatch as wrong:
        raise wrong.inside(str(key)) from None


def record(kind: Any) -> Reader:
    """A dataclass: unknown keys are refused, fields without a default required."""
    kinds = {f.name: reader(hints(kind)[f.name]) for f in dataclasses.fields(kind) if f.init}
    empty = (dataclasses.MISSING, dataclasses.MISSING)
    needed = [f.name for f in dataclasses.fields(kind) if f.init and (f.default, f.default_factory) == empty]

    def take(value: Any) -> Any:
        if not isinstance(value, dict):
            raise mismatch(dict, value)
        value = {field_of(key, kinds): item for key, item in value.items()}
        for key in value:
            if key not in kinds:
                raise Mismatch(f"has no {shown(key)}: {did_you_mean(str(key), kinds)}")
        for key in needed:
            if key not in value:
                raise Mismatch(f'lacks "{key}": it is damaged, or of another kind')
        made = {key: read_item(key, kinds[key], item) for key, item in value.items()}
        try:
            return kind(**made)
        except InputError as error:  # raised by __post_init__
            raise Mismatch(f"does not fit together: {error}") from None

    return take


def table(kind: Any) -> Reader:
    """A TypedDict: its keys are checked, other keys are kept."""
    kinds = {name: reader(hint) for name, hint in hints(kind).items()}
    optional = {n for n, h in hints(kind).items() if typing.get_origin(h) is typing.NotRequired or not kind.__total__}

    def take(value: Any) -> Any:
        if not isinstance(value, dict):
            raise mismatch(dict, value)
        for key in kinds:
            if key not in value and key not in optional:
                raise Mismatch(f'lacks "{key}": it is damaged, or of another kind')
        return value | {key: read_item(key, each, value[key]) for key, each in kinds.items() if key in value}

    return take


# -- text -------------------------------------------------------------------------------------------------------------


def text_to_json(kind: Any, text: str) -> Any:
    """Text as plain JSON for a `kind`; text that does not parse is returned, for the reader to refuse."""
    bare, _ = unwrap(kind)
    origin, inner = typing.get_origin(bare) or bare, typing.get_args(bare)
    if origin in (typing.Union, types.UnionType):
        if types.NoneType in inner and text.lower() in ("none", "null"):
            return None
        return text_to_json(next((k for k in inner if k is not types.NoneType), Any), text)
    if origin is str or (origin is typing.Literal and isinstance(inner[0], str)):
        return text
    if origin in (tuple, list) and not text.startswith("["):
        text = f"[{text}]"
    try:
        return float(text) if origin is float else parse_json(text.lower() if origin is bool else text, "it")
    except (InputError, ValueError):
        return text


def describe_kind(kind: Any, many: bool = False) -> str:
    """The values that a kind accepts, for messages."""
    bare, limits = unwrap(kind)
    origin, inner = typing.get_origin(bare) or bare, typing.get_args(bare)
    if origin in (int, float):
        word = "whole number" if origin is int else "number"
        return (f"{word}s" if many else f"a {word}") + span(next((x for x in limits if isinstance(x, Range)), None))
    if origin is typing.Literal:
        return " or ".join(json.dumps(x) for x in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_kind(k, many) for k in inner)
    length = next((x for x in limits if isinstance(x, Length)), Length(0))
    size = "" if length == Length(0) else f" of {length.low:,} to {length.high:,}"
    if origin in (list, tuple):
        items = [k for k in inner if k is not Ellipsis]
        count = f"{len(items)} " if origin is tuple and items and Ellipsis not in inner else ""
        said = describe_kind(items[0], True) if items else "values"
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
    """A value for messages: short, on one line, as JSON if possible."""
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
