"""The embedded corpus: its files, their order, and its fingerprint."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from trainer.data import corpus
from trainer.data.corpus import EmbeddedCorpus
from trainer.errors import DataError


def library(folder: Path, **changes: bytes) -> Path:
    """Write a small standard library."""
    files = {
        "zlib_like.py": b"z = 1\n",
        "abc.py": b"# \xc3\xa9\n",
        "json/decoder.py": b"d = 1\n",
        "json/latin.py": b"# \xe9\n",
        "json/data.txt": b"not Python",
        "test/test_abc.py": b"t = 1\n",
        "lib2to3/tests/test_all.py": b"t = 1\n",
        "idlelib/idle_test/test_x.py": b"t = 1\n",
        "site-packages/numpy/core.py": b"n = 1\n",
        "__pycache__/abc.py": b"c = 1\n",
    }
    for name, content in (
        files | {name.replace("__", "/") + ".py": content for name, content in changes.items()}
    ).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_library_is_read_in_the_order_of_its_paths_without_tests_and_packages(tmp_path: Path) -> None:
    embedded = EmbeddedCorpus(library(tmp_path))
    batches = list(embedded.read(0))
    assert [text for batch in batches for text in batch.texts] == ["# é\n", "d = 1\n", "z = 1\n"]
    assert sum(batch.undecodable for batch in batches) == 1
    assert embedded.name == "embedded"


def test_the_fingerprint_covers_names_and_contents(tmp_path: Path) -> None:
    first = EmbeddedCorpus(library(tmp_path / "a")).fingerprint
    assert EmbeddedCorpus(library(tmp_path / "b")).fingerprint == first
    others = {
        EmbeddedCorpus(library(tmp_path / "c", abc=b"# changed\n")).fingerprint,
        EmbeddedCorpus(library(tmp_path / "d", json__new=b"")).fingerprint,
        EmbeddedCorpus(library(tmp_path / "e", json__newer=b"")).fingerprint,
    }
    assert len(others - {first}) == 3
    assert EmbeddedCorpus(library(tmp_path / "f", test__test_more=b"t = 2\n")).fingerprint == first


def test_reading_resumes_from_any_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_GROUP", 8)
    embedded = EmbeddedCorpus(library(tmp_path))
    whole = list(embedded.read(0))
    assert len(embedded.groups) == len(whole) == 2
    assert all(batch.ends_group for batch in whole)
    assert embedded.groups == tuple(batch.size for batch in whole)
    assert list(embedded.read(1)) == whole[1:]


def test_a_python_without_sources_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"came without its library's sources.*data\.parquet"):
        EmbeddedCorpus(tmp_path)


def test_an_unreadable_source_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"abc\.py: cannot be read: Permission denied"):
        EmbeddedCorpus(library(tmp_path))


def test_the_running_pythons_library_is_megabytes_of_text() -> None:
    embedded = EmbeddedCorpus()
    texts = [text for batch in embedded.read(0) for text in batch.texts]
    root = sysconfig.get_path("stdlib")
    source = (Path(root) / "argparse.py").read_text(encoding="utf-8")
    assert source in texts
    assert sum(embedded.groups) > 5_000_000
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    expected = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in left_out]
        expected += [os.path.relpath(os.path.join(folder, name), root) for name in names if name.endswith(".py")]  # noqa: PTH118
    undecodable = sum(batch.undecodable for batch in embedded.read(0))
    assert len(texts) + undecodable == len(expected)
