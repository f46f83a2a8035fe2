"""`import` and `export`: official checkpoints and dataset folders; single files, hub repositories, graphs, ONNX."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from innerloop import files
from innerloop.cli.inputs import (
    NO_CODE,
    Code,
    CodeFlags,
    load_examples,
    next_command,
    open_run,
    print_reading,
    read_run,
    refuse_overwrite,
)
from innerloop.data.official import write_official
from innerloop.data.opening import open_set
from innerloop.errors import InputError
from innerloop.export import exchange, graph
from innerloop.export import hub as hubs
from innerloop.export.official import read_checkpoint
from innerloop.export.onnx import save_onnx
from innerloop.runs.fit import load_data
from innerloop.runs.folder import OpenedRun
from innerloop.runs.origin import refuse_changed
from innerloop.runs.single import read_texts
from innerloop.schema import Whole

GRAPHS = {"graph": graph.save_graph, "onnx": save_onnx, "aoti": graph.save_aoti}
COMPARED_PUZZLES = 500  # puzzles on which weights stored in half precision must not change an answer


def import_(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")],
    out: str,
    arch: str = "",
    data: str = "",
    heads: Whole = 0,
    cycles: Whole = 0,
    low: Whole = 0,
    prefix: Whole = 0,
    seq: Whole = 0,
) -> int:
    """Turn an official HRM or TRM checkpoint into a run that every other verb opens.

    Example:  innerloop import OFFICIAL/step_26040 --arch OFFICIAL/all_config.yaml --data DATA --out runs/official

    Example:  innerloop import OFFICIAL/step_26040 --heads 8 --cycles 3 --low 6 --out runs/official

    Args:
        file: Checkpoint that the official trainer saved (step_N).
        out: Folder of the new run.
        arch: The all_config.yaml beside the checkpoint, or the same as JSON; without it shapes and defaults decide.
        data: Official dataset folder it was trained on.
        heads: Attention heads, where --arch is not given; 0: one for every 64 channels.
        cycles: H_cycles, where --arch is not given; 0: as published.
        low: L_cycles, where --arch is not given; 0: as published.
        prefix: puzzle_emb_len, where --arch is not given; 0: as published.
        seq: Tokens of a puzzle, where neither --arch nor --data say.
    """
    given = {"heads": heads, "cycles": cycles, "low": low, "prefix": prefix, "seq": seq}
    run, notes = exchange.import_official(file, Path(out), arch, data, **given)
    for note in notes:
        print(note)
    print(f"{run.system} for {run.data.task} is in {out}; next: {next_command('eval', out, '--depth', '1,4,16')}")
    return 0


def export(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")],
    out: str = "",
    prefix: str = "_orig_mod.model.",
    data: str = "",
    split: str = "train",
    single: str = "",
    dtype: str = "float32",
    hub: str = "",
    graph: str = "",
    onnx: str = "",
    aoti: str = "",
    code: CodeFlags = NO_CODE,
) -> int:
    """Write a run as one file, to the Hugging Face hub, as a graph, or as an official checkpoint; puzzles as a folder.

    Example:  innerloop export runs/mine --single mine.safetensors

    Example:  innerloop export runs/mine --hub owner/name

    Example:  innerloop export runs/mine --onnx mine.onnx

    Example:  innerloop export RUN --out step_1000      # of HRM or TRM

    Example:  innerloop export runs/mine --data data/mine       # its puzzles: train/ and test/

    Example:  innerloop export examples/sudoku4_test.csv --data data/test --split test

    Args:
        source: A trained model; with --data the folder of a run, or a file of puzzles.
        out: File of an official checkpoint.
        prefix: Before every key of it; the official trainer's own, of a compiled model, by default.
        data: Folder to write the puzzles to.
        split: train or test, for a file of puzzles.
        single: File, NAME.safetensors, that holds the whole model with its card.
        dtype: Of the weights in it: float32; bfloat16 or float16, where no answer changes.
        hub: Repository to push the model to, with its card.
        graph: File, .pt2, of one step as a torch.export graph.
        onnx: File, .onnx, of the same for onnxruntime.
        aoti: File, .pt2, of the same compiled for this machine by AOTInductor.
    """
    given = {"out": out, "data": data, "single": single, "hub": hub, "graph": graph, "onnx": onnx, "aoti": aoti}
    chosen = [name for name, value in given.items() if value]
    if len(chosen) != 1:
        raise InputError(f"give one of --{', --'.join(given)}, and not {len(chosen)}")
    if data:
        return export_puzzles(source, data, split, code)
    opened = open_run(source, code=code)
    if out:
        refuse_overwrite(Path(out), read_checkpoint)
        state, notes = exchange.export_official(opened, prefix)
        files.write_bytes(out, pickle_state(state))
        print("\n".join([*notes, f"{len(state)} tensors written to {out}"]))
    elif single:
        export_single(opened, Path(single), dtype)
    elif hub:
        print(hubs.hub_class()(opened).push_to_hub(hub))
    else:
        export_graph(opened, chosen[0], given[chosen[0]])
    return 0


def pickle_state(state: dict[str, torch.Tensor]) -> bytes:
    """A state dict as torch.save writes it."""
    whole = io.BytesIO()
    torch.save(state, whole)
    return whole.getvalue()


def export_single(opened: OpenedRun, path: Path, dtype: str) -> None:
    """Write the file and say what it holds. Raises InputError where narrower weights would change an answer."""
    said = ""
    refuse_overwrite(path, read_texts)
    if dtype != "float32":
        examples, depth = comparison_puzzles(opened), opened.run.plan.trained_depth
        wrong = hubs.count_changed(opened, hubs.stored_copy(opened, dtype), examples, depth)
        if wrong:
            raise InputError(f"{wrong} of {len(examples)} answers change in {dtype}: leave out --dtype")
        said = f", and all {len(examples)} answers at depth {depth} are as before"
    hubs.save_single(opened, path, dtype)
    print(f"{path.stat().st_size:,} bytes written to {path}, weights in {dtype}{said}")


def comparison_puzzles(opened: OpenedRun) -> Any:
    """Puzzles to compare answers on: of the run's validation file, or generated where it has none."""
    data = opened.run.data
    return (
        load_examples(opened, "", COMPARED_PUZZLES)
        if data.train
        else opened.task.make(COMPARED_PUZZLES, data.seed + 3_000_003)
    )


def export_graph(opened: OpenedRun, kind: str, path: str) -> None:
    """Write one step of the loop as a graph, and say what its state is."""
    ending = ".onnx" if kind == "onnx" else ".pt2"
    if Path(path).suffix != ending:
        raise InputError(f"{path} does not end in {ending}: name the file NAME{ending}")
    described = GRAPHS[kind](opened, path)
    slots = ", ".join(f"{s['name']} {s['dtype']} {s['shape']}" for s in described["state"])
    print(f"one step of {opened.run.system} written to {path}; its state: {slots}")


def task_of_other_split(root: Path, split: str) -> Any:
    """The task of the other split of an official folder, by which a second file is read; None where there is none."""
    other = root / ("train" if split == "test" else "test")
    return open_set(other, limit=1)[0] if (other / "dataset.json").is_file() else None


def export_puzzles(source: str, data: str, split: str, code: Code) -> int:
    if split not in ("train", "test"):
        raise InputError(f'--split is "{split}": use train or test')
    if (Path(source) / "run.json").exists():
        run = read_run(Path(source), code)
        task, train, validation = load_data(run.data, source)
        refuse_changed(source, run.data, train=train, validation=validation)
        found_sets = {"train": train, "test": validation}
    else:
        task, found = open_set(source, task_of_other_split(Path(data), split))
        print_reading(found)
        found_sets = {split: found}
    for name, s in found_sets.items():
        print(f"{len(s):,} puzzles written to {write_official(data, s, name, task.options)}")
    return 0
