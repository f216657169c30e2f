"""What a preparation says of the documents that it left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.data.left_out import LeftOut
from trainer.data.prepare import ParquetSource, TokenizerChoice, prepare
from trainer.data.selection import Options


@pytest.mark.parametrize(
    ("counts", "notes", "warnings"),
    [
        ({}, [], []),
        (
            {"short": 5, "bytes": {"short": 100, "duplicate": 0}},
            ["left out of the data: 5 of 105 documents, 0.99% of the text (5 shorter than data.min_chars=200)"],
            [],
        ),
        (
            {"null": 1, "undecodable": 2, "duplicate": 1200, "bytes": {"short": 0, "duplicate": 4900}},
            ["left out of the data: 1,203 of 1,303 documents, 33% of the text (1,200 repeated, 1 without a text, "
             "2 not UTF-8)"],
            [],
        ),
        (
            {"short": 19800, "bytes": {"short": 80_900, "duplicate": 0}},
            [],
            ["most of the data is left out: 19,800 of 19,900 documents, 89% of the text (19,800 shorter than "
             "data.min_chars=200); lower data.min_chars=200, or join the lines of each document into one row"],
        ),
        (
            {"duplicate": 100, "bytes": {"short": 0, "duplicate": 10_000}},
            [],
            ["most of the data is left out: 100 of 200 documents, 50% of the text (100 repeated); keep repetitions "
             "with data.dedup=false"],
        ),
        (
            {"short": 300},
            [],
            ["most of the data is left out: 300 of 400 documents (300 shorter than data.min_chars=200); lower "
             "data.min_chars=200, or join the lines of each document into one row"],
        ),
        ({"null": 1, "bytes": {"short": 0, "duplicate": 0}},
         ["left out of the data: 1 of 101 documents, none of the text (1 without a text)"], []),
    ],
)  # fmt: skip
def test_sentences(counts: dict[str, Any], notes: list[str], warnings: list[str]) -> None:
    left_out = LeftOut(kept=100, kept_bytes=10_000, min_chars=200, **counts)
    assert (list(left_out.notes()), list(left_out.warnings())) == (notes, warnings)


def prepared(folder: Path, rows: list[str | None], **options: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the notes and warnings of a corpus, prepared and then opened as it is."""
    pq.write_table(pa.table({"text": pa.array(rows, pa.string())}), folder / "rows.parquet", row_group_size=7)
    source = ParquetSource(files=(str(folder / "rows.parquet"),))
    both = [
        prepare(source, TokenizerChoice(type="bytes"), folder, threads=1, options=Options(**options)) for _ in range(2)
    ]
    assert both[0] == both[1]
    return both[0].notes, both[0].warnings


def test_a_preparation_counts_rows_and_bytes(tmp_path: Path) -> None:
    long = [f"{number:02} größe " * 30 for number in range(20)]
    lines = [f"line {number}" for number in range(15)]
    notes, warnings = prepared(tmp_path, [*long, *lines, long[0], "", None], val_fraction=0.3)
    gone = sum(len(text.encode()) for text in [*lines, long[0]])
    share = 100 * gone / (gone + sum(len(text.encode()) for text in long))
    words = "(16 shorter than data.min_chars=200, 1 repeated, 1 without a text)"
    assert notes == (f"left out of the data: 18 of 38 documents, {share:.2g}% of the text {words}",)
    assert warnings == ()


def test_a_corpus_of_lines_is_warned_of(tmp_path: Path) -> None:
    long = [f"{number:02} " * 80 for number in range(20)]
    notes, (warning,) = prepared(tmp_path, [*long, *("x" * (100 + number) for number in range(90))], val_fraction=0.3)
    assert notes == ()
    assert warning.startswith("most of the data is left out: 90 of 110 documents, 73% of the text")
    assert warning.endswith("lower data.min_chars=200, or join the lines of each document into one row")
    assert prepared(tmp_path, [*long], val_fraction=0.3) == ((), ())
