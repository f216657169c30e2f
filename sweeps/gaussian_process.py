"""Gaussian-process regression for a handful of points, with nothing tuned: every hyperparameter is averaged over.

Made for 5 to 60 training points, where a library's maximised likelihood is sure of too much: here a grid of kernels
is weighted by its marginal likelihood, with the mean and the scale integrated out in closed form (Rasmussen and
Williams 2006, sections 2.7 and 5.4.1; the scale's inverse-gamma prior gives Student's t).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]

_LENGTHS, _REACHES = (1.0, 3.0), (0.5, 1.25, np.inf)
"""of the features, which are standardised, and of the place, which is 0..1"""
_NOISES, _LINES = (0.05, 0.3), (0.0, 1.0)
"""noise, as a share of the scale; weight of a straight line through the features"""
_MEAN_SPREAD = 4.0
"""prior variance of the mean, in units of the scale"""
_SHAPE = 1.0
"""of the scale's prior: as sure as two observations"""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Student's t about `mean`."""

    mean: float
    scale: float
    degrees: float

    def below(self, value: Array) -> Array:
        """Probability of less than each value."""
        return np.asarray(stdtr(self.degrees, (value - self.mean) / self.scale))

    def bound(self, probability: float) -> float:
        """The value that less than has `probability`."""
        return float(self.mean + self.scale * stdtrit(self.degrees, probability))


def predict(
    features: Array,
    places: Array,
    targets: Array,
    *,
    feature: Array,
    place: Array,
    relative_scale: float,
) -> Prediction:
    """The target at (`feature`, `place`) from `n` others.

    features (n, c) standardised; places (n, d) in 0..1; targets (n,). `relative_scale`: the targets' spread as a
    share of their median that is expected before seeing any.
    """
    n = len(targets)
    x, p = np.vstack([features, feature]), np.vstack([places, place])
    centre = float(np.median(targets))
    kernel = np.exp(-0.5 * _over(_squares(x), _LENGTHS)[:, None] - 0.5 * _over(_squares(p), _REACHES))
    # below K's factor, that of [[K, b], [b', c]] has its inverse times b: b is the point asked for, ones, the targets
    whole = np.zeros((len(_LINES), len(_NOISES), *kernel.shape[:2], n + 3, n + 3))
    here, above = np.arange(n + 1), np.arange(n + 1, n + 3)
    for line, part in zip(_LINES, whole, strict=True):
        part[..., : n + 1, : n + 1] = kernel + line * (x @ x.T)
    whole[..., here, here] += np.reshape(_NOISES, (-1, 1, 1, 1))
    whole[..., n + 1, :n] = 1.0
    whole[..., n + 2, :n] = targets - centre
    whole[..., above, above] = 1 + (n + ((targets - centre) ** 2).sum()) / min(_NOISES)  # enough to be definite
    root = np.linalg.cholesky(whole.reshape(-1, n + 3, n + 3))
    k, ones, y = root[:, n:, :n].swapaxes(0, 1)
    diagonal = np.diagonal(root, axis1=1, axis2=2)

    precision = (ones**2).sum(1) + 1 / _MEAN_SPREAD
    shift = (ones * y).sum(1) / precision
    residual = y - shift[:, None] * ones
    squares = (residual**2).sum(1) + shift**2 / _MEAN_SPREAD
    shape = _SHAPE + n / 2
    rate = _SHAPE * (relative_scale * abs(centre) + 1e-3) ** 2 + squares / 2
    evidence = -np.log(diagonal[:, :n]).sum(1) - np.log(precision) / 2 - shape * np.log(rate)
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()

    means = shift + (k * residual).sum(1)
    spread = diagonal[:, n] ** 2 + (1 - (k * ones).sum(1)) ** 2 / precision
    mean = float(weights @ means)
    variance = float(weights @ (rate / shape * spread + (means - mean) ** 2))
    return Prediction(mean=centre + mean, scale=float(np.sqrt(variance)), degrees=2 * shape)


def _squares(points: Array) -> Array:
    """(m, m) squared distances between (m, c) points."""
    return np.asarray(((points[:, None] - points) ** 2).sum(-1))


def _over(squares: Array, lengths: tuple[float, ...]) -> Array:
    """(l, m, m) in units of each length."""
    return np.asarray(squares / np.reshape(lengths, (-1, 1, 1)) ** 2)
