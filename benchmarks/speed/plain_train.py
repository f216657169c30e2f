"""Train one config as nanoGPT's train.py does, from torch's stock parts, telling the losses on stdout.

    python -m benchmarks.speed.plain_train FOLDER DATA

FOLDER holds config.json, a config in nanoGPT's names; DATA the tokens. A line an evaluation, on random windows as
nanoGPT's are, the last one on `final_windows` of them; then the weights are left in FOLDER/ckpt.pt. One thread, as two
of these run at once.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.throughput import PlainGPT
from trainer.config import TrainConfig
from trainer.schedule import lr_at

CHECKPOINT = "ckpt.pt"


def main() -> None:
    folder, data = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    config = TrainConfig.from_mapping(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model = initial(config)
    for step, train_loss, val_loss in training(model, config, data):
        print(f"step {step}: train loss {train_loss:.4f}, val loss {val_loss:.4f}", flush=True)
    torch.save(model.state_dict(), folder / CHECKPOINT)


def initial(config: TrainConfig) -> PlainGPT:
    """nanoGPT's initial weights: the projections onto the residual stream are smaller by its number of layers."""
    torch.manual_seed(config.seed)
    model = PlainGPT(config)
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.weight"):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer))
    return model


def training(model: PlainGPT, config: TrainConfig, data: Path) -> Iterator[tuple[int, float, float]]:
    """Train the model; at each evaluation the step and the losses of training and validation text, nats a token."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2))
    splits = {split: np.memmap(data / f"{split}.bin", dtype=np.uint16, mode="r") for split in ("train", "val")}
    for step in range(config.max_iters + 1):
        if step % config.eval_interval == 0 or step == config.max_iters:
            windows = config.windows_at_the_end if step == config.max_iters else config.windows
            val = estimate(model, splits["val"], config, windows=windows)
            yield step, estimate(model, splits["train"], config, windows=config.windows), val
        if step == config.max_iters:
            return
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, config)
        for _ in range(config.gradient_accumulation_steps):
            loss = model(*batch(splits["train"], config, config.batch_size)) / config.gradient_accumulation_steps
            loss.backward()
        if config.grad_clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def estimate(model: PlainGPT, tokens: np.ndarray, config: TrainConfig, *, windows: int) -> float:
    """Mean loss on random windows, nats a token, dropout off."""
    model.eval()
    sizes = [min(config.batch_size, windows - at) for at in range(0, windows, config.batch_size)]
    total = sum(size * model(*batch(tokens, config, size)).item() for size in sizes)
    model.train()
    return float(total / windows)


def batch(tokens: np.ndarray, config: TrainConfig, size: int) -> tuple[Tensor, Tensor]:
    T = config.block_size
    starts = torch.randint(len(tokens) - T, (size,)).tolist()
    x_BT = torch.stack([torch.from_numpy(tokens[start : start + T].astype(np.int64)) for start in starts])
    y_BT = torch.stack([torch.from_numpy(tokens[start + 1 : start + 1 + T].astype(np.int64)) for start in starts])
    return x_BT, y_BT


if __name__ == "__main__":
    main()
