"""Files that are no parquet: told apart by name, and converted by the very command that the message gives."""

from __future__ import annotations

import gzip
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.data.other_formats import conversion
from trainer.data.parquet import ParquetDocuments
from trainer.errors import DataError

TEXTS = ["one document", "another: größe 中文", "a third"]
JSON = "".join(f'{{"text": "{text}", "id": {number}}}\n' for number, text in enumerate(TEXTS))


def write_arrow(path: Path) -> None:
    table = pa.table({"text": TEXTS})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Path], object]] = {
    "part.jsonl": lambda path: path.write_text(JSON, encoding="utf-8"),
    "part.json": lambda path: path.write_text(JSON, encoding="utf-8"),
    "part.jsonl.gz": lambda path: path.write_bytes(gzip.compress(JSON.encode())),
    "part.csv": lambda path: path.write_text(
        "id,text\n" + "".join(f'1,"{text}"\n' for text in TEXTS), encoding="utf-8"
    ),
    "part.arrow": write_arrow,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("folder", [False, True])
def test_the_command_in_the_message_converts_the_file(tmp_path: Path, name: str, folder: bool) -> None:
    WRITERS[name](tmp_path / name)
    with pytest.raises(DataError, match="convert it to parquet: ") as caught:
        ParquetDocuments([str(tmp_path if folder else tmp_path / name)])
    command = shlex.split(str(caught.value).split("convert it to parquet: ")[1])
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path)
    (batch, _) = ParquetDocuments([str(tmp_path)]).read(0)
    assert batch.texts == TEXTS


def test_a_text_is_cut_into_documents_without_a_loss(tmp_path: Path) -> None:
    text = "Ein Absatz über größe.\n\n" * 2000
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    command = shlex.split(str(conversion(str(tmp_path / "book.txt"))).split("parquet: ")[1])
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path)
    assert "".join(pq.read_table(tmp_path / "book.parquet")["text"].to_pylist()) == text


@pytest.mark.parametrize("name", ["a.parquet", "README", "a.json5", "jsonl", "a.txt.gz", ".txt/a.parquet"])
def test_other_names_are_not_taken_for_a_format(name: str) -> None:
    assert conversion(name) is None


def test_an_lfs_pointer_is_named(tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 146946961\n"
    (tmp_path / "a.parquet").write_text(pointer)
    with pytest.raises(DataError, match=rf"{re.escape(str(tmp_path))}/a\.parquet: is a Git LFS pointer.*git lfs pull"):
        ParquetDocuments([str(tmp_path)])
