"""A surrogate of training, fitted to a bank: knobs in, a whole loss curve out.

The expected curve is a Gaussian process of the knobs (Matern 5/2, a length scale per knob, noise, maximum likelihood).
All evaluations share one kernel, so an expected curve is a weighted sum of the bank's curves. A trial's curve is the
expected one plus the leave-one-out residual of some trial of the bank, drawn from the quarter of the bank's trials that
are predicted to end nearest. A trial therefore deviates as much as real ones do, and in the same way all along the
curve. The knobs and a seed determine the draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from benchmarks.pruning import curve_banks
from benchmarks.pruning.curve_banks import SCHEDULE, Bank, Floats
from sweeps.pruning.pruner import places
from trainer.errors import UserError

Params = Mapping[str, Any]
"""parameters of a trial, by Optuna's names"""

NEAREST = 0.25
"""share of the bank's trials from which a residual is drawn"""
LENGTHS = (0.1, 30.0)
"""bounds of a knob's length scale, in units of its range; a knob with a length scale of 30 has no effect"""
SHARES = (0.1, 0.25, 0.5)
"""shares of the run at which ranks are compared with the final ones"""
_FINE = 100
"""iterations per evaluation from which learning rates are taken: enough to tell warm-ups of any length apart"""
_ROUNDING = 1e-6
"""tolerance for a bank's knobs, as a share of a range"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surrogate:
    """A surrogate fitted to the N trials of a bank that have whole curves of E + 1 evaluations."""

    bank: Bank
    space: Mapping[str, BaseDistribution]
    knobs: Floats
    """(N, d) knobs of the bank as shares of their ranges in `space`"""
    kernel: Kernel
    """of such shares, in units of the variance of all losses around the mean curve"""

    @classmethod
    def fit(cls, bank: Bank, space: Mapping[str, BaseDistribution]) -> Self:
        """Fit one kernel for all evaluations, without trials that diverged or have gaps.

        Raises UserError for a bank of another space.
        """
        if missing := sorted(space.keys() - bank.settings.keys()):
            raise UserError(f"{bank.name} has no {', '.join(missing)}, so it is no bank of the study's space")
        whole = bank.only(np.flatnonzero(np.isfinite(bank.losses).all(axis=1)))
        columns = {
            name: np.array([places(value, distribution) for value in whole.settings[name].tolist()])
            for name, distribution in space.items()
        }
        for name, column in columns.items():
            if column.min() < -_ROUNDING or column.max() > 1 + _ROUNDING:
                raise UserError(f"{bank.name}: {name} is beyond the study's range, {space[name]}")
        knobs = np.concatenate(list(columns.values()), axis=1)
        centred = whole.losses - whole.losses.mean(axis=0)
        kernel = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(np.ones(knobs.shape[1]), LENGTHS, nu=2.5)
        kernel += WhiteKernel(0.1, (1e-4, 10))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is a knob without effect
            process = GaussianProcessRegressor(kernel).fit(knobs, centred / centred.std())
        return cls(bank=whole, space=space, knobs=knobs, kernel=process.kernel_)

    @property
    def evaluations(self) -> int:
        """E, the number of evaluations after the start."""
        return self.bank.evaluations

    def expected(self, params: Params) -> Floats:
        """Return the expected curve (E+1,) of these parameters, nats per token."""
        return self._expected(self._shares(params))

    def curve(self, params: Params, *, seed: int) -> Floats:
        """Return the curve (E+1,) of a trial with these parameters, the same at every call with the same seed."""
        shares = self._shares(params)
        expected = self._expected(shares)
        nearest = np.argsort(np.abs(self.predicted[:, -1] - expected[-1]), kind="stable")
        rng = np.random.default_rng([seed, *np.frombuffer(shares.tobytes(), np.uint32).tolist()])
        drawn = nearest[rng.integers(max(1, round(NEAREST * len(nearest))))]
        return np.asarray(expected + self.residuals[drawn])

    def rates(self, params: Params) -> Floats | None:
        """Return the learning rate at each evaluation (E+1,); None where the space lacks a knob of the schedule."""
        if not set(SCHEDULE) <= self.space.keys():
            return None
        settings = {name: np.array([params[name]]) for name in SCHEDULE}
        return np.asarray(curve_banks.cosine(settings, np.arange(self.evaluations * _FINE + 1))[0, ::_FINE])

    @cached_property
    def predicted(self) -> Floats:
        """(N, E+1) curves of the bank, each as predicted from the others."""
        return self.bank.losses - self.residuals

    @cached_property
    def residuals(self) -> Floats:
        """(N, E+1) curves less those predictions (Rasmussen and Williams 2006, equation 5.12, with one kernel)."""
        return np.asarray(self._weights / np.diagonal(self._precision)[:, None])

    def _shares(self, params: Params) -> Floats:
        return np.array(
            [place for name, distribution in self.space.items() for place in places(params[name], distribution)]
        )

    def _expected(self, shares: Floats) -> Floats:
        return np.asarray(self._mean + self.kernel(shares[None], self.knobs)[0] @ self._weights)

    @cached_property
    def _precision(self) -> Floats:
        return np.asarray(np.linalg.inv(self.kernel(self.knobs)))

    @cached_property
    def _mean(self) -> Floats:
        return np.asarray(self.bank.losses.mean(axis=0))

    @cached_property
    def _weights(self) -> Floats:
        return np.asarray(self._precision @ (self.bank.losses - self._mean))


def quality(surrogate: Surrogate, *, draws: int = 1000) -> dict[str, Any]:
    """Return the surrogate's errors in leave-one-out predictions of the final loss, and its trials beside the bank's.

    Losses are nats per token. The kernel is fitted to all trials, so the predictions are a little too good. `agreement`
    is Spearman's correlation of the loss at a share of the run with the final one, among all trials and among the best
    30 %. `best` and `median` are final losses. The surrogate's figures are of `draws` random trials; its `best` is the
    mean over groups as large as the bank.
    """
    losses, predicted, residuals = surrogate.bank.losses, surrogate.predicted[:, -1], surrogate.residuals[:, -1]
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = np.array([surrogate.curve(random.ask(dict(surrogate.space)).params, seed=0) for _ in range(draws)])
    groups = np.array_split(drawn[:, -1], max(1, draws // len(losses)))
    best = float(np.mean([group.min() for group in groups]))
    return {
        "r2": float(1 - (residuals**2).mean() / losses[:, -1].var()),
        "spearman": float(stats.spearmanr(predicted, losses[:, -1]).statistic),
        "absolute_error": float(np.abs(residuals).mean()),
        "residual_sd": float(residuals.std()),
        "bank": {"best": float(losses[:, -1].min()), **_median_and_agreement(losses)},
        "surrogate": {"best": best, **_median_and_agreement(drawn)},
    }


def _median_and_agreement(losses: Floats) -> dict[str, Any]:
    """Return the median final loss of curves (N, E+1), and the agreement of early ranks with the final ones."""
    order = np.argsort(losses[:, -1], kind="stable")
    strata = {"all": order, "best30": order[: max(3, round(0.3 * len(order)))]}
    return {
        "median": float(np.median(losses[:, -1])),
        "agreement": {
            stratum: {
                f"{share:g}": float(
                    stats.spearmanr(losses[rows, round(share * (losses.shape[1] - 1))], losses[rows, -1]).statistic
                )
                for share in SHARES
            }
            for stratum, rows in strata.items()
        },
    }
