"""torch.compile for blocks, where it pays; block by block, so that a deep step compiles one block only."""

from __future__ import annotations

import importlib.util
import shutil

import torch
from torch import nn

from innerloop.parts import fused
from innerloop.parts.mixers import Net

STEPS = 300  # shorter runs lose more by compiling than they gain (benchmarks/step.py)
GRAPHS = 64  # limit of compiled graphs for one function
WIDTH = 512  # narrower blocks gain nothing on a CPU, where call overhead dominates


def compile_blocks(loop: nn.Module, choice: str, device: torch.device, steps: int) -> str:
    """Compile the loop's blocks in place if `choice` ("auto", "on", "off") says so; returns a sentence for the log.

    Weights keep their names, and blocks of equal shape share one graph. If it compiles, torch's limit of graphs for one
    function is raised for the whole process.
    """
    blocks = [block for net in loop.modules() if isinstance(net, Net) for block in net.blocks]
    dtype = getattr(loop, "dtype", None) or torch.get_default_dtype()
    if choice != "on" and fused.available(blocks, dtype, device):
        return "the blocks run as one compiled region: parts/orbits.cpp"
    why_not = reason_against(blocks, choice, device, steps)
    if why_not:
        return f"torch.compile is off: {why_not}"
    limits = torch._dynamo.config  # by default 8 graphs for one forward: a process with runs of many sizes needs more
    limits.recompile_limit = max(limits.recompile_limit, GRAPHS)
    for block in blocks:
        block.compile(dynamic=False)
    return f"torch.compile is on for {len(blocks)} blocks: the first steps compile, the rest are faster"


def reason_against(blocks: list[nn.Module], choice: str, device: torch.device, steps: int) -> str:
    """Why not to compile, for the log; empty where it pays."""
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
        return f"{steps} steps are too few to repay the compile time"
    if device.type == "cpu" and max((p.shape[-1] for b in blocks for p in b.parameters() if p.ndim), default=0) < WIDTH:
        return f"blocks narrower than {WIDTH} gain nothing from it on a CPU"
    return ""
