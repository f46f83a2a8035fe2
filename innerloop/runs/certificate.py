"""Birth certificate of a result (its provenance): command, commit, versions, hardware, seeds."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

COMMAND_VARIABLE = "INNERLOOP_COMMAND"  # of the environment: the command whose process started this one


def birth_certificate(seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Provenance of a result: command, commit, versions, hardware, seeds."""
    cuda = torch.cuda.is_available()
    return {
        "command": typed_command(),
        "commit": commit(),
        "seeds": list(seeds),
        "innerloop": version("innerloop"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": memory_gib(),
    } | ({"gpu_memory_gib": gib(torch.cuda.get_device_properties().total_memory)} if cuda else {})


def typed_command() -> str:
    """The command that the user typed, absolute paths cut to file names; also in a process that it started."""
    if started_by := os.environ.get(COMMAND_VARIABLE):
        return started_by
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [""]
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    if words[0] == "__main__.py" and module is not None:
        words[:1] = ["python", "-m", module.parent]
    return shlex.join(re.sub(r"(^|=)/.*/(?=[^/]+/*$)", r"\1", word) for word in words)


@cache
def commit() -> str:
    """The checkout's commit when it was first asked for, "+" where its code had changes, or "" outside one.

    Cached when work begins, so that a result which takes hours names the code that made it. Other results are no code.
    """
    return commit_of(Path(__file__).parents[2])


def commit_of(root: Path) -> str:
    """The commit of the checkout at `root`, as `commit` says it."""
    if not (root / ".git").exists():  # installed, perhaps into a folder of somebody else's checkout
        return ""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)

    try:
        changed = git("diff", "--quiet", "HEAD", "--", ".", ":(exclude)results", ":(exclude)docs").returncode
        return git("rev-parse", "--short", "HEAD").stdout.strip() + "+" * (changed == 1)
    except OSError:
        return ""


def gib(size: int) -> float:
    return round(size / (1 << 30), 1)


def memory_gib() -> float | None:
    """Memory of this machine; None where the system does not say."""
    try:
        return gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError, AttributeError):
        return None


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
