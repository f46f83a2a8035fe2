"""A comparison that is killed at random moments: does it end as if nothing had happened, and is nothing paid twice?

    python benchmarks/interrupted.py --kills 20 --out results/interrupted.json

`innerloop compare` asks a server on loopback in a process of its own, which is killed (SIGKILL) at a random moment,
again and again, until it ends between two kills; then another one begins, until there were as many kills as asked for.
Every result must equal that of a comparison that nobody touched: each answer, mark and spending. Paid twice is what the
server answered more often than the untouched comparison asked, less the calls that were under way at a kill, of which
there may be as many as there are workers.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.lm.fake_server import FakeServer
from innerloop.lm.scripted import Scripted
from innerloop.runs.certificate import birth_certificate

WORKERS, LATENCY, QUESTIONS = 4, 0.05, 60


def write(prompt: Any, seed: int) -> str:
    a, b = map(int, re.findall(r"(\d+) \* (\d+)", str(prompt))[-1])
    return f" {a * b + random.Random(f'{a} {b} {seed}').randrange(2)}"


def command(url: str, questions: Path, out: Path) -> list[str]:
    ways = ["direct", "vote(4, direct)"]
    run = [sys.executable, "-m", "innerloop.cli", "compare", f"any@{url}", str(questions), "--think", *ways]
    how = ["--key", "", "--budget", "60k-tokens", "--samples", "4", "--workers", str(WORKERS), "--out", str(out)]
    return run + how


def told(folder: Path) -> Any:
    """What a comparison found, without where and when it was made."""
    found = json.loads((folder / "compare.json").read_text())
    arms = [
        {"name": a["name"], "items": [{k: v for k, v in i.items() if k != "details"} | costs(i) for i in a["items"]]}
        for a in found["arms"]
    ]
    return {"rows": [row | {"spent": counted(row["spent"])} for row in found["rows"]], "arms": arms}


def counted(spent: dict[str, float]) -> dict[str, float]:
    """A spending without times."""
    return {k: v for k, v in spent.items() if "seconds" not in k}


def costs(item: dict[str, Any]) -> dict[str, Any]:
    samples = [{k: v for k, v in s.items() if k != "details"} for s in item["samples"]]
    return {"spent": counted(item["spent"]), "samples": samples}


def killed(run: list[str], most: int, seconds: float, chance: random.Random) -> int:
    """How often a comparison was killed before it ended: at most `most` times, after shares of `seconds`."""
    for kills in range(most):
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if process.wait(chance.uniform(0.1, 0.9) * seconds):
                raise SystemExit(f"the comparison failed: {' '.join(run)}")
            return kills
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    subprocess.run(run, check=True, capture_output=True)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as place, FakeServer(Scripted(write), latency=LATENCY) as server:
        questions, whole = Path(place) / "q.jsonl", Path(place) / "whole"
        pairs = [(a, b) for a in range(2, 12) for b in range(2, 8)][:QUESTIONS]
        questions.write_text(
            "\n".join(json.dumps({"question": f"{a} * {b} =", "answer": str(a * b)}) for a, b in pairs)
        )
        began = time.monotonic()
        subprocess.run(command(server.url, questions, whole), check=True, capture_output=True)
        seconds, asked = time.monotonic() - began, server.requests
        rows: list[dict[str, Any]] = []
        while (left := args.kills - sum(row["kills"] for row in rows)) > 0:
            before, folder = server.requests, Path(place) / f"killed{len(rows)}"
            kills = killed(command(server.url, questions, folder), left, seconds, chance)
            again = server.requests - before
            rows.append(
                {
                    "kills": kills, "seconds": round(seconds, 1), "requests": asked, "requests_with_kills": again,
                    "under_way_at_most": kills * WORKERS, "paid_twice": max(0, again - asked - kills * WORKERS),
                    "equal": told(whole) == told(folder),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    files.write_json(args.out, {"born": birth_certificate([0]), "rows": rows})


if __name__ == "__main__":
    main()
