"""Provenance: devices, versions, and the commit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine import provenance


def test_equal_devices_are_counted(commands: dict[tuple[str, ...], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", "run", "study.yaml"])
    facts = provenance.provenance_of(["Intel Xeon", "NVIDIA H200", "Intel Xeon"])
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
