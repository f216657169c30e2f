"""A horizon in minutes: short runs on all workers measure the speed once, and the study is stored with the result."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import pytest

from sweeps.analysis.findings import Findings
from sweeps.engine.planning.measure import STEPS, MeasuringError, measure
from sweeps.errors import NotFound, SpecError, StudyChanged
from sweeps.report.publish import page_of
from sweeps.study.study import Study
from sweeps.verdict import verdict
from sweeps.workers.pool import Job, Message, Pulse, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.inline_pool import InlinePool
from tests.helpers.kills import Killed, die_at
from trainer.config import TrainConfig
from trainer.errors import DataError, UserError
from trainer.points import Answer, Point, Result

SPEEDS = {16: 1e4, 32: 5e3}


def study(**changes: Any) -> Study:
    """Return a study of two widths whose horizon is in minutes."""
    settings: dict[str, Any] = {
        "horizon": {"minutes": 0.01},
        "knobs": {"dropout": {"low": 0.0, "high": 0.4}, "n_embd": {"choices": [16, 32]}},
    }
    return small_sweep.study(**{**settings, **changes})


class Bench:
    """Work by the closed form at the speed of the width, which records the short runs."""

    def __init__(self, *, factor: float = 1.0) -> None:
        self.factor = factor
        """on the speed of the short runs"""
        self.measured: list[TrainConfig] = []
        self.points: list[int] = []

    def __call__(self, job: Job, report: Report) -> Result:
        short = job.config.max_iters == STEPS

        def timed(point: Point) -> Answer:
            speed = SPEEDS[job.config.n_embd]
            if short:
                self.points.append(point.step)
                speed *= self.factor if point.step == STEPS else 0.1  # slow before the last: warming up
            return report(dataclasses.replace(point, tokens_per_s=speed if point.step else None))

        if short:
            self.measured.append(job.config)
        return fake_training.train(job, timed)


def test_pulses_end_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, wait = Bench(), InlinePool.wait

    def with_pulses(pool: InlinePool, timeout: float) -> list[Message]:
        return [
            each
            for message in wait(pool, timeout)
            for each in (Pulse(run=message.run, attempt=message.attempt), message)
        ]

    monkeypatch.setattr(InlinePool, "wait", with_pulses)
    small_sweep.sweep(tmp_path, study(), work=bench, devices=("cpu", "cpu"))
    assert [config.n_embd for config in bench.measured] == [16, 16, 32, 32]
    assert set(bench.points) == {0, 8, 16}


def test_a_sweep_measures_every_width_on_every_worker_once(tmp_path: Path) -> None:
    bench, watcher = Bench(), small_sweep.Watcher()
    small_sweep.sweep(tmp_path, study(), work=bench, devices=("cpu", "cpu"), observer=watcher)
    assert [(config.n_embd, config.dropout) for config in bench.measured] == [(16, 0.4)] * 2 + [(32, 0.4)] * 2
    assert set(bench.points) == {0, 8, 16}
    results = small_sweep.results_in(tmp_path)
    assert results.study.fit is not None
    assert {(shape.n_embd, shape.tokens_per_s) for shape in results.study.fit.speeds} == set(SPEEDS.items())
    assert {run.config.max_iters for run in results.runs} == {results.study.iters}
    # the slowest width processes 3000 tokens in 0.6 s: 32 per iteration, and a third of the evaluated tokens
    assert 50 < results.study.iters < 93
    assert not (tmp_path / "measuring").exists()
    assert watcher.notes[0].startswith("measuring the speed of trials for the horizon: 2 shapes, 16 steps each")
    assert "0.01 minutes are" in " ".join(watcher.notes)


def test_the_speed_of_a_shape_is_the_median_over_unequal_devices(tmp_path: Path) -> None:
    def uneven(job: Job, report: Report) -> Result:
        speed = {"cuda:0": 100.0, "cuda:1": 200.0, "cuda:2": 900.0}[job.device]
        return fake_training.train(job, lambda point: report(dataclasses.replace(point, tokens_per_s=speed)))

    (shape,) = measured(tmp_path, uneven, devices=("cuda:0", "cuda:1", "cuda:2"))
    assert shape.tokens_per_s == 200.0


def test_a_resumed_and_grown_sweep_keeps_the_length(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        small_sweep.sweep(tmp_path, study(), work=Bench(), at_tick=die_at(100))
    before, faster = small_sweep.results_in(tmp_path), Bench(factor=3)
    assert before.runs
    small_sweep.sweep(tmp_path, study(trials=8), work=faster)
    after = small_sweep.results_in(tmp_path)
    assert faster.measured == []
    assert after.study.fit == before.study.fit
    assert after.study.trials == 8
    assert {run.config.max_iters for run in after.runs} == {before.study.iters}
    whole = tmp_path / "whole"
    small_sweep.sweep(whole, study(trials=8), work=Bench())
    assert small_sweep.reproducible_part(small_sweep.results_in(whole)) == small_sweep.reproducible_part(after)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `study()` has been run; a refused study writes nothing to it."""
    folder = tmp_path_factory.mktemp("swept")
    small_sweep.sweep(folder, study(), work=Bench())
    return folder


@pytest.mark.parametrize(
    ("horizon", "words"),
    [
        ({"minutes": 0.02}, r"horizon\.minutes: 0\.01 → 0\.02"),
        ({"minutes": 0.01, "equal": "time"}, r"horizon\.equal: tokens → time"),
        ({"iters": 60}, r"horizon\.minutes: 0\.01 → none"),
    ],
)
def test_another_length_is_another_study(swept: Path, horizon: dict[str, Any], words: str) -> None:
    again = Bench()
    with pytest.raises(StudyChanged, match=rf"begun with other settings: .*{words}.*another name"):
        small_sweep.sweep(swept, study(horizon=horizon), work=again)
    assert again.measured == []


def test_a_study_of_equal_time_says_so_in_its_verdict_and_its_report(tmp_path: Path) -> None:
    small_sweep.sweep(tmp_path, study(horizon={"minutes": 0.2, "equal": "time"}), work=Bench())
    results = small_sweep.results_in(tmp_path)
    iters = {run.config.n_embd: run.config.max_iters for run in results.runs}
    assert iters[16] > 1.7 * iters[32]
    findings = Findings(results)
    cautions = " ".join(verdict.verdict(findings).cautions)
    assert "Trials of every width and depth are equal in time, not in tokens" in cautions
    assert "the other trials get equal time; tokens/s per worker: 10,000 at width 16" in page_of(findings)


def test_too_few_minutes_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"0\.001 minutes are 0 iterations of the baseline.*write minutes: 0\.00"):
        small_sweep.sweep(tmp_path, study(horizon={"minutes": 0.001}), work=Bench())
    with pytest.raises(NotFound):
        small_sweep.results_in(tmp_path)
    assert not (tmp_path / "measuring").exists()


@pytest.mark.parametrize(
    ("sent", "ends_with", "code"), [(signal.SIGINT, KeyboardInterrupt, ()), (signal.SIGTERM, SystemExit, (143,))]
)
def test_an_interrupt_while_measuring_stores_nothing(
    tmp_path: Path, sent: signal.Signals, ends_with: type[BaseException], code: tuple[int, ...]
) -> None:
    interrupts: list[signal.Signals] = []

    def press(tick: int) -> None:
        if tick == 3:
            interrupts.append(sent)

    watcher = small_sweep.Watcher()
    with pytest.raises(ends_with) as ended:
        small_sweep.sweep(tmp_path, study(), work=Bench(), observer=watcher, at_tick=press, interrupts=interrupts)
    assert ended.value.args == code
    assert watcher.notes[-1].startswith("stopped while measuring; nothing is stored yet")
    with pytest.raises(NotFound):
        small_sweep.results_in(tmp_path)


# failures while it is measured


def measured(folder: Path, work: Any, *, devices: tuple[str, ...] = ("cpu",), widths: tuple[int, ...] = (16,)) -> Any:
    """Measure the baseline at these widths, and check that all workers are idle afterwards."""
    pool = InlinePool(devices, work=work)
    configs = [small_sweep.baseline().replace(n_embd=width) for width in widths]
    notes: list[str] = []
    speeds = measure(configs, pool, data=Path("/nowhere"), folder=folder / "measuring", say=notes.append, interrupts=())
    assert pool.idle() == list(devices)
    return speeds


def fails(error: Exception, *, at: int) -> Any:
    """Return work that raises `error` at the width `at`."""

    def work(job: Job, report: Report) -> Result:
        if job.config.n_embd == at:
            raise error
        return fake_training.train(job, report)

    return work


def test_a_users_mistake_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is gone"):
        measured(tmp_path, fails(DataError("/nowhere/data: is gone"), at=16))


def test_a_shape_that_no_worker_can_train_ends_the_session(tmp_path: Path) -> None:
    with pytest.raises(MeasuringError, match=r"no worker could train width 32, depth 1 .*\n(.*\n)*.*a bug"):
        measured(tmp_path, fails(RuntimeError("a bug"), at=32), widths=(16, 32))


def test_a_shape_that_does_not_fit_in_memory_is_left_out(tmp_path: Path) -> None:
    def tight(job: Job, report: Report) -> Result:
        if job.config.n_embd == 32:
            return Result(outcome="infeasible", step=0, points=(), reason="7 MiB are missing")
        return fake_training.train(job, report)

    assert [shape.n_embd for shape in measured(tmp_path, tight, widths=(16, 32))] == [16]
    with pytest.raises(UserError, match="none of the study's trials fits into memory"):
        measured(tmp_path, tight, widths=(32,))


def test_smaller_micro_batches_are_tried(tmp_path: Path) -> None:
    largest: list[int | None] = []

    def tight(job: Job, report: Report) -> Result:
        largest.append(job.largest)
        if job.largest is None:
            return Result(outcome="oom", step=0, points=(), reason="out of memory", batch_size=2)
        return fake_training.train(job, report)

    assert len(measured(tmp_path, tight)) == 1
    assert largest == [None, 1]
