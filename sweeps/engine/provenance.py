"""Provenance of a result: versions, machine, devices, commit."""

from __future__ import annotations

import functools
import platform
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from importlib import metadata

from sweeps.workers.names import output

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


def provenance_of(kinds: Iterable[str]) -> dict[str, str]:
    """Describe where a study runs: versions, platform, the workers' devices by name, commit, command."""
    names = [f"{count} x {kind}" if count > 1 else kind for kind, count in Counter(kinds).items()]
    facts = {**versions(), "platform": platform.platform(), "devices": ", ".join(names), "command": command_line()}
    revision = commit()
    return facts if revision is None else {**facts, "commit": revision}


def command_line() -> str:
    """Return the command as one types it, with *** for passwords in URLs."""
    return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", shlex.join(sys.argv))


def commit() -> str | None:
    """Return the git commit of the current folder, with "-dirty" where files differ; None outside of a repository."""
    revision = output(("git", "rev-parse", "HEAD"))
    if not revision:
        return None
    return revision + ("-dirty" if output(("git", "status", "--porcelain", "--untracked-files=no")) else "")
