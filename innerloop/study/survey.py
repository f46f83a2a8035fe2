"""All measurements of `innerloop study` on one trained loop, as plain values for study.json and its figures.

    residuals   how far every update moves every slot           cells   what each slot says of the cells, step by step
    fates       where the thoughts end                          filled  boards solved but for a few places
    dimension   how many directions each slot uses

Shapes: B puzzles, S places, L places of a state (the last S are the puzzle's), D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.core import Loop, Question, map_tensors
from innerloop.study.convergence import (
    Outcomes,
    answer_trace,
    classify_outcomes,
    cycle_ratios,
    is_correct,
    near_solved,
    residual_cycles,
    residuals,
    stages,
)
from innerloop.study.dimension import compare
from innerloop.study.probes import measure
from innerloop.study.record import record_updates, slots

__all__ = ["outcome_summary", "probe_cells", "sample_cells", "steps_probed", "survey", "to_plain_json"]

MAX_RESIDUAL_PUZZLES = 64  # puzzles whose every update is watched
CELLS_PROBED = 12  # places of each puzzle that are probed
BLANK_COUNTS = (0, 1, 2, 4, 8, 16, 32)  # empty places of otherwise solved boards
MAX_STEPS_PROBED = 16  # steps that are probed, at most


def survey(
    loop: Loop,
    x: Question,
    labels: Tensor,
    open_places: Tensor,
    depth: int,
    controls: Mapping[str, Any],
    blank: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything, of a loop asked the puzzles x.

    labels       (B, S) tokens; below 1: not judged
    open_places  (B, S) bool: what the puzzle leaves to be found; only there answers are judged
    controls     name -> another loop whose dimension is measured on the same puzzles, such as the loop untrained
    blank        token of an empty place; 0: the task has none, and boards cannot be emptied
    """
    few = map_tensors(lambda t: t[:MAX_RESIDUAL_PUZZLES], x)
    found: dict[str, Any] = {"depth": depth, "puzzles": len(x.inputs)}
    found["residuals"] = residual_summary(loop, few, depth)
    found |= outcome_summary(loop, x, labels * open_places, depth)
    # A board can be shown solved only where answers are written in the question's own tokens: a maze's path is not.
    tokens = labels[labels > 0].unique()
    shown = blank > 0 and bool(torch.isin(tokens, x.inputs.unique()).all())
    most = int(((labels > 0) & (labels != blank) & open_places).sum(1).min())
    counts = [n for n in BLANK_COUNTS if n <= most] if shown else []
    near = near_solved(loop, x, labels, blank, counts, depth, seed=seed, places=open_places)
    found["filled"] = [r._asdict() for r in near]
    found["dimension"] = {
        name: {slot: [d._asdict() for d in values] for slot, values in by_slot.items()}
        for name, by_slot in compare({"trained": loop, **controls}, x, depth, seed=seed).items()
    }
    cells = sample_cells(open_places & (labels > 0), CELLS_PROBED, seed)
    found["cells"] = probe_cells(loop, x, labels, cells, steps_probed(depth), seed)
    return to_plain_json(found)


def residual_summary(loop: Loop, x: Question, depth: int) -> dict[str, Any]:
    """Quartiles of the residuals over puzzles, update by update; None where a slot does not move."""
    curves = residuals(loop, x, depth)
    thin = {name for name, v in slots(loop.init(x)).items() if v.ndim < 3}  # numbers a loop keeps beside its state
    shown = {}
    for slot, values in curves.slots.items():
        if slot in thin or bool(values.isnan().all()):
            continue
        low, middle, high = values.nanquantile(torch.tensor([0.25, 0.5, 0.75]).to(values), dim=1).tolist()
        known: dict[str, Any] = {"low": low, "median": middle, "high": high}
        runs = residual_cycles(curves, slot)
        turns = cycle_ratios(runs)
        if len(turns.spikes) and len(runs[-1]) > 1:
            known |= {"fall": float(turns.falls.median()), "spike": float(turns.spikes.median())}
        shown[slot] = known
    return {"puzzles": len(x.inputs), "steps": curves.steps, "names": curves.names, "slots": shown}


def outcome_summary(loop: Loop, x: Question, labels: Tensor, depth: int) -> dict[str, Any]:
    """Outcomes, and shares of stages over steps. Below 4 steps nothing can be classified: "fates" is empty."""
    window = min(8, depth)
    path = answer_trace(loop, x, depth, window)
    right = is_correct(path.answers, labels).float().mean(1)
    known: dict[str, Any] = {"exact": right.tolist(), "fates": {}, "stages": {}}
    if window < 4:
        return known
    ends: Outcomes = classify_outcomes(path, labels)
    known["fates"] = {k: v._asdict() for k, v in ends.counts().items()}
    known["still"] = float((ends.state_period == 1).float().mean())
    known["lost"] = float(ends.lost.float().mean())
    known["stages"] = {k: v.tolist() for k, v in stages(path, labels, ends).items()}
    return known


def steps_probed(depth: int) -> list[int]:
    """At most SHOWN steps up to `depth`, closer together where they are few."""
    if depth <= MAX_STEPS_PROBED:
        return list(range(1, depth + 1))
    return sorted({round(depth ** (i / (MAX_STEPS_PROBED - 1))) for i in range(MAX_STEPS_PROBED)})


def sample_cells(mask: Tensor, count: int, seed: int = 0) -> Tensor:
    """(n, 2) rows and places: up to `count` random places of each row of a (B, S) mask."""
    noise = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)).to(mask.device)
    rank = noise.masked_fill(~mask, 2.0).argsort(1).argsort(1)
    return (mask & (rank < count)).nonzero()


def probe_cells(
    loop: Loop, x: Question, labels: Tensor, cells: Tensor, steps: Sequence[int], seed: int = 0
) -> dict[str, Any]:
    """How well a linear probe at a cell's own place reads that cell's right value, after each of `steps`.

    One probe a slot and step, for all cells together; puzzles are held out whole. `answer` is the share of the same
    cells that the loop's own answer has right, on all puzzles.
    """
    rows, places = cells.T
    tokens = labels[rows, places].cpu()
    kinds, y = tokens.unique(return_inverse=True)
    if len(kinds) < 2 or len(rows.unique()) < 2:
        return {}

    def pick(name: str, old: Any, new: Any) -> dict[str, Tensor]:
        wide = {k: v for k, v in slots(new).items() if v.is_floating_point() and v.ndim == 3}
        fit = {k: v for k, v in wide.items() if v.shape[0] == len(labels) and v.shape[1] >= labels.shape[1]}
        return {k: v[rows, v.shape[1] - labels.shape[1] + places].float().cpu() for k, v in fit.items()}

    answers = answer_trace(loop, x, max(steps), window=1).answers
    own = [float((answers[t - 1][rows, places].cpu() == tokens).float().mean()) for t in steps]
    ends = {m.step: m.kept for m in record_updates(loop, x, max(steps), pick)[1]}
    groups = rows.cpu().numpy()
    read = {
        slot: [measure("ridge", ends[t][slot], y, groups, len(kinds), seed)[0].as_dict() for t in steps]
        for slot in ends[steps[0]]
    }
    return {"steps": list(steps), "cells": len(rows), "answer": own, "slots": read}


def to_plain_json(value: Any) -> Any:
    """The same with shares as dicts and what is not finite as None, so that it is JSON."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(k): to_plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
