"""Answers found in texts of every form that users reported as wrongly marked, and in texts that hold none."""

import pytest

from innerloop.errors import InputError
from innerloop.tokens.answers import KINDS, find, same


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("$29.00", "29"), (r"\boxed{29}", "29"), ("29 apples", "29"), ("The answer is 1,234.5.", "2469/2"),
        ("x = -3", "-3"), ("it is −4", "-4"), ("5-3 = 2", "2"), ("10 - 3 = 7", "7"), ("3.", "3"), (".5 l", "1/2"),
        (r"\boxed{\frac{1}{2}}", "1/2"), ("#### 72", "72"), ("50%", "50"), ("2e3 m", "2000"), ("€ 12", "12"),
        ("I have 3 and 4, answer: 7 because 8", "7"), ("Answer: 3. No, the answer is 4, not 5", "4"),
        (r"\boxed{3} or rather \boxed{4}", "4"), ("**Final answer:** 12 of 30", "12"), ("1/3 of it", "1/3"),
        ("no digits", None), ("", None), ("I added 3 and 4. Answer: unknown", None), (r"3 \boxed{}", "3"),
        ("1/0", None),
    ],
)  # fmt: skip
def test_numbers(text, answer):
    assert find("number", text) == answer


def test_after_a_cue_of_the_prompt_the_first_counts():
    assert find("number", " 12 of the 30", first=True) == "12" and find("number", " none", first=True) is None


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("choice", "(B)", "B"), ("choice", "The answer is C.", "C"), ("choice", "Answer: (d)", "D"),
        ("choice", "a", None), ("choice", "The answer is: B.", "B"), ("choice", "**B**", "B"),
        ("choice", "it is (M)", "M"),
        ("choice", "A car it is", None), ("choice", "The answer is: I think C", "C"),
        ("choice", r"\boxed{\text{(D)}}", "D"),
        ("valid", "The argument is invalid.", "invalid"), ("valid", "deductively valid", "valid"),
        ("valid", "yes", None), ("valid", "It is not valid", "invalid"),
        ("whole", "Answer:\n1 0 \n0 1\n\n", "1 0\n0 1"),
        ("whole", "I go <answer>up up</answer> so", "up up"),
        ("whole", "so\n```json\n[[1],\n [2]]\n```", "[[1],\n [2]]"),
        ("whole", "The answer is 540.", "540"), ("whole", " ", None), ("number", "<answer> 7 </answer> of 9", "7"),
        ("choice", "I'd say A. Therefore, the answer is B", "B"), ("yesno", "True", "yes"),
        ("yesno", "yes, no: No.", "no"),
        ("text", "Answer: Paris.\n", "paris"), ("text", "  A  b \n\n", "a b"), ("text", "\n", None),
        ("yesno", "maybe", None),
    ],
)  # fmt: skip
def test_other_kinds(kind, text, answer):
    assert find(kind, text) == answer


def test_what_is_the_same():
    assert same("number", "$29.00", "29 apples") and same("number", "0.5", "1/2") and not same("number", "29", "30")
    assert not same("number", "none", "none") and not same("number", None, "3") and same("text", "Yes.", "'yes'")
    with pytest.raises(InputError, match='no kind of answer is called "numbr": did you mean "number"'):
        find("numbr", "3")
    assert all(kind.about for kind in KINDS.values())
