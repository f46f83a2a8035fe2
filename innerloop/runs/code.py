"""Code of a run: the files of its own task and system, kept in its folder, and the permission to run them.

run.json names a file by name and hash (plugins.use); code/NAME.py in the folder is its copy, beside those of the files
that it imports from its own folder. A copy is run only with the user's word (trust_code); a file that the user gives in
its place needs none. A single file and a hub repository hold no code. The task and system of a run without such names
are the library's own, or of installed packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from innerloop import files, plugins, tasks
from innerloop.errors import InputError
from innerloop.runs.run import Run

__all__ = ["FOLDER", "NO_CODE", "Code", "given", "keep_code", "permitted"]

FOLDER = "code"  # in a run's folder
HOMES = {"system": (), "task": ("data",)}  # kind of code -> where run.json names it


class Code(NamedTuple):
    """Code of your own. The code that a run keeps is not run without your word; a file that you give is."""

    trust_code: bool = False  # Run the code that the run keeps of its own task or system, in its folder code.
    task: str = ""  # A Python file with a task of your own, FILE.py, in place of the run's.
    system: str = ""  # A Python file with a system of your own, FILE.py, in place of the run's.


NO_CODE = Code()


def given(word: str) -> str:
    """The name of a task or system that the user gave: a Python file, which is run now, or a name."""
    return plugins.use(word) if plugins.is_file(word) else word


def permitted(value: Any, source: Path, code: Code, where: str) -> Any:
    """The value of a run.json, to be read, with the given task and system in place; its code is loaded if permitted.

    source: the run's folder, or a single file. Raises InputError where code is needed and not permitted.
    """
    run = value.get("run") if isinstance(value, dict) else None
    if not isinstance(run, dict):
        return value
    run = run | {"data": dict(run["data"])} if isinstance(run.get("data"), dict) else dict(run)
    for kind, path in HOMES.items():
        home: Any = run
        for key in path:
            home = home.get(key)
        if not isinstance(home, dict):
            continue
        if word := getattr(code, kind):
            home[kind] = given(word)
            if kind == "task" and isinstance(home.get("options"), dict):
                home["options"] = tasks.options_for(home["task"], home["options"])
        elif plugins.parse(home.get(kind)):
            load_kept(home[kind], kind, source, code.trust_code, where)
    return value | {"run": run}


def load_kept(reference: str, kind: str, source: Path, trust_code: bool, where: str) -> None:
    """Run the copy of a file that a run keeps, if the user permits it. Raises InputError."""
    known = plugins.parse(reference)
    if known is None or plugins.is_loaded(reference):
        return
    copy = source / FOLDER / known.file
    if source.is_file() or not copy.is_file():
        raise InputError(
            f"{where}: its {kind} is code of its own, {known.file}, which is not kept here: "
            f"give that file, --{kind} {known.file} (in Python {kind}=FILE)"
        )
    if not trust_code:
        more = " and what it imports from beside it" if len(plugins.read_texts(copy)) > 1 else ""
        raise InputError(
            f"{where}: its {kind} is code of its own, {files.shown(copy)}, which is not run without your word: "
            f"read it{more}, then add --trust-code (in Python trust_code=True), or give your own file, --{kind} FILE.py"
        )
    plugins.use(f"{copy}:{known.member}" if known.member else copy, known.digest)


def references(run: Run) -> Iterator[str]:
    """The names of code in a run."""
    yield from (name for name in (run.system, run.data.task) if plugins.parse(name))


def keep_code(folder: Path, run: Run) -> None:
    """Copy the files that a run is made of, and what they import from beside them, into its folder.

    Raises InputError where two of them have one name.
    """
    texts: dict[str, str] = {}
    for reference in references(run):
        for name, text in plugins.texts_of(reference).items():
            if texts.setdefault(name, text) != text:
                raise InputError(f"two different files are called {name}: rename one of them")
    for name, text in texts.items():
        files.write_text(folder / FOLDER / name, text)
