"""Official HRM and TRM checkpoints and configurations, both ways.

Keys and shapes: sapientinc/HRM @42410da and SamsungSAILMontreal/TinyRecursiveModels @e7b6871. A checkpoint of
their trainer has `_orig_mod.` (compiled) and `model.` before the inner model's `inner.`; EMA weights are saved
under the same keys.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from innerloop import files
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.text import printable
from innerloop.weights import hrm, trm

PREFIX = re.compile(r"^(_orig_mod\.)?(model\.)?(_orig_mod\.)?inner\.")

TRAINING_BUFFERS = ("local_weights", "local_ids")  # buffers of the official embedding of puzzles, which training fills

# ours <-> theirs, applied in order to a whole key
RENAMES = (
    ("embed.tokens.weight", "embed_tokens.embedding_weight"),
    ("embed.places.weight", "embed_pos.embedding_weight"),
    ("embed.puzzles.weight", "puzzle_emb.weights"),
    ("heads.tokens.weight", "lm_head.weight"),
    ("heads.q.", "q_head."),
    (".mix.qkv.", ".self_attn.qkv_proj."),
    (".mix.out.", ".self_attn.o_proj."),
    (".mix.mlp.up.", ".mlp_t.gate_up_proj."),
    (".mix.mlp.down.", ".mlp_t.down_proj."),
    (".mlp.up.", ".mlp.gate_up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
    (".blocks.", ".layers."),
)
SYSTEM_RENAMES = {
    "trm": (("net.", "L_level."), ("y0", "H_init"), ("z0", "L_init")),
    "hrm": (("low.", "L_level."), ("high.", "H_level."), ("h0", "H_init"), ("l0", "L_init")),
}


def to_official(system: str, key: str) -> str:
    """Our state-dict key -> theirs, from `inner.` on."""
    for ours, theirs in SYSTEM_RENAMES[system]:
        if key == ours or (ours.endswith(".") and key.startswith(ours)):
            key = theirs + key.removeprefix(ours)
    for ours, theirs in RENAMES:
        key = key.replace(ours, theirs)
    return "inner." + key


def from_official(system: str, state: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their state -> ours, checked against the state dict `like` of a model of the same configuration.

    Initial states become float32 as ours are. Raises InputError naming the first missing, unknown or misshapen key.
    """
    theirs = {"inner." + PREFIX.sub("", k): v for k, v in state.items() if not k.endswith(TRAINING_BUFFERS)}
    wanted = {to_official(system, key): key for key in like}
    for key in sorted(wanted.keys() - theirs.keys()):
        raise InputError(f"the checkpoint lacks {key}: it is not a {system.upper()} of this configuration")
    for key in sorted(theirs.keys() - wanted.keys()):
        shown = printable(key, 80)
        raise InputError(f"the checkpoint holds {shown}, which a {system.upper()} of this configuration has not")
    ours = {wanted[key]: value.to(like[wanted[key]].dtype) for key, value in theirs.items()}
    for key, value in ours.items():
        if value.shape != like[key].shape:
            shapes = f"{tuple(value.shape)}, this configuration {tuple(like[key].shape)}"
            raise InputError(
                f"in the checkpoint {to_official(system, key)} is {shapes}: give the configuration it was trained with"
            )
    return ours


def config_from_official(arch: dict[str, Any], rows: int = 1) -> tuple[str, hrm.Config | trm.Config]:
    """Their architecture dictionary (all_config.yaml's `arch` with the data's sizes) -> system name and our Config."""
    system = "hrm" if arch.get("H_layers", 0) else "trm"
    if system == "trm" and not arch.get("no_ACT_continue", True):
        raise InputError("no_ACT_continue is false, which the official TRM cannot train either: set it to true")
    width = arch["hidden_size"]
    prefix = arch.get("puzzle_emb_len", 0) or -(-arch["puzzle_emb_ndim"] // width)
    size = NetConfig(
        vocab=arch["vocab_size"],
        seq=arch["seq_len"],
        rows=rows,
        hidden_size=width,
        heads=arch["num_heads"],
        layers=arch["L_layers"],
        expansion=arch["expansion"],
        block="tokens" if arch.get("mlp_t", False) else "attention",
        positions={"rope": "rope", "learned": "learned"}.get(arch["pos_encodings"], "none"),
        puzzles=arch["num_puzzle_identifiers"],
        prefix=prefix,
        puzzle_emb_size=arch["puzzle_emb_ndim"],
    )
    cycles, low, dtype = arch["H_cycles"], arch["L_cycles"], arch["forward_dtype"]
    if system == "hrm":
        if arch["H_layers"] != arch["L_layers"]:
            raise InputError("H_layers and L_layers differ: only HRM with equal depths of both nets is known here")
        return system, hrm.Config(size, cycles, low, dtype=dtype)
    return system, trm.Config(size, cycles, low, dtype=dtype)


def read_checkpoint(path: str) -> dict[str, Tensor]:
    """A checkpoint's tensors, unpickled with weights_only=True. Raises InputError for anything else."""
    shown = files.shown(path)
    with files.open_regular(path) as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, MemoryError) as error:
            raise files.unreadable(path, error) from None
        except Exception as error:
            raise InputError(
                f"{shown} is not a readable checkpoint of tensors ({type(error).__name__}): it may be truncated"
            ) from None
    named = isinstance(state, dict) and all(isinstance(k, str) for k in state)
    if not named or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{shown} does not hold a state dict of tensors: give the file the official trainer saved")
    for key, value in state.items():
        if not key.endswith(TRAINING_BUFFERS) and not is_dense_float(value):
            raise InputError(
                f"{shown} holds {printable(key, 80)} as {value.dtype}, {value.layout} on {value.device}: weights are "
                "dense floating-point tensors, so give the file the official trainer saved"
            )
    return dict(state)


def is_dense_float(value: Tensor) -> bool:
    """Whether a tensor is dense, of floating-point numbers, and holds all of them."""
    return value.is_floating_point() and value.layout == torch.strided and value.device.type == "cpu"
