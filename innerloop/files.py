"""Bounded file reading and atomic writing; every failure is an InputError of one sentence.

text = read_text(path)                 # a regular file, at most LIMIT bytes, UTF-8
value = read_json(path)                # bounded depth and size
for line in lines(path): ...           # of a long text file, plain or .gz, bounded as it is read
write_text(path, text)                 # atomic: a reader sees the old file or the new one
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import io
import json
import os
import secrets
import stat
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from innerloop.errors import InputError
from innerloop.text import printable

__all__ = [
    "LIMIT",
    "MAX_LINE",
    "RATIO",
    "check_not_sparse",
    "check_regular",
    "lines",
    "open_regular",
    "open_text",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_text",
    "reason",
    "sweep",
    "unreadable",
    "unwritable",
    "write",
    "write_bytes",
    "write_json",
    "write_text",
]

LIMIT = 64 << 20  # largest text file that is read whole, bytes
DEPTH = 100  # deepest nesting of JSON
MAX_STREAM = 4 << 30  # largest text file that is read line by line, bytes after decompression
MAX_LINE = 16 << 20  # longest line of it, characters
MAX_EMPTY_LINES = 100_000  # most consecutive empty lines
# Largest compression ratio, for files of more than FREE bytes. Deflate reaches 1032; 30x30 boards that are empty
# but for one cell reach 146.
RATIO, FREE = 200, 16 << 20
SPARSE = 1 << 30  # bytes; from this size on a file that uses less than size / RATIO on disk is refused as sparse
READ_SIZE = 1 << 14  # compressed bytes that are read at a time
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
TEMPORARY_SUFFIX = ".tmp"  # suffix of a file that is being written
# Folders that nothing is written to, except SHM.
SYSTEM, SHM = (("/", "dev"), ("/", "proc"), ("/", "sys")), ("/", "dev", "shm")


def reason(error: BaseException) -> str:
    """The system's error message, without the path."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else type(error).__name__


def shown(path: Path | str) -> str:
    """A path for use in a message, control characters escaped."""
    return printable(str(path))


# -- reading ----------------------------------------------------------------------------------------------------------


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading bytes; pipes and devices are refused without blocking.

    Raises InputError with the system's reason: missing, not permitted, too many open files.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise unreadable(path, error) from None
    try:
        check_mode(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: Path | str) -> None:
    """Raise InputError unless `path` is a regular file, or a link to one; it is not opened."""
    try:
        check_mode(path, os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def check_mode(path: Path | str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise InputError(f"{shown(path)} is a folder where a file is wanted: name a file in it")
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{shown(path)} is {KINDS.get(stat.S_IFMT(mode), 'no regular file')}, not a file: copy it to a file first"
        )


def unreadable(path: Path | str, error: BaseException) -> InputError:
    """The error for a file that the system could not read; it never calls the file damaged."""
    number = getattr(error, "errno", None)
    advice = {
        errno.ENOENT: "check the path",
        errno.ENOTDIR: "check the path",
        errno.EACCES: "get permission to read it",
        errno.EPERM: "get permission to read it",
        errno.EMFILE: "close some files or raise the limit (ulimit -n), then try again; the file itself may be sound",
        errno.ENFILE: "close some files, then try again; the file itself may be sound",
        errno.ENOMEM: "free some memory, then try again; the file itself may be sound",
        errno.EIO: "check the disk; the file itself may be sound",
    }.get(number or 0, "try again once that is mended")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return InputError(f"there is no file {shown(path)}: {advice}")
    return InputError(f"{shown(path)} cannot be read ({printable(reason(error))}): {advice}")


def read_bytes(path: Path | str, limit: int = LIMIT) -> bytes:
    """All bytes of a regular file. Raises InputError where there are more than `limit`, before they are read."""
    with open_regular(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                found = file.read(limit + 1)
                size = max(size, len(found))
        except (OSError, MemoryError) as error:
            raise unreadable(path, error) from None
    if size > limit:
        raise InputError(
            f"{shown(path)} has {size:,} bytes where at most {limit:,} are read: it is no file of this kind"
        )
    return found


def read_text(path: Path | str, limit: int = LIMIT) -> str:
    """A text file in UTF-8, with or without a byte order mark."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)} is no text in UTF-8 (byte {error.start}): save it as UTF-8") from None


def read_json(path: Path | str, limit: int = LIMIT) -> Any:
    """The value in a JSON file, of bounded size and depth."""
    return parse_json(read_text(path, limit), shown(path))


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text. Raises InputError, which begins with `where`, for anything that is not one.

    Nesting beyond DEPTH and numbers of thousands of digits are refused as well.
    """
    try:
        value = json.loads(text)
        if depth(value) > DEPTH:
            raise RecursionError
        return value
    except RecursionError:
        raise InputError(
            f"{where} is nested deeper than {DEPTH} levels: it is damaged or no file of this kind"
        ) from None
    except (ValueError, MemoryError) as error:
        raise InputError(
            f"{where} is no JSON ({printable(reason(error).split(';')[0])}): it is damaged, or of another kind"
        ) from None


def depth(value: Any) -> int:
    """How deep lists and dicts are nested."""
    level, found = [value], 0
    while level := [v for v in level if isinstance(v, list | dict)]:
        found += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return found


# -- long text --------------------------------------------------------------------------------------------------------


class BoundedReader(io.RawIOBase):
    """Bytes of a plain or gzipped file; raises InputError beyond `most` bytes, or RATIO times the compressed size."""

    def __init__(self, path: Path | str, file: BinaryIO, most: int):
        self.path, self.file, self.most, self.done = path, file, most, 0
        self.zipped = str(path).lower().endswith(".gz")
        pieces: Any = SmallReads(file)
        self.source: Any = gzip.GzipFile(fileobj=pieces, mode="rb") if self.zipped else file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self.source.read(len(buffer))
        buffer[: len(found)] = found
        self.done += len(found)
        if self.done > self.most:
            raise InputError(f"{shown(self.path)} has more than {self.most:,} bytes of text: take a part of it")
        if self.zipped and self.done > max(FREE, RATIO * self.file.tell()):
            raise InputError(
                f"{shown(self.path)} grows more than {RATIO} times when it is decompressed: it is no data file"
            )
        return len(found)


class SmallReads:
    """Reads a file in small pieces, so that its position shows how much was decompressed."""

    def __init__(self, file: BinaryIO):
        self.file = file

    def read(self, size: int = READ_SIZE) -> bytes:
        return self.file.read(min(size, READ_SIZE))


@contextlib.contextmanager
def open_text(path: Path | str, most: int = MAX_STREAM) -> Iterator[TextIO]:
    """Context: a UTF-8 text file, plain or .gz, decompressed while read; line ends are kept.

    Raises InputError, also while reading, if it is no such file or has more than `most` bytes of text.
    """
    with open_regular(path) as file:
        check_not_sparse(path, os.fstat(file.fileno()))
        raw = io.BufferedReader(BoundedReader(path, file, most), 1 << 16)
        try:
            with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
                yield text
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise InputError(f"{shown(path)} is not a complete gzip file: fetch or write it again") from None
        except UnicodeDecodeError:
            raise InputError(f"{shown(path)} is not UTF-8 text: save it as UTF-8") from None
        except (OSError, MemoryError) as error:
            raise unreadable(path, error) from None


def lines(path: Path | str) -> Iterator[str]:
    """The lines of a text file, plain or .gz, with their ends: MAX_LINE characters and MAX_STREAM bytes at most."""
    with open_text(path) as text:
        number = empty = 0
        while line := text.readline(MAX_LINE + 1):
            number += 1
            empty = empty + 1 if line in ("\n", "\r\n", "\r") else 0
            if len(line) > MAX_LINE:
                raise InputError(f"{shown(path)}, line {number}: it is longer than {MAX_LINE:,} characters: shorten it")
            if empty > MAX_EMPTY_LINES:
                raise InputError(f"{shown(path)}, line {number}: {empty:,} empty lines follow each other: remove them")
            yield line


def check_not_sparse(path: Path | str, found: os.stat_result) -> None:
    """Raise InputError for a large sparse file."""
    held = 512 * found.st_blocks
    if found.st_size > SPARSE and 0 < held * RATIO < found.st_size:
        raise InputError(
            f"{shown(path)} has {found.st_size:,} bytes of which {held:,} were ever written: it is no data file"
        )


# -- writing ----------------------------------------------------------------------------------------------------------


def write(path: Path | str, put: Callable[[Path], object]) -> None:
    """Atomic write: `put` writes a temporary file in the same folder, which is then renamed to `path`.

    The new file has the mode of the old one, else that of the umask. A link is replaced, its target kept. Raises
    InputError if `path` is a folder, device or pipe, or if the system refuses; the old file then stays.
    """
    path = Path(path)
    beside = None
    try:
        if path.is_dir() or (path.exists() and not path.is_file()):
            check_mode(path, path.stat().st_mode)
        if path.parent.resolve().parts[:2] in SYSTEM and path.parent.resolve().parts[:3] != SHM:
            raise InputError(f"{shown(path)} lies among the system's own files: choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(path.parent.resolve())
        beside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
        mark = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # no locks on some network file systems; sweep removes nothing there
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_file() and not path.is_symlink():
                os.fchmod(mark, stat.S_IMODE(path.stat().st_mode))
            put(beside)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            os.close(mark)
        sync_folder(path.parent)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:  # torch.save reports a full disk as RuntimeError
        if isinstance(error, InputError):
            raise
        raise unwritable(path, error) from error
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def unwritable(path: Path | str, error: BaseException) -> InputError:
    """The error for a file that the system could not write."""
    return InputError(
        f"{shown(path)} cannot be written ({printable(reason(error))}): mend that, or choose another place"
    )


def sync_folder(folder: Path) -> None:
    """fsync the folder, so that a rename in it survives a power failure."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path | str) -> list[Path]:
    """Remove temporary files of killed writers; returns their paths. Files being written are locked, and kept."""
    gone = []
    for path in Path(folder).glob(f".*{TEMPORARY_SUFFIX}"):
        if len(path.name.rsplit(".", 2)[1]) != 12:
            continue
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                gone.append(path)
            finally:
                os.close(handle)
    return gone


@lru_cache(maxsize=256)
def sweep_once(folder: Path) -> None:
    """`sweep`, once per folder and process."""
    sweep(folder)


def write_bytes(path: Path | str, data: bytes | memoryview) -> None:
    write(path, lambda p: p.write_bytes(data))


def write_text(path: Path | str, text: str) -> None:
    """In UTF-8."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
