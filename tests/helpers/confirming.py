"""A whole study of a known loss surface, its confirm phase too, in memory: no trainer, no store."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from sweeps.store.records import Results
from tests.helpers import simulated_study, synthetic
from trainer.config import TrainConfig

Surface = Callable[[TrainConfig], float]


def flat(config: TrainConfig) -> float:  # a surface
    """No knob does anything."""
    return 3.5


def slow(config: TrainConfig) -> float:
    """The rate is all: 3e-3 is best, the baseline's 1e-3 loses .17 nats."""
    return 3.4 + 0.14 * math.log(config.learning_rate / 3e-3) ** 2


def both(config: TrainConfig) -> float:
    """Less weight decay and more width gain .4 together and nothing alone: the baseline has .1 and 384."""
    return 3.5 - (0.4 if config.weight_decay < 0.05 and config.n_embd > 400 else 0.0)


def noisy(config: TrainConfig, surface: Surface, *, luck: float, noise: float) -> float:
    """A final loss: the surface, what a seed does to all configs of a width, and what it does to this one."""
    shared = np.random.default_rng([config.seed, config.n_embd, config.max_iters])
    own = np.random.default_rng(zlib.crc32(repr(sorted(config.as_dict().items())).encode()))
    early = 0.3 if config.max_iters < 600 else 0.0
    return surface(config) + early + luck * float(shared.normal()) + noise * float(own.normal())


def searched(surface: Surface, *, luck: float = 0.03, noise: float = 0.01, trials: int = 24, **changes: Any) -> Results:
    """The study before its confirm phase: 3 seeds of the baseline, candidates, the star and random trials."""
    candidates = [{"learning_rate": 5e-4, "min_lr": 5e-5}, {"dropout": 0.2}]
    study = synthetic.study(**{"baseline_seeds": 3, "trials": 60, "candidates": candidates, **changes})
    return simulated_study.searched(study, _losses(surface, luck=luck, noise=noise), trials=trials)


def confirmed(results: Results, surface: Surface, *, luck: float = 0.03, noise: float = 0.01) -> Results:
    """The study with every run that its confirm phase asks for, one after another."""
    return simulated_study.confirmed(results, _losses(surface, luck=luck, noise=noise))


def _losses(surface: Surface, *, luck: float, noise: float) -> simulated_study.Loss:
    return lambda config: noisy(config, surface, luck=luck, noise=noise)
