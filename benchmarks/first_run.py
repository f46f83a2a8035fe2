"""The first run with a real language model: the command of `make think`, without network and without a key.

    innerloop get smollm2
    python benchmarks/first_run.py --repeats 3 --out results/first_run.json

SmolLM2-135M-Instruct compares direct answers, a vote and a verified best-of-8 on twelve one-digit products, in a
process without any network but its own loopback (unshare), each time in a folder of its own. Kept are the seconds of
every time, the tokens a second, and how often one sample, the majority of eight, and any of eight was right.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.interval import wilson
from innerloop.runs.certificate import birth_certificate

ROOT = Path(__file__).resolve().parents[1]
ALONE = "ip link set lo up && exec "  # in a network of its own, which has a loopback alone


def of_make() -> list[str]:
    """The comparison that `make think` runs, with this Python."""
    lines = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    (line,) = (text for text in lines if "innerloop compare smollm2" in text)
    words = shlex.split(line.strip())[1:]
    return [sys.executable, "-m", "innerloop.cli", *words[: words.index("--out")]]


def share(right: int, n: int) -> dict[str, Any]:
    low, high = wilson(right, n)
    return {"right": right, "n": n, "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    keys = {"OPENAI_API_KEY", "INNERLOOP_KEY"}
    environment = {k: v for k, v in os.environ.items() if k not in keys}
    seconds, found = [], {}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = shlex.join([*of_make(), "--out", folder])
            began = time.perf_counter()
            subprocess.run(["unshare", "-rn", "sh", "-c", ALONE + command], check=True, cwd=ROOT, env=environment)
            seconds.append(time.perf_counter() - began)
            found = files.read_json(Path(folder) / "compare.json")
    null = next(arm for arm in found["arms"] if arm["name"].startswith("null"))
    first = [item["samples"][:8] for item in null["items"]]
    answers = {i: found["asked"][item["id"]]["answer"] for i, item in enumerate(null["items"])}
    right = [[said["answer"] == answers[i] for said in samples] for i, samples in enumerate(first)]
    tokens = sum(item["spent"]["tokens"] for arm in found["arms"] for item in arm["items"])
    row = {
        "seconds": seconds, "median": statistics.median(seconds), "tokens": tokens,
        "tokens_a_second": tokens / statistics.median(seconds), "questions": len(first),
        "one_sample": share(sum(map(sum, right)), sum(map(len, right))),
        "majority_of_8": share(sum(item["mark"] == "right" for item in null["items"]), len(right)),
        "any_of_8": share(sum(map(any, right)), len(right)),
        "ways": [{k: r[k] for k in ("name", "accuracy", "low", "high", "n")} for r in found["rows"]],
    }  # fmt: skip
    print(f"{row['median']:.0f} s, {row['tokens_a_second']:.0f} tokens a second")
    files.write_json(args.out, {"born": birth_certificate([found["seed"]]), "model": found["model"], "rows": [row]})


if __name__ == "__main__":
    main()
