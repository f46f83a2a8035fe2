"""Files of questions in the forms that people have them, and what is wrong with others."""

import json
from pathlib import Path

import pytest

from innerloop.data.questions import guess_kind, read_questions
from innerloop.errors import InputError
from innerloop.tokens.marks import mark, with_verifier
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
        ("D", "choice"), ("False", "yesno"), ("(-2, 1)", "text"), ("Paris", "text"), ("x=5", "text"),
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
    ],
)  # fmt: skip
def test_faulty_rows_are_named(tmp_path, text, said):
    file = tmp_path / "a.jsonl"
    file.write_text(text + "\n")
    with pytest.raises(InputError, match=said):
        read_questions(file)


@pytest.mark.parametrize("name", ["gsm8k_test200", "aime24", "math500_part", "bbh_20x20"])
def test_real_files(name):
    file = SHARED / f"{name}.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    items = read_questions(file)
    assert len(items) >= 30 and all(i.answer for i in items)
    assert all(mark(i, Said(found, "answered", "")) == "right" for i in items if (found := i.answer))


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
