"""The database of a store: a SQLite file or a PostgreSQL server's, with one interface for both."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import optuna
import sqlalchemy as sa

from sweeps.errors import StoreError
from sweeps.store.postgresql import ServerDatabase
from sweeps.store.sqlite import SqliteFile
from sweeps.study.store_url import problem_with


class Database(Protocol):
    """What a store needs of its database. `engine`, `optuna_storage` and `make` raise what `errors` translates."""

    @property
    def file(self) -> Path | None:
        """The file; None: a server's database."""

    @property
    def name(self) -> str:
        """How messages name it: the file, or the URL, which has no password."""

    def exists(self) -> bool:
        """Whether there is a file, or whether the server's database has our tables. Raises StoreError."""

    def identity(self) -> int | None:
        """Return what tells a file from another at its path; None: it is gone. Always the same for a server's."""

    def make(self) -> None:
        """Make the file. A server's database has to exist."""

    def engine(self, *, write: bool) -> sa.Engine:
        """Return an engine to read, or to write over one connection."""

    def copy(self) -> sa.Engine:
        """Return an engine over a copy in memory. Raises StoreError for a server's."""

    def optuna_storage(self) -> optuna.storages.RDBStorage:
        """Return Optuna's storage. Raises RuntimeError for another Optuna's tables."""

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes from making or migrating tables meanwhile."""

    def hold(self, study: str, *, writing: sa.Engine) -> AbstractContextManager[None]:
        """Be the only driver of a study, for as long as the connection of `writing` lasts. Raises StoreBusy."""

    def is_held(self, study: str) -> bool:
        """Whether a process is running the study now."""

    def errors(self) -> AbstractContextManager[None]:
        """Turn the database's errors, also those that Optuna passes on, into a StoreError in the user's words."""


def database_of(url: str) -> Database:
    """Return the database at a URL. Raises StoreError for a URL that names none."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme == "sqlite":
        return SqliteFile.of(url)
    if problem := problem_with(url):
        raise StoreError(f"store: {problem}")
    return ServerDatabase(url)


def is_running(url: str, study: str) -> bool:
    """Whether a process is running the study of this name now."""
    return database_of(url).is_held(study)
