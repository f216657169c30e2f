"""Standard output and error of the command, which may be a closed pipe, a full disk, or an ASCII terminal.

What is printed is the lesser part of a sweep. So what can't be written is left out, and the sweep goes on.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Lasting(io.FileIO):
    """A stream of the process that takes every write, and remembers why the first that failed did."""

    lost: OSError | None = None

    def write(self, content: ReadableBuffer) -> int:
        if self.lost is None:
            try:
                return super().write(content)
            except OSError as error:
                self.lost = error
        return memoryview(content).nbytes


def outlast() -> list[Lasting]:
    """Replace sys.stdout and sys.stderr by streams that no print ends the command with. Returns the files below them.

    A stream that was closed (`>&-`) goes to nowhere. A character that the encoding lacks is printed as "?".
    """
    files = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for the whole command
            continue
        with contextlib.suppress(OSError, ValueError):
            if stream.fileno() != number:
                continue
            stream.flush()
            file = Lasting(number, "wb", closefd=False)
            files.append(file)
            text = io.TextIOWrapper(
                io.BufferedWriter(file), encoding=stream.encoding, errors="replace", line_buffering=True
            )
            setattr(sys, name, text)
    return files


def what_was_lost(files: list[Lasting]) -> str:
    """Return why output was lost, in words; empty: none was, or its reader had read enough (`| head`)."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    errors = [file.lost for file in files if file.lost is not None and file.lost.errno != errno.EPIPE]
    return f"the output can't be written: {errors[0].strerror}" if errors else ""
