"""What this process has of the machine: cores and memory, and what the machine is."""

import ctypes
import os
import platform
import sys
from pathlib import Path

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h


def cores() -> list[int]:
    """The cores that this thread, and what it starts, may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def keep_to(chosen: list[int]) -> None:
    """Let this thread, and what it starts from now on, run on these cores alone; where the system
    knows no such thing, on all."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen)


def shares(of: list[int], count: int) -> list[list[int]]:
    """Cores, dealt out to so many; where there are too few, some share one."""
    return [of[i::count] or [of[i % len(of)]] for i in range(count)]


def keep_freed_memory() -> None:
    """Let the C library keep the memory that tensors free for those that come next.

    Large tensors come and go with every gradient step. As glibc is set up it hands their memory
    back to the system and asks for it anew, emptied page by page: a twentieth of the time of
    PEARL's update. Without glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    mallopt(_MMAP_THRESHOLD, 32 << 20)  # bytes: the most that it takes
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 << 20)


def processor() -> str:
    """The processor's name; Linux keeps it in /proc alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
