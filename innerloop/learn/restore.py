"""Validation of a saved training state: all of it is checked before any of it is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from innerloop import files
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.learn.distributed import Distributed
from innerloop.learn.loss import IGNORE
from innerloop.learn.optim import EMA
from innerloop.learn.plan import Plan
from innerloop.learn.supervise import Carry

KEYS = ("step", "seconds", "position", "model", "optimizers", "average", "draws", "watch", "torch")
OPTIMIZER_STATE = {  # state of an optimizer for a parameter: tensors of its shape, or scalars
    "AdamATan2": {"m", "v"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "Muon": {"momentum_buffer"},
    "SparseSignSGD": set(),
}
MAX_COUNT = 1 << 53  # above every count of steps or examples


class Resumable(Protocol):
    """The part of learn.learner.Learner that is checked here: a Protocol, because learner.py imports this file."""

    loop: Any  # the system: a Loop and a torch.nn.Module
    folder: Path
    optimizers: list[Optimizer]
    average: EMA | None


class CarriedLearner(Resumable, Protocol):
    """The part of learn.train.Trainer that this file and graph.py use: a Protocol, because train.py imports them."""

    task: Any
    plan: Plan
    device: torch.device
    distributed: Distributed
    stream: Any
    draws: torch.Generator
    carries: list[Any]
    update_hooks: list[Any]
    noisy: bool
    data: dict[str, str]  # fingerprints of the puzzles: train, and validation where there are any
    position: int
    step: int

    def state(self) -> dict[str, Any]: ...
    def load_all(self, state: dict[str, Any], carries: list[Any]) -> None: ...
    def micro_batch_rows(self, i: int) -> slice: ...
    def zero_grad(self) -> None: ...
    def clip(self) -> Tensor: ...
    def set_rate(self, step: int) -> None: ...
    def rate_factor(self, step: int) -> float: ...
    def update(self) -> None: ...


def check_state(t: Resumable, state: Any) -> None:
    """Check all that every learner saves. Raises InputError for a state that is damaged or of another run."""
    if bad := state_mismatch(t, state):
        raise other_run_error(t, bad)


def checked_carries(t: CarriedLearner, state: Any) -> list[Carry]:
    """The carries of the saved `state`, one per micro-batch; all of `state` is checked. The trainer is not changed.

    Raises InputError for a state that is damaged or of another run.
    """
    if which := changed_data(t, state):
        raise InputError(
            f"the data changed: the {which} puzzles are not those of the training in {files.shown(t.folder)}; restore "
            "them, or start again with --fresh (resume=False) or in another folder"
        )
    check_state(t, state)
    if bad := carry_mismatch(t, state.get("carries")):
        raise other_run_error(t, bad)
    whole = [None if column[0] is None else torch.cat(column) for column in zip(*state["carries"], strict=True)]
    carries = [
        checkpoint.unflatten(like, [None if x is None else x[t.micro_batch_rows(i)] for x in whole])
        for i, like in enumerate(t.carries)
    ]
    for carry in carries:
        if bad := out_of_range(t, carry):
            raise checkpoint.state_damaged(t.folder / checkpoint.STATE, bad)
    return carries


def other_run_error(t: Resumable, difference: str) -> InputError:
    return InputError(
        f"{files.shown(t.folder / checkpoint.STATE)} is not a training state of this run ({files.shown(difference)}): "
        "choose another folder (--out), or start again in this one (--fresh)"
    )


def changed_data(t: CarriedLearner, state: Any) -> str:
    """Which puzzles, "train" or "validation", are not those of a saved state; "" if none, or if it does not say."""
    saved = state.get("data") if isinstance(state, dict) else None
    if not isinstance(saved, dict):
        return ""
    return next((name for name, current in t.data.items() if saved.get(name, current) != current), "")


def state_mismatch(t: Resumable, state: Any) -> str:
    """How `state` differs from what this trainer saves, as part of a sentence; empty if it does not."""
    if missing := [k for k in KEYS if k not in state]:
        return f"it has no {missing[0]}"
    for name in ("step", "position"):
        if type(state[name]) is not int or not 0 <= state[name] < MAX_COUNT:
            return f"its {name} is not a count"
    if not is_finite_number(state["seconds"]):
        return "its seconds are not a number"
    average = t.average.state_dict() if t.average else None
    for name, current in (("model", t.loop.state_dict()), ("average", average)):
        if current is not None and (
            bad := checkpoint.mismatch(current, state[name]) or checkpoint.non_finite(state[name])
        ):
            return f"in its {name} {bad}"
    saved = state["optimizers"]
    if not isinstance(saved, list) or len(saved) != len(t.optimizers):
        return "it is of other optimizers"
    for optimizer, saved_optimizer in zip(t.optimizers, saved, strict=True):
        if bad := optimizer_mismatch(optimizer, saved_optimizer):
            return f"in its {type(optimizer).__name__} {bad}"
    for name in ("draws", "torch"):
        if not is_generator_state(state[name]):
            return "its random state is not valid"
    return tracker_mismatch(state["watch"])


def is_finite_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def is_generator_state(value: Any) -> bool:
    try:
        torch.Generator().set_state(value)
        return True
    except (RuntimeError, TypeError):
        return False


def tracker_mismatch(value: Any) -> str:
    best, warnings, reported = (value.get(k) if isinstance(value, dict) else None for k in ("best", "warnings", "told"))
    names = {"step", "exact", "valid"}
    ok = isinstance(best, dict) and (not best or best.keys() in (names, names | {"token"}))
    ok = ok and all(is_finite_number(v) or (k == "valid" and v is None) for k, v in best.items())  # type: ignore[union-attr]
    ok = ok and isinstance(warnings, list) and all(isinstance(w, str) for w in warnings)
    ok = ok and all(is_finite_number(value.get(name, 0)) for name in ("last_rise", "since_best"))
    ok = ok and type(reported) is int and 0 <= reported <= len(warnings)  # type: ignore[arg-type]
    return "" if ok else "its record of the best validation is not valid"


def optimizer_mismatch(optimizer: Optimizer, saved: Any) -> str:
    """What in an optimizer's state_dict does not fit, as part of a sentence; empty if all does."""
    current = optimizer.state_dict()
    groups, state = (saved.get(k) if isinstance(saved, dict) else None for k in ("param_groups", "state"))
    if not isinstance(groups, list) or not isinstance(state, dict) or len(groups) != len(current["param_groups"]):
        return "its groups or states are missing"
    for group, like in zip(groups, current["param_groups"], strict=True):
        if not isinstance(group, dict) or group.get("params") != like["params"]:
            return "a group has other parameters"
        if missing := [k for k, v in like.items() if isinstance(v, int | float | tuple) and k not in group]:
            return f"{missing[0]} is missing"
        for name, value in group.items():
            expected = like.get(name, 0 if name == "t" else None)  # absent before the first step
            if isinstance(expected, int | float) and not isinstance(expected, bool) and not is_finite_number(value):
                return f"{name} is not a finite number"
            numeric = isinstance(value, tuple | list) and all(map(is_finite_number, value))
            if isinstance(expected, tuple) and not (numeric and len(value) == len(expected)):
                return f"{name} is not valid"
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for number, entry in state.items():
        if type(number) is not int or not 0 <= number < len(params):
            return "it has state for an unknown parameter"
        if not isinstance(entry, dict) or entry.keys() != OPTIMIZER_STATE[type(optimizer).__name__]:
            return f"its state for parameter {number} is not valid"
        like = {k: torch.zeros(()) if k == "step" else params[number] for k in entry}
        if bad := checkpoint.mismatch(like, entry) or checkpoint.non_finite(entry):
            return f"in its state for parameter {number} {bad}"
    return ""


def carry_mismatch(t: CarriedLearner, parts: Any) -> str:
    """How the carried states differ from those of this plan and loop, as part of a sentence; empty if they fit."""
    like = checkpoint.flatten(t.carries[0])
    if not isinstance(parts, list) or not parts or not all(isinstance(p, list) and len(p) == len(like) for p in parts):
        return "its carried states are not valid"
    for current, *column in zip(like, *parts, strict=True):
        if all(x is None for x in column):
            continue
        if current is None or not all(isinstance(x, Tensor) and x.layout == torch.strided for x in column):
            return "its carried states are not valid"
        if any(x.ndim != current.ndim or x.shape[1:] != current.shape[1:] for x in column):
            return f"a carried state has the shape {tuple(column[0].shape)} where this loop has {tuple(current.shape)}"
        if sum(len(x) for x in column) != t.plan.batch:
            return f"it carries {sum(len(x) for x in column)} puzzles where plan.batch is {t.plan.batch}"
        if any(x.is_floating_point() != current.is_floating_point() for x in column):
            return "its carried states are not valid"
    return ""


def out_of_range(t: CarriedLearner, carry: Carry) -> str:
    """Which values of a carry are out of range for this model, as part of a sentence; empty if none are."""
    inputs, labels, puzzle = carry.batch.question.inputs, carry.batch.labels, carry.batch.question.puzzle
    vocab, puzzles = t.task.vocab, len(t.stream.examples.identifiers)
    spans = ((inputs, vocab, "tokens"), (labels[labels != IGNORE], vocab, "labels"), (puzzle, puzzles, "identifiers"))
    for values, limit, name in (*spans, (carry.steps, MAX_COUNT, "steps"), (carry.max_steps, MAX_COUNT, "steps")):
        if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < limit):
            return f"its carried {name} are out of range"
    return ""
