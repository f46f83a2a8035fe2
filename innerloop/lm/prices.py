"""Prices of a language model's tokens, in US dollars for a million: what a call costs in the ledger's unit "money".

    parse_prices("0.15/0.60")          read and written;   "0.15/0.075/0.60" with cached ones apart
    prices_for(name, "prices.json")    {"small": "0.15/0.60", "large": "3/0.30/15"}, by the model's name

Before a call, all that it reads is priced as not cached; what it costs is known after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from innerloop import files
from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable

__all__ = ["Prices", "parse_prices", "prices_for"]

MILLION = 1_000_000


class Prices(NamedTuple):
    """US dollars for a million tokens."""

    tokens_in: float
    tokens_cached: float  # of those read, what the model's cache held already
    tokens_out: float

    def of(self, units: Mapping[str, float]) -> float:
        """US dollars for these units of the ledger."""
        cached = units.get("tokens_cached", 0.0)
        read = (units.get("tokens_in", 0.0) - cached) * self.tokens_in + cached * self.tokens_cached
        return (read + units.get("tokens_out", 0.0) * self.tokens_out) / MILLION


def parse_prices(text: str) -> Prices:
    """The prices of "READ/WRITTEN" or "READ/CACHED/WRITTEN". Raises InputError."""
    try:
        values = [float(part) for part in text.split("/")]
    except ValueError:
        values = []
    if len(values) not in (2, 3) or not all(math.isfinite(v) and v >= 0 for v in values) or not any(values):
        raise InputError(
            f'the prices "{printable(text, 60)}" are none: write US dollars for a million tokens read and written, '
            "such as 0.15/0.60, or with cached ones apart, 0.15/0.075/0.60"
        )
    return Prices(values[0], values[-2], values[-1])


def prices_for(name: str, given: str) -> Prices:
    """The prices of the model `name`: `given` is one price for all, or a JSON file of prices by name.

    A model of an endpoint, MODEL@URL, is found by its whole name, or by MODEL. Raises InputError.
    """
    if "/" in given and not Path(given).exists():
        return parse_prices(given)
    table = files.read_json(Path(given))
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise InputError(f'{files.shown(given)} holds no prices: give an object such as {{"small": "0.15/0.60"}}')
    found = table.get(name, table.get(name.rpartition("@")[0] or name))
    if found is None:
        raise InputError(f'{files.shown(given)} has no price of "{printable(name, 60)}": {did_you_mean(name, table)}')
    return parse_prices(found)
