"""Freed memory is kept for the next tensor, not handed back to the system and faulted in again, page by page.

glibc gives blocks of 32 MiB and more back at once, and the top of its heap soon after. A loop asks for the same sizes
at every step, so a good part of a batch's time on a CPU goes into page faults (benchmarks/faults.py). The price is that
a process keeps the memory of its largest moment.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["give_back", "keep"]

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
LARGEST = 1 << 30  # bytes of a block that still comes from the heap


def keep() -> bool:
    """Keep freed memory, from now on and for the whole process; whether it is so.

    Nothing is done where the C library is not glibc, or where MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ say
    what is wanted.
    """
    return tell(LARGEST, (1 << 31) - 1)


def give_back() -> bool:
    """As glibc does once it has seen large blocks; for a comparison with `keep` in one process."""
    return tell(32 << 20, 64 << 20)


def tell(mmap: int, trim: int) -> bool:
    """Bytes from which a block is mapped by itself, and of free memory at the top of the heap that are given back."""
    wanted = any(os.environ.get(name) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"))
    if wanted or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(mallopt(MMAP, mmap) and mallopt(TRIM, trim))
