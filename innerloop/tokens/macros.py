"""Macros: sequences of steps that recur in verified traces, found by description length, and named.

    L(macros) = sum over symbols s of the rewritten traces  n_s log2(N / n_s)
              + sum over macros                             (1 + its length) log2(number of different symbols)

A symbol is a step, a macro or the end of a trace. The macro that lowers L most is taken, again and again, until none
does (a two-part code, Rissanen 1978; pairs that are replaced: Larsson and Moffat 1999; macros may hold macros). A trace
is written with the fewest symbols, and what is written with macros means exactly the steps that it stands for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.errors import InputError

__all__ = ["Macro", "Mined", "bits_of", "compress", "expand", "mine"]

Step = str
TRIED = 64  # candidates of a round whose description length is computed


@dataclass(frozen=True)
class Macro:
    """A name for a sequence of steps, which holds no macros."""

    name: str
    steps: tuple[Step, ...]
    times: int  # in the traces it was found in


@dataclass(frozen=True)
class Mined:
    """Macros, longest first, and what they are worth on the traces they were found in."""

    macros: tuple[Macro, ...]
    bits_before: float
    bits_after: float  # macros included
    symbols_before: int
    symbols_after: int  # macros not included


def mine(traces: Iterable[Sequence[Step]], names: Sequence[str], longest: int = 8) -> Mined:
    """The macros of these traces: at most one for each of `names`, each of up to `longest` symbols.

    Raises InputError where there is no trace, where a name is a step, and where longest is below 2.
    """
    rows: list[tuple[Any, ...]] = [tuple(trace) for trace in traces]
    steps = {step for row in rows for step in row}
    if not steps or longest < 2:
        raise InputError("macros are found in one or more traces with steps, with longest=2 or more")
    if taken := sorted(steps.intersection(names)):
        raise InputError(f'"{taken[0]}" is a step of the traces: give names that are none')
    before, definitions = list(rows), {}  # type: ignore[var-annotated]
    for number in range(len(names)):
        found = best_macro(rows, definitions, len(steps), longest)
        if found is None:
            break
        definitions[number] = found  # a macro is its number in the rows, steps are texts
        rows = [replaced(row, found, number) for row in rows]
    texts = {number: flat(number, definitions) for number in definitions}
    after = description(rows, definitions, len(steps))
    order = sorted(definitions, key=lambda n: (-len(texts[n]), n))
    named = [Macro(name, texts[n], 0) for name, n in zip(names, order, strict=False)]
    written = [compress(row, named) for row in before]
    times = Counter(symbol for row in written for symbol in row)
    kept = tuple(Macro(m.name, m.steps, times[m.name]) for m in named if times[m.name])
    bits_before = description(before, {}, len(steps))
    return Mined(kept, bits_before, after, sum(map(len, before)), sum(map(len, written)))


def best_macro(
    rows: Sequence[tuple[Any, ...]], definitions: dict[int, tuple[Any, ...]], steps: int, longest: int
) -> tuple[Any, ...] | None:
    """The sequence whose naming lowers the description length the most; None where none does."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        for size in range(2, longest + 1):
            counts.update(row[i : i + size] for i in range(len(row) - size + 1))
    likely = sorted((c for c in counts if counts[c] > 1), key=lambda c: (-(len(c) - 1) * counts[c], repr(c)))
    now, best, number = description(rows, definitions, steps), None, len(definitions)
    for found in likely[:TRIED]:
        cost = description([replaced(row, found, number) for row in rows], {**definitions, number: found}, steps)
        if cost < now - 1e-9:
            now, best = cost, found
    return best


def description(rows: Sequence[Sequence[Any]], definitions: dict[int, tuple[Any, ...]], steps: int) -> float:
    """Bits of rows and of the definitions of their macros; see the module docstring. steps: different ones."""
    symbols = math.log2(steps + len(definitions) + 1)
    return bits_of(rows) + sum((1 + len(d)) * symbols for d in definitions.values())


def bits_of(rows: Sequence[Sequence[Any]]) -> float:
    """Bits of rows of symbols by the frequencies of these, with an end after each row."""
    counts = Counter(symbol for row in rows for symbol in row)
    counts[None] = len(rows)
    total = sum(counts.values())
    return sum(n * math.log2(total / n) for n in counts.values() if n)


def replaced(row: Sequence[Any], found: tuple[Any, ...], symbol: Any) -> tuple[Any, ...]:
    """A row in which a sequence is one symbol, from left to right."""
    out, i, size = [], 0, len(found)
    while i < len(row):
        if tuple(row[i : i + size]) == found:
            out.append(symbol)
            i += size
        else:
            out.append(row[i])
            i += 1
    return tuple(out)


def flat(symbol: Any, definitions: dict[int, tuple[Any, ...]]) -> tuple[Step, ...]:
    """The steps that a symbol stands for."""
    if symbol not in definitions:
        return (symbol,)
    return tuple(step for part in definitions[symbol] for step in flat(part, definitions))


def compress(trace: Sequence[Step], macros: Sequence[Macro]) -> list[str]:
    """A trace in the fewest symbols: steps, and names of macros."""
    trace = tuple(trace)
    fewest: list[tuple[int, str, int]] = [(0, "", 0)]  # symbols up to here, the last of them, where it begins
    for end in range(1, len(trace) + 1):
        ways = [(fewest[end - 1][0] + 1, trace[end - 1], end - 1)]
        for macro in macros:
            begin = end - len(macro.steps)
            if begin >= 0 and trace[begin:end] == macro.steps:
                ways.append((fewest[begin][0] + 1, macro.name, begin))
        fewest.append(min(ways, key=lambda way: way[0]))
    out, end = [], len(trace)
    while end:
        _, symbol, end = fewest[end]
        out.append(symbol)
    return out[::-1]


def expand(symbols: Iterable[str], macros: Sequence[Macro]) -> list[Step]:
    """The steps that symbols stand for."""
    known = {macro.name: macro.steps for macro in macros}
    return [step for symbol in symbols for step in known.get(symbol, (symbol,))]
