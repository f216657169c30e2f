"""A journal of unfinished files, from which a killed preparation resumes.

Each part of the work appends to the files, then appends one line to the journal: the files' sizes, their running
CRC-32s and the state to resume from. Nothing is forced to disk before the end. Reopening the journal checks the files
against it line by line and truncates them to the last valid line. This survives a killed process and a power cut, at
the cost of reading the files once.
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

    `key` identifies the work. A journal with another key, or an unreadable journal, is started anew with its files.
    Raises DataError if the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], *, key: str) -> None:
        self.folder = folder
        self.done = 0
        """number of finished parts"""
        self.state: Any = None
        """state recorded with the last finished part"""
        self._sizes = dict.fromkeys(names, 0)
        self._crcs = dict.fromkeys(names, 0)
        self._path = folder / JOURNAL
        self._files: dict[str, FileIO] = {}
        with writing(folder), ExitStack() as stack:
            for name in names:
                if self.final(name).exists() and not self.part(name).exists():
                    self.final(name).replace(self.part(name))  # killed in `finish`
                # unbuffered, so that a full disk fails the write and not a later close
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
        """Return the path of an unfinished file."""
        return self.folder / f"{name}.part"

    def final(self, name: str) -> Path:
        """Return the path of a finished file."""
        return self.folder / f"{name}.bin"

    def size(self, name: str) -> int:
        """Return the bytes in a file so far."""
        return self._sizes[name]

    def read(self, name: str) -> bytes:
        """Return the content of a file so far."""
        with self.part(name).open("rb") as file:
            return file.read(self._sizes[name])

    def append(self, name: str, data: bytes | memoryview) -> None:
        """Append bytes, or a contiguous array's memory, to a file."""
        view = memoryview(data).cast("B")
        self._crcs[name] = zlib.crc32(view, self._crcs[name])
        self._sizes[name] += len(view)
        with writing(self.folder):
            _write(self._files[name], view)

    def commit(self, state: Any) -> None:
        """Record a finished part; `state` is plain JSON."""
        files = {name: [size, self._crcs[name]] for name, size in self._sizes.items()}
        with writing(self.folder):
            _write(self._journal, memoryview(_line({"files": files, "state": state})))
        self.done += 1
        self.state = state

    def finish(self, names: tuple[str, ...]) -> None:
        """Force the files of `names` to disk and rename them to their final names."""
        with writing(self.folder):
            for name in names:
                os.fsync(self._files[name].fileno())
                self.part(name).replace(self.final(name))

    def _recover(self, header: str) -> int:
        """Restore the state of the last line that matches the files. Returns the journal's valid length, bytes."""
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        if not lines or lines[0] != header.encode() + b"\n":
            self._path.write_bytes(header.encode() + b"\n")
            return len(header) + 1
        end = len(lines[0])
        for file in self._files.values():
            file.seek(0)
        for line in lines[1:]:
            entry = _entry(line)
            if entry is None or not self._matches(entry["files"]):
                break
            self.state = entry["state"]
            self.done += 1
            end += len(line)
        return end

    def _matches(self, recorded: Mapping[str, list[int]]) -> bool:
        """Whether the files continue as recorded. If so, adopt the recorded sizes and CRCs."""
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
    """Delete a folder's journal and its unfinished files. Raises DataError."""
    with writing(folder):
        for path in (*(folder / f"{name}.part" for name in names), folder / JOURNAL):
            path.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a small file atomically. Raises DataError."""
    with writing(path.parent), replacing(path) as file:
        file.write(data)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write into a DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{folder}: no space left to write the data ({reason}); free some and run the same command again: "
                "it resumes after the last finished row group"
            ) from error
        raise DataError(f"{error.filename or folder}: cannot be written ({reason}); name a writable folder") from error


def _write(file: FileIO, view: memoryview) -> None:
    """Write all of `view`: an unbuffered file may take only a part at a time."""
    while view:
        view = view[file.write(view) :]


def _line(entry: dict[str, Any]) -> bytes:
    """Return a line of the journal: the CRC-32 of the JSON in hex, then the JSON."""
    content = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a journal's line; None if the line is damaged."""
    content = line[9:].rstrip(b"\n")
    if line != b"%08x %s\n" % (zlib.crc32(content), content):
        return None
    entry: dict[str, Any] = json.loads(content)
    return entry
