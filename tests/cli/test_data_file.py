"""A person's own file: looked at, put right, solved with its own columns kept, and measured."""

from __future__ import annotations

import csv
import gzip
import io
import json
from itertools import product
from pathlib import Path

import pytest

from innerloop import cli, files, open_solver, tasks
from innerloop.solve.worth import advice

ASKED, SOLVED = "1.3.34.2.1.34.2.", "1234341221434321"
SEVERAL, NONE = "1" + "." * 15, "11" + "." * 14


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Thirty 4x4 Sudokus with 0 for an empty cell and columns of their owner's."""
    task = tasks.get("sudoku", size=4)
    s = task.make(30, 7)
    texts = [(task.decode(q).replace(".", "0"), task.decode(a)) for q, a in zip(s.inputs, s.labels, strict=True)]
    rows = [[f"n{i}", q, a, "mine, all"] for i, (q, a) in enumerate(dict(texts).items(), 1)]
    with (tmp_path / "own.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ID", "Puzzle", "solution", "source"], *rows])
    return tmp_path / "own.csv"


def rows_of(path: Path | str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def test_data_tells_what_a_file_is_and_draws_it(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "own.csv"]) == 0
    said = capsys.readouterr().out
    for part in (
        "own.csv is read as sudoku 4x4",
        "ID, Puzzle (the question), solution (the answer), source",
        "givens",
        "repeats",
        "twins",
        "row 1 ",
    ):
        assert part in said, part
    assert "│" in said and "[" not in said.replace("[1", "")
    Path("asked.txt").write_text(f"{ASKED}\n{SEVERAL}\n")
    assert cli.main(["data", "asked.txt"]) == 0 and "questions alone: 2 of 4x4" in capsys.readouterr().out


def test_fix_writes_two_files_beside_the_one_it_leaves_alone(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = own.read_text().splitlines()
    own.write_text("\n".join([*lines, lines[1], "y,12,34,"]) + "\n")
    before, last = own.read_bytes(), len(lines) + 1
    assert cli.main(["data", "own.csv"]) == 2
    error = capsys.readouterr().err
    assert f"own.csv, row {last}: the question has 2 cells where most have 16; correct" in error
    assert "innerloop data own.csv --fix" in error and error.count("\n") == 1
    assert cli.main(["data", "own.csv", "--fix", "--out", "clean"]) == 0
    assert "2 rows at fault or repeated are left out" in capsys.readouterr().err
    train, test = (rows_of(f"clean/own.{part}.csv") for part in ("train", "test"))
    assert len(train) + len(test) == len(lines) - 1 and 1 <= len(test) < len(train)
    assert [*train[0]] == ["ID", "Puzzle", "solution", "source"] and train[0]["source"] == "mine, all"
    assert own.read_bytes() == before
    assert cli.main(["data", "own.csv", "--fix", "--out", "clean"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["data", "clean/own.train.csv"]) == 0
    assert cli.main(["data", "own.csv", "--out", "clean"]) == 2


def test_answers_are_checked_by_rules_of_ones_own(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ortools")
    broken = [i for i, row in enumerate(rows_of(own), 1) if row["solution"][0] == "1"]
    total = len(rows_of(own))
    files_of_rules = {
        "rule": 'def rule(question: str, answer: str) -> bool:\n    return answer[0] != "1"\n',
        "model": 'def constrain(model, has, question: str):\n    model.add_bool_or([~has(0, "1")])\n',
        "never": "def rule(question: str, answer: str) -> bool:\n    return False\n",
        "always": "def rule(question: str, answer: str) -> bool:\n    return True\n",
    }
    for name, text in files_of_rules.items():
        Path(f"{name}.py").write_text(text)
    assert 1 < len(broken) < total
    for name in ("rule", "model"):
        assert cli.main(["data", "own.csv", "--rules", f"{name}.py"]) == 2
        said = capsys.readouterr()
        shown = " ".join(said.out.split())
        assert f"{len(broken)} of {total} answers break those of {name}.py, first row {broken[0]}" in shown
        assert f"row {broken[0]}: the answer breaks the rules of {name}.py, and {len(broken) - 1} more rows" in said.err
        assert f"innerloop data own.csv --rules {name}.py --fix" in said.err
    assert cli.main(["data", "own.csv", "--rules", "rule.py", "--fix", "--out", "clean"]) == 0
    kept = [*rows_of("clean/own.train.csv"), *rows_of("clean/own.test.csv")]
    assert len(kept) == total - len(broken) and all(row["solution"][0] != "1" for row in kept)
    assert cli.main(["data", "own.csv", "--rules", "never.py"]) == 2
    assert "row 1: the answer breaks the rules of never.py, and so do all others" in capsys.readouterr().err
    assert cli.main(["data", "own.csv", "--rules", "always.py"]) == 0
    said = capsys.readouterr()
    assert f"all {total} answers keep those of always.py" in said.out and "--rules" not in said.err
    Path("asked.txt").write_text(f"{ASKED}\n{SEVERAL}\n")
    assert cli.main(["data", "asked.txt", "--rules", "always.py"]) == 2
    assert "holds no answers" in capsys.readouterr().err


def test_a_question_that_lies_in_several_columns_is_suspected(capsys: pytest.CaptureFixture[str]) -> None:
    Path("signs.csv").write_text("\n".join(["givens,signs,answer", "1..,a,123", "1..,b,132", "..2,a,312"]) + "\n")
    assert cli.main(["data", "signs.csv"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "1 rows repeat the question of others" in said and "signs" in said.partition("is a part of the question")[2]


def test_solve_keeps_columns_and_flags_rows_that_are_no_puzzle(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with own.open("a") as file:
        file.write(f"s,{SEVERAL.replace('.', '0')},,\nn,{NONE.replace('.', '0')},,\n")
    assert cli.main(["solve", "demo-sudoku4", "own.csv", "--depth", "8", "--width", "2", "--out", "a.csv"]) == 0
    error = capsys.readouterr().err
    rows = rows_of("a.csv")
    ours = ["answer", "known", "valid", "confidence", "steps", "nfe", "found_source", "solutions"]
    assert [*rows[0]] == ["ID", "Puzzle", "solution", "source", *ours]
    given = rows_of(own)
    assert [{k: r[k] for k in given[0]} for r in rows] == given
    assert all(r["answer"] == r["solution"] and r["solutions"] == "1" for r in rows[:-2] if r["known"] == "yes")
    assert [r["solutions"] for r in rows[-2:]] == ["several", "0"] and rows[-1]["known"] == "no"
    assert f"row {len(rows)} has no solution" in error and f"row {len(rows) - 1} has several" in error
    assert cli.main(["solve", "demo-sudoku4", "a.csv", "--depth", "1", "--width", "1", "--out", "a.csv"]) == 2
    assert "holds the questions" in capsys.readouterr().err
    with gzip.open("q.jsonl.gz", "wt") as zipped:
        zipped.write(json.dumps({"n": 4, "quizzes": [int(c) for c in ASKED.replace(".", "0")], "tags": ["x"]}) + "\n")
    for _ in range(2):  # it replaces what it wrote itself
        assert cli.main(["solve", "demo-sudoku4", "q.jsonl.gz", "--out", "a.jsonl"]) == 0
    (line,) = Path("a.jsonl").read_text().splitlines()
    assert json.loads(line)["tags"] == ["x"] and json.loads(line)["answer"] == SOLVED


def test_solve_reads_a_file_once_and_names_every_faulty_row(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, lines = [], files.lines
    monkeypatch.setattr(files, "lines", lambda path: opened.append(Path(path).name) or lines(path))
    quick = ["--depth", "1", "--width", "1"]
    with own.open("a") as file:  # a question that stands twice
        file.write(own.read_text().splitlines()[1] + "\n")
    assert cli.main(["solve", "demo-sudoku4", "own.csv", *quick]) == 0
    assert opened == ["own.csv"] and "are the answers that the file holds" in capsys.readouterr().err
    rows = own.read_text().splitlines()
    rows[2] = rows[2].replace(",", ",x", 1)
    for i in (4, *range(9, 14)):
        head, question, *rest = rows[i].split(",", 2)
        rows[i] = ",".join([head, question[:-1] + "z", *rest])
    own.write_text("\n".join(rows) + "\n")
    assert cli.main(["solve", "demo-sudoku4", "own.csv", *quick, "--out", "a.csv"]) == 2 and not Path("a.csv").exists()
    error = capsys.readouterr().err
    assert "own.csv: 7 rows cannot be read: row 2: the question has 17 cells where most have 16; " in error
    assert "row 4: the question has 'z' in cell 16; row 9: " in error and "; likewise rows 12, 13; correct" in error
    rows[2], rows[1] = own.read_text().splitlines()[3], rows[1].replace(",", ",x", 1)
    own.write_text("\n".join([*rows[:4], *rows[5:9]]) + "\n")
    assert cli.main(["solve", "demo-sudoku4", "own.csv", *quick]) == 2
    assert "own.csv: 1 row cannot be read: row 1: the question has 17 cells" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ASKED}\n1\n{ASKED}\n{'z' * 16}\n"))
    assert cli.main(["solve", "demo-sudoku4", "-", *quick]) == 2
    assert "standard input: 2 rows cannot be read: row 2: " in capsys.readouterr().err


def test_what_is_stated_of_a_file_is_stated_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Cells of several characters from the file to the answers, by a run that remembers them."""
    rows = [f"{i},{a} -- {b} --,{a} {a} {b} {b}" for i, (a, b) in enumerate(product(("1", "10", "12"), repeat=2))]
    Path("words.csv").write_text("\n".join(["id,question,answer", *rows]) + "\n")
    assert cli.main(["data", "words.csv"]) == 2  # their lengths differ
    assert "4 words each" in (said := " ".join(capsys.readouterr().out.split())) and "such as --,10,12" in said
    stated = ["--shape", "2x2", "--blank=--", "--alphabet=--,1,10,12"]
    assert cli.main(["data", "words.csv", *stated]) == 0
    assert "1  ·  \n10 ·" in "\n".join(line[:6] for line in capsys.readouterr().out.splitlines())
    tiny = ["plan.steps=1", "plan.batch=2", "plan.compile=off", "config.dtype=float32", "config.net.hidden_size=16"]
    words = ["train", "grid", "--data", "words.csv", "--out", "r", "--device", "cpu"]
    assert cli.main([*words, *stated, "--set", *tiny]) == 0
    assert "7 puzzles to learn from, 2 others" in capsys.readouterr().out
    assert cli.main(["solve", "r", "words.csv", "--depth", "1", "--out", "a.csv"]) == 0
    (first, *_) = rows_of("a.csv")
    assert first["question"] == "1 -- 1 --" and set(first["found_answer"].split()) <= {"--", "1", "10", "12", "_"}
    assert len(first["found_answer"].split()) == 4 and cli.main(["train", "r", *stated]) == 2


def test_print_shows_a_board_and_why() -> None:
    (solution, other) = open_solver("demo-sudoku4").solve([ASKED, NONE], depth=8, width=1)
    *board, line = str(solution).splitlines()
    assert board[0] == "1 2 │ 3 4 " and line.startswith("valid after ") and line.endswith(solution.why)
    assert "I don't know (the board is the best guess)" in str(other)


def test_worth_measures_every_way_and_says_which(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ortools")
    assert cli.main(["worth", "demo-sudoku4", "own.csv", "--limit", "6", "--depth", "4", "--out", "w.json"]) == 0
    said = capsys.readouterr().out
    kept = json.loads(Path("w.json").read_text())
    assert [r["method"] for r in kept["rows"]] == ["solver", "model", "verified", "hybrid"]
    assert kept["rows"][0]["valid"] == 1.0 and "CP-SAT" in said.splitlines()[-1] and kept["born"]
    own.write_text("[]")
    assert cli.main(["worth", "demo-sudoku4", "own.csv"]) == 2


def row(method: str, valid: float, p50: float, rate: float, p99: float = 9.0) -> dict[str, object]:
    row = {"method": method, "valid": valid, "p50_ms": p50, "per_second": rate, "p99_ms": p99}
    return {**row, "together_valid": valid}


def test_the_advice_is_what_the_numbers_say() -> None:
    alone = row("solver", 1.0, 5.0, 200.0)
    assert advice([alone, row("hybrid", 1.0, 4.8, 210.0)]).startswith("Use CP-SAT alone")
    assert advice([alone, row("verified", 0.9, 1.0, 900.0)]).startswith("Use CP-SAT alone")
    both = advice([alone, row("hybrid", 1.0, 2.0, 900.0, 30.0)])
    assert both.startswith("Use the model with CP-SAT behind it") and "30 against 9 ms" in both
    part = {**row("hybrid", 1.0, 6.0, 900.0), "together_valid": 0.4}  # fast, but of what it can do in one step
    assert advice([alone, part]).startswith("Use CP-SAT alone")
    assert "For one puzzle at a time use CP-SAT alone" in advice([alone, row("hybrid", 1.0, 6.0, 900.0)])
    assert "for many at once CP-SAT alone (100 against" in advice([alone, row("verified", 1.0, 2.0, 100.0)])
    single = {**row("hybrid", 0.9, 2.0, 900.0), "together_valid": 1.0}  # as good as CP-SAT only in the batch
    assert "CP-SAT alone, which answers more of them; for many" in advice([alone, single])
    batch = {**row("hybrid", 1.0, 2.0, 900.0), "together_valid": 0.9}  # and only one by one
    assert "CP-SAT alone, which answers more" in advice([alone, batch]) and "5.0 against 5.0" not in advice(
        [alone, batch]
    )
    assert "calibrate" in advice([row("model", 0.7, 2.0, 100.0)])
    assert "I don't know" in advice([row("model", 0.7, 2.0, 100.0), row("verified", 0.6, 2.0, 100.0)])
