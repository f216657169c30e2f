"""Provenance: devices by the names that the system has for them, versions, and the commit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine import provenance

SMI = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], str | Exception | int]:
    """Return the system's commands: what each prints, raises or exits with. An unlisted command doesn't exist."""
    answers: dict[tuple[str, ...], str | Exception | int] = {}

    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        answer = answers.get(tuple(command), FileNotFoundError(command[0]))
        if isinstance(answer, Exception):
            raise answer
        code, text = (answer, "") if isinstance(answer, int) else (0, answer)
        return subprocess.CompletedProcess(command, code, stdout=text, stderr="")

    monkeypatch.setattr(provenance.subprocess, "run", run)
    return answers


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
    assert provenance.device_name(device) == name


@pytest.mark.parametrize(("known", "name"), [("Intel Xeon", "Intel Xeon"), ("", "cpu")])
def test_a_cpu_has_its_processors_name(monkeypatch: pytest.MonkeyPatch, known: str, name: str) -> None:
    monkeypatch.setattr(provenance, "processor", lambda: known)
    assert provenance.device_name("cpu") == name


def test_equal_devices_are_counted(commands: dict[tuple[str, ...], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "processor", lambda: "Intel Xeon")
    monkeypatch.setattr(sys, "argv", ["sweep", "run", "study.yaml"])
    commands[smi(0)] = "NVIDIA H200"
    facts = provenance.provenance_of(["cpu", "cuda:0", "cpu"])
    assert facts["devices"] == "2 x Intel Xeon, NVIDIA H200"
    assert facts["command"] == "sweep run study.yaml"
    assert "commit" not in facts  # git doesn't exist here
    assert {"python", "torch", "optuna", "numpy", "plateau-sweep", "platform"} <= facts.keys()


@pytest.mark.parametrize(("status", "suffix"), [("", ""), (" M file.py", "-dirty")])
def test_the_commit_says_whether_files_differ(commands: dict[tuple[str, ...], Any], status: str, suffix: str) -> None:
    commands["git", "rev-parse", "HEAD"] = "3adf61e\n"
    commands["git", "status", "--porcelain", "--untracked-files=no"] = status
    assert provenance.commit() == f"3adf61e{suffix}"


def test_outside_of_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() is None


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run", "study.yaml", "--set", "knobs.dropout={low: 0, high: 0.3}"],
         "sweep run study.yaml --set 'knobs.dropout={low: 0, high: 0.3}'"),
        (["run", "--data", "https://me:hunter2@host/x.parquet"], "sweep run --data https://me:***@host/x.parquet"),
        (["run", "--data", "https://host/x?password=hunter2&y=1"], "sweep run --data 'https://host/x?password=***&y=1'"),
        (["run", "--data", "https://host:8080/x"], "sweep run --data https://host:8080/x"),
    ],
)  # fmt: skip
def test_the_command_is_quoted_and_passwords_are_masked(
    arguments: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["sweep", *arguments])
    assert provenance.command_line() == command
