"""Documents from parquet files, read one row group at a time in bounded memory.

The fingerprint covers the contents if all files are local and together at most 256 MiB. Otherwise it covers each
file's size, its time or tag of change, and its footer, so that a terabyte takes about a second. The footer holds every
column's sizes and statistics, so a rewritten file has a different footer.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data import files as source_files
from trainer.data.documents import TextBatch
from trainer.data.files import SourceFile, Stat
from trainer.data.other_formats import conversion, pointer
from trainer.data.parquet_probe import Probe, footer, probing
from trainer.errors import DataError

_CONTENT = 256 << 20  # bytes of all files together; above it the fingerprint doesn't cover their contents
_BATCH = 4 << 20  # bytes of text read at a time
_LARGEST_BATCH = 1024  # rows; documents of one file differ in length
_BUFFER = 1 << 20  # bytes; columns are streamed, so a large row group is never held whole


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """A checked file: its state when it was checked, and (rows, bytes of text) of each row group."""

    file: SourceFile
    stat: Stat
    groups: tuple[tuple[int, int], ...]


class ParquetDocuments:
    """The text column of parquet files: one document per row, files and rows in order.

    Rows that are null or not UTF-8 are counted and left out. Raises DataError if no file matches, a file is not
    parquet, its text column is missing or not text, or all files together have no rows.
    """

    def __init__(self, files: Sequence[str], *, text: str = "text") -> None:
        self._text = text
        entries = [source_files.matching(entry) for entry in files]
        matches = list(dict.fromkeys(file for entry in entries for file in entry.files))
        if not matches:
            raise DataError("data.parquet names no file; give a path, a glob or a folder")
        with probing() as probe:
            self._shards = [_checked(file, text, probe=probe) for file in matches]
        if not any(rows for shard in self._shards for rows, _ in shard.groups):
            others = f" (and {len(matches) - 1} more)" if len(matches) > 1 else ""
            raise DataError(f"{matches[0].where}{others}: has no rows; name files that contain text")
        self.name = source_files.short_name(files[0])
        self.files = tuple(file.where for file in matches)
        self.notes = tuple(entry.note for entry in entries if entry.note is not None)
        self.groups = tuple(size for shard in self._shards for _, size in shard.groups)
        self.fingerprint = _fingerprint(self._shards, text)

    def read(self, start: int) -> Iterator[TextBatch]:
        """Read batches from row group `start` (counted over all files) on.

        Raises DataError, and SourceChanged if a file has changed since it was checked.
        """
        first = 0
        for shard in self._shards:
            groups = range(max(0, start - first), len(shard.groups))
            first += len(shard.groups)
            if not groups:
                continue
            with shard.file.reading(seen=shard.stat), _parquet(shard.file) as file:
                for index in groups:
                    yield from self._read_group(shard, file, index)
                    # a remote file is checked only after its last group, because every check is a request
                    if (shard.file.fs is None or index == groups[-1]) and shard.file.stat() != shard.stat:
                        raise shard.file.changed()
                    yield TextBatch(texts=[], ends_group=True)

    def _read_group(self, shard: _Shard, file: pq.ParquetFile, index: int) -> Iterator[TextBatch]:
        rows, size = shard.groups[index]
        batch_rows = max(1, min(_LARGEST_BATCH, _BATCH * rows // max(1, size)))
        rows_read = 0
        for batch in file.iter_batches(batch_size=batch_rows, row_groups=[index], columns=[self._text]):
            column = batch.column(0)
            rows_read += len(column)
            nulls = column.null_count
            texts = _texts(column)
            undecodable = len(column) - nulls - len(texts)
            yield TextBatch(texts=texts, nulls=nulls, undecodable=undecodable, size=size * len(column) // rows)
        if rows_read != rows:  # pyarrow takes the early end of a file for the end of the column
            raise DataError(
                f"{shard.file.where}: row group {index} has {rows_read} rows, but the footer says {rows}; "
                "download it again"
            )


def _texts(column: Any) -> list[str]:
    """Return the rows as text, without rows that are null or not UTF-8. pyarrow doesn't check the encoding."""
    try:
        return [text for text in column.to_pylist() if text is not None]
    except UnicodeDecodeError:
        texts = []
        for value in column:
            with suppress(UnicodeDecodeError):
                texts.append(value.as_py())
        return [text for text in texts if text is not None]


@contextmanager
def _parquet(file: SourceFile) -> Iterator[pq.ParquetFile]:
    """Open a file for streaming. pyarrow reads a local file itself, without the GIL."""
    with ExitStack() as stack:
        source = file.path if file.fs is None else stack.enter_context(file.open())
        yield stack.enter_context(pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False))


def _checked(file: SourceFile, text: str, *, probe: Probe) -> _Shard:
    """Check that a file is parquet and has the text column. Raises DataError."""
    with file.reading():
        stat = file.stat()
        if not stat[0]:
            raise DataError(f"{file.where}: is empty; download it again")
        if words := conversion(file.where):
            raise DataError(f"{file.where}: {words}")
        with file.open() as opened:
            if words := pointer(opened.read(200)):
                raise DataError(f"{file.where}: {words}")
            probe(file.where, footer(opened))
        with _parquet(file) as opened:
            metadata = opened.metadata
            _check_column(file, opened.schema_arrow, text)
            columns = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
            groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
            position = columns.index(text)
            try:
                sizes = tuple((group.num_rows, group.column(position).total_uncompressed_size) for group in groups)
            except IndexError:
                raise DataError(
                    f"{file.where}: is not a parquet file, or is damaged (a row group lacks columns); download it again"
                ) from None
    return _Shard(file=file, stat=stat, groups=sizes)


def _check_column(file: SourceFile, schema: pa.Schema, text: str) -> None:
    count = len(schema.get_all_field_indices(text))
    if count > 1:
        raise DataError(f"{file.where}: has {count} columns {text!r}; rename all but one")
    if not count:
        near = difflib.get_close_matches(text, schema.names, n=1) or [name for name in schema.names if "text" in name]
        hint = f"did you mean data.text: {near[0]}?" if near else "name the text column as data.text"
        columns = ", ".join(map(repr, schema.names)) or "no column at all"
        raise DataError(f"{file.where}: has no column {text!r} but {columns}; {hint}")
    if not _holds_text(schema.field(text).type):
        others = ", ".join(field.name for field in schema if _holds_text(field.type))
        hint = f"name a column of strings as data.text: {others}" if others else "no column of the file does"
        raise DataError(f"{file.where}: column {text!r} holds {schema.field(text).type}, not strings; {hint}")


def _holds_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _fingerprint(shards: Sequence[_Shard], text: str) -> str:
    all_local = all(shard.file.fs is None for shard in shards)
    by_content = all_local and sum(int(shard.stat[0]) for shard in shards) <= _CONTENT
    digest = hashlib.sha256(text.encode())
    for shard in shards:
        with shard.file.reading(seen=shard.stat), shard.file.open() as file:
            if by_content:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                digest.update(repr(shard.stat).encode() + hashlib.sha256(footer(file)[:-8]).digest())
    return digest.hexdigest()
