"""A session of `sweep run`: it prepares the data, starts the workers, opens the study, runs it and counts Ctrl-C."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sweeps import signals
from sweeps.engine import kinds, origin, pilot, provenance
from sweeps.engine.agenda import Agenda
from sweeps.engine.checks import check_lengths
from sweeps.engine.groundwork import Groundwork
from sweeps.engine.ledger import Ledger
from sweeps.engine.opening import stored_study
from sweeps.engine.pilot import PilotLength
from sweeps.engine.planning.measure import fit_horizon
from sweeps.engine.planning.plan import plan
from sweeps.engine.planning.speed import Shape, seen
from sweeps.engine.progress import Observer, Summary
from sweeps.engine.runner import Clock, Runner
from sweeps.errors import DiskError, NotFound
from sweeps.paths import StudyPaths
from sweeps.store import records
from sweeps.store.database import database_of
from sweeps.store.locate import address_of
from sweeps.store.records import DataFacts, Results
from sweeps.store.sqlite import url_of
from sweeps.store.store import Reader, Store
from sweeps.study.pilot import Chosen
from sweeps.study.proposals import baseline_config
from sweeps.study.sections import BinData, BpeTokenizer, Gpt2Tokenizer, ParquetData
from sweeps.study.study import Study
from sweeps.text import count, duration
from sweeps.workers.launch import devices_here
from sweeps.workers.names import kind_of
from sweeps.workers.pool import Pool
from sweeps.workers.process_pool import ProcessPool
from trainer.atomic import disk_trouble, write_text
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.encode import PrepareProgress
from trainer.data.frequencies import unigram_loss
from trainer.data.prepare import EmbeddedSource, ParquetSource, TokenizerChoice, prepare
from trainer.data.selection import Options
from trainer.errors import ConfigError
from trainer.machine.cpu import cpu_cores
from trainer.machine.device import Device, describe, named, note_on_cpu


def store_url(study: Study, paths: StudyPaths) -> str:
    """Return the URL of the study's store."""
    return study.store or url_of(paths.store)


def prepare_data(study: Study, paths: StudyPaths, *, progress: Callable[[PrepareProgress], None]) -> Dataset:
    """Prepare the study's tokens, or open what is prepared already. Raises DataError."""
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


def data_of(stored: Results, paths: StudyPaths, *, progress: Callable[[PrepareProgress], None]) -> Dataset:
    """Open the tokens that a stored study was begun with. Where they are gone, prepare them again. Raises DataError."""
    where = Path(stored.data.path)
    for folder in (where, paths.data / where.name):  # the folder of the results may have moved
        if folder.is_dir() and (dataset := open_dataset(folder)).fingerprint == stored.data.fingerprint:
            return dataset
    return prepare_data(stored.study, paths, progress=progress)


def run(
    study: Study, paths: StudyPaths, store: Store, dataset: Dataset, *, observer: Observer, busy: float = 0.0
) -> Summary:
    """Run or resume the study on the devices that it names, until it ends or a signal pauses it.

    `busy` are the other processes that want a core now, for the estimate of its time.
    """
    check_lengths(study, DataFacts.of(dataset))
    with (
        _pool(study, paths, dataset, say=observer.note) as pool,
        signals.collected() as interrupts,
    ):
        return run_in(pool, study, paths, store, dataset, observer=observer, interrupts=interrupts, busy=busy)


def _pool(
    study: Study, paths: StudyPaths, dataset: Dataset, *, say: Callable[[str], None]
) -> AbstractContextManager[Pool]:
    """Return the workers that the study asks for: on a Ray cluster, or on this machine. Raises ClusterError."""
    workers = study.workers
    if workers.ray is not None:
        from sweeps.workers.ray_pool import ray_pool

        folders = {"runs": paths.root, "data": dataset.path, "logs": paths.logs}
        return ray_pool(workers.ray, gpus=workers.gpus, cpus=workers.cpus, say=say, **folders)
    devices = devices_here(workers.devices)
    if workers.devices == "auto" and set(devices) == {"cpu"} and (note := note_on_cpu()):
        say(note)
    kinds = {device: kind_of(device) for device in dict.fromkeys(devices)}
    return ProcessPool(devices, logs=paths.logs, cores=cpu_cores(), kinds=kinds)


def run_in(
    pool: Pool,
    study: Study,
    paths: StudyPaths,
    store: Store,
    dataset: Dataset,
    *,
    observer: Observer,
    interrupts: Sequence[signal.Signals] = (),
    clock: Callable[[], float] = time.monotonic,
    busy: float = 0.0,
) -> Summary:
    """Open the study under its lock and run it in `pool`, which the caller closes.

    `interrupts` may grow while the study runs: see Runner.

    The trials of a new study get a length that fits the workers, and its plan's estimate of the time is stored.
    Raises StoreBusy, StudyChanged, StoreError, SpecError for a horizon of too few minutes, MeasuringError where
    workers die while they are measured, and what Runner.run raises.
    """
    data = DataFacts.of(dataset)
    with store.database.errors(), _as_disk_errors(), store.lock(study.name):
        if store.database.file is None:
            write_text(paths.pointer, address_of(store.url, study.name))
        else:
            paths.pointer.unlink(missing_ok=True)
        began = clock()
        stored = stored_study(study, store, data=data)
        if stored is None:
            if (left := paths.run_folders) and not store.names():
                observer.note(_note_on_a_lost_store(store, left))
            study = fit_horizon(
                study, pool=pool, dataset=dataset, folder=paths.measuring, say=observer.note, interrupts=interrupts
            )
            if study.pilot is not None:
                data = dataclasses.replace(data, unigram_loss=unigram_loss(dataset))
            expected = estimate(study, data=data, pool=pool, busy=busy)
            where = provenance.provenance_of(map(pool.kind, pool.devices))
            store.add_study(study, data=data, provenance={**where, **expected})
            stored = store.results(study.name)
        if note := kinds.note_before(map(pool.kind, pool.devices)):
            observer.note(note)
        started = 0
        timed = Clock(time=clock, began=began, before=stored.seconds)
        while True:
            stored = _with_known_origin(stored, store, paths, data=data, say=observer.note)
            stored = _with_chosen_length(stored, store, paths, dataset=dataset, say=observer.note)
            agenda = _next_agenda(stored, data, say=observer.note)
            runner = Runner(
                stored,
                store,
                pool,
                paths=paths,
                dataset=dataset,
                agenda=agenda,
                observer=observer,
                clock=timed,
                interrupts=interrupts,
            )
            summary = runner.run()
            started += summary.started
            if isinstance(agenda, Agenda) or not summary.finished:
                return dataclasses.replace(summary, started=started)
            stored = store.results(study.name)


def _note_on_a_lost_store(store: Store, folders: int) -> str:
    return (
        f"{store.path} is new, but {count(folders, 'run')} left a folder beside it: the store that knew them is gone, "
        "and the study begins anew. If you have a copy of that store, press Ctrl-C and put it back"
    )


@contextlib.contextmanager
def _as_disk_errors() -> Iterator[None]:
    """Turn the error of a disk that is full or read-only into a DiskError."""
    try:
        yield
    except OSError as error:
        if not (trouble := disk_trouble(error, at=Path.cwd())):
            raise
        raise DiskError(trouble) from error


def _with_known_origin(
    stored: Results, store: Store, paths: StudyPaths, *, data: DataFacts, say: Callable[[str], None]
) -> Results:
    """Return the results of a study with all that is known of its origin by now, which is written to the store."""
    while (study := origin.known(stored, paths, data=data)) is not None:
        store.update_study(study.name, study=study)
        for note in study.notes[len(stored.study.notes) :]:
            say(note)
        stored = dataclasses.replace(stored, study=study)
    return stored


def _with_chosen_length(
    stored: Results, store: Store, paths: StudyPaths, *, dataset: Dataset, say: Callable[[str], None]
) -> Results:
    """Return the results of a study whose pilot has ended with the length that it chose, which is written to the store.

    Its runs at that length become the baseline's. The checkpoints of shorter runs are deleted.
    """
    study = stored.study
    if study.pilot is None:
        return stored
    if study.chosen is None:
        tried = pilot.tried(study, stored.runs, stored.data)
        if pilot.next_length(study, tried) is not None:
            for run in pilot.rejected(study, stored.runs, stored.data):
                paths.drop_checkpoint(run.id)
            return stored
        study = study.model_copy(update={"chosen": Chosen(tried=tried)})
        store.update_study(study.name, study=study)
        stored = dataclasses.replace(stored, study=study)
        assert study.chosen is not None
        say(pilot.note_after(study, study.chosen))
    left = list(pilot.to_adopt(study, stored.runs, vocab_size=dataset.vocab_size))
    if left:
        ledger = Ledger(stored, store, paths, dataset)
        for run, proposal in left:
            ledger.adopt(run, proposal)
        stored = store.results(study.name)
    return stored


def _next_agenda(stored: Results, data: DataFacts, *, say: Callable[[str], None]) -> Agenda | Groundwork | PilotLength:
    """Return the order of the runs that are due: those before the first trial, as far as they are known, or all."""
    study = stored.study
    if study.pilot is not None and study.chosen is None:
        tried = pilot.tried(study, stored.runs, stored.data)
        iters = pilot.next_length(study, tried)
        assert iters is not None
        if note := pilot.note_before(study, tried, iters):
            say(note)
        return PilotLength(study, data, iters)
    if study.branches:
        groundwork = Groundwork(study, data)
        if not _is_laid(groundwork, stored):
            return groundwork
    return Agenda(study, data)


def _is_laid(groundwork: Groundwork, stored: Results) -> bool:
    """Whether the groundwork is done: the origin is known, and no run before the first trial is left."""
    known = stored.study.origin
    unfinished = any(run.unfinished and run.before_trials for run in stored.runs)
    return known is not None and known.going_on is not None and not unfinished and groundwork.is_empty(stored.runs)


def seen_speeds(study: Study, paths: StudyPaths, kind: str) -> dict[Shape, float]:
    """Return the tokens/s by shape of the study's earlier runs on this kind of device; empty without a store."""
    url = store_url(study, paths)
    if not database_of(url).exists():
        return {}
    with Reader(url) as reader:
        try:
            results = reader.results(study.name)
        except NotFound:
            return {}
    vocab_size = results.data.vocab_size
    return seen(results.runs, baseline_config(results.study, seed=0, vocab_size=vocab_size), device=kind)


def estimate(study: Study, *, data: DataFacts, pool: Pool, busy: float = 0.0) -> dict[str, str]:
    """Estimate the sweep's time by its plan, for the report to compare with the time taken; empty if unknown."""
    where = _described(pool)
    if where is None:
        return {}
    study_plan = plan(study, data, where, busy=busy)
    (baseline,) = (phase for phase in study_plan.phases if phase.name == "baseline")
    if study_plan.seconds is None or baseline.seconds is None:
        return {}
    per_run = duration(baseline.seconds / baseline.trials)
    length = "" if study.pilot is None else f", at {study.iters:,} iterations"
    return {records.ESTIMATE: f"{duration(study_plan.seconds)}, {per_run} per run of the baseline{length}"}


def _described(pool: Pool) -> Device | None:
    """Describe the workers' device; None: an unknown card, or cores of other machines.

    A card is described by its name alone, because asking torch would take GPU memory from the workers.
    """
    device = pool.devices[0]
    if device == "cpu":
        return describe(device)
    try:
        return dataclasses.replace(named(pool.kind(device)), count=len(pool.devices))
    except ConfigError:
        return None
