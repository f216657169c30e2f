"""optuna-dashboard on a study's store, during the sweep and after it."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
import yaml

from sweeps.analysis.findings import Findings
from sweeps.errors import StoreError
from sweeps.paths import StudyPaths
from sweeps.report.album import album_of
from sweeps.report.dashboard import (
    address_of,
    is_private,
    publish_to_dashboard,
    serve,
    server,
    study_note,
    titled_figures,
)
from sweeps.store.sqlite import url_of
from sweeps.store.store import Store
from sweeps.verdict.verdict import verdict
from tests.helpers import small_sweep
from trainer.errors import UserError


@contextlib.contextmanager
def dashboard(folder: Path) -> Iterator[Callable[..., Any]]:
    """Serve a study's dashboard. Yield a function from a path to its parsed answer."""
    paths = StudyPaths(folder)
    with server(f"sqlite:///{paths.store}", artifacts=paths.artifacts) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def ask(path: str, parse: Callable[[str], Any] = json.loads) -> Any:
            with urllib.request.urlopen(address_of(running) + path, timeout=60) as response:  # noqa: S310  # our own
                return parse(response.read().decode())

        try:
            yield ask
        finally:
            running.shutdown()
            thread.join()


def states(ask: Callable[[str], Any], study: int) -> list[str]:
    return [trial["state"] for trial in ask(f"/api/studies/{study}")["trials"]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a small study has been run."""
    folder = tmp_path_factory.mktemp("swept")
    small_sweep.sweep(folder, small_sweep.study(trials=1, baseline_seeds=1))
    return folder


def test_a_store_in_a_folder_with_an_odd_name_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "what? {x} 50%"
    with Store(url_of(StudyPaths(folder).store)) as store:
        store.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance={})
        store.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], study_name="served")
    with dashboard(folder) as ask:
        assert [study["study_name"] for study in ask("/api/studies")["study_summaries"]] == ["served"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_it_shows_a_sweep_while_it_runs_and_when_it_has_ended(tmp_path: Path) -> None:
    during: list[list[str]] = []
    spec = small_sweep.study(knobs={"dropout": {"low": 0.0, "high": 0.4}}, baseline_seeds=2, trials=2)

    def look(tick: int) -> None:
        if tick == 60:  # the baseline's two seeds have ended (22 ticks each), and the third run is under way
            with dashboard(tmp_path) as ask:
                during.append(states(ask, 1))
                names = {study["study_name"]: study["study_id"] for study in ask("/api/studies")["study_summaries"]}
                assert names == {"small": 1, "small-confirm": 2}

    small_sweep.sweep(tmp_path, spec, at_tick=look)
    assert during == [["Complete", "Running"]]

    with dashboard(tmp_path) as ask:
        assert states(ask, 1) == ["Complete"] * 3
        assert states(ask, 2) == ["Complete"]
        trials = ask("/api/studies/1")["trials"]
        runs = [run for run in small_sweep.results_in(tmp_path).runs if run.optuna_study == "small"]
        assert [trial["values"] for trial in trials] == [[run.val_loss] for run in runs]
        assert len(trials[0]["intermediate_values"]) == 21
        attrs = {attr["key"]: attr["value"] for attr in trials[1]["user_attrs"]}
        assert attrs["label"] == "dropout at its high, 0.4"


def test_it_shows_the_verdict_the_figures_and_the_best_config(tmp_path: Path) -> None:
    spec = small_sweep.study(knobs={"dropout": {"low": 0.0, "high": 0.4}}, confirm={"seeds": 2, "max_trials": 4})
    small_sweep.sweep(tmp_path, spec)
    paths, results = StudyPaths(tmp_path), small_sweep.results_in(tmp_path)
    findings = Findings(results)
    with Store(f"sqlite:///{paths.store}") as store:
        for _ in range(2):  # the second call replaces what the first wrote
            publish_to_dashboard(
                findings, store.storage, paths, pictures=album_of(findings).pictures, today=datetime.date(2026, 11, 24)
            )
    with dashboard(tmp_path) as ask:
        study = ask("/api/studies/1")
        assert study["note"]["body"] == study_note(findings)
        assert verdict(findings).headline in study["note"]["body"]
        assert study["note"]["version"] == 1
        figure_keys = {graph["id"] for graph in study["plotly_graph_objects"]}
        assert figure_keys == set(titled_figures(album_of(findings).pictures))
        assert figure_keys
        names = [artifact["filename"] for artifact in study["artifacts"]]
        assert sorted(names) == ["small-best.py", "small-best.yaml", "small.yaml"]
        best = results.best
        assert best is not None
        files = {artifact["filename"]: artifact["artifact_id"] for artifact in study["artifacts"]}
        text = ask(f"/artifacts/1/{files['small-best.yaml']}", parse=str)
        assert yaml.safe_load(text) == best.config.as_dict()
        assert "best trial" in study["trials"][best.trial]["note"]["body"]
        assert "search has not seen" in ask("/api/studies/2")["note"]["body"]


def test_it_listens_on_this_machine_only_and_names_a_remedy_for_a_port_in_use(swept: Path) -> None:
    url = small_sweep.url_of(swept)
    with server(url) as running:
        assert running.server_address[0] == "127.0.0.1"
        with (
            pytest.raises(UserError, match=f"port {running.server_port} is not available: .*--port 0"),
            server(url, port=running.server_port),
        ):
            pass


def refused(running: WSGIServer, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Send a request to the dashboard's application; return the status and the body of its answer."""
    app, statuses = running.get_app(), list[str]()
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "127.0.0.1:8080", **headers}
    setup_testing_defaults(environ)
    assert app is not None
    body = b"".join(app(environ, lambda status, headers, error=None: statuses.append(status)))  # type: ignore[arg-type]
    return int(statuses[0].split()[0]), body.decode()


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "PATCH"])
def test_it_changes_nothing(swept: Path, method: str) -> None:
    with server(small_sweep.url_of(swept)) as running:
        status, body = refused(running, "/api/studies/1", method=method)
    assert (status, body) == (403, "this dashboard shows a study and changes nothing\n")
    assert len(small_sweep.optuna_trials_in(swept)) == 2


@pytest.mark.parametrize(
    ("name", "status"),
    [("127.0.0.1:80", 200), ("localhost", 200), ("[::1]:80", 200), ("evil.example", 403), ("192.0.2.1:80", 403)],
)
def test_only_this_machines_names_are_answered(swept: Path, name: str, status: int) -> None:
    """A page of another site may give its own name the address of this machine, and then read what it answers."""
    with server(small_sweep.url_of(swept)) as running:
        answered, body = refused(running, "/api/studies", HTTP_HOST=name)
    assert answered == status
    assert ("served to this machine only" in body) is (status == 403)


def test_an_open_address_has_any_name(swept: Path) -> None:
    with server(small_sweep.url_of(swept), host="0.0.0.0") as running:  # noqa: S104  # for a moment
        assert refused(running, "/api/studies", HTTP_HOST="lab.example")[0] == 200


def test_another_address_is_served_when_asked_for(swept: Path) -> None:
    url = small_sweep.url_of(swept)
    with server(url, host="0.0.0.0") as running:  # noqa: S104  # for a moment
        assert running.server_address[0] == "0.0.0.0"  # noqa: S104
        assert address_of(running) == f"http://127.0.0.1:{running.server_port}"  # a browser can't open 0.0.0.0
    with server(url, host="127.0.0.2") as running:
        assert address_of(running) == f"http://127.0.0.2:{running.server_port}"
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with (
            pytest.raises(UserError, match=rf"^--host {re.escape(host)}: .*; name an IPv4 address of this machine"),
            server(url, host=host),
        ):
            pass


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("192.168.1.5", False),
        ("my-laptop", False),
    ],
)
def test_an_address_is_private_if_only_this_machine_reaches_it(host: str, private: bool) -> None:
    assert is_private(host) is private


@pytest.mark.parametrize("host", [None, "0.0.0.0"])  # noqa: S104
def test_the_command_warns_of_an_open_address_and_ends_on_sigterm(swept: Path, host: str | None) -> None:
    """`docker stop` ends it with 143, and without a traceback of the thread that answers."""
    command = [sys.executable, "-m", "sweeps", "dashboard", str(swept), *(["--host", host] if host else ["--json"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        address = line.split()[0] if host else json.loads(line)["url"]
        with urllib.request.urlopen(f"{address}/api/studies", timeout=60) as response:  # noqa: S310  # our own
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
    assert process.returncode == 143
    warning = "warning: whoever can reach 0.0.0.0 can read this study: the dashboard has no password\n"
    assert errors == (warning if host else "")


def test_serve_announces_its_address_and_ends_on_ctrl_c(swept: Path) -> None:
    program = (
        # a process in the background ignores SIGINT, and its children inherit that
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from sweeps.report.dashboard import serve; serve(sys.argv[1], announce=lambda a: print(a, flush=True))"
    )
    command = [sys.executable, "-c", program, small_sweep.url_of(swept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/api/studies", timeout=60) as response:  # noqa: S310  # our own
            assert len(json.loads(response.read())["study_summaries"]) == 2
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def test_without_a_store_it_creates_none(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with pytest.raises(StoreError, match="there is no store here"):
        serve(f"sqlite:///{path}")
    assert not path.exists()
