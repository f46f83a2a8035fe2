"""A local server as a subprocess, for a script, a notebook or a test; it ends with the context manager.

with running("runs/demo") as server:
    print(server.client.solve(puzzle).answer)
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from innerloop.errors import InputError
from innerloop.serve.client import Client

__all__ = ["LocalServer", "running"]


@dataclass
class LocalServer:
    """A process that serves at `url`."""

    url: str
    process: subprocess.Popen[str]
    stderr: IO[str]
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.url)

    def stop(self, seconds: float = 60.0) -> int:
        """Send SIGTERM and wait; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def log(self) -> str:
        """What it wrote to its standard error so far."""
        self.stderr.seek(0)
        return self.stderr.read()


@contextlib.contextmanager
def running(*runs: Any, timeout: float = 120.0, **flags: Any) -> Iterator[LocalServer]:
    """`innerloop serve RUNS` on a free port, with flags such as queue=100. Raises InputError where it does not start.

    timeout  seconds until it must be ready
    """
    options = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "innerloop.cli", "serve", *map(str, runs), "--port", "0", *options]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        timer = threading.Timer(timeout, process.kill)
        try:
            assert process.stdout is not None
            timer.start()
            line = process.stdout.readline()  # one line once it is ready; empty if it ends before
            timer.cancel()
            if " at http" not in line:
                process.wait(10)
                stderr.seek(0)
                raise InputError(
                    stderr.read().strip().removeprefix("error: ") or "the server ended before it was ready"
                )
            local = LocalServer(line.split()[-1], process, stderr)
            try:
                yield local
            finally:
                local.client.close()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if process.stdout is not None:
                process.stdout.close()
