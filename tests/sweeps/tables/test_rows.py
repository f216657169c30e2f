"""Tables as files: what is read, and what is refused with a line that names it."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.tables import rows
from sweeps.tables.rows import TableError, read_table
from trainer.errors import UserError

RUNS = [{"arm": "baseline", "seed": 1, "loss": 3.5}, {"arm": "wide", "seed": 1, "loss": 3.4}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.csv", "arm,seed,loss\nbaseline,1,3.5\nwide,1,3.4\n"),
        ("runs.csv", "arm;seed;loss\nbaseline;1;3.5\n\nwide;1;3.4"),
        ("runs.csv", '\ufeff"arm",seed,loss\r\n"baseline",1,3.5\r\nwide,1,3.4\r\n'),
        ("runs.tsv", "arm\tseed\tloss\nbaseline\t1\t3.5\nwide\t1\t3.4\n"),
        ("RUNS.TXT", "arm\tseed\tloss\nbaseline\t1\t3.5\nwide\t1\t3.4\n"),
        ("runs.jsonl", "\n".join(json.dumps(run) for run in RUNS)),
    ],
)
def test_text_in_every_form_holds_the_same_cells(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    table = read_table(tmp_path / name)
    assert table.columns == ("arm", "seed", "loss")
    assert [{key: str(cell) for key, cell in row.items()} for row in table.rows] == [
        {key: str(cell) for key, cell in run.items()} for run in RUNS
    ]


def test_parquet_and_objects_within_objects(tmp_path: Path) -> None:
    nested = [{"config": {"lr": 1e-3}, "loss": 3.5}, {"config": {"lr": 2e-3}, "loss": None}]
    pq.write_table(pa.Table.from_pylist(nested), tmp_path / "runs.parquet")
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, nested)))
    expected = ({"config.lr": 1e-3, "loss": 3.5}, {"config.lr": 2e-3, "loss": None})
    for name in ("runs.jsonl", "runs.parquet"):
        table = read_table(tmp_path / name)
        assert table.rows == expected
        assert table.columns == ("config.lr", "loss")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("runs.xlsx", b"PK", "ends in .csv, .tsv, .jsonl or .parquet, not in .xlsx"),
        ("runs", b"arm,loss", "not in nothing"),
        ("runs.csv", b"", "is empty"),
        ("runs.csv", b"arm,loss\n", "has no rows"),
        ("runs.csv", b"arm,loss\na,1\nb\nc,2,3\n", "row 3, 4: 1 cells under 2 columns"),
        ("runs.csv", b"arm,arm\na,1\n", "more than one column named 'arm'"),
        ("runs.csv", b"arm,loss\na,\xff\n", "is not UTF-8 text"),
        ("runs.csv", b"arm,loss\na,\x00\n", "is not a text file"),
        ("runs.csv", b'arm,loss\n"a,1\n', "is no table"),
        ("runs.jsonl", b'{"arm": 1}\n[1]\n{"arm"\n', "line 2, 3 is no JSON object"),
        ("runs.parquet", b"PAR1 nothing PAR1", "is no parquet file, or is damaged"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError) as error:
        read_table(tmp_path / name)
    assert words in str(error.value)
    assert name in str(error.value)


def test_a_missing_file_a_folder_and_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TableError, match="No such file"):
        read_table(tmp_path / "runs.csv")
    with pytest.raises(TableError, match="is a folder"):
        read_table(tmp_path)
    (tmp_path / "runs.csv").write_text("arm,loss\na,1\n")
    monkeypatch.setattr(rows, "MAX_BYTES", 5)
    with pytest.raises(TableError, match="at most 5 are read; give a row a run"):
        read_table(tmp_path / "runs.csv")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200), ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
def test_garbage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str) -> None:
    path = tmp_path_factory.mktemp("garbage") / f"runs{ending}"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except UserError:
        return
    assert all(tuple(row) == table.columns for row in table.rows)


def test_values_of_parquet_that_are_no_numbers_are_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "arm": ["a"],
            "when": [datetime.datetime(2026, 1, 2)],  # as parquet has them
            "raw": [b"x"],
            "cost": [decimal.Decimal("1.5")],
            "days": [[datetime.date(2026, 1, 2)]],
        }
    )
    pq.write_table(table, tmp_path / "runs.parquet")
    (row,) = read_table(tmp_path / "runs.parquet").rows
    assert row == {"arm": "a", "when": "2026-01-02 00:00:00", "raw": "b'x'", "cost": "1.5", "days": '["2026-01-02"]'}
