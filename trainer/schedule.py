"""The learning rate of a step: nanoGPT's linear warm-up and cosine decay."""

from __future__ import annotations

import math

from trainer.config import TrainConfig


def lr_at(step: int, config: TrainConfig) -> float:
    """Learning rate of the update at `step`, counted from 0 (nanoGPT's get_lr since December 2024)."""
    if not config.decay_lr:
        return config.learning_rate
    if step < config.warmup_iters:
        return config.learning_rate * (step + 1) / (config.warmup_iters + 1)
    if step > config.lr_decay_iters:
        return config.min_lr
    progress = (step - config.warmup_iters) / (config.lr_decay_iters - config.warmup_iters)
    share = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.min_lr + share * (config.learning_rate - config.min_lr)


def learning_rates(config: TrainConfig) -> list[float]:
    """The learning rates at evaluations 0 to the last, which is at the horizon."""
    steps = [*range(0, config.max_iters, config.eval_interval), config.max_iters]
    return [lr_at(step, config) for step in steps]


def evaluation_of(step: int, config: TrainConfig) -> int:
    """The evaluation at `step`, or the next one after it."""
    return math.ceil(step / config.eval_interval)
