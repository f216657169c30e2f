"""Input files: what a person names is read only if it is a regular file, and only up to a size.

A pipe would block for ever, and a device such as /dev/zero has no end. Failures are OSErrors whose `strerror` says what
is wrong, so that whoever reads a file handles one kind of error.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe, which can be read only once; save its content in a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


def open_input(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes. Raises OSError for anything else, without waiting for a pipe's writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, next((words for is_kind, words in _KINDS if is_kind(mode)), "it is no file"), path)
    return os.fdopen(descriptor, "rb")


def check_input(path: Path) -> None:
    """Raise OSError unless `path` is a regular file that can be opened, for libraries that open files themselves."""
    open_input(path).close()


def read_input(path: Path, *, most: int) -> bytes:
    """Return a regular file's bytes. Raises OSError, also for one of more than `most` bytes, of which none is read."""
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""  # a file that grows, and those of /proc
    if size > most or len(content) > most:
        held = f"{size:,}" if size > most else f"more than {most:,}"
        raise OSError(errno.EFBIG, f"it has {held} bytes, and at most {most:,} are read", path)
    return content
