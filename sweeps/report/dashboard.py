"""optuna-dashboard of a study's store: a server, and the notes, figures and files that it shows.

The server listens on this machine only unless told otherwise, because optuna-dashboard has no passwords, and it takes
no request that would change the study.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import ipaddress
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import yaml
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.samplers import RandomSampler
from optuna_dashboard import get_note, save_note, save_plotly_graph_object

from sweeps.analysis.findings import Findings
from sweeps.errors import StoreError
from sweeps.export.trial import export_run
from sweeps.paths import StudyPaths, log_of
from sweeps.report.figures.style import Picture
from sweeps.store.database import database_of
from sweeps.store.records import Outcome, Results, Run
from sweeps.store.store import Reader, optuna_trial
from sweeps.study.origin_runs import ORIGIN, RACE
from sweeps.study.study import CONFIRM
from sweeps.text import changes, joined
from sweeps.verdict.verdict import verdict
from trainer.config import TrainConfig
from trainer.errors import UserError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  # for a container, whose published port reaches no loopback address


def serve(
    url: str,
    *,
    host: str = HOST,
    port: int = 0,
    artifacts: Path | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the dashboard of the store at `url` until Ctrl-C; a sweep may run meanwhile.

    `host`: the address to listen on. `port`: 0 takes any free port. `artifacts`: folder of the study's files.
    `announce`: called with the address. Raises StoreError for a URL without a store, UserError for a port that is taken
    and for an address that isn't this machine's.
    """
    with server(url, host=host, port=port, artifacts=artifacts) as running:
        # wsgiref swallows a Ctrl-C during a request, so requests are answered in a thread
        answering = threading.Thread(target=running.serve_forever, daemon=True)
        answering.start()
        try:
            with contextlib.suppress(KeyboardInterrupt):
                announce(address_of(running))
                answering.join()
        finally:  # SIGTERM raises SystemExit
            running.shutdown()
            answering.join()


def is_private(host: str) -> bool:
    """Whether only this machine can reach the address. A name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def server(url: str, *, host: str = HOST, port: int = 0, artifacts: Path | None = None) -> Iterator[WSGIServer]:
    """Yield the dashboard's server, bound to its address and not serving yet; raises as `serve` does."""
    with Reader(url):  # raises a clear error without a store; Optuna would create an empty one
        pass
    try:
        with database_of(url).errors():
            storage = database_of(url).optuna_storage()
    except RuntimeError as error:
        raise StoreError(
            f"{database_of(url).name}: its tables are not those of Optuna {optuna.__version__}; use the version that "
            "wrote it"
        ) from error
    try:
        has_artifacts = artifacts is not None and artifacts.is_dir()
        artifact_store = FileSystemArtifactStore(str(artifacts)) if has_artifacts else None
        app = _read_only(optuna_dashboard.wsgi(storage, artifact_store=artifact_store), host=host)
        try:
            running = make_server(host, port, app, handler_class=_Quiet)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise UserError(
                    f"--host {host}: {error.strerror}; name an IPv4 address of this machine, or {EVERY_ADDRESS} for all"
                ) from error
            raise UserError(f"port {port} is not available: {error.strerror}; --port 0 takes a free port") from error
        with running:
            yield running
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _read_only(app: WSGIApplication, *, host: str) -> WSGIApplication:
    """Let requests read the study, and refuse those that would change it or come from another site's page.

    A page that a person visits may ask their browser for any address, also for one under a name of its own that it lets
    point to this machine. Deleted trials, of all things, would end the sweep.
    """

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_private(host) and not is_private(_name_of(environ.get("HTTP_HOST", HOST))):
            refusal = f"this dashboard is served to this machine only, not as {environ['HTTP_HOST']}"
        elif environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            refusal = "this dashboard shows a study and changes nothing"
        else:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{refusal}\n".encode()]

    return guarded


def _name_of(host: str) -> str:
    """Return the host of a Host header, without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def address_of(running: WSGIServer) -> str:
    """Return the address to open in a browser."""
    host = str(running.server_address[0])
    return f"http://{HOST if host == EVERY_ADDRESS else host}:{running.server_port}"


class _Quiet(WSGIRequestHandler):
    """Answers requests without logging them."""

    def log_message(self, format: str, *args: Any) -> None: ...


_MAX_HEIGHT = 450
"""pixels that the dashboard has for a figure"""
_NOTES = "notes"
"""user attribute of a study: the CRC-32 of each trial's note, so that only changed notes are written"""
_NO_NOTE = zlib.crc32(b"")


def publish_to_dashboard(
    findings: Findings,
    storage: optuna.storages.RDBStorage,
    paths: StudyPaths,
    *,
    pictures: Sequence[Picture],
    today: datetime.date,
) -> None:
    """Write a study's notes, the figures of its `pictures` and its artifacts into its Optuna studies in `storage`."""
    name = findings.study.name
    search, confirming = (
        optuna.load_study(study_name=study_name, storage=storage, sampler=RandomSampler(seed=0))
        for study_name in (name, name + CONFIRM)
    )
    for study in (search, confirming):
        _note_trials(study, storage, findings.results)
    _note(search, study_note(findings))
    _note(confirming, confirm_note(findings.results))
    for key, figure in titled_figures(pictures).items():
        save_plotly_graph_object(search, figure, graph_object_id=key)
    _upload(search, artifacts(findings, paths, today=today), paths.artifacts)


def _note_trials(study: optuna.Study, storage: optuna.storages.RDBStorage, results: Results) -> None:
    notes = {
        str(run.trial): trial_note(run, best=results.best, reference=compared_with(run, results))
        for run in results.runs
        if run.optuna_study == study.study_name
    }
    checksums = {number: zlib.crc32(note.encode()) for number, note in notes.items()}
    written: Mapping[str, int] = study.user_attrs.get(_NOTES, {})
    for number, note in notes.items():
        if checksums[number] != written.get(number, _NO_NOTE):
            save_note(optuna_trial(storage, study, int(number)), note)
    if checksums != written:
        study.set_user_attr(_NOTES, checksums)


def study_note(findings: Findings) -> str:
    """Return the verdict as Markdown."""
    words = verdict(findings)
    parts = [f"## {words.headline}"]
    for heading, sentences in words.groups.items():
        parts.append(f"### {heading}\n\n" + "\n".join(f"- {sentence}" for sentence in sentences))
    return "\n\n".join(parts)


def confirm_note(results: Results) -> str:
    """Return what the Optuna study of the confirm phase is for, as Markdown."""
    groundwork = "; the origin, the origin going on, and the races" if results.study.branches else ""
    return (
        f"Runs of `{results.study.name}` on seeds that its search has not seen, and candidates outside its space"
        f"{groundwork}. Neither its sampler nor its pruner sees them. The verdict based on them is the note of that "
        "study."
    )


def compared_with(run: Run, results: Results) -> TrainConfig | None:
    """Return the config that a run's note compares it with: the baseline's, for a race the origin's.

    None: nothing, for the origin itself and for the origin going on.
    """
    if not run.before_trials:
        return results.reference
    origin = next((other.config for other in results.runs if other.phase == RACE and other.knob is None), None)
    if origin is None:
        origin = next((other.config for other in results.runs if other.origin == ORIGIN), None)
    return origin if run.phase == RACE else None


def trial_note(run: Run, *, best: Run | None, reference: TrainConfig | None) -> str:
    """Return a trial's changes and why it is remarkable, as Markdown; empty for a sampled trial that just completed.

    `reference`: the config that it is compared with. None: nothing.
    """
    is_best = best is not None and best.id == run.id
    if run.origin == "sampler" and run.outcome == Outcome.COMPLETE and run.pruning is None and not is_best:
        return ""
    changed = {} if reference is None else changes(run.config, reference)
    lines = [f"**{'The best trial: ' if is_best else ''}{run.label}** (run {run.id}, seed {run.seed})"]
    if changed:
        lines.append("Differs from the baseline in " + joined(f"{name} {values}" for name, values in changed.items()))
    if run.pruning is not None:
        lines.append(f"{'Sentinel, went on' if run.pruning.sentinel else 'Stopped'}: {run.pruning.why}")
    elif run.outcome != Outcome.COMPLETE:
        lines.append(f"{run.outcome.capitalize()}{f': {run.reason}' if run.reason else ''}")
    if run.val_loss is not None:
        lines.append(f"Final loss {run.val_loss:.4f} nats")
    return "\n\n".join(lines)


def titled_figures(pictures: Iterable[Picture]) -> Mapping[str, go.Figure]:
    """Return the pictures' figures by id. Each shows its title, for which the dashboard has no other place."""
    figures = {}
    for picture in pictures:
        for index, figure in enumerate(picture.figures):
            titled = go.Figure(figure)
            title = picture.title if index == 0 else f"{picture.title} ({index + 1})"
            height = min(_MAX_HEIGHT, figure.layout.height or _MAX_HEIGHT)
            titled.update_layout(title={"text": title, "x": 0, "font": {"size": 15}}, margin_t=48, height=height)
            figures[f"{picture.key}-{index}"] = titled
    return figures


def artifacts(findings: Findings, paths: StudyPaths, *, today: datetime.date) -> Iterator[tuple[str, str]]:
    """Yield name and text of the files kept with a study: its resolved YAML, and the best's config, export and log."""
    study, best = findings.study, findings.to_train
    yield f"{study.name}.yaml", yaml.safe_dump(study.as_written(), sort_keys=False)
    if best is None:
        return
    yield f"{study.name}-best.yaml", yaml.safe_dump(best.config.as_dict(), sort_keys=False)
    try:
        exported = export_run(findings, best, date=today.isoformat())
    except UserError:  # a config that nanoGPT can't express
        exported = None
    if exported is not None:
        yield f"{study.name}-best.py", exported.text
    log = log_of(paths.run(best.id))
    if log.exists():
        yield f"{study.name}-best.log", log.read_text(encoding="utf-8", errors="replace")


def _note(study: optuna.Study, text: str) -> None:
    if get_note(study) != text:
        save_note(study, text)


def _upload(study: optuna.Study, files: Iterable[tuple[str, str]], folder: Path) -> None:
    """Upload files to the study, replacing those that have the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(str(folder))
    uploaded = {artifact.filename: artifact.artifact_id for artifact in get_all_artifact_meta(study)}
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in files:
            if name in uploaded:
                store.write(uploaded[name], io.BytesIO(text.encode("utf-8")))
            else:
                path = Path(temporary, name)
                path.write_text(text, encoding="utf-8")
                upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
