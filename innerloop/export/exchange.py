"""Import official HRM and TRM checkpoints as runs, and export runs as official checkpoints; weights stay bit-equal.

What a checkpoint does not hold (heads, cycles, positions) comes from its all_config.yaml, or is assumed to be as in the
published configurations; each assumption is reported.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import files, tasks, weights
from innerloop.data.official import official_folder, read_official
from innerloop.data.opening import open_set
from innerloop.errors import InputError
from innerloop.export.official import PREFIX, config_from_official, from_official, read_checkpoint, to_official
from innerloop.learn import checkpoint
from innerloop.learn.lock import lock_folder
from innerloop.learn.plan import Plan
from innerloop.parts.layers import dtype_named
from innerloop.runs.folder import OpenedRun, write_run
from innerloop.runs.origin import keep_names
from innerloop.runs.run import Data, Run
from innerloop.text import printable

__all__ = ["Imported", "export_official", "guess_arch", "import_official", "read_arch"]

TABLE = "puzzle_emb.weights"
MAX_COUNT = 1_000_000  # upper limit of every count in a configuration except identifiers
POSITIONS = ("rope", "learned", "none", None)
# What a configuration must state, and its least value.
REQUIRED_MINIMA = {
    "hidden_size": 1, "num_heads": 1, "L_layers": 1, "H_layers": 0, "H_cycles": 1, "L_cycles": 1, "expansion": 0.01,
    "puzzle_emb_ndim": 0, "puzzle_emb_len": 0, "seq_len": 1, "halt_max_steps": 1, "num_puzzle_identifiers": 1,
}  # fmt: skip
INITS = ("H_init", "L_init")
REQUIRED_KEYS = ("embed_tokens.embedding_weight", "lm_head.weight", "L_level.layers.0.mlp.gate_up_proj.weight", *INITS)
# Sizes of the published sets, where no data folder says which it is: (vocabulary, tokens) -> task and its options.
PUBLISHED_SIZES: dict[tuple[int, int], tuple[str, dict[str, Any]]] = {
    (11, 81): ("sudoku", {"size": 9}),
    (6, 900): ("maze", {"size": 30}),
    (12, 900): ("arc", {}),
}


class Imported(NamedTuple):
    run: Run
    notes: list[str]  # what was assumed or changed, one sentence each


# -- their checkpoint -> our run --------------------------------------------------------------------------------------


def import_official(path: str, out: Path, arch_file: str = "", data: str = "", **given: Any) -> Imported:
    """Write the official checkpoint `path` as the run folder `out`.

    arch_file: their all_config.yaml (or JSON); without it shapes and `given` (heads, cycles, low, seq) decide.
    data: their dataset folder, which says vocabulary, length, identifiers and task. Raises InputError.
    """
    if (out.exists() and not out.is_dir()) or (out / checkpoint.MODEL).exists():
        kind = "holds a model already" if out.is_dir() else "is a file"
        raise InputError(f"{printable(str(out))} {kind}: give --out a new folder")
    for name, value in given.items():
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            raise InputError(f"--{name} is {value}: give a whole number up to {MAX_COUNT:,}, or leave it out")
    state = {PREFIX.sub("", k): v for k, v in read_checkpoint(path).items()}
    for key in REQUIRED_KEYS:
        if key not in state or not state[key].numel() or state[key].ndim != (1 if key in INITS else 2):
            raise InputError(f"{path} has no {key} of the usual shape: it is not a checkpoint of HRM or TRM")
    notes: list[str] = []
    arch = read_arch(Path(arch_file)) if arch_file else guess_arch(state, given, notes)
    task, source, names = task_of(state, arch, data, given, notes)
    check_arch(arch, state, arch_file or path)
    rows = arch["num_puzzle_identifiers"]
    if TABLE in state and len(state[TABLE]) != rows:
        notes.append(
            f"the checkpoint has {len(state[TABLE])} puzzle embeddings and the data {rows} puzzles: each starts from "
            "the mean of the old ones"
        )
        state[TABLE] = state[TABLE].mean(0, keepdim=True).expand(rows, -1).contiguous()
    system, config = config_from_official(arch, task.shape[0])
    with torch.device("meta"):  # its shapes, without the memory: they may not be those of the checkpoint
        like = weights.get(system)[0](config).state_dict()
    ours = from_official(system, state, like)
    plan = Plan()
    halting = replace(plan.halting, max_steps=arch["halt_max_steps"])
    about = f"imported from {Path(path).name}"
    run = Run(out.name, system, config, source, replace(plan, halting=halting), about=about)
    if bad := checkpoint.non_finite(ours):
        raise InputError(f"in {files.shown(path)} {bad}: get the checkpoint again")
    with lock_folder(out):
        write_run(out, run)
        keep_names(out, names)
        checkpoint.save_weights(out / checkpoint.MODEL, ours)
    return Imported(run, notes)


def task_of(
    state: dict[str, Tensor], arch: dict[str, Any], data: str, given: Any, notes: list[str]
) -> tuple[Any, Data, tuple[str, ...]]:
    """The task and the names of its puzzles, from the data folder or from the sizes; fills the sizes into `arch`."""
    arch["vocab_size"] = len(state["embed_tokens.embedding_weight"])
    if data:
        root = Path(data)
        folder = official_folder(root)
        about = read_official(folder, limit=1)[1]
        arch |= {"seq_len": about["seq_len"], "num_puzzle_identifiers": about.get("num_puzzle_identifiers")}
        if about["vocab_size"] != arch["vocab_size"]:
            raise InputError(
                f"{folder} has {about['vocab_size']} tokens, the checkpoint {arch['vocab_size']}: give the data it "
                "was trained on"
            )
        task, known = open_set(data, limit=50)
        test = str(root / "test") if folder != root and (root / "test" / "dataset.json").is_file() else ""
        return task, Data(task.name, task.options, train=str(folder), test=test, count=0), known.identifiers
    arch["num_puzzle_identifiers"] = len(state[TABLE]) if TABLE in state else 1
    if "seq_len" not in arch:
        arch["seq_len"] = sequence_length(state, arch, given.get("seq", 0))
        notes.append(f"assumed: {arch['seq_len']} tokens a puzzle (--seq, or --data, says otherwise)")
    found = PUBLISHED_SIZES.get((arch["vocab_size"], arch["seq_len"]))
    if found is None:
        raise InputError(
            f"no task is known with {arch['vocab_size']} tokens and {arch['seq_len']} cells: give --data, the official "
            "folder the checkpoint was trained on"
        )
    name, options = found
    task = tasks.get(name, **options)
    notes.append(f"assumed: the task is {name}, from its {arch['vocab_size']} tokens and {arch['seq_len']} cells")
    return task, Data(task.name, task.options), ()


def check_arch(arch: dict[str, Any], state: dict[str, Tensor], where: str) -> None:
    """Raise InputError where an architecture lacks a value, or states one that cannot be that of the checkpoint.

    Before anything is built of it: a size that is wrong may take all memory.
    """
    arch["halt_max_steps"] = arch.get("halt_max_steps") or Plan().halting.max_steps
    arch["puzzle_emb_len"] = arch.get("puzzle_emb_len") or 0
    for key, least in REQUIRED_MINIMA.items():
        value, kind = arch.get(key), (int, float) if key == "expansion" else int
        most = MAX_COUNT if key != "num_puzzle_identifiers" else 2**31
        if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
            said = "is missing" if value is None else f"is {printable(str(value), 60)}"
            raise InputError(f"{where}: {key} {said}: give their all_config.yaml, where it is a number from {least} up")
    if arch.get("pos_encodings") not in POSITIONS:
        raise InputError(f"{where}: pos_encodings is {printable(str(arch['pos_encodings']), 60)}: use rope or learned")
    if str(arch.get("forward_dtype")) not in ("float32", "bfloat16", "float16"):
        raise InputError(
            f"{where}: forward_dtype is {printable(str(arch['forward_dtype']), 60)}: use bfloat16 or float32"
        )
    width = int(state["embed_tokens.embedding_weight"].shape[1])
    held = {"hidden_size": width, "L_layers": layer_count(state, "L_level")}
    held["puzzle_emb_ndim"] = int(state[TABLE].shape[-1]) if TABLE in state else 0
    if arch["H_layers"]:
        held["H_layers"] = layer_count(state, "H_level")
    for key, found in held.items():
        if arch[key] != found:
            raise InputError(
                f"{where}: {key} is {arch[key]}, but the checkpoint has {found}: give the configuration it was trained "
                "with"
            )


def layer_count(state: dict[str, Tensor], net: str) -> int:
    """How many layers of a net a checkpoint holds."""
    return len({key.split(".")[2] for key in state if key.startswith(f"{net}.layers.")})


def sequence_length(state: dict[str, Tensor], arch: dict[str, Any], asked: int) -> int:
    """Tokens of a puzzle: asked for, or read off learned positions or a token mixer, or the published set's."""
    prefix = arch.get("puzzle_emb_len", 0) or -(-(arch.get("puzzle_emb_ndim") or 0) // arch["hidden_size"])
    if asked:
        return asked
    for key, axis in (("embed_pos.embedding_weight", 0), ("L_level.layers.0.mlp_t.gate_up_proj.weight", 1)):
        if key in state:
            return int(state[key].shape[axis]) - prefix
    for vocab, seq in PUBLISHED_SIZES:
        if vocab == len(state["embed_tokens.embedding_weight"]):
            return seq
    raise InputError("the number of tokens of a puzzle cannot be read off the checkpoint: give --seq or --data")


def guess_arch(state: dict[str, Tensor], given: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The architecture from the shapes; what shapes do not say as published, unless `given`. Fills `notes`."""
    width = int(state["embed_tokens.embedding_weight"].shape[1])
    hrm = any(k.startswith("H_level.") for k in state)
    depth = layer_count(state, "L_level")
    inner = int(state["L_level.layers.0.mlp.gate_up_proj.weight"].shape[0]) // 2
    mixer = "L_level.layers.0.mlp_t.gate_up_proj.weight" in state
    learned = "embed_pos.embedding_weight" in state
    table = int(state[TABLE].shape[1]) if TABLE in state else 0
    arch: dict[str, Any] = {
        "hidden_size": width,
        "H_layers": depth if hrm else 0,
        "L_layers": depth,
        "expansion": next((e for e in (4, 2, 8, 3, 1) if _inner(width, e) == inner), inner * 1.5 / width),
        "mlp_t": mixer,
        "puzzle_emb_ndim": table,
        "puzzle_emb_len": 0 if hrm else given.get("prefix") or (16 if table else 0),
        "pos_encodings": "learned" if learned else "none" if mixer else "rope",
        "num_heads": given.get("heads") or max(1, width // 64),
        "H_cycles": given.get("cycles") or (2 if hrm else 3),
        "L_cycles": given.get("low") or (2 if hrm else 6),
        "forward_dtype": str(state["H_init"].dtype).removeprefix("torch."),
    }
    said = ("num_heads", "H_cycles", "L_cycles", "pos_encodings", "puzzle_emb_len", "forward_dtype")
    notes.append("assumed without --arch: " + ", ".join(f"{k} {arch[k]}" for k in said))
    return arch


def _inner(width: int, expansion: float) -> int:
    return -(-round(expansion * width * 2 / 3) // 256) * 256


def read_arch(path: Path) -> dict[str, Any]:
    """The architecture in their all_config.yaml, or in JSON; the whole file or its `arch` alone."""
    try:
        text = files.read_text(path, 1 << 20)
        value = files.parse_json(text, files.shown(path)) if text.lstrip().startswith("{") else read_yaml(text)
    except InputError as error:
        raise InputError(f"{error}: give the all_config.yaml beside the checkpoint, or JSON") from None
    arch = value.get("arch", value) if isinstance(value, dict) else {}
    arch = dict(arch) if isinstance(arch, dict) else {}
    for key, inner in arch.items():
        if isinstance(inner, str) and inner.startswith("${."):  # a reference to a neighbour, as in arch/*.yaml
            arch[key] = arch.get(inner[3:-1])
    arch.setdefault("H_layers", 0)
    arch.setdefault("forward_dtype", "bfloat16")
    if type(arch.get("hidden_size")) is not int or not 1 <= arch["hidden_size"] <= MAX_COUNT:
        raise InputError(f"{path} holds no architecture with a hidden_size: give their all_config.yaml")
    return arch


def read_yaml(text: str) -> dict[str, Any]:
    """Nested `key: value` lines, which is all their configuration uses; lists and comments are passed over."""
    root: dict[str, Any] = {}
    stack: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    for line in text.splitlines():
        bare = line.split(" #")[0].rstrip()
        key, colon, value = bare.strip().partition(":")
        if not colon or key.startswith(("-", "#")):
            continue
        indent = len(bare) - len(bare.lstrip())
        while stack[-1][0] >= indent:
            stack.pop()
        inside = stack[-1][1]
        if value.strip():
            inside[key] = _scalar(value.strip())
        else:
            inside[key] = {}
            stack.append((indent, inside[key]))
    return root


def _scalar(text: str) -> Any:
    plain = {"true": True, "false": False, "null": None, "~": None}
    if text.lower() in plain:
        return plain[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except (ValueError, OverflowError):
            continue
    return text.strip("'\"")


# -- our run -> their checkpoint --------------------------------------------------------------------------------------


def export_official(opened: OpenedRun, prefix: str = "_orig_mod.model.") -> tuple[dict[str, Tensor], list[str]]:
    """The official state dict of a run, and what should be known about it.

    They keep the first states in the dtype of the forward pass; a float32 value that it cannot hold stays float32.
    """
    run, notes = opened.run, []
    config = run.config.net
    if run.system not in ("hrm", "trm") or config.block not in ("attention", "tokens"):
        raise InputError(f"a {run.system} with {config.block} mixing has no official form: only HRM and TRM have one")
    state = {}
    for key, value in opened.loop.state_dict().items():
        theirs = to_official(run.system, key)
        value = value.detach().cpu().contiguous()
        if theirs.endswith(INITS):
            cast = value.to(dtype_named(run.config.dtype))
            if torch.equal(cast.float(), value):
                value = cast
            else:
                notes.append(f"{theirs} stays float32: {run.config.dtype} would change it")
        state[prefix + theirs] = value
    return state, notes
