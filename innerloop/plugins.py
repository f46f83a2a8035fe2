"""Code that is no part of the library: a Python file that the user names, its copy in a run, an installed package.

    name = use("puzzles/futoshiki.py")     # runs the file; "futoshiki.py@3fa9c1d2e4f5a6b7", name and hash of its text
    module_of(name)                        # the module; only after use()

A file is run by use() alone, which is called with files that the user has given, never with what a model says of
itself. Models keep the name with its hash, so that another file of the same name is not taken for it. A file stands
alone: it imports installed packages and nothing that lies beside it. Packages offer tasks, systems and recipes by entry
points.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from innerloop import files
from innerloop.errors import InputError
from innerloop.text import printable

__all__ = [
    "CodeName", "installed", "is_file", "is_loaded", "load_installed", "module_of", "name_of", "parse", "public",
    "source_of", "trust_flag", "use",
]  # fmt: skip

MAX_CODE_BYTES = 1 << 20
MODULE_PREFIX = "innerloop_file_"  # of the names of modules that are made from files
GROUPS = {"task": "innerloop.tasks", "system": "innerloop.systems", "recipe": "innerloop.recipes"}  # entry points
NAME_PATTERN = re.compile(r"(?P<file>[^/\\@:\x00-\x1f]{1,120}\.py)@(?P<digest>[0-9a-f]{16})(:(?P<member>[^\W\d]\w*))?")
FILE_PATTERN = re.compile(r".+\.py(:[^\W\d]\w*)?", re.DOTALL)  # FILE.py, or FILE.py:NAME of one of its classes


class CodeName(NamedTuple):
    """A parsed name of code: "futoshiki.py@3fa9c1d2e4f5a6b7:Futoshiki"."""

    file: str  # name of the file, without a folder
    digest: str  # first 16 hexadecimal digits of the sha256 of its text
    member: str  # which of its classes or functions; "" for the only one


class Loaded(NamedTuple):
    module: ModuleType
    text: str


_loaded: dict[str, Loaded] = {}  # by digest: what the user has had run in this process


# -- files ------------------------------------------------------------------------------------------------------------


def is_file(word: str) -> bool:
    """Whether a word of the user's names a Python file: FILE.py, or FILE.py:NAME."""
    return FILE_PATTERN.fullmatch(word) is not None and parse(word) is None


def parse(name: Any) -> CodeName | None:
    """The parts of a name that `use` returned; None for anything else."""
    found = NAME_PATTERN.fullmatch(name) if isinstance(name, str) else None
    return CodeName(found["file"], found["digest"], found["member"] or "") if found else None


def name_of(name: str) -> str:
    """A name for people: that of the file without its hash; any other name as it is."""
    code = parse(name)
    return code.file if code else name


def use(path: Path | str, expected: str = "") -> str:
    """Run a Python file, FILE.py or FILE.py:NAME, that the user has given; returns its name for `module_of`.

    expected: the digest that its text must have. A text that was run before is not run again.
    Raises InputError for a file that cannot be read or run.
    """
    path, _, member = str(path).partition(".py:")
    path = Path(f"{path}.py" if member else path)
    text = files.read_text(path, MAX_CODE_BYTES)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    name = f"{path.name}@{digest}" + (f":{member}" if member else "")
    if parse(name) is None:
        raise InputError(f"{files.shown(path)} cannot be used under this name: call it NAME.py, without @ and :")
    if expected and digest != expected:
        raise InputError(f"{files.shown(path)} was changed since the run was trained with it: restore it")
    if digest not in _loaded:
        _loaded[digest] = Loaded(run_text(text, path, digest), text)
    return name


def run_text(text: str, path: Path, digest: str) -> ModuleType:
    """The module that a text makes. Raises InputError where it does not run."""
    spec = importlib.util.spec_from_file_location(f"{MODULE_PREFIX}{digest}", path)
    if spec is None:
        raise InputError(f"{files.shown(path)} is not a Python file: give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and type hints look their module up
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise failed(files.shown(path), error) from None
    return module


def failed(what: str, error: BaseException) -> InputError:
    why = printable((str(error).splitlines() or [""])[0], 200)
    advice = "run it by itself first"
    if isinstance(error, ModuleNotFoundError):
        advice = "install that package, or put what the file needs into the file: it must stand alone"
    return InputError(f"{what} cannot be imported ({type(error).__name__}: {why}): {advice}")


def trust_flag(run: Any) -> tuple[str, ...]:
    """What a printed command that opens a run's folder needs: --trust-code where the run has code of its own."""
    return ("--trust-code",) if parse(run.system) or parse(run.data.task) else ()


def module_of(name: str) -> ModuleType:
    """The module of a name that `use` returned in this process. Raises InputError for code that was not run."""
    return loaded_as(name).module


def source_of(name: str) -> str:
    """The text of the file."""
    return loaded_as(name).text


def loaded_as(name: str) -> Loaded:
    code = parse(name)
    if code is None or code.digest not in _loaded:
        raise InputError(f"{printable(name, 160)} is code that was not loaded: give its file")
    return _loaded[code.digest]


def is_loaded(name: str) -> bool:
    code = parse(name)
    return code is not None and code.digest in _loaded


def public(module: ModuleType) -> dict[str, Any]:
    """What a module offers: the names of its __all__, else the public ones that it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return {name: getattr(module, name) for name in listed if hasattr(module, name)}
    own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    return {k: v for k, v in own.items() if getattr(v, "__module__", "") == module.__name__}


# -- installed packages -----------------------------------------------------------------------------------------------


@lru_cache
def installed(kind: str) -> dict[str, importlib.metadata.EntryPoint]:
    """What installed packages offer of a kind ("task", "system" or "recipe"), by name; nothing is imported."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUPS[kind])}


def load_installed(kind: str, name: str) -> Any:
    """The class, function or module behind an entry point. Raises InputError where its package cannot be imported."""
    point = installed(kind)[name]
    try:
        return point.load()
    except Exception as error:
        raise failed(f"{point.value} of the package that offers the {kind} {printable(name, 60)}", error) from None
