"""Gaussian-process regression on 5 to 60 points, averaged over all hyperparameters instead of tuned.

With so few points, the maximised likelihood of a library is overconfident. Here a grid of kernels is weighted by
marginal likelihood, and the mean and the scale are integrated out in closed form (Rasmussen and Williams 2006, sections
2.7 and 5.4.1). The scale's inverse-gamma prior makes the prediction a Student's t.
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
"""length scales of the features, which are standardised, and of the places, which are 0..1"""
_NOISES, _LINES = (0.05, 0.3), (0.0, 1.0)
"""noise as a share of the scale; weight of a linear kernel on the features"""
_MEAN_SPREAD = 4.0
"""prior variance of the mean, in units of the scale"""
_SHAPE = 1.0
"""shape of the scale's prior, which counts as much as two observations"""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A Student's t distribution around `mean`."""

    mean: float
    scale: float
    degrees: float

    def below(self, value: Array) -> Array:
        """Return the probability of less than each of the values."""
        return np.asarray(stdtr(self.degrees, (value - self.mean) / self.scale))

    def bound(self, probability: float) -> float:
        """Return the quantile of `probability`."""
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
    """Predict the target at (`feature`, `place`) from n known ones.

    features (n, c) are standardised, places (n, d) lie in 0..1, targets are (n,). `relative_scale` is the prior spread
    of the targets as a share of their median.
    """
    n = len(targets)
    x, p = np.vstack([features, feature]), np.vstack([places, place])
    centre = float(np.median(targets))
    alike, beside, lines = _falling(x, _LENGTHS)[:, None], _falling(p, _REACHES), x @ x.T
    # The factor of [[K, b], [b', c]] holds K's inverse factor times b in its lower rows. So one factorisation solves
    # for all right-hand sides b: the query's kernel, ones and the targets.
    below = np.zeros((2, n + 3))
    below[:, :n] = [np.ones(n), targets - centre]
    below[[0, 1], [n + 1, n + 2]] = 1 + (n + ((targets - centre) ** 2).sum()) / min(
        _NOISES
    )  # large enough to be definite
    # One buffer for all kernels, because allocating takes as long as the algebra.
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
    """Replace the lower triangle of each (m, m) matrix by its Cholesky factor. Raises LinAlgError if there is none."""
    for matrix in matrices.reshape(-1, *matrices.shape[-2:]):
        if dpotrf(matrix.T, lower=0, overwrite_a=1, clean=0)[1] != 0:  # LAPACK's columns are rows here
            raise np.linalg.LinAlgError("a kernel is not positive definite")


def _falling(points: Array, lengths: tuple[float, ...]) -> Array:
    """Return the Gaussian kernels (l, m, m) of (m, c) points for each length scale; 1 for an infinite one."""
    squares = cdist(points, points, "sqeuclidean")
    return np.stack([np.exp(squares * (-0.5 / length**2)) for length in lengths])
