"""Files that people name: paths, globs, folders, and URLs of any file system that fsspec knows.

A remote file system raises classes of its own, so whatever goes wrong while a file is read is turned, here
and nowhere else, into a DataError that names the file.
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
"""A file's size in bytes, and what changes when its contents do."""

_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "md5", "mtime", "LastModified", "last_modified", "created")


class SourceChanged(DataError):
    """A file is no longer the one that was looked at: what has been read from it cannot be kept."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A local file (fs is None), or one on a file system of fsspec's."""

    path: str
    fs: Any
    where: str
    """as the user would write it"""

    def stat(self) -> Stat:
        """Size and time, or a remote file's size and tags; a size that isn't known is -1."""
        if self.fs is None:
            stat = Path(self.path).stat()
            return (stat.st_size, stat.st_mtime_ns)
        self.fs.invalidate_cache()
        info = self.fs.info(self.path)
        size = info.get("size")
        return (-1 if size is None else int(size), *(f"{tag}={info[tag]}" for tag in _TAGS if info.get(tag)))

    def open(self) -> Any:
        """The file's bytes, to be closed by the caller."""
        return Path(self.path).open("rb") if self.fs is None else self.fs.open(self.path, "rb")

    @contextmanager
    def reading(self, *, seen: Stat | None = None) -> Iterator[None]:
        """Whatever goes wrong inside, as a DataError that names the file; SourceChanged if it isn't as `seen`."""
        try:
            yield
        except SourceChanged:
            raise
        except Exception as error:
            # the network's edge: only a local file's errors are known by class
            if seen is not None and self._changed(seen):
                raise self.changed() from error
            if isinstance(error, DataError) or not (reason := _reason(error, remote=self.fs is not None)):
                raise
            raise DataError(f"{self.where}: {reason}") from error

    def changed(self) -> SourceChanged:
        """The error to raise when the file isn't as it was seen."""
        return SourceChanged(f"{self.where}: has changed while it was read; let its writer finish and run again")

    def _changed(self, seen: Stat) -> bool:
        try:
            return self.stat() != seen
        except OSError:
            return False  # it is gone or out of reach, which the first error says


def matching(entry: str) -> list[SourceFile]:
    """The files that a path, glob, folder or URL names, sorted. Raises DataError if there are none."""
    return _matching_url(entry) if "://" in entry or "::" in entry else _matching_path(entry)


def short_name(entry: str) -> str:
    """A word for a folder's name: the last part of a path, glob or URL that has letters before any wildcard."""
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
        problem = "the folder has no *.parquet in it"
    elif path.exists():
        return [SourceFile(path=str(path), fs=None, where=entry)]
    else:
        # Path.glob cannot start from a pattern with a root in it
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
    except ImportError as error:  # fsspec knows the protocol but not its package
        raise DataError(f"{entry}: {error}, with pip, or download the files and name them by path") from error
    except ValueError as error:
        known = ", ".join(sorted(fsspec.available_protocols()))
        raise DataError(f"{entry}: {error}; fsspec knows {known}") from error
    with SourceFile(path=path, fs=fs, where=entry).reading():
        try:
            kind = fs.info(path)["type"]  # not exists(), which takes a network's failure for an answer
        except FileNotFoundError:
            kind = None
        if kind == "directory":
            paths = sorted(name for name in fs.find(path) if name.endswith(".parquet"))
        elif kind is None:
            paths = sorted(fs.glob(path)) if glob.has_magic(path) else []
        else:
            paths = [path]
    if not paths:
        raise DataError(f"{entry}: no file matches; look at what is there, and at your rights to read it")
    return [SourceFile(path=name, fs=fs, where=fs.unstrip_protocol(name)) for name in paths]


def _reason(error: Exception, *, remote: bool) -> str | None:
    """What to tell the user about an error while reading; None: a fault of ours."""
    first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return f"may not be read ({error.strerror or error}); change its permissions"
    if isinstance(error, pa.ArrowNotImplementedError):
        return f"is parquet that pyarrow cannot read: {first_line}"
    if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
        return f"is no parquet file, or is damaged ({first_line}); download it again"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or first_line}"
    return f"cannot be read: {type(error).__name__}: {first_line}" if remote else None
