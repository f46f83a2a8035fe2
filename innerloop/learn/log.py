"""Training log: metrics.jsonl, a progress line in the terminal or now and then one elsewhere, and optional loggers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from innerloop import files
from innerloop.errors import InputError
from innerloop.text import markup

MAX_BYTES = 1 << 30  # largest metrics.jsonl that is read, bytes
TELL_SECONDS = 10.0  # between two lines of progress where there is no terminal
SINKS = ("tensorboard", "wandb", "trackio")


class Log:
    """metrics.jsonl always; TensorBoard, wandb or trackio on request; where `live` a rich progress line, or without a
    terminal a plain line every TELL_SECONDS.
    """

    def __init__(
        self, folder: Path, steps: int, start: int, live: bool, sinks: Iterable[str] = (), name: str = ""
    ) -> None:
        self.path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._drop_lines_after(start)
        self.sinks = [_sink(s, folder, name) for s in sinks]
        self.console = Console(emoji=False)
        self.steps, self.plain, self.told = steps, live and not self.console.is_terminal, time.monotonic()
        columns = [
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12),  # the whole line fits into 80 columns
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("loss {task.fields[loss]:.4f}, batch {task.fields[exact]:.0%} right"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        ]
        self.progress = Progress(*columns, console=self.console, disable=not live, transient=False)
        self.task = self.progress.add_task(
            markup(name or "train", 60), total=steps, completed=start, loss=0.0, exact=0.0
        )
        self.progress.start()

    def _drop_lines_after(self, step: int) -> None:
        """Drop the lines after `step`, which a resumed run repeats, so that each step has one line."""
        if not self.path.exists() and not self.path.is_symlink():
            return
        text = files.read_text(self.path, MAX_BYTES) if step and self.path.exists() else ""
        remaining = "".join(line + "\n" for line in text.splitlines() if 0 <= step_of(line) <= step)
        # A link is replaced, not followed: its target is another file.
        if remaining != text or not step or self.path.is_symlink():
            files.write_text(self.path, remaining)

    def step(self, done: float, loss: float, exact: float) -> None:
        """Update the progress line."""
        self.progress.update(self.task, completed=done, loss=loss, exact=exact)
        if self.plain and time.monotonic() - self.told >= TELL_SECONDS:
            self.told = time.monotonic()
            self.print(f"step {done:.0f} of {self.steps}: loss {loss:.4f}, batch {exact:.0%} right")

    def write(self, record: dict[str, Any]) -> None:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            with os.fdopen(handle, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise files.unwritable(self.path, error) from None
        for sink in self.sinks:
            sink({k: v for k, v in record.items() if isinstance(v, int | float)}, record["step"])

    def print(self, text: str, style: str = "") -> None:
        self.progress.console.print(Text(text, style=style), highlight=False)

    def close(self) -> None:
        self.progress.stop()


def step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; -1 for an incomplete line."""
    try:
        record = files.parse_json(line, "a line")
    except InputError:
        return -1
    step = record.get("step") if isinstance(record, dict) else None
    return step if type(step) in (int, float) else -1  # type: ignore[return-value]


def _sink(kind: str, folder: Path, name: str) -> Any:
    """A function (numbers, step) that logs a record there. Raises InputError if its package is missing."""
    try:
        if kind == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder / "tensorboard"))

            def add(numbers: dict[str, float], step: int) -> None:
                for name, value in numbers.items():
                    writer.add_scalar(name, value, step)

            return add
        if kind in ("wandb", "trackio"):
            module = __import__(kind)
            run = module.init(project="innerloop", name=name or folder.name)
            return lambda numbers, step: run.log(numbers, step=step)
    except ImportError:
        raise InputError(f"{kind} is requested but not installed: pip install {kind}") from None
    raise InputError(f'no logger is called "{kind}": use one of {", ".join(SINKS)}')
