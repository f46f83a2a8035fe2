"""How long do eight votes on a slow endpoint take? Calls of a vote run at once, so little more than one call.

    python benchmarks/votes.py --repeats 15 --out results/votes.json

A server on loopback that answers after 50 ms; one call, then a vote over eight samples, in turns; medians, and ratios
within a turn. The null arm is the same vote in waves of one sample.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.lm.endpoint import Endpoint
from innerloop.lm.fake_server import FakeServer
from innerloop.lm.scripted import Scripted
from innerloop.runs.certificate import birth_certificate
from innerloop.tokens.way import Item, answer
from innerloop.tokens.ways import way_of

LATENCY = 0.05
WAYS = {"one call": "direct", "vote(8)": "vote(8, direct)", "vote(8), one by one": "vote(8, direct, wave=1)"}


def write(prompt: Any, seed: int) -> str:
    return f"The answer is {41 + seed % 2}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    item, seconds = Item("q", "What is 6 * 7?", "42"), {name: [] for name in WAYS}  # type: ignore[var-annotated]
    with FakeServer(Scripted(write), latency=LATENCY) as server:
        model = Endpoint(server.url, "any", key="", workers=8)
        ways = {name: way_of(text, model) for name, text in WAYS.items()}
        for turn in range(args.repeats + 1):  # the first opens connections
            for name, way in ways.items():
                began = time.perf_counter()
                answer(way, item, turn)
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    rows = []
    for name, times in seconds.items():
        ratios = [t / one for t, one in zip(times, seconds["one call"], strict=True)]
        rows.append({"way": name, "ms": 1000 * statistics.median(times), "of_one_call": statistics.median(ratios)})
        print(f"{name}: {rows[-1]['ms']:.0f} ms, {rows[-1]['of_one_call']:.2f} times one call")
    files.write_json(
        args.out, {"born": birth_certificate([0]), "latency_ms": 1000 * LATENCY, "turns": args.repeats, "rows": rows}
    )


if __name__ == "__main__":
    main()
