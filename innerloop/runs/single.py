"""A run as one safetensors file: its weights, and the texts of its folder in the metadata; opening it runs nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop import files
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.runs import run as runs
from innerloop.runs.fit import model
from innerloop.runs.folder import Opened, known_task
from innerloop.runs.origin import IDENTIFIERS, numbered
from innerloop.show import records

FORMAT = "1"  # of a single file; a reader refuses a higher one
MARK, SUM, README = "innerloop", "sha256", "README.md"
TEXTS = ("run.json", "config.json", IDENTIFIERS, "result.json", "eval.json", "calibration.json", README)
SUFFIX = ".safetensors"


def open_single(path: Path | str, device: torch.device | str = "cpu") -> Opened:
    """The model of a single file, ready to evaluate; `folder` of what comes back is the file itself.

    Raises InputError for a file that is damaged, that another program wrote, or that a later version did.
    """
    path = Path(path)
    metadata, name = read_texts(path), f"the run.json in {files.shown(path)}"
    run = runs.read_run(files.parse_json(metadata["run.json"], name), name)
    task = known_task(run, name)
    loop = model(run, path)
    if digest(checkpoint.load_weights(path, loop)) != metadata.get(SUM):
        raise InputError(f"{files.shown(path)} is damaged (its weights do not have their checksum): get it again")
    return Opened(run, loop.to(device).eval(), task, path)


def read_texts(path: Path) -> dict[str, str]:
    """The texts in a single file; its weights are not read."""
    metadata = checkpoint.read_header(path)[0].get("__metadata__", {})
    name = files.shown(path)
    if MARK not in metadata or "run.json" not in metadata:
        raise InputError(f"{name} holds weights but no run: write it with innerloop export RUN --single FILE")
    if metadata[MARK] != FORMAT:
        held = files.shown(metadata[MARK])
        raise InputError(f"{name} is of format {held}, this version reads {FORMAT}: install a later one")
    return {name: metadata[name] for name in (*TEXTS, SUM) if name in metadata}


def digest(state: dict[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes of all tensors, by name."""
    total = hashlib.sha256()
    for key, value in sorted(state.items()):
        total.update(f"{key} {value.dtype} {tuple(value.shape)} ".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def note(opened: Opened, name: str, checked: bool = True) -> Any:
    """The JSON of that name that goes with a model, wherever it was opened from, such as eval.json; None without.

    Where it is not `checked`, whoever asks looks at each part of it.
    """
    if opened.folder.is_file():
        text = read_texts(opened.folder).get(name)
        where, value = f"the {name} of {files.shown(opened.folder)}", None
        if text is not None:
            value = files.parse_json(text, where)
    else:
        path = opened.folder / name
        where, value = files.shown(path), files.read_json(path) if path.exists() else None
    return value if value is None or not checked else records.checked(name, value, where)


def parsed(name: str, text: str, source: Path) -> Any:
    """The JSON of that name that goes with a model, from its text."""
    where = f"the {name} of {files.shown(source)}"
    return records.checked(name, files.parse_json(text, where), where)


def by_name(opened: Opened, examples: Any) -> Any:
    """A PuzzleSet with the puzzle identifiers of this model: a puzzle of a name has the row that the name learned.

    Raises InputError for puzzles whose name the model has not learned. A model without a table of identifiers takes
    any; one whose names are not kept, as in older runs, goes by number.
    """
    config = getattr(opened.run.config, "net", None)
    if config is None or not config.puzzle_emb_size:
        return examples
    names = note(opened, IDENTIFIERS)
    if isinstance(names, list) and len(names) == config.puzzles and all(isinstance(n, str) for n in names):
        return numbered(examples, tuple(names))
    if int(examples.puzzle.max()) >= config.puzzles:
        raise InputError(
            f"{examples.source} has puzzle identifiers up to {int(examples.puzzle.max())}, but this run learned only "
            f"{config.puzzles}: give puzzles it was trained with"
        )
    return examples
