"""Every verb on a tiny run, and bad inputs: one sentence, exit code 2, nothing lost."""

import csv
import functools
import gzip
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from innerloop import cli, pretrained, recipes, tasks
from innerloop.data.formats import write_csv
from innerloop.runs import run as runs
from innerloop.runs.folder import open_run

TINY = ["plan.steps=6", "plan.batch=8", "plan.check_every=3", "plan.save_every=3", "plan.compile=off"]
TINY += ["data.count=12", "data.holdout=8", "config.dtype=float32", "config.net.hidden_size=32"]
EASY = "1.3.34.2.1.34.2."  # 4x4: one missing cell in each pair
COMMAND = [sys.executable, "-m", "innerloop.cli"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Each test in its own folder, on one thread, so that neighbours on this machine cost no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished 4x4 run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    torch.set_num_threads(1)
    assert cli.main(["train", "sudoku4_trm", "--out", str(folder), "--device", "cpu", "--set", *TINY]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it, to do with as the test likes."""
    shutil.copytree(trained, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def puzzles(tmp_path):
    """A CSV of 4x4 Sudokus."""
    task = tasks.get("sudoku", size=4)
    write_csv(tmp_path / "p.csv", task.make(6, 99), task)
    return tmp_path / "p.csv"


def load(path):
    return json.loads(Path(path).read_text())


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- the verbs --------------------------------------------------------------------------------------------------------


def test_overview_names_every_verb(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_shows_an_example(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    assert f"innerloop {verb}" in capsys.readouterr().out.replace("\n", " ")


def test_an_option_of_several_values_takes_them_behind_the_verbs_own_words():
    sorted_words = functools.partial(cli.options_first, cli.load("serve"))
    hosts = ["--allow-host", "a.example", "b"]
    assert sorted_words(["runs/demo", *hosts, "--port", "0"]) == [*hosts, "--port", "0", "--", "runs/demo"]
    assert sorted_words(["--port", "0", "runs/demo", "x=runs/y", *hosts]) == [
        "--port", "0", *hosts, "--", "runs/demo", "x=runs/y",
    ]  # fmt: skip
    assert sorted_words(["--allow-host", "a.example", "runs/demo"]) == ["--allow-host", "a.example", "--", "runs/demo"]
    assert sorted_words(["--port", "0", "--", "--odd"]) == ["--port", "0", "--", "--odd"]


def test_list_says_what_the_models_that_come_along_solve_and_prints_their_cards(capsys):
    assert cli.main(["list"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name in pretrained.names():
        assert f" {name} " in said and cli.main(["list", name]) == 0
        card = capsys.readouterr().out
        assert card.startswith(pretrained.card(name).rstrip()) and card.rstrip().endswith(
            "Apache-2.0, as Innerloop itself."
        )
        row = next(line for line in card.splitlines() if line.startswith("| generated as it learned from"))
        assert f"its own kind {row.split('|')[-2].split()[0]}" in said
    assert cli.main(["list", "demo-sudoku8"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_list_names_everything_and_starts_light(capsys):
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("trm", "hrm", "ut", "sudoku", "maze", "queens", "arc", "grid", "demo", "sudoku4"):
        assert f"\n{name} " in said
    assert set(recipes.all_recipes()) <= set(said.split())
    heavy = "import sys, innerloop, innerloop.cli.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 0, "list imports torch"


def test_train_writes_a_run(trained):
    result = load(trained / "result.json")
    assert result["steps"] == 6 and result["train_puzzles"] == 12 and result["validation_puzzles"] == 8
    assert result["born"]["command"] and not result["stopped"]
    for name in ("run.json", "config.json", "metrics.jsonl", "model.safetensors", "train_state.pt"):
        assert (trained / name).exists()


def test_train_says_what_it_does(capsys):
    assert cli.main(["train", "sudoku4", "--out", "r", "--set", *TINY]) == 0
    out = capsys.readouterr().out
    for said in (
        "device ",
        "float32",
        "one compiled region",
        "best validation",
        "innerloop eval r",
        "validation puzz",
    ):
        assert said in out, said
    assert cli.main(["train", "r"]) == 0
    assert "finished at step 6" in capsys.readouterr().out
    assert cli.main(["train", "sudoku4", "--out", "r", "--fresh", "--set", *TINY, "seed=5"]) == 0
    assert runs.from_json(load("r/run.json")["run"]).seed == 5


def test_interrupted_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, capsys):
    """Ctrl-C: exit 130, one line that says how to go on; the resumed run ends like an uninterrupted one."""
    from innerloop.learn.train import Trainer

    tiny = [*TINY, "plan.steps=20", "plan.check_every=1000", "plan.save_every=5", "data.holdout=4"]
    words = ["train", "sudoku4", "--device", "cpu", "--set", *tiny]
    update = Trainer.update

    def interrupted(self):
        if self.step == 7:  # in the middle of a step
            signal.raise_signal(signal.SIGINT)
        update(self)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(Trainer, "update", interrupted)
        assert cli.main([*words, "--out", "cut"]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
        monkeypatch.setattr(Trainer, "update", update)
    said = "".join(capsys.readouterr())
    assert "innerloop train cut" in said and "Traceback" not in said and (tmp_path / "cut/train_state.pt").exists()
    assert not (tmp_path / "cut" / "result.json").exists()
    assert cli.main(["train", "cut", "--device", "cpu"]) == 0
    assert cli.main([*words, "--out", "whole"]) == 0
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_train_on_a_file_of_ones_own(puzzles, capsys):
    tiny = [t for t in TINY if not t.startswith("data.count")]
    assert cli.main(["train", "sudoku4", "--data", str(puzzles), "--out", "own", "--set", *tiny, "data.holdout=2"]) == 0
    kept = load("own/run.json")["run"]["data"]
    assert kept["train"] == str(puzzles) and kept["task"] == "sudoku"
    assert load("own/result.json")["train_puzzles"] == 4


def test_a_run_that_diverges_says_why_and_exits_1(capsys, monkeypatch):
    from innerloop.learn.train import Trainer

    monkeypatch.setattr(Trainer, "train_step", lambda self: ({"loss": float("nan"), "count": 1.0}, False))
    assert cli.main(["train", "sudoku4", "--out", "bad", "--set", *TINY]) == 1
    assert "not finite" in capsys.readouterr().out


def test_eval_writes_a_table_with_its_birth_certificate(run, puzzles, capsys):
    words = ["eval", str(run), "--data", str(puzzles), "--depth", "1,4", "--halt", "both", "--limit", "5"]
    assert cli.main(words) == 0
    value = load(run / "eval.json")
    assert len(value["rows"]) == 4 and value["test_puzzles"] == 5 and value["train_puzzles"] == 12
    assert value["born"]["command"] and value["trained_depth"] == 8
    shown = capsys.readouterr().out
    assert "95 % interval" in shown and "validation" not in shown
    assert cli.main(["eval", str(run), "--depth", "2", "--width", "1,2", "--noise", "0.5,0", "--out", "e.json"]) == 0
    assert "the validation puzzles that chose these weights" in " ".join(capsys.readouterr().out.split())
    assert [r["width"] for r in load("e.json")["rows"]] == [1, 2]


def test_unknown_validity_is_left_out_of_the_table_and_kept_as_null(capsys):
    """Of a task whose rules nobody knows: it used to end in a traceback after the work."""
    from innerloop.cli.judging import print_rows
    from innerloop.learn.evaluate import Row

    row = Row(1, 1, False, "-", 9, 0.5, 0.3, 0.7, 0.8, None, 1.0, 1.0, 0.1, {})
    print_rows(Console(width=120), [row, replace(row, depth=2)])
    out = capsys.readouterr().out
    assert "valid" not in out and out.count("50.0%") == 2
    print_rows(Console(width=120), [replace(row, valid=0.4)])
    assert "valid" in (out := capsys.readouterr().out) and "40.0%" in out


def test_a_puzzle_whose_answer_takes_hours_to_look_for_is_begun_at_once(capsys, monkeypatch):
    """The check for a solution is bounded, says so, and is paid for out of the seconds that were given."""
    board = "." * 5 + "5.8....6.1.43..........1.5........1.6...3.......553.....61........4........."
    began = time.monotonic()
    assert (
        cli.main(["solve", "--model", "demo-sudoku9", board, "--seconds", "0.4", "--depth", "100000", "--quiet"]) == 0
    )
    said = capsys.readouterr()
    assert "not decided in 0.1 s" in said.err and "I don't know" in said.out
    assert time.monotonic() - began < 20  # the machine may be slow, but not by hours
    assert cli.main(["solve", "--model", "demo-sudoku9", board, "--seconds", "nan"]) == 2


def test_solve_shows_one_puzzle(run, capsys):
    assert cli.main(["solve", str(run), EASY, "--depth", "3", "--pick", "q"]) == 0
    out = capsys.readouterr().out
    assert "step 1" in out and "confidence" in out and "block calls" in " ".join(out.splitlines()[-3:])
    assert cli.main(["solve", "--model", str(run), EASY, "--depth", "3", "--width", "4", "--quiet"]) == 0
    quiet = capsys.readouterr().out.splitlines()
    assert len(quiet[0]) == 16 and quiet[1].startswith(("valid after", "I don't know"))


def test_without_colours_cells_that_were_filled_in_or_are_wrong_have_marks(capsys, monkeypatch):
    from innerloop.cli.solving import drawn_for

    other = GOOD[:-1] + "2"
    assert cli.main(["solve", "demo-sudoku4", EASY, "--depth", "8", "--label", other]) == 0
    said = capsys.readouterr().out
    assert "1 2'│ 3 4'\n" in said and "4 3'│ 2 1!\n" in said
    assert "x given   x' filled in   x! not as in the right answer" in said
    assert cli.main(["solve", "demo-sudoku4", EASY, "--depth", "8", "--quiet"]) == 0
    assert "'" not in capsys.readouterr().out.partition("trajectory")[0]
    task = tasks.get("sudoku", size=4)
    question, answer = task.encode(EASY), task.encode(GOOD)
    for colours, marked in (({"no_color": True}, True), ({"no_color": False}, False)):
        terminal = Console(force_terminal=True, color_system="standard", **colours)
        assert drawn_for(terminal, task, question, answer, None, None).plain.startswith("1 2'" if marked else "1 2 ")


def test_solve_shows_the_trajectory_that_answers(capsys):
    puzzle = ".1..2...3...9...8....58......24.6.......3...6.6...749.1...9......7...2.4..5...8.."  # the first does not
    assert cli.main(["solve", "--model", "demo-sudoku9", puzzle, "--depth", "16", "--width", "64"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "trajectory 1 of" not in said and "the verifier accepts its answer" in said
    assert said.count("rules hold") == 1 and said.rindex("rules hold") > said.rindex("rules do not hold")


def test_solve_a_file(run, puzzles, capsys, monkeypatch):
    assert cli.main(["solve", str(run), str(puzzles), "--depth", "3", "--width", "2", "--out", "a.csv"]) == 0
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    columns = {"found_answer", "known", "valid", "confidence", "steps", "nfe", "found_source", "solutions"}
    assert len(rows) == 6 and set(rows[0]) == {"source", "question", "answer", "rating"} | columns
    assert all(r["known"] == r["valid"] and r["found_source"] == "model" for r in rows)
    assert ("answers that the file holds" in capsys.readouterr().err) == any(r["known"] == "yes" for r in rows)
    assert cli.main(["solve", "demo-sudoku4", str(puzzles), "--depth", "8"]) == 0
    assert "6 of these 6 are the answers that the file holds" in capsys.readouterr().err
    with open("two.txt", "w") as file:
        file.write(EASY + "\n" + EASY + "\n")
    assert cli.main(["solve", str(run), "two.txt"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_solve_reads_what_train_reads_and_says_so(run, capsys):
    with gzip.open("p.csv.gz", "wt", newline="") as file:
        file.write("\ufeffquizzes,solutions\r\n" + '"' + EASY.replace(".", "0") + f'",{GOOD}\r\n')
    assert cli.main(["solve", str(run), "--depth", "2", "p.csv.gz", "--width=1"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and said.out.splitlines()[1].startswith(EASY.replace(".", "0"))
    assert said.err.count("p.csv.gz is read as sudoku 4x4: 1 puzzle") == 1
    assert cli.main(["eval", str(run), "--data", "p.csv.gz", "--depth", "1", "--out", "e.json"]) == 0
    assert "p.csv.gz is read as sudoku 4x4" in capsys.readouterr().err


def test_a_file_of_ones_own_is_not_replaced_by_a_result(run, puzzles, capsys):
    """eval, report and solve replace what they wrote themselves, and nothing else, before any work is done."""
    ways = {
        "e.json": ["eval", str(run), "--depth", "1", "--limit", "2"],
        "r.html": ["report", str(run), "--depth", "1"],
        "a.csv": ["solve", str(run), str(puzzles), "--depth", "1", "--width", "1"],
    }
    for name, words in ways.items():
        for _ in range(2):
            assert cli.main([*words, "--out", name]) == 0, name
        capsys.readouterr()
        for own in (b"{}\n", b"question,answer\n", b"<!doctype html>\n", b"\xff", b""):
            Path(name).write_bytes(own)
            assert cli.main([*words, "--out", name]) == 2 and Path(name).read_bytes() == own
            assert "is none that this verb wrote" in capsys.readouterr().err.splitlines()[-1]


def test_answers_are_written_as_the_questions_are(run, capsys):
    other = str.maketrans("1234.", "abcd-")
    spoil("p.txt", f"{EASY}\n{EASY[::-1]}\n".translate(other))
    assert cli.main(["solve", str(run), "p.txt", "--depth", "1", "--exact", "9"]) == 0
    (_, row, _) = csv.reader(capsys.readouterr().out.splitlines())
    assert row[0] == EASY.translate(other) and set(row[1]) <= set("abcd-")


@pytest.mark.parametrize(
    "words",
    [
        ["--depth", "2", "RUN", EASY],
        ["RUN", "--depth", "2", "--quiet", EASY, "--width=1"],
        ["--model", "RUN", "--quiet", EASY.replace(".", "-")],
        ["RUN", "--", EASY],
        ["RUN", "-" + EASY[1:].replace(".", "-")],
        ["RUN", "--" + EASY[2:].replace(".", "-"), "--label", "1234341221434321"],
    ],
)
def test_options_and_a_puzzle_come_in_any_order(words, run):
    assert cli.main(["solve", *(str(run) if word == "RUN" else word for word in words)]) == 0


def test_an_answer_is_not_lost_to_a_narrow_stream(monkeypatch):
    """Boards in plain ASCII, and symbols that the stream lacks as escapes."""
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert cli.main(["solve", "--model", "demo-sudoku4", EASY]) == 0
    print("\u4e00")
    narrow.flush()
    said = narrow.buffer.getvalue()
    assert b"1 2'| 3 4'" in said and GOOD.encode() in said and b"\\u4e00" in said and b"\\u25" not in said


def test_the_exact_solver_answers_what_the_model_does_not_know(run, puzzles, capsys):
    pytest.importorskip("ortools")
    assert cli.main(["solve", str(run), str(puzzles), "--depth", "1", "--exact", "10", "--out", "a.csv"]) == 0
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert all(r["known"] == r["valid"] == "yes" for r in rows) and "exact" in {r["found_source"] for r in rows}


def test_calibrate_keeps_what_each_rule_is_worth(run, capsys):
    task = tasks.get("sudoku", size=4)
    write_csv(Path("many.csv"), task.make(24, 5), task)
    assert cli.main(["calibrate", str(run), "--data", "many.csv", "--depth", "2", "--width", "3"]) == 0
    value = load(run / "calibration.json")
    assert {"vote", "q", "residual"} <= set(value["rules"]) and value["born"] and value["dials"]["width"] == 3
    assert "AUROC" in capsys.readouterr().out
    assert cli.main(["solve", str(run), EASY, "--depth", "2", "--pick", "vote", "--width", "3", "--quiet"]) == 0


@pytest.mark.slow
def test_plot_and_report(run, capsys):
    assert cli.main(["eval", str(run), "--depth", "1,4"]) == 0
    assert cli.main(["plot", str(run)]) == 0
    assert {p.name for p in (run / "figures").iterdir()} == {
        f"{n}.{k}" for n in ("depth", "learning") for k in ("png", "svg", "pdf")
    }
    assert cli.main(["report", str(run), "--depth", "3"]) == 0
    page = (run / "report.html").read_text()
    kept = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    first = kept["thoughts"][kept["model"]["start"]]
    assert first["begin"]["depth"] == 3 and len(first["steps"]) == 3 * first["begin"]["width"]
    assert {r["depth"] for r in kept["model"]["curves"]["depth"]} == {1, 4} and kept["model"]["learning"]
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page and "src=" not in page
    assert cli.main(["report", str(run), "--depth", "0"]) == 2 and "--depth is 0" in capsys.readouterr().err


def test_what_takes_long_says_so_without_a_terminal(monkeypatch):
    from innerloop.cli import demo

    monkeypatch.setattr(demo, "TELL_SECONDS", 0.001)
    said = io.StringIO()
    with demo.working(Console(file=said), "solving"):
        time.sleep(0.05)
    lines = said.getvalue().splitlines()
    assert lines and set(lines) == {"solving: 0 s so far"}
    with demo.working(Console(file=said, force_terminal=True), "solving"):
        pass
    assert "\x1b" in said.getvalue()


@pytest.mark.slow
def test_demo_end_to_end(capsys):
    assert cli.main(["demo", "--recipe", "sudoku4", "--out", "d", "--set", *TINY]) == 0
    out = capsys.readouterr().out
    assert "report.html" in out and out.count("\n  innerloop ") == 2 and os.path.exists("d/figures/depth.svg")
    assert all(f"{n} of 4  " in out for n in (1, 2, 3, 4)) and "of 5" not in out
    assert cli.main(["demo", "--recipe", "sudoku4", "--out", "d", "--set", *TINY]) == 0
    before = contents(Path("d"))
    assert cli.main(["demo", "--recipe", "sudoku6", "--out", "d"]) == 2, "a demo must not replace another run"
    assert contents(Path("d")) == before


@pytest.mark.slow
def test_check_passes_and_fails(tmp_path, capsys):
    import innerloop.weights.trm as trm

    assert cli.main(["check", trm.__file__]) == 0
    bad = Path(trm.__file__).read_text().replace("s.y + e_BLD", "s.y + e_BLD.mean(0, keepdim=True)")
    (tmp_path / "mates.py").write_text(bad)
    capsys.readouterr()
    assert cli.main(["check", "mates.py"]) == 1
    assert "fail   batch independence" in capsys.readouterr().out


# -- bad inputs -------------------------------------------------------------------------------------------------------


def spoil(path, text):
    with open(path, "w") as file:
        file.write(text)


GOOD = "1234341221434321"
HEAD = "source,question,answer,rating\n"


def ragged(run):
    spoil("x.csv", HEAD + f"a,{EASY},{GOOD},1\na,123,{GOOD},1\n")
    return ["eval", str(run), "--data", "x.csv"]


def alphabet(run):
    spoil("x.csv", HEAD + f"a,{EASY.replace('.', 'z')},{GOOD},1\n")
    return ["eval", str(run), "--data", "x.csv"]


def duplicate(run):
    spoil("x.csv", HEAD + f"a,{EASY},{GOOD},1\n" * 2)
    return ["train", "sudoku4", "--data", "x.csv"]


def column(run):
    spoil("x.csv", f"source,riddle,answer\na,{EASY},{GOOD}\n")
    return ["train", "sudoku4", "--data", "x.csv"]


def rating(run):
    spoil("x.csv", HEAD + f"a,{EASY},{GOOD},inf\n")
    return ["eval", str(run), "--data", "x.csv"]


def empty(run):
    spoil("x.csv", HEAD)
    return ["eval", str(run), "--data", "x.csv"]


def truncated(run):
    np.save("x_inputs.npy", np.ones((4, 16), np.uint8))
    np.save("x_labels.npy", np.ones((4, 16), np.uint8))
    spoil("x_labels.npy", "\x93NUMPY")
    return ["eval", str(run), "--data", "x_inputs.npy"]


def corrupt_weights(run):
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return ["eval", str(run)]


def other_config(run):
    value = load(run / "run.json")
    value["run"]["config"]["size"]["width"] = 64
    spoil(run / "run.json", json.dumps(value))
    return ["solve", str(run), EASY]


def corrupt_run(run):
    spoil(run / "run.json", (run / "run.json").read_text()[:80])
    return ["eval", str(run)]


def hollow_run(run):
    spoil(run / "run.json", '{"run": {"system": "trm"}}')
    return ["plot", str(run)]


def damaged_state(run):
    spoil(run / "train_state.pt", "no")
    return ["train", str(run)]


def under_a_file(run):
    spoil("file", "")
    return ["eval", str(run), "--depth", "1", "--out", "file/eval.json"]


def damaged_checkpoint(run):
    spoil("step_1", "no")
    return ["import", "step_1", "--out", "new"]


def no_loop(run):
    spoil("empty.py", "x = 1\n")
    return ["check", "empty.py"]


def no_import(run):
    spoil("broken.py", "import nothing_of_that_name\n")
    return ["check", "broken.py"]


BAD = {
    "ragged CSV": ragged,
    "wrong alphabet": alphabet,
    "duplicate rows": duplicate,
    "missing column": column,
    "rating not finite": rating,
    "empty set": empty,
    "truncated npy": truncated,
    "corrupt checkpoint": corrupt_weights,
    "checkpoint of another configuration": other_config,
    "corrupt run.json": corrupt_run,
    "run.json without fields": hollow_run,
    "damaged training state": damaged_state,
    "no write permission": under_a_file,
    "damaged official checkpoint": damaged_checkpoint,
    "file without a loop": no_loop,
    "file that cannot be imported": no_import,
    "unsolvable puzzle": lambda run: ["solve", str(run), "11" + EASY[2:]],
    "a puzzle and no run": lambda run: ["solve", EASY],
    "unknown rule": lambda run: ["solve", str(run), EASY, "--pick", "best"],
    "width that repeats itself": lambda run: ["solve", str(run), EASY, "--width", "3", "--noise", "-1,0"],
    "too few puzzles to calibrate on": lambda run: ["calibrate", str(run), "--limit", "5"],
    "puzzle too short": lambda run: ["solve", str(run), "123"],
    "puzzle of other symbols": lambda run: ["solve", str(run), "z" * 16],
    "depth 0": lambda run: ["eval", str(run), "--depth", "0"],
    "depth 0 of one puzzle": lambda run: ["solve", str(run), EASY, "--depth", "0"],
    "depth no number": lambda run: ["eval", str(run), "--depth", "deep"],
    "unknown field": lambda run: ["train", "sudoku4", "--set", "plan.stepz=5"],
    "field of another type": lambda run: ["train", "sudoku4", "--set", "plan.steps=many"],
    "missing file": lambda run: ["eval", str(run), "--data", "nowhere.csv"],
    "unknown recipe": lambda run: ["train", "sudoko"],
    "no recipe": lambda run: ["train"],
    "unknown option": lambda run: ["eval", str(run), "--dept", "3"],
    "option of another type": lambda run: ["solve", str(run), EASY, "--depth", "deep"],
    "unknown verb": lambda run: ["trian", "sudoku4"],
    "unknown task": lambda run: ["train", "sudoku4", "--set", "data.task=sodoku"],
    "unknown system": lambda run: ["train", "sudoku4", "--set", "system=trn"],
    "width without noise": lambda run: ["eval", str(run), "--width", "1,8"],
    "name of a hub set, offline": lambda run: ["train", "sudoku4", "--data", "nobody/no-such-set"],
    "not a run": lambda run: ["solve", "nowhere", EASY],
    "another run in the folder": lambda run: ["train", "sudoku4_trm", "--out", str(run), "--set", *TINY, "seed=9"],
    "unknown device": lambda run: ["eval", str(run), "--device", "tpu"],
    "neither checkpoint nor puzzles": lambda run: ["export", str(run)],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_loses_nothing(name, run, capsys, monkeypatch):
    monkeypatch.setattr("innerloop.data.hub._reachable", lambda endpoint: False)
    words = BAD[name](run)
    before = contents(run)
    assert cli.main(words) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) > 30, said.err
    assert "Traceback" not in said.out + said.err
    assert contents(run) == before


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_loses_nothing(run):
    """A process that may write no file above 4 KiB: neither weights nor state fit."""
    before = contents(run)
    done = subprocess.run(
        [*COMMAND, "train", "sudoku4", "--out", "full", "--device", "cpu", "--set", *TINY],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_little_room,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert sum(line.startswith("error: ") and "written" in line for line in done.stderr.splitlines()) == 1
    assert contents(run) == before and not [p for p in os.listdir("full") if p.startswith(".")]


def _little_room():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_file_of_rows_that_only_the_recipe_knows(tmp_path):
    """A roster is no square grid of digits: the task is the recipe's, the rows are the file's."""
    options = recipes.get("roster_small").data.options
    task = tasks.get("roster", **options)
    write_csv(tmp_path / "r.csv", task.make(20, 5), task)
    tiny = [t for t in TINY if not t.startswith("data.count")]
    assert cli.main(["train", "roster_small", "--data", "r.csv", "--out", "r", "--device", "cpu", "--set", *tiny]) == 0
    opened = open_run(tmp_path / "r")
    assert opened.task.name == "roster" and opened.task.shape == task.shape
    assert cli.main(["eval", "r", "--device", "cpu", "--depth", "1"]) == 0


def test_one_file_has_no_folder_for_results(run, tmp_path, capsys):
    assert cli.main(["export", str(run), "--single", "m.safetensors"]) == 0
    for verb in ("eval", "report", "study"):
        assert cli.main([verb, "m.safetensors"]) == 2
        assert "say where, by --out" in capsys.readouterr().err
    assert cli.main(["eval", "m.safetensors", "--depth", "1", "--out", "e.json"]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["rows"]


def test_symmetries_of_a_grid_are_said_beside_the_file(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(list("xyz"), 9)) for _ in range(30)]
    with open(tmp_path / "own.csv", "w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *((r, r[::-1]) for r in rows)])
    tiny = [t for t in TINY if not t.startswith("data.count")]
    command = ["train", "grid", "--data", "own.csv", "--out", "g", "--device", "cpu", "--set", *tiny]
    assert cli.main([*command, 'data.options.symmetries=["turns"]']) == 0
    task = open_run(tmp_path / "g").task
    assert task.symmetries == ("turns",) and task.charset == "xyz"
    assert len(np.unique(task.views(50, rng).cells, axis=0)) == 8
    assert cli.main([*command, "--fresh", 'data.options.symmetries=["colours"]']) == 2


def test_an_option_of_several_values_that_is_given_again_adds_to_them(capsys):
    assert cli.main(["show", "chain", "--set", "plan.steps=7", "--set=plan.batch=9", "seed=3"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"steps +7\b", shown) and re.search(r"batch +9\b", shown) and re.search(r"seed +3\b", shown)


def test_one_that_is_given_once_and_words_of_a_verb_stay_as_they_are():
    words = ["chain", "--set", "a=1", "b=2", "--out", "x", "--", "--set", "c"]
    assert cli.gathered(cli.load("train"), words) == words
    assert cli.gathered(cli.load("train"), ["chain", "--out", "x", "--out", "y"]) == [
        "chain",
        "--out",
        "x",
        "--out",
        "y",
    ]
