"""A session of `sweep run`: the data prepared, the workers started, interrupts counted."""

from __future__ import annotations

import dataclasses
import functools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sweeps.engine import provenance, runner
from sweeps.engine.planning.plan import plan
from sweeps.engine.planning.speed import Shape, seen
from sweeps.engine.progress import Observer, Summary
from sweeps.errors import NotFound
from sweeps.paths import StudyPaths
from sweeps.store import records
from sweeps.store.records import DataFacts
from sweeps.store.store import Reader, Store
from sweeps.study.proposals import baseline_config
from sweeps.study.sections import BinData, BpeTokenizer, Gpt2Tokenizer, ParquetData
from sweeps.study.study import Study
from sweeps.text import duration
from sweeps.workers.launch import devices_here
from sweeps.workers.process_pool import ProcessPool
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.encode import PrepareProgress
from trainer.data.prepare import EmbeddedSource, ParquetSource, TokenizerChoice, prepare
from trainer.data.selection import Options
from trainer.errors import ConfigError
from trainer.machine.cpu import cpu_cores
from trainer.machine.device import Device, cuda_devices, describe, named


def store_url(study: Study, paths: StudyPaths) -> str:
    """Where the study keeps its results."""
    return study.store or f"sqlite:///{paths.store}"


def prepare_data(study: Study, paths: StudyPaths, *, progress: Callable[[PrepareProgress], None]) -> Dataset:
    """The study's tokens: prepared, found prepared, or a folder that is there already. Raises DataError."""
    if isinstance(study.data, BinData):
        return open_dataset(study.data.bin)
    source = (
        ParquetSource(files=study.data.parquet, text=study.data.text)
        if isinstance(study.data, ParquetData)
        else EmbeddedSource()
    )
    chosen = study.tokenizer
    tokenizer = TokenizerChoice(
        type=chosen.type,
        vocab_size=chosen.vocab_size if isinstance(chosen, BpeTokenizer) else 0,
        file=chosen.file if isinstance(chosen, Gpt2Tokenizer) else None,
    )
    options = Options(val_fraction=study.data.val_fraction, min_chars=study.data.min_chars, dedup=study.data.dedup)
    return prepare(source, tokenizer, paths.data, threads=cpu_cores(), options=options, progress=progress)


def run(study: Study, paths: StudyPaths, store: Store, dataset: Dataset, *, observer: Observer) -> Summary:
    """Run the study or go on with it, in a pool of its own."""
    devices = devices_here(study.workers.devices)
    with (
        ProcessPool(devices, logs=paths.logs, cores=cpu_cores()) as pool,
        _interrupts(observer.note) as interrupted,
    ):
        return runner.run(
            study,
            store,
            pool,
            paths=paths,
            dataset=dataset,
            observer=observer,
            estimate=functools.partial(estimate, data=DataFacts.of(dataset), device=devices[0]),
            interrupted=interrupted,
        )


def seen_speeds(study: Study, paths: StudyPaths, kind: str) -> dict[Shape, float]:
    """Tokens/s by shape that the study's earlier runs reached on a device of this kind; nothing without a store."""
    url = store_url(study, paths)
    if not Path(url.removeprefix("sqlite:///")).is_file():
        return {}
    with Reader(url) as reader:
        try:
            results = reader.results(study.name)
        except NotFound:
            return {}
    vocab_size = results.data.vocab_size
    return seen(results.runs, baseline_config(results.study, seed=0, vocab_size=vocab_size), device=kind)


def estimate(study: Study, *, data: DataFacts, device: str) -> dict[str, str]:
    """What the sweep will take by its plan, to be kept with it and held against what it took; nothing if unknown."""
    where = _described(device)
    if where is None:
        return {}
    made = plan(study, data, where)
    (baseline,) = (phase for phase in made.phases if phase.name == "baseline")
    if made.seconds is None or baseline.seconds is None:
        return {}
    each = duration(baseline.seconds / baseline.trials)
    return {records.ESTIMATE: f"{duration(made.seconds)}, {each} a run of the baseline"}


def _described(device: str) -> Device | None:
    """The workers' device, a card by its name alone: asking torch would take memory of it from the workers.

    None: a card of which nothing is known.
    """
    if device == "cpu":
        return describe(device)
    try:
        return dataclasses.replace(named(provenance.device_name(device)), count=cuda_devices())
    except ConfigError:
        return None


@contextmanager
def _interrupts(say: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """Count Ctrl-C instead of raising: the first lets evaluations finish, the second ends workers."""
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # what signal.signal calls
        nonlocal count
        count += 1
        if count == 1:
            say("interrupted: runs pause at their next evaluation; Ctrl-C again stops them now")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: count
    finally:
        signal.signal(signal.SIGINT, before)
