"""nanoGPT's learning-rate schedule, linear warm-up and cosine decay, and the grid of evaluations along it."""

from __future__ import annotations

import math

from trainer.config import TrainConfig


def lr_at(step: int, config: TrainConfig) -> float:
    """Return the learning rate of the update at `step`, counted from 0 (nanoGPT's get_lr since December 2024)."""
    if not config.decay_lr:
        return config.learning_rate
    if step < config.warmup_iters:
        return config.learning_rate * (step + 1) / (config.warmup_iters + 1)
    if step > config.lr_decay_iters:
        return config.min_lr
    progress = (step - config.warmup_iters) / (config.lr_decay_iters - config.warmup_iters)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))  # from 1 down to 0
    return config.min_lr + cosine * (config.learning_rate - config.min_lr)


def learning_rates(config: TrainConfig) -> list[float]:
    """Return the learning rate at every evaluation: each `eval_interval` steps from 0, and at `max_iters`."""
    steps = [*range(0, config.max_iters, config.eval_interval), config.max_iters]
    return [lr_at(step, config) for step in steps]


def evaluation_of(step: int, config: TrainConfig) -> int:
    """Return the number, counted from 0, of the first evaluation at or after `step`."""
    return math.ceil(step / config.eval_interval)
