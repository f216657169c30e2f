"""The processor: its cores, and its peak as measured and as cached."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from trainer.machine import cpu


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"), [(8, math.inf, 8), (8, 2.5, 2), (8, 2.7, 2), (2, 6.0, 2), (4, 0.5, 1)]
)
def test_cpu_cores(monkeypatch, affinity, quota, cores):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cpu, "cgroup_quota", lambda *_: quota)
    assert cpu.cpu_cores() == cores


def test_the_measurement_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    cpu.cpu_peak(threads=before + 1)
    assert torch.get_num_threads() == before


def test_the_peak_uses_the_threads_cpu_time_and_counts_for_each_core(tmp_path, monkeypatch):
    """Another process on the core costs the thread no CPU time."""
    monkeypatch.setenv("PLATEAU_SWEEP_CACHE", str(tmp_path))
    ticks = itertools.chain.from_iterable((number, number + 0.5 + 0.25 * (number != 7)) for number in itertools.count())
    monkeypatch.setattr(cpu, "time", SimpleNamespace(thread_time=lambda: next(ticks)))
    cpu._core_peak.cache_clear()
    assert cpu.cpu_peak(threads=1) == 2 * 1024**3 / 0.5
    assert cpu.cpu_peak(threads=3) == 3 * cpu.cpu_peak(threads=1)
    cpu._core_peak.cache_clear()


def test_the_peak_is_cached_for_other_processes_and_measured_again_if_the_cache_is_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("PLATEAU_SWEEP_CACHE", str(tmp_path))
    cpu._core_peak.cache_clear()
    peak = cpu.cpu_peak(threads=1)
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(cpu, "_measure_peak", lambda: 1.25e9)
    cpu._core_peak.cache_clear()
    assert cpu.cpu_peak(threads=1) == peak
    for broken in ("", "{", "[]", '{"key": {}, "value": {"flops": 5.0}}', file.read_text().replace("flops", "flips")):
        file.write_text(broken)
        cpu._core_peak.cache_clear()
        assert cpu.cpu_peak(threads=1) == 1.25e9
    cpu._core_peak.cache_clear()
