"""Save a run as one safetensors file, as a folder with a card, or to a Hugging Face repository.

A single file is safetensors. Its tensors are the weights; its metadata holds the texts of a run's folder under their
own names (run.json with the birth certificate, config.json, result.json, eval.json and calibration.json where there
are, and README.md, the card), and a checksum of the weights. It holds numbers and JSON, no code.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop import files
from innerloop.core import think
from innerloop.errors import InputError
from innerloop.export.card import card
from innerloop.learn import checkpoint
from innerloop.learn.evaluate import batches
from innerloop.runs import run as runs
from innerloop.runs.folder import OpenedRun, open_run
from innerloop.runs.single import (
    CHECKSUM_KEY,
    FORMAT,
    FORMAT_KEY,
    README,
    SUFFIX,
    TEXTS,
    digest,
    parse_attached,
    read_texts,
)
from innerloop.text import printable

__all__ = [  # noqa: F822 -- Pretrained is made by __getattr__
    "Pretrained",
    "count_changed",
    "model_texts",
    "save_folder",
    "save_single",
    "stored_copy",
]

STORAGE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


# -- one file ---------------------------------------------------------------------------------------------------------


def save_single(opened: OpenedRun, path: Path | str, dtype: str = "float32") -> None:
    """Write a trained model as one file, NAME.safetensors, whole or not at all.

    `dtype` is that of the stored weights: float32, or bfloat16 or float16, at half the size; whatever it is, they are
    float32 again when opened, and `changed(opened, narrowed(opened, dtype), ...)` says what that does to answers.
    Raises InputError.
    """
    path, kind = Path(path), storage_dtype(dtype)
    if path.suffix != SUFFIX:
        raise InputError(f"{path} does not end in {SUFFIX}: name the file NAME{SUFFIX}")
    state = {k: cast(v, kind).cpu().contiguous() for k, v in opened.loop.state_dict().items()}
    metadata = model_texts(opened) | {FORMAT_KEY: FORMAT, CHECKSUM_KEY: digest(state)}
    checkpoint.save_weights(path, state, metadata)


def storage_dtype(dtype: str) -> torch.dtype:
    if dtype not in STORAGE_DTYPES:
        raise InputError(f'weights are not stored as "{dtype}": use one of {", ".join(STORAGE_DTYPES)}')
    return STORAGE_DTYPES[dtype]


def cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to(dtype) if value.is_floating_point() else value.detach()


def stored_copy(opened: OpenedRun, dtype: str) -> OpenedRun:
    """The model as it will be once stored in `dtype` and opened again."""
    kind, loop = storage_dtype(dtype), copy.deepcopy(opened.loop)
    loop.load_state_dict({k: cast(v, kind) for k, v in loop.state_dict().items()})
    return opened._replace(loop=loop)


def model_texts(opened: OpenedRun) -> dict[str, str]:
    """The texts that go with a model, by file name; a card is written where none is there."""
    if opened.folder.is_file():
        found = {name: text for name, text in read_texts(opened.folder).items() if name in TEXTS}
    else:
        there = {name: opened.folder / name for name in TEXTS}
        found = {name: files.read_text(path) for name, path in there.items() if path.is_file()}
    if "run.json" not in found:
        raise InputError(f"there is no run.json in {opened.folder}: give a model that was opened from a run")
    found["run.json"] = without_paths(found["run.json"])
    value = runs.to_json(opened.run)
    found.setdefault("config.json", json.dumps({"system": opened.run.system, "config": value["config"]}, indent=2))
    if README not in found:
        found[README] = card(
            opened, {k: parse_attached(k, v, opened.folder) for k, v in found.items() if k.endswith(".json")}
        )
    return found


def without_paths(text: str) -> str:
    """run.json without where its data lie, as seen from a folder that a shared model has left."""
    value = files.parse_json(text, "run.json")
    if not isinstance(value, dict) or not (isinstance(value.get("data"), dict) and value["data"].get("paths")):
        return text
    return json.dumps(value | {"data": value["data"] | {"paths": {}}}, indent=2) + "\n"


@torch.no_grad()
def count_changed(opened: OpenedRun, again: OpenedRun, examples: Any, depth: int, batch: int = 256) -> int:
    """How many of `examples` the two answer differently after `depth` steps."""
    answers = []
    for loop in (opened.loop, again.loop):
        device = next(loop.parameters()).device
        found = [think(loop, x, depth).answer.logits.argmax(-1).cpu() for _, x in batches(examples, batch, device)]
        answers.append(torch.cat(found))
    return int((answers[0] != answers[1]).any(1).sum())


# -- a folder, and a repository ---------------------------------------------------------------------------------------


def save_folder(opened: OpenedRun, folder: Path | str) -> None:
    """Write a model as a run's folder with a card; a README.md that is there already stays."""
    folder, found = Path(folder), model_texts(opened)
    there = folder / "run.json"
    if there.is_file() and files.read_json(there).get("run") != files.parse_json(found["run.json"], "run.json")["run"]:
        raise InputError(f"{folder} holds another run: give a new folder, or delete that one")
    if not there.is_file() and (folder / checkpoint.MODEL).exists():
        raise InputError(f"{folder} holds another model: give a new folder, or delete that one")
    for name, text in found.items():
        if name != README or not (folder / name).exists():
            files.write_text(folder / name, text)
    checkpoint.save_weights(folder / checkpoint.MODEL, opened.loop.state_dict())


@cache
def hub_class() -> Any:
    """The class Pretrained, made when it is first asked for: huggingface_hub is an extra."""
    try:
        from huggingface_hub import ModelHubMixin, snapshot_download
    except ImportError:
        raise InputError("this needs huggingface_hub: pip install 'innerloop[hub]'") from None

    class Pretrained(ModelHubMixin, library_name="innerloop"):
        """A trained loop with its task and its run, in the form the Hugging Face hub knows.

        Pretrained(open_run(FOLDER)), or from_pretrained(FOLDER or "owner/name", device="cpu"). save_pretrained(FOLDER)
        writes a run's folder (save_folder), and push_to_hub("owner/name") the same to a repository. Only JSON and
        safetensors are fetched and read. Raises InputError where a repository cannot be reached or holds no run.
        """

        def __init__(self, opened: OpenedRun) -> None:
            self.opened = opened
            self.loop, self.task, self.run = opened.loop, opened.task, opened.run

        def _save_pretrained(self, save_directory: Path) -> None:
            save_folder(self.opened, save_directory)

        @classmethod
        def from_pretrained(cls, pretrained_model_name_or_path: Any, **how: Any) -> Any:
            return call_hub(super().from_pretrained, pretrained_model_name_or_path, **how)

        def push_to_hub(self, repo_id: str, **how: Any) -> Any:
            return call_hub(super().push_to_hub, repo_id, **how)

        @classmethod
        def _from_pretrained(cls, *, model_id: str, device: torch.device | str = "cpu", **how: Any) -> Any:
            if Path(model_id).is_dir():
                return cls(open_run(model_id, device))
            folder = snapshot_download(model_id, allow_patterns=[*TEXTS, checkpoint.MODEL], **how)
            return cls(open_run(folder, device))

    return Pretrained


def call_hub(call: Callable[..., Any], name: Any, **how: Any) -> Any:
    """Call the hub's client. It raises a dozen kinds of error, its own and the system's: they become one sentence."""
    try:
        return call(name, **how)
    except InputError:
        raise
    except Exception as error:
        why = printable(next((line for line in str(error).splitlines() if line.strip()), ""), 200)
        raise InputError(
            f"the hub could not serve {name} ({type(error).__name__}: {why}): check the name, the network, and that "
            "you are logged in (hf auth login)"
        ) from None


def __getattr__(name: str) -> Any:
    if name == "Pretrained":
        return hub_class()
    raise AttributeError(f"{__name__} has no {name!r}")
