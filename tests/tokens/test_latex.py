r"""Answers in LaTeX: what is equal, what is not, what is not read, and that everything ends soon."""

import threading
import time

import pytest

from innerloop.tokens import child, math_judge
from innerloop.tokens.answers import find, same
from innerloop.tokens.child import Child, Failed, TookTooLong
from innerloop.tokens.equality import equal, normal
from innerloop.tokens.latex import LONGEST, read

WITH_MATH_VERIFY = pytest.mark.skipif(not math_judge.has_math_verify(), reason="math-verify is not installed")

EQUAL = [
    (r"\frac{1}{2}", "0.5"), (r"\frac12", r"\dfrac{1}{2}"), (r"\frac9{19}", "9/19"), (r"1\frac{1}{2}", "1.5"),
    (r"\$29.00", "29"), ("29 apples", "29"), (r"29 \text{ apples}", "29"), (r"5\text{ cm}^2", "5 cm"),
    (r"\frac{270}7\text{ degrees}", "270/7"), (r"120^\circ", "120 degrees"), (r"120^{\circ}", "120"),
    (r"50\%", "50"), (r"50\%", r"\frac12"), ("-50%", "-0.5"), ("58,500", "58500"), ("58{,}500", "58500"),
    (r"10,\!000", "10000"),
    ("\u22123", "-3"), ("x=5", "5"), (r"x \in [-2,7]", "[-2, 7]"), ("y = 2x + 3", "2x+3"), ("p - q", "-q + p"),
    ("(x+1)^2", "x^2 + 2x + 1"), (r"11\sqrt2", r"11\sqrt{2}"), (r"2\sqrt{3}", r"\sqrt{12}"), (r"8 \pi", r"8\pi"),
    (r"\sqrt[3]{-8}", "-2"), (r"\frac{1}{\sqrt2}", r"\frac{\sqrt{2}}{2}"), (r"\{1, 2\}", "2, 1"),
    (r"1, 2 \text{ and } 3", r"\{3,2,1\}"), (r"\left(\frac{3}{5},\frac{8}{3}\right]", "(0.6, 8/3]"),
    (r"(2,\infty)", r"\left(2, \infty\right)"), (r"(-\infty,0)\cup(1,2]", r"(1,2]\cup(-\infty,0)"),
    (r"\begin{pmatrix} -1/3 \\ 2 \end{pmatrix}", r"\begin{bmatrix} -\frac13\\2\end{bmatrix}"),
    ("5x - 7y + 4 = 0", "10x - 14y = -8"), (r"\text{(C)}", "C"), (r"\text{Evelyn}", "Evelyn"), (r"\text{east}", "East"),
    ("m + n = 113", "113"), (r"2^{10}", "1024"), (r"\emptyset", r"\{\}"), ("90.", "90"),
]  # fmt: skip
DIFFERENT = [
    ("0.333", r"\frac13"), ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), (r"(2,\infty)", r"(2,\infty]"),
    (r"\{1,2\}", r"\{1,2,3\}"),
    (r"\infty", r"-\infty"), ("p - q", "p + q"), (r"8\pi", "25.13"), ("x^2", "x^3"), ("5x = 3y", "5x = 4y"),
    ("3", "(3, 3)"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"), (r"\text{east}", r"\text{west}"),
    ("C", "D"), ("-3", "3"), (r"50\%", "5"), ("1,2,2", "1,1,2"),
]  # fmt: skip
UNREAD = [
    r"\sin x",
    "|x|",
    r"2 \pm 3",
    "1 < x",
    "5!",
    "((((",
    "a_1",
    r"\frac{1",
    "{",
    "(1,",
    "9" * (LONGEST + 1),
    "(" * 60 + "1" + ")" * 60,
    "",
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a, b):
    assert equal(a, b) is True and equal(b, a) is True and same("math", a, b)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a, b):
    assert equal(a, b) is False and equal(b, a) is False


@pytest.mark.parametrize("text", UNREAD)
def test_what_is_not_read_is_not_judged(text):
    assert read(text) is None and equal(text, "3") is None


@pytest.mark.parametrize("text", sorted({t for pair in EQUAL + DIFFERENT for t in pair}))
def test_one_form_reads_as_the_same(text):
    form = normal(text)
    assert normal(form) == form and equal(form, text) is True


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^{9}}}",
        "10^{10^{10}}",
        r"\frac{1}{0}",
        "0^{-1}",
        "x^{99999999999}",
        "2" + "^2" * 60,
        r"\sqrt{" * 39 + "2" + "}" * 39,
    ],
)
def test_large_and_impossible_values_end_soon(text):
    began = time.perf_counter()
    normal(text), equal(text, "3"), equal(text, f"{text} + 1")
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So it is $\frac{14}{3}$.", "14/3"), ("p - q", "p - q"), ("The answer is 5. Because 3+2 is 5.", "5"),
        ("The answer is Evelyn. She ran 5 km.", r"\text{evelyn}"),
        (r"We get \boxed{\left(\frac35, 1\right]}", "(3/5, 1]"),
        ("Therefore x = 7.\nHope this helps!", "7"), ("It costs $29.00", "29"),
        ("The answer is: -1,234.5%", r"-2469/2\%"),
        (r"\[ x \in [-2,7] \]", "[-2, 7]"), (r"<answer>\frac12</answer>", "1/2"), (r"\boxed{}", None), ("", None),
        (r"so \boxed{\frac{1}{2}} or \boxed{\frac{1}{3}}", "1/3"), ("There are 12 of them", "12"),
    ],
)  # fmt: skip
def test_found_in_texts(text, answer):
    assert find("math", text) == answer


# -- math-verify and the process in which it runs ---------------------------------------------------------------------


def test_without_math_verify_what_is_not_read_is_wrong_and_said(monkeypatch):
    monkeypatch.setattr(math_judge, "has_math_verify", lambda: False)
    assert not same("math", r"2^{\log_2 5}", "5") and same("math", "0.5", r"\frac12")
    assert math_judge.can_judge("5") and not math_judge.can_judge(r"\sin x")
    assert "innerloop[math]" in math_judge.judge_in_words()


@WITH_MATH_VERIFY
def test_math_verify_decides_what_our_rules_do_not_read_also_in_threads():
    said = {}
    pairs = {r"2^{\log_2 5}": "5", r"\sin^2 x": "1", "1 + 2x": "3x", r"\log_2 8": "3"}
    threads = [
        threading.Thread(target=lambda a=a, b=b: said.update({a: math_judge.same_math(a, b)})) for a, b in pairs.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {r"2^{\log_2 5}": True, r"\sin^2 x": False, "1 + 2x": False, r"\log_2 8": True}
    assert "math-verify" in math_judge.judge_in_words() and math_judge.can_judge(r"\sin x")


@WITH_MATH_VERIFY
def test_math_verify_is_ended_where_it_hangs_and_the_next_answer_is_judged():
    process = Child(seconds=1.0)
    try:
        with pytest.raises(TookTooLong):
            process.ask("verify", "3", "9^{9^{9^{9}}}")
        assert process.ask("verify", r"\log_2 8", "3", seconds=30.0) is True
    finally:
        process.close()


def test_a_package_that_is_missing_fails_and_keys_are_not_seen(monkeypatch, tmp_path):
    program = tmp_path / "outside.py"
    program.write_text(
        "import json, os, sys\nfor line in sys.stdin:\n"
        "    print(json.dumps({'value': os.environ.get('A_KEY')}), flush=True)\n"
    )
    monkeypatch.setenv("A_KEY", "secret")
    monkeypatch.setattr(child, "PROGRAM", program)
    process = Child()
    assert process.ask("verify", "3", "3") is None
    process.close()
    program.write_text('import sys\nfor line in sys.stdin:\n    print(\'{"error": "none"}\', flush=True)\n')
    with pytest.raises(Failed, match="none"):
        process.ask("verify", "3", "3")
    process.close()
    program.write_text("")
    with pytest.raises(TookTooLong):
        process.ask("verify", "3", "3")
    process.close()
