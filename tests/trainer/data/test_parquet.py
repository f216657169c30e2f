"""Parquet sources: finding and reading files, and the errors for what cannot be read."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from trainer.data import files, parquet
from trainer.data.files import SourceChanged, short_name
from trainer.data.parquet import ParquetDocuments
from trainer.errors import DataError

LARGE = [f"{number:040000}" for number in range(800)]  # 32 MB: more than pyarrow reads ahead
TEXTS = [f"document {number}: naïve 你好" for number in range(10)]


def write(path: Path | str, texts: Any = TEXTS, *, rows: int = 4, kind: Any = None, **columns: Any) -> str:
    """Write an uncompressed parquet file with row groups of `rows` rows, in pages of 1 MB."""
    column = pa.array(texts) if kind is None else pa.array(texts).cast(kind)
    with fsspec.open(str(path), "wb") as file:
        pq.write_table(
            pa.table({**columns, "text": column}), file, row_group_size=rows, compression="none", write_batch_size=1
        )
    return str(path)


def read(*paths: str, start: int = 0, **options: str) -> list[str]:
    return [text for batch in ParquetDocuments(paths, **options).read(start) for text in batch.texts]


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """fsspec's file system in memory, emptied afterwards."""
    fs = MemoryFileSystem()
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_every_kind_of_string_column_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    path = write(tmp_path / "a.parquet", [*TEXTS, None, TEXTS[0]], kind=kind)
    batches = list(ParquetDocuments([path]).read(0))
    assert [text for batch in batches for text in batch.texts] == [*TEXTS, TEXTS[0]]
    assert sum(batch.nulls for batch in batches) == 1


def test_a_text_of_broken_utf8_is_counted_and_left_out(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", None, b"fine"]).view(pa.string())
    (batch, _) = ParquetDocuments([write(tmp_path / "a.parquet", raw)]).read(0)
    assert (batch.texts, batch.nulls, batch.undecodable) == (["good", "fine"], 1, 1)


@pytest.mark.parametrize("start", range(4))
def test_reading_resumes_from_any_row_group_over_all_files(tmp_path: Path, start: int) -> None:
    paths = write(tmp_path / "a.parquet", TEXTS[:6], rows=4), write(tmp_path / "b.parquet", TEXTS[6:], rows=4)
    documents = ParquetDocuments(paths)
    assert len(documents.groups) == 3
    assert read(*paths, start=start) == TEXTS[[0, 4, 6, 10][start] :]
    batches = list(documents.read(start))
    assert sum(batch.ends_group for batch in batches) == 3 - start
    assert sum(batch.size for batch in batches) == pytest.approx(sum(documents.groups[start:]), abs=3)


def test_a_large_row_group_comes_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BATCH", 100)
    path = write(tmp_path / "a.parquet", rows=10)
    batches = list(ParquetDocuments([path]).read(0))
    assert len(batches) > 3
    assert [text for batch in batches for text in batch.texts] == TEXTS


def test_paths_globs_folders_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "web" / "deep").mkdir(parents=True)
    b = write(tmp_path / "web" / "b.parquet", ["b"])
    a = write(tmp_path / "web" / "deep" / "a.parquet", ["a"])
    (tmp_path / "web" / "notes.txt").write_text("no parquet")
    assert read(str(tmp_path / "web")) == ["b", "a"]
    assert read("~/web/*.parquet") == ["b"]
    assert read(f"{tmp_path}/web/**/*.parquet") == ["b", "a"]
    assert read(a, b) == ["a", "b"]
    assert ParquetDocuments([str(tmp_path / "web")]).files == (b, a)


HIDDEN = ["._a.parquet", ".cache/huggingface/download/a.parquet", "_temporary/0/a.parquet", "deep/_b.parquet"]


def test_a_folder_and_the_glob_of_its_files_find_the_same(tmp_path: Path) -> None:
    taken = [write(tmp_path / name, [name]) for name in ("a.parquet", "b.c_d.parquet")]
    deep = tmp_path / "deep" / "a.parquet"
    for name in [*HIDDEN, "deep/a.parquet"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\26\7Mac OS X")
    write(deep, ["deep"])
    (tmp_path / "notes.md").write_text("no parquet")
    folder, glob = ParquetDocuments([str(tmp_path)]), ParquetDocuments([f"{tmp_path}/**/*.parquet"])
    assert folder.files == glob.files == (*taken, str(deep))
    assert folder.fingerprint == glob.fingerprint
    assert read(f"{tmp_path}/*.parquet") == ["a.parquet", "b.c_d.parquet"]
    assert read(f"{tmp_path}/*") == ["a.parquet", "b.c_d.parquet", "deep"]  # a matching folder is read as a folder
    note = f"{tmp_path}: 3 parquet files; 4 left out, for a name that begins with . or _ is no data: "
    assert folder.notes[0].startswith(note)
    assert all(name in folder.notes[0] for name in HIDDEN[:2])
    assert folder.notes[0].endswith(" and 1 more")
    assert ParquetDocuments(taken).notes == ()


def test_hidden_names_that_are_given_are_read(tmp_path: Path) -> None:
    (tmp_path / "_part").mkdir()
    path = write(tmp_path / "_part" / "_a.parquet", ["a"])
    assert read(path) == read(f"{tmp_path}/_part/_a.parquet") == ["a"]
    other = write(tmp_path / "_part" / "b.parquet", ["b"])
    assert read(str(tmp_path / "_part")) == read(f"{tmp_path}/_part/*.parquet") == read(other) == ["b"]
    other = write(tmp_path / "_part" / "test-00000.parquet", ["t"])
    (note,) = ParquetDocuments([str(tmp_path / "_part")]).notes
    assert note.endswith(f"1 of them named as held-out data: {other}")


def test_hidden_names_of_other_file_systems(memory: MemoryFileSystem) -> None:
    write("memory://corpus/a.parquet", ["a"])
    write("memory://corpus/.cache/b.parquet", ["b"])
    write("memory://corpus/_c.parquet", ["c"])
    assert read("memory://corpus") == read("memory://corpus/*.parquet") == ["a"]
    assert "1 parquet file; 2 left out" in ParquetDocuments(["memory://corpus"]).notes[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("_a.parquet", r"contains no \*\.parquet; a name that begins with \. or _ is no data: .*_a\.parquet"),
        ("books/train.bin", r"contains no \*\.parquet; a folder below it has tokens; name it as data\.bin: .*/books"),
        ("part.jsonl", r"contains no \*\.parquet; a file of JSON lines can't be read; convert it"),
        ("other", r"contains no \*\.parquet; give a path, a glob or a folder of parquet files"),
    ],
)
def test_a_folder_without_data_says_what_it_has(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=words):
        ParquetDocuments([str(tmp_path)])


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["a"])
    assert read(path, str(tmp_path), str(tmp_path / "*.parquet")) == ["a"]


def test_urls_of_other_file_systems(memory: MemoryFileSystem) -> None:
    write("memory://corpus/deep/b.parquet", TEXTS[5:])
    write("memory://corpus/a.parquet", TEXTS[:5])
    assert read("memory://corpus/a.parquet") == TEXTS[:5]
    assert read("memory://corpus") == TEXTS
    assert read("memory://corpus/*.parquet") == TEXTS[:5]
    assert ParquetDocuments(["memory://corpus"]).files[0] == "memory:///corpus/a.parquet"
    before = ParquetDocuments(["memory://corpus/a.parquet"]).fingerprint
    assert ParquetDocuments(["memory://corpus/a.parquet"]).fingerprint == before
    write("memory://corpus/a.parquet", TEXTS[:4])
    assert ParquetDocuments(["memory://corpus/a.parquet"]).fingerprint != before


def test_a_remote_file_that_changes_while_it_is_read(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    cache: dict[str, Any] = {}  # remote file systems cache their listings
    info = MemoryFileSystem.info
    monkeypatch.setattr(
        MemoryFileSystem, "info", lambda fs, path: cache.get(path) or cache.setdefault(path, info(fs, path))
    )
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda _, path=None: cache.clear())
    write("memory://corpus/a.parquet")
    batches = ParquetDocuments(["memory://corpus/a.parquet"]).read(0)
    next(batches)
    write("memory://corpus/a.parquet", TEXTS[::-1])
    with pytest.raises(SourceChanged, match=r"a\.parquet: changed while it was read"):
        list(batches)


def test_a_remote_file_systems_errors_are_reported(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    class QuotaError(Exception):
        """An error class as packages behind fsspec define them."""

    def refuse(*_: object, **__: object) -> None:
        raise QuotaError("too many requests\nwith details")

    write("memory://corpus/a.parquet")
    documents = ParquetDocuments(["memory://corpus/a.parquet"])
    monkeypatch.setattr(MemoryFileSystem, "_open", refuse)
    with pytest.raises(DataError, match=r"memory:///corpus/a\.parquet: cannot be read: QuotaError: too many requests$"):
        list(documents.read(0))
    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    with pytest.raises(DataError, match=r"memory://corpus/a\.parquet: cannot be read: QuotaError"):
        ParquetDocuments(["memory://corpus/a.parquet"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "nowhere://bucket/a.parquet",
            r"nowhere://bucket/a\.parquet: Protocol not known: nowhere.*fsspec knows .*memory",
        ),
        ("memory://corpus/a.parquet", r"no file matches; check the URL"),
        ("memory://corpus/*.parquet", r"no file matches"),
    ],
)
def test_a_url_without_files_is_reported(memory: MemoryFileSystem, url: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ParquetDocuments([url])


def test_a_protocol_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(files, "url_to_fs", missing)
    with pytest.raises(DataError, match=r"gs://b/a\.parquet: Please install gcsfs.*with pip, or download"):
        ParquetDocuments(["gs://b/a.parquet"])


def test_missing_and_unreadable_files_are_reported(tmp_path: Path) -> None:
    good = write(tmp_path / "fineweb.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.parquet").touch()
    (tmp_path / "text.parquet").write_text("this is no parquet file")
    content = Path(good).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    no_rows = write(tmp_path / "rows.parquet", pa.array([], pa.string()))
    no_group = tmp_path / "group.parquet"
    pq.ParquetWriter(no_group, pa.schema([("text", pa.string())])).close()
    for name, message in {
        "fineweb.parqet": rf"no such file; did you mean {good}\?",
        "nowhere/*.parquet": r"no file matches; give a path, a glob or a folder",
        "empty": r"the folder contains no \*\.parquet",
        "blank.parquet": r"blank\.parquet: is empty",
        "text.parquet": r"text\.parquet: is not a parquet file, or is damaged",
        "cut.parquet": r"cut\.parquet: is not a parquet file, or is damaged",
        "rows.parquet": r"rows\.parquet: has no rows",
        "group.parquet": r"group\.parquet: has no rows",
    }.items():
        with pytest.raises(DataError, match=message):
            ParquetDocuments([str(tmp_path / name)])
    with pytest.raises(DataError, match="names no file"):
        ParquetDocuments([])
    assert read(no_rows, good, str(no_group)) == TEXTS


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("txt", r"has no column 'txt' but 'id', 'score', 'body', 'text'; did you mean data\.text: text\?"),
        ("content", r"has no column 'content' but .*; did you mean data\.text: text\?"),
        ("id", r"column 'id' holds int64, not strings; name a column of strings as data\.text: body, text"),
        ("score", r"column 'score' holds list<.*>, not strings"),
    ],
)
def test_a_column_that_is_missing_or_not_text_is_reported(tmp_path: Path, column: str, message: str) -> None:
    ids = np.arange(len(TEXTS))
    path = write(tmp_path / "a.parquet", id=ids, score=[[1.0]] * len(TEXTS), body=TEXTS)
    with pytest.raises(DataError, match=message):
        ParquetDocuments([path], text=column)


def test_two_columns_of_the_same_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array(TEXTS), pa.array(TEXTS)], names=["text", "text"]), path)
    with pytest.raises(DataError, match="has 2 columns 'text'"):
        ParquetDocuments([str(path)])


def test_a_row_group_that_lacks_its_columns_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": TEXTS}), path, store_schema=False)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - length], content[-8 - length : -8]
    groups, author = footer.index(b"\x19\x1c\x19\x1c"), footer.index(b"parquet-cpp") - 2
    empty = b"\x19\x1c" + b"\x19\x0c\x16\x0a\x16\x0a\x00"  # a list of one group: no columns, 5 bytes, 5 rows
    footer = footer[:groups] + empty + footer[author:]
    path.write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(DataError, match=r"a\.parquet: is not .* damaged \(a row group lacks columns\); download it"):
        read(str(path))


def test_a_damaged_page_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": TEXTS * 50}), path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    content[offset + 30 : offset + 90] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: is not a parquet file, or is damaged \(.*\); download it again"):
        read(str(path))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied"),
            r"cannot be read \(Permission denied\); change its permissions",
        ),
        (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output error"),
    ],
)
def test_the_systems_refusals_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    path = write(tmp_path / "a.parquet")
    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(DataError, match=message):
        ParquetDocuments([path])


def test_a_file_that_changes_between_row_groups_is_noticed(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.parquet"))
    batches = ParquetDocuments([str(path)]).read(0)
    assert not next(batches).ends_group
    assert next(batches).ends_group
    os.utime(path, ns=(1, 1))
    assert not next(batches).ends_group  # read before the change is noticed at the end of the group
    with pytest.raises(SourceChanged, match="changed while it was read"):
        next(batches)


def test_a_file_that_is_overwritten_while_it_is_read_is_reported_as_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_BATCH", 100_000)
    path = tmp_path / "a.parquet"
    write(path, LARGE, rows=len(LARGE))
    batches = ParquetDocuments([str(path)]).read(0)
    next(batches)
    path.write_bytes(bytes(100))
    with pytest.raises(SourceChanged) as raised:
        list(batches)
    assert raised.value.__cause__  # alone it would look like a damaged file


def test_a_column_that_ends_early_is_reported(tmp_path: Path) -> None:
    documents = ParquetDocuments([write(tmp_path / "a.parquet", rows=10)])
    (shard,) = documents._shards
    documents._shards = [dataclasses.replace(shard, groups=((11, 100),))]
    with pytest.raises(DataError, match=r"row group 0 has 10 rows, but the footer says 11; download it again"):
        list(documents.read(0))


def test_the_fingerprint_of_small_files_covers_contents_order_and_column(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.parquet", TEXTS, body=TEXTS), write(tmp_path / "b.parquet", TEXTS[:3], body=TEXTS[:3])
    first = ParquetDocuments([a, b]).fingerprint
    os.utime(a, ns=(1, 1))
    Path(b).rename(tmp_path / "c.parquet")
    c = str(tmp_path / "c.parquet")
    assert ParquetDocuments([a, c]).fingerprint == first
    others = {
        ParquetDocuments([c, a]).fingerprint,
        ParquetDocuments([a]).fingerprint,
        ParquetDocuments([a, c], text="body").fingerprint,
        ParquetDocuments([a, write(c, ["x", *TEXTS[1:3]], body=TEXTS[:3])]).fingerprint,
    }
    assert len(others - {first}) == 4


def test_the_fingerprint_of_large_files_covers_time_and_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_CONTENT", 10)
    a = write(tmp_path / "a.parquet", ["aa", "bb"])
    os.utime(a, ns=(5, 5))
    first = ParquetDocuments([a]).fingerprint
    assert ParquetDocuments([a]).fingerprint == first
    os.utime(a, ns=(6, 6))
    touched = ParquetDocuments([a]).fingerprint
    size = Path(a).stat().st_size
    write(a, ["aa", "cc"])
    os.utime(a, ns=(5, 5))
    assert Path(a).stat().st_size == size
    assert len({first, touched, ParquetDocuments([a]).fingerprint}) == 3


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("data/fineweb/000_00000.parquet", "000_00000"),
        ("data/fineweb/*.parquet", "fineweb"),
        ("~/web text/", "web-text"),
        ("hf://datasets/HuggingFaceFW/fineweb/sample/10BT/00[0-3]_*.parquet", "00"),
        ("memory://a.parquet", "a"),
        ("*.parquet", "parquet"),
        (f"{'x' * 99}.parquet", "x" * 40),
    ],
)
def test_a_folders_name_starts_with_the_sources_name(entry: str, name: str) -> None:
    assert short_name(entry) == name
