"""A process in which other packages judge answers (tokens.outside), with a limit of time for every request.

    child = Child()
    child.ask("verify", r"\\frac{1}{2}", "0.5")      # True

So a judge that hangs, takes all memory or needs the main thread harms nothing here. Requests may come from several
threads; one is served at a time. The process is started by the first one and sees no keys of the environment.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["Child", "Failed", "TookTooLong"]

PROGRAM = Path(__file__).with_name("outside.py")
SECONDS, START_SECONDS = 10.0, 120.0  # of a request; of the import of a package
KEPT = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "VIRTUAL_ENV")  # variables


class TookTooLong(Exception):
    """The process was ended: a request took too long, or all of its memory."""


class Failed(Exception):
    """The package raised an error."""


class Child:
    """The process, started when it is first asked; after one that was ended, a new one."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.replies: queue.Queue[str] = queue.Queue()
        self.prepared: set[str] = set()  # packages that it has imported
        atexit.register(self.close)

    def ask(self, function: str, *arguments: Any, seconds: float = 0.0) -> Any:
        """What a function of tokens.outside returns. Raises TookTooLong and Failed."""
        package = "math_verify" if function == "verify" else "reasoning_gym"
        with self.lock:
            self.start()
            if package not in self.prepared:
                self.request("prepare", (package,), START_SECONDS)
                self.prepared.add(package)
            return self.request(function, arguments, seconds or self.seconds)

    def request(self, function: str, arguments: tuple[Any, ...], seconds: float) -> Any:
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps([function, arguments]) + "\n")
            self.process.stdin.flush()
            line = self.replies.get(timeout=seconds)
        except (queue.Empty, OSError):
            line = ""
        if not line:
            self.end()
            raise TookTooLong(function)
        reply = json.loads(line)
        if "error" in reply:
            raise Failed(reply["error"])
        return reply["value"]

    def start(self) -> None:
        """Start the process where none runs, and a thread that reads its replies; "" is its end."""
        if self.process is None:
            self.prepared = set()
            self.process = process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, env={k: os.environ[k] for k in KEPT if k in os.environ},
            )  # fmt: skip
            replies: queue.Queue[str] = queue.Queue()
            self.replies = replies

            def read() -> None:
                assert process.stdout is not None
                for line in process.stdout:
                    replies.put(line)
                replies.put("")

            threading.Thread(target=read, daemon=True).start()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self.process = None

    def close(self) -> None:
        """End the process."""
        with self.lock:
            self.end()
