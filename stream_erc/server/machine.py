"""The process and its machine: open files, sockets included, processor cores, and memory."""

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows, which has no limit for sockets
    resource = None  # type: ignore[assignment]

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The processor time of a container, as ``QUOTA PERIOD``; the quota may be ``max``."""


def allow_open_files(wanted: int) -> int:
    """Raise the process's limit of open files to `wanted` as far as possible; return how many fit."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):  # a system may allow less than its hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, wanted)


def usable_cores() -> float:
    """Return the number of processor cores that this process may use."""
    cores = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    with contextlib.suppress(OSError, ValueError):  # no container, or no quota
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, int(quota) / int(period))
    return cores


def keep_loaded() -> None:
    """Take all that is in use now for what stays, so that looking for garbage need not go through it."""
    gc.collect()  # what nobody uses would otherwise be kept, too
    gc.freeze()


def return_freed_memory() -> None:
    """Free what only refers to itself, and return it to the system: glibc keeps most. Elsewhere only free."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
