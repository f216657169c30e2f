"""A whole sweep by its command on a PostgreSQL server: two studies in one database, and no trace of the password."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

from sweeps.store.store import Reader
from tests.e2e.test_sweep import COMMAND, Call, call, write_study  # noqa: F401  # `call` is a fixture
from tests.helpers.postgresql_server import Server

OPTIONS = ["--set", "workers.devices=[cpu]", "--set", "trials=3", "--set", "baseline_seeds=1"]


@pytest.mark.usefixtures("call")
def test_two_studies_share_a_database_and_the_password_is_nowhere(
    tmp_path: Path,
    postgresql: Server,
    postgresql_url: str,
    call: Call,  # noqa: F811
) -> None:
    begun, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    begun.mkdir()
    elsewhere.mkdir()
    write_study(begun)
    said = []
    for name in ("one", "two"):
        done = call(
            begun, "run", "tiny.yaml", *OPTIONS, "--set", f"name={name}", "--set", f"store={postgresql_url}", "--json"
        )
        assert json.loads(done.stdout.splitlines()[-1])["store"] == postgresql_url
        said += [done.stdout, done.stderr]
    shown = call(begun, "status", "one").stdout
    assert "4 of 4 runs: 4 complete" in shown
    assert call(elsewhere, "status", f"{postgresql_url}#two").stdout.startswith("two: 4 of 4 runs")
    several = call(elsewhere, "verdict", postgresql_url, code=2)
    assert "holds several studies: one, two" in several.stderr
    said += [shown, several.stderr, call(begun, "verdict", "one", "--full").stdout]

    process = subprocess.Popen(
        [*COMMAND, "dashboard", "one", "--json", "--no-browser"], cwd=begun, stdout=subprocess.PIPE, text=True
    )
    with contextlib.ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.terminate)
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["url"]
        with urllib.request.urlopen(f"{address}/api/studies") as answer:  # noqa: S310  # our own
            names = {study["study_name"] for study in json.load(answer)["study_summaries"]}
        assert names == {"one", "one-confirm", "two", "two-confirm"}
        if (arguments := Path(f"/proc/{process.pid}/cmdline")).exists():  # on Linux
            said.append(arguments.read_text())
        process.stdout.close()

    with Reader(postgresql_url) as reader:
        stored = reader.results("one")
    assert stored.store is None
    said += [stored.study.model_dump_json(), str(stored.provenance)]
    written = [path for path in begun.rglob("*") if path.is_file()]
    assert (begun / "runs" / "one" / "report.html") in written
    assert not [path for path in written if path.suffix == ".db"]
    assert [path for path in written if postgresql.password.encode() in path.read_bytes()] == []
    assert not any(postgresql.password in text for text in said)
    dump = postgresql.run("pg_dump", "-h", "127.0.0.1", "-p", str(postgresql.port), "-U", "sweep",
                          postgresql_url.rpartition("/")[2])  # fmt: skip
    assert postgresql_url in dump
    assert postgresql.password not in dump


@pytest.mark.usefixtures("call")
def test_a_url_with_a_password_is_refused_before_anything_runs(tmp_path: Path, call: Call) -> None:  # noqa: F811
    write_study(tmp_path)
    store = "store=postgresql+psycopg://sweep:hunter2@127.0.0.1/sweeps"
    refused = call(tmp_path, "run", "tiny.yaml", "--set", store, code=2)
    assert "holds a password" in refused.stderr
    assert "PGPASSWORD or in the file ~/.pgpass" in refused.stderr
    assert "hunter2" not in refused.stderr + refused.stdout
    assert not (tmp_path / "runs").exists()
