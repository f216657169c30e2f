"""A training script in the manner of nanoGPT's train.py, from torch's stock parts, with its losses on stdout.

    python -m benchmarks.speed.plain_train FOLDER DATA

FOLDER holds config.json, a config in nanoGPT's names, and DATA the tokens. Each evaluation prints a line. It uses
random windows, as nanoGPT does, and `final_windows` of them at the end. The weights are left in FOLDER/ckpt.pt. One
thread, because two of these processes run at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.commands import argument_errors, parser_of
from benchmarks.speed.plain_gpt import PlainGPT, plain_adamw, random_windows
from benchmarks.speed.plain_trial import CHECKPOINT, config_in
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.schedule import lr_at


def main() -> None:
    """Train, print the losses and save the weights."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path, help="folder that holds config.json")
    parser.add_argument("data", type=Path, help="folder of the tokens")
    options = parser.parse_args()
    with argument_errors(parser):
        config = config_in(options.folder)
        if not (options.data / "train.bin").is_file():
            raise UserError(f"{options.data} holds no train.bin")
    torch.set_num_threads(1)
    model = initial(config)
    for step, train_loss, val_loss in training(model, config, options.data):
        print(f"step {step}: train loss {train_loss:.4f}, val loss {val_loss:.4f}", flush=True)
    torch.save(model.state_dict(), options.folder / CHECKPOINT)


def initial(config: TrainConfig) -> PlainGPT:
    """Return a model with nanoGPT's initial weights: smaller projections onto the residual stream in deep models."""
    torch.manual_seed(config.seed)
    model = PlainGPT(config)
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.weight"):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer))
    return model


def training(model: PlainGPT, config: TrainConfig, data: Path) -> Iterator[tuple[int, float, float]]:
    """Train the model; yield the step, the training loss and the validation loss (nats per token) per evaluation."""
    optimizer = plain_adamw(model, config)
    splits = {split: np.memmap(data / f"{split}.bin", dtype=np.uint16, mode="r") for split in ("train", "val")}
    for step in range(config.max_iters + 1):
        if step % config.eval_interval == 0 or step == config.max_iters:
            windows = config.windows_at_the_end if step == config.max_iters else config.windows
            val_loss = estimate(model, splits["val"], config, windows=windows)
            yield step, estimate(model, splits["train"], config, windows=config.windows), val_loss
        if step == config.max_iters:
            return
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, config)
        for _ in range(config.gradient_accumulation_steps):
            x_BT, y_BT = random_windows(splits["train"], block_size=config.block_size, windows=config.batch_size)
            loss = model(x_BT, y_BT) / config.gradient_accumulation_steps
            loss.backward()
        if config.grad_clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def estimate(model: PlainGPT, tokens: np.ndarray, config: TrainConfig, *, windows: int) -> float:
    """Return the mean loss on random windows without dropout, nats per token."""
    model.eval()
    sizes = [min(config.batch_size, windows - at) for at in range(0, windows, config.batch_size)]
    total = sum(
        size * model(*random_windows(tokens, block_size=config.block_size, windows=size)).item() for size in sizes
    )
    model.train()
    return float(total / windows)


if __name__ == "__main__":
    main()
