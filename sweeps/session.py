"""From a study to its results: prepare the data, open the store, run the workers, write the report."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sweeps import provenance, runner
from sweeps.errors import NotFound
from sweeps.paths import StudyPaths
from sweeps.plan import plan
from sweeps.progress import Observer, Summary
from sweeps.proposals import baseline_config
from sweeps.results import DataFacts, Results
from sweeps.sections import BinData, BpeTokenizer, Gpt2Tokenizer, ParquetData
from sweeps.speed import Shape, seen
from sweeps.store import Reader, Store
from sweeps.study import Study
from sweeps.words import duration
from sweeps.workers import ProcessPool, devices_here
from trainer.data import Dataset, open_dataset
from trainer.device import Device, cpu_cores, cuda_devices, describe, named
from trainer.errors import ConfigError
from trainer.prepare import EmbeddedSource, Options, ParquetSource, Progress, TokenizerChoice, prepare


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A session of `sweep run` that has come to an end."""

    summary: Summary
    results: Results
    store: Path
    report: Path


def store_url(study: Study, paths: StudyPaths) -> str:
    """Where the study keeps its results."""
    return study.store or f"sqlite:///{paths.store}"


def prepare_data(study: Study, paths: StudyPaths, *, progress: Callable[[Progress], None]) -> Dataset:
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
    return prepare(source, tokenizer, paths.data, options=options, progress=progress)


def run(study: Study, paths: StudyPaths, dataset: Dataset, *, observer: Observer) -> Ended:
    """Run the study or go on with it, then write its report; also after an interrupt, with what there is."""
    # the libraries that draw load while the workers load theirs
    threading.Thread(target=importlib.import_module, args=("sweeps.closing",), daemon=True).start()
    devices = devices_here(study.workers.devices)
    with Store(store_url(study, paths)) as store:
        with (
            ProcessPool(devices, logs=paths.logs, cores=cpu_cores()) as pool,
            _interrupts(observer.note) as interrupted,
        ):
            summary = runner.run(
                study,
                store,
                pool,
                paths=paths,
                dataset=dataset,
                observer=observer,
                estimate=functools.partial(estimate, data=DataFacts.of(dataset), device=devices[0]),
                interrupted=interrupted,
            )
        results = store.results(study.name)
        from sweeps.closing import close

        report = close(results, store, paths)
        return Ended(summary=summary, results=results, store=store.path, report=report)


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
    return {provenance.ESTIMATE: f"{duration(made.seconds)}, {each} a run of the baseline"}


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
