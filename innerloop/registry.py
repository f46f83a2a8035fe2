"""Models by name: `list` names, `create` an untrained model, `open_run` or `open_solver` for a trained one.

innerloop.list("systems")                                      # ["act", "deq", ..., "ut"]
loop = innerloop.create("trm", task="sudoku", width=128)       # not trained
opened = innerloop.open_run("demo-sudoku9")                    # trained: its loop, its task and its run
solver = innerloop.open_solver("demo-sudoku9")                 # the same, ready to solve
model = innerloop.open_model("smollm2")                        # a language model, or a run that learned to write
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from innerloop import plugins, pretrained, recipes, tasks, weights
from innerloop.errors import InputError
from innerloop.lm.backend import digest_of_weights
from innerloop.lm.hf_loading import is_folder
from innerloop.lm.opening import open_named
from innerloop.lm.own import Own
from innerloop.lm.protocol import LanguageModel
from innerloop.parts.mixers import BLOCKS
from innerloop.runs import limits
from innerloop.runs.code import Code, given
from innerloop.runs.fit import check_views, fit_config
from innerloop.runs.folder import OpenedRun
from innerloop.runs.solving import solver_of
from innerloop.solve.rules import read_rules, with_rules
from innerloop.solve.solver import Solver
from innerloop.tasks.task import Task
from innerloop.text import did_you_mean, printable

if TYPE_CHECKING:
    from innerloop.weights import System

__all__ = ["create", "list", "open_model", "open_run", "open_solver"]

KINDS: dict[str, Callable[[], Any]] = {
    "systems": weights.names,
    "tasks": tasks.names,
    "blocks": lambda: BLOCKS,
    "recipes": lambda: {**recipes.all_recipes(), **plugins.installed("recipe")},
    "pretrained": pretrained.names,
}


def list(kind: str = "systems") -> builtins.list[str]:
    """All names of a kind: "systems", "tasks", "blocks", "recipes" or "pretrained" models."""
    if kind not in KINDS:
        raise InputError(f'there is nothing of the kind "{printable(kind)}": {did_you_mean(kind, KINDS)}')
    return sorted(KINDS[kind]())


def create(system: str, task: str | Task = "sudoku", *, seed: int = 0, **changes: Any) -> System:
    """An untrained model of a system, sized for its task.

    system   name of a system, or a Python file of your own
    task     name of a task, with its default options; a Python file of your own; or a Task (innerloop.tasks.get)
    seed     of the initial weights; torch's global generator is not changed
    changes  fields of the system's Config, or of its parts.config.NetConfig
    Raises InputError for an unknown name or field.
    """
    kind, described = weights.get(given(system))
    if isinstance(task, str):
        task = tasks.get(given(task))
    config = described()
    own, net = ({f.name for f in fields(c)} for c in (config, config.net))
    if unknown := sorted(changes.keys() - own - net):
        raise InputError(f"{system} has no {printable(unknown[0])}: {did_you_mean(unknown[0], sorted(own | net))}")
    config = replace(config, **{k: v for k, v in changes.items() if k in own})
    size = replace(config.net, **{k: v for k, v in changes.items() if k not in own})
    check_views(kind, size)
    return limits.build(kind, replace(config, net=fit_config(size, task, 1)), seed)


def open_run(
    source: str | Path,
    device: torch.device | str = "cpu",
    *,
    task: str | Path = "",
    system: str | Path = "",
    trust_code: bool = False,
) -> OpenedRun:
    """A trained model, ready to use: the folder of a run, a NAME.safetensors, or a name of list("pretrained").

    task, system  a Python file of your own, or a name, in place of the run's
    trust_code    whether the code that the run's folder keeps may be run, if its task or system is code of its own
    Raises InputError, which names the nearest name, if there is none.
    """
    return pretrained.open(source, device, Code(trust_code, str(task), str(system)))


def open_solver(
    source: str | Path,
    device: torch.device | str = "cpu",
    *,
    task: str | Path = "",
    system: str | Path = "",
    trust_code: bool = False,
    rules: str | Path = "",
    **how: Any,
) -> Solver:
    """The solver of a trained model, with its calibration if it has one; `how`: arguments of solve.solver.Solver.

    task, system, trust_code: as in open_run. rules: a Python file with the functions rule, constrain, or both.
    """
    opened = open_run(source, device, task=task, system=system, trust_code=trust_code)
    if rules:
        opened = opened._replace(task=with_rules(opened.task, *read_rules(str(rules))))
    return solver_of(opened, **how)


def open_model(
    name: str, *, api: str = "chat", key: str = "OPENAI_API_KEY", context: int = 0, workers: int = 8
) -> LanguageModel:
    """A language model: the folder of a run that learned to write text, or else, in this order, MODEL@URL, a name that
    `innerloop get` knows, a GGUF file, or the folder of a model of Hugging Face transformers.

    name      of a run, "runs/looped:8" takes 8 steps of its loop at every token; without a number, as it was trained
    api, key  of an endpoint: chat, completions or responses; the environment variable of its key, "" for none
    context   most tokens of prompt and completion together; 0: what suits the model
    workers   calls at once; of a run or a folder, eight times as many texts are written at once
    Raises InputError, which says how to write one, if there is none.
    """
    folder, depth = with_depth(name)
    if not Path(folder).is_dir() or is_folder(folder):
        return open_named(name, api=api, key=key, context=context, workers=workers)
    opened = open_run(folder)
    task: Any = opened.task
    if not getattr(task, "forms", None):
        raise InputError(f"{printable(folder, 60)} learned {task.name}, which is no text: solve it, or train chain")
    depth = depth or opened.run.plan.trained_depth
    return Own(
        opened.loop,
        charset=task.charset,
        end=task.charset[task.end - 1],  # of `sums`, whose rows are one text (end 0), the last character
        places=min(context, task.shape[1]) or task.shape[1],
        depth=depth,
        rows=8 * workers,
        forms=task.forms,
        cue=task.cue,
        expansions=getattr(task, "expansions", {}),
        name=f"{opened.run.name} ({digest_of_weights(opened.loop.state_dict().values())}, depth {depth})",
    )


def with_depth(name: str) -> tuple[str, int]:
    """("runs/looped", 8) of "runs/looped:8"; 0 where no depth is named, or where a file has such a name."""
    found = re.fullmatch(r"(.+):(\d{1,6})", name)
    return (found[1], int(found[2])) if found and int(found[2]) and not Path(name).exists() else (name, 0)
