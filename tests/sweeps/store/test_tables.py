"""Our tables: their columns, and migrations from the files of every version."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from sweeps.errors import StoreError
from sweeps.store import tables
from sweeps.store.store import Reader, Store
from tests.helpers import small_sweep
from trainer.points import Point

VERSION_1 = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    "INSERT INTO schema_version VALUES (1)",
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
)
"""the statements that made the tables of schema version 1"""
EVERYTHING = ("SELECT * FROM run", "SELECT * FROM study", "SELECT * FROM point", "SELECT * FROM event")


class TestMigrations:
    def columns(self, path: Path) -> dict[str, list[tuple[str, str, int, int]]]:
        """Return (name, type, whether it must not be NULL, place in the primary key) of each column, by table."""
        with closing(sqlite3.connect(path)) as connection:
            return {
                table: [
                    (name, kind, required, key)
                    for _, name, kind, required, _, key in connection.execute(f"PRAGMA table_info({table})")
                ]
                for table in tables.TABLES.tables
            }

    def test_all_migrations_lead_to_the_tables_that_the_code_uses(self, url: str, path: Path) -> None:
        Store(url).close()
        fresh = path.with_name("fresh.db")
        engine = sa.create_engine(f"sqlite:///{fresh}")
        tables.TABLES.create_all(engine)
        engine.dispose()
        assert self.columns(path) == self.columns(fresh)

    def test_a_file_with_only_optunas_tables_gets_ours_beside_them(self, url: str, path: Path) -> None:
        path.parent.mkdir()
        storage = optuna.storages.RDBStorage(url)
        optuna.create_study(storage=storage, study_name="of another user")
        storage.remove_session()
        storage.engine.dispose()
        with pytest.raises(StoreError, match="holds no sweep"):
            Reader(url)
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance={})
            assert optuna.get_all_study_names(store.storage) == ["of another user"]
        with Reader(url) as reader:
            assert reader.names() == ["small"]

    def test_a_migrated_file_keeps_its_rows(self, url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance={})
        monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, ("ALTER TABLE run ADD COLUMN more TEXT",)))
        monkeypatch.setattr(tables, "VERSION", tables.VERSION + 1)
        before = path.read_bytes()
        with Reader(url) as reader:
            assert reader.results("small").study == small_sweep.study()
        assert path.read_bytes() == before
        with Store(url) as store:
            assert store.results("small").study == small_sweep.study()
        assert "more" in [column[0] for column in self.columns(path)["run"]]
        with Store(url) as store:  # the migration is not repeated
            assert store.names() == ["small"]

    def test_a_file_of_version_1_keeps_everything(self, url: str, path: Path) -> None:
        """Rows are written in SQL to the tables of version 1."""
        spec, config = small_sweep.study().model_dump_json(), json.dumps(small_sweep.baseline().as_dict())
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in VERSION_1:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO study VALUES (1, 'small', ?, ?, '{}', '2026-01-02T03:04:05+00:00', 99.5)",
                [spec, json.dumps(dataclasses.asdict(small_sweep.FACTS))],
            )
            connection.execute(
                "INSERT INTO run VALUES (7, 1, 'small', 3, 'trial:3', 1337, 'search', 'sampler', 'trial 3', NULL, "
                "'{\"dropout\": 0.3}', ?, 'f', 'cpu', '{}', 'abc', 'pruned', 'median: loss 4.1', NULL, NULL, 2, 4.5, "
                "1, '2026-01-02', '2026-01-03')",
                [config],
            )
            connection.execute("INSERT INTO point VALUES (7, 0, 0, 5.0, 0.1, 5.5, 0.2, 1e-3, NULL, NULL, 0.25)")
            connection.execute("INSERT INTO event VALUES (1, 1, 7, '2026-01-03', 'pruned', 'median: loss 4.1')")
            before = [list(connection.execute(query)) for query in EVERYTHING]
        with Reader(url) as reader:
            read = reader.results("small"), reader.events("small")
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
        with Store(url) as store:
            (run,) = store.results("small").runs
            events = store.events("small")
            assert read == (store.results("small"), events)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT version FROM schema_version").fetchall() == [(3,)]
            after = [list(connection.execute(query)) for query in EVERYTHING]
        before[0] = [(*row, None, None) for row in before[0]]  # the new columns
        assert after == before
        assert (run.id, run.outcome, run.reason, run.pruning) == (7, "pruned", "median: loss 4.1", None)
        assert run.params == {"dropout": 0.3}
        assert [(point.step, point.val_loss, point.seconds) for point in run.points] == [(0, 5.5, 0.25)]
        assert [(event.run, event.kind) for event in events] == [(7, "pruned")]
        with Reader(url) as reader:
            assert reader.results("small").study == small_sweep.study()

    @pytest.mark.parametrize(
        ("devices", "kinds"), [("8 x EPYC", ("EPYC",)), ("H200, H200", ("H200",)), ("H200, A100", ()), (None, ())]
    )
    def test_runs_of_an_earlier_version_have_the_kind_of_device_that_their_study_had(
        self, url: str, path: Path, devices: str | None, kinds: tuple[str, ...]
    ) -> None:
        run = small_sweep.run(0, outcome="running", val_loss=None)
        with Store(url) as store:
            facts = {} if devices is None else {"devices": devices}
            store.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance=facts)
            old, new = (
                store.add_run("small", dataclasses.replace(run, trial=trial), fingerprint="f", versions={}, commit=None)
                for trial in (0, 1)
            )
            store.launched(new.id, device="cpu", kinds=("Xeon", "EPYC"), attempt=1)
            found = {run.id: run.kinds for run in store.results("small").runs}
        assert found == {old.id: kinds, new.id: ("Xeon", "EPYC")}

    def test_a_failed_migration_leaves_the_file_as_it_was(
        self, url: str, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Store(url).close()
        before = self.columns(path)
        broken = ("ALTER TABLE run ADD COLUMN more TEXT", "ALTER TABLE nothing ADD COLUMN more TEXT")
        monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, broken))
        monkeypatch.setattr(tables, "VERSION", tables.VERSION + 1)
        with pytest.raises(sa.exc.OperationalError):
            Store(url)
        assert self.columns(path) == before

    @pytest.mark.parametrize("kind", [Store, Reader])
    def test_a_newer_file_is_refused(self, kind: type[Reader], url: str, path: Path) -> None:
        Store(url).close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE schema_version SET version = 99")
        with pytest.raises(StoreError, match=r"version 99.*upgrade plateau-sweep"):
            kind(url)

    def test_a_study_with_unknown_settings_is_not_called_damaged(self, url: str, path: Path) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance={})
        spec = json.loads(small_sweep.study().model_dump_json()) | {"from_the_future": 1}
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE study SET spec = ?", [json.dumps(spec)])
        with Reader(url) as reader, pytest.raises(StoreError, match="stored by another plateau-sweep"):
            reader.results("small")


def test_point_columns_are_the_fields_of_a_point() -> None:
    fields = [field.name for field in dataclasses.fields(Point)]
    assert [column.name for column in tables.point.c] == ["run_id", *fields]
