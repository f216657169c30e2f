"""Footers of parquet files, opened in a process of their own before this one opens the file.

Arrow ends the whole process for some footers, with a C++ exception that no `except` catches: damaged statistics, or a
column encrypted beside a plain footer. A sweep must not end with it.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trainer.errors import DataError

_WALK = Path(__file__).with_name("footer_walk.py")
_TAIL = 8
"""bytes at the end of a parquet file: the length of the metadata before them, and "PAR1\""""

Probe = Callable[[str, bytes], None]
"""Takes a file's name and its footer. Raises DataError for a footer that ends the process that opens it."""


def footer(file: Any) -> bytes:
    """Return the end of an open parquet file, from its metadata on. b"": it has none, as every reader says."""
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL:
        return b""
    file.seek(size - _TAIL)
    length, magic = struct.unpack("<I4s", file.read(_TAIL))
    if magic != b"PAR1" or length > size - _TAIL:
        return b""
    file.seek(size - _TAIL - length)
    return bytes(file.read())


@contextmanager
def probing() -> Iterator[Probe]:
    """Yield a probe of footers. One process, which takes tenths of a second to start, opens them all."""
    # -P: the script's folder is not searched for modules, because it holds a parquet.py
    command = [sys.executable, "-P", str(_WALK)]
    with subprocess.Popen(  # noqa: S603  # our own script
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        asked, answers, errors = process.stdin, process.stdout, process.stderr
        assert asked is not None
        assert answers is not None
        assert errors is not None

        def probe(name: str, content: bytes) -> None:
            with suppress(BrokenPipeError):
                asked.write(struct.pack("<q", len(content)) + content)
                asked.flush()
            if not answers.readline():
                raise DataError(f"{name}: {_last_words(errors)}")

        try:
            yield probe
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                asked.close()


def _last_words(errors: IO[bytes]) -> str:
    said = errors.read().decode(errors="replace")
    thrown = [line.partition("what():")[2].strip() for line in said.splitlines() if "what():" in line]
    reason = thrown[0] if thrown else said[-200:]
    if "decrypt" in reason:
        return f"has encrypted columns, which can't be read ({reason}); write it without encryption"
    return f"is damaged so that opening it ends the process ({reason}); download it again"
