"""PostgreSQL: a server's database behind a URL, its connections, its errors in the user's words, a lock per study.

A driver's lock is a session's advisory lock, held by the connection that writes. So a driver that has lost its
connection has lost the right to write as well: it is told so, and doesn't connect again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy as sa

from sweeps.errors import StoreBusy, StoreError
from sweeps.study.store_url import POSTGRESQL

if TYPE_CHECKING:
    import psycopg

PASSWORD_FILE = "PGPASSWORD_FILE"  # noqa: S105  # the name of a variable
"""variable that names a file with the password, as secrets of containers are given; PGPASSWORD comes before it"""
_CONNECT_SECONDS = 15
_MAKING = "plateau-sweep: tables"
"""what is locked while tables are made"""
_HOLDER = sa.text(
    "SELECT application_name, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND ((classid::bigint << 32) | objid::bigint) = :key"
)


@dataclass(frozen=True)
class ServerDatabase:
    """A database of a PostgreSQL server."""

    url: str

    @property
    def file(self) -> Path | None:
        return None

    @property
    def name(self) -> str:
        return self.url

    def exists(self) -> bool:
        with self.errors(), contextlib.closing(self._connect()) as connection:
            row = connection.execute("SELECT to_regclass('schema_version') IS NOT NULL").fetchone()
        return row is not None and bool(row[0])

    def identity(self) -> int | None:
        return 0

    def make(self) -> None:
        self._connect().close()  # fails where there is no such database, before Optuna opens it

    def engine(self, *, write: bool) -> sa.Engine:
        if write:
            return _engine(self._only_connection(), poolclass=sa.pool.StaticPool)
        # one snapshot for all queries of a transaction: an ended run with all of its points
        return _engine(functools.partial(self._connect, snapshot=True), poolclass=sa.pool.NullPool)

    def copy(self) -> sa.Engine:
        raise StoreError(
            f"{self.name}: was written by an older plateau-sweep; `sweep run` with its study brings it up to date"
        )

    def optuna_storage(self) -> optuna.storages.RDBStorage:
        opened: list[psycopg.Connection[Any]] = []

        def connect() -> psycopg.Connection[Any]:
            opened.append(self._connect())
            return opened[-1]

        try:
            return optuna.storages.RDBStorage(POSTGRESQL, engine_kwargs={"creator": connect})
        except BaseException:
            for connection in opened:  # Optuna leaves them open when it fails
                connection.close()
            raise

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with contextlib.closing(self._connect()) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [key_of(_MAKING)])
            yield

    @contextlib.contextmanager
    def hold(self, study: str, *, writing: sa.Engine) -> Iterator[None]:
        key = {"key": key_of(study)}
        with self.errors(), writing.begin() as connection:
            held = connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one()
            holder = None if held else connection.execute(_HOLDER, key).first()
        if not held:
            raise StoreBusy(
                f"study {study!r} is being run by {_holder(holder)}; wait for it, or stop it there with Ctrl-C "
                "(nothing is lost)"
            )
        try:
            yield
        finally:
            # a connection that is lost has released its locks
            with contextlib.suppress(sa.exc.DBAPIError, StoreError), writing.begin() as connection:
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), key)

    def is_held(self, study: str) -> bool:
        engine = self.engine(write=False)
        with self.errors(), engine.connect() as connection:
            return connection.execute(_HOLDER, {"key": key_of(study)}).first() is not None

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        driver = _driver()
        try:
            yield
        except (driver.Error, sa.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
            cause = _cause(error)
            text = " ".join(str(cause).split())
            remedy = remedy_for(getattr(cause, "sqlstate", None), text)
            if remedy is None and not isinstance(cause, driver.OperationalError):
                raise
            remedy = remedy or "the server can't be used now; the study goes on when it is run again"
            raise StoreError(f"{self.name}: {remedy} ({text})") from error

    def _connect(self, *, snapshot: bool = False) -> psycopg.Connection[Any]:
        """Connect for Optuna, or with `snapshot` to read only. libpq looks for the password."""
        driver = _driver()
        url = sa.make_url(self.url)
        named = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database}
        options = {name: value for name, value in named.items() if value is not None}
        connection: psycopg.Connection[Any] = driver.connect(
            **{"connect_timeout": _CONNECT_SECONDS, "keepalives_idle": 30, **options, **_password(), **url.query},
            application_name=f"plateau-sweep {os.getpid()} {socket.gethostname()}"[:63],
            client_encoding="utf8",
        )
        if snapshot:
            connection.isolation_level = driver.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
        return connection

    def _only_connection(self) -> Callable[[], psycopg.Connection[Any]]:
        """Return a function that connects once."""
        made = False

        def connect() -> psycopg.Connection[Any]:
            nonlocal made
            if made:
                raise StoreError(
                    f"{self.name}: the connection was lost, and with it the study's lock; run again: the study goes on "
                    "where it stopped"
                )
            made = True
            return self._connect()

        return connect


def key_of(name: str) -> int:
    """Return the key of a lock: 64 bits with a sign, as PostgreSQL has them."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def remedy_for(sqlstate: str | None, text: str) -> str | None:
    """Return what to do about an error, by its code; the errors of connecting have none, only text. None: unknown."""
    if sqlstate == "53100":
        return "the server's disk is full; make room and run again: the study continues where it stopped"
    if sqlstate in ("42501", "3F000"):
        return (
            "this user may not make tables there; make the user the owner of the database, or grant it: GRANT CREATE "
            "ON SCHEMA public TO the user"
        )
    if sqlstate == "25006":
        return "the server only reads (a standby?); name the one that writes"
    if sqlstate is not None and not sqlstate.startswith(("08", "57")):  # neither a connection's nor a shutdown's
        return None
    for words, remedy in _REMEDIES:
        if any(word in text for word in words):
            return remedy
    return None


_REMEDIES = (
    (
        ("password authentication failed", "no password supplied"),
        "the server wants another password; give the user's in the variable PGPASSWORD, in a file that PGPASSWORD_FILE "
        "names, or in ~/.pgpass, which nobody else may read (chmod 600)",
    ),
    (("no pg_hba.conf entry",), "the server lets this user in from here by no line of its pg_hba.conf; add one"),
    (('" does not exist',), "the server has no such user or database; make them with createuser and createdb"),
    (
        ("refused", "timeout", "timed out", "No route", "translate host name", "resolve host", "No such file"),
        "no PostgreSQL server answers there; start it, or correct host and port in the study's store",
    ),
    (("invalid connection option", "invalid URI"), "the URL has an option that PostgreSQL doesn't know; leave it out"),
    (
        ("terminating connection", "server closed the connection", "connection is closed", "the connection is lost"),
        "the connection to the server was lost; run again: the study goes on where it stopped",
    ),
)


def _engine(creator: Callable[[], Any], *, poolclass: type[sa.Pool]) -> sa.Engine:
    return sa.create_engine(POSTGRESQL, creator=creator, poolclass=poolclass)


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise StoreError(
            "store: PostgreSQL needs psycopg, which is not installed: pip install 'plateau-sweep[postgres]'"
        ) from error
    return psycopg


def _password() -> dict[str, str]:
    """Return the password of the file that PGPASSWORD_FILE names, unless PGPASSWORD is set. Raises StoreError."""
    file = os.environ.get(PASSWORD_FILE)
    if not file or "PGPASSWORD" in os.environ:
        return {}
    try:
        return {"password": Path(file).read_text(encoding="utf-8").strip("\r\n")}
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{PASSWORD_FILE}: {file} can't be read: {getattr(error, 'strerror', error)}") from error


def _holder(row: sa.Row[Any] | None) -> str:
    if row is None or not row.application_name:  # it ended meanwhile, or another user's, whose sessions are not shown
        return "another process"
    _, pid, host = (*row.application_name.split(" ", 2), "", "")[:3]
    since = row.backend_start.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"process {pid} on {host} since {since}"


def _cause(error: BaseException) -> BaseException:
    """Return the driver's own error in SQLAlchemy's or Optuna's."""
    while not isinstance(error, _driver().Error) and (inner := getattr(error, "orig", None) or error.__cause__):
        error = inner
    return error
