"""Tests that need a card. They are skipped on machines without one, such as this project's CI."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import functional as F

from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.model import flash
from trainer.points import Answer, Point, Result
from trainer.run.fast_paths import fault_of
from trainer.run.loop import train

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
def test_training_learns_as_on_a_cpu(tmp_path: Path, dtype: str) -> None:
    on_card = run(CONFIG.replace(dtype=dtype), tmp_path)
    on_cpu = run(CONFIG.replace(device="cpu"), tmp_path)
    assert on_card.outcome == "complete"
    assert on_card.val_loss == pytest.approx(on_cpu.val_loss, abs=0.05)


def test_compiled_is_the_same_function(tmp_path: Path) -> None:
    eager, compiled = run(CONFIG, tmp_path), run(CONFIG.replace(compile=True), tmp_path)
    assert compiled.val_loss == pytest.approx(eager.val_loss, abs=0.05)


def test_flash_attention_is_torchs_and_drops_at_the_given_rate() -> None:
    torch.manual_seed(1)
    qkv = torch.randn(4, 96, 3, 2, 64, device="cuda").bfloat16()
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    parts = [part.detach().requires_grad_() for part in (q, k, v)]
    assert flash.takes(q)
    ours = flash.flash_attention(*parts, torch.tensor(0.0))
    theirs = F.scaled_dot_product_attention(*parts, is_causal=True)
    assert torch.allclose(ours, theirs, atol=1e-2)
    our_gradients, their_gradients = (torch.autograd.grad(y.float().square().sum(), parts) for y in (ours, theirs))
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        assert torch.allclose(our_gradient, their_gradient, atol=5e-2)
    draws = torch.stack([flash.flash_attention(q, k, v, torch.tensor(0.3)).float() for _ in range(400)])
    assert torch.allclose(draws.mean(0), theirs.float(), atol=0.3)
    assert draws.std(0).mean() > 0.01


def test_a_worker_trusts_flash_attention_here() -> None:
    assert fault_of(flash.flash_attention, device="cuda", dtype=torch.bfloat16) == ""


def test_a_shape_is_compiled_once_whatever_the_rates(tmp_path: Path) -> None:
    torch._dynamo.reset()
    counters.clear()
    graphs = []
    for dropout in (0.05, 0.1, 0.2):
        run(CONFIG.replace(compile=True, dropout=dropout, dtype="bfloat16", label_smoothing=dropout), tmp_path)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[-1]


def test_a_paused_run_resumes(tmp_path: Path) -> None:
    config = CONFIG.replace(dropout=0.1)
    run(config, tmp_path, out=tmp_path / "out", stop_at=40)
    resumed = run(config, tmp_path, out=tmp_path / "out")
    assert resumed.val_loss == pytest.approx(run(config, tmp_path).val_loss, abs=1e-3)


def test_a_model_too_large_for_the_card_is_infeasible(tmp_path: Path) -> None:
    result = run(CONFIG.replace(n_embd=2**16, n_layer=200), tmp_path)
    assert result.outcome == "infeasible"
