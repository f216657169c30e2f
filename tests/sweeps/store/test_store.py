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

from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.errors import NotFound, StoreBusy, StoreError
from sweeps.store import sqlite, tables
from sweeps.store.records import DataFacts, Pruning, Run
from sweeps.store.sqlite import as_store_errors
from sweeps.store.store import Reader, Store
from tests.helpers import small_sweep
from tests.helpers.fake_training import point_at
from trainer.points import Point

FACTS = DataFacts(
    path="/data", fingerprint="f" * 64, vocab_size=257, train_tokens=10, val_tokens=5, bytes_per_token=None
)


PRUNING = Pruning(
    rule="plateau",
    reason="dominated",
    evaluation=4,
    step=4,
    val_loss=4.25,
    sentinel=False,
    completed=7,
    best=3.52,
    predicted=3.71,
    scale=0.02,
    degrees=11.0,
    low=3.66,
    high=3.8,
    chance=0.004,
    epsilon=0.02,
)


def a_run(trial: int = 0) -> Run:
    config = small_sweep.baseline()
    return Run(
        id=0,
        optuna_study="small",
        trial=trial,
        seed=1337,
        phase="search",
        origin="one-at-a-time",
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
        key="one-at-a-time:dropout:high",
    )


def add(store: Store, run: Run) -> Run:
    return store.add_run("small", run, fingerprint="f", versions={"torch": "2"}, commit=None)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study' / 'study.db'}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "study.db"


class TestRoundTrip:
    def test_everything_comes_back(self, url: str) -> None:
        study = small_sweep.study()
        with Store(url) as store:
            store.add_study(study, data=FACTS, provenance={"torch": "2.13"})
            run = add(store, a_run())
            points = [point_at(run.config, step) for step in (0, 1)]
            store.launched(run.id, device="cuda:1", attempt=3)
            store.add_points([(run.id, point) for point in points], name="small", seconds=12.5)
            store.ended(
                run.id, outcome="complete", reason="", step=20, seconds=9.0, val_loss=3.25, val_se=0.5, pruning=None
            )
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

    @pytest.mark.parametrize(
        "pruning",
        [
            PRUNING,
            dataclasses.replace(PRUNING, reason="diverged", predicted=None, scale=None, degrees=None, low=None),
            dataclasses.replace(PRUNING, rule="median", best_so_far=4.0, peers_median=3.9, peers_best=0.1 + 0.2),
        ],
        ids=lambda pruning: pruning.reason + pruning.rule,
    )
    def test_why_a_run_was_pruned_comes_back(self, url: str, pruning: Pruning) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            store.ended(
                run.id, outcome="pruned", reason="r", step=4, seconds=1.0, val_loss=None, val_se=None, pruning=pruning
            )
            assert store.results("small").runs[0].pruning == pruning

    def test_the_names_of_an_earlier_version_are_the_present_ones(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            add(store, dataclasses.replace(a_run(), origin="star", key="star:dropout:high"))
            (run,) = store.results("small").runs
        assert (run.origin, run.key) == ("one-at-a-time", "one-at-a-time:dropout:high")

    def test_a_sentinel_is_noted_with_its_event_and_stays_one_when_it_ends(self, url: str) -> None:
        sentinel = dataclasses.replace(PRUNING, sentinel=True)
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            store.decided("small", run.id, sentinel)
            store.launched(run.id, device="cpu", attempt=2)
            (noted,) = store.results("small").runs
            assert (noted.outcome, noted.pruning) == ("running", sentinel)
            store.ended(
                run.id, outcome="complete", reason="", step=20, seconds=1.0, val_loss=3.7, val_se=0.1, pruning=sentinel
            )
            assert store.results("small").runs[0].pruning == sentinel
            events = [(event.run, event.kind, event.detail) for event in store.events("small")]
        assert events == [(run.id, "sentinel", sentinel.why)]

    def test_a_sentinel_is_never_noted_without_its_event(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            with store.storage.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE event")
            with pytest.raises(sa.exc.OperationalError):
                store.decided("small", run.id, dataclasses.replace(PRUNING, sentinel=True))
            assert store.results("small").runs[0].pruning is None

    def test_nan_and_none_stay_apart(self, url: str) -> None:
        # SQLite has no NaN: it keeps NULL
        point = dataclasses.replace(
            point_at(small_sweep.baseline(), 3),
            val_loss=math.nan,
            val_se=math.nan,
            train_loss=math.inf,
            grad_norm=None,
        )
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            store.add_points([(run.id, point)], name="small", seconds=0.0)
            read = store.results("small").runs[0].points[0]
        assert math.isnan(read.val_loss)
        assert math.isnan(read.val_se)
        assert read.train_loss == math.inf
        assert read.grad_norm is None

    def test_a_point_is_kept_once_and_its_first_value_stays(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            point = point_at(run.config, 0)
            again = dataclasses.replace(point, seconds=99.0)
            store.add_points([(run.id, point)], name="small", seconds=1.0)
            store.add_points([(run.id, again), (run.id, point_at(run.config, 1))], name="small", seconds=2.0)
            points = store.results("small").runs[0].points
        assert [(one.step, one.seconds) for one in points] == [(0, 0.0), (1, 0.5)]

    def test_a_running_run_has_the_seconds_of_its_last_point(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            store.add_points([(run.id, point_at(run.config, 8))], name="small", seconds=1.0)
            assert store.results("small").runs[0].seconds == 4.0

    def test_studies_in_one_file_are_apart(self, url: str) -> None:
        with Store(url) as store:
            for name in ("small", "other"):
                store.add_study(small_sweep.study(name=name), data=FACTS, provenance={})
            add(store, a_run())
            assert store.names() == ["small", "other"]
            assert len(store.results("small").runs) == 1
            assert store.results("other").runs == ()

    def test_an_unknown_study_is_told_the_known_ones(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            with pytest.raises(NotFound, match=r"'nothing'; it has: small"):
                store.results("nothing")

    def test_an_optuna_study_of_that_name_is_not_taken_over(self, url: str) -> None:
        with Store(url) as store:
            optuna.create_study(storage=store.storage, study_name="small")
            with pytest.raises(StoreError, match="give this study another name"):
                store.add_study(small_sweep.study(), data=FACTS, provenance={})


class TestFile:
    def test_the_writer_has_wal_and_synchronous_normal(self, url: str) -> None:
        with Store(url) as store, store.storage.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1

    def test_a_reader_works_in_the_middle_of_a_write(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            run = add(store, a_run())
            with sa.create_engine(url).begin() as writing:
                writing.exec_driver_sql("UPDATE run SET reason = 'half done'")
                with Reader(url) as reader:
                    assert reader.results("small").runs[0].reason == ""
            assert store.results("small").runs[0].reason == "half done"
            store.launched(run.id, device="cpu", attempt=1)  # and no reader holds the writer up

    def test_a_reader_writes_nothing(self, url: str) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
        with Reader(url) as reader, reader._engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql("DELETE FROM study")

    def test_optuna_reads_the_file_as_it_is(self, url: str) -> None:
        with Store(url) as store:
            OptunaTrials(small_sweep.study(), store.storage)
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
        with pytest.raises(StoreError, match="cannot be created here"):
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
        with pytest.raises(StoreError, match=words) as caught, as_store_errors(Path("/runs/study.db")):
            raise sqlite3.OperationalError(said)
        assert said in str(caught.value)

    def test_our_own_mistakes_in_sql_are_no_mistakes_of_the_user(self) -> None:
        with pytest.raises(sqlite3.OperationalError), as_store_errors(Path("/runs/study.db")):
            raise sqlite3.OperationalError("no such column: nothing")

    def test_a_reader_makes_no_file(self, url: str, path: Path) -> None:
        with pytest.raises(StoreError, match="there is no store here"):
            Reader(url)
        assert not path.exists()


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


EVERYTHING = ("SELECT * FROM run", "SELECT * FROM study", "SELECT * FROM point", "SELECT * FROM event")


class TestMigrations:
    def columns(self, path: Path) -> dict[str, list[tuple[str, str, int, int]]]:
        with closing(sqlite3.connect(path)) as connection:
            return {
                table: [
                    (name, kind, required, key)
                    for _, name, kind, required, _, key in connection.execute(f"PRAGMA table_info({table})")
                ]
                for table in tables.TABLES.tables
            }

    def test_the_last_migration_leads_to_the_tables_that_the_code_uses(self, url: str, path: Path) -> None:
        Store(url).close()
        fresh = path.with_name("fresh.db")
        engine = sa.create_engine(f"sqlite:///{fresh}")
        tables.TABLES.create_all(engine)
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
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
            assert optuna.get_all_study_names(store.storage) == ["somebody's"]
        with Reader(url) as reader:
            assert reader.names() == ["small"]

    def test_an_older_file_keeps_its_rows(self, url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
        monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, ("ALTER TABLE run ADD COLUMN more TEXT",)))
        monkeypatch.setattr(tables, "VERSION", tables.VERSION + 1)
        with pytest.raises(StoreError, match="older plateau-sweep"):
            Reader(url)
        with Store(url) as store:
            assert store.results("small").study == small_sweep.study()
        assert "more" in [column[0] for column in self.columns(path)["run"]]
        with Store(url) as store:  # once
            assert store.names() == ["small"]

    def test_version_1_is_brought_up_to_date_and_keeps_everything(self, url: str, path: Path) -> None:
        """Rows written in SQL, as the first version had its tables."""
        spec, config = small_sweep.study().model_dump_json(), json.dumps(small_sweep.baseline().as_dict())
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in VERSION_1:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO study VALUES (1, 'small', ?, ?, '{}', '2026-01-02T03:04:05+00:00', 99.5)",
                [spec, json.dumps(dataclasses.asdict(FACTS))],
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
        with pytest.raises(StoreError, match=r"older plateau-sweep \(schema version 1, now 2\); `sweep run`"):
            Reader(url)
        with Store(url) as store:
            (run,) = store.results("small").runs
            events = store.events("small")
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT version FROM schema_version").fetchall() == [(2,)]
            after = [list(connection.execute(query)) for query in EVERYTHING]
        before[0] = [(*row, None) for row in before[0]]  # pruning
        assert after == before
        assert (run.id, run.outcome, run.reason, run.pruning) == (7, "pruned", "median: loss 4.1", None)
        assert run.params == {"dropout": 0.3}
        assert [(point.step, point.val_loss, point.seconds) for point in run.points] == [(0, 5.5, 0.25)]
        assert [(event.run, event.kind) for event in events] == [(7, "pruned")]
        with Reader(url) as reader:
            assert reader.results("small").study == small_sweep.study()

    def test_a_migration_that_fails_leaves_the_file_as_it_was(
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

    def test_a_study_of_other_settings_is_told_from_a_damaged_file(self, url: str, path: Path) -> None:
        with Store(url) as store:
            store.add_study(small_sweep.study(), data=FACTS, provenance={})
        spec = json.loads(small_sweep.study().model_dump_json()) | {"from_the_future": 1}
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE study SET spec = ?", [json.dumps(spec)])
        with Reader(url) as reader, pytest.raises(StoreError, match="stored by another plateau-sweep"):
            reader.results("small")


def _hold(path: Path, connection: Connection) -> None:
    with sqlite.hold(path, what="study 'small'"):
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
            sqlite.hold(path, what="study 'small'").__enter__()
        process.kill()
        process.join()
        with sqlite.hold(path, what="study 'small'"):
            pass
        ours.close()
        theirs.close()
        process.close()


def test_point_columns_are_the_fields_of_a_point() -> None:
    fields = [field.name for field in dataclasses.fields(Point)]
    assert [column.name for column in tables.point.c] == ["run_id", *fields]
