"""Measurements of this machine, kept between processes: a JSON file each in the user's cache folder.

What can't be read is measured again: a cache may be deleted, and cut off in the middle, at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.atomic import write_text

FOLDER = "PLATEAU_SWEEP_CACHE"
"""Names the folder in the environment, instead of plateau-sweep in $XDG_CACHE_HOME or ~/.cache."""


def folder() -> Path:
    """Where measurements are kept."""
    if named := os.environ.get(FOLDER):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plateau-sweep"


def load(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `save` wrote for this very key; None where there is nothing, or nothing whole."""
    try:
        found = json.loads(_path(kind, key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("key") != dict(key) or not isinstance(found.get("value"), dict):
        return None
    value: dict[str, Any] = found["value"]
    return value


def save(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """Keep `value` for `key` (both as JSON has them); where the folder can't be written nothing is kept."""
    with contextlib.suppress(OSError):
        write_text(_path(kind, key), json.dumps({"key": dict(key), "value": dict(value)}, indent=1))


def _path(kind: str, key: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:16]
    return folder() / f"{re.sub('[^a-z-]', '-', kind)}-{digest}.json"
