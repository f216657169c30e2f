"""Opening a study: make it in the store, or find the same one there; another under its name is refused."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps import provenance
from sweeps.errors import NotFound, StudyChanged
from sweeps.results import DataFacts, Results
from sweeps.spec import Study, changes
from sweeps.store import Store
from trainer.data import Dataset


def open_study(study: Study, store: Store, *, dataset: Dataset, devices: Sequence[str]) -> Results:
    """The study in the store with what it has found so far. It may have grown (more trials, more hours).

    Raises StudyChanged where the store's study of this name has other settings or other data.
    """
    facts = DataFacts.of(dataset)
    try:
        stored = store.results(study.name)
    except NotFound:
        store.add_study(study, data=facts, provenance=provenance.describe(devices))
        return store.results(study.name)
    different = [*changes(stored.study, study), *_other_data(stored.data, facts)]
    if different:
        raise StudyChanged(
            f"study {study.name!r} in {store.path} was begun with other settings: {'; '.join(different)}. Trials of "
            "different settings can't be compared: give this study another name, another folder (--out), or the "
            "settings it had"
        )
    store.update_study(study.name, study=study, data=facts)
    return stored


def _other_data(was: DataFacts, now: DataFacts) -> list[str]:
    if was.fingerprint == now.fingerprint:
        return []
    return [
        f"data: was {was.path} ({was.train_tokens} training tokens, {was.fingerprint[:12]}), "
        f"is {now.path} ({now.train_tokens} training tokens, {now.fingerprint[:12]})"
    ]
