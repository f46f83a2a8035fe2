"""Files of questions in the forms that people have them, and what is wrong with others."""

import json
from collections import Counter
from pathlib import Path

import pytest

from innerloop.data.questions import guess_kind, read_questions
from innerloop.errors import InputError
from innerloop.tokens import math_judge
from innerloop.tokens.answers import find
from innerloop.tokens.marks import judges, mark, with_verifier
from innerloop.tokens.way import Item, Said

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_json_lines_json_and_csv_say_the_same(tmp_path):
    rows = [{"question": "1 + 1?", "answer": "2"}, {"question": "Is 2 even?", "answer": "Yes"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text("problem,target\n1 + 1?,2\nIs 2 even?,Yes\n")
    found = [read_questions(tmp_path / f"a.{ending}") for ending in ("jsonl", "json", "csv")]
    assert found[0] == found[1] == found[2]
    assert [(i.id, i.kind, i.answer) for i in found[0]] == [("1", "number", "2"), ("2", "yesno", "Yes")]
    assert len(read_questions(tmp_path / "a.csv", limit=1)) == 1


def test_kinds_of_answers():
    for answer, kind in (
        ("72", "number"), ("She has ... #### 72", "number"), ("$1,200.50", "number"), ("(B)", "choice"),
        ("D", "choice"), ("False", "yesno"), ("(-2, 1)", "math"), ("Paris", "text"), ("x=5", "math"),
        (r"\text{east}", "math"), ("p - q", "math"), ("58,500", "number"), ("-1/3", "number"), (") > ]", "text"),
        ("invalid", "valid"), ("well-known fact", "text"), (r"so \boxed{\frac{1}{2}} is it", "math"),
    ):  # fmt: skip
        assert guess_kind(answer) == kind, answer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question": ""}', "line 1 has no question"), ('{"q": "x"}', "line 1 has no question"),
        ("[]", "is no object"), ("", "holds no question"), ("nonsense", "line 1"),
        ('{"question": "x", "answer": "y", "kind": "number"}', "is no number"),
        ('{"question": "x", "id": 1}\n{"question": "y", "id": 1}', "occurs twice"),
        ('{"question": "x", "kind": "numbr"}', "numbr"),
        ('{"question": "x"}\n{"edges": [], "size": 3}', "line 2 has no question, only edges, size: give a field named"),
        ('{"numbers": [1, "2"], "target": 24}', "line 1: numbers and target"), ('{"numbers": [1]}', "2 to 12"),
        ('{"numbers": [1, 2], "target": "24"}', "whole numbers"), ('{"numbers": [1, -2]}', "whole numbers"),
    ],
)  # fmt: skip
def test_faulty_rows_are_named(tmp_path, text, said):
    file = tmp_path / "a.jsonl"
    file.write_text(text + "\n")
    with pytest.raises(InputError, match=said):
        read_questions(file)


def shared(name):
    if not (file := SHARED / name).exists():
        pytest.skip(f"{name} is not in shared/data")
    return file


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("gsm8k_test200", {"number": 200}), ("gsm8k_train1000", {"number": 1000}), ("aime24", {"number": 30}),
        ("math500_part", {"number": 67, "math": 33}),
        ("bbh_20x20", {"choice": 220, "yesno": 80, "text": 40, "number": 40, "valid": 20}),
    ],
)  # fmt: skip
def test_real_files(name, kinds, monkeypatch):
    """Also without math-verify: our own rules read every answer of the file."""
    monkeypatch.setattr(math_judge, "has_math_verify", lambda: False)
    items = read_questions(shared(f"{name}.jsonl"))
    assert Counter(i.kind for i in items) == kinds and all(i.id.startswith(name.split("_")[0][:4]) for i in items)
    for item in items:
        boxed = f"\\boxed{{{item.answer}}}"
        for said in (
            item.answer,
            f"So I think: the answer is {item.answer}",
            item.answer if "dyck" in item.id else boxed,
        ):
            assert mark(item, Said(find(item.kind, said), "answered", "")) == "right", (item.id, said)
        other = {"choice": "(Q)", "yesno": "maybe", "text": "nothing", "valid": "?", "number": "-77", "math": "77"}[
            item.kind
        ]
        assert mark(item, Said(find(item.kind, other), "answered", "")) != "right", item.id
        assert f"answer is {item.answer}" not in item.question, "the answer is not shown"


def test_the_game_of_24():
    """Every solution of the file is right by the check, which is not told it; and no other game's."""
    file = shared("game24.jsonl")
    items, rows = read_questions(file), list(map(json.loads, file.read_text().splitlines()))
    assert [i.id for i in items] == [r["id"] for r in rows] and len(items) == 700
    for i, (item, row) in enumerate(zip(items, rows, strict=True)):
        assert item.kind == "expression" and item.answer is None and row["solution"] not in item.question
        assert item.check(find("expression", f"It is {row['solution']} = 24")).right
        assert not item.check(find("expression", rows[i - 1]["solution"])).right
    assert judges(items) == ["expressions by exact arithmetic"]


def test_other_forms_of_known_benchmarks(tmp_path):
    """MATH with its solution alone, AIME with large letters, BIG-Bench Hard's own JSON, GSM8K's own lines, 24.csv."""
    math = {
        "problem": "Half of 3?",
        "solution": "So $x$ is \\boxed{\\frac{3}{2}}.",
        "level": "1",
        "unique_id": "test/a.json",
    }
    (tmp_path / "math.jsonl").write_text(json.dumps(math))
    (tmp_path / "aime.jsonl").write_text(
        json.dumps({"ID": "2024-I-1", "Problem": "?", "Solution": "no", "Answer": 204})
    )
    (tmp_path / "bbh.json").write_text(json.dumps({"canary": "x", "examples": [{"input": "A?", "target": "(B)"}]}))
    (tmp_path / "gsm.jsonl").write_text(json.dumps({"question": "?", "answer": "2+3=<<2+3=5>>5\n#### 1,005"}))
    (tmp_path / "24.csv").write_text("Rank,Puzzles,AMT (s)\n1,1 1 4 6,4.4\n")
    found = {
        f: read_questions(tmp_path / f)[0] for f in ("math.jsonl", "aime.jsonl", "bbh.json", "gsm.jsonl", "24.csv")
    }
    assert [(i.id, i.kind) for i in found.values()] == [
        ("test/a.json", "math"), ("2024-I-1", "number"), ("1", "choice"), ("1", "number"), ("1", "expression"),
    ]  # fmt: skip
    for file, right in (("math.jsonl", "1.5"), ("aime.jsonl", "204"), ("bbh.json", "B"), ("gsm.jsonl", "$1005")):
        item = found[file]
        assert mark(item, Said(find(item.kind, right), "answered", "")) == "right"
    assert found["24.csv"].check("6*4*1*1").right and "1, 1, 4 and 6" in found["24.csv"].question


def test_an_answer_that_our_rules_do_not_read_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text('{"question": "?", "answer": "5"}\n{"question": "?", "answer": "\\\\sin x"}')
    monkeypatch.setattr(math_judge, "has_math_verify", lambda: False)
    with pytest.raises(InputError, match=r"line 2: our own rules do not read the answer .*innerloop\[math\]"):
        read_questions(tmp_path / "a.jsonl")
    monkeypatch.setattr(math_judge, "has_math_verify", lambda: True)
    assert [i.kind for i in read_questions(tmp_path / "a.jsonl")] == ["number", "math"]


def test_verifiers_of_a_file_and_the_oracle(tmp_path):
    items = [Item("q", "2 + 2?", "4")]
    file = tmp_path / "check.py"
    file.write_text("def check(question, answer):\n    return answer == '4' or f'{answer} is not the sum'\n")
    (checked,) = with_verifier(items, str(file))
    assert checked.check("4").right and checked.check("5") == (False, "5 is not the sum")
    (oracle,) = with_verifier(items, "answers")
    assert oracle.check("4.0").right and not oracle.check("3").right and with_verifier(items, "") == items
    for text, said in (("x = 1", "no function check"), ("def check(q, a):\n    return 3", "returned int")):
        other = tmp_path / f"c{len(text)}.py"
        other.write_text(text + "\n")
        with pytest.raises(InputError, match=said):
            with_verifier(items, str(other))[0].check("4")
    with pytest.raises(InputError, match="has none"):
        with_verifier([Item("q", "2 + 2?")], "answers")


def test_marks():
    item = Item("q", "2 + 2?", "4")
    for said, mark_of in (
        (Said("4", "answered", ""), "right"), (Said("5", "answered", ""), "wrong"), (Said(None, "cut", ""), "cut"),
        (Said(None, "unparsed", ""), "unparsed"),
    ):  # fmt: skip
        assert mark(item, said) == mark_of
