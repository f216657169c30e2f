"""The loop: idle workers, interrupts, hours, and workers that crash, hang or say what is out of date."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from sweeps.engine.progress import Observer, Progress, Silent, Summary
from sweeps.engine.runner import WorkerError
from sweeps.engine.session import run_in
from sweeps.paths import StudyPaths
from sweeps.store.store import Store
from sweeps.workers.pool import Finished, Job, Message, PointMessage, Pool, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.inline_pool import InlinePool
from tests.helpers.small_sweep import (
    Watcher,
    attempts_in,
    event_kinds,
    events_in,
    four_runs,
    optuna_trials_in,
    reproducible_part,
    results_in,
    sweep,
)
from trainer.errors import DataError, UserError
from trainer.points import Answer, Point, Result

pytestmark = pytest.mark.usefixtures("each_database")

MEDIAN = {"type": "median", "startup_trials": 1, "warmup": 0.0}


def same_runs(folder: Path, other: Path) -> bool:
    return reproducible_part(results_in(folder)) == reproducible_part(results_in(other))


def refuse(job: Job, report: Report) -> Result:
    raise AssertionError("this session must train nothing")


def test_idle_workers_get_the_next_run_at_once_and_the_results_are_the_same(
    tmp_path: Path, uninterrupted: Path
) -> None:
    in_flight: list[tuple[int, int]] = []

    def count(progress: Progress) -> None:
        left = progress.planned - sum(progress.counts.values())
        in_flight.append((len(progress.in_flight), left))

    watcher = Watcher()
    watcher.progress = count  # type: ignore[method-assign]
    sweep(tmp_path, four_runs(), devices=("cpu",) * 3, observer=watcher)
    assert same_runs(tmp_path, uninterrupted)
    # after a tick, at most one worker has ended its run and is not busy again
    assert all(flying >= min(3, left) - 1 for flying, left in in_flight)
    assert max(flying for flying, _ in in_flight) == 3


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "gp", "cmaes"])
def test_every_sampler_runs_without_a_warning(tmp_path: Path, sampler: str) -> None:
    assert sweep(tmp_path, small_sweep.study(sampler={"type": sampler}, baseline_seeds=1, trials=4)).finished


def test_a_loss_that_is_not_a_number_is_left_to_the_trainer(tmp_path: Path) -> None:
    def work(job: Job, report: Report) -> Result:
        if job.config.dropout == 0:
            return fake_training.train(job, report)
        point = dataclasses.replace(fake_training.point_at(job.config, 0), val_loss=math.nan, train_loss=math.nan)
        return Result(outcome="diverged", step=0, points=(), reason=f"answered {report(point).value}")

    sweep(tmp_path, four_runs(trials=2, pruner=MEDIAN), work=work)
    assert [run.reason for run in results_in(tmp_path).runs] == ["", "answered go", "answered go"]


def test_what_a_worker_does_the_plain_way_is_said_once_and_kept(tmp_path: Path) -> None:
    def work(job: Job, report: Report) -> Result:
        said = ("plain attention: dk differs; no more",) if job.run > 1 else ()
        return dataclasses.replace(fake_training.train(job, report), fallbacks=said)

    watcher, interrupts = Watcher(), list[signal.Signals]()

    def interrupt(tick: int) -> None:
        interrupts[:] = [signal.SIGTERM] if tick > 30 else []  # in the second run

    sweep(tmp_path, four_runs(), work=work, observer=watcher, at_tick=interrupt, interrupts=interrupts)
    # the next session knows it from the store
    sweep(tmp_path, four_runs(), work=work, observer=watcher)
    (event,) = (event for event in events_in(tmp_path) if event.kind == "fallback")
    assert (event.run, event.detail) == (2, "plain attention: dk differs; no more")
    results = results_in(tmp_path)
    assert [note for note in watcher.notes if "plain" in note] == [
        f"{results.runs[1].label} on cpu: plain attention: dk differs; no more"
    ]
    assert results.provenance["fallbacks"] == "plain attention: dk differs; no more"


class TestInterrupt:
    def interrupted_at(
        self, folder: Path, *sent: signal.Signals, tick: int, observer: Observer | None = None
    ) -> Summary:
        """Run the study, which receives the signals `sent` after `tick`."""
        interrupts: list[signal.Signals] = []

        def send(now: int) -> None:
            interrupts[:] = sent if now > tick else ()

        return sweep(folder, four_runs(), at_tick=send, interrupts=interrupts, observer=observer)

    def test_one_interrupt_pauses_at_the_next_evaluation_and_the_run_goes_on_from_there(
        self, tmp_path: Path, uninterrupted: Path
    ) -> None:
        watcher = Watcher()
        summary = self.interrupted_at(tmp_path, signal.SIGTERM, tick=30, observer=watcher)
        assert summary.interrupted == signal.SIGTERM
        assert watcher.notes == ["interrupted by SIGTERM: runs pause at their next step; SIGTERM again stops them now"]
        assert not summary.finished
        in_flight = [run for run in results_in(tmp_path).runs if run.outcome == "running"]
        assert [len(run.points) for run in in_flight] == [9]  # at the 31st tick, after the baseline's 22
        assert StudyPaths(tmp_path).checkpoint(in_flight[0].id).exists()
        assert optuna_trials_in(tmp_path)[1].state is TrialState.RUNNING
        sweep(tmp_path, four_runs())
        assert same_runs(tmp_path, uninterrupted)
        assert [event.detail for event in events_in(tmp_path) if event.kind == "interrupted"] == ["by SIGTERM"]

    def test_workers_are_asked_once_and_need_not_wait_for_an_evaluation(self, tmp_path: Path) -> None:
        interrupts: list[signal.Signals] = []
        requests: list[int] = []

        class Obedient(InlinePool):
            """Pauses run 2 without another point, once it is asked to."""

            def wait(self, timeout: float) -> list[Message]:
                messages = super().wait(timeout)
                if not requests:
                    interrupts[:] = [signal.SIGTERM] if messages[0].run == 2 else []
                    return messages
                self.kill(2)
                return [Finished(run=2, attempt=1, result=Result(outcome="paused", step=1, points=(), seconds=7.0))]

            def pause(self) -> None:
                requests.append(len(interrupts))

        paths = StudyPaths(tmp_path)
        with Store(small_sweep.url_of(tmp_path)) as store:
            pool = Obedient(["cpu"], work=fake_training.train)
            summary = run_in(
                pool, four_runs(), paths, store, small_sweep.dataset(), observer=Silent(), interrupts=interrupts
            )
            pool.close()
        assert requests == [1]
        assert summary.interrupted == signal.SIGTERM
        runs = results_in(tmp_path).runs
        assert [(run.outcome, len(run.points)) for run in runs] == [("complete", 21), ("running", 1)]
        assert sweep(tmp_path, four_runs()).finished

    def test_a_second_interrupt_stops_at_once(self, tmp_path: Path) -> None:
        summary = self.interrupted_at(tmp_path, signal.SIGINT, signal.SIGTERM, tick=30)
        assert summary.interrupted == signal.SIGINT
        assert [run.outcome for run in results_in(tmp_path).runs] == ["complete", "running"]
        assert sweep(tmp_path, four_runs()).finished


class FakeClock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_deadline_truncates_a_run_and_more_hours_let_it_go_on(tmp_path: Path, uninterrupted: Path) -> None:
    clock = FakeClock()

    def pass_a_minute(tick: int) -> None:
        clock.now += 60.0

    summary = sweep(tmp_path, four_runs(hours=0.5), at_tick=pass_a_minute, clock=clock)
    assert summary.truncated
    assert not summary.interrupted
    assert summary.counts["truncated"] == 1
    assert summary.seconds >= 1800
    assert [run.outcome for run in results_in(tmp_path).runs] == ["complete", "truncated"]
    assert optuna_trials_in(tmp_path)[1].state is TrialState.RUNNING
    again = sweep(tmp_path, four_runs(hours=0.5), clock=clock, work=refuse)
    assert again.truncated
    assert again.started == 0
    clock.now += 1e6  # time between sessions does not count
    last = sweep(tmp_path, four_runs(hours=2.0), at_tick=pass_a_minute, clock=clock)
    assert last.finished
    assert 3600 < last.seconds < 7200
    assert same_runs(tmp_path, uninterrupted)


class TestCrashes:
    def crashing(self, launches: int, end: BaseException) -> Callable[[Job, Report], Result]:
        """Return work in which dropout's single-knob trial raises `end` at its fifth point, on its first launches."""

        def work(job: Job, report: Report) -> Result:
            def fragile(point: Point) -> Answer:
                if point.step == 4 and job.config.dropout == 0.4 and job.attempt <= launches:
                    raise end
                return report(point)

            return fake_training.train(job, fragile)

        return work

    @pytest.mark.parametrize(("end", "kind"), [(RuntimeError("a bug"), "crashed"), (SystemExit(9), "died")])
    def test_a_crashed_run_is_retried_twice_from_its_checkpoint(
        self, tmp_path: Path, uninterrupted: Path, end: BaseException, kind: str
    ) -> None:
        watcher = Watcher()
        summary = sweep(tmp_path, four_runs(), work=self.crashing(2, end), observer=watcher)
        assert summary.counts["complete"] == 4
        assert same_runs(tmp_path, uninterrupted)
        assert event_kinds(tmp_path) == [kind, kind]
        assert len(watcher.notes) == 2
        assert attempts_in(tmp_path) == [1, 3, 1, 1]

    def test_after_the_third_crash_the_run_has_failed_and_the_sweep_goes_on(self, tmp_path: Path) -> None:
        summary = sweep(tmp_path, four_runs(), work=self.crashing(3, RuntimeError("a bug")))
        assert summary.finished
        assert (summary.counts["failed"], summary.counts["complete"]) == (1, 3)
        failed = results_in(tmp_path).runs[1]
        assert failed.reason == (
            "its worker crashed 3 times; the last time: RuntimeError: a bug; its log: runs/2/log.txt"
        )
        assert optuna_trials_in(tmp_path)[1].state is TrialState.FAIL
        assert event_kinds(tmp_path) == ["crashed"] * 3 + ["log", "failed"]
        assert not StudyPaths(tmp_path).checkpoint(failed.id).exists()

    def test_workers_that_never_train_end_the_sweep(self, tmp_path: Path) -> None:
        def broken(job: Job, report: Report) -> Result:
            raise ImportError("a missing library")

        with pytest.raises(WorkerError, match="a missing library"):
            sweep(tmp_path, four_runs(), work=broken)
        assert len(results_in(tmp_path).runs) == 1

    def test_a_users_mistake_is_not_retried_and_can_be_fixed(self, tmp_path: Path) -> None:
        work = self.crashing(1, DataError("/nowhere/data: is gone"))
        with pytest.raises(UserError, match=r"dropout at its high, 0.4: /nowhere/data: is gone"):
            sweep(tmp_path, four_runs(), work=work)
        assert [run.outcome for run in results_in(tmp_path).runs] == ["complete", "running"]
        assert sweep(tmp_path, four_runs()).counts["complete"] == 4


class TestMessages:
    def sweep_in(self, pool: Pool, folder: Path, *, observer: Observer, **options: Any) -> Summary:
        paths = StudyPaths(folder)
        with Store(small_sweep.url_of(folder)) as store:
            summary = run_in(pool, four_runs(), paths, store, small_sweep.dataset(), observer=observer, **options)
            pool.close()
        return summary

    def test_a_silent_worker_is_killed_and_its_run_relaunched(self, tmp_path: Path) -> None:
        clock, kills = FakeClock(), list[float]()

        def lost(message: Message) -> bool:
            first_launch = (message.run, message.attempt) == (2, 1)
            return first_launch and isinstance(message, PointMessage) and message.point.step > 2

        class SilentPool(InlinePool):
            """A pool whose ticks take 4 s, and in which run 2's first launch is silent from its fourth point on."""

            def wait(self, timeout: float) -> list[Message]:
                clock.now += 4.0
                return [message for message in super().wait(timeout) if not lost(message)]

            def kill(self, run: int) -> None:
                kills.append(clock.now)
                super().kill(run)

        watcher = Watcher()
        pool = SilentPool(["cpu"], work=fake_training.train)
        summary = self.sweep_in(pool, tmp_path, observer=watcher, clock=clock)
        assert summary.counts["complete"] == 4
        assert len(kills) == 1
        assert event_kinds(tmp_path) == ["hung"]
        # an evaluation takes 4 s, so the limit is its minimum, 120 s
        assert "its worker hung" in watcher.notes[0]

    @pytest.mark.parametrize("alone", [False, True], ids=["with the driver", "alone"])
    def test_a_worker_that_is_paused_has_not_fallen_silent(self, tmp_path: Path, alone: bool) -> None:
        """It is paused for an hour, three times in one run, with the driver (Ctrl-Z, a closed laptop) or alone."""
        clock = FakeClock()

        class PausedPool(InlinePool):
            """A pool whose second run is paused after its points at steps 2, 4 and 6."""

            pauses, left, asleep = 0, 0, False

            def wait(self, timeout: float) -> list[Message]:
                clock.now += 3600.0 if self.asleep and not alone else 4.0
                self.left, asleep, self.asleep = max(0, self.left - 1), self.asleep, False
                if asleep or self.left:
                    return []
                messages = super().wait(timeout)
                if any(isinstance(m, PointMessage) and m.run == 2 and m.point.step in (2, 4, 6) for m in messages):
                    self.pauses, self.left, self.asleep = self.pauses + 1, 900 * alone, True
                return messages

            def stopped(self) -> dict[int, int]:
                return {2: 4711} if self.left else {}

        watcher, pool = Watcher(), PausedPool(["cpu"], work=fake_training.train)
        summary = self.sweep_in(pool, tmp_path, observer=watcher, clock=clock)
        assert pool.pauses == 3
        assert summary.counts["complete"] == 4
        assert event_kinds(tmp_path) == []
        stopped = "dropout at its high, 0.4: its worker is stopped; `kill -CONT 4711` lets it go on"
        assert watcher.notes == [stopped] * 3 * alone

    def test_messages_of_an_earlier_launch_are_ignored(self, tmp_path: Path, uninterrupted: Path) -> None:
        class EchoingPool(InlinePool):
            """A pool that precedes each message with false ones, of the launch before and of an unknown run."""

            def wait(self, timeout: float) -> list[Message]:
                messages = super().wait(timeout)
                run, earlier = messages[0].run, messages[0].attempt - 1
                point = dataclasses.replace(fake_training.point_at(small_sweep.baseline(), 7), val_loss=0.0)
                result = Result(outcome="complete", step=20, points=(), val_loss=0.0)
                return [
                    PointMessage(run=run, attempt=earlier, point=point),
                    Finished(run=run, attempt=earlier, result=result),
                    Finished(run=999, attempt=1, result=result),
                    *messages,
                ]

        self.sweep_in(EchoingPool(["cpu"], work=fake_training.train), tmp_path, observer=Silent())
        assert same_runs(tmp_path, uninterrupted)
