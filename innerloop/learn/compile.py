"""torch.compile where it pays: block by block, so that a deep step costs the compile time of one block."""

from __future__ import annotations

import importlib.util
import shutil

import torch
from torch import nn

from innerloop.parts import fused
from innerloop.parts.mixers import Net

STEPS = 300  # runs shorter than this do not win the compile time back (benchmarks/step.py)
GRAPHS = 64
WIDTH = 512  # nor do narrower blocks on a CPU, where the call itself is most of the cost


def compile_blocks(loop: nn.Module, choice: str, device: torch.device, steps: int) -> str:
    """Compile the loop's blocks in place if `choice` ("auto", "on", "off") says so; returns what was done and why.

    Where it compiles, torch's limit of graphs for one function is raised for the whole process.

    The weights keep their names, and forward and backward share one graph for all blocks of equal shape.
    """
    blocks = [block for net in loop.modules() if isinstance(net, Net) for block in net.blocks]
    dtype = getattr(loop, "dtype", None) or torch.get_default_dtype()
    if choice != "on" and fused.available(blocks, dtype, device):
        return "the blocks run as one compiled region: parts/orbits.cpp"
    why_not = reason_against(blocks, choice, device, steps)
    if why_not:
        return f"torch.compile is off: {why_not}"
    limits = torch._dynamo.config  # of graphs for one forward: runs of many sizes in one process need more than eight
    limits.recompile_limit = max(limits.recompile_limit, GRAPHS)
    for block in blocks:
        block.compile(dynamic=False)
    return f"torch.compile is on for {len(blocks)} blocks: the first steps compile, the rest are faster"


def reason_against(blocks: list[nn.Module], choice: str, device: torch.device, steps: int) -> str:
    """Why not to compile, in words; empty where it pays."""
    if choice == "off":
        return "the plan says so"
    if not blocks:
        return "this loop has no block of innerloop.parts"
    if device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "no C++ compiler (g++ or clang++) is installed"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if choice == "on":
        return ""
    if steps < STEPS:
        return f"{steps} steps are too few to win the compile time back"
    if device.type == "cpu" and max(p.shape[-1] for b in blocks for p in b.parameters()) < WIDTH:
        return f"blocks narrower than {WIDTH} gain nothing from it on a CPU"
    return ""
