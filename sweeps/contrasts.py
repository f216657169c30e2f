"""Differences of final losses between arms, over seeds, with honest intervals."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.05
MOST_SEEDS = 64

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Final losses of one config under several seeds, nats a token."""

    losses: Mapping[int, float]
    """by seed"""
    shape: Hashable
    """arms of one shape start from the same weights and see the same batches at a seed"""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum of arms' losses over the seeds that they share, nats; above 0 is better."""

    differences: Mapping[int, float]
    """by seed: every one is to be shown"""
    mean: float
    se: float | None
    """standard error of the mean, nats; None: the noise isn't known (one seed, nothing to pool with)"""
    degrees: float | None
    low: float | None
    """95 % interval, two-sided"""
    high: float | None
    lower: float | None
    """one-sided 95 % bounds"""
    upper: float | None
    threshold: float
    """what it is tested against, nats"""
    p: float | None
    """one-sided, of a true mean of at most `threshold`"""
    method: str
    """layout, paired, unpaired or permutation: how the interval was made"""

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.differences)

    @property
    def share(self) -> float:
        """Of the seeds, those whose own difference exceeds the threshold."""
        return sum(each > self.threshold for each in self.differences.values()) / max(1, self.n)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What the arms of one shape contribute to a contrast."""

    mean: float
    variance: float | None
    """of the mean; None: not known"""
    degrees: float
    layout: bool


def contrast(weights: Mapping[K, float], samples: Mapping[K, Sample], *, threshold: float = 0.0) -> Contrast | None:
    """The sum of arms' losses by `weights`, which sum to 0; None where no seed has all of these arms.

    `samples` holds every arm of the study: those outside of the contrast tell of the noise.
    """
    groups: dict[Hashable, list[K]] = defaultdict(list)
    for arm, weight in weights.items():
        if weight:
            groups[samples[arm].shape].append(arm)
    needed = [arm for arms in groups.values() for arm in arms]
    shared = sorted(set.intersection(*(set(samples[arm].losses) for arm in needed)))
    if not shared:
        return None
    differences = {seed: sum(weights[arm] * samples[arm].losses[seed] for arm in needed) for seed in shared}
    parts = [_part(arms, weights, samples) for arms in groups.values()]
    method = "layout" if all(part.layout for part in parts) else "paired" if len(parts) == 1 else "unpaired"
    mean = sum(part.mean for part in parts)
    variances = [part.variance for part in parts]
    known = [each for each in variances if each is not None]
    if len(known) < len(variances) or sum(known) <= 0:
        return _made(differences, mean, None, None, threshold, method)
    degrees = sum(known) ** 2 / sum(part.variance**2 / part.degrees for part in parts if part.variance)
    return _made(differences, mean, math.sqrt(sum(known)), degrees, threshold, method)


def _part(arms: Sequence[K], weights: Mapping[K, float], samples: Mapping[K, Sample]) -> _Part:
    seeds = sorted(set.intersection(*(set(samples[arm].losses) for arm in arms)))
    sums = [sum(weights[arm] * samples[arm].losses[seed] for arm in arms) for seed in seeds]
    mean, n = statistics.fmean(sums), len(sums)
    if abs(sum(weights[arm] for arm in arms)) < 1e-9:
        shape = samples[arms[0]].shape
        variance, degrees = _residual([each.losses for each in samples.values() if each.shape == shape])
        if degrees:
            size = sum(weights[arm] ** 2 for arm in arms)
            return _Part(mean=mean, variance=variance * size / n, degrees=degrees, layout=True)
    if n < 2:
        return _Part(mean=mean, variance=None, degrees=0, layout=False)
    return _Part(mean=mean, variance=statistics.variance(sums) / n, degrees=n - 1, layout=False)


def _residual(table: Sequence[Mapping[int, float]]) -> tuple[float, int]:
    """Residual variance of losses by arm and seed about arm + seed effects, and its degrees of freedom."""
    seeds = sorted(set().union(*table))
    rows = [
        (i, len(table) + seeds.index(seed), loss) for i, losses in enumerate(table) for seed, loss in losses.items()
    ]
    design = np.zeros((len(rows), len(table) + len(seeds)))
    for row, (arm, seed, _) in zip(design, rows, strict=True):
        row[[arm, seed]] = 1
    values = np.array([loss for *_, loss in rows])
    fit, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    degrees = len(rows) - int(rank)
    return (float(np.sum((values - design @ fit) ** 2)) / degrees, degrees) if degrees else (0.0, 0)


def _made(
    differences: Mapping[int, float],
    mean: float,
    se: float | None,
    degrees: float | None,
    threshold: float,
    method: str,
) -> Contrast:
    """A contrast by Student's t."""
    two = one = p = None
    if se is not None and degrees is not None:
        two, one = (se * float(stdtrit(degrees, 1 - tail)) for tail in (LEVEL / 2, LEVEL))
        p = float(stdtr(degrees, (threshold - mean) / se))
    return Contrast(
        differences=differences,
        mean=mean,
        se=se,
        degrees=degrees,
        low=None if two is None else mean - two,
        high=None if two is None else mean + two,
        lower=None if one is None else mean - one,
        upper=None if one is None else mean + one,
        threshold=threshold,
        p=p,
        method=method,
    )


def shown(contrast: Contrast) -> bool:
    """Whether the mean is shown to exceed the contrast's threshold."""
    return contrast.p is not None and contrast.p <= LEVEL


def negligible(contrast: Contrast, min_effect: float) -> bool:
    """Whether the interval lies inside ±min_effect."""
    return (
        contrast.low is not None
        and contrast.high is not None
        and -min_effect < contrast.low
        and contrast.high < min_effect
    )


def harmful(contrast: Contrast, min_effect: float) -> bool:
    """Whether the mean is shown to be below -min_effect."""
    return contrast.upper is not None and contrast.upper < -min_effect


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (1979), in place. None, a comparison not made yet, stays so and counts as one of the family."""
    adjusted: list[float | None] = [None] * len(p)
    known = sorted((value, index) for index, value in enumerate(p) if value is not None)
    highest = 0.0
    for rank, (value, index) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(p) - rank)))
        adjusted[index] = highest
    return adjusted


def seeds_to_decide(contrast: Contrast, *, min_effect: float) -> int | None:
    """Further seeds with which the mean would be shown to be above min_effect, below -min_effect or within, were mean
    and noise to stay; None: over 64, or the noise isn't known."""
    if contrast.se is None or contrast.degrees is None:
        return None
    n = contrast.n
    for more in range(1, MOST_SEEDS + 1):
        se = contrast.se * math.sqrt(n / (n + more))
        degrees = contrast.degrees * (n + more - 1) / max(1, n - 1)
        two, one = (se * float(stdtrit(degrees, 1 - tail)) for tail in (LEVEL / 2, LEVEL))
        if abs(contrast.mean) - one > min_effect or abs(contrast.mean) + two < min_effect:
            return more
    return None
