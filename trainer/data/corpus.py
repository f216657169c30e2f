"""The corpus that every Python has: the sources of its standard library, about 12 MB of code and comments.

It needs no network and no licence beyond Python's own, so a sweep runs on any machine as it is. It differs
between Python versions, which its fingerprint tells.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from trainer.data.documents import Batch
from trainer.errors import DataError

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_GROUP = 1 << 20  # bytes; a group is what an interrupted preparation does again


class EmbeddedCorpus:
    """The standard library's sources, one document a file, sorted by relative path; all in memory.

    Tests and installed packages are left out, files that are no UTF-8 counted as undecodable. `folder` is
    the library's, by default the running Python's. Raises DataError where Python came without its sources.
    """

    name = "embedded"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(sysconfig.get_path("stdlib"))
        try:
            contents = {path: (self._folder / path).read_bytes() for path in source_files(self._folder)}
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror or error}") from error
        if not contents:
            raise DataError(
                f"{self._folder}: this Python came without its library's sources, which are the embedded corpus; "
                "name a corpus of your own as data.parquet"
            )
        digest = hashlib.sha256()
        self._batches: list[Batch] = []
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
                self._batches.append(Batch(texts=texts, undecodable=undecodable, size=size, ends_group=True))
                texts, size, undecodable = [], 0, 0
        self.fingerprint = digest.hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        return (f"{self._folder}/**/*.py",)

    @property
    def groups(self) -> tuple[int, ...]:
        return tuple(batch.size for batch in self._batches)

    def read(self, start: int) -> Iterator[Batch]:
        """Batches from group `start` on."""
        return iter(self._batches[start:])


def source_files(folder: Path) -> list[str]:
    """The library's .py files without its tests and installed packages: sorted paths relative to `folder`."""
    found: list[str] = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]  # there are ten times as many in those
        inside = Path(where).relative_to(folder)
        found += [(inside / name).as_posix() for name in files if name.endswith(".py")]
    return sorted(found)
