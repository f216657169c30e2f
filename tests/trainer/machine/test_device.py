"""Devices: what is named, what is here, how much memory and how many FLOP/s."""

from __future__ import annotations

import itertools
import logging
import math
from types import SimpleNamespace

import pytest
import torch

from trainer.config import TrainConfig
from trainer.errors import ConfigError
from trainer.machine import cards as card_table
from trainer.machine import cgroups, cpu, device
from trainer.machine.cards import bytes_of, dense_peak
from trainer.model.gpt import GPT
from trainer.model.size import flops_per_token, parameters


@pytest.fixture
def cards(monkeypatch):
    """A machine with CUDA cards, as torch would tell: cards(count, name, capability)."""

    def pretend(count, name="NVIDIA GeForce RTX 4070", capability=(8, 9)):
        properties = SimpleNamespace(name=name, total_memory=12 << 30)
        monkeypatch.setattr(device, "driver_is_here", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (11 << 30, 12 << 30))

    return pretend


@pytest.mark.parametrize(
    ("asked", "here", "got"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_resolve(cards, asked, here, got):
    cards(here)
    assert device.resolve(asked) == got


def test_where_there_is_no_driver_torch_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(card_table, "_DRIVERS", (tmp_path / "nvidiactl",))
    assert device.cuda_devices() == 0
    (tmp_path / "nvidiactl").touch()
    assert device.cuda_devices() == 2


@pytest.mark.parametrize(
    ("asked", "here", "said"),
    [
        ("cuda", 0, "use device=cpu or auto"),
        ("cuda:0", 0, "finds no CUDA device"),
        ("cuda:2", 2, "there are 2 CUDA devices here; the last one is cuda:1"),
        ("cuda:1", 1, "there is 1 CUDA device here; the last one is cuda:0"),
    ],
)
def test_resolve_refuses_a_card_that_is_not_here(cards, asked, here, said):
    cards(here)
    with pytest.raises(ConfigError, match=said) as caught:
        device.resolve(asked)
    assert asked in str(caught.value)


@pytest.mark.parametrize(
    ("capability", "asked", "got"),
    [
        ((9, 0), "bfloat16", torch.bfloat16),
        ((8, 0), "bfloat16", torch.bfloat16),
        ((8, 9), "float16", torch.float16),
        ((8, 9), "float32", None),
        ((7, 5), "bfloat16", torch.float16),
        ((7, 0), "float16", torch.float16),
        ((6, 1), "bfloat16", None),
        ((6, 1), "float16", None),
    ],
)
def test_precision_on_a_card(cards, caplog, capability, asked, got):
    cards(1, capability=capability)
    with caplog.at_level(logging.WARNING):
        assert device.precision("cuda", asked) is got
    fell_back = {torch.bfloat16: "bfloat16", torch.float16: "float16", None: "float32"}[got] != asked
    assert bool(caplog.records) is fell_back
    if fell_back:
        assert "4070" in caplog.text
        assert f"{capability[0]}.{capability[1]}, too low for {asked}" in caplog.text


@pytest.mark.parametrize("asked", ["bfloat16", "float16", "float32"])
def test_a_cpu_computes_in_float32(caplog, asked):
    assert device.precision("cpu", asked) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA GeForce RTX 4070", 58.3),
        ("NVIDIA GeForce RTX 4070 SUPER", 71.0),
        ("NVIDIA GeForce RTX 4070 Ti", 80.2),
        ("RTX 4070", 58.3),
        ("rtx 4070 super", 71.0),
        ("4070 S", 71.0),
        ("4070Ti", 80.2),
        ("RTX 4060Ti", 44.1),
        ("NVIDIA GeForce RTX 5090", 209.5),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10", 125),
        ("NVIDIA RTX A4000", 76.7),
        ("Tesla T4", 65),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-16GB", 112),
        # other chips, or parts of one, whose names contain a known name
        ("NVIDIA GeForce RTX 4070 Ti SUPER", None),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3060 Ti", None),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce GTX 1080", None),
        ("NVIDIA", None),
        ("", None),
    ],
)
def test_dense_peak(name, tflops):
    assert dense_peak(name) == (None if tflops is None else pytest.approx(tflops * 1e12))


def test_describe_a_card(cards):
    cards(2, name="NVIDIA GeForce RTX 4090")
    got = device.describe("auto")
    assert (got.kind, got.name, got.count, got.memory) == ("cuda", "NVIDIA GeForce RTX 4090", 2, 12 << 30)
    assert got.free == 11 << 30
    assert got.peak == pytest.approx(165.2e12)


def test_describe_this_cpu():
    got = device.describe("cpu")
    assert (got.kind, got.count) == ("cpu", cpu.cpu_cores())
    assert got.name
    assert got.memory is not None
    assert got.memory > 1 << 28
    assert got.free is not None
    assert 0 < got.free <= got.memory
    assert got.peak == cpu.cpu_peak(threads=1), "measured once"
    # no core made since 2000 is outside these
    assert 1e8 < got.peak < 1e13


def test_the_measurement_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    cpu.cpu_peak(threads=before + 1)
    assert torch.get_num_threads() == before


def test_the_peak_goes_by_the_threads_own_time_and_is_that_of_each_core(tmp_path, monkeypatch):
    """A neighbour that takes the core away for a while costs no time of the thread's own."""
    monkeypatch.setenv("PLATEAU_SWEEP_CACHE", str(tmp_path))
    ticks = itertools.chain.from_iterable((number, number + 0.5 + 0.25 * (number != 7)) for number in itertools.count())
    monkeypatch.setattr(cpu, "time", SimpleNamespace(thread_time=lambda: next(ticks)))
    cpu._core_peak.cache_clear()
    assert cpu.cpu_peak(threads=1) == 2 * 1024**3 / 0.5
    assert cpu.cpu_peak(threads=3) == 3 * cpu.cpu_peak(threads=1)
    cpu._core_peak.cache_clear()


def test_a_card_by_name():
    got = device.named("RTX 4070")
    assert (got.kind, got.name, got.count, got.memory) == ("cuda", "RTX 4070", 1, 12 << 30)
    assert got.free == (12 << 30) - device.CUDA_CONTEXT
    assert got.peak == pytest.approx(58.3e12)
    assert device.named("A100 80GB").memory == 80 << 30
    with pytest.raises(ConfigError, match=r"'GTX 1080'.*known cards: 3060.*4070 Super.*H100 PCIe"):
        device.named("GTX 1080")


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
    ("affinity", "quota", "cores"), [(8, math.inf, 8), (8, 2.5, 2), (8, 2.7, 2), (2, 6.0, 2), (4, 0.5, 1)]
)
def test_cpu_cores(monkeypatch, affinity, quota, cores):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cpu, "cgroup_quota", lambda *_: quota)
    assert cpu.cpu_cores() == cores


def test_parameters_are_those_that_nanogpt_prints():
    """Its `number of parameters` leaves the position embeddings out."""
    small, gpt2 = TrainConfig(n_layer=12, n_head=12, n_embd=384), TrainConfig()
    assert f"{(parameters(small, 50304) - 384 * 1024) / 1e6:.2f}M" == "40.56M"
    assert f"{(parameters(gpt2, 50304) - 768 * 1024) / 1e6:.2f}M" == "123.59M"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("n_layer", "n_embd", "block_size", "vocab_size"), [(1, 4, 1, 3), (3, 24, 16, 97)])
def test_parameters_are_the_models(bias, n_layer, n_embd, block_size, vocab_size):
    config = TrainConfig(
        n_layer=n_layer, n_head=2, n_embd=n_embd, block_size=block_size, vocab_size=vocab_size, bias=bias
    )
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in GPT(config).parameters())
    assert parameters(config) == counted
    assert parameters(config.replace(vocab_size=0), vocab_size) == counted


def test_flops_per_token():
    # GPT-2 124M in nanoGPT: 6 * 123,587,328 + 12 * 12 layers * 12 heads * 64 * 1024 tokens
    assert flops_per_token(TrainConfig(), 50304) == 741_523_968 + 113_246_208


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
    machine = cgroups.Room(free=60, total=100)
    assert cgroups.within_cgroups(machine, tmp_path, membership) == cgroups.Room(free=free, total=total)


@pytest.mark.parametrize(
    ("text", "size"),
    [("12GiB", 12 << 30), ("12 GB", 12 << 30), ("7.5gb", 15 << 29), ("800MiB", 800 << 20), (" 1 mb ", 1 << 20)],
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "12", "GiB", "-1GiB", "0GiB", "12TiB", "12GiBs"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="is not a size such as 12GiB"):
        bytes_of(text)


def test_a_card_of_so_much_memory():
    unknown = device.card_of(None, "12GiB")
    assert (unknown.kind, unknown.name, unknown.peak) == ("cuda", "a card of 12GiB", None)
    assert (unknown.memory, unknown.free) == (12 << 30, (12 << 30) - device.CUDA_CONTEXT)
    both = device.card_of("RTX 4090", "20 GB")
    assert (both.name, both.memory, both.peak) == ("RTX 4090", 20 << 30, pytest.approx(165.2e12))


def test_the_peak_is_kept_for_other_processes_and_measured_again_where_it_is_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("PLATEAU_SWEEP_CACHE", str(tmp_path))
    cpu._core_peak.cache_clear()
    found = cpu.cpu_peak(threads=1)
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(cpu, "_measured_peak", lambda: 1.25e9)
    cpu._core_peak.cache_clear()
    assert cpu.cpu_peak(threads=1) == found
    for broken in ("", "{", "[]", '{"key": {}, "value": {"flops": 5.0}}', kept.read_text().replace("flops", "flips")):
        kept.write_text(broken)
        cpu._core_peak.cache_clear()
        assert cpu.cpu_peak(threads=1) == 1.25e9
    cpu._core_peak.cache_clear()
