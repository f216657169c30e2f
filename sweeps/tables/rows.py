"""Rows of a table of runs: CSV, TSV, JSON lines or parquet, each cell as the file has it. Nothing is interpreted here.

A cell is None where the file leaves it empty. Text stays text: what a column means decides what its cells are.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data import parquet_probe
from trainer.errors import UserError
from trainer.input_file import read_input

MAX_BYTES = 128 << 20
"""A table of runs is small; a larger file is something else. Reading takes 25 times as much memory."""
_DELIMITERS = {".tsv": "\t", ".tab": "\t"}
_NAMED_DELIMITER = re.compile(r"sep=([,;\t])\r?\n", re.IGNORECASE)
"""a first line that Excel reads, not a row"""
_DECIMAL_COMMA = re.compile(r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+(?:[eE][-+]?\d+)?")
_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
"""a number that is as well one with a separator of thousands"""
_DECIMAL_POINT = re.compile(r"[-+]?\d+\.\d+(?:[eE][-+]?\d+)?")
_SHOWN = 4  # problems of one file that are listed

Cell = str | int | float | bool | None


class TableError(UserError):
    """A table that can't be read or judged as it is."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a file."""

    path: Path
    columns: tuple[str, ...]
    """in the file's order"""
    rows: tuple[dict[str, Cell], ...]
    """every row has every column"""
    notes: tuple[str, ...] = ()
    """what was assumed in reading"""


def read_table(path: str | Path, *, most: int | None = None) -> Table:
    """Read a table by the ending of its name: .csv, .tsv, .jsonl, .ndjson or .parquet.

    Raises TableError, for a file of more than `most` bytes as well, by default MAX_BYTES.
    """
    file = Path(path).expanduser()
    try:
        if file.is_dir():
            raise TableError(f"{path}: is a folder; name the file with the runs")
        reader = _READERS.get(file.suffix.lower())
        if reader is None:
            kinds = ".csv, .tsv, .jsonl or .parquet"
            ending = file.suffix or "nothing"
            raise TableError(f"{path}: a table's name ends in {kinds}, not in {ending}; save it as CSV")
        columns, rows = reader(file, read_input(file, most=MAX_BYTES if most is None else most))
    except OSError as error:
        remedy = "; give a row a run, or fewer steps of each" if error.errno == errno.EFBIG else ""
        raise TableError(f"{path}: cannot be read: {error.strerror or error}{remedy}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if not rows:
        raise TableError(f"{path}: has no rows; give a row a run")
    notes = ("decimal commas are read as points",) if reader is _separated and _with_points(rows) else ()
    return Table(path=file, columns=tuple(columns), rows=tuple(rows), notes=notes)


def _separated(file: Path, content: bytes) -> tuple[list[str], list[dict[str, Cell]]]:
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Excel's "Unicode text"
    text = content.decode("utf-16" if utf16 else "utf-8-sig")
    if "\0" in text:
        raise TableError(f"{file}: is not a text file; give a table of runs")
    named = _NAMED_DELIMITER.match(text)
    if named:
        text = text[named.end() :]
    head = text.partition("\n")[0]
    delimiter = named[1] if named else _DELIMITERS.get(file.suffix.lower()) or max(",\t;", key=head.count)
    csv.field_size_limit(sys.maxsize)
    try:
        lines = [line for line in csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True) if line]
    except csv.Error as error:
        raise TableError(f"{file}: is no table: {error}") from error
    if not lines:
        raise TableError(f"{file}: is empty; give a row a run, below a line with the columns' names")
    columns = _named(file, [name.strip() for name in lines[0]])
    wrong = [number for number, line in enumerate(lines[1:], 2) if len(line) != len(columns)]
    if wrong:
        first = len(lines[wrong[0] - 1])
        raise TableError(
            f"{file}: row {_listed(wrong)}: {first} cells under {len(columns)} columns; every row needs as many cells "
            "as the first line has names"
        )
    return columns, [dict(zip(columns, map(_text, line), strict=True)) for line in lines[1:]]


def _with_points(rows: list[dict[str, Cell]]) -> bool:
    """Write decimal commas as points and say whether there were any.

    A comma is none where other cells have decimal points, or where all commas may separate thousands.
    """
    commas, sure = [], False
    for row in rows:
        for name, cell in row.items():
            if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell):
                commas.append((row, name, cell))
                sure = sure or not _GROUPS.fullmatch(cell)
            elif isinstance(cell, str) and _DECIMAL_POINT.fullmatch(cell):
                return False
    if not sure:
        return False
    for row, name, cell in commas:
        row[name] = cell.replace(".", "").replace(",", ".")
    return True


def _json_lines(file: Path, content: bytes) -> tuple[list[str], list[dict[str, Cell]]]:
    rows, wrong = [], []
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            wrong.append(number)
            continue
        rows.append(row)
    if wrong:
        raise TableError(f"{file}: line {_listed(wrong)} is no JSON object; give one object a line")
    return _of_objects(file, rows)


def _of_objects(file: Path, objects: Iterable[dict[str, Any]]) -> tuple[list[str], list[dict[str, Cell]]]:
    """Return columns and rows; a column that an object lacks is empty there."""
    rows = [dict(_flat(row)) for row in objects]
    columns = [*dict.fromkeys(name for row in rows for name in row)]
    return _named(file, columns), [{name: row.get(name) for name in columns} for row in rows]


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Cell]]:
    """Yield the cells of an object; those of an object within it as `outer.inner`, a list as its JSON."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _cell(value)


def _cell(value: Any) -> Cell:
    """Return a value as a cell: a list as its JSON; dates, decimals and bytes, which parquet has, as text."""
    if isinstance(value, list):
        return json.dumps(value, default=str)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _parquet(file: Path, content: bytes) -> tuple[list[str], list[dict[str, Cell]]]:
    with parquet_probe.probing() as probe:
        probe(str(file), parquet_probe.footer(io.BytesIO(content)))
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
        _named(file, table.column_names)  # of two columns with one name, a row would keep the last
        return _of_objects(file, table.to_pylist())
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{file}: is no parquet file, or is damaged: {str(error).splitlines()[0]}") from error


_READERS = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), _separated),
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    **dict.fromkeys((".parquet", ".pq"), _parquet),
}


def _named(file: Path, columns: list[str]) -> list[str]:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise TableError(f"{file}: has more than one column named {', '.join(map(repr, twice))}; rename all but one")
    return columns


def _text(cell: str) -> str | None:
    return cell.strip() or None


def _listed(numbers: list[int]) -> str:
    rest = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + rest
