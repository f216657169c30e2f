"""glibc's settings for training on a CPU, which it reads from its environment when a process starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from trainer.device import driver_is_here

SETTINGS = {
    # glibc otherwise hands big blocks back to the kernel at every training step and faults them in again:
    # a fifth of the time of a small model on a CPU
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "67108864",
    # pages of 2 MB where the kernel gives them to who asks, as most do: 1 to 4 % of a step are misses of small pages
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def missing(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that an environment lacks; what the user has set stands."""
    return {name: value for name, value in SETTINGS.items() if name not in environment}


def restart_with_settings() -> None:
    """On Linux without a card: execute this process's own command anew with the settings, if it lacks any."""
    lacking = missing(os.environ)
    if lacking and sys.platform == "linux" and not driver_is_here():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **lacking})  # noqa: S606  # the same command
