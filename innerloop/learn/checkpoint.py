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
PIECE_NAME = re.compile(re.escape(STATE) + r"\.([0-9a-f]{12})\.(\d{1,6})")  # digest of the data state, index
MAX_STATE_BYTES = 1 << 30  # largest training state in one file, bytes: early versions wrote one file of any size
MAX_HEADER_BYTES = 64 << 20  # largest safetensors header, bytes
# Torch's error messages where memory runs out.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


# -- weights ----------------------------------------------------------------------------------------------------------


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as safetensors. Raises InputError, and keeps the old file, if a value is not finite."""
    plain = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    if bad := non_finite(plain):
        raise InputError(f"{files.shown(path)} is not written: {bad}; lower plan.lr or set plan.clip")
    files.write_bytes(path, save(plain, metadata))


def load_weights(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Load the weights of a safetensors file into `model`; returns them with their stored dtypes.

    The header is compared with the model before the rest is read. Floating dtypes are cast to the model's.
    Raises InputError for a file that is damaged, that is of another model, or whose numbers are not finite.
    """
    if not path.exists() and path.parent.is_dir():
        raise InputError(f"there is no {path.name} in {files.shown(path.parent)}: train first, or give another run")
    ours = model.state_dict()
    header, data_start = read_header(path)
    shapes = {k: list(v["shape"]) for k, v in header.items() if k != "__metadata__"}
    for name in sorted(ours.keys() ^ shapes.keys()) or [k for k, v in ours.items() if list(v.shape) != shapes[k]]:
        raise InputError(
            f"{files.shown(path)} was saved by a model of another configuration (it differs in {files.shown(name)})"
        )
    data = files.read_bytes(path, data_start + sum(8 * v.numel() for v in ours.values()))
    try:
        state = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise damaged(path, str(error)) from None
    if bad := mismatch(ours, state) or non_finite({k: v.to(ours[k].dtype) for k, v in state.items()}):
        raise damaged(path, bad)
    model.load_state_dict(state)
    return state


def damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{files.shown(path)} is damaged or not a safetensors file of weights ({files.shown(why)}): restore it, or "
        "resume the run to write it again"
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
        header = files.parse_json(text, "its header")
    except InputError as error:
        raise damaged(path, str(error)) from None
    start = 8 + length
    tensors = {k: v for k, v in header.items() if k != "__metadata__"} if isinstance(header, dict) else {"": None}
    ends = [start]
    for value in tensors.values():
        shape, span = (value.get(k) if isinstance(value, dict) else None for k in ("shape", "data_offsets"))
        if not whole_numbers(shape) or not whole_numbers(span) or len(span) != 2:
            raise damaged(path, "its header is not valid")
        ends.append(start + span[1])
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise damaged(path, "its header is not valid")
    if max(ends) != size:
        raise damaged(path, f"it has {size:,} bytes where its header says {max(ends):,}")
    return header, start


def whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def mismatch(ours: Mapping[str, Tensor], theirs: Any) -> str:
    """How `theirs` differs from `ours` in names, shapes or dtypes, as part of a sentence; empty if it does not."""
    if not isinstance(theirs, dict):
        return f"it is a {type(theirs).__name__}, not a dict of named tensors"
    for name in sorted(ours.keys() ^ theirs.keys(), key=str):
        return f"{name} is " + ("missing" if name in ours else "unknown")
    for name, expected in ours.items():
        tensor = theirs[name]
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            return f"{name} is not a plain tensor"
        if tensor.shape != expected.shape:
            return f"{name} has the shape {tuple(tensor.shape)} where this model has {tuple(expected.shape)}"
        if tensor.dtype != expected.dtype and not (tensor.is_floating_point() and expected.is_floating_point()):
            return f"{name} holds {str(tensor.dtype)[6:]} where this model has {str(expected.dtype)[6:]}"
    return ""


def non_finite(state: Mapping[str, Tensor]) -> str:
    """Which tensor holds a value that is not finite, as part of a sentence; empty if none does."""
    floats = {k: v for k, v in state.items() if v.is_floating_point() and v.numel()}
    if not floats:
        return ""
    device = next(iter(floats.values())).device
    finite = torch.stack([v.detach().isfinite().all().to(device) for v in floats.values()]).tolist()  # one sync
    return next((f"{k} has a value that is not finite" for k, ok in zip(floats, finite, strict=True) if not ok), "")


# -- training states --------------------------------------------------------------------------------------------------


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the whole training state atomically, so that a kill never leaves parts of two states.

    A state larger than PIECE_BYTES is cut into files of that size, as some hosts limit file sizes; STATE then lists
    them. The pieces are written first, and unlisted old pieces are removed last.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data, listed = buffer.getvalue(), []
    if len(data) > PIECE_BYTES:
        digest = hashlib.sha256(data).hexdigest()[:12]
        for i in range(0, len(data), PIECE_BYTES):
            listed.append(f"{STATE}.{digest}.{i // PIECE_BYTES}")
            files.write_bytes(folder / listed[-1], data[i : i + PIECE_BYTES])
        files.write_json(folder / STATE, listed)
    else:
        files.write_bytes(folder / STATE, data)
    for piece in pieces(folder):
        if piece.name not in listed:
            piece.unlink(missing_ok=True)


def pieces(folder: Path) -> list[Path]:
    """The piece files of a training state in `folder`, in any order."""
    return [path for path in folder.glob(f"{STATE}.*") if PIECE_NAME.fullmatch(path.name)]


def load_state(folder: Path) -> dict[str, Any] | None:
    """The saved training state; None if there is none.

    Raises InputError if it cannot be read, with the system's reason, or is damaged.
    """
    path = folder / STATE
    if not path.exists() and not path.is_symlink():
        return None
    data = files.read_bytes(path, MAX_STATE_BYTES)
    if data[:1] == b"[":
        data = join_pieces(folder, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(i.compress_type or i.file_size > len(data) for i in archive.infolist()):
                raise ValueError  # torch does not compress; a few compressed bytes could become gigabytes
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise files.unreadable(path, error) from None
    except Exception as error:
        if any(message in str(error).lower() for message in OUT_OF_MEMORY):
            raise files.unreadable(path, MemoryError("Cannot allocate memory")) from None
        raise state_damaged(path, type(error).__name__) from None
    if not isinstance(state, dict):
        raise state_damaged(path, f"it is a {type(state).__name__}")
    return state


def join_pieces(folder: Path, text: bytes) -> bytes:
    """The state joined from the pieces that `text` lists, checked against the hash in their names."""
    path = folder / STATE
    try:
        listed = files.parse_json(text, "its list of pieces")
    except InputError as error:
        raise state_damaged(path, str(error)) from None
    names = [PIECE_NAME.fullmatch(str(name)) for name in listed]
    digest = names[0][1] if names and names[0] else ""
    if not digest or any(m is None or m[1] != digest or int(m[2]) != i for i, m in enumerate(names)):
        raise state_damaged(path, "its list of pieces is not valid")
    for name in listed:
        if not (folder / name).exists():
            raise state_damaged(path, f"{name} is missing")
    data = b"".join(files.read_bytes(folder / name) for name in listed)
    if hashlib.sha256(data).hexdigest()[:12] != digest:
        raise state_damaged(path, "its pieces do not belong together")
    return data


def state_damaged(path: Path, why: str) -> InputError:
    return InputError(f"{files.shown(path)} is damaged ({files.shown(why)}): delete it to train from the start")


def unflatten(like: Any, flat: list[Tensor | None]) -> Any:
    """The inverse of `flatten`: a tree like `like`, on its devices and with its dtypes."""
    pairs = zip(flatten(like), flat, strict=True)
    return tree.unflatten(like, (None if saved is None else saved.to(t.device, t.dtype) for t, saved in pairs))
