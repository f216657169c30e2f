"""Loss curves that follow the scaling law under nanoGPT's schedule, for tests that need the true parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sweeps.pruning.law import Schedule


def cosine(*, evaluations: int = 40, warm: float = 0.05, ratio: float = 0.1) -> Schedule:
    """Return a linear warm-up over a share `warm` of the run, then a cosine down to `ratio` of the peak."""
    share = np.arange(evaluations + 1) / evaluations
    falling = ratio + (1 - ratio) * 0.5 * (1 + np.cos(np.pi * np.clip((share - warm) / (1 - warm), 0, 1)))
    return Schedule.of(np.where(share < warm, (share + 1e-3) / (warm + 1e-3), falling))


def curve(
    schedule: Schedule, *, floor: float = 3.0, height: float = 0.5, alpha: float = 0.5, gain: float = 0.2
) -> NDArray[np.float64]:
    """Return (E+1,) `floor + height * (x**-alpha - 1) - gain * z` without noise; 9 nats at the start, where x = 0."""
    x = np.where(schedule.progress > 0, schedule.progress, 1.0)
    losses = floor + height * (x**-alpha - 1) - gain * schedule.annealing
    return np.where(schedule.progress > 0, losses, 9.0)


def held(losses: NDArray[np.float64], since: int) -> NDArray[np.float64]:
    """Return the curve, constant from evaluation `since` on."""
    return np.where(np.arange(len(losses)) < since, losses, losses[since])
