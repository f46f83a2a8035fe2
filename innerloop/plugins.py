"""Code that is no part of the library: a Python file that the user names, its copy in a run, an installed package.

    name = use("puzzles/futoshiki.py")     # runs the file; "futoshiki.py@3fa9c1d2e4f5a6b7", name and hash of its text
    module_of(name)                        # the module; only after use()

A file is run by use() alone, which is called with files that the user has given, never with what a model says of
itself. Models keep the name with its hash, so that another file of the same name is not taken for it. What it imports
are installed packages, and Python files that lie beside it: their texts are part of the hash, and of what a run keeps.
Packages offer tasks, systems and recipes by entry points.
"""

from __future__ import annotations

import ast
import builtins
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
    "read_texts", "texts_of", "trust_flag", "use",
]  # fmt: skip

MAX_CODE_BYTES = 1 << 20
MOST_FILES = 50  # that a file imports from beside it
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
    texts: dict[str, str]  # by file name: its own, and those of the files beside it that it imports


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
    texts = read_texts(path)
    digest = digest_of(path.name, texts)
    name = f"{path.name}@{digest}" + (f":{member}" if member else "")
    if parse(name) is None:
        raise InputError(f"{files.shown(path)} cannot be used under this name: call it NAME.py, without @ and :")
    if expected and digest != expected:
        raise InputError(f"{files.shown(path)} was changed since the run was trained with it: restore it")
    if digest not in _loaded:
        _loaded[digest] = Loaded(run_texts(path, texts, digest), texts)
    return name


def read_texts(path: Path) -> dict[str, str]:
    """The texts of a file and of the files beside it that it imports, these included, by file name."""
    found: dict[str, str] = {}
    left = [path.name]
    while left:
        name = left.pop()
        found[name] = files.read_text(path.with_name(name), MAX_CODE_BYTES)
        if len(found) > MOST_FILES:
            raise InputError(f"{files.shown(path)} imports more than {MOST_FILES} files beside it: make them a package")
        beside = sorted(f"{module}.py" for module in imported(found[name]) if module not in sys.stdlib_module_names)
        left += [other for other in beside if other not in (*found, *left) and path.with_name(other).is_file()]
    return found


def imported(text: str) -> set[str]:
    """Names of the modules that a text imports; none of a text that is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):  # told when it is run
        return set()
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return whole | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}


def digest_of(name: str, texts: dict[str, str]) -> str:
    """16 hexadecimal digits for a file: of its text alone, or with the names and texts of those that it imports."""
    whole = hashlib.sha256(texts[name].encode())
    for other in sorted(texts.keys() - {name}):
        whole.update(hashlib.sha256(other.encode()).digest() + hashlib.sha256(texts[other].encode()).digest())
    return whole.hexdigest()[:16]


def run_texts(path: Path, texts: dict[str, str], digest: str) -> ModuleType:
    """The module that a file's text makes, which imports the other texts. Raises InputError where it does not run.

    It is the texts that are run, as they were hashed, whatever lies at their places by now.
    """
    modules: dict[str, ModuleType] = {}

    def own_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level or f"{name}.py" not in texts:
            return builtins.__import__(name, globals, locals, fromlist, level)
        return modules[name] if name in modules else run(name)

    def run(name: str) -> ModuleType:
        place = path.with_name(f"{name}.py")
        full = f"{MODULE_PREFIX}{digest}" + (f"_{name}" if place != path else "")
        spec = importlib.util.spec_from_file_location(full, place)
        if spec is None:
            raise InputError(f"{files.shown(path)} is not a Python file: give a .py file")
        module = modules[name] = importlib.util.module_from_spec(spec)
        if len(texts) > 1:
            vars(module)["__builtins__"] = vars(builtins) | {"__import__": own_import}
        sys.modules[full] = module  # dataclasses and type hints look their module up
        exec(compile(texts[place.name], str(place), "exec"), vars(module))
        return module

    try:
        return run(path.stem)
    except (Exception, SystemExit) as error:
        for module in modules.values():
            sys.modules.pop(module.__name__, None)
        raise failed(files.shown(path), error) from None


def failed(what: str, error: BaseException) -> InputError:
    why = printable((str(error).splitlines() or [""])[0], 200)
    advice = "run it by itself first"
    if isinstance(error, ModuleNotFoundError):
        advice = "install that package, or put what the file needs into the file, or into a file beside it"
    return InputError(f"{what} cannot be imported ({type(error).__name__}: {why}): {advice}")


def trust_flag(run: Any) -> tuple[str, ...]:
    """What a printed command that opens a run's folder needs: --trust-code where the run has code of its own."""
    return ("--trust-code",) if parse(run.system) or parse(run.data.task) else ()


def module_of(name: str) -> ModuleType:
    """The module of a name that `use` returned in this process. Raises InputError for code that was not run."""
    return loaded_as(name).module


def texts_of(name: str) -> dict[str, str]:
    """The text of the file, and those of the files beside it that it imports, by file name."""
    return loaded_as(name).texts


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
