"""optuna-dashboard over a study's store, on this machine only: it has no passwords and checks no host."""

from __future__ import annotations

import contextlib
import datetime
import io
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
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
from sweeps.store.records import Outcome, Results, Run
from sweeps.store.sqlite import path_of
from sweeps.store.store import Reader, optuna_trial
from sweeps.study.study import CONFIRM
from sweeps.text import changes, joined
from sweeps.verdict.verdict import verdict
from trainer.config import TrainConfig
from trainer.errors import UserError

HOST = "127.0.0.1"


def serve(url: str, *, port: int = 0, artifacts: Path | None = None, announce: Callable[[str], None] = print) -> None:
    """Show the store `url` until Ctrl-C; `announce` is told the address. Port 0 is any free one.

    `artifacts`: the folder of the files that trials have. A sweep may run meanwhile. Raises StoreError for a URL that
    is no store, UserError for a port that is taken.
    """
    with server(url, port=port, artifacts=artifacts) as running:
        # requests are answered in a thread of their own: wsgiref swallows a Ctrl-C that comes in the middle of one
        answering = threading.Thread(target=running.serve_forever, daemon=True)
        answering.start()
        with contextlib.suppress(KeyboardInterrupt):
            announce(address_of(running))
            answering.join()
        running.shutdown()
        answering.join()


@contextlib.contextmanager
def server(url: str, *, port: int = 0, artifacts: Path | None = None) -> Iterator[WSGIServer]:
    """The dashboard's server, bound to 127.0.0.1 and not serving yet."""
    with Reader(url):  # a clear word where there is no store, instead of an empty one
        pass
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path_of(url)}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
    except RuntimeError as error:
        raise StoreError(f"{path_of(url)}: its Optuna tables are not those of Optuna {optuna.__version__}") from error
    try:
        there = artifacts is not None and artifacts.is_dir()
        files = FileSystemArtifactStore(str(artifacts)) if there else None
        app = optuna_dashboard.wsgi(storage, artifact_store=files)
        try:
            running = make_server(HOST, port, app, handler_class=_Quiet)
        except OSError as error:
            raise UserError(f"port {port} can't be had: {error.strerror}; --port 0 takes a free one") from error
        with running:
            yield running
    finally:
        storage.remove_session()
        storage.engine.dispose()


def address_of(running: WSGIServer) -> str:
    """What to open in a browser."""
    return f"http://{HOST}:{running.server_port}"


class _Quiet(WSGIRequestHandler):
    """Without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None: ...


_HEIGHT = 450
"""pixels that the dashboard has for a figure"""
_NOTES = "notes"
"""user attribute of a study: the CRC-32 of each trial's note, so that only new notes are written"""
_NO_NOTE = zlib.crc32(b"")


def publish(
    findings: Findings,
    storage: optuna.storages.RDBStorage,
    paths: StudyPaths,
    *,
    pictures: Sequence[Picture],
    today: datetime.date,
) -> None:
    """Write notes, the figures of the `pictures` and artifacts of a study into its Optuna studies in `storage`."""
    name = findings.study.name
    search, confirming = (
        optuna.load_study(study_name=each, storage=storage, sampler=RandomSampler(seed=0))
        for each in (name, name + CONFIRM)
    )
    for study in (search, confirming):
        _note_trials(study, storage, findings.results)
    _note(search, study_note(findings))
    _note(confirming, confirm_note(findings.results))
    for number, figure in figures(pictures).items():
        save_plotly_graph_object(search, figure, graph_object_id=number)
    _keep(search, artifacts(findings, paths, today=today), paths.artifacts)


def _note_trials(study: optuna.Study, storage: optuna.storages.RDBStorage, results: Results) -> None:
    notes = {
        str(run.trial): trial_note(run, best=results.best, reference=results.reference)
        for run in results.runs
        if run.optuna_study == study.study_name
    }
    now = {number: zlib.crc32(text.encode()) for number, text in notes.items()}
    before: Mapping[str, int] = study.user_attrs.get(_NOTES, {})
    for number, text in notes.items():
        if now[number] != before.get(number, _NO_NOTE):
            save_note(optuna_trial(storage, study, int(number)), text)
    if now != before:
        study.set_user_attr(_NOTES, now)


def study_note(findings: Findings) -> str:
    """The verdict, as Markdown."""
    found = verdict(findings)
    parts = [f"## {found.headline}"]
    for heading, sentences in found.groups.items():
        parts.append(f"### {heading}\n\n" + "\n".join(f"- {sentence}" for sentence in sentences))
    return "\n\n".join(parts)


def confirm_note(results: Results) -> str:
    """What the study of further seeds is for."""
    return (
        f"Runs of `{results.study.name}` on seeds that its search has not seen, and candidates outside of its space: "
        "neither its sampler nor its pruner sees them. The verdict that they lead to is the note of that study."
    )


def trial_note(run: Run, *, best: Run | None, reference: TrainConfig | None) -> str:
    """Why a trial is remarkable and what it differs in, as Markdown; empty for one that merely completed.

    `reference`: the baseline's config.
    """
    is_best = best is not None and best.id == run.id
    if run.origin == "sampler" and run.outcome == Outcome.COMPLETE and run.pruning is None and not is_best:
        return ""
    changed = {} if reference is None else changes(run.config, reference)
    lines = [f"**{'The best trial: ' if is_best else ''}{run.label}** (run {run.id}, seed {run.seed})"]
    if changed:
        lines.append("Differs from the baseline in " + joined(f"{name} {values}" for name, values in changed.items()))
    if run.pruning is not None:
        lines.append(f"{'A sentinel, which went on' if run.pruning.sentinel else 'Stopped'}: {run.pruning.why}")
    elif run.outcome != Outcome.COMPLETE:
        lines.append(f"{run.outcome.capitalize()}{f': {run.reason}' if run.reason else ''}")
    if run.val_loss is not None:
        lines.append(f"Final loss {run.val_loss:.4f} nats")
    return "\n\n".join(lines)


def figures(pictures: Iterable[Picture]) -> Mapping[str, go.Figure]:
    """The pictures' figures by id, each with its title, which the dashboard has no other place for."""
    found = {}
    for picture in pictures:
        for index, figure in enumerate(picture.figures):
            titled = go.Figure(figure)
            title = picture.title if index == 0 else f"{picture.title} ({index + 1})"
            height = min(_HEIGHT, figure.layout.height or _HEIGHT)
            titled.update_layout(title={"text": title, "x": 0, "font": {"size": 15}}, margin_t=48, height=height)
            titled.update_layout(legend={"y": -0.18, "yanchor": "top"})  # above, it would meet the title
            found[f"{picture.key}-{index}"] = titled
    return found


def artifacts(findings: Findings, paths: StudyPaths, *, today: datetime.date) -> Iterator[tuple[str, str]]:
    """Files to keep with the study: its resolved YAML; config, export and log of the best (name, text)."""
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


def _keep(study: optuna.Study, files: Iterable[tuple[str, str]], folder: Path) -> None:
    """Upload files to the study; a file of a name that it has already is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(str(folder))
    there = {artifact.filename: artifact.artifact_id for artifact in get_all_artifact_meta(study)}
    with tempfile.TemporaryDirectory() as aside:
        for name, text in files:
            if name in there:
                store.write(there[name], io.BytesIO(text.encode("utf-8")))
            else:
                path = Path(aside, name)
                path.write_text(text, encoding="utf-8")
                upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
