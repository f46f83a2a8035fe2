"""A run as one safetensors file: its weights, and the text files of its folder in the metadata. It holds no code."""

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
from innerloop.runs.code import NO_CODE, Code, permitted
from innerloop.runs.fit import build_model
from innerloop.runs.folder import OpenedRun, known_task
from innerloop.runs.origin import IDENTIFIERS, renumber_identifiers
from innerloop.show import records

FORMAT = "1"  # of a single file; a reader refuses a higher one
FORMAT_KEY, CHECKSUM_KEY, README = "innerloop", "sha256", "README.md"
TEXTS = ("run.json", "config.json", IDENTIFIERS, "result.json", "eval.json", "calibration.json", README)
SUFFIX = ".safetensors"


def open_single(path: Path | str, device: torch.device | str = "cpu", code: Code = NO_CODE) -> OpenedRun:
    """The model of a single file, ready to evaluate; `folder` of what comes back is the file itself.

    code: a task or system of the user's own in place of the run's; the file holds none.

    Raises InputError for a file that is damaged, that another program wrote, or that a later version did.
    """
    path = Path(path)
    metadata, name = read_texts(path), f"the run.json in {files.shown(path)}"
    value = files.parse_json(metadata["run.json"], name)
    run = runs.read_run(permitted(value, path, code, name), name)
    task = known_task(run, value, name)
    loop = build_model(run, path)
    if digest(checkpoint.load_weights(path, loop)) != metadata.get(CHECKSUM_KEY):
        raise InputError(f"{files.shown(path)} is damaged (its weights do not have their checksum): get it again")
    return OpenedRun(run, loop.to(device).eval(), task, path)


def read_texts(path: Path) -> dict[str, str]:
    """The texts in a single file; its weights are not read."""
    metadata = checkpoint.read_header(path)[0].get("__metadata__", {})
    name = files.shown(path)
    if FORMAT_KEY not in metadata or "run.json" not in metadata:
        raise InputError(f"{name} holds weights but no run: write it with innerloop export RUN --single FILE")
    if metadata[FORMAT_KEY] != FORMAT:
        held = files.shown(metadata[FORMAT_KEY])
        raise InputError(f"{name} is of format {held}, this version reads {FORMAT}: install a later one")
    return {name: metadata[name] for name in (*TEXTS, CHECKSUM_KEY) if name in metadata}


def digest(state: dict[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes of all tensors, by name."""
    total = hashlib.sha256()
    for key, value in sorted(state.items()):
        total.update(f"{key} {value.dtype} {tuple(value.shape)} ".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def read_attached(opened: OpenedRun, name: str, checked: bool = True) -> Any:
    """The JSON file `name`, such as eval.json, of a model opened from a folder or a single file; None without it.

    Not `checked`: its schema is not validated, the caller must check each part.
    """
    if opened.folder.is_file():
        text = read_texts(opened.folder).get(name)
        where, value = f"the {name} of {files.shown(opened.folder)}", None
        if text is not None:
            value = files.parse_json(text, where)
    else:
        path = opened.folder / name
        where, value = files.shown(path), files.read_json(path) if path.exists() else None
    return value if value is None or not checked else records.check_record(name, value, where)


def parse_attached(name: str, text: str, source: Path) -> Any:
    """JSON and schema check of the text of the file `name`."""
    where = f"the {name} of {files.shown(source)}"
    return records.check_record(name, files.parse_json(text, where), where)


def names_of(opened: OpenedRun) -> tuple[str, ...]:
    """Names of the puzzle identifiers that a model learned, by number; empty where none were kept."""
    names, config = read_attached(opened, IDENTIFIERS), getattr(opened.run.config, "net", None)
    fine = isinstance(names, list) and config is not None and len(names) == config.puzzles
    return tuple(names) if fine and all(isinstance(n, str) for n in names) else ()


def match_identifiers(opened: OpenedRun, examples: Any) -> Any:
    """A PuzzleSet with the puzzle identifiers of this model: each name gets the embedding row that it was trained with.

    Raises InputError for puzzles whose name the model has not learned. A model without a table of identifiers takes
    any; one whose names are not kept, as in older runs, goes by number.
    """
    config = getattr(opened.run.config, "net", None)
    if config is None or not config.puzzle_emb_size:
        return examples
    if names := names_of(opened):
        return renumber_identifiers(examples, names)
    if int(examples.puzzle.max()) >= config.puzzles:
        raise InputError(
            f"{examples.source} has puzzle identifiers up to {int(examples.puzzle.max())}, but this run learned only "
            f"{config.puzzles}: give puzzles it was trained with"
        )
    return examples
