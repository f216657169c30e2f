"""The journal of unfinished files: what is restored when it is opened again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.journal import Journal, write_file
from trainer.errors import DataError

NAMES = ("a", "b")


def work(folder: Path, *parts: bytes, key: str = "k") -> Journal:
    """Append and commit parts, with their numbers as states, then append bytes without committing them."""
    with Journal(folder, NAMES, key=key) as journal:
        for part in parts:
            journal.append("a", part)
            journal.append("b", part[::-1])
            journal.commit(journal.done + 1)
        journal.append("a", b"uncommitted")
    return journal


def reopened(folder: Path, *, key: str = "k") -> tuple[int, object, bytes, bytes]:
    with Journal(folder, NAMES, key=key) as journal:
        assert journal.size("a") == journal.part("a").stat().st_size
        return journal.done, journal.state, journal.read("a"), journal.read("b")


@given(sessions=st.lists(st.lists(st.binary(max_size=5), max_size=4), max_size=4))
def test_sessions_add_up(tmp_path_factory: pytest.TempPathFactory, sessions: list[list[bytes]]) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for parts in sessions:
        work(folder, *parts)
    parts = [part for session in sessions for part in session]
    state = len(parts) or None
    assert reopened(folder) == (len(parts), state, b"".join(parts), b"".join(part[::-1] for part in parts))


def test_work_under_another_key_starts_anew(tmp_path: Path) -> None:
    work(tmp_path, b"one", b"two")
    assert reopened(tmp_path, key="other") == (0, None, b"", b"")
    assert reopened(tmp_path, key="k") == (0, None, b"", b"")


def test_a_torn_line_is_dropped_and_later_ones_are_kept(tmp_path: Path) -> None:
    work(tmp_path, b"one")
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'01234567 {"files": {"a"')
    work(tmp_path, b"two")
    assert reopened(tmp_path) == (2, 2, b"onetwo", b"enoowt")


def test_nothing_is_kept_from_an_altered_line_on(tmp_path: Path) -> None:
    work(tmp_path, b"one", b"two", b"six")
    journal = tmp_path / "journal.jsonl"
    altered = journal.read_bytes().replace(b'"state": 2', b'"state": 7')
    assert altered != journal.read_bytes()
    journal.write_bytes(altered)
    assert reopened(tmp_path) == (1, 1, b"one", b"eno")


@pytest.mark.parametrize(("content", "done"), [(b"onetwosix!", 3), (b"onetwosiX", 2), (b"onetw", 1), (b"", 0)])
def test_files_that_contradict_the_journal_are_cut_back(tmp_path: Path, content: bytes, done: int) -> None:
    work(tmp_path, b"one", b"two", b"six")
    (tmp_path / "a.part").write_bytes(content)
    assert reopened(tmp_path) == (done, done or None, b"onetwosix"[: 3 * done], b"enoowtxis"[: 3 * done])


@pytest.mark.parametrize("renamed", [("a",), ("a", "b")])
def test_finished_files_are_unfinished_again_when_opened(tmp_path: Path, renamed: tuple[str, ...]) -> None:
    work(tmp_path, b"one")
    with Journal(tmp_path, NAMES, key="k") as journal:
        journal.finish(renamed)
    assert (tmp_path / "a.bin").read_bytes() == b"one"
    assert reopened(tmp_path) == (1, 1, b"one", b"eno")
    assert not list(tmp_path.glob("*.bin"))


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be written \(No such file or directory\)"):
        Journal(tmp_path / "nowhere", NAMES, key="k")
    with pytest.raises(DataError, match="cannot be written"):
        write_file(tmp_path / "nowhere" / "meta.json", b"{}")
