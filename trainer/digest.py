"""Digests of files, by which a run knows the checkpoint that it goes on from, and checksums, by which it is whole."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from pathlib import Path

from trainer.errors import CheckpointError, DamagedCheckpoint


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits. Raises CheckpointError for one that can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def check_sums(path: Path, *, remedy: str) -> None:
    """Compare the checksums in an archive that torch has written; a file that is no archive has none.

    `remedy` ends the message. Raises DamagedCheckpoint, and CheckpointError for a file that can't be read.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise DamagedCheckpoint(f"{path}: is damaged; {remedy} ({error})") from error
    if record is not None:
        raise DamagedCheckpoint(f"{path}: is damaged: {record} has another checksum; {remedy}")
