"""The store: what is written is read back, by whoever may, and nothing else is taken for a store."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from sweeps import lock, schema
from sweeps.errors import NotFound, StoreBusy, StoreError
from sweeps.results import DataFacts, Run
from sweeps.sqlite import clear_errors
from sweeps.store import Reader, Store
from sweeps.trials import Trials
from tests.sweeps import kit
from tests.sweeps.fakes import point_at
from trainer.points import Point

FACTS = DataFacts(
    path="/data", fingerprint="f" * 64, vocab_size=257, train_tokens=10, val_tokens=5, bytes_per_token=None
)


def a_run(trial: int = 0) -> Run:
    config = kit.baseline()
    return Run(
        id=0,
        optuna_study="small",
        trial=trial,
        seed=1337,
        phase="search",
        origin="star",
        label="dropout at its high, 0.4",
        knob="dropout",
        params={"dropout": 0.4, "learning_rate": 1e-3},
        config=config,
        device="cpu",
        outcome="running",
        reason="",
        val_loss=None,
        val_se=None,
        seconds=0.0,
        points=(),
    )


def add(store: Store, run: Run) -> Run:
    return store.add_run("small", run, key="star:dropout:high", fingerprint="f", versions={"torch": "2"}, commit=None)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study' / 'study.db'}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "study.db"


class TestRoundTrip:
    def test_everything_comes_back(self, url: str) -> None:
        study = kit.study()
        with Store(url) as store:
            store.add_study(study, data=FACTS, provenance={"torch": "2.13"})
            run = add(store, a_run())
            points = [point_at(run.config, step) for step in (0, 1)]
            store.launched(run.id, device="cuda:1", attempt=3)
            store.add_points([(run.id, point) for point in points], name="small", seconds=12.5)
            store.ended(run.id, outcome="complete", reason="", step=20, seconds=9.0, val_loss=3.25, val_se=0.5)
            store.add_event("small", "crashed", "boom", run=run.id)
        with Reader(url) as reader:
            results = reader.results("small")
            events = reader.events("small")
        assert results.study == study
        assert results.data == FACTS
        assert results.provenance == {"torch": "2.13"}
        assert results.seconds == 12.5
        expected = dataclasses.replace(
            run,
            device="cuda:1",
            outcome="complete",
            val_loss=3.25,
            val_se=0.5,
            seconds=9.0,
            points=tuple(points),
        )
        assert results.runs == (expected,)
        assert [(event.run, event.kind, event.detail) for event in events] == [(run.id, "crashed", "boom")]

    def test_nan_and_none_stay_apart(self, url: str) -> None:
        # SQLite has no NaN: it keeps NULL
        point = dataclasses.replace(
            point_at(kit.baseline(), 3),
            val_loss=math.nan,
            val_se=math.nan,
            train_loss=math.inf,
            grad_norm=None,
        )
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            store.add_points([(run.id, point)], name="small", seconds=0.0)
            read = store.results("small").runs[0].points[0]
        assert math.isnan(read.val_loss)
        assert math.isnan(read.val_se)
        assert read.train_loss == math.inf
        assert read.grad_norm is None

    def test_a_point_is_kept_once_and_its_first_value_stays(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            point = point_at(run.config, 0)
            again = dataclasses.replace(point, seconds=99.0)
            store.add_points([(run.id, point)], name="small", seconds=1.0)
            store.add_points([(run.id, again), (run.id, point_at(run.config, 1))], name="small", seconds=2.0)
            points = store.results("small").runs[0].points
        assert [(one.step, one.seconds) for one in points] == [(0, 0.0), (1, 0.5)]

    def test_a_running_run_has_the_seconds_of_its_last_point(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            store.add_points([(run.id, point_at(run.config, 8))], name="small", seconds=1.0)
            assert store.results("small").runs[0].seconds == 4.0

    def test_studies_in_one_file_are_apart(self, url: str) -> None:
        with Store(url) as store:
            for name in ("small", "other"):
                store.add_study(kit.study(name=name), data=FACTS, provenance={})
            add(store, a_run())
            assert store.names() == ["small", "other"]
            assert len(store.results("small").runs) == 1
            assert store.results("other").runs == ()

    def test_an_unknown_study_is_told_the_known_ones(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
            with pytest.raises(NotFound, match=r"'nothing'; it has: small"):
                store.results("nothing")

    def test_an_optuna_study_of_that_name_is_not_taken_over(self, url: str) -> None:
        with Store(url) as store:
            optuna.create_study(storage=store.storage, study_name="small")
            with pytest.raises(StoreError, match="give this study another name"):
                store.add_study(kit.study(), data=FACTS, provenance={})


class TestFile:
    def test_the_writer_has_wal_and_synchronous_normal(self, url: str) -> None:
        with Store(url) as store, store.storage.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1

    def test_a_reader_works_in_the_middle_of_a_write(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            with store.storage.engine.begin() as writing:
                writing.exec_driver_sql("UPDATE run SET reason = 'half done'")
                with Reader(url) as reader:
                    assert reader.results("small").runs[0].reason == ""
            assert store.results("small").runs[0].reason == "half done"
            store.launched(run.id, device="cpu", attempt=1)  # and no reader holds the writer up

    def test_a_reader_writes_nothing(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
        with Reader(url) as reader, reader._engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql("DELETE FROM study")

    def test_optuna_reads_the_file_as_it_is(self, url: str) -> None:
        with Store(url) as store:
            Trials(kit.study(), store.storage)
        storage = optuna.storages.RDBStorage(url)
        try:
            assert sorted(optuna.get_all_study_names(storage)) == ["small", "small-confirm"]
        finally:
            storage.remove_session()
            storage.engine.dispose()

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("postgresql+psycopg://user:secret@host/db", "write sqlite:///"),
            ("sqlite://", "names no file"),
            ("sqlite:///:memory:", "names no file"),
            ("sqlite:///", "names no file"),
            ("study.db", "is not a URL"),
        ],
    )
    def test_other_urls_are_refused_without_their_password(self, url: str, words: str) -> None:
        with pytest.raises(StoreError, match=words) as caught:
            Store(url)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("kind", [Store, Reader])
    def test_a_folder_is_refused(self, kind: type[Reader], tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="is a folder"):
            kind(f"sqlite:///{tmp_path}")

    @pytest.mark.parametrize("kind", [Store, Reader])
    def test_a_file_that_is_no_database_is_refused_and_kept(self, kind: type[Reader], tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("not a database, but somebody's notes " * 50)
        with pytest.raises(StoreError, match="not a SQLite database"):
            kind(f"sqlite:///{path}")
        assert path.read_text().startswith("not a database, but")

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot be made here"):
            Store(f"sqlite:///{tmp_path / 'file' / 'study.db'}")

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ("attempt to write a readonly database", "check its permissions"),
            ("unable to open database file", "check its permissions"),
            ("database is locked", "close that program"),
            ("database or disk is full", "make room"),
            ("database disk image is malformed", "restore it from a copy"),
        ],
    )
    def test_what_sqlite_says_gets_a_remedy(self, said: str, words: str) -> None:
        with pytest.raises(StoreError, match=words) as caught, clear_errors(Path("/runs/study.db")):
            raise sqlite3.OperationalError(said)
        assert said in str(caught.value)

    def test_our_own_mistakes_in_sql_are_no_mistakes_of_the_user(self) -> None:
        with pytest.raises(sqlite3.OperationalError), clear_errors(Path("/runs/study.db")):
            raise sqlite3.OperationalError("no such column: nothing")

    def test_a_reader_makes_no_file(self, url: str, path: Path) -> None:
        with pytest.raises(StoreError, match="there is no store here"):
            Reader(url)
        assert not path.exists()


class TestMigrations:
    def columns(self, path: Path) -> dict[str, list[tuple[str, str, int, int]]]:
        with closing(sqlite3.connect(path)) as connection:
            return {
                table: [
                    (name, kind, required, key)
                    for _, name, kind, required, _, key in connection.execute(f"PRAGMA table_info({table})")
                ]
                for table in schema.TABLES.tables
            }

    def test_the_last_migration_leads_to_the_tables_that_the_code_uses(self, url: str, path: Path) -> None:
        Store(url).close()
        fresh = path.with_name("fresh.db")
        engine = sa.create_engine(f"sqlite:///{fresh}")
        schema.TABLES.create_all(engine)
        engine.dispose()
        assert self.columns(path) == self.columns(fresh)

    def test_a_file_with_only_optunas_tables_is_version_0_and_gets_ours(self, url: str, path: Path) -> None:
        path.parent.mkdir()
        storage = optuna.storages.RDBStorage(url)
        optuna.create_study(storage=storage, study_name="somebody's")
        storage.remove_session()
        storage.engine.dispose()
        with pytest.raises(StoreError, match="holds no sweep"):
            Reader(url)
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
            assert optuna.get_all_study_names(store.storage) == ["somebody's"]
        with Reader(url) as reader:
            assert reader.names() == ["small"]

    def test_an_older_file_keeps_its_rows(self, url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("ALTER TABLE run ADD COLUMN more TEXT",)))
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(StoreError, match="older plateau-sweep"):
            Reader(url)
        with Store(url) as store:
            assert store.results("small").study == kit.study()
        assert "more" in [column[0] for column in self.columns(path)["run"]]
        with Store(url) as store:  # once
            assert store.names() == ["small"]

    def test_a_migration_that_fails_leaves_the_file_as_it_was(
        self, url: str, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Store(url).close()
        before = self.columns(path)
        broken = ("ALTER TABLE run ADD COLUMN more TEXT", "ALTER TABLE nothing ADD COLUMN more TEXT")
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
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

    def test_a_study_of_other_settings_is_told_from_a_damaged_file(self, url: str, path: Path) -> None:
        with Store(url) as store:
            store.add_study(kit.study(), data=FACTS, provenance={})
        spec = json.loads(kit.study().model_dump_json()) | {"from_the_future": 1}
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE study SET spec = ?", [json.dumps(spec)])
        with Reader(url) as reader, pytest.raises(StoreError, match="stored by another plateau-sweep"):
            reader.results("small")


def _hold(path: Path, connection: Connection) -> None:
    with lock.hold(path, what="study 'small'"):
        connection.send("held")
        connection.recv()


class TestLock:
    def test_a_second_driver_is_told_who_and_since_when(self, url: str) -> None:
        with Store(url) as store, store.lock("small"):
            with Store(url) as second, pytest.raises(StoreBusy, match=rf"process {os.getpid()} on .* since 20"):
                second.lock("small").__enter__()
            with store.lock("other"):
                pass
        with Store(url) as store, store.lock("small"):
            pass

    def test_a_driver_that_was_killed_holds_nothing(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        path = tmp_path / "lock"
        process = context.Process(target=_hold, args=(path, theirs))
        process.start()
        assert ours.recv() == "held"
        with pytest.raises(StoreBusy, match=rf"study 'small' is being run by process {process.pid} "):
            lock.hold(path, what="study 'small'").__enter__()
        process.kill()
        process.join()
        with lock.hold(path, what="study 'small'"):
            pass
        ours.close()
        theirs.close()
        process.close()


def test_point_columns_are_the_fields_of_a_point() -> None:
    fields = [field.name for field in dataclasses.fields(Point)]
    assert [column.name for column in schema.point.c] == ["run_id", *fields]
