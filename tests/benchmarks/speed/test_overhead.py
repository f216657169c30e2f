"""The benchmark of overhead: its account adds up, and simulated workers wait as long as the driver really takes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed import driver_load, overhead, timed_sweep
from benchmarks.speed.simulated_pool import SimulatedPool
from benchmarks.speed.timed_sweep import Spell
from sweeps.store.store import Reader
from sweeps.workers import worker
from sweeps.workers.pool import Finished, Job, PointMessage
from tests.helpers import fake_training, small_sweep
from trainer.config import TrainConfig
from trainer.points import Answer
from trainer.run import loop


def spell(began: float, ended: float, *, busy: float = 0.0, waits: tuple[float, ...] = ()) -> Spell:
    return Spell(began=began, ended=ended, steps=0.75 * busy, evaluations=0.25 * busy, waits=list(waits))


class TestAccount:
    def test_every_second_counts_once(self) -> None:
        runs = [
            spell(3, 13, busy=9, waits=(0.5,)),  # worker A
            spell(4, 10, busy=6),  # worker B
            spell(11, 19, busy=7),  # B again, a second later
            spell(15, 18, busy=3),  # A again, two seconds later
        ]
        account = overhead.worker_seconds(runs, began=0, ended=20, workers=2)
        assert (account.start, account.between, account.end) == (3 + 4, 1 + 2, 1 + 2)
        assert (account.steps, account.evaluations, account.waiting) == (0.75 * 25, 0.25 * 25, 0.5)
        assert account.inside == pytest.approx((10 + 6 + 8 + 3) - 25 - 0.5)
        assert account.share == pytest.approx(1 - 25 / 40)
        assert account.steady == pytest.approx(1 - 25 / (25 + 1.5 + 0.5 + 3))

    def test_a_worker_without_a_run_counts_as_starting(self) -> None:
        account = overhead.worker_seconds([spell(1, 9, busy=8)], began=0, ended=10, workers=2)
        assert (account.start, account.end) == (1 + 10, 1)

    @given(
        lengths=st.lists(st.floats(0.1, 10), min_size=1, max_size=12),
        gap=st.floats(0, 2),
        workers=st.integers(1, 3),
    )
    def test_the_parts_sum_to_all_worker_seconds(self, lengths: list[float], gap: float, workers: int) -> None:
        free, runs = [1.0] * workers, []
        for length in lengths:
            at = free.index(min(free))
            began = free[at] + gap
            runs.append(spell(began, began + length, busy=0.8 * length, waits=(0.1 * length,)))
            free[at] = began + length
        account = overhead.worker_seconds(runs, began=0, ended=max(free) + 1, workers=workers)
        parts = (account.steps, account.evaluations, account.start, account.inside)
        parts += (account.waiting, account.between, account.end)
        assert min(parts) > -1e-9
        assert sum(parts) == pytest.approx(account.wall * workers)


class TestStopwatch:
    def test_a_nested_call_counts_for_its_own_name_only(self) -> None:
        now = 0.0

        def advance(seconds: float) -> None:
            nonlocal now
            now += seconds

        stopwatch = driver_load.Stopwatch(clock=lambda: now)
        inner = stopwatch.timed("inner", advance)

        def both() -> None:
            advance(1)
            inner(4)
            inner(8)
            advance(2)

        stopwatch.timed("outer", both)()
        assert stopwatch.seconds == {"inner": 12, "outer": 3}

    def test_a_failing_call_raises_and_is_timed(self) -> None:
        ticks = iter((0.0, 5.0))

        def fail() -> None:
            raise OSError

        stopwatch = driver_load.Stopwatch(clock=lambda: next(ticks))
        with pytest.raises(OSError):  # noqa: PT011  # it has no text
            stopwatch.timed("fails", fail)()
        assert stopwatch.seconds == {"fails": 5}


class TestSimulatedPool:
    CONFIG = small_sweep.baseline()

    def pool(self, *, seconds: float = 1000.0) -> SimulatedPool:
        return SimulatedPool(["cpu"] * 2, curve_of=lambda _: [3.0, 2.0, 1.0], seconds=seconds)

    def job(self, run: int) -> Job:
        config = self.CONFIG.replace(max_iters=20, eval_interval=10)
        return Job(run=run, attempt=1, config=config, data=Path("/"), out=Path("/"), device="cpu")

    def test_training_takes_its_seconds_by_the_clock_and_no_real_time(self) -> None:
        pool, real_began = self.pool(), time.perf_counter()
        began = pool.clock()
        pool.start(self.job(1))
        (message,) = pool.wait(1e9)
        assert isinstance(message, PointMessage)
        assert pool.clock() - began >= 1000
        assert time.perf_counter() - real_began < 1000

    def test_a_wait_without_messages_ends_at_its_timeout(self) -> None:
        pool = self.pool()
        pool.start(self.job(1))
        began = pool.clock()
        assert pool.wait(0.5) == []
        assert 0.5 <= pool.clock() - began < 900

    def test_a_run_reports_its_losses_and_ends_as_it_is_answered(self) -> None:
        pool = self.pool()
        pool.start(self.job(1))
        pool.start(self.job(2))
        assert pool.idle() == []
        messages: dict[int, list[object]] = {1: [], 2: []}
        while len(pool.idle()) < 2:
            for message in pool.wait(1e9):
                messages[message.run].append(message)
                if isinstance(message, PointMessage):
                    stop = message.run == 2 and message.point.step == 10
                    pool.answer(message.run, Answer.STOP if stop else Answer.GO)
        for run, steps, outcome in ((1, [0, 10, 20], "complete"), (2, [0, 10], "stopped")):
            *points, end = messages[run]
            assert [message.point.step for message in points if isinstance(message, PointMessage)] == steps
            assert isinstance(end, Finished)
            assert (end.result.outcome, end.result.step) == (outcome, steps[-1])
        assert pool.reports == len(pool.answers) == 5

    def test_a_worker_waits_as_long_as_the_driver_is_busy(self) -> None:
        pool = self.pool()
        pool.start(self.job(1))
        pool.start(self.job(2))
        pool.wait(1e9)
        pool._skipped += 7.0  # as if the driver had been busy for seven seconds
        pool.answer(1, Answer.GO)
        assert pool.answers[0] == pytest.approx(7, abs=1)


def test_a_store_is_filled_and_the_real_loop_continues_with_it(tmp_path: Path) -> None:
    study = small_sweep.study(baseline_seeds=1, pruner={"type": "plateau"}, sampler={"type": "tpe"})

    def curve_of(config: TrainConfig) -> list[float]:
        return [
            fake_training.point_at(config, step).val_loss
            for step in range(0, config.max_iters + 1, config.eval_interval)
        ]

    loads = [
        driver_load.measure(study, tmp_path / str(turn), curve_of, stored=30, trials=4, workers=1, seconds=1.0)
        for turn in range(2)
    ]
    first = loads[0]
    assert first.decisions == loads[1].decisions
    assert (first.stored, first.trials) == (30, 4)
    assert sum(first.parts.values()) == pytest.approx(first.wall)
    with Reader(f"sqlite:///{tmp_path / '0' / 'study.db'}") as reader:
        runs = reader.results(study.name).runs
    assert [run.trial for run in runs] == list(range(34))
    pruned = [run for run in runs[5:30] if run.outcome == "pruned"]
    complete = [run for run in runs[5:30] if run.outcome == "complete"]
    assert len(pruned) == round(driver_load.PRUNED_SHARE * 24) or abs(len(pruned) - driver_load.PRUNED_SHARE * 25) <= 1
    assert all(len(run.points) == 21 for run in complete)
    assert all(len(run.points) == 5 for run in pruned)
    assert not [run for run in runs if run.outcome not in ("complete", "pruned")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        ([0.001], {"median": 1, "p95": 1, "longest": 1}),
        ([number / 1000 for number in range(1, 101)], {"median": 50, "p95": 95, "longest": 100}),
    ],
)
def test_spread(values: list[float], expected: dict[str, float]) -> None:
    assert driver_load.spread(values) == pytest.approx(expected)


def test_tables_say_whether_targets_are_met() -> None:
    account = overhead.worker_seconds([spell(0, 10, busy=9.9)], began=0, ended=10, workers=1)
    waits = {"median": 1.0, "p95": 51.0, "longest": 60.0}
    figures = {**dataclasses.asdict(account), "share": account.share, "steady": account.steady, "answers": waits}
    text = "\n".join(overhead.sweep_lines(figures))
    assert "1.00% of 10 worker-seconds" in text
    assert "met: at most 2%" in text
    assert "MISSED: at most 50" in text
    json.dumps(figures)


def test_the_timed_sweep_patches_names_that_exist() -> None:
    assert {field.name for field in dataclasses.fields(Spell)} >= set(timed_sweep.TIMED_METHODS)
    assert all(hasattr(loop._Run, name) for names in timed_sweep.TIMED_METHODS.values() for name in names)
    assert issubclass(timed_sweep.TimedTrainJob, worker.TrainJob)


def test_the_timed_sweep_runs_the_command() -> None:
    command = [sys.executable, "-m", "benchmarks.speed.timed_sweep", "--help"]
    help_text = subprocess.run(command, cwd=overhead.ROOT, capture_output=True, text=True, check=True).stdout
    assert "plateau" in help_text
