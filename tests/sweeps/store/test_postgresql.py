"""A store on a real PostgreSQL server: its passwords, its errors with a remedy, and the lock of its driver."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import sqlalchemy as sa

from sweeps.errors import NotFound, StoreBusy, StoreError
from sweeps.store import locate, tables
from sweeps.store.database import is_running
from sweeps.store.postgresql import key_of, remedy_for
from sweeps.store.store import Reader, Store
from tests.helpers import small_sweep
from tests.helpers.fake_training import point_at
from tests.helpers.postgresql_server import Server
from tests.sweeps.store.test_store import ended, started


def write_study(url: str, name: str = "small") -> None:
    with Store(url) as store:
        store.add_study(small_sweep.study(name=name), data=small_sweep.FACTS, provenance={})


def query(url: str, text: str) -> list[tuple[object, ...]]:
    """Ask the server over a connection of the test's own."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text))]
    finally:
        engine.dispose()


class TestTables:
    def test_they_are_of_the_newest_version_with_sqlites_columns(self, postgresql_url: str, tmp_path: Path) -> None:
        file = f"sqlite:///{tmp_path / 'study.db'}"
        for url in (file, postgresql_url):
            Store(url).close()
            Store(url).close()
        assert query(postgresql_url, "SELECT version FROM schema_version") == [(tables.VERSION,)]
        found = []
        for url in (file, postgresql_url):
            engine = sa.create_engine(url)
            inspector = sa.inspect(engine)
            found.append(
                {
                    table: [(column["name"], column["nullable"]) for column in inspector.get_columns(table)]
                    for table in tables.TABLES.tables
                }
            )
            engine.dispose()
        assert found[0] == found[1]

    def test_a_run_of_a_trillion_tokens_fits(self, postgresql_url: str) -> None:
        write_study(postgresql_url)
        with Store(postgresql_url) as store:
            run = started(store)
            vast = point_at(run.config, 1)
            object.__setattr__(vast, "tokens", 10**12)
            store.add_points([(run.id, vast)], name="small", seconds=0.0)
            assert store.results("small").runs[0].points[0].tokens == 10**12

    def test_two_drivers_may_make_them_at_once(self, postgresql_url: str) -> None:
        failed: list[BaseException] = []

        def make(name: str) -> None:
            try:
                write_study(postgresql_url, name)
            except BaseException as error:  # noqa: BLE001  # shown by the test
                failed.append(error)

        threads = [threading.Thread(target=make, args=(name,)) for name in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        with Reader(postgresql_url) as reader:
            assert sorted(reader.names()) == ["one", "three", "two"]

    def test_an_empty_database_holds_no_store_and_gets_none_from_a_reader(self, postgresql_url: str) -> None:
        with pytest.raises(StoreError, match=r"there is no store here; `sweep run` creates one$"):
            Reader(postgresql_url)
        assert query(postgresql_url, "SELECT to_regclass('study')") == [(None,)]

    def test_a_newer_store_is_refused(self, postgresql_url: str) -> None:
        with Store(postgresql_url) as store, store._engine.begin() as connection:
            connection.execute(tables.schema_version.update().values(version=tables.VERSION + 1))
        for kind in (Reader, Store):
            with pytest.raises(StoreError, match="upgrade plateau-sweep"):
                kind(postgresql_url)

    def test_text_with_a_character_that_postgresql_refuses_is_stored(self, postgresql_url: str) -> None:
        write_study(postgresql_url)
        with Store(postgresql_url) as store:
            run = started(store)
            ended(store, run, reason="log: a\x00b")
            store.add_event("small", "crashed", "a\x00b", run=run.id)
            assert store.results("small").runs[0].reason == "log: a\\x00b"
            assert store.events("small")[0].detail == "a\\x00b"


class TestPassword:
    """It comes from PGPASSWORD, a file that PGPASSWORD_FILE names, or a password file; never from the URL."""

    def test_it_is_read_from_a_file(
        self, postgresql: Server, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_study(postgresql_url)
        monkeypatch.delenv("PGPASSWORD")
        secret = tmp_path / "secret"
        secret.write_text(f"{postgresql.password}\n")
        monkeypatch.setenv("PGPASSWORD_FILE", str(secret))
        with Reader(postgresql_url) as reader:
            assert reader.names() == ["small"]
        monkeypatch.setenv("PGPASSWORD_FILE", str(tmp_path / "missing"))
        with pytest.raises(StoreError, match=r"PGPASSWORD_FILE: .*missing can't be read: No such file"):
            Reader(postgresql_url)

    def test_it_is_read_from_libpqs_password_file(
        self, postgresql: Server, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_study(postgresql_url)
        monkeypatch.delenv("PGPASSWORD")
        file = tmp_path / "pgpass"
        file.write_text(f"127.0.0.1:*:*:sweep:{postgresql.password}\n")
        file.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(file))
        with Reader(postgresql_url) as reader:
            assert reader.names() == ["small"]

    @pytest.mark.parametrize("kind", [Store, Reader])
    def test_a_url_with_a_password_is_refused_without_repeating_it(self, kind: type[Reader]) -> None:
        for url in (
            "postgresql+psycopg://user:secret@host/db",
            "postgresql+psycopg://user:sec/secret@host/db",
            "postgresql+psycopg://user@host/db?password=secret",
            "postgresql://user:secret@host/db",
            "mysql://user:secret@host/db",
        ):
            with pytest.raises(StoreError, match=r"write (sqlite|postgresql\+psycopg)://") as caught:
                kind(url)
            assert "secret" not in str(caught.value)

    def test_a_wrong_one_gets_a_remedy_and_is_not_shown(
        self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGPASSWORD", "mistaken")
        with pytest.raises(StoreError, match="PGPASSWORD, in a file that PGPASSWORD_FILE names") as caught:
            Store(postgresql_url)
        assert "mistaken" not in str(caught.value)


class TestErrors:
    @pytest.mark.parametrize(
        ("old", "new", "remedy"),
        [
            ("sweeps", "missing", "no such user or database"),
            ("127.0.0.1", "no-such-host.invalid", "no PostgreSQL server answers"),
            ("127.0.0.1:", "127.0.0.1:1", "can't be read"),
        ],
    )
    def test_a_server_that_cannot_be_used_is_named_with_a_remedy(
        self, postgresql_url: str, old: str, new: str, remedy: str
    ) -> None:
        with pytest.raises(StoreError, match=remedy) as caught:
            Store(postgresql_url.replace(old, new))
        assert str(caught.value).startswith(("postgresql+psycopg://sweep@", "store: "))

    @pytest.mark.parametrize(
        ("code", "text", "remedy"),
        [
            ("53100", "could not extend file: No space left on device", "disk is full"),
            ("42501", "permission denied for schema public", "GRANT CREATE ON SCHEMA"),
            ("25006", "cannot execute INSERT in a read-only transaction", "standby"),
            ("57P01", "terminating connection due to administrator command", "connection to the server was lost"),
            (None, 'no pg_hba.conf entry for host "10.0.0.1"', "pg_hba.conf; add one"),
        ],
    )
    def test_remedies(self, code: str | None, text: str, remedy: str) -> None:
        assert remedy in str(remedy_for(code, text))

    def test_a_user_without_rights_is_told_what_to_grant(
        self, postgresql: Server, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"guest_of_{postgresql_url.rpartition('/')[2]}"
        postgresql.run("psql", "-h", "127.0.0.1", "-p", str(postgresql.port), "-U", "sweep", "-d", "postgres",
                       "-c", f"CREATE ROLE {name} LOGIN PASSWORD 'guest'")  # fmt: skip
        monkeypatch.setenv("PGPASSWORD", "guest")
        with pytest.raises(StoreError, match="GRANT CREATE ON SCHEMA public"):
            Store(postgresql_url.replace("sweep@", f"{name}@"))

    def test_an_error_in_our_own_sql_is_not_blamed_on_the_user(self, postgresql_url: str) -> None:
        with Store(postgresql_url) as store, pytest.raises(sa.exc.ProgrammingError), store._write() as connection:
            connection.exec_driver_sql("SELECT nothing FROM nowhere")


def _hold(url: str, connection: Connection) -> None:
    """Hold the study's lock in another process until that process is killed."""
    with Store(url) as store, store.lock("small"):
        connection.send("held")
        connection.recv()


class TestLock:
    def test_a_second_driver_learns_who_runs_the_study_and_since_when(self, postgresql_url: str) -> None:
        with Store(postgresql_url) as store, store.lock("small"):
            with (
                Store(postgresql_url) as second,
                pytest.raises(StoreBusy, match=rf"process {os.getpid()} on .* since 20"),
            ):
                second.lock("small").__enter__()
            with Store(postgresql_url) as second, second.lock("other"):
                assert is_running(postgresql_url, "other")
            assert is_running(postgresql_url, "small")
            assert not is_running(postgresql_url, "other")
        with Store(postgresql_url) as store, store.lock("small"):
            pass

    def test_the_lock_of_a_killed_driver_is_free(self, postgresql_url: str) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe()
        process = context.Process(target=_hold, args=(postgresql_url, sender))
        Store(postgresql_url).close()
        process.start()
        assert receiver.recv() == "held"
        with Store(postgresql_url) as store, pytest.raises(StoreBusy, match=rf"by process {process.pid} on "):
            store.lock("small").__enter__()
        process.kill()
        process.join()
        key = key_of("small")
        waited = "SELECT pg_advisory_lock(:key), pg_advisory_unlock(:key)".replace(":key", str(key))
        query(postgresql_url, waited)  # until the server has noticed
        with Store(postgresql_url) as store, store.lock("small"):
            pass
        receiver.close()
        sender.close()
        process.close()

    def test_a_driver_that_lost_its_connection_writes_no_more(self, postgresql_url: str) -> None:
        write_study(postgresql_url)
        with Store(postgresql_url) as store, store.lock("small"):
            run = started(store)
            (holder,) = query(postgresql_url, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
            query(postgresql_url, f"SELECT pg_terminate_backend({holder[0]}, 60000)")
            for words in ("connection to the server was lost", "and with it the study's lock"):
                with pytest.raises(StoreError, match=words):
                    store.launched(run.id, device="cpu", kinds=("cpu",), attempt=1)
            with Store(postgresql_url) as second, second.lock("small"):
                assert second.results("small").runs[0].device == "cpu"  # as it was added


class TestLocate:
    def test_a_study_is_found_by_its_url_or_its_folder(
        self, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_study(postgresql_url)
        located, results = locate.read(postgresql_url)
        assert (located.name, located.url, located.paths.root) == ("small", postgresql_url, tmp_path / "runs" / "small")
        assert results.command("status") == "sweep status small"
        write_study(postgresql_url, "other")
        with pytest.raises(NotFound, match=r"several studies: small, other; .* or as postgresql.*#STUDY"):
            locate.locate(postgresql_url)
        assert locate.locate(f"{postgresql_url}#other").name == "other"
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "store.url").write_text(locate.address_of(postgresql_url, "other"))
        located, results = locate.read("other", out=elsewhere)
        assert (located.name, located.paths.root) == ("other", elsewhere)
        assert results.command("status") == "sweep status other --out elsewhere"
        assert locate.locate("elsewhere").name == "other"
