"""Resuming: another split of the same sequences is the same run, and any other change is another run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.errors import CheckpointError
from trainer.machine.microbatch import split
from trainer.points import Answer, Point
from trainer.run.loop import train

CONFIG = TrainConfig(
    n_layer=1, n_head=1, n_embd=16, block_size=16, batch_size=4, gradient_accumulation_steps=1, learning_rate=1e-3,
    min_lr=1e-4, warmup_iters=1, max_iters=6, lr_decay_iters=6, eval_interval=2, eval_iters=2, device="cpu",
)  # fmt: skip


def go(_: Point) -> Answer:
    return Answer.GO


def pause(point: Point) -> Answer:
    return Answer.PAUSE if point.step == 2 else Answer.GO


@pytest.mark.parametrize("size", [2, 1])
def test_a_run_resumes_in_another_split(tmp_path: Path, size: int) -> None:
    data = random_walk_folder(tmp_path / "data")
    whole = train(CONFIG, data, go)
    assert train(CONFIG, data, pause, out=tmp_path / "out").outcome == "paused"
    points: list[Point] = []

    def report(point: Point) -> Answer:
        points.append(point)
        return Answer.GO

    resumed = train(split(CONFIG, size), data, report, out=tmp_path / "out")
    assert [point.step for point in points] == [0, 2, 4, 6]
    assert resumed.val_loss == pytest.approx(whole.val_loss, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 8}, "sequences per iteration: 4 there, 8 here"),
        ({"eval_windows": 4}, "windows per evaluation: 8 there, 4 here"),
        ({"final_windows": 99}, "windows of the final evaluation: 32 there, 99 here"),
        ({"learning_rate": 2e-3}, "learning_rate: 0.001 there, 0.002 here"),
    ],
)
def test_other_sequences_or_windows_are_another_run(tmp_path: Path, changes: dict[str, float], difference: str) -> None:
    data = random_walk_folder(tmp_path / "data")
    train(CONFIG, data, pause, out=tmp_path / "out")
    with pytest.raises(CheckpointError, match=difference):
        train(CONFIG.replace(**changes), data, go, out=tmp_path / "out")


def test_another_split_is_another_run_in_parity_mode(tmp_path: Path) -> None:
    data, config = random_walk_folder(tmp_path / "data"), CONFIG.replace(sampling="nanogpt")
    train(config, data, pause, out=tmp_path / "out")
    with pytest.raises(CheckpointError, match="batch_size: 4 there, 2 here"):
        train(split(config, 2), data, go, out=tmp_path / "out")
