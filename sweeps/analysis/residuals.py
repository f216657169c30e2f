"""Noise in a table of losses by arm and seed: the residuals of an additive effect of each arm and of each seed.

The two-way layout counts every run once. Differences from one arm would count that arm's runs again and again.

Losses are by seed, or by seed and kind of device. Shapes: A arms, S seeds. Arms need not have a run at every seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from sweeps.analysis.modes import two_modes

Floats = NDArray[np.float64]

_ROUNDING_SQUARED = 1e-18
"""nats squared; a smaller sum of squared residuals is rounding"""
_LOUDER = 0.05
"""level of the tests for an arm that is louder than the others"""


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Noise of several arms' losses, beside the effects of arms and seeds."""

    variance: float
    degrees: int
    spread: float
    """squared coefficient of variation of the true variances of differences between two arms; an unbiased estimate, so
    it can be below 0 where the arms agree"""

    @property
    def weight(self) -> float:
        """Degrees of freedom that the variance is worth as an estimate of another arm's variance.

        The variance of a normal sample with k degrees of freedom has the squared coefficient of variation 2/k.
        """
        return min(2 / self.spread, self.degrees) if self.spread > 0 else self.degrees


def residual(table: Sequence[Mapping[Any, float]]) -> Residual | None:
    """Fit arm and seed effects to losses by arm and seed (nats), by least squares, and return the noise.

    None: there is no noise, no degree of freedom remains, or no two arms share two seeds, so that nothing tells how
    well arms agree.
    """
    if len(table) < 2:
        return None
    residuals_AS, has_AS, squares, degrees = _fit(table)
    variances_AA, degrees_AA = _pair_variances(residuals_AS, has_AS)
    if degrees == 0 or squares < _ROUNDING_SQUARED or not degrees_AA.any():
        return None
    variance = squares / degrees
    spread = _spread(variances_AA, degrees_AA, variance=variance, degrees=degrees)
    return Residual(variance=variance, degrees=degrees, spread=spread)


def of_one_kind(table: Sequence[Mapping[Any, float]]) -> bool:
    """Whether no arm has two modes, or is louder than the others at 5 % over all arms (Bonferroni).

    Louder is judged by the F test for further observations: the residual squares that the arm's runs add, against the
    residual squares of all other arms' runs.
    """
    arms = [losses for losses in table if len(losses) > 1]
    if len(arms) < 2:
        return True
    residuals_AS, has_AS, squares, degrees = _fit(arms)
    if any(two_modes(row[has].tolist()) for row, has in zip(residuals_AS, has_AS > 0, strict=True)):
        return False
    for index in range(len(arms)):
        *_, of_others, others_degrees = _fit([*arms[:index], *arms[index + 1 :]])
        if others_degrees and degrees > others_degrees and squares > _ROUNDING_SQUARED:
            added = (squares - of_others) / (degrees - others_degrees)
            ratio = added * others_degrees / max(of_others, _ROUNDING_SQUARED)
            if fdtrc(degrees - others_degrees, others_degrees, ratio) < _LOUDER / len(arms):
                return False
    return True


def _fit(table: Sequence[Mapping[Any, float]]) -> tuple[Floats, Floats, float, int]:
    """Return the (A, S) residuals, the (A, S) ones where an arm has a run, the sum of squares and its degrees."""
    losses_AS, has_AS = _grid(table)
    residuals_AS, rank = _two_way_residuals(losses_AS, has_AS)
    degrees = int(has_AS.sum()) - len(table) - rank
    return residuals_AS, has_AS, float((residuals_AS * residuals_AS).sum()), degrees


def _grid(table: Sequence[Mapping[Any, float]]) -> tuple[Floats, Floats]:
    """Return (A, S) losses, 0 where an arm has no run at a seed, and (A, S) ones where it has, else zeros."""
    seeds = sorted(set().union(*table))
    losses = np.array([[by_seed.get(seed, math.nan) for seed in seeds] for by_seed in table])
    has_run = np.isfinite(losses)
    return np.where(has_run, losses, 0), has_run.astype(float)


def _two_way_residuals(losses: Floats, has: Floats) -> tuple[Floats, int]:
    """Return the (A, S) residuals of arm and seed effects, and the number of independent seed effects."""
    runs_A = has.sum(axis=1)
    centred = _without_arm_means(losses, has)
    # the normal equations of the seed effects once the arm effects are eliminated
    normal_SS = np.diag(has.sum(axis=0)) - (has.T / runs_A) @ has
    seed_effects, _, rank, _ = np.linalg.lstsq(normal_SS, centred.sum(axis=0))
    return _without_arm_means(has * (centred - seed_effects), has), int(rank)


def _without_arm_means(values: Floats, has: Floats) -> Floats:
    """Subtract each arm's mean over its runs; `values` are 0 where there is no run, and so is the result."""
    means_A = values.sum(axis=1) / has.sum(axis=1)
    centred: Floats = has * (values - means_A[:, None])
    return centred


def _pair_variances(residuals: Floats, has: Floats) -> tuple[Floats, Floats]:
    """Return, for every pair of arms, half of the variance of their difference, and its degrees of freedom.

    Both are (A, A). Of two arms with the same noise, half of the variance of the difference is the variance of either.
    The degrees are 0 for pairs that share fewer than two seeds, and on the diagonal.
    """
    shared_AA = np.maximum(has @ has.T, 1)
    degrees_AA = shared_AA - 1
    np.fill_diagonal(degrees_AA, 0)
    # sums over the seeds that both arms have: of the first arm's residuals, and of their squares less the products
    sums_AA = residuals @ has.T
    squares_AA = (residuals * residuals) @ has.T - residuals @ residuals.T
    deviations_AA = squares_AA + squares_AA.T - (sums_AA - sums_AA.T) ** 2 / shared_AA
    return deviations_AA / np.maximum(degrees_AA, 1) / 2, degrees_AA


def _spread(variances: Floats, pair_degrees: Floats, *, variance: float, degrees: int) -> float:
    """Compare the pairs' mean square variance, weighted by degrees, with its expectation under equal noise.

    If all arms had the variance sigma**2, a sample variance with k degrees would have the mean square
    sigma**4 (1 + 2/k). That holds for the pairs and for the pooled variance by which sigma**4 is estimated.
    """
    sigma_4 = variance**2 / (1 + 2 / degrees)
    expected = sigma_4 * float((pair_degrees + 2 * (pair_degrees > 0)).sum())
    return float((pair_degrees * variances**2).sum()) / expected - 1
