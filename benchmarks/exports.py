"""Every system as a graph: does its ONNX file answer as the loop does, all slots and answers of sixteen steps?

    python benchmarks/exports.py --threads 1 --out results/exports.json

A tiny untrained net of each system, of its usual block, is exported, and run by onnxruntime for puzzles of another
number than it was traced with. `error` is the largest difference of a float from the loop's, over the largest value of
its slot (at least 1); whole numbers and truths must be the same. A system that is refused says why. Resumable.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from innerloop import files, tasks, weights
from innerloop.core import Question
from innerloop.errors import InputError
from innerloop.export import graph
from innerloop.export.onnx import save_onnx
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.fit import build_model, fit_config
from innerloop.runs.folder import OpenedRun
from innerloop.runs.run import Data, Run

ROWS, STEPS = 5, 16
SHORT = {"rounds": 2, "cycles": 1, "thoughts": 1, "low_cycles": 1, "loops": 2, "latents": 2, "prelude": 1, "coda": 1}
TINY = {"hidden_size": 32, "heads": 2, "layers": 1, "expansion": 2.0, "multiple_of": 32, "puzzle_emb_size": 32}
TASKS = {"imagine": ("walk", {}), "hrm_text": ("sums", {})}  # of systems that speak of other things than a board


def untrained(system: str) -> OpenedRun:
    """A small loop of a system, its weights a little smaller than drawn: a chaotic map magnifies rounding."""
    name, options = TASKS.get(system, ("sudoku", {"size": 4}))
    task, config = tasks.get(name, **options), weights.get(system)[1]()
    known = {f.name for f in fields(config)}
    net = replace(config.net, **(TINY | ({"puzzle_emb_size": 0} if config.net.puzzle_emb_size == 0 else {})))
    short = {k: v for k, v in SHORT.items() if k in known}
    config = replace(config, net=fit_config(net, task, 1), dtype="float32", **short)
    run = Run(system, system, config, Data(name, options))
    loop = build_model(run).eval()
    with torch.no_grad():
        for p in loop.parameters():
            p.mul_(0.8 if p.ndim > 1 else 1.0)
    return OpenedRun(run, loop, task, Path())


@torch.no_grad()
def largest_error(opened: OpenedRun, path: Path) -> float:
    """STEPS steps of the file beside the loop. Raises ValueError where whole numbers differ."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map[graph.METADATA_KEY])
    inputs = torch.from_numpy(opened.task.make(ROWS, 3).inputs).long()
    x, loop, worst = Question(inputs, torch.zeros(ROWS).long()), opened.loop, 0.0
    state, held = loop.init(x), [np.zeros((ROWS, *s["shape"]), s["dtype"]) for s in about["state"]]
    wanted, names = {i.name for i in session.get_inputs()}, graph.io_names(about)[0]
    salt = [np.zeros(ROWS, np.int64)] if about["salt"] else []
    for step in range(STEPS):
        state = loop.step(state, x)
        given = [x.inputs.numpy(), x.puzzle.numpy(), np.full(ROWS, step == 0), *salt, *held]
        feed = {k: v for k, v in zip(names, given, strict=True) if k in wanted}
        said = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))
        held = [said[f"next.{s['name']}"] for s in about["state"]]
        answer = {k: v for k, v in loop.read(state)._asdict().items() if v is not None}
        pairs = [*zip(graph.flatten(state), held, strict=True), *((v, said[k]) for k, v in answer.items())]
        for ours, theirs in ((a.numpy(), b) for a, b in pairs):
            if ours.dtype.kind != "f":
                if not (ours == theirs).all():
                    raise ValueError(f"step {step + 1}: whole numbers differ")
                continue
            worst = max(worst, float(np.abs(ours - theirs).max(initial=0) / max(1.0, np.abs(ours).max(initial=0))))
    return worst


def exported(system: str) -> dict[str, Any]:
    opened, began = untrained(system), time.perf_counter()
    row: dict[str, Any] = {"system": system, "block": opened.run.config.net.block, "task": opened.task.name}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            save_onnx(opened, path)
        except InputError as e:
            return row | {"refused": str(e)}
        row |= {"seconds": time.perf_counter() - began, "kB": path.stat().st_size // 1000}
        return row | {"error": largest_error(opened, path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=weights.names())
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = files.read_json(args.out)["rows"] if args.out.exists() else []
    for system in args.systems:
        if any(row["system"] == system for row in rows):
            continue
        rows.append(exported(system))
        print(rows[-1], flush=True)
        files.write_json(args.out, {"steps": STEPS, "born": birth_certificate([0]), "rows": rows})


if __name__ == "__main__":
    main()
