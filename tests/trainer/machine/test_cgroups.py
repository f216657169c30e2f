"""Control groups as files in a folder: limits of CPU time and of memory, in both versions."""

from __future__ import annotations

import math

import pytest

from trainer.machine import cgroups


@pytest.mark.parametrize(
    ("files", "membership", "cpus"),
    [
        ({}, "", math.inf),
        ({"cpu.max": "200000 100000\n"}, "0::/", 2.0),
        ({"cpu.max": "max 100000\n"}, "0::/", math.inf),
        ({"cpu.max": "150000 100000\n"}, "0::/not/mounted/here\n", 1.5),
        ({"a/b/cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, "0::/a/b\n", 0.5),
        ({"a/b/cpu.max": "max 100000", "c/cpu.max": "50000 100000"}, "0::/a/b\n", math.inf),
        ({"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, "3:cpuset:/\n1:cpu:/x\n", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "2:cpu,cpuacct:/\n0::/\n", math.inf),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, "2:cpuset,memory:/\n", math.inf),
    ],
)
def test_cgroup_quota(tmp_path, files, membership, cpus):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cgroups.cgroup_quota(tmp_path, membership) == cpus


@pytest.mark.parametrize(
    ("files", "membership", "free", "total"),
    [
        ({}, "", 60, 100),
        ({"memory.max": "max\n", "memory.current": "7"}, "0::/\n", 60, 100),
        ({"memory.max": "50", "memory.current": "20\n"}, "0::/\n", 30, 50),
        ({"memory.max": "50", "memory.current": "20", "memory.stat": "anon 9\ninactive_file 15"}, "0::/\n", 45, 50),
        ({"memory.max": "90", "memory.current": "5"}, "0::/\n", 60, 90),
        ({"a/memory.max": "40", "a/memory.current": "39", "a/b/memory.max": "max"}, "0::/a/b\n", 1, 40),
        ({"a/memory.max": "40", "a/memory.current": "41"}, "0::/a\n", 0, 40),
        (
            {
                "memory/x/memory.limit_in_bytes": "30",
                "memory/x/memory.usage_in_bytes": "10",
                "memory/x/memory.stat": "inactive_file 1\ntotal_inactive_file 4",
            },
            "5:memory:/x\n",
            24,
            30,
        ),
        ({"memory/memory.limit_in_bytes": "30"}, "2:cpu,cpuacct:/\n", 60, 100),
    ],
)
def test_memory_within_cgroups(tmp_path, files, membership, free, total):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    machine = cgroups.DeviceMemory(free=60, total=100)
    assert cgroups.within_cgroups(machine, tmp_path, membership) == cgroups.DeviceMemory(free=free, total=total)
