"""The faults of `unseen_logs`, and how each run should be read. All were written down before any log was read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.diagnose.planted_logs import Plant

BASE: Mapping[str, Any] = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 64,
    "block_size": 48,
    "batch_size": 20,
    "gradient_accumulation_steps": 1,
    "dropout": 0.0,
    "learning_rate": 2e-3,
    "min_lr": 2e-4,
    "warmup_iters": 30,
    "max_iters": 900,
    "lr_decay_iters": 900,
    "beta2": 0.99,
    "eval_interval": 45,
    "eval_iters": 12,
    "log_interval": 15,
    "device": "cpu",
}
_UNSCALED = ("lossf = loss.item() * gradient_accumulation_steps", "lossf = loss.item()")
"""nanoGPT's line that undoes the division of the loss, and the same forgotten"""

NANOGPT: Mapping[str, Plant] = {
    "healthy": Plant(
        verdict="improving",
        cause="-",
        must_not_say="overfitting,plateau,capacity_limited,data_limited",
        settings={"lr_decay_iters": 1500},
        data="chars",
    ),
    "rate_of_a_fifteenth": Plant(
        verdict="slow_not_plateau",
        cause="learning rate too low",
        must_not_say="overfitting,capacity_limited,data_limited",
        settings={"learning_rate": 1e-4, "min_lr": 1e-5},
        data="pairs",
    ),
    "dropout_0.3": Plant(
        verdict="soft_plateau",
        cause="dropout on an underfit model",
        must_not_say="overfitting,data_limited",
        settings={"dropout": 0.3},
        data="chars",
    ),
    "15_000_characters": Plant(
        verdict="overfitting",
        cause="train set of 15,000 characters",
        must_not_say="capacity_limited,val_mismatch",
        settings={"n_layer": 3, "n_embd": 128},
        data="small",
    ),
    "resumed_after_the_decay": Plant(
        verdict="soft_plateau",
        cause="pinned at min_lr after a resume",
        must_not_say="overfitting,data_limited",
        settings={"max_iters": 405, "lr_decay_iters": 405, "min_lr": 2e-5},
        resumed={"max_iters": 900},
        data="pairs",
    ),
    "resumed_at_five_times_the_rate": Plant(
        verdict="soft_plateau",
        cause="spike after a resume",
        must_not_say="overfitting,data_limited,capacity_limited",
        settings={"max_iters": 450, "lr_decay_iters": 450},
        resumed={"max_iters": 900, "lr_decay_iters": 1800, "learning_rate": 1e-2, "warmup_iters": 0},
        data="chars",
    ),
    "printed_loss_not_scaled_back": Plant(
        verdict="soft_plateau",
        cause="accumulation: printed losses are a fourth",
        must_not_say="overfitting,data_limited",
        settings={"gradient_accumulation_steps": 4, "batch_size": 5, "lr_decay_iters": 1200},
        data="pairs",
        replaced=_UNSCALED,
    ),
    "48_tokens_per_update": Plant(
        verdict="soft_plateau",
        cause="batch of 48 tokens at a constant rate",
        must_not_say="overfitting,data_limited,capacity_limited",
        settings={"batch_size": 1, "decay_lr": False, "max_iters": 1500, "eval_interval": 75, "eval_iters": 150},
        data="chars",
    ),
    "one_batch_per_evaluation": Plant(
        verdict="improving",
        cause="noise of eval_iters 1",
        must_not_say="overfitting,plateau,data_limited",
        settings={"eval_iters": 1, "lr_decay_iters": 1500},
        data="pairs",
    ),
    "width_8": Plant(
        verdict="soft_plateau",
        cause="capacity: n_embd 8",
        must_not_say="overfitting,data_limited",
        settings={"n_layer": 3, "n_embd": 8, "n_head": 2, "max_iters": 1200, "lr_decay_iters": 1200},
        data="chars",
    ),
}
"""runs of real nanoGPT"""
OURS: Mapping[str, Plant] = {
    "weight_decay_1.5": Plant(
        verdict="soft_plateau",
        cause="weight decay 1.5",
        must_not_say="overfitting,data_limited",
        settings={"weight_decay": 1.5},
        data="chars",
    ),
    "decay_over_at_a_seventh": Plant(
        verdict="soft_plateau",
        cause="decay over after 135 of 900",
        must_not_say="overfitting,data_limited,capacity_limited",
        settings={"lr_decay_iters": 135, "min_lr": 2e-5},
        data="pairs",
    ),
    "warmup_of_two_fifths": Plant(
        verdict="improving",
        cause="warmup of 360 of 900",
        must_not_say="overfitting,plateau,capacity_limited",
        settings={"warmup_iters": 360, "lr_decay_iters": 1200},
        data="chars",
    ),
    "healthy_pairs": Plant(
        verdict="improving",
        cause="-",
        must_not_say="overfitting,plateau,capacity_limited,data_limited",
        settings={"lr_decay_iters": 1500},
        data="pairs",
    ),
}
"""runs of `python -m trainer`"""
MILDER: Mapping[str, Plant] = {
    "finished": Plant(
        verdict="soft_plateau",
        cause="-",
        must_not_say="overfitting,capacity_limited,data_limited,val_mismatch,lr_too_low,lr_decayed_early",
        data="pairs",
    ),
    "rate_of_a_quarter": Plant(
        verdict="improving",
        cause="learning rate too low",
        must_not_say="overfitting,capacity_limited,data_limited",
        settings={"learning_rate": 3.5e-4, "min_lr": 3.5e-5},
        data="chars",
    ),
    "rate_of_twenty_times": Plant(
        verdict="soft_plateau",
        cause="rate too high",
        must_not_say="overfitting,capacity_limited,data_limited",
        settings={"learning_rate": 3e-2, "min_lr": 3e-3},
        data="pairs",
    ),
    "60_000_characters": Plant(
        verdict="soft_plateau",
        cause="data-limited: 60,000 characters",
        must_not_say="capacity_limited,val_mismatch",
        settings={"n_embd": 96},
        data="sixty",
    ),
    "warmup_of_a_sixth": Plant(
        verdict="improving",
        cause="warmup of 150 of 900",
        must_not_say="overfitting,plateau,capacity_limited",
        settings={"warmup_iters": 150, "lr_decay_iters": 1200},
        data="pairs",
    ),
    "weight_decay_0.5": Plant(
        verdict="soft_plateau",
        cause="weight decay 0.5",
        must_not_say="overfitting,data_limited",
        settings={"weight_decay": 0.5},
        data="pairs",
    ),
    "96_tokens_at_a_constant_rate": Plant(
        verdict="soft_plateau",
        cause="batch of 96 tokens at a constant rate",
        must_not_say="overfitting,data_limited,capacity_limited",
        settings={"batch_size": 2, "decay_lr": False, "max_iters": 1800, "eval_interval": 90, "eval_iters": 100},
        data="pairs",
    ),
    "dropout_0.2_at_width_16": Plant(
        verdict="soft_plateau",
        cause="dropout, and capacity: n_embd 16",
        must_not_say="overfitting,data_limited",
        settings={"dropout": 0.2, "n_embd": 16, "n_head": 2, "n_layer": 3},
        data="chars",
    ),
}
"""milder faults in runs of real nanoGPT, planted after the others had been read"""
