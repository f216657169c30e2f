"""Gaussian-process regression for a handful of points, with nothing tuned: every hyperparameter is averaged over.

Made for 5 to 60 training points, where a library's maximised likelihood is sure of too much: here a grid of kernels
is weighted by its marginal likelihood, with the mean and the scale integrated out in closed form (Rasmussen and
Williams 2006, sections 2.7 and 5.4.1; the scale's inverse-gamma prior gives Student's t).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf
from scipy.spatial.distance import cdist
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
    alike, beside, lines = _falling(x, _LENGTHS)[:, None], _falling(p, _REACHES), x @ x.T
    # below K's factor, that of [[K, b], [b', c]] has its inverse times b: b is the point asked for, ones, the targets
    below = np.zeros((2, n + 3))
    below[:, :n] = [np.ones(n), targets - centre]
    below[[0, 1], [n + 1, n + 2]] = 1 + (n + ((targets - centre) ** 2).sum()) / min(_NOISES)  # enough to be definite
    # one place for all: memory new from the system takes as long as the algebra in it
    whole = np.empty((len(_LENGTHS), len(_REACHES), n + 3, n + 3))
    kernel, diagonals = whole[..., : n + 1, : n + 1], np.einsum("...ii->...i", whole)
    rows, roots = [], []
    for line, noise in itertools.product(_LINES, _NOISES):
        np.multiply(alike, beside, out=kernel)
        if line:
            kernel += line * lines
        diagonals[..., : n + 1] += noise
        whole[..., n + 1 :, :] = below
        _factor(whole)
        rows.append(whole[..., n:, :n].copy())
        roots.append(diagonals[..., : n + 1].copy())
    k, ones, y = np.concatenate(rows).reshape(-1, 3, n).swapaxes(0, 1)
    diagonal = np.concatenate(roots).reshape(-1, n + 1)

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


def _factor(matrices: Array) -> None:
    """Put each (m, m) matrix's Cholesky factor into its lower triangle; raises LinAlgError where it isn't definite."""
    for each in matrices.reshape(-1, *matrices.shape[-2:]):
        if dpotrf(each.T, lower=0, overwrite_a=1, clean=0)[1] != 0:  # LAPACK's columns are rows here
            raise np.linalg.LinAlgError("a kernel is not positive definite")


def _falling(points: Array, lengths: tuple[float, ...]) -> Array:
    """(l, m, m): how close (m, c) points are, 1 to 0 as their distance grows, by each length; 1 by an infinite one."""
    squares = cdist(points, points, "sqeuclidean")
    return np.stack([np.exp(squares * (-0.5 / length**2)) for length in lengths])
