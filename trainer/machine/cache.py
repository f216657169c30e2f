"""A cache of measurements of this machine: one JSON file per measurement in the user's cache folder.

A cache may be deleted or truncated at any moment, so an unreadable file counts as missing and is measured again.
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
"""Environment variable that names the folder; without it: plateau-sweep in $XDG_CACHE_HOME or ~/.cache."""


def folder() -> Path:
    """Return the folder of the measurements."""
    if path := os.environ.get(FOLDER):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plateau-sweep"


def load(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the value that `save` wrote for this key; None if it is missing or damaged."""
    try:
        entry = json.loads(_path(kind, key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(entry, dict) or entry.get("key") != dict(key) or not isinstance(entry.get("value"), dict):
        return None
    value: dict[str, Any] = entry["value"]
    return value


def save(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """Save `value` for `key`, both plain JSON. Nothing is saved if the folder can't be written."""
    with contextlib.suppress(OSError):
        write_text(_path(kind, key), json.dumps({"key": dict(key), "value": dict(value)}, indent=1))


def _path(kind: str, key: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:16]
    return folder() / f"{re.sub('[^a-z-]', '-', kind)}-{digest}.json"
