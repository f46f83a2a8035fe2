"""A task in text whose chains are written with macros: one new character stands for several (innerloop.tokens.macros).

    Compressed("needle", macros={"A": "1,2,3"})          "1,2,3,4=4;"  is learned as  "A,4=4;"

Only the chain is: question, answer and marks stay as they are. A model that was trained so writes fewer tokens; its
texts are read with the macros spelled out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from innerloop.errors import InputError
from innerloop.tasks.text import CHARSET, CUE, TextTask
from innerloop.tokens.macros import Macro, compress

__all__ = ["MACRO_NAMES", "Compressed"]

MACRO_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # characters that no task in text uses


class Compressed(TextTask):
    """The task `task` with `options`; macros: a text for each capital letter; places of a row, 0: as the task has."""

    name = "compressed"
    rating_counts = "characters of the response"

    def __init__(
        self,
        task: str = "chain",
        options: Mapping[str, Any] = MappingProxyType({}),
        macros: Mapping[str, str] = MappingProxyType({}),
        places: int = 0,
    ):
        from innerloop import tasks

        inner = tasks.get(task, **options)
        if not isinstance(inner, TextTask) or isinstance(inner, Compressed):
            raise InputError(f"{task} is no task whose chains could be compressed: name one in text, such as chain")
        for name, text in macros.items():
            if len(name) != 1 or name not in MACRO_NAMES or len(text) < 2 or set(text) - set(CHARSET):
                raise InputError(
                    f"macros {name!r}: {text!r}: give a capital letter for each text of two or more known characters"
                )
        self.inner, self.macros = inner, [Macro(name, tuple(text), 0) for name, text in macros.items()]
        self.charset = CHARSET + MACRO_NAMES[: 1 + max(map(MACRO_NAMES.index, macros), default=-1)]
        self.vocab, self.expansions = len(self.charset) + 1, dict(macros)
        self.answer_kind, self.is_right = inner.answer_kind, inner.is_right  # type: ignore[method-assign]
        size = places or inner.shape[1]
        self.setup(size, inner.modes)
        self.options = {"task": task, "options": dict(options), "macros": dict(macros), "places": size}

    @property
    def answers_alone(self) -> bool:
        return self.inner.answers_alone

    def pose(self, rng: np.random.Generator) -> str:
        return self.inner.pose(rng)

    def explain(self, question: str) -> tuple[str, str] | None:
        return self.inner.explain(question)

    def respond(self, question: str, mode: str) -> str | None:
        said = super().respond(question, mode)
        if said is None or mode != "chain":
            return said
        chain, cue, answer = said.rpartition(CUE)
        return "".join(compress(tuple(chain), self.macros)) + cue + answer
