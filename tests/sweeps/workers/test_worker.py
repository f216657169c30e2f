"""What a worker does with a job: it trains the config on the job's data, from the job's origin if it names one."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
from pathlib import Path

import pytest

from sweeps.workers.pool import Crashed, Finished, Job, Report
from sweeps.workers.worker import TrainJob, do
from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.points import Answer, Point, Result
from trainer.run import checkpoint

CONFIG = TrainConfig(
    n_layer=1, n_head=1, n_embd=16, block_size=16, vocab_size=32, batch_size=2, gradient_accumulation_steps=1,
    learning_rate=1e-3, min_lr=1e-4, max_iters=4, lr_decay_iters=4, warmup_iters=1, eval_interval=2, eval_windows=4,
)  # fmt: skip


def test_a_job_goes_on_from_its_origin(tmp_path: Path) -> None:
    data = random_walk_folder(tmp_path / "data")
    scratch = Job(run=1, attempt=1, config=CONFIG, data=data.path, out=tmp_path / "runs" / "1", device="cpu")
    points: list[Point] = []

    def report(point: Point) -> Answer:
        points.append(point)
        return Answer.GO

    assert isinstance(do(TrainJob(), scratch, report), Finished)
    last, path = points[-1], scratch.out / "ckpt.pt"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    config = CONFIG.replace(init_from="branch", origin=sha256)
    branch = dataclasses.replace(scratch, run=2, config=config, out=tmp_path / "runs" / "2", origin=path)
    points.clear()
    finished = do(TrainJob(), branch, report)
    assert isinstance(finished, Finished)
    assert finished.result.outcome == "complete"
    assert (points[0].step, points[0].val_loss) == (0, last.val_loss)
    another = dataclasses.replace(branch, run=3, out=tmp_path / "runs" / "3", origin=None)
    crashed = do(TrainJob(), another, report)
    assert isinstance(crashed, Crashed)
    assert crashed.user_error
    assert "no file was given" in crashed.text


def test_a_job_with_a_damaged_checkpoint_goes_on_from_the_one_before(tmp_path: Path) -> None:
    """Its losses are those of an undisturbed job, and its result says what happened."""
    data = random_walk_folder(tmp_path / "data")
    jobs = [
        Job(run=run, attempt=1, config=CONFIG, data=data.path, out=tmp_path / "runs" / str(run), device="cpu")
        for run in (1, 2)
    ]

    def go_on(point: Point) -> Answer:
        return Answer.GO

    def pause(point: Point) -> Answer:
        return Answer.PAUSE if point.step == CONFIG.max_iters else Answer.GO

    work = TrainJob(checkpoint_seconds=0.0)
    whole = do(work, jobs[0], go_on)
    assert isinstance(do(work, jobs[1], pause), Finished)
    path = jobs[1].out / "ckpt.pt"
    assert checkpoint.read(path, remedy="").iter_num == 4
    content = path.read_bytes()
    path.unlink()  # it shares its content with nothing then
    path.write_bytes(content[: len(content) // 2])
    ended = do(work, jobs[1], go_on)
    assert isinstance(whole, Finished)
    assert isinstance(ended, Finished)
    (note,) = ended.result.notes
    assert note.startswith(f"its checkpoint was dropped, and the run goes on from the one before: {path}: is damaged")
    assert ended.result.val_loss == whole.result.val_loss
    assert [point.val_loss for point in ended.result.points] == [point.val_loss for point in whole.result.points]
    assert whole.result.notes == ()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full: make room and run again"),
        (errno.EDQUOT, "is full: make room and run again"),
        (errno.EROFS, "is read-only"),
    ],
)
def test_a_disk_that_takes_no_more_is_the_users_to_mend(tmp_path: Path, number: int, words: str) -> None:
    """Three more tries would fail as well, and the run would have failed for good."""

    def failing(job: Job, report: Report) -> Result:
        raise OSError(number, os.strerror(number), "/runs/1/log.txt")

    job = Job(run=1, attempt=1, config=CONFIG, data=tmp_path, out=tmp_path, device="cpu")
    crashed = do(failing, job, lambda point: Answer.GO)
    assert isinstance(crashed, Crashed)
    assert crashed.user_error
    assert crashed.text.startswith(f"/runs/1/log.txt: {os.strerror(number)}; the disk {words}")


def test_another_error_of_the_system_is_tried_again(tmp_path: Path) -> None:
    def failing(job: Job, report: Report) -> Result:
        raise OSError(errno.EIO, "Input/output error")

    job = Job(run=1, attempt=1, config=CONFIG, data=tmp_path, out=tmp_path, device="cpu")
    crashed = do(failing, job, lambda point: Answer.GO)
    assert isinstance(crashed, Crashed)
    assert not crashed.user_error
    assert "Input/output error" in crashed.text
