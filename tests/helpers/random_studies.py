"""Simulated studies on random loss surfaces: knobs that help, harm, do nothing, or only matter together."""

from __future__ import annotations

import functools
import math

import numpy as np

from sweeps.store.records import Results
from tests.helpers import confirming
from trainer.config import TrainConfig

COUNT = 10


def surface(number: int) -> confirming.Surface:
    """Return a loss whose effects are drawn anew for each number, with an interaction of two knobs in every third."""
    rng = np.random.default_rng([20, number])
    rate, decay, drop, width = rng.normal(0, 0.12, 4) * (rng.random(4) < 0.7)
    together = 0.3 if number % 3 == 0 else 0.0

    def loss(config: TrainConfig) -> float:
        fast = math.log(config.learning_rate / 1e-3) / math.log(6)
        wide = (config.n_embd - 384) / 384
        both = together * (config.learning_rate > 1.5e-3) * (config.n_embd > 450)
        alone = 0.5 * together * (config.learning_rate > 1.5e-3) * (config.n_embd <= 450)
        change = rate * fast + decay * math.log10(0.1 / config.weight_decay) / 2 - drop * config.dropout / 0.3
        return 3.6 - change - width * wide - both + alone

    return loss


@functools.cache
def study(number: int, *, seeds: int = 3, runs: int = 40) -> Results:
    """Return a study on that surface with its confirm phase. Its seeds differ by 0.03 nats, and runs by 0.01."""
    confirm = {"seeds": seeds, "max_trials": runs}
    results = confirming.searched(surface(number), trials=12, confirm=confirm)
    return confirming.confirmed(results, surface(number))
