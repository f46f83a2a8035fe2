"""What `ask` and `compare` share: the model, worked examples, a verifier, and words for what was spent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from innerloop import files
from innerloop.data.questions import rows_of
from innerloop.errors import InputError
from innerloop.lm.prices import Prices, prices_for
from innerloop.registry import open_model
from innerloop.text import printable
from innerloop.tokens.prompts import Shot

__all__ = ["NO_FLAGS", "ModelFlags", "ModelName", "parse_budget", "read_shots", "worded_spending"]

ModelName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
BUDGET = re.compile(r"(\d+(?:\.\d+)?)([kMGT]?)-(tokens|tokens_in|tokens_out|completions|money|nfe|flops)")
FACTORS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 10**9, "T": 10**12}


class ModelFlags(NamedTuple):
    """How to reach a language model."""

    api: str = "chat"  # Of an endpoint: chat, completions or responses.
    key: str = "OPENAI_API_KEY"  # Environment variable that holds an endpoint's key.
    context: int = 0  # Most tokens of prompt and answer; 0: 2048 of a local model, 131072 of an endpoint.
    workers: int = 8  # Calls at once.
    # US dollars for a million tokens read and written, such as 0.15/0.60, or read, cached and written, 0.15/0.075/0.60;
    # or a JSON file of them by the model's name.
    prices: str = ""

    def open(self, name: str) -> Any:
        """The model of that name. Raises InputError for a flag that is out of range."""
        if self.context < 0 or not 1 <= self.workers <= 256:
            raise InputError(f"--context {self.context}, --workers {self.workers}: give 0 or more, and 1 to 256")
        prices = self.prices_of(name)
        model: Any = open_model(name, api=self.api, key=self.key, context=self.context, workers=self.workers)
        model.prices = prices
        return model

    def prices_of(self, name: str) -> Prices | None:
        """The prices of the model of that name; None where none are given."""
        return prices_for(name, self.prices) if self.prices else None


NO_FLAGS = ModelFlags()


def read_shots(path: str) -> tuple[Shot, ...]:
    """Worked examples from a file, one a row: question, chain, answer, and an equation where there is one."""
    if not path:
        return ()
    shots = []
    for where, row in rows_of(Path(path)):
        if not all(isinstance(row.get(name), str) and row[name] for name in ("question", "answer")):
            raise InputError(f"{where}: a worked example has the fields question, answer, and chain or equation")
        shots.append(Shot(row["question"], row.get("chain") or "", row["answer"], row.get("equation") or ""))
    if not shots:
        raise InputError(f"{files.shown(path)} holds no worked example")
    return tuple(shots)


def parse_budget(text: str) -> tuple[str, float]:
    """("tokens", 200000.0) of "200k-tokens". Raises InputError."""
    match = BUDGET.fullmatch(text)
    if not match or not float(match[1]):
        raise InputError(
            f'the budget "{printable(text, 60)}" is none: write one such as 200k-tokens, 500-completions, 20G-flops or '
            "0.5-money"
        )
    return match[3], float(match[1]) * FACTORS[match[2]]


def worded_spending(spent: Mapping[str, float]) -> str:
    """What was spent, for people."""
    n_in, n_out = (int(spent.get(unit, 0)) for unit in ("tokens_in", "tokens_out"))
    calls = int(spent.get("completions", 0))
    money = f", ${spent['money']:.4g}" if spent.get("money") else ""
    return f"{n_in + n_out:,} tokens ({n_in:,} read, {n_out:,} written), {calls} completion{'s' * (calls != 1)}{money}"


def tally(answers: Sequence[str | None]) -> str:
    """How often each answer was given, the most frequent first."""
    counts = Counter("no answer" if a is None else a for a in answers)
    return ", ".join(f"{printable(a, 60)} ({n})" for a, n in counts.most_common())
