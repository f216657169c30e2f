"""Whole studies on known loss surfaces, with their confirm phase, in memory."""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from sweeps.analysis.arms import Arm
from sweeps.analysis.evidence import Evidence
from sweeps.store.records import Results
from tests.helpers import simulated_study, synthetic
from trainer.config import TrainConfig

Surface = Callable[[TrainConfig], float]


def flat(config: TrainConfig) -> float:
    """Return a loss on which no knob has an effect."""
    return 3.5


def slow(config: TrainConfig) -> float:
    """Return a loss on which only the learning rate matters: 3e-3 is best, the baseline's 1e-3 is 0.17 nats worse."""
    return 3.4 + 0.14 * math.log(config.learning_rate / 3e-3) ** 2


def both(config: TrainConfig) -> float:
    """Return a loss that less weight decay and more width lower by 0.4 nats together, and not at all alone.

    The baseline has a weight decay of 0.1 and a width of 384.
    """
    return 3.5 - (0.4 if config.weight_decay < 0.05 and config.n_embd > 400 else 0.0)


SURFACES: dict[str, Surface] = {"flat": flat, "slow": slow, "both": both}


def noisy(config: TrainConfig, surface: Surface, *, luck: float, noise: float) -> float:
    """Return a final loss: the surface, a seed's luck shared by all configs of a width, and noise of the config."""
    shared = np.random.default_rng([config.seed, config.n_embd, config.max_iters])
    private = np.random.default_rng(zlib.crc32(repr(sorted(config.as_dict().items())).encode()))
    early = 0.3 if config.max_iters < 600 else 0.0
    return surface(config) + early + luck * float(shared.normal()) + noise * float(private.normal())


def searched(surface: Surface, *, luck: float = 0.03, noise: float = 0.01, trials: int = 24, **changes: Any) -> Results:
    """Return the study before its confirm phase: 3 baseline seeds, candidates, single-knob and random trials."""
    candidates = [{"learning_rate": 5e-4, "min_lr": 5e-5}, {"dropout": 0.2}]
    study = synthetic.study(**{"baseline_seeds": 3, "trials": 60, "candidates": candidates, **changes})
    return simulated_study.searched(study, _losses(surface, luck=luck, noise=noise), trials=trials)


def confirmed(results: Results, surface: Surface, *, luck: float = 0.03, noise: float = 0.01) -> Results:
    """Return the study with every run that its confirm phase asks for, one after another."""
    return simulated_study.confirmed(results, _losses(surface, luck=luck, noise=noise))


@functools.cache
def known(surface: str) -> Results:
    """Return a small study on one of SURFACES with its confirm phase."""
    return confirmed(searched(SURFACES[surface], trials=12), SURFACES[surface])


def with_a_diverged_run(results: Results, arm: Arm) -> Results:
    """Return the study, in which the arm's first run has diverged."""
    first = Evidence(results).runs(arm)[0].id
    runs = [
        dataclasses.replace(run, outcome="diverged", val_loss=None) if run.id == first else run for run in results.runs
    ]
    return dataclasses.replace(results, runs=tuple(runs))


def _losses(surface: Surface, *, luck: float, noise: float) -> simulated_study.Loss:
    return lambda config: noisy(config, surface, luck=luck, noise=noise)
