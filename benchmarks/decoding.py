"""Decoding speed of our own language model: beside transformers.generate, and beside the ideal of continuous batching.

    python benchmarks/decoding.py --threads 1 --out results/decoding.json

A plain causal transformer with random weights, ours and a Llama of the same width, layers, heads and vocabulary and of
nearly as many parameters, in float32, in one process, in turns. Both write the same number of tokens for the same
prompts at temperature 1, from a cache. Then texts of mixed length: the ideal is the rate at which equal ones are
written, when every row is always full. `twin` is the largest difference of a log probability to decoding without a
cache. A rate is in tokens written a second of the wall clock; medians over repeats, and ratios within a repeat.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from innerloop import files
from innerloop.lm.decoding import TextJob, TextReader, TokenLoop, sizes_of
from innerloop.parts.config import NetConfig
from innerloop.rows import Rows
from innerloop.runs.certificate import birth_certificate
from innerloop.weights.looped import Config, Looped

VOCAB, PLACES, PROMPT = 64, 96, 16
QUEUE = 12  # texts of mixed length, in batches: so many that the rows that are empty at the end count little
NOTHING = -1  # an end mark that is never drawn


def ours(width: int, layers: int) -> Looped:
    net = NetConfig(
        vocab=VOCAB, seq=PLACES, rows=1, hidden_size=width, heads=4, layers=layers, multiple_of=16, norm="magic",
        mask="causal", prefix=0, puzzle_emb_size=0,
    )  # fmt: skip
    return Looped(Config(net, dtype="float32")).eval()


def theirs(width: int, layers: int, inner: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=4,
        max_position_embeddings=PLACES, bos_token_id=None, eos_token_id=None, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def jobs_of(prompts: torch.Tensor, lengths: list[int], temperature: float = 1.0) -> list[TextJob]:
    return [
        TextJob(tuple(row), depth, key=i, temperature=temperature)
        for i, (row, depth) in enumerate(zip(prompts.tolist(), lengths, strict=True))
    ]


def written(loop: Looped, jobs: list[TextJob], batch: int, policy: str | None = "full") -> tuple[float, list[Any]]:
    """(tokens a second, what was written)."""
    rows = Rows(
        TokenLoop(loop, 1, policy=policy), batch, TextReader(PLACES, NOTHING), ahead=batch, sizes=sizes_of(batch)
    )
    began = time.perf_counter()
    for job in jobs:
        rows.submit(job)
    done = {id(d.job): d.result for d in rows.run()}
    return sum(job.depth for job in jobs) / (time.perf_counter() - began), [done[id(job)] for job in jobs]


@torch.no_grad()
def generated(model: Any, prompts: torch.Tensor, new: int) -> float:
    """Tokens a second of transformers.generate."""
    began = time.perf_counter()
    out = model.generate(prompts, do_sample=True, max_new_tokens=new, min_new_tokens=new, use_cache=True, top_k=0)
    assert out.shape[1] == prompts.shape[1] + new
    return new * len(prompts) / (time.perf_counter() - began)


def measure(width: int, layers: int, batch: int, new: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    loop = ours(width, layers)
    inner = loop.net.blocks[0].mlp.down.weight.shape[1]  # type: ignore[union-attr, union-attr]
    other = theirs(width, layers, inner)
    prompts = torch.randint(1, VOCAB, (QUEUE * batch, PROMPT))
    mixed = [8 + (37 * i) % (2 * new - 15) for i in range(QUEUE * batch)]
    mean = round(sum(mixed) / len(mixed))
    written(loop, jobs_of(prompts[:batch], [4] * batch), batch)  # warm up
    generated(other, prompts[:batch], 4)
    rows: list[dict[str, float]] = []
    for _ in range(repeats):
        own = written(loop, jobs_of(prompts[:batch], [new] * batch), batch)[0]
        hf = generated(other, prompts[:batch], new)
        ideal = written(loop, jobs_of(prompts, [mean] * len(prompts)), batch)[0]
        real = written(loop, jobs_of(prompts, mixed), batch)[0]
        rows.append({"ours": own, "transformers": hf, "equal": ideal, "mixed": real})
    pairs = [
        (a, b)
        for a, b in zip(
            *(written(loop, jobs_of(prompts[:8], [new] * 8, 0.0), 8, policy)[1] for policy in ("full", None)),
            strict=True,
        )
        if a.ids == b.ids
    ]
    return {
        "width": width, "layers": layers, "batch": batch, "prompt": PROMPT, "new": new, "repeats": rows,
        "parameters": sum(p.numel() for p in loop.parameters()), "theirs": sum(p.numel() for p in other.parameters()),
        "ours": statistics.median(r["ours"] for r in rows),
        "transformers": statistics.median(r["transformers"] for r in rows),
        "ratio": statistics.median(r["ours"] / r["transformers"] for r in rows),
        "of_ideal": statistics.median(r["mixed"] / r["equal"] for r in rows),
        "same_texts": len(pairs), "of_texts": 8,
        "twin": max(abs(p - q) for a, b in pairs for p, q in zip(a.logprobs, b.logprobs, strict=True)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--new", type=int, default=36)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for width in args.widths:
        rows.append(row := measure(width, 3, args.batch, args.new, args.repeats))
        print(
            f"width {width}: {row['ours']:,.0f} tokens/s, transformers {row['transformers']:,.0f}: {row['ratio']:.1f}; "
            f"mixed lengths {row['of_ideal']:.0%} of the ideal; twin {row['twin']:.1e}",
            flush=True,
        )
    import transformers

    files.write_json(args.out, {"born": birth_certificate([0]), "transformers": transformers.__version__, "rows": rows})


if __name__ == "__main__":
    main()
