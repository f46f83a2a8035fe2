"""Files, read within bounds and written whole or not at all; every failure is one sentence with the system's reason.

text = read_text(path)                 # a regular file, at most LIMIT bytes, UTF-8
value = read_json(path)                # bounded depth and size
for line in lines(path): ...           # of a long text file, plain or .gz, bounded as it is read
write_text(path, text)                 # a reader sees the old file or the new one, never a part
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
    "LINE",
    "RATIO",
    "check_filled",
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

LIMIT = 64 << 20  # bytes of a text file that is read whole
DEPTH = 100  # of nested JSON
STREAM = 4 << 30  # bytes of a text file that is read line by line
LINE = 16 << 20  # characters of one line of it
EMPTY = 100_000  # empty lines that may follow each other
# Bytes that a stored byte may stand for, once there are more than FREE. Deflate reaches 1032; boards of 30x30 that are
# empty but for one cell come to 146.
RATIO, FREE = 200, 16 << 20
SPARSE = 1 << 30  # bytes of a file from which it must be RATIO times smaller on its disk to be called empty
PIECE = 1 << 14  # compressed bytes that are read at a time
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
ENDING = ".tmp"  # of a file that is being written
SYSTEM, SHM = (("/", "dev"), ("/", "proc"), ("/", "sys")), ("/", "dev", "shm")  # devices, also by way of /dev/stdout


def reason(error: BaseException) -> str:
    """Why the system refused, in its own words, without the path."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else type(error).__name__


def shown(path: Path | str) -> str:
    """A path as a message shows it."""
    return printable(str(path))


# -- reading ----------------------------------------------------------------------------------------------------------


def open_regular(path: Path | str) -> BinaryIO:
    """A regular file, opened for reading bytes; a pipe or device is refused without waiting for it.

    Raises InputError with the system's reason where it cannot be opened: missing, not permitted, too many open files.
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
    """One sentence for a file that the system would not give; a sound file is never called damaged."""
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


class Bounded(io.RawIOBase):
    """Bytes of a plain or gzipped file that stop with an InputError where they are more than is believable."""

    def __init__(self, path: Path | str, file: BinaryIO, most: int):
        self.path, self.file, self.most, self.done = path, file, most, 0
        self.zipped = str(path).lower().endswith(".gz")
        pieces: Any = Pieces(file)
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


class Pieces:
    """A file read in small pieces, so that what was read of it says how much of it was decompressed."""

    def __init__(self, file: BinaryIO):
        self.file = file

    def read(self, size: int = PIECE) -> bytes:
        return self.file.read(min(size, PIECE))


@contextlib.contextmanager
def open_text(path: Path | str, most: int = STREAM) -> Iterator[TextIO]:
    """A text file in UTF-8, plain or .gz, decompressed as it is read; line ends stay as they are.

    Raises InputError, also while it is read, where it is no such file or has more than `most` bytes of text.
    """
    with open_regular(path) as file:
        check_filled(path, os.fstat(file.fileno()))
        raw = io.BufferedReader(Bounded(path, file, most), 1 << 16)
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
    """The lines of a text file, plain or .gz, with their ends: at most LINE characters each and STREAM bytes in all."""
    with open_text(path) as text:
        number = empty = 0
        while line := text.readline(LINE + 1):
            number += 1
            empty = empty + 1 if line in ("\n", "\r\n", "\r") else 0
            if len(line) > LINE:
                raise InputError(f"{shown(path)}, line {number}: it is longer than {LINE:,} characters: shorten it")
            if empty > EMPTY:
                raise InputError(f"{shown(path)}, line {number}: {empty:,} empty lines follow each other: remove them")
            yield line


def check_filled(path: Path | str, found: os.stat_result) -> None:
    """Raise InputError for a file that claims a size of which its disk holds next to nothing (a sparse file)."""
    held = 512 * found.st_blocks
    if found.st_size > SPARSE and 0 < held * RATIO < found.st_size:
        raise InputError(
            f"{shown(path)} has {found.st_size:,} bytes of which {held:,} were ever written: it is no data file"
        )


# -- writing ----------------------------------------------------------------------------------------------------------


def write(path: Path | str, put: Callable[[Path], object]) -> None:
    """Let `put` write a neighbour of `path`, then rename it into place: a reader sees the old file or the new.

    The new file has the mode of the old one, or the one that umask gives. A link is replaced, not what it points to.
    Raises InputError where `path` is a folder, device or pipe, or where the system refuses; the old file then stays.
    """
    path = Path(path)
    beside = None
    try:
        if path.is_dir() or (path.exists() and not path.is_file()):
            check_mode(path, path.stat().st_mode)
        if path.parent.resolve().parts[:2] in SYSTEM and path.parent.resolve().parts[:3] != SHM:
            raise InputError(f"{shown(path)} lies among the system's own files: choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        swept(path.parent.resolve())
        beside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}{ENDING}")
        mark = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # some network file systems have no locks: then nothing is swept there
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
    """One sentence for a file that the system would not take."""
    return InputError(
        f"{shown(path)} cannot be written ({printable(reason(error))}): mend that, or choose another place"
    )


def sync_folder(folder: Path) -> None:
    """Let a rename in `folder` survive a loss of power."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path | str) -> list[Path]:
    """Remove what killed writers left; returns the paths. A file still being written is locked, and stays."""
    gone = []
    for path in Path(folder).glob(f".*{ENDING}"):
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
def swept(folder: Path) -> None:
    """`sweep`, once a folder and process."""
    sweep(folder)


def write_bytes(path: Path | str, data: bytes | memoryview) -> None:
    write(path, lambda p: p.write_bytes(data))


def write_text(path: Path | str, text: str) -> None:
    """In UTF-8."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
