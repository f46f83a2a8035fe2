"""shorthand: a chain of thought in which sequences of steps have names, which the model may write in their place.

    "[A] = carry the one; add the next column"        an instruction lists them (tokens.macros finds them in traces)
    the chain is read with every name spelled out;    one call

A model trained here learns its macros as characters instead: the task `compressed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.errors import InputError
from innerloop.lm.protocol import Completion
from innerloop.tokens.chain import Chain
from innerloop.tokens.macros import Macro
from innerloop.tokens.prompts import TRIGGER, Shot

__all__ = ["Shorthand", "read_macros"]

BETWEEN = "; "  # two steps of a macro in the instruction and in a text that is spelled out


class Shorthand(Chain):
    """Chain of thought with named steps. Raises InputError without macros, and for a model that was trained here."""

    def __init__(self, model: Any, macros: Sequence[Macro], shots: Sequence[Shot] = (), **how: Any) -> None:
        if getattr(model, "forms", None):
            raise InputError(f"{model.name} takes no instructions: train it with macros, by the task compressed")
        if not macros:
            raise InputError("shorthand needs one or more macros: innerloop macros finds them in traces")
        named = "\n".join(f"{m.name} = {BETWEEN.join(m.steps)}" for m in macros)
        told = f"Where steps of yours have a name, write the name alone:\n{named}\nEnd with: The answer is ..."
        super().__init__(model, shots, instruction=f"{TRIGGER}\n{told}", **how)
        self.macros = tuple(macros)

    def ask(self, prompt: Any, **sampling: Any) -> Completion:
        completion = super().ask(prompt, **sampling)
        text = completion.text
        for macro in self.macros:
            text = text.replace(macro.name, BETWEEN.join(macro.steps))
        return replace(completion, text=text)


def read_macros(path: Path | str) -> tuple[Macro, ...]:
    """The macros of a file that `innerloop macros` wrote. Raises InputError."""
    found = files.read_json(Path(path))
    rows = found.get("macros") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and isinstance(r.get("name"), str) and r["name"]
        and isinstance(r.get("steps"), list) and r["steps"] and all(isinstance(s, str) for s in r["steps"])
        for r in rows
    ):  # fmt: skip
        raise InputError(f"{files.shown(path)} holds no macros: give a file that innerloop macros wrote")
    return tuple(Macro(r["name"], tuple(r["steps"]), int(r.get("times", 0))) for r in rows)
