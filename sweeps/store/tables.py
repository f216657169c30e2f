"""Our tables beside Optuna's in the same database, and the migrations from every file ever released.

`MIGRATIONS[n]` turns version n into n + 1. A file without our tables is version 0. A released migration is never
edited: to change a table, append a migration and change the table below, which describes the newest version. A test
holds the two together. The statements of versions 1 and 2 are SQLite's alone: stores on PostgreSQL begin at version 2,
with the tables as they are below.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)

from sweeps.errors import StoreError

TABLES = MetaData()
_WHOLE = Integer().with_variant(BigInteger, "postgresql")
"""whole numbers: SQLite's have 64 bits, PostgreSQL's INTEGER has 32, and a run may see more tokens than that"""

schema_version = Table("schema_version", TABLES, Column("version", Integer, nullable=False))

study = Table(
    "study",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", Text, nullable=False),  # the resolved study, JSON
    Column("data", Text, nullable=False),  # DataFacts, JSON
    Column("provenance", Text, nullable=False),  # JSON
    Column("created", Text, nullable=False),  # ISO 8601, UTC, like every time below
    Column("active_seconds", Float, nullable=False),  # over all sessions
)

run = Table(
    "run",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("study.id"), nullable=False),
    Column("optuna_study", Text, nullable=False),
    Column("trial", _WHOLE, nullable=False),
    Column("key", Text, nullable=False),
    Column("seed", _WHOLE, nullable=False),
    Column("phase", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("knob", Text),
    Column("params", Text, nullable=False),  # JSON, as Optuna has them
    Column("config", Text, nullable=False),  # JSON, absolute nanoGPT values
    Column("data_fingerprint", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("versions", Text, nullable=False),  # JSON
    Column("git_commit", Text),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("val_loss", Float),
    Column("val_se", Float),
    Column("step", _WHOLE, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("attempt", _WHOLE, nullable=False),
    Column("started", Text, nullable=False),
    Column("finished", Text),
    Column("pruning", Text),  # JSON of records.Pruning; NULL: the pruner has not decided against it
    Column("device_kinds", Text),  # JSON list, in order; NULL: written by a version that did not know them
    UniqueConstraint("study_id", "optuna_study", "trial"),
)

point = Table(
    "point",
    TABLES,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("step", _WHOLE, primary_key=True),
    Column("tokens", _WHOLE, nullable=False),
    # SQLite keeps NaN as NULL, so a loss may be NULL
    Column("train_loss", Float),
    Column("train_se", Float),
    Column("val_loss", Float),
    Column("val_se", Float),
    Column("lr", Float),
    Column("grad_norm", Float),
    Column("tokens_per_s", Float),
    Column("seconds", Float, nullable=False),
)

event = Table(
    "event",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("study.id"), nullable=False),
    Column("run_id", Integer, ForeignKey("run.id")),
    Column("time", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE study (
            id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, data TEXT NOT NULL,
            provenance TEXT NOT NULL, created TEXT NOT NULL, active_seconds FLOAT NOT NULL)""",
        """CREATE TABLE run (
            id INTEGER NOT NULL PRIMARY KEY, study_id INTEGER NOT NULL REFERENCES study (id),
            optuna_study TEXT NOT NULL, trial INTEGER NOT NULL, key TEXT NOT NULL, seed INTEGER NOT NULL,
            phase TEXT NOT NULL, origin TEXT NOT NULL, label TEXT NOT NULL, knob TEXT, params TEXT NOT NULL,
            config TEXT NOT NULL, data_fingerprint TEXT NOT NULL, device TEXT NOT NULL, versions TEXT NOT NULL,
            git_commit TEXT, outcome TEXT NOT NULL, reason TEXT NOT NULL, val_loss FLOAT, val_se FLOAT,
            step INTEGER NOT NULL, seconds FLOAT NOT NULL, attempt INTEGER NOT NULL, started TEXT NOT NULL,
            finished TEXT, UNIQUE (study_id, optuna_study, trial))""",
        """CREATE TABLE point (
            run_id INTEGER NOT NULL REFERENCES run (id), step INTEGER NOT NULL, tokens INTEGER NOT NULL,
            train_loss FLOAT, train_se FLOAT, val_loss FLOAT, val_se FLOAT, lr FLOAT, grad_norm FLOAT,
            tokens_per_s FLOAT, seconds FLOAT NOT NULL, PRIMARY KEY (run_id, step))""",
        """CREATE TABLE event (
            id INTEGER NOT NULL PRIMARY KEY, study_id INTEGER NOT NULL REFERENCES study (id),
            run_id INTEGER REFERENCES run (id), time TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL)""",
    ),
    ("ALTER TABLE run ADD COLUMN pruning TEXT",),
    ("ALTER TABLE run ADD COLUMN device_kinds TEXT",),
)

VERSION = len(MIGRATIONS)
"""the version this code writes"""


def version_of(connection: Connection) -> int:
    """Return the file's version; 0: our tables are not there yet."""
    if not inspect(connection).has_table("schema_version"):
        return 0
    versions = connection.execute(text("SELECT version FROM schema_version")).scalars().all()
    if len(versions) != 1 or type(versions[0]) is not int:
        raise StoreError(f"the store's schema version can't be read ({list(versions)!r:.60}); restore it from a copy")
    return versions[0]


def check_readable(version: int) -> None:
    """Raise StoreError for a file that a newer plateau-sweep wrote."""
    if version > VERSION:
        raise StoreError(
            f"the store has schema version {version}, this plateau-sweep knows versions up to {VERSION}; "
            "upgrade plateau-sweep: pip install --upgrade plateau-sweep"
        )


def check_columns(connection: Connection) -> None:
    """Raise StoreError where tables or columns of the newest version are missing."""
    there = inspect(connection)
    missing = [table.name for table in TABLES.sorted_tables if not there.has_table(table.name)]
    for table in TABLES.sorted_tables:
        if table.name not in missing:
            columns = {column["name"] for column in there.get_columns(table.name)}
            missing += [f"{table.name}.{column.name}" for column in table.c if column.name not in columns]
    if missing:
        raise StoreError(f"the store is damaged: it lacks {', '.join(missing)}; restore it from a copy")


def migrate(connection: Connection) -> None:
    """Bring the file to `VERSION`, all or nothing, in the caller's transaction. Raises StoreError for a newer one."""
    if connection.dialect.name == "sqlite":
        # Python's sqlite3 opens no transaction before a CREATE, and a second process may be migrating too
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    version = version_of(connection)
    check_readable(version)
    if version == VERSION:
        check_columns(connection)
        return
    if version == 0 and connection.dialect.name != "sqlite":
        TABLES.create_all(connection)
        connection.execute(schema_version.insert().values(version=VERSION))
        return
    if version == 0:
        connection.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO schema_version VALUES (0)"))
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(text(statement))
    connection.execute(text("UPDATE schema_version SET version = :version"), {"version": VERSION})
