"""Provenance of a result: versions, machine, devices, commit."""

from __future__ import annotations

import functools
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata

from trainer.machine.cpu import processor

_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^@/\s'\"]+(?=@)|([?&](?:ssl)?password=)[^&\s'\"]+")
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
    facts = {**versions(), "platform": platform.platform(), "devices": ", ".join(names), "command": command_line()}
    revision = commit()
    return facts if revision is None else {**facts, "commit": revision}


def command_line() -> str:
    """Return the command as one types it, with *** for passwords in URLs."""
    return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", shlex.join(sys.argv))


def device_name(device: str) -> str:
    """Ask the system for the name of the processor or the card; torch would take GPU memory to answer."""
    kind, _, index = device.partition(":")
    if kind == "cuda":
        query = ("nvidia-smi", f"--id={index or 0}", "--query-gpu=name", "--format=csv,noheader")
        return _output(query) or device
    return processor() or device


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
