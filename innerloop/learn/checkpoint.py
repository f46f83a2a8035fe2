"""A run is a folder. Every file in it is written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from innerloop import tree
from innerloop.errors import InputError
from innerloop.tree import flatten

STATE = "train_state.pt"
MODEL = "model.safetensors"
PIECE = 15 << 20  # bytes of a file of training state at most


def write(path: Path, put: Callable[[Path], object]) -> None:
    """Let `put` write a neighbour of `path`, then rename it into place: a reader sees the old file or the new.

    Raises InputError where the disk is full or the folder may not be written; the old file stays.
    """
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        beside = Path(name)
        put(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        beside.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        if beside is not None:
            beside.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path} cannot be written ({why}): free space there or choose another folder") from error


def write_json(path: Path, value: Any) -> None:
    write(path, lambda p: p.write_text(json.dumps(value, indent=2) + "\n"))


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"there is no {path.name} in {path.parent}: give the folder of a run") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}): it is damaged or not a run's file") from None


def save_weights(path: Path, state: dict[str, Tensor]) -> None:
    plain = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    write(path, lambda p: p.write_bytes(save(plain)))


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a safetensors file into `model`. Raises InputError if they are damaged or do not fit."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise InputError(f"there is no {path.name} in {path.parent}: train first, or give another run") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): restore it, or resume the run to write it anew") from None
    ours = model.state_dict()
    wrong = sorted(ours.keys() ^ state.keys()) or [k for k in ours if ours[k].shape != state[k].shape]
    if wrong:
        raise InputError(f"{path} was saved by a model of another configuration (it differs in {wrong[0]})")
    model.load_state_dict(state)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Everything a resumed run needs, under one name, so that no kill can leave halves that do not match.

    What is larger than PIECE is cut into pieces of that size, which some places take better; the file of that name
    then lists them. They are written first, and what nothing lists any more is removed last.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    whole, listed = buffer.getvalue(), []
    if len(whole) > PIECE:
        mark = hashlib.sha256(whole).hexdigest()[:12]
        for i in range(0, len(whole), PIECE):
            listed.append(f"{STATE}.{mark}.{i // PIECE}")
            write(folder / listed[-1], partial(Path.write_bytes, data=whole[i : i + PIECE]))
        whole = json.dumps(listed).encode()
    write(folder / STATE, lambda p: p.write_bytes(whole))
    for piece in pieces(folder):
        if piece.name not in listed:
            piece.unlink()


def pieces(folder: Path) -> list[Path]:
    """The files that a training state was cut into, in no order."""
    return list(folder.glob(f"{STATE}.*"))


def load_state(folder: Path) -> dict[str, Any] | None:
    """The latest training state, or None where training has not saved one yet."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        whole = path.read_bytes()
        if whole[:1] == b"[":
            whole = b"".join((folder / name).read_bytes() for name in json.loads(whole))
        return torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}): delete it to train from the start") from None


def unflatten(like: Any, flat: list[Tensor | None]) -> Any:
    """The leaves that `flatten` gave in the shape of `like`, on its device and of its dtypes."""
    pairs = zip(flatten(like), flat, strict=True)
    return tree.unflatten(like, (None if kept is None else kept.to(t.device, t.dtype) for t, kept in pairs))
