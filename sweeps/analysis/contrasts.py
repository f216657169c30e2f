"""Differences of final losses between arms, over seeds, with honest intervals.

A seed moves every loss, and alike those of arms that start from the same weights and see the same batches (of one
shape). A contrast's noise is what is left of that luck once arms are subtracted. How it is measured is settled by which
arms are compared, and by the scatter about their means: never by the means themselves.

- *layout*: the luck cancels (the weights sum to 0 over the arms of each shape), and other arms of the shape tell of
  what is left, too. On two seeds a contrast's own sums give Student's t one degree of freedom and an interval of 13
  standard errors; the residuals of the other arms' table by arm and seed measure such noise many times over. As arms
  need not be equally noisy, the others weigh no more than their agreement with each other warrants, and nothing where
  the contrast's own sums scatter more than theirs, or clearly less.
- *paired*: Student's t on the sums by seed alone. So it is for a config that changes many knobs at once, which may feel
  a seed's luck less or more than all that change one: others don't tell of its noise (`pooled`).
- *unpaired*: arms of different shape share no luck (measured: to pair them by seed narrows nothing), so each shape's
  own sums have a variance, over all its seeds, and Welch's formula adds them up.
- *permutation*: some seeds have broken through and others have not, so that a mean and its standard error describe
  neither. Flips of the sums' signs give p, and Hartigan's typical values the interval.

How often the intervals hold the truth is measured by `benchmarks/verdict/intervals.py`.

Two-sided intervals are of 95 % for the runs there are. Claims go by p and by the one-sided bounds, and the confirm
phase looks at these after every run and adds seeds where no claim is made yet: who looks again and again, and believes
what is shown once, errs more often. So p can be multiplied by `looks`, and the bounds be as much wider (Pocock 1977,
"Group sequential methods in the design and analysis of clinical trials", Biometrika 64).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import fdtrc, stdtr, stdtrit

from sweeps.analysis.residuals import residual

LEVEL = 0.05
"""one minus the confidence of every interval and bound"""
_LOUDER, _QUIETER = 0.1, 0.01
"""levels of the F tests by which a contrast is too noisy, or too calm, for the others' variance to speak of it; to be
taken for calm by chance costs coverage, to be taken for noisy only width"""
_EXACT = 1e-9
"""nats; noise below it is rounding"""
_WITHIN = (0.00068, 0.0143, 0.0392, 0.0650, 0.0876, 0.1065, 0.1229, 0.1359, 0.1476, 0.1572, 0.1663, 0.1746)
"""what two clusters leave of the variance of 3, 4, ... normal values, in one case of twenty (10**6 draws)"""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Final losses of one config under several seeds, nats a token."""

    losses: Mapping[int, float]
    """by seed"""
    shape: Hashable
    """arms of one shape start from the same weights and see the same batches at a seed"""

    def less(self, share: float, other: Sample) -> Sample:
        """This arm's losses less a share of another's at the seeds that both have: an arm like any other."""
        shared = self.losses.keys() & other.losses.keys()
        return Sample(
            losses={seed: self.losses[seed] - share * other.losses[seed] for seed in shared}, shape=self.shape
        )


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum of arms' losses over the seeds that they share, nats; above 0 is better."""

    differences: Mapping[int, float]
    """by seed: every one is to be shown"""
    mean: float
    """of the differences; method unpaired: of each arm's losses at all its seeds"""
    se: float | None
    """standard error of the mean, nats; None: the noise isn't known (one seed, nothing to pool with)"""
    degrees: float | None
    low: float | None
    """95 % interval, two-sided; None: no bound (noise unknown, or method permutation with under 6 seeds)"""
    high: float | None
    lower: float | None
    """one-sided 95 % bounds over all looks; None: no bound (noise unknown, or method permutation with few seeds)"""
    upper: float | None
    threshold: float
    """what it is tested against, nats"""
    p: float | None
    """one-sided, of a true mean of at most `threshold`, over all looks"""
    method: str
    """layout, paired, unpaired or permutation: how the interval was made"""
    looks: float = 1.0
    """by which p is multiplied"""

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.differences)

    @property
    def share(self) -> float:
        """Of the seeds, those whose own difference exceeds the threshold."""
        return sum(each > self.threshold for each in self.differences.values()) / max(1, self.n)


def contrast(
    weights: Mapping[K, float],
    samples: Mapping[K, Sample],
    *,
    threshold: float = 0.0,
    looks: float = 1.0,
    pooled: bool = True,
) -> Contrast | None:
    """The sum of arms' mean losses by `weights`, which sum to 0.

    `samples` holds every arm of the study: those outside of the contrast tell of the noise, if it is to be `pooled`.
    Arms of one shape count at the seeds that they share; the differences are those of seeds that all arms share. None
    where there is no such seed.
    """
    parts: dict[Hashable, dict[K, float]] = defaultdict(dict)
    for arm, weight in weights.items():
        if weight:
            parts[samples[arm].shape][arm] = weight
    sums = {shape: _sums(part, samples) for shape, part in parts.items()}
    shared = sorted(set.intersection(*(set(each) for each in sums.values())))
    if not shared:
        return None
    differences = {seed: math.fsum(each[seed] for each in sums.values()) for seed in shared}
    if any(two_modes([each[seed] for seed in shared]) for each in sums.values()):
        return _permuted(differences, threshold, looks)
    others = {arm: sample for arm, sample in samples.items() if pooled and arm not in weights}
    noises = [
        _noise(part, list(sums[shape].values()), samples[next(iter(part))].shape, others)
        for shape, part in parts.items()
    ]
    mean = math.fsum(statistics.fmean(each.values()) for each in sums.values())
    return _by_t(differences, mean, noises, threshold, looks)


def _sums(part: Mapping[K, float], samples: Mapping[K, Sample]) -> dict[int, float]:
    """Weighted sums of losses at the seeds that the arms of a part share."""
    seeds = sorted(set.intersection(*(set(samples[arm].losses) for arm in part)))
    return {seed: math.fsum(weight * samples[arm].losses[seed] for arm, weight in part.items()) for seed in seeds}


@dataclass(frozen=True, kw_only=True)
class _ArmNoise:
    """Of the mean of a part: of what the arms of one shape contribute to a contrast."""

    variance: float
    degrees: float
    pooled: bool
    """other arms speak of it, too"""


def _noise(
    part: Mapping[K, float], sums: Sequence[float], shape: Hashable, others: Mapping[K, Sample]
) -> _ArmNoise | None:
    """Of the arms of a shape; `others` may tell of it. None: not known."""
    n, degrees = len(sums), len(sums) - 1
    mean = math.fsum(sums) / n
    own = math.fsum((each - mean) ** 2 for each in sums) / degrees if degrees else 0.0
    alone = _ArmNoise(variance=own / n, degrees=degrees, pooled=False) if degrees else None
    if abs(math.fsum(part.values())) > _EXACT or (degrees and max(map(abs, sums)) < _EXACT):
        return alone
    rest = residual([each.losses for each in others.values() if each.shape == shape and each.losses])
    size = math.fsum(weight**2 for weight in part.values())
    if rest is None or (degrees and _differs(own / size / rest.variance, degrees, rest.degrees)):
        return alone
    total = degrees + rest.weight
    variance = (degrees * own + rest.weight * size * rest.variance) / total
    return _ArmNoise(variance=variance / n, degrees=total, pooled=True)


def _differs(ratio: float, degrees: int, of_others: int) -> bool:
    """Of two variances. Under 5 seeds may be calm by chance: as where all have broken through that need not have."""
    louder = fdtrc(degrees, of_others, ratio)
    return bool(louder < _LOUDER or (degrees > 3 and louder > 1 - _QUIETER))


def two_modes(values: Sequence[float]) -> bool:
    """Whether the values fall into two clusters, as where some runs broke through and others got stuck.

    The share of their variance that the best split into two leaves within the clusters (Fisher 1958, "On Grouping for
    Maximum Homogeneity", JASA 53) is less than in 95 % of normal samples. It says nothing of mean and variance, on
    which in normal samples it doesn't depend (Basu's theorem): so to choose the method by it does an interval no harm.
    """
    n = len(values)
    if not 3 <= n < 3 + len(_WITHIN):
        return False
    mean = math.fsum(values) / n
    ordered = sorted(each - mean for each in values)
    total = math.fsum(each * each for each in ordered)
    # the sums of two clusters are each other's negative, as the mean is removed
    between = max(low**2 * n / (i * (n - i)) for i, low in enumerate(itertools.accumulate(ordered[:-1]), 1))
    return total > n * _EXACT**2 and 1 - between / total < _WITHIN[n - 3]


def _permuted(differences: Mapping[int, float], threshold: float, looks: float) -> Contrast:
    """By all 2**n flips of signs: differences that are symmetric about their mean are as likely either way.

    So p is at least 2**-n. The means of all subsets of the seeds cut the line into pieces that hold the true mean with
    equal probability (Hartigan 1969, "Using Subsample Values as Typical Values", JASA 64): at one look 5
    seeds for a one-sided bound, 6 for an interval.
    """
    values = np.array(list(differences.values()))
    n, count = len(values), 2 ** len(values)
    chosen = np.array(list(itertools.product((0, 1), repeat=n)))
    flipped = (2 * chosen - 1) @ (values - threshold)
    means = np.sort(chosen[1:] @ values / chosen[1:].sum(axis=1))

    def bound(tail: float, sign: int) -> float | None:
        index = math.floor(tail * count)
        return None if index == 0 else float(means[index - 1] if sign < 0 else means[-index])

    return Contrast(
        differences=differences,
        mean=float(values.mean()),
        se=float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None,
        degrees=n - 1 if n > 1 else None,
        low=bound(LEVEL / 2, -1),
        high=bound(LEVEL / 2, 1),
        lower=bound(LEVEL / looks, -1),
        upper=bound(LEVEL / looks, 1),
        threshold=threshold,
        p=min(1.0, looks * float(np.mean(flipped >= flipped[-1] - _EXACT))),
        method="permutation",
        looks=looks,
    )


def _by_t(
    differences: Mapping[int, float], mean: float, noises: Sequence[_ArmNoise | None], threshold: float, looks: float
) -> Contrast:
    """By Student's t; of several runs that agree to the last digit the mean is certain."""
    known = [noise for noise in noises if noise is not None]
    se = degrees = two = one = p = None
    if len(known) == len(noises):
        variance = math.fsum(noise.variance for noise in known)
        if variance > _EXACT**2:
            # Welch and Satterthwaite; a single part keeps its degrees
            degrees = variance**2 / math.fsum(noise.variance**2 / noise.degrees for noise in known)
            se = math.sqrt(variance)
            two, one = (se * float(stdtrit(degrees, 1 - tail)) for tail in (LEVEL / 2, LEVEL / looks))
            p = min(1.0, looks * float(stdtr(degrees, (threshold - mean) / se)))
        else:
            se = two = one = 0.0
            degrees = math.fsum(noise.degrees for noise in known)
            p = float(mean <= threshold + _EXACT)
    if len(known) == len(noises) and all(noise.pooled for noise in known):
        method = "layout"
    else:
        method = "paired" if len(noises) == 1 else "unpaired"
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
        looks=looks,
    )
