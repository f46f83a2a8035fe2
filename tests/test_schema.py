"""Plain JSON as typed, bounded values: what is taken, what is refused, and the sentence that says so."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from innerloop.errors import InputError
from innerloop.schema import Length, Range, check, parse, read


@dataclass(frozen=True)
class Inner:
    width: Annotated[int, Range(1, 4096)] = 64
    rate: Annotated[float, Range(0, 1, above=True)] = 0.5
    sets: tuple[Annotated[tuple[int, ...], Length(1)], ...] = ()

    def __post_init__(self):
        check(self)
        if self.width % 2:
            raise InputError("width must be even")


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, Length(1, 20)]
    inner: Inner = field(default_factory=Inner)
    pair: tuple[int, float] = (1, 1.0)
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None
    rest: dict[str, Any] = field(default_factory=dict)
    on: bool = False


class File(TypedDict):
    rows: list[Inner]
    born: NotRequired[dict[str, str]]


def test_what_fits_is_made():
    value = {"name": "x", "inner": {"width": 8, "rate": 1, "sets": [[1, 2], [3]]}, "pair": [2, 3], "rest": {"a": [1]}}
    made = read(Outer, value, "f.json")
    assert made == Outer("x", Inner(8, 1.0, ((1, 2), (3,))), (2, 3.0), rest={"a": [1]})
    assert isinstance(made.inner.rate, float) and isinstance(made.pair[1], float)
    assert read(File, {"rows": [{}], "new": 5}, "f") == {"rows": [Inner()], "new": 5}, "results gain keys over time"


@pytest.mark.parametrize(
    "value, said",
    [
        (None, "f.json is null, but must be an object"),
        ({}, 'f.json lacks "name"'),
        ({"name": ""}, 'name is "", but must be text of 1 to 20 characters'),
        ({"name": "x", "inner": {"widht": 1}}, 'f.json: inner has no "widht": did you mean "width"?'),
        ({"name": "x", "inner": {"width": 0}}, "f.json: inner.width is 0, but must be a whole number from 1 to 4,096"),
        ({"name": "x", "inner": {"width": 10**5000}}, "inner.width is a number of many digits"),
        ({"name": "x", "inner": {"width": True}}, "inner.width is true"),
        ({"name": "x", "inner": {"width": 8.0}}, "inner.width is 8.0"),
        ({"name": "x", "inner": {"width": 7}}, "inner does not fit together: width must be even"),
        ({"name": "x", "inner": {"rate": 0}}, "inner.rate is 0, but must be a number above 0 and up to 1"),
        ({"name": "x", "inner": {"rate": float("nan")}}, "inner.rate is NaN"),
        ({"name": "x", "inner": {"sets": [[1], []]}}, "inner.sets[1] is an empty list"),
        ({"name": "x", "inner": {"sets": [[1], ["\x1b[31m"]]}}, 'inner.sets[1][0] is "\\x1b[31m"'),
        ({"name": "x", "pair": [1]}, "pair is a list of 1, but must be a list of 2 whole numbers"),
        ({"name": "x", "pair": [1, 10**400]}, "pair[1] is a number of many digits"),
        ({"name": "x", "kind": "c"}, 'kind is "c", but must be "a" or "b"'),
        ({"name": "x", "maybe": "1"}, 'maybe is "1", but must be a whole number or null'),
        ({"name": "x", "on": 1}, "on is 1, but must be true or false"),
        ({"name": "x", "rest": []}, "rest is an empty list, but must be an object"),
    ],
)
def test_what_does_not_is_one_sentence_with_its_place(value, said):
    with pytest.raises(InputError) as error:
        read(Outer, value, "f.json")
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (int, "5", 5),
        (str, "5", "5"),
        (float, "1e-3", 1e-3),
        (bool, "True", True),
        (tuple[int, ...], "1,4,16", (1, 4, 16)),
        (tuple[tuple[int, ...], ...], "[[1], [2]]", ((1,), (2,))),
        (int | None, "none", None),
        (Literal["a", "b"], "b", "b"),
    ],
)
def test_text_of_a_shell(kind, text, value):
    assert parse(kind, text, "--x") == value


@pytest.mark.parametrize(
    "kind, text", [(int, "many"), (int, "1e3"), (float, "nan"), (bool, "maybe"), (int, "[" * 9999)]
)
def test_text_that_is_of_another_kind(kind, text):
    with pytest.raises(InputError, match=r"--x is .*, but must be"):
        parse(kind, text, "--x")


def test_what_python_makes_is_held_to_the_same_ranges():
    with pytest.raises(InputError, match="width is 0"):
        Inner(width=0)
