"""Two modes: values that fall into two clusters, as where some seeds broke through and others got stuck."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

_ROUNDING = 1e-9
"""smaller differences are rounding"""
_WITHIN = (0.00068, 0.0143, 0.0392, 0.0650, 0.0876, 0.1065, 0.1229, 0.1359, 0.1476, 0.1572, 0.1663, 0.1746)
"""share of the variance of 3, 4, ... normal values that remains within two clusters, 5 % quantile (10**6 draws)"""
_FEWEST = 3
"""values that can fall into two clusters"""


def two_modes(values: Sequence[float]) -> bool:
    """Whether the values fall into two clusters.

    The criterion is the share of the variance that remains within the clusters of the best split in two (Fisher 1958,
    "On Grouping for Maximum Homogeneity", JASA 53): it is smaller than in 95 % of normal samples. In normal samples the
    share is independent of mean and variance (Basu's theorem), so choosing the method by it does not harm an interval.
    """
    n = len(values)
    if not _FEWEST <= n < _FEWEST + len(_WITHIN):
        return False
    mean = math.fsum(values) / n
    ordered = sorted(value - mean for value in values)
    total = math.fsum(value * value for value in ordered)
    # the mean is removed, so the sum of the upper cluster is the negative of the lower cluster's
    between = max(low**2 * n / (i * (n - i)) for i, low in enumerate(itertools.accumulate(ordered[:-1]), 1))
    return total > n * _ROUNDING**2 and 1 - between / total < _WITHIN[n - _FEWEST]


def typical_values(values: Sequence[float], tail: float) -> tuple[float, float]:
    """Return the bounds of a mean that leave about `tail` on either side; the values' range if they are too few for it.

    The means of all subsets cut the line into 2**n pieces, which hold the true mean with equal probability if the
    values are symmetric about it (Hartigan 1969, "Using Subsample Values as Typical Values", JASA 64). So the range
    leaves 2**-n on either side.
    """
    subsets = _subsets(len(values))
    means = np.sort(subsets @ np.array(values) / subsets.sum(axis=1))
    outside = max(1, math.floor(tail * 2 ** len(values)))
    return float(means[outside - 1]), float(means[-outside])


def sign_flip_p(values: Sequence[float], threshold: float) -> float:
    """Return the one-sided p of a mean of at most `threshold`, of values that are symmetric about it.

    It is the share of all 2**n flips of signs that make the sum as large: symmetric differences are as likely either
    way. 0 if all values exceed the threshold: then it has no say, because the p would be 2**-n whatever their size.
    """
    if min(values) > threshold:
        return 0.0
    taken = _subsets(len(values)) @ (np.array(values) - threshold)  # from the sum by flipping a subset, halved
    return float((1 + np.count_nonzero(taken <= _ROUNDING)) / 2 ** len(values))


@functools.cache
def _subsets(n: int) -> NDArray[np.int64]:
    """Return (2**n - 1, n) ones and zeros: the subsets of n values that are not empty."""
    return np.array(list(itertools.product((0, 1), repeat=n)))[1:]


def share_interval(successes: int, n: int, *, level: float) -> tuple[float, float]:
    """Return the two-sided interval of a share at confidence 1 - `level`, by Clopper and Pearson (1934, Biometrika 26).

    It holds the true share at least that often, however few values there are. Of none, it is 0 to 1.
    """
    low = float(betaincinv(successes, n - successes + 1, level / 2)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - level / 2)) if successes < n else 1.0
    return low, high
