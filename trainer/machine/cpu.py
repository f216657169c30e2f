"""The processor: its cores, its peak, and the allocator's settings that training on it needs."""

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
    # glibc otherwise hands big blocks back to the kernel at every training step and faults them in again:
    # a fifth of the time of a small model on a CPU
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "67108864",
    # pages of 2 MB where the kernel gives them to who asks, as most do: 1 to 4 % of a step are misses of small pages
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def missing(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that an environment lacks; what the user has set stands."""
    return {name: value for name, value in SETTINGS.items() if name not in environment}


def restart_with_settings() -> None:
    """On Linux without a card: execute this process's own command anew with the settings, if it lacks any."""
    lacking = missing(os.environ)
    if lacking and sys.platform == "linux" and not driver_is_here():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **lacking})  # noqa: S606  # the same command


def cpu_cores() -> int:
    """Cores that this process may use: the scheduler's affinity, and the cgroup's CPU quota rounded down."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.floor(min(cores, cgroup_quota(CGROUPS, own_membership()))))


def cpu_peak(*, threads: int) -> float:
    """float32 FLOP/s of `threads` of this processor's cores, measured once a machine and torch.

    So many times what one core reaches: that they share caches and heat is left to what is compared with it.
    """
    return threads * _core_peak()


@functools.cache
def _core_peak() -> float:
    key = {"processor": processor(), "torch": importlib.metadata.version("torch"), "of": "one core's time"}
    kept = (cache.load("cpu-peak", key) or {}).get("flops")
    if isinstance(kept, float) and 0 < kept < math.inf:
        return kept
    measured = _measured_peak()
    cache.save("cpu-peak", key, {"flops": measured})
    return measured


def _measured_peak(size: int = 1024) -> float:
    """The best of several size x size products on one thread, by its own time: a busy neighbour costs it none."""
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
    """What this machine's processor calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)):
        return found[1].strip()
    return platform.processor() or platform.machine()
