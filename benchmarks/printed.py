"""Every command that this project prints, and whether it runs as printed in a fresh clone.

    python benchmarks/printed.py                                      # list them, with what is not run and why
    python benchmarks/printed.py --run --out runs/printed.json        # run all pages in a fresh clone, as printed
    python benchmarks/printed.py --run --pages README.md docs/share.md --out runs/printed.json

A page is README, a page of docs, the --help of a verb, or the docstring of a script. Its commands are run
in their order, in a clone of its own. tests/test_printed_commands.py parses all, and runs those that take seconds.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = r"(?:[A-Z_]+=\S+ )*(?:innerloop|python|make|pip|curl|docker|torchrun|pytest|cp) +[\w./'\"<\[-]"
PLACEHOLDER = re.compile(r"[A-Z][A-Z_0-9]*(?:[./].*)?")  # RUN, FILE.py, DATA/puzzles.csv

# What is not run, though it is parsed: a pattern that is found in the command, and the reason.
NOT_RUN = {
    r"^pip |^make lint": "network",
    r"^docker ": "a docker daemon and network",
    r"--hub ": "an account",
    r"^torchrun ": "eight devices",
    r"--device cuda": "a GPU",
    r"train mine$": "a package of the reader's own",
    r"ray_serve": "a Ray cluster",
    r"space/app": "gradio, which no extra installs",
    r"^make (test|fast|docs|pictures|family-smoke)|^pytest ": "a part of the tests, or all of them",
    r"python (docs|benchmarks)/": "minutes to hours of measuring or drawing; its options are parsed",
    r"train (maze_hard|sudoku_hard|roster\w*|timetable\w*)\b": "many minutes of training",
}


class Printed(NamedTuple):
    """A command, and where it is printed."""

    page: str
    line: int
    command: str

    @property
    def words(self) -> list[str]:
        """The words that a shell makes of it, without settings of the environment before and redirection behind."""
        words = shlex.split(self.command, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        return words[: words.index(">")] if ">" in words else words

    @property
    def names_a_verb(self) -> bool:
        """Whether it is only the name of a verb, in a sentence: `innerloop calibrate`."""
        return len(self.words) == 2 and self.words[0] == "innerloop" and self.words[1] not in ("list", "demo")

    @property
    def reason(self) -> str:
        """Why it is not run; "" where it is."""
        if self.names_a_verb:
            return "the name of a verb"
        if any(PLACEHOLDER.fullmatch(part) for word in self.words[1:] for part in word.split("=")):
            return "a placeholder"
        return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, self.command)), "")


# -- where they stand -------------------------------------------------------------------------------------------------


def collect() -> list[Printed]:
    """All commands, page by page, in their order."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    pages += [ROOT / "benchmarks/README.md", ROOT / "examples/space/README.md"]
    found = [p for page in pages if page.name != "log.md" for p in in_markdown(named(page), page.read_text())]
    for folder in ("examples", "docs", "benchmarks", "innerloop"):
        for script in sorted((ROOT / folder).rglob("*.py")):
            if script.parent.name != "cli":  # whose docstrings are the help
                found += in_docstrings(script)
    return found + [p for verb in verbs() for p in in_help(verb)] + in_web_page()


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def in_markdown(page: str, text: str) -> Iterator[Printed]:
    """Lines of sh blocks, indented lines and inline code, in their order."""
    blocks = {m.start(): m for m in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.S | re.M)}
    found: list[tuple[int, str]] = []
    for start, block in blocks.items():
        if block[1] == "sh":
            found += lines_of(block[2], start + 6, every=True)
    bare = re.sub(r"^```\w*\n.*?^```", lambda m: re.sub(r"\S", " ", m[0]), text, flags=re.S | re.M)
    found += lines_of("\n".join(line if line.startswith("    ") else " " * len(line) for line in bare.split("\n")), 0)
    found += [(m.start(), " ".join(m[1].split())) for m in re.finditer(rf"`({PROGRAM}[^`]*)`", bare)]
    for at, command in sorted(found):
        if not re.search(r" \.\.\.$|\.\.\. ", command):
            yield Printed(page, text.count("\n", 0, at) + 1, command)


def lines_of(text: str, offset: int, every: bool = False) -> list[tuple[int, str]]:
    """(place, command) of each line that is a command, a backslash at its end joined with the next one."""
    found = []
    for m in re.finditer(r"^[ \t]*(\S(?:.*\\\n)*.*)$", text, re.M):
        command = re.sub(r"\\\n\s*", "", m[1]).strip()
        if (every and not command.startswith("#")) or re.match(PROGRAM, command):
            found.append((offset + m.start(1), command))
    return found


def in_docstrings(path: Path) -> Iterator[Printed]:
    """Indented lines, lines of their own, and inline code of the docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            line = node.body[0].lineno
            own = re.sub(rf"^(?=(?:{PROGRAM}))", "    ", text, flags=re.M)  # as a line of its own
            yield from (p._replace(line=p.line + line - 1) for p in in_markdown(named(path), own))


def verbs() -> list[str]:
    from innerloop.cli import VERBS

    return list(VERBS)


def in_help(verb: str) -> list[Printed]:
    """The examples that --help shows in a terminal of 80 columns."""
    said = help_text(verb)
    examples = re.findall(r"^Example:  (.*(?:\n\S.*)*)", said, re.M)
    return [Printed(f"innerloop {verb} --help", 0, e) for e in examples]


def help_text(verb: str) -> str:
    from innerloop import cli

    with contextlib.redirect_stdout(io.StringIO()) as said:
        os.environ["COLUMNS"] = "80"
        cli.main([verb, "--help"])
    return said.getvalue()


def in_web_page() -> list[Printed]:
    """Commands of the page itself; those of a report are made by show.report.next_commands."""
    page = ROOT / "innerloop/web/index.html"
    found = re.findall(r"<code[^>]*>(innerloop .*?)</code>", page.read_text())
    return [Printed(named(page), 0, command) for command in found]


# -- what they need, and what they make -------------------------------------------------------------------------------

ENDINGS = r"csv|jsonl|json|npz|npy|py|yaml|safetensors|onnx|pt2|txt|svg|tex|html|gz|md"
PATH = re.compile(rf"\.?[\w.-]+(?:/[\w.,=-]+)+|\S+\.(?:{ENDINGS})")
OUTPUTS = ("--out", "--single", "--onnx", "--graph", "--aoti")
TAKEN_AS_TEXT = ("--set", "--hub", "--allow-host", "--label", "-v", "-H", "-d", "-p")


def files_of(printed: Printed) -> tuple[list[str], list[str]]:
    """(files and folders that a command needs, those that it leaves), as far as its words tell."""
    words, needs, makes, flag = printed.words, [], [], ""
    if words[0] in ("make", "pip", "docker", "curl"):
        return [], ["runs/demo"] if words == ["make", "demo"] else []
    for word in words[1:]:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            continue
        out = flag in OUTPUTS or (words[1:2] == ["export"] and flag == "--data")
        path = word.partition("=")[2] if words[1] == "serve" and "=" in word else word
        if out:
            makes.append(path)
        elif flag not in TAKEN_AS_TEXT and PATH.fullmatch(path) and not path.startswith("http"):
            (makes if words[0] == "python" and path.endswith(".svg") else needs).append(path)
        flag = flag if flag in ("--set", "--test", "--allow-host") else ""
    made = made_by_default(words)
    return [n for n in needs if n not in made], makes + made


def made_by_default(words: list[str]) -> list[str]:
    """What a verb or an example script leaves where it is not told where."""
    if words[1].endswith("make_futoshiki.py"):
        return words[3:4]
    if words[0] == "cp":
        return words[2:3]
    if words[0] != "innerloop" or len(words) < 3 or "--dry-run" in words:
        return ["runs/demo"] if words[:2] == ["innerloop", "demo"] else []
    pairs = dict(itertools.pairwise(words))
    option = {name: pairs[name] for name in ("--out", "--system", "--task") if name in pairs}
    stem = Path(words[2]).stem
    if words[1] in ("train", "sweep") and "--out" not in option and "/" not in words[2]:
        if words[2] == "family":
            stem = f"{Path(option.get('--system', 'trm')).stem}-{option.get('--task', 'sudoku4')}"
        return [f"runs/{'sweep-' * (words[1] == 'sweep')}{stem}"]
    if words[1] == "data" and "--fix" in words:
        folder = option.get("--out", str(Path(words[2]).parent))
        return [(Path(folder) / f"{stem}.{part}.csv").as_posix() for part in ("train", "test")]
    return []


def missing(page: list[Printed]) -> list[tuple[Printed, str]]:
    """(command, a file that it needs, which neither the clone has nor an earlier command of its page leaves)."""
    made = [n for p in before(page[0].page) for n in files_of(p)[1]]
    found = []
    for printed in page:
        needs, makes = files_of(printed)
        for name in needs if not printed.names_a_verb else ():
            here = (ROOT / name).exists() and not name.startswith("runs/")
            if (
                not here
                and not PLACEHOLDER.fullmatch(name.partition("=")[2] or name)
                and not any(Path(name).is_relative_to(m) for m in made)
            ):
                found.append((printed, name))
        made += makes
    return found


def before(page: str) -> list[Printed]:
    """What was run before a page: nothing, except that the help of a verb follows the first steps of README."""
    if page == "docs/results.md":  # it says of runs/NAME what makes it
        return [Printed(page, 0, "innerloop train NAME --out runs")]
    first = (
        "innerloop demo",
        "innerloop train sudoku4 --data examples/sudoku4.csv --out runs/mine",
        "innerloop train sudoku6 --seeds 0,1,2",
    )
    return [Printed("README.md", 0, command) for command in first] if page.endswith("--help") else []


def pages(found: list[Printed]) -> dict[str, list[Printed]]:
    by_name: dict[str, list[Printed]] = {}
    for printed in found:
        by_name.setdefault(printed.page, []).append(printed)
    return by_name


# -- running them -----------------------------------------------------------------------------------------------------

STANDS_FOR = {"make demo": "innerloop demo"}  # which installs the library first, and so needs the network
GOES_ON = 3  # times that it is run again where its time was up
ONCE = ("innerloop demo",)  # run for the first page that asks for it; for others its folder is copied


class Clone:
    """A fresh clone in a folder, with `innerloop` and `python` as an activated environment has them."""

    def __init__(self, home: Path, kept: Path, seconds: float, steps: int) -> None:
        self.folder, self.kept, self.seconds, self.steps = home / "clone", kept, seconds, steps
        subprocess.run(["git", "clone", "-q", ROOT, self.folder], check=True)
        (home / "bin").mkdir()
        for name, words in (("innerloop", "-m innerloop.cli "), ("python", "")):
            program = home / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
            program.chmod(0o755)
        self.env = os.environ | {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(self.folder)}
        self.server: subprocess.Popen[str] | None = None

    def run(self, command: str) -> dict[str, Any]:
        """{status, seconds, said} of a command; that of a server is 0 as soon as it answers."""
        made = files_of(Printed("", 0, command))[1]
        copies = [(self.kept / name, self.folder / name) for name in made]
        if command in ONCE and all(old.exists() for old, _ in copies):
            for old, new in copies:
                shutil.copytree(old, new, dirs_exist_ok=True)
            return {"status": 0, "seconds": 0.0, "said": "as for an earlier page"}
        row = self.once(command)
        for _ in range(GOES_ON if command in ONCE else 0):  # an interrupted one goes on
            row = row if row["status"] == 0 else self.once(command)
        if command in ONCE and row["status"] == 0:
            for old, new in copies:
                shutil.copytree(new, old)
        return row

    def once(self, command: str) -> dict[str, Any]:
        began = time.monotonic()
        if self.steps and re.match(r"innerloop (demo|train (?!runs/)|sweep)", command) and "--dry-run" not in command:
            line, sign, rest = command.partition(" --set ")
            command = f"{line.split(' #')[0]} --set plan.steps={self.steps}" + (f" {rest}" if sign else "")
        said = tempfile.TemporaryFile("w+")  # noqa: SIM115  a server goes on writing
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=self.folder, env=self.env, stdout=said, stderr=said, start_new_session=True
        )
        if command.startswith("innerloop serve"):
            self.close()
            self.server = process
            status = self.answers(process, said)
        else:
            try:
                status = process.wait(self.seconds)
            except subprocess.TimeoutExpired:
                status = f"ended after {self.seconds:.0f} s"
                end(process)
        said.seek(0)
        return {"status": status, "seconds": round(time.monotonic() - began, 1), "said": said.read()[-600:]}

    def answers(self, process: subprocess.Popen[Any], said: Any) -> int | str:
        """Wait until a server says its address."""
        for _ in range(600):
            said.seek(0)
            if "http://" in said.read():
                return 0
            if process.poll() is not None:
                return process.returncode
            time.sleep(0.1)
        return "no address after 60 s"

    def close(self) -> None:
        if self.server is not None:
            end(self.server)
            self.server = None


def end(process: subprocess.Popen[Any]) -> None:
    """End a command and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
            return


def run_page(page: list[Printed], clone: Clone) -> Iterator[dict[str, Any]]:
    """Run the commands of a page in their order; those that follow from one that is not run are not run either."""
    left_out: list[str] = []
    for printed in page:
        needs, makes = files_of(printed)
        reason, command = printed.reason, re.split(r"\s+# ", printed.command)[0]
        command = STANDS_FOR.get(command, command)
        if not reason and any(Path(n).is_relative_to(m) for n in needs for m in left_out):
            reason = "after one that is not run"
        row = {"page": printed.page, "line": printed.line, "command": printed.command, "reason": reason}
        if reason.startswith("many minutes"):
            row |= clone.run(f"{command} --dry-run")
        if reason:
            left_out += makes
            yield row
            continue
        yield row | clone.run(command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run them, each page in a fresh clone")
    parser.add_argument("--pages", nargs="+", default=[], help="these alone; that of all verbs is called help")
    parser.add_argument("--seconds", type=float, default=170.0, help="longest time of a command")
    parser.add_argument("--steps", type=int, default=0, help="of trainings, on a slow machine; 0: as printed")
    parser.add_argument("--demo", type=Path, help="what `innerloop demo` has left elsewhere, to be taken instead")
    parser.add_argument("--out", type=Path, help="table of what came of it, as JSON")
    args = parser.parse_args()
    groups = pages(collect())
    helps = [p for name in [n for n in groups if n.endswith("--help")] for p in groups.pop(name)]
    groups["help"] = [*before("--help"), *helps]
    chosen = {name: page for name, page in groups.items() if not args.pages or name in args.pages}
    if not args.run:
        for printed in (p for page in chosen.values() for p in page):
            print(
                f"{printed.page}:{printed.line}  {printed.command}" + (f"   [{printed.reason}]" * bool(printed.reason))
            )
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as kept:
        if args.demo:
            shutil.copytree(args.demo, Path(kept) / "runs/demo")
        for page in chosen.values():
            with tempfile.TemporaryDirectory() as home:
                clone = Clone(Path(home), Path(kept), args.seconds, args.steps)
                for row in run_page(page, clone) if any(not p.reason for p in page) else ():
                    rows.append(row)
                    print(row["page"], "|", row["command"], "|", row["reason"] or row["status"], flush=True)
                    if row.get("status", 0) != 0:
                        print(row["said"], flush=True)
                    if args.out:
                        args.out.parent.mkdir(parents=True, exist_ok=True)
                        args.out.write_text(json.dumps(rows, indent=1) + "\n")
                clone.close()
    failed = [row for row in rows if row.get("status", 0) != 0]
    print(f"{len(rows)} commands, {sum('status' in row for row in rows)} run, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
