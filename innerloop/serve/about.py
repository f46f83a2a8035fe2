"""What a model says of itself: its task, what it can do, held-out puzzles to try, and what was measured of its run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.errors import InputError
from innerloop.recipes import run as runs
from innerloop.serve import schema
from innerloop.serve.models import Served, finite, kept
from innerloop.serve.orders import Order
from innerloop.serve.worker import Closed, Full, bell
from innerloop.solve.case import Case
from innerloop.solve.dials import Dials

__all__ = ["About", "held_out", "model"]

SHOWN = 12  # examples
MEASURED = 500  # puzzles at most for curves.halting
PART = 8  # of them at once, so that requests hardly notice
DEEPEST = 64  # steps of a puzzle that does not halt
PATIENCE = 2.0  # seconds that a request waits for the measurement
BACKGROUND = -1e9  # priority of the measurement


def model(served: Served) -> schema.Model:
    """What /v1/models lists."""
    task, run, limits = served.task, served.opened.run, served.limits
    symbols = task.pad_symbol + task.charset
    units = None if task.units is None else [list(dict.fromkeys(unit)) for unit in np.asarray(task.units).tolist()]
    return schema.Model(
        name=served.name,
        system=run.system,
        task=task.name,
        about=run.about or f"{run.system.upper()} on {task.name}",
        rows=task.shape[0],
        columns=task.shape[1],
        charset=task.charset,
        pad=task.pad_symbol,
        blank=symbols[task.blank] if task.blank else "",
        boxes=list(task.boxes()),
        units=units,
        glyphs={s: task.glyph(t) for t, s in enumerate(symbols)},
        colours={s: task.colour(t) for t, s in enumerate(symbols)},
        verifies=served.solver.verify is not None,
        parameters=sum(p.numel() for p in served.opened.loop.parameters()),
        trained_depth=run.plan.deepest,
        rules=served.rules,  # type: ignore[arg-type]
        varies=served.varies,
        views=task.views(1, np.random.default_rng(0)) is not None,
        exact=served.exact,
        limits=schema.Limits(
            depth=limits.depth,
            width=limits.width,
            puzzles=limits.puzzles,
            seconds=limits.seconds,
            moments=limits.moments,
        ),
        calibrated=bool(served.solver.trusts),
        fixed=getattr(task, "fixed", None),
        identifiers=served.identifiers,
    )


def held_out(opened: Any, limit: int) -> tuple[Any, str]:
    """(up to `limit` puzzles that the run was not trained on, where they come from); None where there are none.

    They are those it was validated on. Where its files are not on this machine they are generated, if its task can;
    nothing is ever fetched.
    """
    task, data = opened.task, opened.run.data
    if not data.train:
        found = task.make(min(limit, data.holdout or limit), data.seed + 1_000_003)  # as recipes.run.sets makes them
        return found, found.source
    if all(Path(name).exists() for name in (data.train, data.test) if name):
        try:
            found = runs.sets(data)[2].take(slice(limit))
        except InputError as error:  # a damaged file is no reason not to say the rest
            return None, str(error)
        return found, Path(found.source).name
    try:
        found = task.make(limit, data.seed + 2_000_003)
    except InputError:
        return None, "the run's puzzles are not on this machine"
    return found, f"{found.source}, since the run's own puzzles are not on this machine"


@dataclass(eq=False)
class About:
    """What /v1/models/NAME says; puzzles are drawn and halting is measured once, when first asked for."""

    served: Served
    halting: list[schema.Halted] = field(default_factory=list)
    _drawn: asyncio.Task[Any] | None = None
    _measured: asyncio.Task[None] | None = None

    async def detail(self) -> schema.Detail:
        if self._drawn is None:
            self._drawn = asyncio.create_task(asyncio.to_thread(held_out, self.served.opened, MEASURED))
        puzzles, source = await asyncio.shield(self._drawn)
        if self._measured is None and puzzles is not None and self.served.stops:
            self._measured = asyncio.create_task(self._measure(puzzles))
        if self._measured is not None:
            await asyncio.wait({self._measured}, timeout=PATIENCE)
        curves = schema.Curves(
            depth=depth_curve(kept(self.served.opened, "eval.json")),
            halting=self.halting,
            modules=slots(kept(self.served.opened, "study.json")),
            trust=[
                schema.TrustPoint(
                    rule=t.rule, accuracy=t.accuracy, auroc=finite(t.auroc, 6), ece=finite(t.ece, 6)
                )
                for t in self.served.solver.trusts.values()
            ],
        )  # fmt: skip
        return schema.Detail(
            **model(self.served).model_dump(),
            examples=list(examples(self.served.task, puzzles)) if puzzles is not None else [],
            source=source,
            curves=curves,
            measuring=self._measured is not None and not self._measured.done(),
            born=kept(self.served.opened, "run.json").get("born", {}),
        )

    async def _measure(self, puzzles: Any) -> None:
        """Let every puzzle halt by itself, a few at a time, behind everything else."""
        served, size = self.served, self.served.identifiers
        d = Dials(min(DEEPEST, served.limits.depth), 1, "certainty", halting=True, least=0.0)
        rating = puzzles.rating.astype(float)
        for first in range(0, len(puzzles), PART):
            rows = [i for i in range(first, min(first + PART, len(puzzles))) if puzzles.puzzle[i] < size]
            cases = [Case(served.solver, puzzles.inputs[i], d, int(puzzles.puzzle[i])) for i in rows]
            for i, found in zip(rows, await self._solved(cases) if cases else [], strict=True):
                if found is not None and found.steps:
                    label = puzzles.labels[i]
                    right = bool(served.solver.right(puzzles.inputs[i], label, found.answer[None])[0])
                    self.halting.append(schema.Halted(steps=found.steps, rating=finite(rating[i], 4), right=right))

    async def _solved(self, cases: list[Case]) -> list[Any]:
        done, tell = bell()
        order = Order(cases, self.served.maker, tell, time.monotonic() + 60, BACKGROUND)
        while True:
            try:
                self.served.worker.submit(order)
                break
            except Full:
                await asyncio.sleep(1)
            except Closed:
                return [None] * len(cases)
        await done
        return list(order.solutions)


def examples(task: Any, puzzles: Any) -> Iterator[schema.Example]:
    """A few of them, easy to hard."""
    order = np.argsort(puzzles.rating, kind="stable")
    for i in order[np.unique(np.linspace(0, len(order) - 1, SHOWN).round().astype(int))]:
        label = puzzles.labels[i]
        yield schema.Example(
            question=task.decode(puzzles.inputs[i]),
            answer=task.decode(label) if (label != 0).any() else "",
            rating=finite(float(puzzles.rating[i]), 4),
            identifier=int(puzzles.puzzle[i]),
        )


def depth_curve(judged: dict[str, Any]) -> list[schema.DepthPoint]:
    """Rows of an eval.json."""
    names = schema.DepthPoint.model_fields
    rows = [{k: row.get(k) for k in names} for row in judged.get("rows", [])]
    return [schema.DepthPoint(**row) for row in rows if all(row[k] is not None for k in names if k != "valid")]


def slots(found: dict[str, Any]) -> list[schema.Slot]:
    """The last step of each slot's dimension in a study.json."""
    return [
        schema.Slot(
            slot=slot,
            participation_ratio=finite(steps[-1].get("corrected"), 4),
            effective_rank=finite(steps[-1].get("effective_rank"), 4),
        )
        for slot, steps in found.get("dimension", {}).get("trained", {}).items()
        if steps
    ]
