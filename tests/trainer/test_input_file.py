"""Input files: pipes, devices, folders and large files are refused without being read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from trainer.input_file import check_input, open_input, read_input


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_input(path, most=5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, and at most 4 are read"):
        read_input(path, most=4)


def test_a_large_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte, of which nothing is on the disk
    with pytest.raises(OSError, match="at most 100 are read"):
        read_input(path, most=100)


def test_a_file_without_a_size_is_read_up_to_the_limit() -> None:
    path = Path("/proc/self/maps")
    if not path.exists():
        pytest.skip("this system has no /proc")
    assert path.stat().st_size == 0
    with pytest.raises(OSError, match="it has more than 10 bytes"):
        read_input(path, most=10)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, words in {
            tmp_path / "pipe": "it is a pipe",
            tmp_path: "it is a folder",
            Path("/dev/zero"): "it is a device",
            tmp_path / "nowhere": "No such file",
        }.items():
            with pytest.raises(OSError, match=words):
                check_input(name)
        with pytest.raises(OSError):  # noqa: PT011  # a socket can't be opened at all
            open_input(tmp_path / "socket")
