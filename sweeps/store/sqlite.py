"""SQLite: the file behind a URL, its connections (WAL), its errors in the user's words, and a lock per study."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import filelock
import optuna
import sqlalchemy as sa

from sweeps.errors import StoreBusy, StoreError
from trainer.atomic import write_text
from trainer.input_file import check_input
from trainer.machine import process


@contextlib.contextmanager
def hold(path: Path, *, what: str) -> Iterator[None]:
    """Hold the lock file `path`. If another process holds it, raise StoreBusy, which says who runs `what` since when.

    The operating system releases the lock with the process that holds it, however that process ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = _holder_of(path)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise StoreBusy(
            f"{what} is being run by {_holder(holder)}; wait for it, or stop it there with Ctrl-C (nothing is lost)"
        ) from None
    if _is_held(holder):  # someone has deleted the lock file, but not the process
        lock.release()
        raise StoreBusy(
            f"{what} is being run by {_holder(holder)}, although {path.name} was deleted; wait for it, or stop it "
            "there with Ctrl-C (nothing is lost)"
        )
    try:
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_text(holder, json.dumps({**_this_process(), "since": since}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """Return when a process started, as the system counts it; None: there is no such process, or no /proc."""
    try:
        started = process.stat(pid)[process.STARTED]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return f"{started} in {boot}"


def _is_held(holder: Path) -> bool:
    """Whether the process that a holder file names is another one on this machine, and alive."""
    try:
        who = json.loads(holder.read_text(encoding="utf-8"))
        if who["host"] != socket.gethostname() or who["pid"] == os.getpid() or who["started"] is None:
            return False
        return bool(who["started"] == _started(int(who["pid"])))
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def opening(database: Path) -> Iterator[None]:
    """Let one process after another create and migrate the tables of a database. Raises StoreBusy."""
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(database.with_name(f".{database.name}.opening.lock"))
    try:
        lock.acquire(timeout=BUSY_SECONDS)
    except filelock.Timeout:
        raise StoreBusy(f"{database}: another process has been creating it for {BUSY_SECONDS:.0f} s") from None
    try:
        yield
    finally:
        lock.release()


def _holder_of(lock: Path) -> Path:
    """Return the file that says who holds a lock."""
    return lock.with_suffix(".holder.json")


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError):  # its holder has not written the file yet
        return "another process"


def lock_of(database: Path, study: str) -> Path:
    """Return the lock file of a study in a database."""
    return database.with_name(f"{database.name}.{study}.lock")


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file `path` now."""
    if not _holder_of(path).exists():
        return False
    lock = filelock.FileLock(path)  # a process that was killed leaves its name behind, but not the lock
    try:
        lock.acquire(blocking=False)
    except (filelock.Timeout, OSError):
        return True
    lock.release()
    return False


BUSY_SECONDS = 60.0
"""seconds that a connection waits for another's lock"""
_DAMAGED = ("not a database", "malformed", "decode to UTF-8", "file format", "duplicate column", "no such table")
"""the last two come from migrating a file whose tables are not those of its version"""
_SUFFIXES = ("-wal", "-shm")
_SCHEME = "sqlite:///"


def url_of(path: Path) -> str:
    """Return the URL of a store, for `path_of`."""
    return f"{_SCHEME}{path}"


def path_of(url: str) -> Path:
    """Return the file of a sqlite:/// URL. Raises StoreError for a URL that names no file.

    What follows the three slashes is the path as it stands. A folder may be named `what?` or `50% done`, which a parser
    of URLs takes for something else.
    """
    path = url.removeprefix(_SCHEME)
    if path != url and path not in ("", ":memory:"):
        return Path(path).absolute()
    if "://" not in url:
        raise StoreError(f"store: {url!r} is not a URL; write sqlite:///path/to/study.db")
    raise StoreError(
        f"store: {url!r} names no file; write sqlite:///path/to/study.db (three slashes), or "
        "sqlite:////absolute/path/study.db (four)"
    )


def optuna_storage(connect: Callable[[], sqlite3.Connection]) -> optuna.storages.RDBStorage:
    """Return Optuna's storage over connections made by `connect`. Raises RuntimeError for another Optuna's tables."""
    # Optuna fills braces in a URL, and SQLAlchemy parses it. So the path stays out of it, and the URL says only which
    # database it is.
    return optuna.storages.RDBStorage(f"{_SCHEME}study.db", engine_kwargs={"creator": connect})


def check_file(path: Path) -> None:
    """Raise StoreError for a folder, a pipe or a device."""
    if path.is_dir():
        raise StoreError(f"{path}: is a folder; the store is a file, for example {path / 'study.db'}")
    if path.exists():
        try:
            check_input(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Connect for reading and writing, in WAL mode. Creates the file if it is missing."""
    connection = _with_schema(sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False))
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Connect for reading, also to a copy on a read-only disk."""
    # Even a reader of a WAL database creates files beside it. If it can't, and they don't exist, there is no writer
    # either, so SQLite may treat the database as immutable.
    no_wal = not any(path.with_name(path.name + suffix).exists() for suffix in _SUFFIXES)
    unchanging = "&immutable=1" if no_wal and not os.access(path.parent, os.W_OK) else ""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=ro{unchanging}", uri=True, timeout=BUSY_SECONDS, check_same_thread=False
    )
    connection.text_factory = lambda text: text.decode(errors="replace")  # a damaged text is shown as it is
    return _with_schema(connection)


def _with_schema(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Read the tables' definitions, which any query does first. Raises sqlite3.Error for a damaged one."""
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except UnicodeDecodeError as error:  # Python decodes SQLite's message, which repeats the damaged text
        connection.close()
        raise sqlite3.DatabaseError("malformed database schema") from error
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def as_store_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors, also those that Optuna passes on, into a StoreError in the user's words."""
    try:
        yield
    except (sqlite3.Error, sa.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
        passed_on = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        text = str(getattr(passed_on, "orig", None) or passed_on or error)  # SQLAlchemy adds the address of a page
        if any(words in text for words in _DAMAGED):
            remedy = "it is not a SQLite database, or is damaged; name another file, or restore it from a copy"
        elif "readonly" in text or "unable to open" in text:
            remedy = "it cannot be opened or written; check its permissions, or name another place with --out"
        elif "locked" in text:
            remedy = f"another program has kept it locked for {BUSY_SECONDS:.0f} s; close that program and run again"
        elif "full" in text:
            remedy = "the disk is full; make room and run again: the study continues where it stopped"
        elif "disk I/O" in text:
            remedy = "its disk fails, or the file was moved meanwhile; run again: the study continues where it stopped"
        else:
            raise
        raise StoreError(f"{path}: {remedy} ({text})") from error


@dataclass(frozen=True)
class SqliteFile:
    """A SQLite file as a store's database."""

    file: Path

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the file of a URL. Raises StoreError for a URL that names none, and for a folder."""
        path = path_of(url)
        check_file(path)
        return cls(path)

    @property
    def name(self) -> str:
        return str(self.file)

    def exists(self) -> bool:
        return self.file.exists()

    def identity(self) -> int | None:
        try:
            return self.file.stat().st_ino
        except FileNotFoundError:
            return None

    def make(self) -> None:
        connect_to_write(self.file).close()  # fails for a file that is no database, before Optuna opens it

    def engine(self, *, write: bool) -> sa.Engine:
        connect = functools.partial(connect_to_write if write else connect_to_read, self.file)
        return sa.create_engine(
            "sqlite://", creator=connect, poolclass=sa.pool.StaticPool if write else sa.pool.NullPool
        )

    def copy(self) -> sa.Engine:
        memory = sqlite3.connect(":memory:", check_same_thread=False)
        with contextlib.closing(connect_to_read(self.file)) as source:
            source.backup(memory)
            memory.text_factory = source.text_factory
        return sa.create_engine("sqlite://", creator=lambda: memory, poolclass=sa.pool.StaticPool)

    def optuna_storage(self) -> optuna.storages.RDBStorage:
        return optuna_storage(functools.partial(connect_to_write, self.file))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(opening(self.file))
            except OSError as error:
                why = error.strerror or error
                raise StoreError(
                    f"{self.file}: the store cannot be written: {why}; make it writable, or go on with a copy of its "
                    "folder elsewhere (--out)"
                    if self.file.exists()
                    else f"{self.file}: the store cannot be created here: {why}"
                ) from error
            yield

    def hold(self, study: str, *, writing: sa.Engine) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        return hold(lock_of(self.file, study), what=f"study {study!r}")

    def is_held(self, study: str) -> bool:
        return is_held(lock_of(self.file, study))

    def errors(self) -> contextlib.AbstractContextManager[None]:
        return as_store_errors(self.file)
