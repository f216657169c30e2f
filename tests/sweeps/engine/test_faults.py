"""Faults of workers, the disk, the store, the data and the machine: the sweep survives them, or says what it needs."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.engine import ledger as ledger_module
from sweeps.engine import progress
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.engine.origin import _of_run
from sweeps.engine.progress import Silent
from sweeps.engine.runner import SameCause
from sweeps.engine.session import run_in
from sweeps.errors import DiskError, SpecError, StoreError, StudyChanged
from sweeps.paths import StudyPaths
from sweeps.store import sqlite
from sweeps.store.records import Outcome
from sweeps.store.store import Store
from sweeps.study.origin_runs import ORIGIN
from sweeps.study.proposals import _min_lr, config_of
from sweeps.workers.pool import Job, Message, PointMessage, Pulse, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.inline_pool import InlinePool
from tests.helpers.kills import Killed, die_at
from tests.helpers.small_sweep import (
    Watcher,
    event_kinds,
    events_in,
    four_runs,
    reproducible_part,
    results_in,
    sweep,
    url_of,
)
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, open_dataset
from trainer.errors import ConfigError, DamagedCheckpoint, DataError
from trainer.points import Result

FULL = "database or disk is full"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the study of four runs has run undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    sweep(folder, four_runs())
    return folder


def same(folder: Path, whole: Path) -> bool:
    return reproducible_part(results_in(folder)) == reproducible_part(results_in(whole))


# workers


def diverging(job: Job, report: Report) -> Result:
    """Diverge, unless it is a baseline, which has no dropout."""
    if job.config.dropout == 0.0:
        return fake_training.train(job, report)
    report(fake_training.point_at(job.config, 0))
    return Result(outcome="diverged", step=0, points=(), reason=f"the loss is not finite at step {job.run}")


class TestOneCause:
    def test_ten_failures_in_a_row_from_one_cause_end_the_sweep_with_it(self, tmp_path: Path) -> None:
        spec = four_runs(trials=30)
        with pytest.raises(
            SameCause, match=r"10 runs in a row diverged, the last: the loss is not finite at step 11; "
        ):
            sweep(tmp_path, spec, work=diverging)
        outcomes = [run.outcome for run in results_in(tmp_path).runs]
        assert outcomes == [Outcome.COMPLETE] + [Outcome.DIVERGED] * 10
        assert event_kinds(tmp_path)[-1] == "stopped"
        counts = sweep(tmp_path, spec).counts
        assert (counts["complete"], counts["diverged"]) == (21, 10)

    @pytest.mark.parametrize(
        ("causes", "n"),
        [([], 0), ([""], 0), (["a"], 1), (["a", "a"], 2), (["a", "b"], 1), (["a", "", "a"], 1), (["b", "a", "a"], 2)],
    )
    def test_the_last_ones_count(self, causes: list[str], n: int) -> None:
        assert progress.alike(causes) == n

    @pytest.mark.parametrize(
        ("one", "other", "alike"),
        [
            ((Outcome.DIVERGED, "not finite at step 40"), (Outcome.DIVERGED, "not finite at step 7"), True),
            ((Outcome.DIVERGED, "exploded to 9.1 and 1e+20"), (Outcome.DIVERGED, "exploded to 8 and 7.25"), True),
            ((Outcome.FAILED, "a bug; its log: runs/2/log.txt"), (Outcome.FAILED, "a bug; its log: runs/3/x"), True),
            ((Outcome.FAILED, "a bug"), (Outcome.FAILED, "another bug"), False),
            ((Outcome.FAILED, "out of memory"), (Outcome.INFEASIBLE, "out of memory"), False),
        ],
    )
    def test_causes(self, one: tuple[Outcome, str], other: tuple[Outcome, str], alike: bool) -> None:
        causes = [
            progress.cause_of(small_sweep.run(1, outcome=outcome, reason=reason)) for outcome, reason in (one, other)
        ]
        assert (causes[0] == causes[1]) is alike
        assert all(causes)

    @pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.PRUNED, Outcome.TRUNCATED, Outcome.HALTED])
    def test_what_is_no_failure(self, outcome: Outcome) -> None:
        assert progress.cause_of(small_sweep.run(1, outcome=outcome, reason="why")) == ""


def test_a_failed_run_names_its_log_and_keeps_its_end(tmp_path: Path) -> None:
    def talkative(job: Job, report: Report) -> Result:
        if job.config.dropout != 0.4:
            return fake_training.train(job, report)
        job.out.mkdir(parents=True, exist_ok=True)
        with (job.out / "log.txt").open("a") as log:
            log.writelines(f"line {number}\n" for number in range(100))
        raise RuntimeError("a bug")

    sweep(tmp_path, four_runs(), work=talkative)
    failed = results_in(tmp_path).runs[1]
    assert failed.reason.endswith("RuntimeError: a bug; its log: runs/2/log.txt")
    (kept,) = [event for event in events_in(tmp_path) if event.kind == "log"]
    lines = kept.detail.splitlines()
    assert lines[0] == f"the end of {tmp_path / 'runs' / '2' / 'log.txt'}:"
    assert lines[1:] == [f"line {number}" for number in range(75, 100)]


@pytest.mark.parametrize(
    ("gap", "device", "spoken", "pulsing", "limit"),
    [
        (0.0, "cpu", False, False, 1800.0),
        (3.0, "cpu", False, False, 1800.0),  # a launch may compile, whatever a step takes
        (0.0, "cpu", True, False, float("inf")),
        (0.0, "cpu", True, True, 1800.0),
        (1.0, "cpu", True, True, 120.0),
        (1.0, "cpu:node-3", True, True, 120.0),
        (1.0, "cuda:1", True, True, 600.0),
        (10.0, "cpu", True, True, 200.0),
        (60.0, "cuda:0", True, False, 1200.0),
    ],
)
def test_a_worker_hangs_after_20_times_the_longest_step(
    gap: float, device: str, spoken: bool, pulsing: bool, limit: float
) -> None:
    assert progress.stall_limit(gap, device=device, spoken=spoken, pulsing=pulsing) == limit


class Hanging(InlinePool):
    """A pool whose ticks take 4 s. The first launch of run 2 is silent from `point` on; before, `pulses` come first."""

    def __init__(self, *, point: int, pulses: int = 0) -> None:
        super().__init__(["cpu"], work=fake_training.train)
        self.now, self.killed = 0.0, list[float]()
        self._point, self._pulses, self._due, self._hung, self._began = point, pulses, 0, False, 0.0

    def clock(self) -> float:
        return self.now

    def start(self, job: Job) -> None:
        super().start(job)
        if (job.run, job.attempt) == (2, 1):
            self._began = self.now
            self._due = self._pulses

    def wait(self, timeout: float) -> list[Message]:
        self.now += 4.0
        if self._hung:
            return []
        if self._due:
            self._due -= 1
            return [Pulse(run=2, attempt=1)]
        messages = super().wait(timeout)
        for message in messages:
            if (message.run, message.attempt) == (2, 1) and isinstance(message, PointMessage):
                self._hung = message.point.step >= self._point
        return [] if self._hung else messages

    def kill(self, run: int) -> None:
        self.killed.append(self.now - self._began)
        self._hung = False
        super().kill(run)


@pytest.mark.parametrize(
    ("point", "pulses", "after"),
    [
        pytest.param(0, 0, 1804.0, id="before the first point"),
        pytest.param(2, 0, 2 * 4 + 124.0, id="after the first points"),
        # an evaluation takes an hour: the pulses say that the run goes on, and when it doesn't any more
        pytest.param(0, 900, 900 * 4 + 124.0, id="an hour of pulses"),
    ],
)
def test_a_hung_worker_is_noticed(tmp_path: Path, whole: Path, point: int, pulses: int, after: float) -> None:
    pool = Hanging(point=point, pulses=pulses)
    with Store(url_of(tmp_path)) as store:
        run_in(
            pool, four_runs(), StudyPaths(tmp_path), store, small_sweep.dataset(), observer=Silent(), clock=pool.clock
        )
    pool.close()
    assert pool.killed == [after]
    assert event_kinds(tmp_path) == ["hung"]
    assert same(tmp_path, whole)


def test_a_checkpoint_that_was_dropped_is_told(tmp_path: Path) -> None:
    def mended(job: Job, report: Report) -> Result:
        return dataclasses.replace(fake_training.train(job, report), notes=("its checkpoint was dropped",))

    watcher = Watcher()
    sweep(tmp_path, four_runs(), work=mended, observer=watcher)
    assert [(event.run, event.kind, event.detail) for event in events_in(tmp_path)] == [
        (run, "checkpoint", "its checkpoint was dropped") for run in (1, 2, 3, 4)
    ]
    assert "baseline, seed 1337: its checkpoint was dropped" in watcher.notes


# proposals


def test_a_proposal_that_cannot_be_run_ends_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def config(*args: Any, **named: Any) -> TrainConfig:
        if next(numbers) == 0:
            raise ConfigError("min_lr=0.0011 is above learning_rate=0.001")
        return config_of(*args, **named)

    monkeypatch.setattr(ledger_module, "config_of", config)
    summary = sweep(tmp_path, four_runs())
    assert summary.finished
    assert summary.counts["complete"] == 4
    assert [event.detail for event in events_in(tmp_path)] == [
        "trial 2 can't be run and is left out: min_lr=0.0011 is above learning_rate=0.001"
    ]


def test_proposals_that_can_never_be_run_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def config(*args: Any, **named: Any) -> TrainConfig:
        raise ConfigError("no such width")

    monkeypatch.setattr(ledger_module, "config_of", config)
    with pytest.raises(SpecError, match="50 proposals in a row make no trial that can be run; the last: no such width"):
        sweep(tmp_path, four_runs())


@given(share=st.floats(0.0, 1.0), rate=st.floats(1e-7, 1.0))
def test_rounding_puts_min_lr_above_no_rate(share: float, rate: float) -> None:
    assert _min_lr(four_runs(), share, rate=rate) <= rate


# the disk and the store


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (FULL, "the disk is full; make room and run again"),
        ("attempt to write a readonly database", "check its permissions"),
        ("database is locked", "close that program and run again"),
        ("disk I/O error", "its disk fails"),
    ],
)
@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (optuna.Study, "ask"),
        (Store, "add_run"),
        (Store, "launched"),
        (Store, "add_points"),
        (OptunaTrials, "report"),
        (Store, "ended"),
        (optuna.Study, "tell"),
    ],
)
def test_a_write_that_fails_is_told_and_the_next_sweep_goes_on(
    tmp_path: Path, whole: Path, owner: type, method: str, message: str, remedy: str
) -> None:
    for call in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, method, failing(getattr(owner, method), call, sqlite3.OperationalError(message)))
            with pytest.raises(StoreError, match=remedy):
                sweep(tmp_path, four_runs())
    assert sweep(tmp_path, four_runs()).finished
    assert same(tmp_path, whole)


def failing(method: Callable[..., Any], call: int, error: Exception) -> Callable[..., Any]:
    """Return `method`, except that its `call`-th call raises `error` instead."""
    calls = itertools.count(1)

    def instead(*args: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise error
        return method(*args, **named)

    return instead


def test_a_store_that_another_program_keeps_locked(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    others: list[sqlite3.Connection] = []

    def lock(tick: int) -> None:
        if tick == 30:
            others.append(sqlite3.connect(tmp_path / "study.db"))
            others[0].execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreError, match="another program has kept it locked"):
        sweep(tmp_path, four_runs(), at_tick=lock)
    others[0].close()
    assert sweep(tmp_path, four_runs()).finished
    assert same(tmp_path, whole)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, whole: Path) -> None:
    class Full(InlinePool):
        def start(self, job: Job) -> None:
            raise OSError(28, "No space left on device", str(job.out))

    with Store(url_of(tmp_path)) as store, pytest.raises(DiskError, match=r"runs/1: No space left on device; the disk"):
        run_in(
            Full(["cpu"], work=fake_training.train),
            four_runs(),
            StudyPaths(tmp_path),
            store,
            small_sweep.dataset(),
            observer=Silent(),
        )
    assert sweep(tmp_path, four_runs()).finished
    assert same(tmp_path, whole)


def test_a_store_deleted_meanwhile_is_told(tmp_path: Path) -> None:
    def delete(tick: int) -> None:
        if tick == 30:
            for path in tmp_path.glob("study.db*"):
                path.unlink()

    with pytest.raises(StoreError, match=r"study.db: was deleted or replaced while it was written"):
        sweep(tmp_path, four_runs(), at_tick=delete)


def test_trials_deleted_from_optuna_are_told(tmp_path: Path) -> None:
    with contextlib.suppress(Killed):
        sweep(tmp_path, four_runs(), at_tick=die_at(30))
    storage = optuna.storages.RDBStorage(url_of(tmp_path))
    optuna.delete_study(study_name="small", storage=storage)
    storage.remove_session()
    storage.engine.dispose()
    with pytest.raises(StoreError, match=r"trials of Optuna's study 'small' have been deleted, .* restore the file"):
        sweep(tmp_path, four_runs())


def test_a_checkpoint_of_a_study_whose_store_was_deleted_is_not_taken_over(tmp_path: Path, whole: Path) -> None:
    sweep(tmp_path, four_runs(baseline={**small_sweep.study().baseline, "learning_rate": 2e-3}))
    for path in tmp_path.glob("study.db*"):
        path.unlink()
    assert StudyPaths(tmp_path).checkpoint(1).exists()
    watcher = Watcher()
    assert sweep(tmp_path, four_runs(), observer=watcher).counts["complete"] == 4
    (said,) = (note for note in watcher.notes if "the store that knew them is gone" in note)
    assert f"{tmp_path / 'study.db'} is new, but 4 runs left a folder" in said
    assert same(tmp_path, whole)


def test_what_a_killed_worker_was_writing_is_deleted(tmp_path: Path) -> None:
    with contextlib.suppress(Killed):
        sweep(tmp_path, four_runs(), at_tick=die_at(10))
    half = StudyPaths(tmp_path).run(1) / ".ckpt.pt.4711"  # the checkpoint of the baseline stays
    half.write_text("half a checkpoint")
    sweep(tmp_path, four_runs())
    assert not half.exists()


# the data


class TestData:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Dataset:
        return random_walk_folder(tmp_path / "data")

    def test_a_file_that_changes_while_the_study_runs_stops_it(self, tmp_path: Path, data: Dataset) -> None:
        """Nothing that was computed from the changed file is kept."""
        out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
        sweep(undisturbed, four_runs(), data=data)
        train = data.path / "train.bin"
        original, stat = train.read_bytes(), train.stat()

        def change(tick: int) -> None:
            if tick == 30:
                train.write_bytes(bytes(len(original)))
                os.utime(train, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))

        with pytest.raises(DataError, match=r"train.bin: has changed while the study runs"):
            sweep(out, four_runs(), data=data, at_tick=change)
        assert not StudyPaths(out).checkpoint(2).exists()
        train.write_bytes(original)
        assert sweep(out, four_runs(), data=open_dataset(data.path)).finished
        assert same(out, undisturbed)

    def test_other_data_than_the_study_was_begun_with_is_refused(self, tmp_path: Path, data: Dataset) -> None:
        with contextlib.suppress(Killed):
            sweep(tmp_path / "out", four_runs(), data=data, at_tick=die_at(30))
        train = data.path / "train.bin"
        train.write_bytes(bytes(train.stat().st_size))
        with pytest.raises(StudyChanged, match="data: was"):
            sweep(tmp_path / "out", four_runs(), data=open_dataset(data.path))


# the machine


def test_a_folder_copied_elsewhere_goes_on_there(tmp_path: Path, whole: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "another" / "there"
    with contextlib.suppress(Killed):
        sweep(here, four_runs(), at_tick=die_at(50))
    shutil.copytree(here, there)
    shutil.rmtree(here)
    assert sweep(there, four_runs()).finished
    assert same(there, whole)
    assert not here.exists()


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.cycle([0.0, 1e6, -1e6])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600.0 * next(hours))
    assert sweep(tmp_path, four_runs(hours=1)).finished
    assert same(tmp_path, whole)
    assert event_kinds(tmp_path) == []


def test_a_damaged_checkpoint_becomes_no_origin(tmp_path: Path) -> None:
    """Every branch would begin with it."""
    paths = StudyPaths(tmp_path)
    run = small_sweep.run(1, [4.0, 3.9], origin=ORIGIN, outcome=Outcome.HALTED)
    paths.run(1).mkdir(parents=True)
    with zipfile.ZipFile(paths.checkpoint(1), "w") as archive:
        archive.writestr("ckpt/data/0", b"weights")
    content = bytearray(paths.checkpoint(1).read_bytes())
    content[content.index(b"weights")] ^= 1
    paths.checkpoint(1).write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match="data/0 has another checksum; the branches have no origin: start"):
        _of_run((run,), paths)
    assert not paths.origin.exists()
