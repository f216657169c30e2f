"""Devices: which name means which device, their memory, precision and peak."""

from __future__ import annotations

import logging
import math
import re
from types import SimpleNamespace

import pytest
import torch

from trainer.errors import ConfigError
from trainer.machine import cards as card_table
from trainer.machine import cpu, device


@pytest.fixture
def cards(monkeypatch):
    """A machine with CUDA cards, as torch would report it: cards(count, name, capability)."""

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
    ("name", "count", "resolved"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_resolve(cards, name, count, resolved):
    cards(count)
    assert device.resolve(name) == resolved


def test_torch_is_not_asked_without_a_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(card_table, "_DRIVERS", (tmp_path / "nvidiactl",))
    assert device.cuda_devices() == 0
    (tmp_path / "nvidiactl").touch()
    assert device.cuda_devices() == 2


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "use device=cpu or auto"),
        ("cuda:0", 0, "finds no CUDA device"),
        ("cuda:2", 2, "there are 2 CUDA devices here; the last one is cuda:1"),
        ("cuda:1", 1, "there is 1 CUDA device here; the last one is cuda:0"),
    ],
)
def test_resolve_refuses_a_missing_card(cards, name, count, message):
    cards(count)
    with pytest.raises(ConfigError, match=message) as caught:
        device.resolve(name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("capability", "asked", "used"),
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
def test_precision_on_a_card(cards, caplog, capability, asked, used):
    cards(1, capability=capability)
    with caplog.at_level(logging.WARNING):
        assert device.precision("cuda", asked) is used
    fell_back = {torch.bfloat16: "bfloat16", torch.float16: "float16", None: "float32"}[used] != asked
    assert bool(caplog.records) is fell_back
    if fell_back:
        assert "4070" in caplog.text
        assert f"{capability[0]}.{capability[1]}, too low for {asked}" in caplog.text


@pytest.mark.parametrize("asked", ["bfloat16", "float16", "float32"])
def test_a_cpu_computes_in_float32(caplog, asked):
    assert device.precision("cpu", asked) is None
    assert not caplog.records


def test_describe_a_card(cards):
    cards(2, name="NVIDIA GeForce RTX 4090")
    card = device.describe("auto")
    assert (card.kind, card.name, card.count, card.memory) == ("cuda", "NVIDIA GeForce RTX 4090", 2, 12 << 30)
    assert card.free == 11 << 30
    assert card.peak == pytest.approx(165.2e12)
    assert (card.bfloat16, card.used("bfloat16")) == (True, "bfloat16")
    cards(1, name="Tesla T4", capability=(7, 5))
    card = device.describe("auto")
    assert (card.bfloat16, card.used("bfloat16"), card.used("float32")) == (False, "float16", "float32")


def test_describe_this_cpu():
    processor = device.describe("cpu")
    assert (processor.kind, processor.count) == ("cpu", cpu.cpu_cores())
    assert processor.name
    assert processor.memory is not None
    assert processor.memory > 1 << 28
    assert processor.free is not None
    assert 0 < processor.free <= processor.memory
    assert processor.peak == cpu.cpu_peak(threads=1), "measured once"
    # every core made since 2000 lies within these bounds
    assert 1e8 < processor.peak < 1e13


def test_a_card_by_name():
    card = device.named("RTX 4070")
    assert (card.kind, card.name, card.count, card.memory) == ("cuda", "RTX 4070", 1, 12 << 30)
    assert card.free == (12 << 30) - device.CUDA_CONTEXT
    assert card.peak == pytest.approx(58.3e12)
    assert device.named("A100 80GB").memory == 80 << 30
    with pytest.raises(ConfigError, match=r"'GTX 1080': not in the table.*--memory 12GiB --peak 58"):
        device.named("GTX 1080")
    with pytest.raises(ConfigError, match=r"RTX 4060 Ti has 8 or 16 GiB; write 12 GiB as --memory 12GiB"):
        device.named("4060 Ti 12GB")


def test_a_card_by_its_memory():
    unknown = device.card_of(None, "12GiB")
    assert (unknown.kind, unknown.name, unknown.peak) == ("cuda", "a card of 12GiB", None)
    assert (unknown.memory, unknown.free) == (12 << 30, (12 << 30) - device.CUDA_CONTEXT)
    both = device.card_of("RTX 4090", "20 GB")
    assert (both.name, both.memory, both.peak) == ("RTX 4090", 20 << 30, pytest.approx(165.2e12))
    assert device.card_of("4060 Ti 12GB", "12GiB").memory == 12 << 30, "the given memory counts"


def test_a_card_that_the_table_lacks_needs_its_memory_and_its_peak() -> None:
    card = device.card_of("GTX 1080", "8GiB", 8.9)
    assert (card.name, card.memory, card.peak, card.float32_peak) == ("GTX 1080", 8 << 30, 8.9e12, None)
    assert device.card_of("GTX 1080", "8GiB").peak is None
    assert device.card_of("RTX 4070", None, 40.0).peak_in("bfloat16") == 40e12
    assert device.card_of(None, "8GiB", 8.9).peak == 8.9e12
    with pytest.raises(ConfigError, match="--memory 12GiB --peak 58"):
        device.card_of("GTX 1080", None, 8.9)
    with pytest.raises(ConfigError, match=r"--peak 8\.9 alone is no card: give its memory as well"):
        device.card_of(None, None, 8.9)
    with pytest.raises(ConfigError, match=r"peak=0 is not.*; memory='12' is not a size"):
        device.card_of("RTX 4070", "12", 0.0)
    assert "laptops with the most power" in device.named("3060 Laptop").note
    assert device.named("3060").note == ""
    for peak in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="is not a card's dense peak; give TFLOP/s above 0"):
            device.card_of("RTX 4070", None, peak)


@pytest.mark.parametrize(
    ("platform", "driver", "said"),
    [
        ("darwin", True, "Apple's GPU is not used"),
        ("win32", True, "AMD cards work on Linux only"),
        ("linux", True, "torch 2.13 finds no card.*install torch for CUDA .NVIDIA. or ROCm .AMD."),
        ("linux", False, "^$"),
    ],
)
def test_what_is_not_used_is_said(platform: str, driver: bool, said: str) -> None:
    text = device.unused_here(platform=platform, driver=driver, torch="2.13")
    assert re.search(said, text)
    assert ("workers train on the CPU's cores" in text) is bool(text)


def test_a_device_says_what_is_not_used_unless_the_cpu_was_asked_for(monkeypatch):
    monkeypatch.setattr(device, "note_on_cpu", lambda: "a note")
    monkeypatch.setattr(device, "cuda_devices", lambda: 0)
    assert device.describe("auto").note == "a note"
    assert device.describe("cpu").note == ""


@pytest.mark.parametrize("name", ["M3 Max", "Apple M1", "m4"])
def test_apples_gpus_are_said_not_to_be_used(name: str) -> None:
    with pytest.raises(ConfigError, match="Apple's GPUs are not used"):
        device.named(name)
