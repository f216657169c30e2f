"""The SQLite file: its connections, its URL, its errors with a remedy, and the lock of its driver."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import socket
import sqlite3
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import filelock
import optuna
import pytest
import sqlalchemy as sa

from sweeps.errors import StoreBusy, StoreError
from sweeps.store import sqlite
from sweeps.store.database import is_running
from sweeps.store.sqlite import as_store_errors, url_of
from sweeps.store.store import Reader, Store
from tests.helpers import small_sweep


def test_a_writer_uses_wal_and_synchronous_normal(url: str) -> None:
    with Store(url) as store, store.storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://user:secret@host/db", "write sqlite:///"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///", "names no file"),
        ("study.db", "is not a URL"),
    ],
)
def test_other_urls_are_refused_and_passwords_not_shown(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [Store, Reader])
def test_a_folder_is_refused(kind: type[Reader], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        kind(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("kind", [Store, Reader])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(kind: type[Reader], tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes " * 50)
    with pytest.raises(StoreError, match="not a SQLite database"):
        kind(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database, but")


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be created here"):
        Store(f"sqlite:///{tmp_path / 'file' / 'study.db'}")


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("attempt to write a readonly database", "check its permissions"),
        ("unable to open database file", "check its permissions"),
        ("database is locked", "close that program"),
        ("database or disk is full", "make room"),
        ("database disk image is malformed", "restore it from a copy"),
    ],
)
def test_an_error_of_sqlite_gets_a_remedy(message: str, remedy: str) -> None:
    with pytest.raises(StoreError, match=remedy) as caught, as_store_errors(Path("/runs/study.db")):
        raise sqlite3.OperationalError(message)
    assert message in str(caught.value)


def test_a_message_has_sqlites_words_only() -> None:
    """SQLAlchemy adds its own name and the address of a page, and Optuna passes both on."""
    full = sqlite3.OperationalError("database or disk is full")
    passed_on = sa.exc.OperationalError("INSERT", {}, full)
    internal = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
    internal.__cause__ = passed_on
    for error in (passed_on, internal):
        with pytest.raises(StoreError) as caught, as_store_errors(Path("/runs/study.db")):
            raise error
        assert str(caught.value).endswith("(database or disk is full)")


def test_a_store_that_is_there_but_cannot_be_written_is_not_said_to_be_created(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(url).close()

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "acquire", read_only)
    with pytest.raises(StoreError, match="the store cannot be written: Read-only file system; make it writable") as it:
        Store(url)
    assert str(it.value).startswith(f"{path}: ")


def test_an_error_in_our_own_sql_is_not_blamed_on_the_user() -> None:
    with pytest.raises(sqlite3.OperationalError), as_store_errors(Path("/runs/study.db")):
        raise sqlite3.OperationalError("no such column: nothing")


def test_a_reader_creates_no_file(url: str, path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store here"):
        Reader(url)
    assert not path.exists()


def _hold(path: Path, connection: Connection) -> None:
    """Hold the lock in another process until that process is killed."""
    with sqlite.hold(path, what="study 'small'"):
        connection.send("held")
        connection.recv()


class TestLock:
    def test_a_second_driver_learns_who_runs_the_study_and_since_when(self, url: str) -> None:
        with Store(url) as store, store.lock("small"):
            with Store(url) as second, pytest.raises(StoreBusy, match=rf"process {os.getpid()} on .* since 20"):
                second.lock("small").__enter__()
            with store.lock("other"):
                pass
        with Store(url) as store, store.lock("small"):
            pass

    def test_the_lock_of_a_killed_driver_is_free(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe()
        database = tmp_path / "study.db"
        path = sqlite.lock_of(database, "small")
        process = context.Process(target=_hold, args=(path, sender))
        process.start()
        assert receiver.recv() == "held"
        with pytest.raises(StoreBusy, match=rf"study 'small' is being run by process {process.pid} "):
            sqlite.hold(path, what="study 'small'").__enter__()
        assert is_running(f"sqlite:///{database}", "small")
        assert not is_running(f"sqlite:///{database}", "other")
        process.kill()
        process.join()
        assert not is_running(f"sqlite:///{database}", "small")
        with sqlite.hold(path, what="study 'small'"):
            pass
        receiver.close()
        sender.close()
        process.close()

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="says when a process has started")
    def test_deleting_the_lock_file_lets_no_second_driver_in(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe()
        path = sqlite.lock_of(tmp_path / "study.db", "small")
        process = context.Process(target=_hold, args=(path, sender))
        process.start()
        assert receiver.recv() == "held"
        path.unlink()
        with pytest.raises(
            StoreBusy, match=rf"run by process {process.pid} on .*, although study.db.small.lock was del"
        ):
            sqlite.hold(path, what="study 'small'").__enter__()
        process.kill()
        process.join()
        with sqlite.hold(path, what="study 'small'"):
            pass
        process.close()

    def test_another_process_of_the_same_number_holds_nothing(self, tmp_path: Path) -> None:
        """The number of a killed driver is given to some other program: here to the parent of this one."""
        path = sqlite.lock_of(tmp_path / "study.db", "small")
        holder = {"pid": os.getppid(), "host": socket.gethostname(), "started": "1 in another boot", "since": "then"}
        path.with_suffix(".holder.json").write_text(json.dumps(holder))
        with sqlite.hold(path, what="study 'small'"):
            pass


def _open(url: str, together: Barrier, connection: Connection) -> None:
    """Open a new store at the same moment as others do."""
    together.wait()
    try:
        with Store(url) as store:
            connection.send(store.names())
    except BaseException as error:
        connection.send(repr(error))
        raise


def test_several_processes_may_create_a_store_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for number in range(3):
        together, pipes = context.Barrier(3), [context.Pipe() for _ in range(3)]
        url = url_of(tmp_path / str(number) / "study.db")
        processes = [context.Process(target=_open, args=(url, together, sender)) for _, sender in pipes]
        for process in processes:
            process.start()
        assert [receiver.recv() for receiver, _ in pipes] == [[], [], []]
        for process in processes:
            process.join()


ODD_FOLDERS = ["with space", "50% done", "50%25", "C#notes", "quote'd", "größe", "a;b", "a:b@c", "what?", "what?again",
               "x?mode=ro", "{SCHEMA_VERSION}", "[ab]", "sqlite:", "-"]  # fmt: skip


def test_a_folder_may_have_any_name_and_nothing_is_written_outside_of_it(tmp_path: Path) -> None:
    for folder in ODD_FOLDERS:
        with Store(url_of(tmp_path / folder / "study.db")) as store:
            store.add_study(small_sweep.study(name=f"s{len(folder)}"), data=small_sweep.FACTS, provenance={})
            store.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], study_name=folder)
    assert sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()) == sorted(
        Path(folder, name) for folder in ODD_FOLDERS for name in (".study.db.opening.lock", "study.db")
    )
    for folder in ODD_FOLDERS:
        with Reader(url_of(tmp_path / folder / "study.db")) as reader:
            assert reader.names() == [f"s{len(folder)}"]  # of its own folder, not of another that shares the file
        with contextlib.closing(sqlite3.connect(tmp_path / folder / "study.db")) as connection:
            assert connection.execute("select study_name from studies").fetchall() == [(folder,)]
