"""Export one step of a loop as a graph (torch.export, AOTInductor, ONNX). The loop around it stays with the caller.

    turn(inputs, puzzle, fresh, [salt], state...) -> state..., logits, [q_halt], [q_continue], [value]

One turn is one step and the read-out of its answer. A row that is `fresh` starts anew: its initial state is computed in
the graph and its given state is ignored, so a file needs no second graph, and a finished row of a batch can be refilled
with the next puzzle (core.refill). Every slot of the state is an input `state.NAME` and an output
`next.NAME`; the batch B is dynamic, all else is fixed; what computes is float32, whatever the run was trained in. A
loop with noise of its own also takes `salt` (B,) int64: rows of one puzzle on other trajectories.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop import files, tree
from innerloop.core import Answer, Question
from innerloop.errors import InputError
from innerloop.noise import has_key, salted
from innerloop.runs.fit import build_model
from innerloop.runs.folder import OpenedRun
from innerloop.tree import rebuild, select

__all__ = ["Slot", "graph_description", "programs", "save_aoti", "save_graph", "slots", "step_graph"]

FORMAT = 1  # of the description that travels with a graph
METADATA_KEY = "innerloop"  # its name among an ONNX file's or a package's metadata
EXTRA_FILE = "innerloop.json"  # and among a torch.export file's extra files
TRACE_ROWS = 3  # of the example a graph is traced with: any number above one


class Slot(NamedTuple):
    """One tensor that goes in and comes out with every step."""

    name: str  # its path in the state, such as z, or act.mean in a nested one
    dtype: str  # as numpy writes it
    shape: tuple[int, ...]  # of one row; the batch stands before it


# -- a loop's methods as modules over flat lists of tensors -----------------------------------------------------------


class Init(nn.Module):
    def __init__(self, loop: Any, like: Any) -> None:
        super().__init__()
        self.loop, self.like = loop, like

    def forward(self, inputs: Tensor, puzzle: Tensor) -> list[Tensor]:
        return flatten(self.loop.init(Question(inputs, puzzle)))


class Step(Init):
    def forward(self, inputs: Tensor, puzzle: Tensor, *state: Tensor) -> list[Tensor]:  # type: ignore[override]
        return flatten(self.loop.step(unflatten(self.like, iter(state)), Question(inputs, puzzle)))


class Read(Init):
    def forward(self, *state: Tensor) -> list[Tensor]:  # type: ignore[override]
        return answer_tensors(self.loop.read(unflatten(self.like, iter(state))))


class StepAndRead(Init):
    def forward(self, inputs: Tensor, puzzle: Tensor, fresh: Tensor, *rest: Tensor) -> list[Tensor]:  # type: ignore[override]
        x, first = Question(inputs, puzzle), self.loop.init(Question(inputs, puzzle))
        if has_key(self.like):
            first, rest = salted(first, rest[0]), rest[1:]
        new = self.loop.step(select(fresh, first, unflatten(self.like, iter(rest))), x)
        return flatten(new) + answer_tensors(self.loop.read(new))


def answer_tensors(answer: Answer) -> list[Tensor]:
    return [t for t in answer if t is not None]


def slots(state: Any, name: str = "") -> list[Slot]:
    """Name, dtype and shape of every tensor of a state, in order. Raises InputError for what is no tensor."""
    if isinstance(state, Tensor):
        return [Slot(name or "state", str(state.dtype).removeprefix("torch."), tuple(state.shape[1:]))]
    if state is None:  # a cache that is not used
        return []
    if not isinstance(state, tuple):
        raise InputError(f"a state of {type(state).__name__} has no slots: only loops over tensors become graphs")
    inside = getattr(state, "_fields", range(len(state)))
    return [s for key, item in zip(inside, state, strict=True) for s in slots(item, f"{name}.{key}".strip("."))]


def flatten(state: Any) -> list[Tensor]:
    """The tensors of a state, in order; what is none, such as a cache that is not used, is left out."""
    return [leaf for leaf in tree.flatten(state) if isinstance(leaf, Tensor)]


def unflatten(like: Any, leaves: Iterator[Any]) -> Any:
    """The inverse, from an iterator; what is no tensor comes from `like`."""
    if isinstance(like, tuple):
        return rebuild(like, [unflatten(item, leaves) for item in like])
    return next(leaves) if isinstance(like, Tensor) else like


# -- torch.export -----------------------------------------------------------------------------------------------------


def example_inputs(opened: OpenedRun) -> tuple[Any, Question, Any]:
    """(a float32 copy of the loop on the CPU, an example question, its first state)."""
    run, config = opened.run, opened.run.config.net
    if any(f.name == "dtype" for f in fields(run.config)):
        run = replace(run, config=replace(run.config, dtype="float32"))
    with torch.random.fork_rng(devices=[]):
        loop = build_model(run)
    loop.load_state_dict(opened.loop.state_dict())
    loop.eval().requires_grad_(False)
    x = Question(torch.ones(TRACE_ROWS, config.seq, dtype=torch.long), torch.zeros(TRACE_ROWS, dtype=torch.long))
    with torch.no_grad():
        return loop, x, loop.init(x)  # type: ignore[operator]


def programs(opened: OpenedRun) -> dict[str, torch.export.ExportedProgram]:
    """The loop's three methods as graphs over flat lists of tensors, the batch dynamic.

    init(inputs, puzzle) -> state...;  step(inputs, puzzle, state...) -> state...;  read(state...) -> logits, ...
    Raises InputError for a loop whose step no graph can hold.
    """
    loop, x, state = example_inputs(opened)
    asked, given = [x.inputs, x.puzzle], flatten(state)
    calls = {"init": (Init, asked), "step": (Step, [*asked, *given]), "read": (Read, given)}
    return {name: export_module(opened, kind(loop, state), inputs) for name, (kind, inputs) in calls.items()}


def step_graph(opened: OpenedRun) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """(the graph of one turn, its description): what the files hold. Raises InputError as `programs` does."""
    loop, x, state = example_inputs(opened)
    with torch.no_grad():
        answer = loop.read(loop.step(state, x))
    given = [x.inputs, x.puzzle, torch.ones(TRACE_ROWS, dtype=torch.bool)]
    given += [torch.zeros_like(x.puzzle)] if has_key(state) else []
    return export_module(opened, StepAndRead(loop, state), [*given, *flatten(state)]), graph_description(
        opened, state, answer
    )


def export_module(opened: OpenedRun, module: nn.Module, inputs: Sequence[Tensor]) -> torch.export.ExportedProgram:
    given = tuple(t.clone(memory_format=torch.contiguous_format) for t in inputs)
    batch = torch.export.Dim("batch", min=1)
    forward = module.forward.__code__
    named = forward.co_argcount - 1
    shapes: list[Any] = [{0: batch}] * named
    if len(given) > named:
        shapes.append(tuple({0: batch} for _ in given[named:]))
    try:
        with quiet(), torch.no_grad():
            # Strict: only a tracer of bytecode sees through len(x), which turns a dynamic batch into a number.
            program = torch.export.export(module, given, dynamic_shapes=tuple(shapes), strict=True)
    except RuntimeError as error:
        raise InputError(export_error(opened.run.system, error)) from None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, of no use on another
    return program


def export_error(system: str, error: Exception) -> str:
    """Why a loop is no graph, in a sentence."""
    if "data-dependent" in str(error):
        why = "how much its step computes depends on the data, as where a solver stops by its residual"
    else:
        why = f"{type(error).__name__}: {next((line for line in str(error).splitlines() if line.strip()), '')}"
    return f"{system} cannot be exported as a graph ({why}): run it with innerloop itself, or train another system"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' warnings and logs."""
    talkers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx", "torch._dynamo", "onnxscript")]
    levels = [talker.level for talker in talkers]
    for talker in talkers:
        talker.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for talker, level in zip(talkers, levels, strict=True):
            talker.setLevel(level)


def graph_description(opened: OpenedRun, state: Any, answer: Answer) -> dict[str, Any]:
    """The metadata that a program needs to run the graph: JSON, stored in the file."""
    run, task = opened.run, opened.task
    return {
        "format": FORMAT,
        "name": run.name,
        "system": run.system,
        "task": {"name": task.name, "options": task.options},
        "rows": task.shape[0],
        "columns": task.shape[1],
        "charset": task.charset,  # token i >= 1 is written charset[i - 1]; 0 is padding
        "aliases": task.aliases,  # other ways to write a symbol
        "depth": run.plan.trained_depth,  # steps it was trained to; more may be taken
        "salt": has_key(state),  # whether there is an input of that name
        "state": [slot._asdict() | {"shape": list(slot.shape)} for slot in slots(state)],
        "answer": [name for name, t in answer._asdict().items() if t is not None],
    }


def io_names(described: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(the inputs of a turn, its outputs), in order."""
    held = [slot["name"] for slot in described["state"]]
    given = ["inputs", "puzzle", "fresh", *["salt"] * described["salt"]]
    return given + [f"state.{n}" for n in held], [f"next.{n}" for n in held] + described["answer"]


def save_graph(opened: OpenedRun, path: Path | str) -> dict[str, Any]:
    """Write the turn as a torch.export file (.pt2); returns its description. Raises InputError.

    torch.export.load(path).module() is called with the inputs in order; `innerloop.json` is among its extra files.
    """
    program, described = step_graph(opened)
    into = io.BytesIO()
    with quiet():
        torch.export.save(program, into, extra_files={EXTRA_FILE: json.dumps(described)})
    files.write_bytes(path, into.getvalue())
    return described


def save_aoti(opened: OpenedRun, path: Path | str) -> dict[str, Any]:
    """Write the turn compiled for this machine's CPU, an AOTInductor package (.pt2); returns its description.

    torch._inductor.aoti_load_package(path) is called as the graph is. Raises InputError where no C++ compiler is.
    """
    if not (shutil.which("g++") or shutil.which("clang++")):
        raise InputError("no C++ compiler is installed: install g++ or clang++, or export --graph or --onnx instead")
    program, described = step_graph(opened)
    with tempfile.TemporaryDirectory() as folder, quiet():
        beside = Path(folder) / "model.pt2"
        settings = {"aot_inductor.metadata": {METADATA_KEY: json.dumps(described)}}
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=str(beside), inductor_configs=settings)
        except Exception as error:  # a compiler fails in its own ways, and none is the user's to debug
            why = (str(error).strip().splitlines() or [""])[0]
            raise InputError(
                f"{opened.run.system} could not be compiled ({type(error).__name__}: {why}): export --graph or --onnx"
            ) from None
        files.write(Path(path), lambda p: shutil.copyfile(beside, p))
    return described
