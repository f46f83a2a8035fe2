"""The comparison that README shows: ways to think of our own small language model, at equal spending.

    innerloop train chain
    python benchmarks/compared.py runs/chain --out results/compared.json

`innerloop compare` on two hundred questions that the run never learned from, under one budget of tokens each, beside a
null arm of independent samples. What is kept is the table, not the texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from subject import of_recipe

from innerloop import files
from innerloop.cli.comparing import RESULT, compare
from innerloop.registry import open_run
from innerloop.runs.certificate import birth_certificate

WAYS = ("direct", "chain", "dots", "vote(8, direct)", "vote(8)")
BUDGET = "200k-tokens"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a folder that `innerloop train chain` wrote")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/compared"), help="of the calls, texts and the page")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    compare(args.run, think=WAYS, budget=BUDGET, out=str(args.folder))
    found = files.read_json(args.folder / RESULT)
    opened = open_run(args.run)
    kept = {k: v for k, v in found.items() if k not in ("arms", "asked", "born")}
    subject = of_recipe("chain", sum(p.numel() for p in opened.loop.parameters()))
    steps = opened.run.data.options["steps"]
    files.write_json(args.out, kept | {"steps": steps, "subject": subject, "born": birth_certificate([0])})


if __name__ == "__main__":
    main()
