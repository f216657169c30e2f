"""What only a card can show. Skipped, and said so, where there is none: no CI machine of this project has one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainer.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.points import Answer, Point, Result

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none here"),
]

CONFIG = TrainConfig(
    n_layer=2, n_head=2, n_embd=64, block_size=64, learning_rate=3e-3, min_lr=3e-4, warmup_iters=5, lr_decay_iters=60,
    max_iters=60, batch_size=8, gradient_accumulation_steps=2, eval_interval=20, eval_windows=16, final_windows=16,
    device="cuda", compile=False,
)  # fmt: skip


def run(config: TrainConfig, folder: Path, out: Path | None = None, stop_at: int = -1) -> Result:
    data = random_walk_folder(folder / "data", tokens=40_000)

    def report(point: Point) -> Answer:
        return Answer.PAUSE if point.step == stop_at else Answer.GO

    return train(config, data, report, out=out)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_learns_as_on_a_cpu(tmp_path: Path, dtype: str) -> None:
    on_card = run(CONFIG.replace(dtype=dtype), tmp_path)
    on_cpu = run(CONFIG.replace(device="cpu"), tmp_path)
    assert on_card.outcome == "complete"
    assert on_card.val_loss == pytest.approx(on_cpu.val_loss, abs=0.05)


def test_compiled_is_the_same_function(tmp_path: Path) -> None:
    eager, compiled = run(CONFIG, tmp_path), run(CONFIG.replace(compile=True), tmp_path)
    assert compiled.val_loss == pytest.approx(eager.val_loss, abs=0.05)


def test_it_resumes(tmp_path: Path) -> None:
    config = CONFIG.replace(dropout=0.1)
    run(config, tmp_path, out=tmp_path / "out", stop_at=40)
    resumed = run(config, tmp_path, out=tmp_path / "out")
    assert resumed.val_loss == pytest.approx(run(config, tmp_path).val_loss, abs=1e-3)


def test_no_memory_for_it_is_infeasible(tmp_path: Path) -> None:
    result = run(CONFIG.replace(n_embd=2**16, n_layer=200), tmp_path)
    assert result.outcome == "infeasible"
