"""Opening a study: make it in the store, or find the same one there; another under its name is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from sweeps import provenance
from sweeps.errors import NotFound, StudyChanged
from sweeps.results import DataFacts, Results
from sweeps.sections import MinuteHorizon
from sweeps.spec import Study, changes
from sweeps.store import Store
from trainer.data import Dataset


def open_study(
    study: Study,
    store: Store,
    *,
    dataset: Dataset,
    devices: Sequence[str],
    fit: Callable[[Study], Study],
    estimate: Callable[[Study], Mapping[str, str]],
) -> Results:
    """The study, as it is to be run, with what the store has of it. It may have grown (more trials, more hours).

    Of a new study, `fit` fixes the length of its trials, and what `estimate` says that it takes is stored; a stored one
    keeps the length it has. Raises StudyChanged where the store's study of this name has other settings or other data.
    """
    facts = DataFacts.of(dataset)
    try:
        stored = store.results(study.name)
    except NotFound:
        study = fit(study)
        store.add_study(study, data=facts, provenance={**provenance.describe(devices), **estimate(study)})
        return store.results(study.name)
    study = _as_long_as(stored.study, study)
    different = [*changes(stored.study, study), *_other_data(stored.data, facts)]
    if different:
        raise StudyChanged(
            f"study {study.name!r} in {store.path} was begun with other settings: {'; '.join(different)}. Trials of "
            "different settings can't be compared: give this study another name, another folder (--out), or the "
            "settings it had"
        )
    store.update_study(study.name, study=study, data=facts)
    return dataclasses.replace(stored, study=study)


def _as_long_as(stored: Study, study: Study) -> Study:
    """The study with the fit of the stored one, where both have a horizon in minutes."""
    if not isinstance(study.horizon, MinuteHorizon) or not isinstance(stored.horizon, MinuteHorizon):
        return study
    return study.model_copy(update={"horizon": study.horizon.model_copy(update={"fit": stored.horizon.fit})})


def _other_data(was: DataFacts, now: DataFacts) -> list[str]:
    if was.fingerprint == now.fingerprint:
        return []
    return [
        f"data: was {was.path} ({was.train_tokens} training tokens, {was.fingerprint[:12]}), "
        f"is {now.path} ({now.train_tokens} training tokens, {now.fingerprint[:12]})"
    ]
