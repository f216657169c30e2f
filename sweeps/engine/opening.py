"""Opening a study: a new one, or the stored one of the same name, which is refused if its settings have changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from sweeps.errors import NotFound, StoreError, StudyChanged
from sweeps.store.records import DataFacts, Results
from sweeps.store.store import Store
from sweeps.study.model import as_yaml
from sweeps.study.sections import NOT_WRITTEN, SCRATCH_MARGIN, MinuteHorizon, PlateauPruning
from sweeps.study.study import Study
from sweeps.study.widening import containing_the_control


def stored_study(study: Study, store: Store, *, data: DataFacts) -> Results | None:
    """Return the stored results of the study, with its growth (more trials, more hours) written; None: it is new.

    A stored study keeps the length that was fitted or chosen for its trials. Raises StudyChanged if the stored study
    of this name has other settings or other data.
    """
    try:
        stored = store.results(study.name)
    except NotFound:
        return None
    if stored.damaged:
        damage = "; ".join(stored.damaged[:3])
        raise StoreError(f"{store.path}: {damage}; restore the store from a copy before the study goes on")
    study = _from_the_origin_of(stored.study, _as_long_as(stored.study, study))
    different = [*changes(stored.study, study), *_other_data(stored.data, data)]
    if different:
        raise StudyChanged(
            f"study {study.name!r} in {store.path} was begun with other settings: {'; '.join(different)}. Trials of "
            "different settings can't be compared: give this study another name, another folder (--out), or its "
            f"earlier settings; `{stored.command('run')}` goes on as it was begun"
        )
    data = dataclasses.replace(data, unigram_loss=stored.data.unigram_loss)  # measured once, for the pilot
    store.update_study(study.name, study=study, data=data)
    return dataclasses.replace(stored, study=study)


def _as_long_as(stored: Study, study: Study) -> Study:
    """Return the study with the length that the stored one's pilot chose, or that was fitted to its minutes."""
    study = study.model_copy(update={"chosen": stored.chosen})
    if not isinstance(study.horizon, MinuteHorizon) or not isinstance(stored.horizon, MinuteHorizon):
        return study
    return study.model_copy(update={"horizon": study.horizon.model_copy(update={"fit": stored.horizon.fit})})


def _from_the_origin_of(stored: Study, study: Study) -> Study:
    """Return the study with what is known of the stored one's origin, if both name the same start."""
    if stored.origin is None or study.start != stored.start:
        return study
    return containing_the_control(study.model_copy(update={"origin": stored.origin}))


def _other_data(was: DataFacts, now: DataFacts) -> list[str]:
    if was.fingerprint == now.fingerprint:
        return []
    return [
        f"data: was {was.path} ({was.train_tokens} training tokens, {was.fingerprint[:12]}), "
        f"is {now.path} ({now.train_tokens} training tokens, {now.fingerprint[:12]})"
    ]


_GROWING = ("trials", "baseline_seeds")
"""settings of a begun study that may grow"""
_FREE = ("hours", "workers", "store", "notes", "origin", "own", "race", "chosen")
"""settings of a begun study that may change, because they change neither a trial nor the order of trials"""
_FREE_OF_CONFIRM = {"seeds", "max_trials"}


def changes(stored: Study, new: Study) -> list[str]:
    """Describe the differences between `new` and the `stored` study that make it another study.

    trials and baseline_seeds may grow. hours, workers, the store's place and confirm's budget may change. The length of
    a trial in minutes was measured for the stored study. Everything else decides what a trial is or which comes next.
    """
    shrunk = []
    for name in _GROWING:
        before, after = getattr(stored, name), getattr(new, name)
        if after < before:
            shrunk.append(
                f"{name}: {before} → {after} (it can grow, not shrink: keep {before}, or give the study a new name)"
            )
    left_out: Any = {**dict.fromkeys((*_GROWING, *_FREE), True), "confirm": _FREE_OF_CONFIRM, "horizon": {NOT_WRITTEN}}
    before, after = (study.model_dump(mode="json", exclude=left_out) for study in (stored, new))
    for settings, study in ((before, stored), (after, new)):
        if not study.branches:  # these were written out before they depended on where trials start
            settings["confirm"]["min_effect"] = study.min_effect
            if isinstance(study.pruner, PlateauPruning) and study.pruner.margin is None:
                settings["pruner"]["margin"] = SCRATCH_MARGIN
    return shrunk + list(_differences("", before, after))


def _differences(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, list) and isinstance(after, list):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _differences(f"{path}.{key}".lstrip("."), before.get(key), after.get(key))
    elif before != after:
        yield f"{path}: {_in_words(before)} → {_in_words(after)}"


def _in_words(value: Any) -> str:
    """Format a value in YAML's flow style; an absent value as 'none'."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_words(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_in_words, value)) + "]"
    return as_yaml(value)
