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

    Each hyperparameter setting has a closed form: the mean's prior is normal, the scale's inverse gamma, so the target
    is Student's t. The settings are averaged by their evidence.
    """
    n, centre = len(targets), float(np.median(targets))
    solved = _solve(np.vstack([features, feature]), np.vstack([places, place]), targets - centre)

    # the constant mean
    precision = (solved.ones**2).sum(1) + 1 / _MEAN_SPREAD
    shift = (solved.ones * solved.targets).sum(1) / precision
    residual = solved.targets - shift[:, None] * solved.ones
    squares = (residual**2).sum(1) + shift**2 / _MEAN_SPREAD

    # the scale, and how well each setting explains the targets
    shape = _SHAPE + n / 2
    rate = _SHAPE * (relative_scale * abs(centre) + 1e-3) ** 2 + squares / 2
    evidence = -np.log(solved.diagonal[:, :n]).sum(1) - np.log(precision) / 2 - shape * np.log(rate)
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()

    # the target at the query: its mean and variance over all settings
    means = shift + (solved.query * residual).sum(1)
    spread = solved.diagonal[:, n] ** 2 + (1 - (solved.query * solved.ones).sum(1)) ** 2 / precision
    mean = float(weights @ means)
    variance = float(weights @ (rate / shape * spread + (means - mean) ** 2))
    return Prediction(mean=centre + mean, scale=float(np.sqrt(variance)), degrees=2 * shape)


@dataclass(frozen=True, kw_only=True)
class _Solved:
    """For each of h hyperparameter settings, L⁻¹ times a vector, where L is the factor of the n targets' kernel."""

    query: Array
    """(h, n) of the kernel between the query and the targets"""
    ones: Array
    """(h, n) of ones"""
    targets: Array
    """(h, n) of the targets"""
    diagonal: Array
    """(h, n+1) of the factor itself; the last is the query's standard deviation given the targets"""


def _solve(features: Array, places: Array, targets: Array) -> _Solved:
    """Factor the kernel of (n+1, c) features and (n+1, d) places, the query last, for every setting.

    The factor of [[K, b], [b', c]] holds L⁻¹ b in its lower rows. So one factorisation per setting solves for all three
    vectors b: the query's kernel, ones and the targets.
    """
    n = len(targets)
    alike, beside = _falling(features, _LENGTHS)[:, None], _falling(places, _REACHES)
    lines = features @ features.T
    below = np.zeros((2, n + 3))
    below[:, :n] = [np.ones(n), targets]
    definite = 1 + (n + (targets**2).sum()) / min(_NOISES)  # large enough for a positive definite matrix
    below[[0, 1], [n + 1, n + 2]] = definite
    # one buffer for all kernels, because allocating takes as long as the algebra
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
    query, ones, solved_targets = np.concatenate(rows).reshape(-1, 3, n).swapaxes(0, 1)
    diagonal = np.concatenate(roots).reshape(-1, n + 1)
    return _Solved(query=query, ones=ones, targets=solved_targets, diagonal=diagonal)


def _factor(matrices: Array) -> None:
    """Replace the lower triangle of each (m, m) matrix by its Cholesky factor. Raises LinAlgError if there is none."""
    for matrix in matrices.reshape(-1, *matrices.shape[-2:]):
        if dpotrf(matrix.T, lower=0, overwrite_a=1, clean=0)[1] != 0:  # LAPACK's columns are rows here
            raise np.linalg.LinAlgError("a kernel is not positive definite")


def _falling(points: Array, lengths: tuple[float, ...]) -> Array:
    """Return the Gaussian kernels (l, m, m) of (m, c) points for each length scale; 1 for an infinite one."""
    squares = cdist(points, points, "sqeuclidean")
    return np.stack([np.exp(squares * (-0.5 / length**2)) for length in lengths])
