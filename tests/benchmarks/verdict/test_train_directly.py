"""Direct runs: each task is trained once, from scratch or from an origin, to its end or up to a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from benchmarks.verdict import train_directly
from benchmarks.verdict.train_directly import Task, checkpoint_of, name_of, trained
from sweeps.workers import launch
from sweeps.workers.pool import Job, Report
from tests.helpers.inline_pool import InlinePool
from trainer.config import TrainConfig
from trainer.points import Answer, Point, Result


class Pool(InlinePool):
    """Trains nothing: the loss is the learning rate, a rate of 1 diverges, and a rate of 2 crashes."""

    jobs: ClassVar[list[Job]] = []

    def __init__(self, devices: Sequence[str], *, logs: Path, cores: int) -> None:  # as ProcessPool
        super().__init__(devices, work=self.work)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def work(self, job: Job, report: Report) -> Result:
        self.jobs.append(job)
        rate = job.config.learning_rate
        if rate == 2:
            raise RuntimeError("out of order")
        job.out.mkdir(parents=True, exist_ok=True)
        (job.out / "ckpt.pt").write_text("weights")
        points: list[Point] = []
        for step in (0, 10, 20, 30):
            points.append(
                Point(
                    step=step,
                    tokens=0,
                    train_loss=5.0,
                    train_se=0.1,
                    val_loss=5.0 - step / 10,
                    val_se=0.1,
                    lr=rate,
                    grad_norm=None,
                    tokens_per_s=None,
                    seconds=0.0,
                )
            )
            if report(points[-1]) is Answer.PAUSE:
                return Result(outcome="paused", step=step, points=tuple(points))
        outcome = "diverged" if rate == 1 else "complete"
        return Result(outcome=outcome, step=30, points=tuple(points), val_loss=None if rate == 1 else rate)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(train_directly, "ProcessPool", Pool)
    monkeypatch.setattr(launch, "cpu_cores", lambda: 2)
    monkeypatch.setattr(Pool, "jobs", [])
    return Pool


def configs(*rates: float) -> list[TrainConfig]:
    return [TrainConfig(learning_rate=rate, min_lr=0.0) for rate in rates]


def test_direct_losses_are_in_the_order_of_the_configs_and_no_config_is_trained_twice(
    pool: type[Pool], tmp_path: Path
) -> None:
    dataset: Any = SimpleNamespace(path=tmp_path / "data")
    assert train_directly.final_losses(configs(0.3, 0.1, 1, 0.2, 0.1), dataset, tmp_path) == [
        0.3,
        0.1,
        math.inf,
        0.2,
        0.1,
    ]
    assert sorted(job.config.learning_rate for job in pool.jobs) == [0.1, 0.2, 0.3, 1]
    assert {job.data for job in pool.jobs} == {dataset.path}
    assert not any(job.out.exists() for job in pool.jobs)
    assert train_directly.final_losses(configs(1, 0.4, 0.2), dataset, tmp_path) == [math.inf, 0.4, 0.2]
    assert [job.config.learning_rate for job in pool.jobs[4:]] == [0.4]
    assert train_directly.final_losses([], dataset, tmp_path) == []


def test_a_direct_run_that_crashes_ends_the_benchmark(pool: type[Pool], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="out of order"):
        train_directly.final_losses(configs(2), SimpleNamespace(path=tmp_path), tmp_path)  # type: ignore[arg-type]


def test_a_halted_run_has_the_loss_of_its_last_evaluation_and_its_curve(pool: type[Pool], tmp_path: Path) -> None:
    dataset: Any = SimpleNamespace(path=tmp_path / "data")
    (config,) = configs(0.3)
    halted, whole = trained([Task(config=config, until=20), Task(config=config)], dataset, tmp_path)
    assert (halted.loss, halted.curve) == (3.0, {0: 5.0, 10: 4.0, 20: 3.0})
    assert (whole.loss, whole.curve) == (0.3, {0: 5.0, 10: 4.0, 20: 3.0, 30: 2.0})
    assert len(pool.jobs) == 2
    assert trained([Task(config=config, until=20)], dataset, tmp_path) == [halted]
    assert len(pool.jobs) == 2
    assert len({name_of(Task(config=config, until=until)) for until in (None, 10, 20)}) == 3


def test_a_kept_checkpoint_is_trained_once_and_given_to_those_that_go_on_from_it(
    pool: type[Pool], tmp_path: Path
) -> None:
    dataset: Any = SimpleNamespace(path=tmp_path / "data")
    task = Task(config=configs(0.3)[0], until=10)
    checkpoint = checkpoint_of(task, dataset, tmp_path)
    assert checkpoint.read_text() == "weights"
    assert checkpoint_of(task, dataset, tmp_path) == checkpoint
    assert len(pool.jobs) == 1
    branch = TrainConfig(learning_rate=0.1, min_lr=0.0, init_from="branch", origin="0" * 64)
    trained([Task(config=branch, origin=checkpoint)], dataset, tmp_path)
    assert [job.origin for job in pool.jobs] == [None, checkpoint]
    with pytest.raises(SystemExit, match="diverged"):
        checkpoint_of(Task(config=configs(1)[0]), dataset, tmp_path)
