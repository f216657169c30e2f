"""Names of devices: what nvidia-smi prints of a card, and the processor's own name."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from sweeps.workers import names

SMI = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def smi(card: int) -> tuple[str, ...]:
    name, *options = SMI
    return (name, f"--id={card}", *options)


@pytest.mark.parametrize(
    ("device", "answers", "name"),
    [
        ("cuda", {smi(0): "NVIDIA H200\n"}, "NVIDIA H200"),
        ("cuda:0", {smi(0): "NVIDIA H200\n"}, "NVIDIA H200"),
        ("cuda:1", {smi(0): "NVIDIA H200\n", smi(1): "NVIDIA GeForce RTX 4070\n"}, "NVIDIA GeForce RTX 4070"),
        ("cuda:1", {smi(1): "\n"}, "cuda:1"),
        ("cuda:1", {smi(1): 6}, "cuda:1"),  # no such card
        ("cuda:1", {smi(1): subprocess.TimeoutExpired("nvidia-smi", 10)}, "cuda:1"),
        ("cuda:1", {}, "cuda:1"),
    ],
    ids=["no index", "first card", "second card", "empty", "fails", "hangs", "not installed"],
)
def test_a_card_has_the_name_that_nvidia_smi_prints_or_its_own(
    commands: dict[tuple[str, ...], Any], device: str, answers: dict[tuple[str, ...], Any], name: str
) -> None:
    commands.update(answers)
    assert names.device_name(device) == name


@pytest.mark.parametrize(("known", "name"), [("Intel Xeon", "Intel Xeon"), ("", "cpu")])
def test_a_cpu_has_its_processors_name(monkeypatch: pytest.MonkeyPatch, known: str, name: str) -> None:
    monkeypatch.setattr(names, "processor", lambda: known)
    assert names.device_name("cpu") == name


@pytest.mark.parametrize(("visible", "asked"), [("3", "3"), ("3,1", "3"), ("GPU-8a", "GPU-8a"), ("", "0")])
def test_a_card_is_the_first_of_those_that_cuda_shows(
    commands: dict[tuple[str, ...], Any], monkeypatch: pytest.MonkeyPatch, visible: str, asked: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    commands[("nvidia-smi", f"--id={asked}", *SMI[1:])] = "NVIDIA H200"
    assert names.device_name("cuda:0") == "NVIDIA H200"


def test_cards_without_a_name_are_of_one_kind(commands: dict[tuple[str, ...], Any]) -> None:
    assert {names.kind_of(device) for device in ("cuda:0", "cuda:1")} == {"cuda"}
    commands[smi(1)] = "NVIDIA H200"
    assert names.kind_of("cuda:1") == "NVIDIA H200"
