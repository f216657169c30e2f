"""The embedded corpus: the sources of Python's standard library, about 12 MB of code and comments.

It needs no network, and no licence other than Python's, so a sweep runs on any machine without preparation. It differs
between Python versions, and so does its fingerprint.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from trainer.data.documents import TextBatch
from trainer.errors import DataError

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_GROUP = 1 << 20  # bytes; an interrupted preparation repeats at most one group


class EmbeddedCorpus:
    """The standard library's sources: one document per file, sorted by relative path, all in memory.

    Tests and installed packages are left out. Files that are not UTF-8 count as undecodable. `folder` is the library's
    folder, by default that of the running Python. Raises DataError if the folder has no sources.
    """

    name = "embedded"
    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(sysconfig.get_path("stdlib"))
        try:
            contents = {path: (self._folder / path).read_bytes() for path in source_files(self._folder)}
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror or error}") from error
        if not contents:
            raise DataError(
                f"{self._folder}: this Python came without its library's sources, which are the embedded corpus; "
                "name another corpus as data.parquet"
            )
        digest = hashlib.sha256()
        self._batches: list[TextBatch] = []
        texts: list[str] = []
        size = undecodable = 0
        for number, (path, content) in enumerate(contents.items(), start=1):
            digest.update(f"{path} {len(content)}\n".encode() + content)
            size += len(content)
            try:
                texts.append(content.decode("utf-8"))
            except UnicodeDecodeError:
                undecodable += 1
            if size >= _GROUP or number == len(contents):
                self._batches.append(TextBatch(texts=texts, undecodable=undecodable, size=size, ends_group=True))
                texts, size, undecodable = [], 0, 0
        self.fingerprint = digest.hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """A glob of the sources."""
        return (f"{self._folder}/**/*.py",)

    @property
    def groups(self) -> tuple[int, ...]:
        """Bytes of each group."""
        return tuple(batch.size for batch in self._batches)

    def read(self, start: int) -> Iterator[TextBatch]:
        """Return the batches from group `start` on."""
        return iter(self._batches[start:])


def source_files(folder: Path) -> list[str]:
    """Return the sorted paths, relative to `folder`, of its .py files without tests and installed packages."""
    paths: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]  # these hold ten times as many files
        relative = Path(parent).relative_to(folder)
        paths += [(relative / name).as_posix() for name in files if name.endswith(".py")]
    return sorted(paths)
