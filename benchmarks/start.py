"""How long a start takes: a bare interpreter, `import innerloop`, `innerloop list`, and `import torch` for comparison.

python benchmarks/start.py --out results/start.json
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from innerloop.files import write_json
from innerloop.runs.certificate import birth_certificate

CASES = {
    "python": ["-c", ""],
    "import innerloop": ["-c", "import innerloop"],
    "import innerloop and use think": ["-c", "import innerloop; innerloop.think"],
    "innerloop list": ["-m", "innerloop.cli", "list"],
    "import torch": ["-c", "import torch"],
}


def seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    turns = [[seconds(a) for a in CASES.values()] for _ in range(args.turns)]
    rows = [{"what": w, "seconds": statistics.median(t)} for w, t in zip(CASES, zip(*turns, strict=True), strict=True)]
    for row in rows:
        print(f"{row['what']}: {row['seconds']:.2f} s")
    if args.out:
        write_json(args.out, {"born": birth_certificate(), "rows": rows})


if __name__ == "__main__":
    main()
