"""The page of a comparison: every way, question and cut-off is on it, nothing is loaded, and texts are escaped."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from innerloop.cli.comparing import as_json
from innerloop.lm.scripted import Scripted
from innerloop.show.comparison import MOST_QUESTIONS, amount, chart, labels, page
from innerloop.study.compare import compare
from innerloop.tokens.samples import Samples
from innerloop.tokens.way import Item
from innerloop.tokens.ways import way_of


def write(prompt, seed):
    """Right on even numbers; sometimes it goes on for too long; it writes HTML."""
    number = int(re.findall(r"\d+", prompt)[-1])
    if "step by step" in prompt:
        return (
            "<script>alert(1)</script> " + "on and on " * 400
            if number % 5 == 0
            else f"<b>so</b> the answer is {number}."
        )
    return f"The answer is {number + (number + seed) % 2}."


@pytest.fixture(scope="module")
def result():
    model, items = Scripted(write), [Item(f"q{i}", f"Which number is {i}?", str(i)) for i in range(10)]
    ways = {name: way_of(name, model) for name in ("direct", "chain(300)", "vote(3, direct)")}
    found = compare(items, ways, Samples(way_of("direct", model, temperature=0.7), 4), {"tokens": 5000})
    return as_json(found, model, "q.jsonl", "direct", 0, items)


def test_every_way_and_question_is_on_the_page(result):
    html = page(result)
    for name in ("direct", "chain(300)", "vote(3, direct)", "null"):
        assert html.count(f"<h3>{name}</h3>") == 10 and f"<td>{name}" in html
    assert all(f"q{i}: Which number is {i}? · right: {i}" in html for i in range(10))
    assert html.count("cut off</div>") == 2, "two chains are longer than their limit"
    assert html.count("<details open>") == 1 and html.count("<details") == 10
    first = html.index("<details open>")
    assert html.index("q1:") > first and "wrong" in html[first : html.index("</summary>", first)]


def test_nothing_is_loaded_and_texts_of_models_are_escaped(result):
    html = page(result)
    assert not re.search(r"<script|<link|<img|src=|href=|url\(", html)
    assert "&lt;script&gt;alert(1)" in html and "&lt;b&gt;so" in html


def test_the_chart_is_an_svg_with_every_way_on_it(result):
    svg = chart(result)
    root = ET.fromstring(svg)
    texts = [t.text for t in root.iter() if t.tag.endswith("text")]
    assert {"direct", "chain(300)", "vote(3, direct)", "tokens of a question"} <= set(texts)
    assert sum(t.tag.endswith("circle") for t in root.iter()) == 3 and "polyline" in svg
    ys = [float(y) for y in re.findall(r'<text x="542" y="([\d.]+)">', labels([(9.0, 50.0, c) for c in "abcd"]))]
    assert len(ys) == 4 and all(b - a >= 15 for a, b in itertools.pairwise(ys)), "no label over another"


def test_a_long_comparison_shows_a_part_and_says_so(result):
    arms = [arm | {"items": arm["items"] * 30} for arm in result["arms"]]
    html = page(result | {"arms": arms})
    assert html.count("<details") == MOST_QUESTIONS and f"{300 - MOST_QUESTIONS} more are in compare.json" in html


def test_amounts():
    assert [amount(v) for v in (0, 12.25, 9999, 10_000, 2.5e6, 3e9, 4e12)] == [
        "0", "12.25", "9,999", "10k", "2.5M", "3G", "4T",
    ]  # fmt: skip
