"""Atomic writes: a reader sees the whole old content or the whole new content, even after a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def disk_remedy(error: OSError) -> str:
    """Say what helps against a disk that takes no more; empty for other errors."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room and run again, it goes on where it stopped"
    if error.errno == errno.EROFS:
        return "the disk is read-only: make it writable and run again, it goes on where it stopped"
    return ""


def disk_trouble(error: OSError, *, at: Path) -> str:
    """Name the file, or else `at`, the trouble and the remedy of a disk that takes no more; empty for other errors."""
    remedy = disk_remedy(error)
    return remedy and f"{error.filename or at}: {error.strerror}; {remedy}"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file in the folder of `path`; flush it to disk and rename it to `path` if the block succeeds.

    Two processes may write the same path at once: the last rename wins. A device or a pipe (`/dev/stdout`) is written
    to, not replaced. Raises OSError that names `path`.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _naming(path, instead_of=temporary):
        file = temporary.open("wb")
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path, *, instead_of: Path) -> Iterator[None]:
    """Let an OSError name `path`: that of a full disk names no file, and the temporary one tells nobody anything."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(instead_of)):
            error.filename, error.filename2 = str(path), None
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` in UTF-8, creating its folder if needed. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())
