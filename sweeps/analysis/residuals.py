"""The noise in a table of losses by arm and seed: what is left beside an effect of each arm and one of each seed.

The two-way layout counts every run once, where differences from one arm would count that arm's runs again and again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXACT = 1e-18
"""nats squared; less is rounding"""


@dataclass(frozen=True, kw_only=True)
class Residual:
    """What arm and seed effects leave of the losses of several arms."""

    variance: float
    degrees: int
    spread: float
    """squared coefficient of variation of the variances of differences between two arms, their sampling apart; an
    unbiased estimate, so below 0 at times where they agree"""

    @property
    def weight(self) -> float:
        """Degrees of freedom that the variance is worth where it speaks of other arms: that of a normal sample has
        squared coefficient of variation 2/k at k degrees."""
        return min(2 / self.spread, self.degrees) if self.spread > 0 else self.degrees


def residual(table: Sequence[Mapping[int, float]]) -> Residual | None:
    """Of losses by arm and seed, fitted by least squares where not every arm has every seed. None: no noise, no degree
    of freedom is left, or no two arms share two seeds, so that nothing says how far they agree."""
    if len(table) < 2:
        return None
    seeds = sorted(set().union(*table))
    y = np.array([[losses.get(seed, math.nan) for seed in seeds] for losses in table])
    has = np.isfinite(y).astype(float)
    runs = has.sum(axis=1)
    y = np.where(has, y, 0)

    def without_arms(values: Floats) -> Floats:
        centred: Floats = has * (values - (values.sum(axis=1) / runs)[:, None])
        return centred

    y = without_arms(y)
    # normal equations of the seeds' effects, with the arms' swept out
    effects, _, rank, _ = np.linalg.lstsq(np.diag(has.sum(axis=0)) - (has.T / runs) @ has, y.sum(axis=0))
    left = without_arms(has * (y - effects))
    squared = left * left
    degrees = int(runs.sum()) - len(table) - int(rank)
    # halved variances of the differences of all pairs of arms, both ways round
    both = np.maximum(has @ has.T, 1)
    freedom = both - 1
    np.fill_diagonal(freedom, 0)
    if degrees == 0 or squared.sum() < _EXACT or not freedom.any():
        return None
    variance = float(squared.sum()) / degrees
    total, square = left @ has.T, squared @ has.T - left @ left.T
    of_pairs = (square + square.T - (total - total.T) ** 2 / both) / np.maximum(freedom, 1) / 2
    # were all sigma**2: the mean square of one of k degrees is sigma**4 (1 + 2/k)
    expected = variance**2 / (1 + 2 / degrees) * float((freedom + 2 * (freedom > 0)).sum())
    spread = float((freedom * of_pairs**2).sum()) / expected - 1
    return Residual(variance=variance, degrees=degrees, spread=spread)
