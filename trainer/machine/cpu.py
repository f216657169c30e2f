"""The processor: its cores, its peak FLOP/s, and the settings of glibc's allocator for training on it."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from trainer.machine import cache
from trainer.machine.cards import driver_is_here
from trainer.machine.cgroups import CGROUPS, cgroup_quota, own_membership

SETTINGS = {
    # by default glibc returns big blocks to the kernel at every training step and faults them in again, which takes a
    # fifth of a small model's time on a CPU
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "67108864",
    # pages of 2 MB if the kernel grants them on request, as most do: misses of small pages are 1 to 4 % of a step
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def missing_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the allocator's settings that an environment lacks. A user's own values are kept."""
    return {name: value for name, value in SETTINGS.items() if name not in environment}


def restart_with_settings() -> None:
    """Execute this process's command again with the allocator's settings, if any is missing on a Linux without a card.

    Does nothing elsewhere, and doesn't return if it executes the command.
    """
    missing = missing_settings(os.environ)
    if missing and sys.platform == "linux" and not driver_is_here():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **missing})  # noqa: S606  # the same command


def cpu_cores() -> int:
    """Return the cores that this process may use: by the scheduler's affinity and the cgroups' quota, rounded down."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.floor(min(cores, cgroup_quota(CGROUPS, own_membership()))))


def busy_processes() -> float:
    """Return how many processes want the cores that this one may use, on average over the last minute.

    Of a larger machine's load, the part of these cores counts. 0 where the system doesn't tell, as Windows. Read it
    before this process works: its own load counts as well.
    """
    if not hasattr(os, "getloadavg"):
        return 0.0
    return os.getloadavg()[0] * cpu_cores() / (os.cpu_count() or 1)


def cpu_peak(*, threads: int) -> float:
    """Return the float32 FLOP/s of `threads` of this processor's cores, measured once per machine and torch version.

    This is `threads` times the peak of one core: losses from shared caches and heat are not in it.
    """
    return threads * _core_peak()


@functools.cache
def _core_peak() -> float:
    key = {"processor": processor(), "torch": importlib.metadata.version("torch"), "of": "one core's time"}
    cached = (cache.load("cpu-peak", key) or {}).get("flops")
    if isinstance(cached, float) and 0 < cached < math.inf:
        return cached
    peak = _measure_peak()
    cache.save("cpu-peak", key, {"flops": peak})
    return peak


def _measure_peak(size: int = 1024) -> float:
    """Return the best FLOP/s of 12 size x size products on one thread, by the thread's CPU time.

    Time that other processes take on the core doesn't count.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left, right = torch.ones(size, size), torch.ones(size, size)
        best = math.inf
        for _ in range(12):
            start = time.thread_time()
            torch.mm(left, right)
            best = min(best, time.thread_time() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / best


def processor() -> str:
    """Return the name of this machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (name := re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)):
        return name[1].strip()
    return platform.processor() or platform.machine()
