"""The contract of a loop, as plain functions: each returns None, or raises AssertionError with a sentence.

    shapes, gradients, finite at four times the depth, same seed same answer, save and load,
    no influence between batch mates, what is on the tape, refill

`innerloop check FILE` runs them on anybody's loop, the tests on ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from innerloop.core import Question, map_tensors, refill, think
from innerloop.halt import residual
from innerloop.ledger import Ledger, charge_rows, counting
from innerloop.parts.mixers import Net

__all__ = ["CHECKS", "Subject", "sample_question"]

DEPTH = 4  # steps the checks think
TOLERANCE = 1e-4  # allowed between two float32 computations of one answer, as a share of the largest logit


class Subject(NamedTuple):
    """What is checked: a loop with float32 states, and a question it can be asked."""

    name: str
    make: Callable[[], nn.Module]  # a new loop, its weights drawn from torch's global generator
    question: Question  # B >= 4 different examples


def sample_question(rows: int = 6, vocab: int = 6, seq: int = 16) -> Question:
    """Random tokens 1 .. vocab - 1; the default fits a 4x4 Sudoku."""
    draw = torch.Generator().manual_seed(7)
    return Question(torch.randint(1, vocab, (rows, seq), generator=draw), torch.zeros(rows, dtype=torch.long))


def make_perturbed(subject: Subject, seed: int = 0) -> Any:
    """A loop whose every parameter is a little off its start, so that zeros there hide nothing."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        with torch.enable_grad():
            loop = subject.make()
        for p in loop.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return loop


def outputs(answer: Any) -> list[tuple[str, Tensor]]:
    named = [(k, getattr(answer, k, None)) for k in ("logits", "q_halt", "q_continue", "value")]
    return [(k, v) for k, v in named if v is not None]


def select_rows(x: Question, rows: Any) -> Question:
    return map_tensors(lambda t: t[rows], x)


def distance(a: Any, b: Any) -> float:
    """Largest difference of two answers, as a share of the largest value."""
    pairs = [(p.detach().float(), q.detach().float()) for (_, p), (_, q) in zip(outputs(a), outputs(b), strict=True)]
    return max(float((p - q).abs().max() / p.abs().max().clamp_min(1.0)) for p, q in pairs)


# -- the checks -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def shapes(subject: Subject) -> None:
    """logits (B, S, vocab) and q values (B,), floating."""
    x, answer = subject.question, think(make_perturbed(subject), subject.question, 2).answer
    assert hasattr(answer, "logits"), "read(state) must return an innerloop.core.Answer: it has no logits"
    want = tuple(x.inputs.shape)
    assert answer.logits.ndim == 3 and tuple(answer.logits.shape[:2]) == want, (
        f"logits are {tuple(answer.logits.shape)}: they must be (B, S, vocab) with (B, S) = {want}"
    )
    for name, value in outputs(answer):
        assert value.is_floating_point(), f"{name} is {value.dtype}: it must be floating"
        assert name == "logits" or value.shape == (want[0],), f"{name} is {tuple(value.shape)}: it must be ({want[0]},)"


def gradients(subject: Subject) -> None:
    """The gradient of an answer reaches every parameter."""
    loop, x = make_perturbed(subject).train(), subject.question
    if getattr(loop, "needs_target", False):
        x = x._replace(target=x.inputs.flip(0))
    thought = think(loop, x, 2)
    draw = torch.Generator().manual_seed(3)
    total = sum((v * torch.randn(v.shape, generator=draw)).sum() for _, v in outputs(thought.answer))
    if hasattr(loop, "terms"):
        total = total + sum(v.sum() for v in loop.terms(thought.state).values())
    total.backward()  # type: ignore[union-attr]
    for name, p in loop.named_parameters():
        assert p.grad is not None, f"no gradient reaches {name}: it is unused, or the tape ends before it"
        g = p.grad.coalesce().values() if p.grad.is_sparse else p.grad
        assert bool(g.isfinite().all()), f"the gradient of {name} is not finite"
        assert bool((g != 0).any()), f"the gradient of {name} is zero everywhere: nothing it does is seen in the answer"


@torch.no_grad()
def finite(subject: Subject) -> None:
    """The answer stays finite at four times a usual training depth."""
    answer = think(make_perturbed(subject), subject.question, 64).answer
    for name, value in outputs(answer):
        assert bool(value.isfinite().all()), f"{name} is not finite after 64 steps: normalise the state in step()"


@torch.no_grad()
def seeded(subject: Subject) -> None:
    """The same seed gives the same weights, and the same question the same answer."""
    first, again, other = (make_perturbed(subject, seed).eval() for seed in (0, 0, 1))
    a = think(first, subject.question, DEPTH).answer
    assert distance(a, think(first, subject.question, DEPTH).answer) == 0, (
        "the same loop answers the same question differently the second time: it hides state or randomness"
    )
    assert distance(a, think(again, subject.question, DEPTH).answer) == 0, (
        "two loops made with one seed differ: draw weights from torch's global generator only"
    )
    assert distance(a, think(other, subject.question, DEPTH).answer) > 0, "another seed gives the same loop"


@torch.no_grad()
def saved(subject: Subject) -> None:
    """A loop saved as safetensors and loaded into another answers the same."""
    first, other = make_perturbed(subject, 0).eval(), make_perturbed(subject, 1).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({k: v.contiguous() for k, v in first.state_dict().items()}, path)
        other.load_state_dict(load_file(path))
    a, b = (think(loop, subject.question, DEPTH).answer for loop in (first, other))
    assert distance(a, b) == 0, "saved and loaded it answers differently: something it needs is not in its state_dict"


@torch.no_grad()
def batch_independent(subject: Subject) -> None:
    """An example's answer and stopping time do not depend on its batch mates, where stopping times differ."""
    loop, x = make_perturbed(subject).eval(), subject.question
    steps, depth = len(x.inputs), 8
    for halt in (residual_rule(loop, x, depth), score_rule(loop, x, depth)):
        if halt is None:
            continue
        together = think(loop, x, depth, halt=halt)
        times = together.steps if isinstance(together.steps, Tensor) else torch.full((steps,), together.steps)
        if len(times.unique()) > 1:
            break
    else:
        raise AssertionError("no rule made the examples stop at different steps: their states do not differ enough")
    for i in range(len(x.inputs)):
        single = think(loop, select_rows(x, slice(i, i + 1)), depth, halt=halt)
        count = int(torch.as_tensor(single.steps).max())
        assert count == int(times[i]), f"example {i} stops after {count} steps alone and {int(times[i])} in a batch"
        of = type(together.answer)(*(None if v is None else v[i : i + 1] for v in together.answer))
        off = distance(of, single.answer)
        assert off <= TOLERANCE, f"example {i} answers differently alone and in a batch (by {off:.1e} of its scale)"


def residual_rule(loop: Any, x: Question, depth: int) -> Any:
    """A rule `residual < tol` whose tol lies widest from every example's residuals among those that part the batch."""
    moved: list[Tensor] = []
    state = loop.init(x)
    for _ in range(depth):
        new = loop.step(state, x)
        moved.append(residual(state, new))
        state = new
    tol = widest_threshold(-torch.stack(moved, 1))
    return None if tol is None else lambda loop, old, new, steps: residual(old, new) < -tol


def score_rule(loop: Any, x: Question, depth: int) -> Any:
    """A rule "a number read off the answer exceeds tol": any function of an example's own state may stop it."""
    score = lambda state: loop.read(state).logits.float().flatten(1)[:, ::3].sum(1)  # noqa: E731
    scores: list[Tensor] = []
    think(loop, x, depth, record=lambda _, state: scores.append(score(state)))
    tol = widest_threshold(torch.stack(scores, 1))
    return None if tol is None else lambda loop, old, new, steps: score(new) > tol


def widest_threshold(values_BT: Tensor) -> float | None:
    """A threshold first exceeded at different steps in different rows, in the widest gap between values; or None."""
    ordered = values_BT.flatten().sort().values
    best: tuple[int, float, float] | None = None
    for low, high in pairwise(ordered.tolist()):
        tol, gap = (low + high) / 2, high - low
        over = values_BT > tol
        first = torch.where(over.any(1), over.long().argmax(1), over.shape[1])
        rank = (min(len(first.unique()), 3), gap, tol)
        if rank[0] > 1 and gap > 1e-5 * float(ordered.abs().max()) and (best is None or rank > best):
            best = rank
    return None if best is None else best[2]


class TapeCounter(Ledger):
    """Counts block calls on the tape and off it."""

    def __init__(self) -> None:
        super().__init__()
        self.by_tape = {True: 0, False: 0}

    def charge(self, nfe: float = 0, **others: float) -> None:
        self.by_tape[torch.is_grad_enabled()] += int(nfe)


def taped(subject: Subject) -> None:
    """What a step puts on the tape is what its declared gradient rule says, counted in calls of its nets."""
    loop, x = make_perturbed(subject).train(), subject.question
    nets = [m for m in loop.modules() if isinstance(m, Net)]
    counted = TapeCounter()
    state = loop.init(x)
    hooks = [] if nets else [m.register_forward_hook(lambda *_: charge_rows("nfe", state)) for m in loop.children()]
    with counting(counted):
        loop.step(state, x)
    for hook in hooks:
        hook.remove()
    rows = len(x.inputs)
    calls: dict[bool, float] = {on: n // rows for on, n in counted.by_tape.items()}
    if hasattr(loop, "schedule") and hasattr(loop, "grad") and nets:
        declared = {True: 0, False: 0}

        def tick(_: str, s: Any) -> Any:
            declared[torch.is_grad_enabled()] += 1
            return s

        loop.grad(loop.schedule, tick, None)
        raced = max(1, sum(calls.values()) // sum(declared.values()))  # trajectories of an example, in each call
        calls = {on: n / raced for on, n in calls.items()}
        assert calls == declared, (
            f"a step calls its nets {calls[True]:g} times on the tape and {calls[False]:g} off it, but its rule says "
            f"{declared[True]} and {declared[False]}: leave truncation to innerloop.grad"
        )
    elif not hasattr(loop, "grad"):
        assert calls[False] == 0, f"{calls[False]} calls are off the tape, but no rule is declared: pass one as `grad`"
    else:
        assert calls[True] > 0, "no call of a step is on the tape: nothing can be learned"


@torch.no_grad()
def refilled(subject: Subject) -> None:
    """refill replaces finished rows by fresh ones and leaves the other rows as they were, bit for bit."""
    loop, x = make_perturbed(subject).eval(), subject.question
    rows = len(x.inputs)
    state = think(loop, x, 2).state
    done = torch.arange(rows) % 2 == 0
    asked = refill(x, done, select_rows(x, torch.arange(rows).flip(0)))
    start = loop.init(asked)
    new = refill(state, done, start)
    for old, fresh, now in zip(_leaves(state), _leaves(start), _leaves(new), strict=True):
        assert torch.equal(now[~done], old[~done]), "refill changed a row that was not finished"
        assert torch.equal(now[done], fresh[done]), "refill left something of a finished row behind"
    on, without = loop.read(loop.step(new, asked)), loop.read(loop.step(state, x))
    keep = lambda a: type(a)(*(None if v is None else v[~done] for v in a))  # noqa: E731
    off = distance(keep(on), keep(without))
    assert off <= TOLERANCE, f"a row that goes on answers differently beside fresh rows (by {off:.1e} of its scale)"


def _leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [t for item in state for t in _leaves(item)] if isinstance(state, tuple) else []


CHECKS: dict[str, Callable[[Subject], None]] = {
    "shapes": shapes,
    "gradients": gradients,
    "finite at 4x depth": finite,
    "same seed, same answer": seeded,
    "save and load": saved,
    "batch independence": batch_independent,
    "taped calls": taped,
    "refill": refilled,
}
