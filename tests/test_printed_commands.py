"""Every command that is printed anywhere: all are parsed, their files are there, and those that take seconds are run.

benchmarks/printed.py finds them, and says which are not run and why. Pages with tests of their own are run there.
"""

import argparse
import ast
import contextlib
import functools
import io
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch

from innerloop import cli

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import printed  # noqa: E402

FOUND = printed.collect()
PAGES = printed.pages(FOUND)
TINY = ["plan.steps=2", "plan.batch=4", "plan.check_every=2", "plan.save_every=1", "plan.compile=off"]
TINY += ["data.count=40", "data.holdout=20", "config.dtype=float32", "config.net.hidden_size=16"]

ROWS = 6  # of the files to judge by

ELSEWHERE = {  # pages that a test of their own follows
    "docs/your_puzzle.md": "tests/test_your_puzzle.py",
    "docs/add_a_task.md": "tests/test_add_a_task.py",
    "docs/compare_runs.md": "tests/cli/test_many_runs.py",
}
BY_HAND = {  # what the script alone runs, as printed: a pattern of the command, and the reason
    r"^innerloop sweep": "tests/cli/test_many_runs.py runs those of its page",
    r"--(aoti|onnx|graph) |solve_onnx": "takes half a minute and more; tests/export",
    r"^innerloop study": "takes ten seconds; tests/study",
    r"--system my_loop ": "needs the file in the package",
    r"^curl": "needs a server",
    r"^(make think$|innerloop (get|ask|compare|probe) )": "needs weights or a server, as tests/lm has",
    r"^innerloop serve --lm": "needs weights; tests/serve/test_openai.py serves others",
}


# -- parsed -----------------------------------------------------------------------------------------------------------


class Parsed(BaseException):
    """Raised where a script has read its options."""


@pytest.fixture
def parse(monkeypatch):
    """parse(command) raises AssertionError, or what the parser says, where a program would not take it."""
    real, parse_args = cli.load, argparse.ArgumentParser.parse_args
    idle = lambda verb: functools.wraps(real(verb))(lambda *words, **named: 0)  # noqa: E731
    monkeypatch.setattr(cli, "load", idle)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))

    def stop(self, args=None, namespace=None):
        parse_args(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)

    def script(name, words):
        monkeypatch.setattr(sys, "argv", [name, *words])
        monkeypatch.syspath_prepend(str((ROOT / name).parent))
        if "argparse" in (ROOT / name).read_text():
            with pytest.raises((Parsed, ModuleNotFoundError) if "from ray" in (ROOT / name).read_text() else Parsed):
                runpy.run_path(str(ROOT / name), run_name="__main__")

    def one(command):
        program, *words = command.words
        if program == "torchrun":
            program, words = "innerloop", words[words.index("innerloop.cli") + 1 :]
        if program == "innerloop" and command.names_a_verb:
            assert words[0] in cli.VERBS
        elif program == "innerloop":
            assert cli.main(words) == 0, command
        elif program == "python":
            script(words[0], words[1:])
        elif program == "make":
            assert set(words) <= targets
        elif program == "pip":
            named = [extra for word in words for extra in re.findall(r"\[(.*)\]", word)]
            assert {name for extra in named for name in extra.split(",")} <= set(extras)
        elif program in ("pytest", "cp"):
            assert (ROOT / words[0]).exists()
        else:
            assert program in ("docker", "curl")

    yield one
    torch.set_num_threads(1)


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page, parse, capsys):
    for command in PAGES[page]:
        try:
            parse(command)
        except SystemExit:
            pytest.fail(f"{command}: {capsys.readouterr().err[-300:]}")


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there_or_made_before(page):
    assert not (missing := printed.missing(PAGES[page])), missing


def test_a_line_holds_nothing_that_a_shell_would_take_for_words():
    """Remarks stand behind "#"; "[...]" and "..." are no words to type."""
    for command in FOUND:
        bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", command.command)
        code = re.split(r"\s#", bare)[0]
        assert not re.search(r"\S\s{2,}\S|\[\w*\]|<\w|\.\.\.", code), command


def test_what_is_not_run_is_named_with_its_reason():
    """Every pattern of the table is needed, and most of what the first pages print is run."""
    for pattern in printed.NOT_RUN:
        assert any(re.search(pattern, command.command) for command in FOUND), pattern
    typed = [c for c in FOUND if c.page.endswith((".md", "--help")) and not c.names_a_verb]
    reasons = Counter(c.reason for c in typed if "results.md" not in c.page)
    assert reasons[""] > 100 and reasons[""] > 2 * reasons.total() / 3, reasons


def test_a_wrong_command_is_found(parse, tmp_path):
    page = "x.md"
    text = "```sh\ninnerloop evil runs/a\ninnerloop eval runs/a --depht 3\n```\n`innerloop train my.json --out runs/b`"
    evil, flag, file = printed.in_markdown(page, text)
    for command in (evil, flag):
        with pytest.raises(AssertionError):
            parse(command)
    assert [name for _, name in printed.missing([evil, flag, file])] == ["runs/a", "runs/a", "my.json"]


def test_verbs_options_and_extras_in_every_text_of_the_package_are_real():
    """In messages and docstrings: `innerloop VERB`, innerloop[EXTRA]; in those of the command line also --OPTION."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    options = set(re.findall(r"--[a-z][a-z-]+", "".join(map(printed.help_text, cli.VERBS))))
    options |= {"--version", "--nproc-per-node", "--opset"}  # no option of a verb: of the program, of torchrun
    for path in sorted((ROOT / "innerloop").rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        for text in (n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)):
            for verb in re.findall(r"`innerloop ([a-z]+)|: innerloop ([a-z]+)|, or innerloop ([a-z]+) it", text):
                assert "".join(verb) in cli.VERBS, f"{path.name}: {text}"
            for extra in re.findall(r"innerloop\[([\w,]+)\]", text):
                assert set(extra.split(",")) <= set(extras), f"{path.name}: {text}"
            if path.parent.name == "cli":
                assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= options, f"{path.name}: {text}"


# -- run --------------------------------------------------------------------------------------------------------------


def small(words):
    """The words of a command, made to take a second: of few steps, or on few puzzles."""
    if words[0] in ("eval", "worth") and "--limit" not in words:
        return [*words, "--limit", "4"]
    if words[0] not in ("train", "sweep", "demo") or "--dry-run" in words or "runs/" in "".join(words[1:2]):
        return words
    if "--set" not in words:
        return [*words, "--set", *TINY]
    at = words.index("--set") + 1
    return [*words[:at], *TINY, *words[at:]]


@pytest.fixture
def run(short_verbs):
    """run(words) is the exit code of `innerloop`, in this process; training is tiny, and a server is opened alone."""
    torch.set_num_threads(1)
    return lambda words: cli.main(small(words))


def shorten(file, rows):
    file.write_text("".join(file.read_text().splitlines(keepends=True)[: rows + 1]))


def home_of(folder):
    """A folder as a clone is, as far as the pages name it."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    for file in (folder / "examples").glob("*_test.csv"):
        shorten(file, ROWS)
    for name in ("docs", "innerloop/weights", "innerloop/pretrained", "runs"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By command, what it left for the first page that printed it."""
    return tmp_path_factory.mktemp("made"), {}


QUICK = {
    name: page
    for name, page in PAGES.items()
    if name not in ELSEWHERE and not name.endswith("--help") and any(not c.reason for c in page)
}
QUICK["--help"] = [
    *printed.before("--help"),
    *(command for name, page in PAGES.items() if name.endswith("--help") for command in page),
]


@pytest.mark.slow
@pytest.mark.parametrize("page", QUICK)
def test_a_page_runs_as_printed(page, run, made, tmp_path, monkeypatch, capfd):
    """In its order, in one folder, but for the size of trainings."""
    pytest.importorskip("ortools")
    monkeypatch.chdir(home_of(tmp_path))
    left_out = []
    for command in QUICK[page]:
        needs, makes = printed.files_of(command)
        follows = any(Path(name).is_relative_to(other) for name in needs for other in left_out)
        if command.reason or follows or any(re.search(p, command.command) for p in BY_HAND):
            left_out += makes
            continue
        words = shlex.split(printed.STANDS_FOR.get(command.command, command.command), comments=True)
        program, *words = words[words.index("innerloop") if "innerloop" in words else 0 :]
        if program == "cp":
            shutil.copy(ROOT / words[0], words[1])
        elif program == "python":
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        elif words == ["demo"]:
            demo_of(made, run)
        else:
            with Path(words[-1]).open("w") if ">" in words else io.StringIO() as out, contextlib.redirect_stdout(out):
                code = run(words[: words.index(">")] if ">" in words else words)
            assert code == 0, f"{command}: {capfd.readouterr().err[-500:]}"


def demo_of(made, run):
    """`innerloop demo`, run once for all pages."""
    folder, known = made
    if "demo" not in known:
        with contextlib.redirect_stdout(io.StringIO()):
            assert run(["demo"]) == 0
        known["demo"] = shutil.copytree("runs/demo", folder / "demo")
    elif not Path("runs/demo").exists():
        shutil.copytree(known["demo"], "runs/demo")
