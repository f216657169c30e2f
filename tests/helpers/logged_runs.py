"""Logs of simulated runs for tests of the diagnosis: losses of a power law, with one fault each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeps.diagnose.diagnosis import Diagnosis, diagnosis_of
from sweeps.diagnose.log import read_log
from sweeps.diagnose.measured import Given
from tests.helpers.training_logs import text_of

SETTINGS: Mapping[str, Any] = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "block_size": 128,
    "batch_size": 16,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "warmup_iters": 40,
    "lr_decay_iters": 2000,
    "max_iters": 2000,
    "dropout": 0.0,
    "eval_iters": 200,
}
VOCABULARY = 512
FIRST = math.log(VOCABULARY)
"""nats; loss of the untrained model"""


def falling(step: float) -> float:
    """Return a loss that falls as a power law, nats."""
    return 2.0 + (FIRST - 2.0) * (1 + step / 20) ** -0.5


def flat(step: float) -> float:
    """Return a loss that stops falling at step 800."""
    return falling(min(step, 800))


Loss = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A run to be logged. `train` and `val` give the losses at a step; None leaves the evaluations out."""

    train: Loss = falling
    val: Loss | None = falling
    settings: Mapping[str, Any] = field(default_factory=dict)
    last: int = 2000
    every: int = 50
    noise: float = 0.003
    iters: Loss | None = None
    """printed training losses, every 10 steps; None: none"""
    seed: int = 0
    vocab_size: int | None = VOCABULARY
    data_tokens: int | None = None
    known: bool = True
    """whether the settings are given"""

    def lines(self) -> list[str]:
        """Return the log's lines."""
        random = np.random.default_rng(self.seed)
        found = []
        for step in range(0, self.last + 1, 10):
            if self.val is not None and step % self.every == 0:
                train, val = (loss(step) + random.normal(0, self.noise) for loss in (self.train, self.val))
                found.append(f"step {step}: train loss {train:.4f}, val loss {val:.4f}")
            if self.iters is not None:
                found.append(f"iter {step}: loss {self.iters(step) + random.normal(0, 0.02):.4f}, time 100.00ms")
        return found

    def diagnosis(self) -> Diagnosis:
        """Return the diagnosis of its log."""
        (run,) = read_log(text_of(self.lines()), name="run.log")
        settings = {**SETTINGS, **self.settings} if self.known else {}
        given = Given(settings=settings, vocab_size=self.vocab_size, data_tokens=self.data_tokens)
        return diagnosis_of(run, given)
