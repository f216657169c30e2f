"""Unfinished files and a journal of what is in them, so that a killed preparation goes on where it was.

Each part of the work appends to the files, then one line to the journal: the files' sizes and running CRC-32s,
and the state to go on from. Nothing is forced to disk before the end. Opening the journal again checks the
files against it line by line, cuts them back to the last line that holds, and so survives a killed process
and a power cut alike, at the price of reading the files once.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from trainer.atomic import replacing
from trainer.data.dataset import JOURNAL
from trainer.errors import DataError

_BLOCK = 1 << 20


class Journal:
    """Files `<name>.part` in a folder, and the record of their finished parts. Use as a context manager.

    `key` says whose work it is: files and a journal with another key, or that cannot be read, are begun anew.
    Raises DataError where the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], *, key: str) -> None:
        self.folder = folder
        self.done = 0
        """parts that are finished"""
        self.state: Any = None
        """what the last finished part left behind"""
        self._sizes = dict.fromkeys(names, 0)
        self._crcs = dict.fromkeys(names, 0)
        self._path = folder / JOURNAL
        self._files: dict[str, FileIO] = {}
        with writing(folder), ExitStack() as stack:
            for name in names:
                if self.final(name).exists() and not self.part(name).exists():
                    self.final(name).replace(self.part(name))  # killed in `finish`
                # unbuffered: a full disk is told by the write, not by some later close
                self._files[name] = stack.enter_context(self.part(name).open("ab+", buffering=0))
            end = self._recover(json.dumps({"key": key}))
            for name, file in self._files.items():
                file.truncate(self._sizes[name])
            os.truncate(self._path, end)
            self._journal = stack.enter_context(self._path.open("ab", buffering=0))
            self._opened = stack.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def part(self, name: str) -> Path:
        """The unfinished file."""
        return self.folder / f"{name}.part"

    def final(self, name: str) -> Path:
        """The finished file."""
        return self.folder / f"{name}.bin"

    def size(self, name: str) -> int:
        """Bytes of a file so far."""
        return self._sizes[name]

    def read(self, name: str) -> bytes:
        """All of a file so far."""
        with self.part(name).open("rb") as file:
            return file.read(self._sizes[name])

    def append(self, name: str, data: bytes | memoryview) -> None:
        """Write bytes, or a contiguous array's memory, to the end of a file."""
        view = memoryview(data).cast("B")
        self._crcs[name] = zlib.crc32(view, self._crcs[name])
        self._sizes[name] += len(view)
        with writing(self.folder):
            _write(self._files[name], view)

    def commit(self, state: Any) -> None:
        """Record that a part is finished; `state` is plain JSON."""
        files = {name: [size, self._crcs[name]] for name, size in self._sizes.items()}
        with writing(self.folder):
            _write(self._journal, memoryview(_line({"files": files, "state": state})))
        self.done += 1
        self.state = state

    def finish(self, names: tuple[str, ...]) -> None:
        """Force the files to disk and give those of `names` their final ones."""
        with writing(self.folder):
            for name in names:
                os.fsync(self._files[name].fileno())
                self.part(name).replace(self.final(name))

    def _recover(self, header: str) -> int:
        """Take over the lines that the files bear out; the journal's length up to there, bytes."""
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        if not lines or lines[0] != header.encode() + b"\n":
            self._path.write_bytes(header.encode() + b"\n")
            return len(header) + 1
        end = len(lines[0])
        for file in self._files.values():
            file.seek(0)
        for line in lines[1:]:
            entry = _entry(line)
            if entry is None or not self._holds(entry["files"]):
                break
            self.state = entry["state"]
            self.done += 1
            end += len(line)
        return end

    def _holds(self, recorded: Mapping[str, list[int]]) -> bool:
        """Whether the files go on as recorded; if so their sizes and CRCs are taken over."""
        crcs = dict(self._crcs)
        for name, file in self._files.items():
            missing = recorded[name][0] - self._sizes[name]
            while missing > 0 and (block := file.read(min(missing, _BLOCK))):
                crcs[name] = zlib.crc32(block, crcs[name])
                missing -= len(block)
            if missing or crcs[name] != recorded[name][1]:
                return False
        self._sizes = {name: recorded[name][0] for name in self._files}
        self._crcs = crcs
        return True


def remove(folder: Path, names: tuple[str, ...]) -> None:
    """Delete the journal of a folder and its unfinished files."""
    with writing(folder):
        for path in (*(folder / f"{name}.part" for name in names), folder / JOURNAL):
            path.unlink(missing_ok=True)


def write_aside(path: Path, data: bytes) -> None:
    """Replace a small file, whole or not at all. Raises DataError."""
    with writing(path.parent), replacing(path) as file:
        file.write(data)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A failure to write, as a DataError in the user's words."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{folder}: no space left to write the data ({reason}); free some and run the same command again: "
                "it goes on after the last finished row group"
            ) from error
        raise DataError(
            f"{error.filename or folder}: cannot be written ({reason}); name a folder that can be"
        ) from error


def _write(file: FileIO, view: memoryview) -> None:
    """Write all of it: a raw file may take less, and says why at the next try."""
    while view:
        view = view[file.write(view) :]


def _line(entry: dict[str, Any]) -> bytes:
    """A line of the journal: the JSON's CRC-32 in hex, and the JSON."""
    content = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line of the journal says, or None if it is not as it was written."""
    content = line[9:].rstrip(b"\n")
    if line != b"%08x %s\n" % (zlib.crc32(content), content):
        return None
    entry: dict[str, Any] = json.loads(content)
    return entry
