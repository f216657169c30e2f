"""Source files, named by paths, globs, folders, or URLs of any file system that fsspec knows.

Remote file systems raise exceptions of their own. This module alone turns any failure to read a file into a DataError
that names the file.
"""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.core import url_to_fs

from trainer.errors import DataError

Stat = tuple[int | str, ...]
"""A file's size in bytes, and tags that change with its contents."""

_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "md5", "mtime", "LastModified", "last_modified", "created")


class SourceChanged(DataError):
    """A file changed after it was checked, so its text must not be used."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A local file (fs is None), or a file on a file system of fsspec's."""

    path: str
    fs: Any
    where: str
    """path or URL as the user would write it"""

    def stat(self) -> Stat:
        """Return a local file's size and time, or a remote file's size and tags. An unknown size is -1."""
        if self.fs is None:
            stat = Path(self.path).stat()
            return (stat.st_size, stat.st_mtime_ns)
        self.fs.invalidate_cache()
        info = self.fs.info(self.path)
        size = info.get("size")
        return (-1 if size is None else int(size), *(f"{tag}={info[tag]}" for tag in _TAGS if info.get(tag)))

    def open(self) -> Any:
        """Open the file for reading bytes; the caller closes it."""
        return Path(self.path).open("rb") if self.fs is None else self.fs.open(self.path, "rb")

    @contextmanager
    def reading(self, *, seen: Stat | None = None) -> Iterator[None]:
        """Turn any failure in the block into a DataError that names the file, or into SourceChanged.

        `seen` is an earlier `stat`: a failure is a SourceChanged if the file differs from it.
        """
        try:
            yield
        except SourceChanged:
            raise
        except Exception as error:
            # all errors are caught, because those of remote file systems have no common base class
            if seen is not None and self._changed(seen):
                raise self.changed() from error
            if isinstance(error, DataError) or not (reason := _reason(error, remote=self.fs is not None)):
                raise
            raise DataError(f"{self.where}: {reason}") from error

    def changed(self) -> SourceChanged:
        """Return the error to raise when the file differs from its earlier state."""
        return SourceChanged(f"{self.where}: changed while it was read; let its writer finish and run again")

    def _changed(self, seen: Stat) -> bool:
        try:
            return self.stat() != seen
        except OSError:
            return False  # gone or out of reach, which the original error says


def matching(entry: str) -> list[SourceFile]:
    """Return the files that a path, glob, folder or URL names, sorted. Raises DataError if there are none."""
    return _matching_url(entry) if "://" in entry or "::" in entry else _matching_path(entry)


def short_name(entry: str) -> str:
    """Return a word for a folder's name: the last part of a path, glob or URL that has letters before any wildcard."""
    for part in reversed(re.split(r"[/\\]+", entry)):
        before = re.split(r"[*?\[]", re.sub(r"\.parquet$", "", part))[0]
        word = re.sub(r"[^A-Za-z0-9_.]+", "-", before).strip("-._")
        if word and not part.endswith(":"):
            return word[:40]
    return "parquet"


def _matching_path(entry: str) -> list[SourceFile]:
    path = Path(entry).expanduser()
    if path.is_dir():
        paths = sorted(file for file in path.rglob("*.parquet") if file.is_file())
        problem = "the folder contains no *.parquet"
    elif path.exists():
        return [SourceFile(path=str(path), fs=None, where=entry)]
    else:
        # Path.glob takes no absolute pattern
        paths = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        paths = [match for match in paths if match.is_file()]
        problem = "no file matches" if glob.has_magic(entry) else "no such file"
    if not paths:
        siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "give a path, a glob or a folder of parquet files"
        raise DataError(f"{entry}: {problem}; {hint}")
    return [SourceFile(path=str(file), fs=None, where=str(file)) for file in paths]


def _matching_url(entry: str) -> list[SourceFile]:
    try:
        fs, path = url_to_fs(entry)
    except ImportError as error:  # fsspec knows the protocol, but its package is not installed
        raise DataError(f"{entry}: {error}, with pip, or download the files and name them by path") from error
    except ValueError as error:
        known = ", ".join(sorted(fsspec.available_protocols()))
        raise DataError(f"{entry}: {error}; fsspec knows {known}") from error
    with SourceFile(path=path, fs=fs, where=entry).reading():
        try:
            kind = fs.info(path)["type"]  # not exists(), which hides a network failure
        except FileNotFoundError:
            kind = None
        if kind == "directory":
            paths = sorted(name for name in fs.find(path) if name.endswith(".parquet"))
        elif kind is None:
            paths = sorted(fs.glob(path)) if glob.has_magic(path) else []
        else:
            paths = [path]
    if not paths:
        raise DataError(f"{entry}: no file matches; check the URL and your permission to read it")
    return [SourceFile(path=name, fs=fs, where=fs.unstrip_protocol(name)) for name in paths]


def _reason(error: Exception, *, remote: bool) -> str | None:
    """Return the explanation of a failure to read, for the user; None if the error is a bug."""
    first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return f"cannot be read ({error.strerror or error}); change its permissions"
    if isinstance(error, pa.ArrowNotImplementedError):
        return f"is a kind of parquet that pyarrow cannot read: {first_line}"
    if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
        return f"is not a parquet file, or is damaged ({first_line}); download it again"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or first_line}"
    return f"cannot be read: {type(error).__name__}: {first_line}" if remote else None
