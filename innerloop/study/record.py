"""Record every update of a loop, and intervene on its state (activation steering).

    watch(loop, x, depth)                           every update of every step is seen
    watch(loop, x, depth, steer=[Push("z", v, 3, 2)])   v is added to slot z at step 3, after its update 2

A loop whose step is made of several updates runs them by its gradient rule, `loop.tape`. During a step
that rule is replaced by one that calls it and records each update. Any other loop makes one update
a step, named "step". Steps and updates are counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.core import Loop, Thought, detach, think
from innerloop.errors import InputError
from innerloop.tree import rebuild

__all__ = ["Intervention", "RecordedLoop", "UpdateRecord", "get_slot", "record_updates", "set_slot", "slots"]

KeepFn = Callable[[str, Any, Any], Any]  # (name of the update, state before it, state after it) -> what to keep


class UpdateRecord(NamedTuple):
    """One update of one step."""

    step: int
    update: int
    name: str
    kept: Any


@dataclass(frozen=True)
class Intervention:
    """An addition to one slot of the state, at one update of one step."""

    slot: str  # its name in the state the update works on: `slots`
    by: Tensor | Callable[[Tensor], Tensor]  # added; or a function of the slot that says what is added
    step: int | None = None  # None: at every step
    update: int | None = None  # None: when the step is over


def slots(state: Any) -> dict[str, Tensor]:
    """The tensors of a state by name; nested ones as "outer.inner", and "state" where it is one bare tensor."""
    if isinstance(state, Tensor):
        return {"state": state}
    found: dict[str, Tensor] = {}
    if isinstance(state, tuple):
        for name, item in zip(_names(state), state, strict=True):
            for inner, tensor in slots(item).items():
                found[name if isinstance(item, Tensor) else f"{name}.{inner}"] = tensor
    return found


def set_slot(state: Any, slot: str, value: Tensor) -> Any:
    """The same state with one slot changed. Raises InputError where it has none of that name."""
    get_slot(state, slot)
    if isinstance(state, Tensor):
        return value
    head, _, rest = slot.partition(".")
    items = [
        (set_slot(item, rest, value) if rest else value) if name == head else item
        for name, item in zip(_names(state), state, strict=True)
    ]
    return rebuild(state, items)


def get_slot(state: Any, slot: str) -> Tensor:
    """One slot. Raises InputError where the state has none of that name."""
    found = slots(state)
    if slot not in found:
        raise InputError(f'this state has no slot "{slot}": it has {", ".join(found)}')
    return found[slot]


def _names(state: tuple[Any, ...]) -> Sequence[str]:
    return getattr(state, "_fields", None) or [str(i) for i in range(len(state))]


def state_after(name: str, old: Any, new: Any) -> Any:
    """What is kept unless told otherwise: the state after the update, off the tape."""
    return detach(new)


class RecordedLoop:
    """A loop that appends the result of `keep` for every update to `records`, and applies `steer`."""

    def __init__(self, loop: Loop, keep: KeepFn = state_after, steer: Sequence[Intervention] = ()) -> None:
        self.loop, self.keep, self.steer = loop, keep, tuple(steer)
        self.records: list[UpdateRecord] = []
        self.pushed: set[int] = set()  # which of `steer` have happened
        self.steps = self.updates = 0

    def init(self, x: Any) -> Any:
        return self.loop.init(x)

    def read(self, s: Any) -> Any:
        return self.loop.read(s)

    def step(self, s: Any, x: Any) -> Any:
        self.steps, self.updates = self.steps + 1, 0
        with self._watching():
            new = self.loop.step(s, x)
        if not self.updates:
            new = self._see("step", s, new)
        return self._push(new, None)

    def _see(self, name: str, old: Any, new: Any) -> Any:
        self.updates += 1
        new = self._push(new, self.updates)
        self.records.append(UpdateRecord(self.steps, self.updates, name, self.keep(name, old, new)))
        return new

    def _push(self, state: Any, update: int | None) -> Any:
        for i, push in enumerate(self.steer):
            if push.update == update and push.step in (None, self.steps):
                old = get_slot(state, push.slot)
                by = push.by(old) if callable(push.by) else push.by
                state = set_slot(state, push.slot, old + by.to(old))
                self.pushed.add(i)
        return state

    @contextmanager
    def _watching(self) -> Iterator[None]:
        owner: Any = self.loop
        while not callable(getattr(owner, "grad", None)) and hasattr(owner, "loop"):
            owner = owner.loop  # a wrapper, such as width.Noisy
        declared = getattr(owner, "grad", None)
        if not callable(declared):
            yield
            return

        def rule(schedule: Sequence[str], update: Callable[[str, Any], Any], s: Any) -> Any:
            return declared(schedule, lambda name, old: self._see(name, old, update(name, old)), s)

        # Straight into the instance: nn.Module would refuse a function in the place of a solver that is a module.
        own = vars(owner)
        before = own.get("grad")
        own["grad"] = rule
        try:
            yield
        finally:
            if before is None:
                del own["grad"]
            else:
                own["grad"] = before


@torch.no_grad()
def record_updates(
    loop: Loop, x: Any, depth: int, keep: KeepFn = state_after, steer: Sequence[Intervention] = (), state: Any = None
) -> tuple[Thought, list[UpdateRecord]]:
    """Think `depth` steps, without gradient, and return the thought and its records.

    keep   called after every update as keep(name, old, new); its result is the record's `kept`. States are large:
           keep a number of each where that will do
    Raises InputError for a push at an update that never came.
    """
    watched = RecordedLoop(loop, keep, steer)
    thought = think(watched, x, depth, state=state)
    for i, push in enumerate(steer):
        if i not in watched.pushed:
            raise InputError(
                f"the push at step {push.step}, update {push.update} never came: this thought has {depth} steps of "
                f"{watched.updates} updates"
            )
    return thought, watched.records
