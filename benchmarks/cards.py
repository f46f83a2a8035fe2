"""Write the cards of the models that come along anew, with their accuracy by difficulty; their weights stay.

python benchmarks/cards.py          # --check: only say whether they are up to date
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file
from subject import stale

from innerloop.export.card import card
from innerloop.learn import checkpoint
from innerloop.pretrained import FOLDER, names
from innerloop.runs.single import FORMAT, FORMAT_KEY, README, SUFFIX, open_single, parse_attached, read_texts

RESULT = Path(__file__).resolve().parents[1] / "results" / "difficulty.json"


def written(name: str) -> str:
    """The card of a bundled model as it is to be."""
    path = FOLDER / f"{name}{SUFFIX}"
    notes = {k: parse_attached(k, text, path) for k, text in read_texts(path).items() if k.endswith(".json")}
    sets = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    mine = [s for s in sets if s["subject"]["model"] == name and not stale(s["subject"])]
    return card(open_single(path), notes | {"difficulty": mine})


def main() -> None:
    for name in names():
        path, text = FOLDER / f"{name}{SUFFIX}", written(name)
        held = read_texts(path)
        if held.get(README) == text:
            continue
        if "--check" in sys.argv:
            sys.exit(f"the card of {name} is stale: run benchmarks/cards.py")
        checkpoint.save_weights(path, load_file(path), held | {FORMAT_KEY: FORMAT, README: text})


if __name__ == "__main__":
    main()
