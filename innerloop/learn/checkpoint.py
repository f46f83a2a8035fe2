"""Reading and writing weights and training states: written atomically, checked before they are used."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from innerloop import files, tree
from innerloop.errors import InputError
from innerloop.tree import flatten

STATE = "train_state.pt"
MODEL = "model.safetensors"
PIECE_BYTES = 15 << 20  # largest file of a training state, bytes
PIECE_NAME = re.compile(
    re.escape(STATE) + r"\.([0-9a-f]{12})\.(\d{1,6})"
)  # name of a piece: hash of the whole state, index
MAX_STATE_BYTES = 1 << 30  # largest training state in one file, bytes: early versions wrote no pieces
MAX_HEADER_BYTES = 64 << 20  # largest safetensors header, bytes
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
)  # torch's error messages where memory runs out


# -- weights ----------------------------------------------------------------------------------------------------------


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as safetensors. Raises InputError, and keeps the old file, if a value is not finite."""
    plain = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    if bad := non_finite(plain):
        raise InputError(f"{files.shown(path)} is not written: {bad}; lower plan.lr or set plan.clip")
    files.write_bytes(path, save(plain, metadata))


def load_weights(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Load the weights of a safetensors file into `model`; returns them with their stored dtypes.

    The header is compared with the model before the rest is read. Floating dtypes are cast to the model's own.
    Raises InputError for a file that is damaged, that is of another model, or whose numbers are not finite.
    """
    if not path.exists() and path.parent.is_dir():
        raise InputError(f"there is no {path.name} in {files.shown(path.parent)}: train first, or give another run")
    ours = model.state_dict()
    held, first = read_header(path)
    sizes = {k: list(v["shape"]) for k, v in held.items() if k != "__metadata__"}
    for name in sorted(ours.keys() ^ sizes.keys()) or [k for k, v in ours.items() if list(v.shape) != sizes[k]]:
        raise InputError(
            f"{files.shown(path)} was saved by a model of another configuration (it differs in {files.shown(name)})"
        )
    whole = files.read_bytes(path, first + sum(8 * v.numel() for v in ours.values()))
    try:
        state = load(whole)
    except (SafetensorError, ValueError, KeyError) as error:
        raise damaged(path, str(error)) from None
    if bad := mismatch(ours, state) or non_finite({k: v.to(ours[k].dtype) for k, v in state.items()}):
        raise damaged(path, bad)
    model.load_state_dict(state)
    return state


def damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{files.shown(path)} is damaged or no safetensors file of weights ({files.shown(why)}): restore it, or "
        "resume the run to write it anew"
    )


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """(header of a safetensors file: name -> shape, dtype, offsets, and "__metadata__" if there; its length in bytes).

    Raises InputError for any other file, and where the tensors do not fill the rest of the file exactly.
    """
    try:
        with files.open_regular(path) as file:
            size, start = file.seek(0, 2), file.seek(0)
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            text = file.read(length) if length <= min(MAX_HEADER_BYTES, size - 8) else b""
    except (OSError, MemoryError) as error:
        raise files.unreadable(path, error) from None
    try:
        held = files.parse_json(text, "its header")
    except InputError as error:
        raise damaged(path, str(error)) from None
    start = 8 + length
    tensors = {k: v for k, v in held.items() if k != "__metadata__"} if isinstance(held, dict) else {"": None}
    ends = [start]
    for value in tensors.values():
        shape, span = (value.get(k) if isinstance(value, dict) else None for k in ("shape", "data_offsets"))
        if not whole_numbers(shape) or not whole_numbers(span) or len(span) != 2:
            raise damaged(path, "its header is of another kind")
        ends.append(start + span[1])
    metadata = held.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise damaged(path, "its header is of another kind")
    if max(ends) != size:
        raise damaged(path, f"it has {size:,} bytes where its header tells of {max(ends):,}")
    return held, start


def whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def mismatch(ours: Mapping[str, Tensor], theirs: Any) -> str:
    """How `theirs` differs from `ours` in names, shapes or dtypes, as part of a sentence; empty if it does not."""
    if not isinstance(theirs, dict):
        return f"where named tensors are due it holds a {type(theirs).__name__}"
    for name in sorted(ours.keys() ^ theirs.keys(), key=str):
        return f"{name} is " + ("missing" if name in ours else "not known")
    for name, own in ours.items():
        found = theirs[name]
        if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_meta or found.is_quantized:
            return f"{name} is no plain tensor"
        if found.shape != own.shape:
            return f"{name} has the shape {tuple(found.shape)} where this model has {tuple(own.shape)}"
        if found.dtype != own.dtype and not (found.is_floating_point() and own.is_floating_point()):
            return f"{name} holds {str(found.dtype)[6:]} where this model has {str(own.dtype)[6:]}"
    return ""


def non_finite(state: Mapping[str, Tensor]) -> str:
    """Which tensor holds a value that is not finite, as part of a sentence; empty if none does."""
    floats = {k: v for k, v in state.items() if v.is_floating_point() and v.numel()}
    if not floats:
        return ""
    first = next(iter(floats.values())).device
    fine = torch.stack([v.detach().isfinite().all().to(first) for v in floats.values()]).tolist()  # one sync
    return next((f"{k} holds a number that is not finite" for k, ok in zip(floats, fine, strict=True) if not ok), "")


# -- training states --------------------------------------------------------------------------------------------------


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the whole training state atomically, so that a kill never leaves parts of two states.

    A state larger than PIECE_BYTES is cut into files of that size, as some hosts limit file sizes; STATE then lists
    them. The pieces are written first, and unlisted old pieces are removed last.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    whole, listed = buffer.getvalue(), []
    if len(whole) > PIECE_BYTES:
        mark = hashlib.sha256(whole).hexdigest()[:12]
        for i in range(0, len(whole), PIECE_BYTES):
            listed.append(f"{STATE}.{mark}.{i // PIECE_BYTES}")
            files.write_bytes(folder / listed[-1], whole[i : i + PIECE_BYTES])
        files.write_json(folder / STATE, listed)
    else:
        files.write_bytes(folder / STATE, whole)
    for piece in pieces(folder):
        if piece.name not in listed:
            piece.unlink(missing_ok=True)


def pieces(folder: Path) -> list[Path]:
    """The piece files of a training state in `folder`, in no order."""
    return [path for path in folder.glob(f"{STATE}.*") if PIECE_NAME.fullmatch(path.name)]


def load_state(folder: Path) -> dict[str, Any] | None:
    """The latest training state, or None where training has not saved one yet.

    Raises InputError if it cannot be read, with the system's reason, or is damaged.
    """
    path = folder / STATE
    if not path.exists() and not path.is_symlink():
        return None
    whole = files.read_bytes(path, MAX_STATE_BYTES)
    if whole[:1] == b"[":
        whole = join_pieces(folder, whole)
    try:
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            if any(i.compress_type or i.file_size > len(whole) for i in archive.infolist()):
                raise ValueError  # torch does not compress; a few compressed bytes could become gigabytes
        state = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise files.unreadable(path, error) from None
    except Exception as error:
        if any(said in str(error).lower() for said in OUT_OF_MEMORY):
            raise files.unreadable(path, MemoryError("Cannot allocate memory")) from None
        raise state_damaged(path, type(error).__name__) from None
    if not isinstance(state, dict):
        raise state_damaged(path, f"it holds a {type(state).__name__}")
    return state


def join_pieces(folder: Path, text: bytes) -> bytes:
    """The state joined from the pieces that `text` lists, checked against the hash in their names."""
    path = folder / STATE
    try:
        listed = files.parse_json(text, "its list of pieces")
    except InputError as error:
        raise state_damaged(path, str(error)) from None
    found = [PIECE_NAME.fullmatch(str(name)) for name in listed]
    mark = found[0][1] if found and found[0] else ""
    if not mark or any(m is None or m[1] != mark or int(m[2]) != i for i, m in enumerate(found)):
        raise state_damaged(path, "its list of pieces is of another kind")
    for name in listed:
        if not (folder / name).exists():
            raise state_damaged(path, f"{name} is missing")
    whole = b"".join(files.read_bytes(folder / name) for name in listed)
    if hashlib.sha256(whole).hexdigest()[:12] != mark:
        raise state_damaged(path, "its pieces do not belong together")
    return whole


def state_damaged(path: Path, why: str) -> InputError:
    return InputError(f"{files.shown(path)} is damaged ({files.shown(why)}): delete it to train from the start")


def unflatten(like: Any, flat: list[Tensor | None]) -> Any:
    """The inverse of `flatten`: a tree like `like`, on its devices and with its dtypes."""
    pairs = zip(flatten(like), flat, strict=True)
    return tree.unflatten(like, (None if kept is None else kept.to(t.device, t.dtype) for t, kept in pairs))
