"""optuna-dashboard over a study's store, on this machine only: it has no passwords and checks no host."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import mimetypes
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import yaml
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import get_note, save_note, save_plotly_graph_object

from sweeps.analysis.findings import Findings
from sweeps.errors import StoreError
from sweeps.export.trial import export_run
from sweeps.paths import StudyPaths, log_of
from sweeps.report.figures.style import Picture
from sweeps.store.optuna_storage import Storage
from sweeps.store.records import Outcome, Results, Run
from sweeps.store.sqlite import path_of
from sweeps.store.store import Reader
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
_ARTIFACTS = uuid.UUID("6b0c4a53-7d7e-4c3f-9d1e-2f6a0f8a9d11")


class _Attributes:
    """What the dashboard keeps with a study: read once, written at once, and only what is new.

    Its functions take this for a storage. There are hundreds, of which each read takes 20 ms and each write 4.
    """

    def __init__(self, storage: Storage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id
        self._before: Mapping[str, Any] = storage.get_study_system_attrs(study_id)
        self._now = dict(self._before)

    def get_study_system_attrs(self, _study_id: int) -> dict[str, Any]:
        return self._now

    def set_study_system_attr(self, _study_id: int, key: str, value: Any) -> None:
        self._now[key] = value

    def write(self) -> None:
        new = {key: value for key, value in self._now.items() if self._before.get(key) != value}
        self._storage.set_study_system_attrs(self._study_id, new)


@dataclass(frozen=True)
class _Place:
    """A study (then `_trial_id` is None) or one of its trials, as far as the dashboard's functions look at it."""

    study: optuna.Study
    storage: _Attributes
    _trial_id: int | None = None

    @property
    def _storage(self) -> _Attributes:
        return self.storage

    @property
    def _study_id(self) -> int:
        return self.study._study_id


def publish(
    findings: Findings,
    storage: Storage,
    paths: StudyPaths,
    *,
    pictures: Sequence[Picture],
    today: datetime.date,
) -> None:
    """Write notes, the figures of the `pictures` and artifacts of `findings` into their studies in `storage`."""
    results = findings.results
    best, reference = results.best, results.reference
    for name in (results.study.name, results.study.name + CONFIRM):
        study = optuna.load_study(study_name=name, storage=storage)
        kept = _Attributes(storage, study._study_id)
        ids = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
        for run in results.runs:
            if run.optuna_study == name and (text := trial_note(run, best=best, reference=reference)):
                _note(_Place(study, kept, ids[run.trial]), text)
        place = _Place(study, kept)
        if name == results.study.name:
            _note(place, study_note(findings))
            for number, figure in figures(pictures).items():
                save_plotly_graph_object(place, figure, graph_object_id=number)
            _keep(place, ids, artifacts(findings, paths, today=today), paths.artifacts)
        else:
            _note(place, confirm_note(results))
        kept.write()


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


def artifacts(findings: Findings, paths: StudyPaths, *, today: datetime.date) -> Iterator[tuple[str, str, Run | None]]:
    """Files to keep with the study, or with the search's trial of a run: (name, text, run)."""
    study, best = findings.study, findings.to_train
    resolved = yaml.safe_dump(study.as_written(), sort_keys=False)
    yield f"{study.name}.yaml", resolved, None
    if best is None:
        return
    of = best if best.optuna_study == study.name else None
    yield "config.yaml", yaml.safe_dump(best.config.as_dict(), sort_keys=False), of
    try:
        exported = export_run(findings, best, date=today.isoformat())
    except UserError:  # a config that nanoGPT can't express
        exported = None
    if exported is not None:
        yield f"{study.name}-best.py", exported.text, of
    log = log_of(paths.run(best.id))
    if log.exists():
        yield "log.txt", log.read_text(encoding="utf-8", errors="replace"), of


def _note(place: _Place, text: str) -> None:
    if get_note(place) != text:
        save_note(place, text)


def _keep(place: _Place, ids: Mapping[int, int], files: Iterator[tuple[str, str, Run | None]], folder: Path) -> None:
    """Under ids that are the same each time. Optuna takes nothing more for a finished trial: its study holds them."""
    folder.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(str(folder))
    for name, text, run in files:
        prefix = "artifacts:" if run is None else f"dashboard:artifacts:{ids[run.trial]}:"
        number = str(uuid.uuid5(_ARTIFACTS, f"{place.study.study_name}/{prefix}{name}"))
        store.write(number, io.BytesIO(text.encode("utf-8")))
        kind = mimetypes.guess_type(name)[0] or "text/plain"
        meta = json.dumps({"artifact_id": number, "filename": name, "mimetype": kind, "encoding": None})
        place.storage.set_study_system_attr(place._study_id, prefix + number, meta)
