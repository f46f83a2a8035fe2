"""One training a folder: a lock that names its holder and dies with it.

with hold(folder) as note:      # InputError where another process trains there
    ...                         # note: empty, or why this file system cannot lock
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

__all__ = ["LOCK", "hold"]

LOCK = "train.lock"
MINE = threading.local()  # .folders: those that this thread holds


@contextmanager
def hold(folder: Path | str) -> Iterator[str]:
    """Hold the lock of a run's folder, which is made if need be; a thread that holds it already may do so again.

    The system drops the lock when the process ends, however it ends. Yields an empty text, or a sentence that says
    why nothing could be locked: some network file systems have no locks. Raises InputError that names the process,
    host, command and time of another holder, or says that the folder cannot be written.
    """
    path = Path(folder).absolute() / LOCK
    folders: set[Path] = MINE.__dict__.setdefault("folders", set())
    key = path.parent.resolve()
    if key in folders:
        yield ""
        return
    made = not key.exists()
    handle, note = locked(path)
    folders.add(key)
    try:
        yield note
    finally:
        folders.discard(key)
        if handle is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held: whoever has opened it by now finds that it is gone, and tries again
            os.close(handle)
        if made:
            with contextlib.suppress(OSError):  # of a run that failed its first checks nothing stays
                key.rmdir()


def locked(path: Path) -> tuple[int | None, str]:
    """The descriptor that holds the lock and an empty text, or None and why there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise InputError(taken(path)) from None
            except OSError as error:
                os.close(handle)
                path.unlink(missing_ok=True)
                return None, (
                    f"{files.shown(path.parent)} cannot be locked ({printable(files.reason(error))}): "
                    "see to it that nothing else trains there"
                )
            if same(handle, path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(holder()).encode(), 0)
                return handle, ""
            os.close(handle)
    except OSError as error:
        raise files.unwritable(path, error) from None


def same(handle: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def holder() -> dict[str, str | int]:
    """Who this process is, for those who find the folder in use."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"pid": os.getpid(), "host": platform.node(), "command": shlex.join(sys.argv), "since": since}


def taken(path: Path) -> str:
    """A sentence about the holder, as far as it has said who it is."""
    try:
        found = files.read_json(path, 1 << 16)
    except InputError:
        found = {}
    told = {k: printable(str(v), 200) for k, v in found.items()} if isinstance(found, dict) else {}
    who = f"process {told.get('pid', 'of unknown number')} on {told.get('host', 'an unknown host')}"
    what = f"since {told.get('since', 'an unknown time')}, by: {told.get('command', 'an unknown command')}"
    return (
        f"{files.shown(path.parent)} is in use: {who} trains there {what}; wait until it ends, or choose another "
        "folder (--out)"
    )
