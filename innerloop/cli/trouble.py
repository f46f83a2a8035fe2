"""Error handling of the command line: every exception becomes one sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path

from innerloop.errors import InputError
from innerloop.plugins import MODULE_PREFIX
from innerloop.text import printable

__all__ = ["escape_unencodable", "exit_code", "input_error_code"]

DEBUG_VARIABLE = "INNERLOOP_DEBUG"  # 1: unexpected exceptions are raised, with their traceback


def escape_unencodable() -> None:
    """Write characters that the encoding of stdout or stderr lacks as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_code(error: BaseException) -> int:
    """Say what is wrong in one sentence. Exit codes: 1 our fault or a closed pipe, 2 an input's, 130 interrupted."""
    if isinstance(error, InputError):
        return input_error_code(str(error))
    if isinstance(error, BrokenPipeError):
        drop_output()
        return 1
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    if isinstance(error, OSError):  # a full disk or a missing permission where a library wrote, not we
        if error.errno == errno.EPIPE:
            return 1
        return input_error_code(f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error})")
    if isinstance(error, UnicodeError):
        return input_error_code(
            f"a text cannot be written in the encoding of the terminal or file ({error}): use UTF-8"
        )
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "allocate memory" in str(error):
        return input_error_code(
            "there is not enough memory for this: ask for less width, fewer puzzles or a smaller batch"
        )
    if where := user_code(error):
        if os.environ.get(DEBUG_VARIABLE):
            raise error
        return input_error_code(f"{where}: {type(error).__name__}: {printable(str(error), 200)}: mend that file")
    if isinstance(error, ModuleNotFoundError) and (extra := extra_with(error.name or "")):
        return input_error_code(f"this needs {error.name}, which is not installed: pip install 'innerloop[{extra}]'")
    if isinstance(error, RecursionError):
        return input_error_code("an input is nested too deeply to be read: it is damaged, or no file of this kind")
    return report_bug(error)


def extra_with(module: str) -> str:
    """The extra of innerloop that installs a module, by the names of its packages; "" for none."""
    name = module.split(".")[0].replace("_", "-").lower()
    with contextlib.suppress(metadata.PackageNotFoundError):
        for line in metadata.requires("innerloop") or ():
            package, extra = re.match(r"[\w.-]+", line), re.search(r"""extra == ["']([\w-]+)""", line)
            if package and extra and package[0].replace("_", "-").lower() == name and extra[1] != "dev":
                return extra[1]
    return ""


def user_code(error: BaseException) -> str:
    """FILE, line N of the last step of an error that was in a file that the user gave; "" where there is none."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        if str(frame.f_globals.get("__name__", "")).startswith(MODULE_PREFIX):
            return f"{Path(frame.f_code.co_filename)}, line {line}"
    return ""


def report_bug(error: BaseException) -> int:
    """A bug: print one sentence, and write the traceback to a file."""
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    where = ""
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile("w", prefix="innerloop-", suffix=".log", delete=False) as file:
            file.write("".join(traceback.format_exception(error)))
        where = f"; the traceback is in {Path(file.name)}"
    print_error(
        f"this is a fault of innerloop ({type(error).__name__}: {printable(str(error), 200)}){where}, "
        f"or set {DEBUG_VARIABLE}=1 to see it"
    )
    return 1


def drop_output() -> None:
    """Point stdout at /dev/null after a broken pipe, so that the flush at exit does not fail."""
    with contextlib.suppress(OSError, ValueError):  # a test's own stream has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def input_error_code(text: str) -> int:
    print_error(text)
    return 2


def print_error(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # under torchrun only rank 0 prints
        print("error: " + printable(" ".join(text.splitlines()), 2000), file=sys.stderr)
