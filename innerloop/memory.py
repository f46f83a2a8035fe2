"""glibc malloc settings that keep freed memory in the process, which avoids page faults on a CPU.

By default glibc returns freed blocks of 32 MiB or more to the system at once, and the top of its heap soon after. A
loop allocates the same sizes at every step, and so takes page faults for the same memory again and again. For training
of large nets; batched inference of the bundled models showed no difference in time (benchmarks/faults.py). The price:
the process keeps its peak memory.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["give_back", "keep"]

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
LARGEST = 1 << 30  # largest block that still comes from the heap, bytes


def keep() -> bool:
    """Keep freed memory, from now on and for the whole process; returns whether it was set.

    Does nothing if the C library is not glibc, or if MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ is set.
    """
    return set_malloc_thresholds(LARGEST, (1 << 31) - 1)


def give_back() -> bool:
    """Undo `keep`: glibc's own thresholds once it has seen large blocks. For benchmarks."""
    return set_malloc_thresholds(32 << 20, 64 << 20)


def set_malloc_thresholds(mmap: int, trim: int) -> bool:
    """Set malloc's mmap threshold and trim threshold, in bytes; returns whether it was done."""
    wanted = any(os.environ.get(name) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"))
    if wanted or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(mallopt(MMAP, mmap) and mallopt(TRIM, trim))
