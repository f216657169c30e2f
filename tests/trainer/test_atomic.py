"""Atomic writes: the old file or the new file, and no trace of a failed write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainer.atomic import replacing, write_text


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs" / "report.html"
    write_text(path, "first, in UTF-8: ±")
    assert path.read_bytes() == "first, in UTF-8: ±".encode()
    assert list(path.parent.iterdir()) == [path]

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "first, in UTF-8: ±"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stays_while_the_new_one_is_written(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_an_error_in_the_block_leaves_no_trace(tmp_path: Path) -> None:
    def half(path: Path) -> None:
        with replacing(path) as file:
            file.write(b"half of the content")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half(tmp_path / "ckpt.pt")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_disk_names_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk names no file, and a folder that can't be written the temporary one."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def read_only(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for name, fails in (("fsync", full), ("open", read_only)):
        with monkeypatch.context() as patch:
            patch.setattr(os if name == "fsync" else Path, name, fails)
            patch.setattr(Path, "unlink", read_only if name == "open" else Path.unlink)
            with pytest.raises(OSError, match=r"No space|Read-only") as caught:
                write_text(tmp_path / "report.html", "whole")
        assert caught.value.filename == str(tmp_path / "report.html")
        assert list(tmp_path.iterdir()) == []


def test_a_file_has_the_permissions_that_the_user_gives_new_files(tmp_path: Path) -> None:
    write_text(tmp_path / "report.html", "readable by others")
    (tmp_path / "plain").touch()
    assert (tmp_path / "report.html").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As `/dev/stdout` and `/dev/null` are: a file in their place would be a nuisance to every other program."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text(path, "read by someone")
    assert os.read(reader, 100) == b"read by someone"
    os.close(reader)
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]
