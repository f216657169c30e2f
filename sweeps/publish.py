"""What a study has found, written into its Optuna study, where optuna-dashboard shows it.

The verdict as the study's note, a note for every trial that is more than one of many, the report's figures, and as
artifacts the best trial's config for nanoGPT, its log and the study itself. Publishing again replaces what was there.
"""

from __future__ import annotations

import datetime
import io
import json
import mimetypes
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
import yaml
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import get_note, save_note, save_plotly_graph_object

from sweeps import export
from sweeps.chosen import best_run, reference_config
from sweeps.figure import Picture
from sweeps.judgement import to_train
from sweeps.optuna_storage import Storage
from sweeps.paths import StudyPaths, log_of
from sweeps.results import Results, Run
from sweeps.study import CONFIRM
from sweeps.verdict import verdict
from sweeps.words import changes, joined, why_pruned
from trainer.config import TrainConfig
from trainer.errors import UserError

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
    results: Results,
    storage: Storage,
    paths: StudyPaths,
    *,
    pictures: Sequence[Picture],
    today: datetime.date,
) -> None:
    """Write notes, the figures of the `pictures` and artifacts of `results` into their studies in `storage`."""
    best, reference = best_run(results), reference_config(results)
    for name in (results.study.name, results.study.name + CONFIRM):
        study = optuna.load_study(study_name=name, storage=storage)
        kept = _Attributes(storage, study._study_id)
        ids = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
        for run in results.runs:
            if run.optuna_study == name and (text := trial_note(run, best=best, reference=reference)):
                _note(_Place(study, kept, ids[run.trial]), text)
        place = _Place(study, kept)
        if name == results.study.name:
            _note(place, study_note(results))
            for number, figure in figures(pictures).items():
                save_plotly_graph_object(place, figure, graph_object_id=number)
            _keep(place, ids, artifacts(results, paths, today=today), paths.artifacts)
        else:
            _note(place, confirm_note(results))
        kept.write()


def study_note(results: Results) -> str:
    """The verdict, as Markdown."""
    found = verdict(results)
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
    if run.origin == "sampler" and run.outcome == "complete" and run.pruning is None and not is_best:
        return ""
    changed = {} if reference is None else changes(run.config, reference)
    lines = [f"**{'The best trial: ' if is_best else ''}{run.label}** (run {run.id}, seed {run.seed})"]
    if changed:
        lines.append("Differs from the baseline in " + joined(f"{name} {values}" for name, values in changed.items()))
    if run.pruning is not None:
        lines.append(f"{'A sentinel, which went on' if run.pruning.sentinel else 'Stopped'}: {why_pruned(run.pruning)}")
    elif run.outcome != "complete":
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


def artifacts(results: Results, paths: StudyPaths, *, today: datetime.date) -> Iterator[tuple[str, str, Run | None]]:
    """Files to keep with the study, or with the search's trial of a run: (name, text, run)."""
    study = results.study
    resolved = yaml.safe_dump(study.as_written(), sort_keys=False)
    yield f"{study.name}.yaml", resolved, None
    best = to_train(results)
    if best is None:
        return
    of = best if best.optuna_study == study.name else None
    yield "config.yaml", yaml.safe_dump(best.config.as_dict(), sort_keys=False), of
    try:
        exported = export.export_run(results, best, date=today.isoformat())
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
