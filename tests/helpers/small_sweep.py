"""A small study, data that are only facts, and training by a closed form: for tests of the sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.engine.progress import Observer, Progress, Silent, Summary
from sweeps.engine.session import run_in
from sweeps.paths import StudyPaths
from sweeps.store.records import Results, Run
from sweeps.store.store import Reader, Store
from sweeps.study import proposals
from sweeps.study.study import Study
from sweeps.workers.pool import Message, Work
from tests.helpers.fake_training import train
from tests.helpers.inline_pool import InlinePool
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, Split

ITERS = 20  # the fewest evaluations, one per iteration
DEVICE = "cpu"


def study(**changes: Any) -> Study:
    """Return a study of dropout and the learning rate of a tiny model; 20 iterations, 20 evaluations."""
    given: dict[str, Any] = {
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
    return Study.model_validate({**given, **changes})


def dataset(*, fingerprint: str = "f" * 64) -> Dataset:
    """Return the facts of data that nobody opens."""
    split = Split(tokens=1000, documents=None, bytes=None, sha256=None)
    return Dataset(
        path=Path("/nowhere/data"), vocab_size=257, dtype="uint16", fingerprint=fingerprint, train=split, val=split
    )


class Watcher(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.told: list[tuple[str, int]] = []
        self.last: Progress | None = None

    def started(self, run: Run) -> None:
        self.told.append(("started", run.id))

    def ended(self, run: Run) -> None:
        self.told.append((run.outcome, run.id))

    def progress(self, progress: Progress) -> None:
        self.last = progress

    def note(self, text: str) -> None:
        self.notes.append(text)


class CountingPool(InlinePool):
    """Counts ticks, and does something at each."""

    def __init__(self, devices: tuple[str, ...], *, work: Work, at_tick: Callable[[int], None]) -> None:
        super().__init__(devices, work=work)
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
    observer: Observer | None = None,
    data: Dataset | None = None,
    at_tick: Callable[[int], None] = lambda tick: None,
    prepare: Callable[[Store], None] = lambda store: None,
    **options: Any,
) -> Summary:
    """Run a study below `folder` in this process; `at_tick` may raise, which is how a process is killed here."""
    paths = StudyPaths(folder)
    pool = CountingPool(devices, work=work, at_tick=at_tick)
    with Store(f"sqlite:///{paths.store}") as store:
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


def stored_results(folder: Path, name: str = "small") -> Results:
    """Return what the store below `folder` holds of a study."""
    with Reader(f"sqlite:///{StudyPaths(folder).store}") as reader:
        return reader.results(name)


def essence(results: Results) -> list[dict[str, Any]]:
    """Return what the study alone determines: every run without its id, device and time, sorted by trial."""
    free = ("id", "device", "seconds")
    runs = sorted(results.runs, key=lambda run: (run.optuna_study, run.trial))
    return [
        {field.name: getattr(run, field.name) for field in dataclasses.fields(run) if field.name not in free}
        for run in runs
    ]


def by_origin(results: Results) -> dict[str, int]:
    origins = [run.origin for run in results.runs]
    return {origin: origins.count(origin) for origin in dict.fromkeys(origins)}


def baseline() -> TrainConfig:
    """Return the small study's baseline."""
    return proposals.baseline_config(study(), seed=1337, vocab_size=257)
