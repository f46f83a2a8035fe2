"""Does the ledger count what a server counts? Random programs of nested, parallel and failing calls, under a hard cap.

    python benchmarks/ledger.py --programs 1000 --out results/ledger.json

Each program calls an endpoint on loopback by itself, several at once in threads, and under budgets of its own; the
server refuses, breaks and, with --losses, loses replies at random. Without losses the ledger must equal the server's
own counts of tokens and completions. With them it may be above, by what the replies that were lost could have cost at
most, and never below. No budget may be passed, not by a token.
"""

from __future__ import annotations

import argparse
import contextlib
import random
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.budget import OverBudget, limited
from innerloop.core import SomeFailed, think_many
from innerloop.errors import InputError
from innerloop.lm.endpoint import Endpoint, EndpointError
from innerloop.lm.fake_server import FakeServer, Faults
from innerloop.lm.scripted import Scripted
from innerloop.runs.certificate import birth_certificate

UNITS = ("tokens_in", "tokens_out", "completions")
DEPTH = 3  # of nested budgets and parallel parts


class Program:
    """A random program of calls. `overshoot`: tokens by which a budget of its own was passed."""

    def __init__(self, model: Any, seed: float) -> None:
        self.model, self.random, self.overshoot = model, random.Random(seed), 0.0

    def run(self, depth: int = 0) -> None:
        kind = self.random.choice(["call", "call", "limit", "many"] if depth < DEPTH else ["call"])
        with contextlib.suppress(OverBudget, EndpointError, SomeFailed):
            {"call": self.call, "limit": self.limit, "many": self.many}[kind](depth)

    def call(self, depth: int) -> None:
        how = {"max_new_tokens": self.random.randint(1, 30), "temperature": 1.0, "seed": self.random.randint(0, 9)}
        self.model.generate(["p" * self.random.randint(1, 9)] * self.random.randint(1, 3), **how)

    def limit(self, depth: int) -> None:
        with limited(tokens=self.random.randint(1, 400)) as inner:
            self.run(depth + 1)
            self.run(depth + 1)
        self.overshoot = max(self.overshoot, inner.tokens_in + inner.tokens_out - inner.limits["tokens"])

    def many(self, depth: int) -> None:
        parts = [Program(self.model, self.random.random()) for _ in range(self.random.randint(2, 4))]
        think_many(OneStep(depth + 1), parts, depth=1, workers=4)
        self.overshoot = max(self.overshoot, *(part.overshoot for part in parts))


class OneStep:
    """A loop of one step, which runs a program."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def init(self, x: Program) -> bool:
        return False

    def step(self, s: bool, x: Program) -> bool:
        x.run(self.depth)
        return True

    def read(self, s: bool) -> bool:
        return s


def write(prompt: str, seed: int) -> str:
    return "x" * ((7 * len(prompt) + 13 * seed) % 40)


def measure(programs: int, losses: float, cap: int, seed: int = 0) -> dict[str, Any]:
    """Run the programs; what the ledger and the server counted, and by how much a cap was passed."""
    faults = Faults(busy=0.1, broken=0.1, truncated=losses, malformed=losses, wrong_usage=losses, seed=seed)
    with FakeServer(Scripted(write), faults=faults) as server, limited(tokens=cap) as budget:
        model = Endpoint(server.url, "any", api="completions", key="", retries=1, backoff=0.001, workers=3)
        made = [Program(model, 10_000 * seed + i) for i in range(programs)]
        for program in made:
            program.run()
        spent, served = ({u: int(getattr(ledger, u)) for u in UNITS} for ledger in (budget, server.served))
        over = max(0.0, spent["tokens_in"] + spent["tokens_out"] - cap, *(p.overshoot for p in made))
        held = sum(budget.reserved.values())
    return {
        "programs": programs, "losses": losses, "cap": cap, "requests": server.requests, "ledger": spent,
        "server": served, "equal": spent == served, "never_below": all(spent[u] >= served[u] for u in UNITS),
        "overshoot": over, "still_reserved": held,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--cap", type=int, default=150_000, help="tokens of all programs together")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [measure(args.programs, losses, args.cap) for losses in (0.0, 0.05)]
    for row in rows:
        print(row, flush=True)
    good = rows[0]["equal"] and all(r["never_below"] and not r["overshoot"] and not r["still_reserved"] for r in rows)
    files.write_json(args.out, {"good": good, "rows": rows, "born": birth_certificate([0])})
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
