"""Comparison of all systems on the same tasks, at matched parameters and training FLOPs.

    innerloop train family --system gram --task queens8

The reference is TRM at the task's own size. Another system gets the width at which it has as many parameters, and as
many optimizer steps as the reference's training FLOPs buy (both counted, not estimated). Everything else is shared:
data, block, batch, optimizer, averaging. What a system's paper asks for beyond that stands in LESSONS.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

from innerloop import plugins, tasks, weights
from innerloop.errors import InputError
from innerloop.learn.plan import Plan
from innerloop.learn.supervise import HaltingConfig
from innerloop.learn.unroll import Unroll
from innerloop.parts.config import NetConfig
from innerloop.runs.cost import training_flops
from innerloop.runs.fit import build_model, fit_config
from innerloop.runs.run import Data, Run, override

REFERENCE = "trm"
BATCH = 32
LOOSE = 0.12  # largest relative difference that still counts as a match: widths come in steps
# Depths 1 to 16.
CARRIED_STATE = HaltingConfig(max_steps=8, learned=False, explore=0.0, spread=True, short_fraction=0.5)
FRESH_UNROLL = Unroll(depth=8)


@dataclass(frozen=True)
class FamilyTask:
    """A task of the comparison: its examples, the block that suits it, and what the reference may spend."""

    data: Data
    block: str  # block of every system here
    hidden_size: int  # of the reference
    steps: int  # of the reference
    lr: float
    about: str
    harder: dict[str, Any] = field(default_factory=dict)  # options of a harder test set, if there is one
    net: dict[str, Any] = field(default_factory=dict)  # what of the shared NetConfig it asks for


FAMILY_TASKS = {
    "sudoku4": FamilyTask(
        Data("sudoku", {"size": 4, "givens": (4, 8)}, count=240, holdout=100), "units", 32, 150, 3e-3, "4x4 Sudoku"
    ),
    "sudoku6": FamilyTask(
        Data("sudoku", {"size": 6, "givens": (12, 20)}, count=3000, holdout=300), "units", 64, 500, 3e-3, "6x6 Sudoku"
    ),
    "maze11": FamilyTask(
        Data("maze", {"size": 11, "kind": "perfect"}, count=5000, holdout=200), "conv", 48, 1000, 2e-3, "11x11 mazes"
    ),
    "prefix": FamilyTask(
        Data("prefix", {"places": 48, "lengths": (4, 16)}, count=5000, holdout=300),
        "conv",
        48,
        300,
        3e-3,
        "prefix sums, learned on 4 to 16 bits",
        {"places": 48, "lengths": (48, 48)},
    ),
    "queens8": FamilyTask(
        Data("queens", {"size": 8}, count=5000, holdout=300), "attention", 64, 800, 2e-3, "8 queens, completion"
    ),
    "colouring8": FamilyTask(
        Data("colouring", {"size": 8}, count=5000, holdout=300), "attention", 64, 800, 2e-3, "graphs of 8 vertices"
    ),
    "walk": FamilyTask(
        Data("walk", {"size": 4, "walls": 4, "actions": 4}, count=5000, holdout=300),
        "attention",
        48,
        600,
        2e-3,
        "walks to imagine, 4 actions",
    ),
    "sums": FamilyTask(
        Data("sums", {"digits": 2}, count=4000, holdout=300),
        "attention",
        64,
        800,
        2e-3,
        "sums of two digits as text",
        net={"mask": "prefix"},
    ),
}


@dataclass(frozen=True)
class SystemSettings:
    """Settings of one system: fields of its configuration, and an unroll from fresh states instead of carried ones."""

    config: dict[str, Any] = field(default_factory=dict)
    unroll: Unroll | None = None
    net: dict[str, Any] = field(default_factory=dict)  # what of the shared NetConfig differs
    depth: int = 0  # steps of inference that count as the trained depth, where the plan does not say it
    only: tuple[str, ...] = ()  # worlds it makes sense on; empty: all
    why: str = ""  # ... and why not elsewhere


RECURSION = {"cycles": 1, "thoughts": 5}  # six calls of a net a step, all of them on the tape
SYSTEM_SETTINGS: dict[str, SystemSettings] = {
    "act": SystemSettings(unroll=FRESH_UNROLL),
    "deq": SystemSettings({"iterations": 12}, Unroll(depth=1)),
    "eqr": SystemSettings(RECURSION),
    "flow": SystemSettings({"grid": 8, "rollout": 8}, Unroll(depth=1), depth=16),
    "gram": SystemSettings({"cycles": 1, "thoughts": 5, "beta": 1.0}),  # one transition: every push is charged
    "hrm": SystemSettings({"cycles": 2, "low_cycles": 2}),
    "hrm_text": SystemSettings(unroll=Unroll(depth=1), net={"norm": "magic"}),
    "huginn": SystemSettings(
        {"prelude": 1, "coda": 1, "recurrence": 8}, Unroll(8, "poisson", grad="last(8)"), {"norm": "sandwich"}
    ),
    "imagine": SystemSettings(
        unroll=Unroll(depth=4),
        net={"block": "conv", "positions": "none", "layers": 2},
        only=("walk",),
        why="it imagines what follows actions: there are none",
    ),
    "liquid": SystemSettings({"units": 32}, FRESH_UNROLL),
    "looped": SystemSettings(
        unroll=Unroll(8, "ramp", first=4, grad="last(4)", weigh="window", window=4), net={"norm": "magic"}
    ),
    "mor": SystemSettings(unroll=Unroll(depth=3), net={"norm": "pre"}),
    "node": SystemSettings({"method": "rk4", "steps": 1}, Unroll(depth=3)),
    "pondernet": SystemSettings(unroll=Unroll(8, weigh="ponder", prior=0.3, beta=0.1)),
    "rsm": SystemSettings(
        {"thoughts": 2, "milestones": (0.25, 0.5, 0.75)}, Unroll(8, "ramp", first=2, ramp=1.0, grad="last(1)")
    ),
    "sic": SystemSettings(RECURSION),
    "trm": SystemSettings(RECURSION),
    "ttt": SystemSettings(unroll=Unroll(depth=4)),
    "urm": SystemSettings({"loops": 8, "grad": "last(6)"}),
    "ut": SystemSettings(unroll=FRESH_UNROLL),
}


def family(system: str = REFERENCE, task: str = "sudoku6") -> Run:
    """Any system on any task of the comparison, matched to the reference."""
    if refusal := refusal_reason(system, task):
        raise InputError(refusal)
    width = matched_width(system, task)
    run = unmatched_run(system, task, width)
    about = f"{plugins.name_of(system)} on {family_task(task).about}, matched to {REFERENCE}"
    return replace(run, plan=replace(run.plan, **schedule_fields(matched_steps(system, task))), about=about)


@cache
def family_task(task: str) -> FamilyTask:
    """A task of the comparison, or one of the user's own (plugins) at a size that suits most."""
    if task in FAMILY_TASKS:
        return FAMILY_TASKS[task]
    if not plugins.parse(task) and task not in plugins.installed("task"):
        raise InputError(f'the family has no task "{task}": use one of {", ".join(FAMILY_TASKS)}')
    made = tasks.get(task)
    block = "attention" if made.units is None else "units"
    return FamilyTask(Data(task, count=5000, holdout=300), block, 64, 800, 2e-3, f"{made.name}, a task of one's own")


def refusal_reason(system: str, task: str) -> str:
    """Why this pair makes no sense, or an empty text. Raises InputError for unknown names."""
    weights.get(system)
    world = family_task(task)
    lesson = SYSTEM_SETTINGS.get(system, SystemSettings())
    if lesson.only and task not in lesson.only:
        return f"{system} cannot take {task}: {lesson.why}"
    causal = getattr(tasks.get(world.data.task, **world.data.options), "causal", False)
    if causal and not getattr(weights.get(system)[0], "causal", False):
        return f"{system} cannot take {task}: it reads every place at once, and the answer stands in the question"
    return ""


def unmatched_run(system: str, task: str, width: int) -> Run:
    """The pair at some width, before its steps are matched."""
    world, lesson = family_task(task), SYSTEM_SETTINGS.get(system, SystemSettings())
    made = tasks.get(world.data.task, **world.data.options)
    shared: dict[str, Any] = {
        "vocab": made.vocab,
        "hidden_size": width,
        "heads": 2,
        "layers": 1,
        "expansion": 3.0,
        "multiple_of": 4,
    }
    shared |= {"block": world.block, "positions": "rope" if world.block == "attention" else "none"}
    size = NetConfig(**shared | {"prefix": 0, "puzzle_emb_size": 0, "pool": "mean"} | lesson.net | world.net)
    kind = weights.get(system)[1]
    known = {f.name for f in fields(kind)}
    given = {"net": fit_config(size, made, 1), "dtype": "float32", **lesson.config}
    plan = Plan(
        batch=BATCH,
        optimizer="adamw",
        lr=world.lr,
        weight_decay=0.1,
        clip=1.0,
        loss="softmax",
        halting=CARRIED_STATE,
        unroll=lesson.unroll or Unroll(),
        compile="off",
        **schedule_fields(world.steps),
    )
    plan = replace(plan, depths=(lesson.depth or plan.trained_depth,))
    config = kind(**{k: v for k, v in given.items() if k in known})
    name = "-".join(plugins.name_of(part).removesuffix(".py") for part in (system, task))
    return Run(name, system, config, world.data, plan)


def schedule_fields(steps: int) -> dict[str, Any]:
    """What of a plan depends on how long it is."""
    every = max(1, steps // 4)
    ema = min(0.995, 1 - 10 / steps) if steps > 20 else 0.0
    return {
        "steps": steps,
        "warmup": min(50, max(1, steps // 10)),
        "ema": ema,
        "check_every": every,
        "save_every": every,
    }


# -- matching ---------------------------------------------------------------------------------------------------------


def parameter_count(run: Run) -> int:
    return sum(p.numel() for p in build_model(run).parameters())


@cache
def matched_width(system: str, task: str) -> int:
    """The width, in steps of 2 (4 with attention), whose number of parameters is nearest to the reference's."""
    world = family_task(task)
    if system == REFERENCE:
        return world.hidden_size
    widths = range(8, 3 * world.hidden_size + 1, 4 if world.block == "attention" else 2)
    return nearest(widths, reference_parameters(task), lambda w: parameter_count(unmatched_run(system, task, w)))


@cache
def reference_parameters(task: str) -> int:
    return parameter_count(unmatched_run(REFERENCE, task, FAMILY_TASKS[task].hidden_size))


def nearest(widths: Sequence[int], want: int, count: Callable[[int], int]) -> int:
    """The width whose count is nearest to `want`; a wider one has more."""
    count = cache(count)
    above = bisect_left(widths, want, hi=len(widths) - 1, key=count)
    return min(widths[max(0, above - 1) : above + 1], key=lambda w: abs(count(w) - want))


@cache
def flops_per_step(system: str, task: str) -> int:
    """Floating-point operations of an optimizer step of the pair for one example."""
    return training_flops(unmatched_run(system, task, matched_width(system, task)))


@cache
def matched_steps(system: str, task: str) -> int:
    """Optimizer steps that the reference's training FLOPs buy."""
    return max(1, round(family_task(task).steps * flops_per_step(REFERENCE, task) / flops_per_step(system, task)))


# -- matching again, where a part was swapped -------------------------------------------------------------------------


def rematch(run: Run, changes: Sequence[str]) -> tuple[Run, str]:
    """(`run` whose width and steps match the reference once `changes` are made, a sentence that says so).

    A width or a number of steps that the changes name stays as it is; the sentence says how far the match then is off.
    """
    task = next((name for name, world in FAMILY_TASKS.items() if world.data == run.data), run.data.task)
    changed = override(run, changes)
    if (changed.system, changed.data) != (run.system, run.data):
        return run, "this is another system or other puzzles: nothing is matched to the family any more"
    if changed.config == run.config and training_cost(changed.plan) == training_cost(run.plan):
        return run, ""
    named = {change.partition("=")[0].strip() for change in changes}
    before, made = run.config.net.hidden_size, run
    if changed.config != run.config and not named & {"config.net.hidden_size", "config.size.width"}:
        made = with_width(run, rematched_width(changed, task))
    if "plan.steps" not in named:
        made = with_steps(made, rematched_steps(override(made, changes), task))
    after = override(made, changes)
    return made, match_sentence(after, task, before, run.plan.steps)


def training_cost(plan: Plan) -> Any:
    """What of a plan changes the FLOPs of an optimizer step."""
    return plan.batch, plan.unroll, plan.halting


def with_width(run: Run, width: int) -> Run:
    return replace(run, config=replace(run.config, net=replace(run.config.net, hidden_size=width)))


def with_steps(run: Run, steps: int) -> Run:
    return replace(run, plan=replace(run.plan, **schedule_fields(steps)))


def rematched_width(changed: Run, task: str) -> int:
    """The width at which a changed run has as many parameters as the reference."""
    made = tasks.get(changed.data.task, **changed.data.options)
    fitting: dict[int, Run] = {}
    for width in range(8, 3 * family_task(task).hidden_size + 1, 2):
        try:
            wide = with_width(changed, width)
            net = fit_config(wide.config.net, made, 1)
        except InputError:  # a width that does not split into heads
            continue
        if net.hidden_size == width:
            fitting[width] = replace(wide, config=replace(wide.config, net=net))
    if not fitting:
        raise InputError("no width fits these changes: give config.net.hidden_size yourself")
    return nearest(sorted(fitting), reference_parameters(task), lambda w: parameter_count(fitting[w]))


def rematched_steps(changed: Run, task: str) -> int:
    """Optimizer steps that the reference's training FLOPs buy for a changed run."""
    net = fit_config(changed.config.net, tasks.get(changed.data.task, **changed.data.options), 1)
    fitted = replace(changed, config=replace(changed.config, net=net))
    return max(1, round(reference_flops(task) / training_flops(fitted) / changed.plan.batch))


def reference_flops(task: str) -> int:
    """FLOPs of the reference's whole training."""
    return family_task(task).steps * flops_per_step(REFERENCE, task) * BATCH


def match_sentence(run: Run, task: str, width: int, steps: int) -> str:
    net = fit_config(run.config.net, tasks.get(run.data.task, **run.data.options), 1)
    fitted = replace(run, config=replace(run.config, net=net))
    count, want = parameter_count(fitted), reference_parameters(task)
    spent = run.plan.steps * run.plan.batch * training_flops(fitted) / reference_flops(task)
    again = abs(count / want - 1) <= LOOSE and abs(spent - 1) <= LOOSE
    said = f"matched to {REFERENCE} again" if again else f"no longer matched to {REFERENCE}"
    return (
        f"{said}: hidden_size {width} -> {net.hidden_size}, steps {steps} -> {run.plan.steps}; {count:,} parameters "
        f"where {REFERENCE} has {want:,} ({count / want - 1:+.1%}), and {spent:.2f} times its training FLOPs"
    )
