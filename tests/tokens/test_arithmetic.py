"""Number games: expressions found in texts, computed exactly, each number used once; and nothing that is run."""

from fractions import Fraction

import pytest

from innerloop.tokens.answers import find
from innerloop.tokens.arithmetic import fault, uses_and_makes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(1-1)+(3*8)", "(1-1)+(3*8)"), ("The answer is (1-1)+(3*8) = 24.", "(1-1)+(3*8)"), ("- 8*3 = 24", "8*3"),
        ("1 + 1 = 2 (left: 2 3 8)\nAnswer: 8 \u00d7 3 \u00f7 1 = 24", "8*3/1"),
        (r"\boxed{(1+1)\times 2 \cdot 6}", "(1+1)*2*6"),
        ("24", None), ("I cannot", None), ("8 /", None), ("", None), ("8/(3-8/3)\n", "8/(3-8/3)"),
        ("8 \u2212 3", "8-3"),
    ],
)  # fmt: skip
def test_expressions_in_texts(text, found):
    assert find("expression", text) == found


@pytest.mark.parametrize(
    ("text", "numbers", "wrong"),
    [
        ("(1-1)+3*8", (1, 1, 3, 8), ""), ("8/(3-8/3)", (3, 3, 8, 8), ""), ("(5-1/5)*5", (1, 5, 5, 5), ""),
        ("1*3*8", (1, 1, 3, 8), "it uses 1, 3, 8, and not 1, 1, 3, 8"),
        ("1+1+3+8", (1, 1, 3, 8), "it makes 13, and not 24"),
        ("3*8+(1-1)+0", (1, 1, 3, 8), "it uses 0, 1, 1, 3, 8, and not 1, 1, 3, 8"),
        ("11+13", (1, 1, 1, 3), "it uses 11, 13"),
        ("24.0*1", (1, 24), ""), ("8/0", (0, 8), "no expression"), ("2^3*3", (2, 3, 3), "no expression"),
        ("x+1", (1,), "no expression"), ("__import__('os')", (1,), "no expression"), ("2.5*4", (4,), "no expression"),
        ("9" * 500, (9,), "no expression"), ("(" * 200 + "1", (1,), "no expression"),
        ("sqrt(4)*12", (4, 12), "no expression"),
    ],
)  # fmt: skip
def test_what_is_wrong(text, numbers, wrong):
    said = fault(text, numbers, 24)
    assert (said == "") == (wrong == "") and wrong in said


def test_values_are_exact():
    assert uses_and_makes("1/3+1/3+1/3") == ([1, 3, 1, 3, 1, 3], Fraction(1)) and uses_and_makes("1,2") is None
