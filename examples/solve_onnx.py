"""Solve a puzzle with an exported model, without torch and without this library: numpy and onnxruntime are enough.

    innerloop export demo-sudoku4 --onnx sudoku4.onnx
    python examples/solve_onnx.py sudoku4.onnx "1.3.34.2.1.34.2."

A third word is the depth.

The file holds one step of thought; the loop is here. A row that is `fresh` starts anew, and is otherwise carried on
from the state that the last step gave back. Everything else a program must know stands in the file's metadata.
"""

import json
import sys

import numpy as np
import onnxruntime


def load(path):
    """(session, the model's description) of an exported file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["innerloop"])


def encode(text, about):
    """int64 (S,): token i >= 1 is written charset[i - 1]."""
    text = "".join(about["aliases"].get(symbol, symbol) for symbol in text)
    if len(text) != about["rows"] * about["columns"] or set(text) - set(about["charset"]):
        sys.exit(f"error: give {about['rows'] * about['columns']} symbols of {about['charset']}")
    return np.array([about["charset"].index(symbol) + 1 for symbol in text], np.int64)


def decode(tokens, about):
    return "".join(("?" + about["charset"])[t] for t in tokens)


def think(session, about, inputs, depth):
    """Yield the answer's arrays after each of `depth` steps; `inputs` is int64 (B, S)."""
    rows, names = len(inputs), [output.name for output in session.get_outputs()]
    feed = {"inputs": inputs, "puzzle": np.zeros(rows, np.int64), "fresh": np.ones(rows, bool)}
    if about["salt"]:  # of a model with noise of its own: another number, another trajectory
        feed["salt"] = np.zeros(rows, np.int64)
    for slot in about["state"]:  # what stands in a fresh row is not looked at
        feed["state." + slot["name"]] = np.zeros((rows, *slot["shape"]), slot["dtype"])
    wanted = {given.name for given in session.get_inputs()}
    for _ in range(depth):
        out = dict(zip(names, session.run(names, {k: v for k, v in feed.items() if k in wanted}), strict=True))
        yield {name: out[name] for name in about["answer"]}
        feed["fresh"] = np.zeros(rows, bool)
        feed |= {"state." + slot["name"]: out["next." + slot["name"]] for slot in about["state"]}


def main(path, puzzle, depth=""):
    session, about = load(path)
    before = puzzle
    for step, answer in enumerate(think(session, about, encode(puzzle, about)[None], int(depth or about["depth"])), 1):
        text = decode(answer["logits"][0].argmax(-1), about)
        sure = f"  confidence {1 / (1 + np.exp(-answer['q_halt'][0])):.1%}" if "q_halt" in answer else ""
        if text != before:
            print(f"step {step}{sure}", file=sys.stderr)
            before = text
    print(before)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
