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
from pathlib import Path, PurePath
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.core import url_to_fs

from trainer.data.dataset import token_folders
from trainer.data.other_formats import conversion
from trainer.errors import DataError
from trainer.input_file import check_input, open_input

Stat = tuple[int | str, ...]
"""A file's size in bytes, and tags that change with its contents."""

_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "md5", "mtime", "LastModified", "last_modified", "created")
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_HELD_OUT = re.compile(r"(?:^|[-_.])(?:test|val|valid|validation|dev)(?=[-_.])", re.IGNORECASE)


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
        return open_input(Path(self.path)) if self.fs is None else self.fs.open(self.path, "rb")

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


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The files that an entry of data.parquet names."""

    files: list[SourceFile]
    """sorted"""
    note: str | None = None
    """how many files of a folder or a glob were taken, and which were not; None: one file was named"""


def matching(entry: str) -> Matches:
    """Return the files that a path, glob, folder or URL names. Raises DataError if there are none.

    A folder is the glob of all *.parquet below it. Names that begin with a dot or an underscore are no data: copies of
    macOS's attributes, a downloader's cache, Spark's unfinished parts.
    """
    if _PASSWORD.search(entry):
        raise DataError(
            f"{_PASSWORD.sub('://', entry)}: is given with a password in the URL, which would stand in the study's "
            "tables and report; drop it, and let fsspec find it in its config (~/.config/fsspec) or in the environment"
        )
    is_url = ("://" in entry or "::" in entry) and not Path(entry).expanduser().exists()
    return _matching_url(entry) if is_url else _matching_path(entry)


def is_hidden(path: str, named: str) -> bool:
    """Whether a part of the path's name begins with a dot or an underscore, and wasn't `named` so by the user."""
    given = set(re.split(r"[/\\]", named))
    return any(part[:1] in (".", "_") and part not in given for part in re.split(r"[/\\]", path))


def _taken(entry: str, found: list[str], others: list[str]) -> tuple[list[str], str]:
    """Return the paths that are data, and a note that counts them. `others` are files that are no parquet."""
    data = [path for path in found if not is_hidden(path, entry)]
    hidden = [path for path in found if is_hidden(path, entry)]
    note = f"{entry}: {len(data)} parquet file{'s' * (len(data) != 1)}"
    if hidden:
        note += f"; {len(hidden)} left out, for a name that begins with . or _ is no data: {_listed(hidden)}"
    if unread := [path for path in others if not is_hidden(path, entry) and conversion(path)]:
        note += f"; {len(unread)} left out that are no parquet: {_listed(unread)}"
    held_out = [path for path in data if _HELD_OUT.search(PurePath(path).name)]
    if 0 < len(held_out) < len(data):
        note += f"; {len(held_out)} of them named as held-out data: {_listed(held_out)}"
    return data, note


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def short_name(entry: str) -> str:
    """Return a word for a folder's name: the last part of a path, glob or URL that has letters before any wildcard."""
    for part in reversed(re.split(r"[/\\]+", entry)):
        before = re.split(r"[*?\[]", re.sub(r"\.parquet$", "", part))[0]
        word = re.sub(r"[^A-Za-z0-9_.]+", "-", before).strip("-._")
        if word and not part.endswith(":"):
            return word[:40]
    return "parquet"


def _matching_path(entry: str) -> Matches:
    path = Path(entry).expanduser()
    if path.exists() and not path.is_dir():
        file = SourceFile(path=str(path), fs=None, where=entry)
        with file.reading():
            check_input(path)
        return Matches(files=[file])
    if path.is_dir():
        below = [str(file) for file in sorted(path.rglob("*")) if file.is_file()]
        problem = "the folder contains no *.parquet"
    else:
        # Path.glob takes no absolute pattern
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        below = [str(match) for match in matches if match.is_file()]
        below += [str(file) for match in matches if match.is_dir() for file in sorted(match.rglob("*.parquet"))]
        problem = "no file matches" if glob.has_magic(entry) else "no such file"
    found = list(dict.fromkeys(name for name in below if name.endswith(".parquet")))
    data, note = _taken(str(path), found, [name for name in below if not name.endswith(".parquet")])
    if not data:
        raise DataError(f"{entry}: {problem}; {_remedy(path, below)}")
    return Matches(files=[SourceFile(path=name, fs=None, where=name) for name in data], note=note)


def _remedy(path: Path, below: list[str]) -> str:
    """Say what to do where no parquet file was found; `below` are the files found instead."""
    if known := [words for name in below if not is_hidden(name, str(path)) and (words := conversion(name))]:
        return known[0] + (f" (and {len(known) - 1} more)" if len(known) > 1 else "")
    if hidden := [name for name in below if name.endswith(".parquet")]:
        return f"a name that begins with . or _ is no data: {_listed(hidden)}"
    if folders := token_folders(path):
        return f"a folder below it has tokens; name it as data.bin: {', '.join(map(str, folders))}"
    if not path.exists() and path.parent.is_dir():
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.iterdir()], n=1)
        if near:
            return f"did you mean {path.parent / near[0]}?"
    return "give a path, a glob or a folder of parquet files"


def _matching_url(entry: str) -> Matches:
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
            paths, note = _taken(path, sorted(name for name in fs.find(path) if name.endswith(".parquet")), [])
        elif kind is None:
            paths, note = _taken(path, sorted(fs.glob(path)) if glob.has_magic(path) else [], [])
        else:
            paths, note = [path], None
    if not paths:
        raise DataError(f"{entry}: no file matches; check the URL and your permission to read it")
    files = [SourceFile(path=name, fs=fs, where=fs.unstrip_protocol(name)) for name in paths]
    return Matches(files=files, note=note)


def _reason(error: Exception, *, remote: bool) -> str | None:
    """Return the explanation of a failure to read, for the user; None if the error is a bug."""
    first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return f"cannot be read ({error.strerror or error}); change its permissions"
    if isinstance(error, pa.ArrowNotImplementedError):
        return f"is a kind of parquet that pyarrow cannot read: {first_line}"
    if "encrypted" in first_line:
        return f"is encrypted, and can't be read ({first_line}); write it without encryption"
    # names that aren't UTF-8 are part of a damaged footer
    if isinstance(error, pa.ArrowException | UnicodeDecodeError) or (type(error) is OSError and error.errno is None):
        return f"is not a parquet file, or is damaged ({first_line}); download it again"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or first_line}"
    return f"cannot be read: {type(error).__name__}: {first_line}" if remote else None
