"""Official HRM and TRM checkpoints as runs of ours, and our runs as official checkpoints; the same bits both ways.

What their checkpoint does not say (heads, cycles, positions) comes from their all_config.yaml, or is assumed to be
as in their published configurations, and is said aloud.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import files, tasks, weights
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.lock import hold
from innerloop.learn.plan import Plan
from innerloop.parts.layers import dtype_named
from innerloop.recipes.official import PREFIX, config_from_official, from_official, read_checkpoint, to_official
from innerloop.recipes.run import Data, Opened, Run, write_run
from innerloop.tasks.official import official_folder

__all__ = ["Imported", "bring", "guess_arch", "read_arch", "send"]

TABLE = "puzzle_emb.weights"
INITS = ("H_init", "L_init")
# Sizes of the published sets, where no data folder says which it is: (vocabulary, tokens) -> task and its options.
KNOWN: dict[tuple[int, int], tuple[str, dict[str, Any]]] = {
    (11, 81): ("sudoku", {"size": 9}),
    (6, 900): ("maze", {"size": 30}),
    (12, 900): ("arc", {}),
}


class Imported(NamedTuple):
    run: Run
    notes: list[str]  # what was assumed or changed, one sentence each


# -- their checkpoint -> our run --------------------------------------------------------------------------------------


def bring(path: str, out: Path, arch_file: str = "", data: str = "", **given: Any) -> Imported:
    """Write the official checkpoint `path` as the run folder `out`.

    arch_file: their all_config.yaml (or JSON); without it shapes and `given` (heads, cycles, low, seq) decide.
    data: their dataset folder, which says vocabulary, length, identifiers and task. Raises InputError.
    """
    state = {PREFIX.sub("", k): v for k, v in read_checkpoint(path).items()}
    if "embed_tokens.embedding_weight" not in state:
        raise InputError(f"{path} has no embed_tokens.embedding_weight: it is not a checkpoint of HRM or TRM")
    notes: list[str] = []
    arch = read_arch(Path(arch_file)) if arch_file else guess_arch(state, given, notes)
    task, source = task_of(state, arch, data, given, notes)
    rows = arch["num_puzzle_identifiers"]
    if TABLE in state and len(state[TABLE]) != rows:
        notes.append(
            f"the checkpoint has {len(state[TABLE])} puzzle embeddings and the data {rows} puzzles: each starts from "
            "the mean of the old ones"
        )
        state[TABLE] = state[TABLE].mean(0, keepdim=True).expand(rows, -1).contiguous()
    try:
        system, config = config_from_official(arch, task.shape[0])
    except KeyError as error:
        raise InputError(f"{arch_file or path}: the architecture lacks {error}: give their all_config.yaml") from None
    loop = weights.get(system)[0](config)
    ours = from_official(system, state, loop.state_dict())
    plan = Plan()
    halting = replace(plan.halting, max_steps=int(arch.get("halt_max_steps", plan.halting.max_steps)))
    about = f"imported from {Path(path).name}"
    run = Run(out.name, system, config, source, replace(plan, halting=halting), about=about)
    if bad := checkpoint.unsound(ours):
        raise InputError(f"in {files.shown(path)} {bad}: get the checkpoint again")
    with hold(out):
        write_run(out, run)
        checkpoint.save_weights(out / checkpoint.MODEL, ours)
    return Imported(run, notes)


def task_of(
    state: dict[str, Tensor], arch: dict[str, Any], data: str, given: Any, notes: list[str]
) -> tuple[Any, Data]:
    """The task, from the data folder or from the sizes; fills the sizes into `arch`."""
    arch["vocab_size"] = len(state["embed_tokens.embedding_weight"])
    if data:
        root = Path(data)
        folder = official_folder(root)
        about = files.read_json(folder / "dataset.json")
        arch |= {k: about[v] for k, v in (("seq_len", "seq_len"), ("num_puzzle_identifiers", "num_puzzle_identifiers"))}
        if about["vocab_size"] != arch["vocab_size"]:
            raise InputError(
                f"{folder} has {about['vocab_size']} tokens, the checkpoint {arch['vocab_size']}: give the data it "
                "was trained on"
            )
        task, _ = tasks.open_set(data, limit=50)
        test = str(root / "test") if folder != root and (root / "test" / "dataset.json").is_file() else ""
        return task, Data(task.name, task.options, train=str(folder), test=test, count=0)
    arch.setdefault("num_puzzle_identifiers", len(state[TABLE]) if TABLE in state else 1)
    if "seq_len" not in arch:
        arch["seq_len"] = length_of(state, arch, given.get("seq", 0))
        notes.append(f"assumed: {arch['seq_len']} tokens a puzzle (--seq, or --data, says otherwise)")
    found = KNOWN.get((arch["vocab_size"], arch["seq_len"]))
    if found is None:
        raise InputError(
            f"no task is known with {arch['vocab_size']} tokens and {arch['seq_len']} cells: give --data, the official "
            "folder the checkpoint was trained on"
        )
    name, options = found
    task = tasks.get(name, **options)
    notes.append(f"assumed: the task is {name}, from its {arch['vocab_size']} tokens and {arch['seq_len']} cells")
    return task, Data(task.name, task.options)


def length_of(state: dict[str, Tensor], arch: dict[str, Any], asked: int) -> int:
    """Tokens of a puzzle: asked for, or read off learned positions or a token mixer, or the published set's."""
    prefix = arch.get("puzzle_emb_len", 0) or -(-arch["puzzle_emb_ndim"] // arch["hidden_size"])
    if asked:
        return asked
    for key, axis in (("embed_pos.embedding_weight", 0), ("L_level.layers.0.mlp_t.gate_up_proj.weight", 1)):
        if key in state:
            return int(state[key].shape[axis]) - prefix
    for vocab, seq in KNOWN:
        if vocab == len(state["embed_tokens.embedding_weight"]):
            return seq
    raise InputError("the number of tokens of a puzzle cannot be read off the checkpoint: give --seq or --data")


def guess_arch(state: dict[str, Tensor], given: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The architecture from the shapes; what shapes do not say as published, unless `given`. Fills `notes`."""
    width = int(state["embed_tokens.embedding_weight"].shape[1])
    hrm = any(k.startswith("H_level.") for k in state)
    layers = len({k.split(".")[2] for k in state if k.startswith("L_level.layers.")})
    inner = int(state["L_level.layers.0.mlp.gate_up_proj.weight"].shape[0]) // 2
    mixer = "L_level.layers.0.mlp_t.gate_up_proj.weight" in state
    learned = "embed_pos.embedding_weight" in state
    table = int(state[TABLE].shape[1]) if TABLE in state else 0
    arch: dict[str, Any] = {
        "hidden_size": width,
        "H_layers": layers if hrm else 0,
        "L_layers": layers,
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
        text = files.read_text(path)
        value = files.parse_json(text, files.shown(path)) if text.lstrip().startswith("{") else read_yaml(text)
    except InputError as error:
        raise InputError(f"{error}: give the all_config.yaml beside the checkpoint, or JSON") from None
    arch = dict(value.get("arch", value)) if isinstance(value, dict) else {}
    for key, inner in arch.items():
        if isinstance(inner, str) and inner.startswith("${."):  # a reference to a neighbour, as in arch/*.yaml
            arch[key] = arch.get(inner[3:-1])
    arch.setdefault("H_layers", 0)
    arch.setdefault("forward_dtype", "bfloat16")
    if "hidden_size" not in arch:
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
        except ValueError:
            continue
    return text.strip("'\"")


# -- our run -> their checkpoint --------------------------------------------------------------------------------------


def send(opened: Opened, prefix: str = "_orig_mod.model.") -> tuple[dict[str, Tensor], list[str]]:
    """The official state dict of a run, and what should be known about it.

    They keep the first states in the dtype of the forward pass; a float32 value that it cannot hold stays float32.
    """
    run, notes = opened.run, []
    size = run.config.size
    if run.system not in ("hrm", "trm") or size.mix not in ("attention", "tokens"):
        raise InputError(f"a {run.system} with {size.mix} mixing has no official form: only HRM and TRM have one")
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
