"""The law of a loss curve under its learning-rate schedule, fitted to the curve so far.

    L(x) = L_inf + A (x**-alpha - 1) - C z,    x = S1(t) / S1(T)

`S1` is the learning rate summed up to t, and T is the end. `z` is the effect so far of the falls of the rate: a fall at
k counts by its share of the peak rate, times `1 - exp(-(S1(t) - S1(k)) / (0.05 S1(T)))` (after Tissue et al. 2024,
arXiv 2408.11029, and the Multi-Power Law, Luo et al. 2025, arXiv 2503.12811). So a cosine decay speeds a curve up near
its end, and a slow middle alone is not a plateau.

alpha lies on a grid. For each of its values, L_inf, A and C solve 3 x 3 normal equations under a Gaussian prior, and
the values are weighted by their likelihood. Real curves wait, break through, and only then follow the law. Three
choices keep the fit honest about that:

- An evaluation at x has weight `x**2`.
- The error is that of the residuals, not of the noise. It grows where neighbouring residuals are alike, which is a
  misfit rather than noise.
- C is held near 0.2 nats unless a study knows better, because a curve contains no information on C before the rate
  falls.

On curves that follow the law, the only cost is intervals that are too wide early on. On 54 recorded curves, these
choices cut the forecast's error at half-time by 40 % and raised the coverage of 90 % intervals from 0.4 to 0.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

ALPHAS: Floats = np.linspace(0.3, 0.7, 7)
NEEDED = 4
"""evaluations after the warm-up that a fit needs"""
_RESPONSE = 0.05
"""share of the run's summed rate over which a fall of the rate takes effect"""
_LEAST = 1e-4
"""nats; the least residual error"""
_ABSURD = 1e9
"""nats; a larger loss is a gap, like infinity"""
_ROUNDS = 3
"""rounds of fitting; a round uses the error of the round before"""
_MOST_ALIKE = 0.9
"""largest correlation of neighbouring residuals that is believed; it makes the variance 19 times as large"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """A learning-rate schedule as the law needs it, at evaluations 0 to E."""

    progress: Floats
    """(E+1,) `x`: share of the run's summed learning rate that is spent, 0 at the start, 1 at the end"""
    annealing: Floats
    """(E+1,) `z`: effect so far of the falls of the rate, 0 to about 1"""
    warm: int
    """first evaluation after the warm-up, where the rate is at its peak"""
    known: bool
    """False if no schedule was given and a constant rate is assumed"""
    total: float = 1.0
    """the rate summed over the whole run, in rates x evaluations (or x iterations, where steps were given); 1 for an
    assumed constant rate"""

    @property
    def end(self) -> int:
        """The last evaluation, E."""
        return len(self.progress) - 1

    @classmethod
    def of(cls, rates: Sequence[float] | Floats, *, steps: Floats | None = None) -> Self:
        """Return the schedule with these learning rates at evaluations 0 to E, joined by straight lines.

        The evaluations lie at equal distances, or at `steps`, which must rise. Sums use the trapezoidal rule: half of a
        fall between two evaluations happens at each of them. Raises ValueError if a rate is negative or not finite, or
        if none is above 0.
        """
        rate = np.asarray(rates, dtype=float)
        if rate.ndim != 1 or not np.isfinite(rate).all() or (rate < 0).any() or not (rate > 0).any():
            raise ValueError("a schedule is a list of learning rates, none of them negative and at least one above 0")
        peak = float(rate.max())
        distances = np.ones(len(rate) - 1) if steps is None else np.diff(steps)
        spent = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) * distances)])
        progress = spent / spent[-1] if len(rate) > 1 else spent
        since = np.maximum(progress[:, None] - progress, 0.0)  # [t, k]: from k to t; 0 where k comes after t
        effect = -np.expm1(-since / _RESPONSE)
        falls = np.maximum(rate[:-1] - rate[1:], 0.0) / peak
        annealing = (effect[:, :-1] + effect[:, 1:]) / 2 @ falls
        warm = int(np.argmax(rate >= peak * (1 - 1e-9)))
        return cls(progress=progress, annealing=annealing, warm=warm, known=True, total=float(spent[-1]) / 2)

    @classmethod
    def constant(cls, evaluations: int) -> Self:
        """Return a constant rate over evaluations 0 to `evaluations`, which is assumed if no schedule is known."""
        if evaluations < 0:
            raise ValueError(f"evaluations={evaluations} must be at least 0")
        return cls.assumed(np.arange(evaluations + 1) / max(evaluations, 1))

    @classmethod
    def assumed(cls, progress: Floats) -> Self:
        """Return the constant rate that is assumed over evaluations at these shares of the run."""
        return cls(progress=progress, annealing=np.zeros(len(progress)), warm=0, known=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """The Gaussian prior of (A, C), nats: one per alpha, or one for all."""

    mean: Floats
    """(7, 2) or (2,)"""
    precision: Floats
    """(7, 2, 2) or (2, 2): the inverse of the covariance; 0 for no prior knowledge"""

    @classmethod
    def of(cls, mean: ArrayLike, covariance: ArrayLike) -> Self:
        """Return the prior with this mean, (7, 2) or (2,), and covariance, (7, 2, 2) or (2, 2), nats."""
        return cls(mean=np.asarray(mean, dtype=float), precision=np.linalg.inv(np.asarray(covariance, dtype=float)))


WIDE = Prior(mean=np.array([0.0, 0.2]), precision=np.diag([0.0, 1 / 0.2**2]))
"""no prior knowledge of A; C is 0.2 ± 0.2 nats"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """Predicted losses of K curves, nats: (K,) arrays, NaN where no law could be fitted."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """The law fitted to K curves, for 7 values of alpha."""

    coefficients: Floats
    """(K, 7, 3) L_inf, A and C, nats; NaN for a curve with too few evaluations"""
    covariance: Floats
    """(K, 7, 3, 3) covariance of the coefficients"""
    weights: Floats
    """(K, 7) weights of the alphas, 1 in sum"""
    error: Floats
    """(K,) standard deviation of a residual, noise and misfit, nats"""
    seen: NDArray[np.int64]
    """(K,) number of evaluations in the fit"""
    basis: Floats
    """(K, 7, 3, N) factors of L_inf, A and C at each evaluation; NaN beyond a curve's end"""
    ends: NDArray[np.int64]
    """(K,) last evaluation of each schedule"""

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """(K,) whether the curve has enough evaluations for a fit."""
        return self.seen >= NEEDED

    def forecast(self, *, at: int | None = None, confidence: float = 0.9) -> Forecast:
        """Return the loss at evaluation `at`, by default the last one of each schedule, with its interval."""
        evaluations = self.ends if at is None else np.full(len(self.ends), at)
        mean, sd = self.expected(np.eye(self.basis.shape[3])[evaluations])
        reach = special.stdtrit(np.maximum(self.seen - 3, 1), 0.5 + confidence / 2) * np.hypot(sd, self.error)
        return Forecast(mean=mean, low=mean - reach, high=mean + reach)

    def expected(self, shares: Floats) -> tuple[Floats, Floats]:
        """Return (K,) sums of each curve's noiseless losses weighted by `shares` (K, N), and (K,) their sd, nats.

        The variance is that of the coefficients plus the spread between the alphas.
        """
        basis = np.where(shares[:, None, None] == 0, 0.0, self.basis)
        row = basis @ shares[:, None, :, None]
        means = (row[..., 0] * self.coefficients).sum(axis=2)
        mean = (self.weights * means).sum(axis=1)
        variances = (row.swapaxes(2, 3) @ self.covariance @ row)[..., 0, 0]
        spread = (means - mean[:, None]) ** 2
        return mean, np.sqrt((self.weights * (variances + spread)).sum(axis=1))


def fit(losses: Sequence[ArrayLike], schedules: Sequence[Schedule], *, prior: Prior = WIDE) -> Law:
    """Fit the law to K curves, given as losses at evaluations 0 to k, nats, and their schedules.

    NaN and infinite losses are gaps. Evaluations in the warm-up are left out. Raises ValueError if the numbers of
    curves and schedules differ, or if a curve is longer than its schedule.
    """
    return fit_table(table(losses, schedules), schedules, prior=prior)


def fit_table(losses: Floats, schedules: Sequence[Schedule], *, prior: Prior = WIDE) -> Law:
    """Fit the law to K curves in a table as of `table`, (K, N) nats, where NaN marks losses to ignore."""
    used = np.isfinite(losses)
    seen = used.sum(axis=1)
    level = np.where(used, losses, 0.0).sum(axis=1) / np.maximum(
        seen, 1
    )  # subtracted, because rounding errors grow with it
    basis, counts = _basis(schedules, losses.shape[1])
    coefficients, covariance, weights, error = _solve(
        np.where(used[:, None, None], basis, 0.0),
        np.where(used, losses - level[:, None], 0.0),
        np.where(used, counts, 0.0),
        prior,
    )
    coefficients[..., 0] += level[:, None]
    coefficients[seen < NEEDED] = np.nan
    return Law(
        coefficients=coefficients,
        covariance=covariance,
        weights=weights,
        error=error,
        seen=seen,
        basis=basis,
        ends=np.array([schedule.end for schedule in schedules], dtype=np.int64),
    )


def finite(losses: ArrayLike) -> Floats:
    """Return an array with NaN for every loss that is not a number between -1e9 and 1e9 nats."""
    loss = np.asarray(losses, dtype=float)
    return np.where(np.abs(loss) < _ABSURD, loss, np.nan)


def table(losses: Sequence[ArrayLike], schedules: Sequence[Schedule]) -> Floats:
    """Return (K, N) losses to fit the law to: NaN in gaps, at the start, in the warm-up and after the last evaluation.

    Raises ValueError like `fit`.
    """
    stacked = np.full((len(schedules), max((schedule.end + 1 for schedule in schedules), default=0)), np.nan)
    for row, curve, schedule in zip(stacked, losses, schedules, strict=True):
        loss = finite(curve)
        if loss.ndim != 1 or len(loss) > schedule.end + 1:
            raise ValueError(f"losses of shape {loss.shape} don't fit a schedule of {schedule.end + 1} evaluations")
        first = max(schedule.warm, 1)
        row[first : len(loss)] = loss[first:]
    return stacked


def _basis(schedules: Sequence[Schedule], length: int) -> tuple[Floats, Floats]:
    """Return the factors of L_inf, A and C, (K, 7, 3, N), NaN at the start and beyond the end, and (K, N) `x**2`."""
    basis = np.full((len(schedules), len(ALPHAS), 3, length), np.nan)
    counts = np.zeros((len(schedules), length))
    indices: dict[int, int] = {}
    for index, schedule in enumerate(schedules):
        if (first := indices.setdefault(id(schedule), index)) < index:
            basis[index], counts[index] = basis[first], counts[first]
            continue
        started = np.flatnonzero(schedule.progress > 0)
        x = schedule.progress[started]
        basis[index][:, 0, started] = 1.0
        basis[index][:, 1, started] = x ** -ALPHAS[:, None] - 1.0
        basis[index][:, 2, started] = -schedule.annealing[started]
        counts[index, started] = x**2
    return basis, counts


def _solve(basis: Floats, loss: Floats, count: Floats, prior: Prior) -> tuple[Floats, Floats, Floats, Floats]:
    """Solve weighted least squares under the prior.

    Returns the coefficients, their covariance, the weights of the alphas and the residuals' standard deviation. The
    prior's pull is in units of the residual variance, which itself follows from the fit, so there are three rounds.
    """
    weighted = basis * count[:, None, None]
    gram = weighted @ basis.swapaxes(2, 3)
    moment = weighted @ loss[:, None, :, None]
    precision = np.zeros((len(ALPHAS), 3, 3))
    precision[:, 1:, 1:] = prior.precision
    mean = np.zeros((len(ALPHAS), 3))
    mean[:, 1:] = prior.mean
    pull = precision @ mean[..., None]
    tiny = 1e-12 * np.eye(3)  # keeps the equations solvable without a prior
    rows = np.arange(len(loss))
    seen = (count > 0).sum(axis=1)
    per_freedom = seen / np.maximum(seen - 3, 1) / np.maximum(count.sum(axis=1), 1e-300)
    variance = np.full(len(loss), _LEAST**2)
    for _ in range(_ROUNDS):
        scale = variance[:, None, None, None]
        inverse = np.linalg.inv(gram + scale * precision + tiny)
        coefficients = inverse @ (moment + scale * pull)
        residual = (loss[:, None, None] - coefficients.swapaxes(2, 3) @ basis)[:, :, 0] * np.sqrt(count)[:, None]
        squares = (residual**2).sum(axis=2)
        error2 = np.maximum(squares.min(axis=1) * per_freedom, _LEAST**2)
        variance = error2 * _inflation(residual[rows, squares.argmin(axis=1)])
    off = coefficients - mean[..., None]
    misfit = squares / variance[:, None] + (off.swapaxes(2, 3) @ precision @ off)[..., 0, 0]
    weights = np.exp(-(misfit - misfit.min(axis=1, keepdims=True)) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return coefficients[..., 0], variance[:, None, None, None] * inverse, weights, np.sqrt(error2)


def _inflation(residual: Floats) -> Floats:
    """Return (K,) factors by which alike neighbouring residuals raise the variance of a mean: (1 + r) / (1 - r)."""
    alike = (residual[:, 1:] * residual[:, :-1]).sum(axis=1) / np.maximum((residual**2).sum(axis=1), 1e-300)
    alike = np.clip(alike, 0.0, _MOST_ALIKE)
    inflation: Floats = (1 + alike) / (1 - alike)
    return inflation
