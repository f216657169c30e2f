"""Control groups: the memory and the processor time that this process may use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
"""where Linux mounts control groups"""


@dataclass(frozen=True, kw_only=True)
class Room:
    """Memory of a device, bytes."""

    free: int
    """what could be had now"""
    total: int


def within_cgroups(machine: Room, root: Path, membership: str) -> Room:
    """What the cgroups of a process leave it of the machine's memory; `root` and `membership` as for `cgroup_quota`.

    Pages of files count as used by a group, and those that nobody has looked at lately are free for the asking.
    """
    room = machine
    for group in _groups(root, membership, "memory"):
        limit = _number_in(group / "memory.max", group / "memory.limit_in_bytes")
        if limit is None:
            continue
        used = _number_in(group / "memory.current", group / "memory.usage_in_bytes") or 0
        free = limit - max(0, used - _idle_file_pages(group / "memory.stat"))
        room = Room(free=max(0, min(room.free, free)), total=min(room.total, limit))
    return room


def _number_in(*files: Path) -> int | None:
    """The number that the first of the files that is there holds; None where it says max."""
    text = next((file.read_text().strip() for file in files if file.is_file()), "max")
    return int(text) if text.isdecimal() else None


def _idle_file_pages(stat: Path) -> int:
    if not stat.is_file():
        return 0
    # a v1 group counts the groups below it only under total_
    numbers = dict(line.split() for line in stat.read_text().splitlines())
    return int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))


def cgroup_quota(root: Path, membership: str) -> float:
    """CPUs that the cgroups of a process let it use at once; infinity: no limit.

    `root` is where cgroups are mounted and `membership` the text of /proc/self/cgroup. Every parent
    group limits too. In a container `root` is often the process's own group already, whatever the
    path in `membership` says; paths that aren't there are passed over.
    """
    return min((_quota_of(group) for group in _groups(root, membership, "cpu")), default=math.inf)


def own_membership() -> str:
    """The text of /proc/self/cgroup; empty where there is none."""
    file = Path("/proc/self/cgroup")
    return file.read_text() if file.is_file() else ""


def _groups(root: Path, membership: str, controller: str) -> Iterator[Path]:
    """Folders of the groups that may limit a process, parents included; version 1 has a tree for each controller."""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / controller if controllers else root
        own = PurePosixPath(path.lstrip("/"))
        yield from (mount / group for group in (own, *own.parents))


def _quota_of(group: Path) -> float:
    """The limit of one group: cpu.max "200000 100000" (v2), or cpu.cfs_quota_us and its period (v1)."""
    files = [group / "cpu.max"], [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    for parts in files:
        if all(part.is_file() for part in parts):
            quota, period = " ".join(part.read_text() for part in parts).split()
            return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
    return math.inf
