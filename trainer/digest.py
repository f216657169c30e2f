"""Digests of files, by which a run knows the checkpoint that it goes on from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainer.errors import CheckpointError


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits. Raises CheckpointError for one that can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
