"""File lock of a run's folder, so that one process trains there; it is released when the process ends.

with lock_folder(folder) as note:      # InputError where another process trains there
    ...                                # note: empty, or why this file system cannot lock
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from innerloop import files
from innerloop.errors import InputError
from innerloop.text import printable

__all__ = ["LOCK", "lock_folder"]

LOCK = "train.lock"
LOCKED = threading.local()  # .folders: set of folders that this thread has locked


@contextmanager
def lock_folder(folder: Path | str) -> Iterator[str]:
    """Hold the lock of a run's folder, which is created if missing; reentrant within a thread.

    The system releases the lock however the process ends. Yields "", or a sentence that says why nothing could be
    locked: some network file systems have no locks. Raises InputError if the folder cannot be written, or if another
    process holds the lock; it then names that process, its host, command and start time.
    """
    path = Path(folder).absolute() / LOCK
    folders: set[Path] = LOCKED.__dict__.setdefault("folders", set())
    key = path.parent.resolve()
    if key in folders:
        yield ""
        return
    created = not key.exists()
    handle, note = acquire(path)
    folders.add(key)
    try:
        yield note
    finally:
        folders.discard(key)
        if handle is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # unlinked while locked: a process that has it open by now notices, and retries
            os.close(handle)
        if created:
            with contextlib.suppress(OSError):  # fails unless the folder is empty, as intended
                key.rmdir()


def acquire(path: Path) -> tuple[int | None, str]:
    """(file descriptor that holds the lock, ""), or (None, why nothing could be locked)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise InputError(in_use_message(path)) from None
            except OSError as error:
                os.close(handle)
                path.unlink(missing_ok=True)
                return None, (
                    f"{files.shown(path.parent)} cannot be locked ({printable(files.reason(error))}): "
                    "make sure that nothing else trains there"
                )
            if is_same_file(handle, path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(holder()).encode(), 0)
                return handle, ""
            os.close(handle)
    except OSError as error:
        raise files.unwritable(path, error) from None


def is_same_file(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at that path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def holder() -> dict[str, str | int]:
    """Process, host, command and start time, as written into the lock file."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"pid": os.getpid(), "host": platform.node(), "command": shlex.join(sys.argv), "since": since}


def in_use_message(path: Path) -> str:
    """An error message that names the holder, read from the lock file."""
    try:
        info = files.read_json(path, 1 << 16)
    except InputError:
        info = {}
    shown = {k: printable(str(v), 200) for k, v in info.items()} if isinstance(info, dict) else {}
    who = f"process {shown.get('pid', 'of unknown number')} on {shown.get('host', 'an unknown host')}"
    what = f"since {shown.get('since', 'an unknown time')}, by: {shown.get('command', 'an unknown command')}"
    return (
        f"{files.shown(path.parent)} is in use: {who} trains there {what}; wait until it ends, or choose another "
        "folder (--out)"
    )
