"""What a worker does with a job: it trains the config on the job's data, from the job's origin if it names one."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from sweeps.workers.pool import Crashed, Finished, Job
from sweeps.workers.worker import TrainJob, do
from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.points import Answer, Point

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
