"""Bad files, flags and names by the thousand: each must end in exit code 0 or 2, with one sentence, and nothing lost.

    python benchmarks/bad_inputs.py --cases 1000 --out results/bad_inputs.json

A case is drawn from a small grammar: a file of a trained run (or of puzzles) with one part replaced, removed, added or
cut, then read by a verb; a flag or a field with an odd value; a path or name with markup, escapes or bytes that are no
text. It passes where the verb ends with 2 and one line "error: ...", or with 0 (the change was harmless); without a
traceback, raw control characters, a change to a file that was there, more than 2 seconds of processor time, or 512 MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from innerloop import cli, tasks
from innerloop.data.formats import write_csv, write_jsonl
from innerloop.files import write_json
from innerloop.runs.certificate import birth_certificate

PUZZLE = "1.3.34.2.1.34.2."
TINY = ["plan.steps=2", "plan.batch=4", "plan.check_every=2", "plan.save_every=2", "plan.compile=off"]
TINY += ["data.count=12", "data.holdout=40", "config.net.hidden_size=16"]
SECONDS, MEMORY = 2.0, 512 << 20  # of one case, on the processor
WORK = 10.0  # seconds where the change was harmless and the verb did its work
ODD: list[Any] = [None, True, -1, 0, 3, 10**9, 10**12, 10**400, 0.5, -1.5, 1e308, float("nan"), float("inf"), "", "x"]
ODD += ["x[/red]", "\x1b[2J", "a\nb", "\u202e", "9" * 5000, [], {}, [[[]]], [0], ["x"], {"a": 1}, [1, None]]
NAMES = ["x[/red]", "x[bold]", "\x1b[31mx", "a\nb", "bob's run", ":x:", "a" * 300, "x\udcff", "-x", "\u202ex", "x y"]
STUDY = {"dimension": {"trained": {"h": [{"corrected": 1.0, "plain": 1.0, "low": 0.5, "high": 2.0}]}}}
QUICK = ["--limit", "4", "--depth", "1", "--out", "new.json", "--device", "cpu"]
# A file of the run -> what reads it, after the name of the run.
READ_BY: dict[str, list[list[str]]] = {
    "run.json": [
        ["eval", *QUICK], ["solve", PUZZLE, "--quiet"], ["export", "--single", "new.safetensors"],
        ["train", "--minutes", "0.001", "--device", "cpu"],
    ],
    "config.json": [["export", "--single", "new.safetensors"]],
    "eval.json": [["export", "--single", "new.safetensors"], ["plot", "--out", "new"], ["table"]],
    "result.json": [["export", "--single", "new.safetensors"], ["eval", *QUICK], ["table", "--validation"]],
    "calibration.json": [["solve", PUZZLE, "--quiet"], ["report", "--depth", "1", "--out", "new.html"]],
    "study.json": [["report", "--depth", "1", "--out", "new.html"]],
    "metrics.jsonl": [["report", "--depth", "1", "--out", "new.html"], ["plot", "--out", "new"]],
    "train_state.pt": [["train", "--minutes", "0.001", "--device", "cpu"]],
    "model.safetensors": [["solve", PUZZLE, "--quiet"], ["eval", *QUICK]],
}  # fmt: skip
PUZZLES = {"p.csv": "p.csv", "p.jsonl": "p.jsonl", "official/train/dataset.json": "official"}
OWN = ["task", "system", "trust-code"]
SOLVE = ["depth", "width", "pick", "noise", "nfe", "seconds", "exact", "label", "seed", "device"]
STATED = ["shape", "blank", "alphabet"]
FLAGS: dict[str, tuple[list[str], list[str]]] = {
    "solve": (
        ["RUN", PUZZLE],
        ["depth", "width", "pick", "noise", "nfe", "seconds", "exact", "label", "seed", "device", "rules", *OWN],
    ),
    "eval": (["RUN", *QUICK], ["depth", "width", "halt", "pick", "noise", "limit", "seed", "device", "data", *OWN]),
    "calibrate": (["RUN", "--depth", "1"], ["depth", "width", "noise", "limit", "seed", "device", "data", *OWN]),
    "study": (["RUN", "--depth", "1"], ["depth", "limit", "seed", "device", "control", "data", *OWN]),
    "report": (["RUN", "--depth", "1", "--out", "new.html"], ["depth", *OWN]),
    "train": (
        ["sudoku4", "--out", "new", "--set", *TINY],
        ["minutes", "device", "log", "data", "test", "until", "workers", *OWN, *STATED],
    ),
    "data": (["p.csv"], [*STATED, "seed"]),
    "worth": (["RUN", "p.csv", "--limit", "2", "--depth", "1"], ["limit", "depth", "width", "seconds", "device"]),
    "serve": (
        ["RUN"],
        ["port", "threads", "rows", "depth", "width", "puzzles", "seconds", "queue", "body", "grace", "rules", *OWN],
    ),
    "export": (["RUN"], ["out", "single", "dtype", "split", "data", *OWN]),
    "import": (["RUN/train_state.pt", "--out", "new"], ["heads", "cycles", "low", "prefix", "seq", "arch", "data"]),
    "plot": (["RUN"], ["out"]),
    "table": (["RUN"], ["metric", "depth", "format", "out"]),
    "show": (["sudoku4"], ["part", "set", "system", "task", "out"]),
    "sweep": (
        ["sudoku4", "--out", "new", "--set", "plan.lr=1,2", *TINY],
        ["seeds", "halving", "workers", "task", "set"],
    ),
    "check": (["p.csv"], []),
    "list": ([], ["markdown"]),
}
FIELDS = ["seed", "name", "system", "config", "data", "plan", "about", "data.task", "data.count", "data.holdout"]
FIELDS += ["data.seed", "data.train", "data.options", "data.options.size", "data.options.givens", "plan.lr", "plan.ema"]
FIELDS += ["plan.batch", "plan.accumulate", "plan.depths", "plan.optimizer", "plan.halting.max_steps", "plan.warmup"]
FIELDS += ["plan.unroll.depth", "plan.unroll.grad", "config.rounds", "config.grad", "config.dtype", "config.sigma"]
FIELDS += [
    f"config.net.{k}"
    for k in ("hidden_size", "heads", "layers", "rows", "seq", "vocab", "expansion", "orbits", "block")
]


class Case(NamedTuple):
    kind: str  # "file", "flag", "field" or "name"
    about: str  # what was done
    words: list[str]  # of the command, in the folder that was prepared


class Failure(NamedTuple):
    case: Case
    why: str
    said: str


# -- what there is before ---------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """A trained run with every file that a verb leaves, and puzzles in three formats."""
    run = str(folder / "RUN")
    with quiet(), inside(folder):
        assert cli.main(["train", "sudoku4", "--out", run, "--device", "cpu", "--set", *TINY]) == 0
        assert cli.main(["eval", run, "--depth", "1,2", "--device", "cpu"]) == 0
        assert cli.main(["calibrate", run, "--depth", "1", "--limit", "40", "--device", "cpu"]) == 0
        assert cli.main(["export", run, "--data", "official"]) == 0
        assert cli.main(["plot", run, "--out", "figures"]) == 0  # imports, which no case is to be charged with
        assert cli.main(["solve", run, PUZZLE]) == 0
    write_json(folder / "RUN" / "study.json", STUDY)
    task = tasks.get("sudoku", size=4)
    write_csv(folder / "p.csv", task.make(8, 99), task)
    write_jsonl(folder / "p.jsonl", task.make(8, 99), task)


@contextlib.contextmanager
def quiet() -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# -- one case ---------------------------------------------------------------------------------------------------------


def draw(rng: random.Random, folder: Path) -> Case:
    """A case, drawn and laid out in `folder`."""
    return rng.choice([bad_file, bad_file, bad_file, bad_puzzles, bad_flag, bad_field, odd_name])(rng, folder)


def bad_file(rng: random.Random, folder: Path) -> Case:
    name = rng.choice(list(READ_BY))
    about = spoil(folder / "RUN" / name, rng)
    verb, *rest = rng.choice(READ_BY[name])
    return Case("file", f"{name}: {about}", [verb, "RUN", *rest])


def bad_puzzles(rng: random.Random, folder: Path) -> Case:
    name = rng.choice(list(PUZZLES))
    about = spoil(folder / name, rng)
    source = PUZZLES[name]
    words = [["eval", "RUN", "--data", source, *QUICK], ["solve", "RUN", source, "--depth", "1", "--out", "new.csv"]]
    words += [["data", source], ["data", source, "--fix", "--out", "new"]]
    return Case("file", f"{name}: {about}", rng.choice(words))


def bad_flag(rng: random.Random, folder: Path) -> Case:
    verb = rng.choice(list(FLAGS))
    base, flags = FLAGS[verb]
    flag, value = rng.choice([*flags, "nothing"]), text(rng)
    # A server that starts does not end, and a sweep trains: they are given a second thing that is wrong.
    more = ["--device", "none"] if verb in ("serve", "sweep") else []
    return Case("flag", f"{verb} --{flag}", [verb, *base, f"--{flag}", value, *more])


def bad_field(rng: random.Random, folder: Path) -> Case:
    field = rng.choice(FIELDS)
    words = ["train", "sudoku4", "--out", "new", "--device", "cpu", "--minutes", "0.001", "--set", *TINY]
    return Case("field", field, [*words, f"{field}={text(rng)}"])


def odd_name(rng: random.Random, folder: Path) -> Case:
    name, there = rng.choice(NAMES), rng.random() < 0.5
    if there:
        with contextlib.suppress(OSError):  # longer than a name may be
            shutil.copytree(folder / "RUN", folder / name)
    verbs = [["eval", f"./{name}", *QUICK], ["solve", f"./{name}", PUZZLE], ["solve", "RUN", name], [name]]
    verbs += [
        ["eval", "RUN", "--data", name, *QUICK[:-4], "--out", "new.json"],
        ["train", name],
        ["train", f"./{name}"],
    ]
    verbs += [["export", f"./{name}", "--single", "new.safetensors"], ["eval", "RUN", *QUICK, "--out", f"./{name}.j"]]
    return Case("name", f"{name!r} {'there' if there else 'not there'}", rng.choice(verbs))


def text(rng: random.Random) -> str:
    value = rng.choice(ODD)
    return value if isinstance(value, str) else str(value)[:6000]


# -- spoiling a file --------------------------------------------------------------------------------------------------


def spoil(path: Path, rng: random.Random) -> str:
    """Change one thing about a file; returns what."""
    data = path.read_bytes()
    ways: list[Callable[[bytes, random.Random], tuple[bytes, str]]] = [cut, noise, replaced, replaced]
    if path.suffix == ".json":
        ways += [in_json] * 8
    elif path.suffix == ".safetensors":
        ways += [in_header] * 4
    elif path.suffix == ".pt":
        ways += [in_state] * 2
    else:
        ways += [in_line] * 6
    changed, about = rng.choice(ways)(data, rng)
    path.write_bytes(changed)
    return about


def cut(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at = rng.randrange(len(data))
    return data[:at], f"cut at {at}"


def noise(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at = rng.randrange(len(data))
    junk = rng.choice([b"\x00", b"\xff\xfe", b"\x1b[2J", b"[/red]", b'"', b"\n", b"\xef\xbb\xbf", b"1" * 5000])
    return data[:at] + junk + data[at:], f"{junk[:8]!r} at {at}"


def replaced(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    whole = rng.choice(
        [b"", b"{}", b"[]", b"null", b"0", b'"x"', b"[" * 100_000, b'{"a":' * 5000, b"9" * 5000, b"\x80"]
    )
    return whole, f"all of it {whole[:8]!r}"


def in_json(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    value = json.loads(data)
    about = mutate(value, rng)
    return json.dumps(value).encode(), about


def in_line(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    with contextlib.suppress(ValueError):
        value = json.loads(lines[at])
        about = mutate(value, rng)
        lines[at] = json.dumps(value).encode()
        return b"\n".join(lines), f"line {at}: {about}"
    cells = lines[at].split(b",")
    cells[rng.randrange(len(cells))] = text(rng).encode("utf-8", "surrogateescape")
    lines[at] = b",".join(cells)
    return b"\n".join(lines), f"a cell of line {at}"


def in_header(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    length = int.from_bytes(data[:8], "little")
    value = json.loads(data[8 : 8 + length])
    about = mutate(value, rng)
    header = json.dumps(value).encode()
    size = rng.choice([len(header)] * 4 + [0, 2**40, 2**63])
    return size.to_bytes(8, "little") + header + data[8 + length :], f"header: {about}"


def in_state(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    value = torch.load(io.BytesIO(data), weights_only=True)
    about = mutate(value, rng)
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue(), f"state: {about}"


def mutate(value: Any, rng: random.Random) -> str:
    """Change one place in nested dicts and lists; returns which and how."""
    inner, path = value, ""
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            return "nothing"
        key = rng.choice(keys)
        path += f".{key}"
        if isinstance(inner[key], dict | list) and inner[key] and rng.random() < 0.8:
            inner = inner[key]
            continue
        break
    way = rng.random()
    if way < 0.15:
        del inner[key]
        return f"{path} removed"
    if way < 0.25 and isinstance(inner, dict):
        inner["unheard_of"] = rng.choice(ODD)
        return f"{path} has a new neighbour"
    inner[key] = rng.choice(ODD)
    return f"{path} = {str(inner[key])[:20]!r}"


# -- judging ----------------------------------------------------------------------------------------------------------


class Slow(BaseException):
    """A case takes far too long."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def judge(case: Case, folder: Path) -> Failure | None:
    """Run a case in this process; None where all is well."""

    def late(*_: Any) -> None:
        raise Slow

    before, base = contents(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Training goes on in its folder, and calibrate and study write there: what they read must not be harmed.
    own = case.words[0] in ("train", "calibrate", "study", "plot")
    began, code, trouble = time.process_time(), -1, ""
    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    with quiet() as (out, err), inside(folder):
        try:
            code = cli.main(case.words)
        except BaseException:
            trouble = traceback.format_exc()
        signal.alarm(0)
    signal.signal(signal.SIGALRM, old)
    seconds = time.process_time() - began
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) << 10
    said, wrong = ((s.buffer.getvalue().decode("utf-8", "replace")) for s in (out, err))  # type: ignore[attr-defined]
    lines = [line for line in wrong.splitlines() if line.startswith("error: ")]
    faults = {
        trouble.strip().splitlines()[-1] if trouble else "": bool(trouble),
        f"exit code {code}": not trouble and code not in (0, 2),
        "not one sentence": code == 2 and len(lines) != 1,
        "a traceback is shown": "Traceback" in said + wrong,
        "control characters are shown": any(c in said + wrong for c in "\x1b\x00\u202e"),
        "a file changed": (code == 2 or not own) and any(contents(folder).get(k) != v for k, v in before.items()),
        f"{seconds:.1f} s": seconds > (SECONDS if code == 2 else WORK),
        f"{more >> 20} MiB": more > MEMORY,
    }
    found = [why for why, true in faults.items() if true]
    return Failure(case, "; ".join(found), (trouble or wrong or said)[-1500:]) if found else None


def trial(rng: random.Random, ready: Path, room: Path) -> tuple[Case, Failure | None]:
    """Draw a case and judge it in a fresh copy of what was prepared."""
    shutil.rmtree(room, ignore_errors=True)
    shutil.copytree(ready, room)
    case = draw(rng, room)
    return case, judge(case, room)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    born, kinds, failures = birth_certificate([args.seed]), Counter[str](), []
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        ready, room = Path(name) / "ready", Path(name) / "room"
        ready.mkdir()
        prepare(ready)
        for i in range(args.cases):
            case, failure = trial(random.Random(f"{args.seed}.{i}"), ready, room)
            kinds[case.kind] += 1
            if failure:
                failures.append(failure)
                print(i, failure.case.kind, failure.case.about, failure.case.words[:4], "->", failure.why, flush=True)
    bad = Counter(f.case.kind for f in failures)
    rows = [{"what is odd": k, "cases": n, "one sentence or harmless": n - bad[k]} for k, n in sorted(kinds.items())]
    listed = [{"kind": f.case.kind, "about": f.case.about, "words": f.case.words, "why": f.why} for f in failures]
    write_json(args.out, {"rows": rows, "failures": listed, "born": born})
    print(f"{args.cases - len(failures)} of {args.cases} end in one sentence, or were harmless")


if __name__ == "__main__":
    main()
