"""Provenance of a result: versions, machine, devices, commit."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Sequence
from importlib import metadata

from sweeps.workers.launch import environment
from trainer.machine.cpu import processor

_PACKAGES = ("plateau-sweep", "torch", "optuna", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    packages = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a source tree
            packages[name] = "not installed"
    return packages


def provenance_of(devices: Sequence[str]) -> dict[str, str]:
    """Describe where a study runs: versions, platform, devices by name, commit, command."""
    counts = {name: devices.count(name) for name in dict.fromkeys(devices)}
    names = [f"{count} x {device_name(name)}" if count > 1 else device_name(name) for name, count in counts.items()]
    facts = {**versions(), "platform": platform.platform(), "devices": ", ".join(names), "command": " ".join(sys.argv)}
    revision = commit()
    return facts if revision is None else {**facts, "commit": revision}


def device_name(device: str) -> str:
    """Ask the system for the name of the processor or the card; torch would take GPU memory to answer."""
    kind = device.partition(":")[0]
    if kind == "cuda":
        card = environment(device, threads=1, inherited=os.environ)["CUDA_VISIBLE_DEVICES"]
        query = ("nvidia-smi", f"--id={card}", "--query-gpu=name", "--format=csv,noheader")
        return _output(query) or device
    return processor() or device


def kinds_of(devices: Collection[str]) -> dict[str, str]:
    """Return the kind of each device: its name, or "cuda" for all cards that the system has no name for."""
    names = {device: device_name(device) for device in dict.fromkeys(devices)}
    return {device: device.partition(":")[0] if name == device else name for device, name in names.items()}


def commit() -> str | None:
    """Return the git commit of the current folder, with "-dirty" where files differ; None outside of a repository."""
    revision = _output(("git", "rev-parse", "HEAD"))
    if not revision:
        return None
    return revision + ("-dirty" if _output(("git", "status", "--porcelain", "--untracked-files=no")) else "")


def _output(command: tuple[str, ...]) -> str:
    """Return what a system command prints; "" where it doesn't exist, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
