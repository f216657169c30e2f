"""Control groups: the memory and the processor time that this process may use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
"""mount point of control groups on Linux"""


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """Memory of a device, bytes."""

    free: int
    """bytes that a process could allocate now"""
    total: int


def within_cgroups(machine: DeviceMemory, root: Path, membership: str) -> DeviceMemory:
    """Return the machine's memory within the limits of a process's cgroups.

    `root` and `membership` are those of `cgroup_quota`. File pages count as used by a group, but inactive ones can be
    reclaimed at once, so they count as free.
    """
    memory = machine
    for group in _groups(root, membership, "memory"):
        limit = _number_in(group / "memory.max", group / "memory.limit_in_bytes")
        if limit is None:
            continue
        used = _number_in(group / "memory.current", group / "memory.usage_in_bytes") or 0
        free = limit - max(0, used - _inactive_file_pages(group / "memory.stat"))
        memory = DeviceMemory(free=max(0, min(memory.free, free)), total=min(memory.total, limit))
    return memory


def _number_in(*files: Path) -> int | None:
    """Return the number in the first of the files that exists; None for "max" or without a file."""
    text = next((file.read_text().strip() for file in files if file.is_file()), "max")
    return int(text) if text.isdecimal() else None


def _inactive_file_pages(stat: Path) -> int:
    """Return the bytes of inactive file pages in a memory.stat; 0 without the file."""
    if not stat.is_file():
        return 0
    # a v1 group includes the groups below it only in the total_ counters
    counters = dict(line.split() for line in stat.read_text().splitlines())
    return int(counters.get("total_inactive_file", counters.get("inactive_file", 0)))


def cgroup_quota(root: Path, membership: str) -> float:
    """Return the number of CPUs that a process's cgroups allow; infinity: no limit.

    `root` is the mount point of cgroups and `membership` the text of /proc/self/cgroup. Every parent group limits as
    well. In a container `root` is often the process's own group, whatever path `membership` gives. Missing paths are
    skipped.
    """
    return min((_quota_of(group) for group in _groups(root, membership, "cpu")), default=math.inf)


def own_membership() -> str:
    """Return the text of /proc/self/cgroup, or "" where the file is missing."""
    file = Path("/proc/self/cgroup")
    return file.read_text() if file.is_file() else ""


def _groups(root: Path, membership: str, controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that may limit a process, and of their parents.

    Version 1 of cgroups has one tree per controller.
    """
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / controller if controllers else root
        group = PurePosixPath(path.lstrip("/"))
        yield from (mount / folder for folder in (group, *group.parents))


def _quota_of(group: Path) -> float:
    """Return the CPU limit of one group: cpu.max "200000 100000" (v2), or cpu.cfs_quota_us and its period (v1)."""
    for files in ([group / "cpu.max"], [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]):
        if all(file.is_file() for file in files):
            quota, period = " ".join(file.read_text() for file in files).split()
            return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    return math.inf
