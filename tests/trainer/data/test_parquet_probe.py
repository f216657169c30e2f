"""Footers that end the process which opens them: they end a process of their own, and the next file is read."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.tables.rows import TableError, read_table
from trainer.data import parquet_probe
from trainer.data.parquet import ParquetDocuments
from trainer.data.parquet_probe import footer, probing
from trainer.errors import DataError

TABLE = pa.table({"text": ["a document " * 20] * 4, "loss": [3.0, 3.1, 3.2, 3.3]})


def encrypted(path: Path, *, plain_footer: bool) -> Path:
    """Write a file whose text column is encrypted."""
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):  # type: ignore[misc]
        def wrap_key(self, key: bytes, _: str) -> bytes:
            return base64.b64encode(key)

        def unwrap_key(self, key: bytes, _: str) -> bytes:
            return base64.b64decode(key)

    factory = encryption.CryptoFactory(lambda _: Keys())
    settings = encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=plain_footer
    )
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(path, TABLE.schema, encryption_properties=properties) as writer:
        writer.write_table(TABLE)
    return path


def plain() -> bytes:
    written = io.BytesIO()
    pq.write_table(TABLE, written)
    return written.getvalue()


def test_an_encrypted_column_ends_no_reader(tmp_path: Path) -> None:
    """Asked for the column's metadata, Arrow ends the process with a C++ exception."""
    path = encrypted(tmp_path / "a.parquet", plain_footer=True)
    with pytest.raises(DataError, match=r"a\.parquet: has encrypted columns.*write it without encryption"):
        ParquetDocuments([str(path)])
    with pytest.raises(DataError, match="has encrypted columns"):
        read_table(path)


def test_an_encrypted_footer_is_named(tmp_path: Path) -> None:
    path = encrypted(tmp_path / "a.parquet", plain_footer=False)
    with pytest.raises(DataError, match=r"a\.parquet: is encrypted.*write it without encryption"):
        ParquetDocuments([str(path)])
    with pytest.raises(TableError, match=r"a\.parquet: is no parquet file, or is damaged: .*encrypted"):
        read_table(path)


def test_a_footer_that_ends_the_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "walk.py"
    script.write_text('import os, sys\nprint("  what():  odd sizes", file=sys.stderr, flush=True)\nos.abort()\n')
    monkeypatch.setattr(parquet_probe, "_WALK", script)
    with probing() as probe, pytest.raises(DataError, match=r"x\.parquet: is damaged .* \(odd sizes\); download it"):
        probe("x.parquet", footer(io.BytesIO(plain())))


def test_one_process_opens_all_footers_and_damaged_ones_are_left_to_the_reader() -> None:
    with probing() as probe:
        for content in (plain(), b"", b"PAR1", plain()[:-20], b"x" * 100, plain()):
            probe("x.parquet", footer(io.BytesIO(content)))
        probe("x.parquet", b"\x15" * 200)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 7, b"x" * 100, b"PAR1" + b"\xff\xff\xff\x7fPAR1"])
def test_what_is_no_parquet_has_no_footer(content: bytes) -> None:
    assert footer(io.BytesIO(content)) == b""


def test_a_footer_begins_with_the_metadata() -> None:
    """pyarrow reads the same metadata from the footer alone."""
    content = plain()
    alone = pq.ParquetFile(io.BytesIO(b"PAR1" + footer(io.BytesIO(content)))).metadata
    whole = pq.ParquetFile(io.BytesIO(content)).metadata
    assert alone.to_dict() == whole.to_dict()


def test_a_column_name_that_is_not_utf8_is_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(plain().replace(b"loss", b"lo\xd4\xff"))
    with pytest.raises(DataError, match=r"a\.parquet: is not a parquet file, or is damaged"):
        ParquetDocuments([str(path)])
    with pytest.raises(TableError, match=r"a\.parquet: is no parquet file, or is damaged"):
        read_table(path)
