"""A small study on data that are only facts, trained by a closed form: a sweep that takes half a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from sweeps.engine.progress import Observer, Progress, Silent, Summary
from sweeps.engine.session import run_in
from sweeps.paths import StudyPaths
from sweeps.store.records import DataFacts, Outcome, Pruning, Results, Run
from sweeps.store.store import Event, Reader, Store
from sweeps.study import proposals
from sweeps.study.study import Study
from sweeps.workers.pool import Message, Work
from tests.helpers.fake_training import point_at, train
from tests.helpers.inline_pool import InlinePool
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, Split

ITERS = 20
"""iterations of a trial: the fewest that a study evaluates, one evaluation per iteration"""
EVALUATIONS = ITERS + 1
"""points of a complete run, the evaluation at the start included"""
DEVICE = "cpu"


def study(**changes: Any) -> Study:
    """Return a study of a tiny model's dropout and learning rate; `changes` replace its top-level fields."""
    fields: dict[str, Any] = {
        "name": "small",
        "tokenizer": {"type": "bytes"},
        "baseline": {
            "n_layer": 1,
            "n_head": 1,
            "n_embd": 16,
            "block_size": 16,
            "batch_size": 2,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-3,
            "min_lr": 1e-4,
            "warmup_iters": 2,
            "max_iters": ITERS,
            "lr_decay_iters": ITERS,
        },
        "horizon": {"iters": ITERS},
        "evaluations": 20,
        "final_windows": 64,
        "knobs": {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "dropout": {"low": 0.0, "high": 0.4},
        },
        "candidates": [],
        "baseline_seeds": 2,
        "trials": 6,
        "sampler": {"type": "random"},
        "pruner": {"type": "none"},
        "confirm": {"max_trials": 0},
    }
    return Study.model_validate({**fields, **changes})


def four_runs(**changes: Any) -> Study:
    """Return a study of four runs: a baseline, a single-knob trial (dropout at its high), two trials of the sampler."""
    knobs = {"dropout": {"low": 0.0, "high": 0.4}}
    return study(**{"knobs": knobs, "baseline_seeds": 1, "trials": 3, **changes})


PLATEAU: dict[str, Any] = {"type": "plateau", "epsilon": 0.05, "min_completed": 3, "sentinel": 0.5}
WARM = 5
"""iterations of warm-up of the plateau study, which are evaluations too; no trial is looked at earlier"""


def plateau_study(**changes: Any) -> Study:
    """Return a study of 13 runs: a baseline, 3 single-knob trials, 9 more. Half of the hopeless ones are sentinels."""
    settings = {**study().baseline, "warmup_iters": WARM}
    return study(**{"baseline": settings, "baseline_seeds": 1, "trials": 12, "pruner": PLATEAU, **changes})


def baseline() -> TrainConfig:
    """Return the small study's baseline."""
    return proposals.baseline_config(study(), seed=1337, vocab_size=257)


def run(number: int, losses: Sequence[float] = (), **changes: Any) -> Run:
    """Return a complete run of the search with `losses` at evaluations 0, 1, ...; `changes` replace Run's fields."""
    config = changes.get("config", baseline())
    points = (dataclasses.replace(point_at(config, step), val_loss=loss) for step, loss in enumerate(losses))
    fields: dict[str, Any] = {
        "id": number,
        "optuna_study": "small",
        "trial": number,
        "seed": 1337,
        "phase": "search",
        "origin": "sampler",
        "label": f"trial {number}",
        "knob": None,
        "params": {},
        "config": config,
        "device": "cpu",
        "outcome": Outcome.COMPLETE,
        "reason": "",
        "val_loss": 3.0,
        "val_se": 0.01,
        "seconds": 100.0,
        "points": tuple(points),
    }
    return Run(**{**fields, **changes})


def dataset(*, fingerprint: str = "f" * 64) -> Dataset:
    """Return the facts of data that nobody opens."""
    split = Split(tokens=1000, documents=None, bytes=None, sha256=None)
    return Dataset(
        path=Path("/nowhere/data"), vocab_size=257, dtype="uint16", fingerprint=fingerprint, train=split, val=split
    )


FACTS = DataFacts.of(dataset())


class Watcher(Silent):
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.history: list[tuple[str, int]] = []
        """("started" or the outcome, run id) in order"""
        self.last: Progress | None = None

    def started(self, run: Run) -> None:
        self.history.append(("started", run.id))

    def ended(self, run: Run) -> None:
        self.history.append((run.outcome, run.id))

    def progress(self, progress: Progress) -> None:
        self.last = progress

    def note(self, text: str) -> None:
        self.notes.append(text)


class CountingPool(InlinePool):
    """A pool that counts its ticks and calls `at_tick` at each."""

    def __init__(
        self, devices: tuple[str, ...], *, work: Work, at_tick: Callable[[int], None], kinds: Mapping[str, str]
    ) -> None:
        super().__init__(devices, work=work, kinds=kinds)
        self.ticks = 0
        self._at_tick = at_tick

    def wait(self, timeout: float) -> list[Message]:
        self.ticks += 1
        self._at_tick(self.ticks)
        return super().wait(timeout)


def sweep(
    folder: Path,
    spec: Study | None = None,
    *,
    work: Work = train,
    devices: tuple[str, ...] = (DEVICE,),
    kinds: Mapping[str, str] | None = None,
    observer: Observer | None = None,
    data: Dataset | None = None,
    at_tick: Callable[[int], None] = lambda tick: None,
    prepare: Callable[[Store], None] = lambda store: None,
    **options: Any,
) -> Summary:
    """Run a study below `folder` in this process. `at_tick` may raise, which simulates a kill."""
    paths = StudyPaths(folder)
    pool = CountingPool(devices, work=work, at_tick=at_tick, kinds=kinds or {})
    with Store(url_of(folder)) as store:
        prepare(store)
        try:
            return run_in(
                pool,
                spec or study(),
                paths,
                store,
                data or dataset(),
                observer=observer or Silent(),
                **options,
            )
        finally:
            pool.close()


# what the store below a folder holds


def url_of(folder: Path) -> str:
    return f"sqlite:///{StudyPaths(folder).store}"


def results_in(folder: Path, name: str = "small") -> Results:
    with Reader(url_of(folder)) as reader:
        return reader.results(name)


def events_in(folder: Path, name: str = "small") -> list[Event]:
    with Reader(url_of(folder)) as reader:
        return reader.events(name)


def event_kinds(folder: Path, name: str = "small") -> list[str]:
    return [event.kind for event in events_in(folder, name)]


def attempts_in(folder: Path, name: str = "small") -> list[int]:
    """Return the number of launches of each run, by run id."""
    with Store(url_of(folder)) as store:
        return [launch.attempt for _, launch in sorted(store.launches(name).items())]


def optuna_trials_in(folder: Path, name: str = "small") -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(url_of(folder))
    try:
        return optuna.load_study(storage=storage, study_name=name).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def enqueue(folder: Path, *params: dict[str, Any]) -> None:
    """Queue trials with these parameters in the search, as a user would through Optuna."""
    storage = optuna.storages.RDBStorage(url_of(folder))
    search = optuna.load_study(storage=storage, study_name="small")
    for values in params:
        search.enqueue_trial(values)
    storage.remove_session()
    storage.engine.dispose()


def decisions_in(folder: Path) -> dict[int, Pruning]:
    """Return the stored decision on each trial that the pruner has decided against, by trial number."""
    return {run.trial: run.pruning for run in results_in(folder).runs if run.pruning is not None}


def reproducible_part(results: Results) -> list[dict[str, Any]]:
    """Return what the study alone determines: every run without its id, device and time, sorted by trial."""
    free = ("id", "device", "kinds", "seconds")
    names = [field.name for field in dataclasses.fields(Run) if field.name not in free]
    runs = sorted(results.runs, key=lambda run: (run.optuna_study, run.trial))
    return [{name: getattr(run, name) for name in names} for run in runs]


def origin_counts(results: Results) -> dict[str, int]:
    """Count the runs by what proposed them."""
    origins = [run.origin for run in results.runs]
    return {origin: origins.count(origin) for origin in dict.fromkeys(origins)}
