"""Optuna's TPE, which keeps between asks what it works out of the trials that have ended.

Its proposals are Optuna's own, to the last digit. Optuna translates the parameters of all trials, and ranks all, at
every ask; with a thousand trials that takes most of an ask's time, and only those that ended since are new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe import sampler as optunas
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

Array = NDArray[np.float64]


class Past:
    """What TPE needs of one study's trials that have ended, in arrays with a row for each."""

    def __init__(self) -> None:
        self.space = IntersectionSearchSpace(include_pruned=True)
        self._begin({})

    def _begin(self, space: Mapping[str, BaseDistribution]) -> None:
        self._distributions = dict(space)
        self._row: dict[int, int] = {}
        """by the trial's number"""
        self.params: Array = np.empty((0, len(space)))
        """(n, d) as Optuna's distributions have them inside; NaN in the row of a trial that lacks one"""
        self.ranks: Array = np.empty((0, 3))
        """(n, 3) what orders them, the best lowest, the first column first"""

    def rows(self, trials: Mapping[int, FrozenTrial], space: Mapping[str, BaseDistribution]) -> NDArray[np.intp]:
        """Of the trials by their numbers; those that are new here get one."""
        if space != self._distributions:
            self._begin(space)
        new = [number for number in trials if number not in self._row]
        if new:
            self._row |= {number: row for row, number in enumerate(new, start=len(self._row))}
            self.params = np.vstack([self.params, [inside(trials[number].params, space) for number in new]])
            self.ranks = np.vstack([self.ranks, [_rank(trials[number]) for number in new]])
        return np.array([self._row[number] for number in trials], dtype=np.intp)


class Tpe(TPESampler):
    """TPESampler(multivariate=True, constant_liar=True) for one loss that is minimised."""

    def __init__(self, *, seed: int, past: Past | None = None) -> None:
        super().__init__(multivariate=True, constant_liar=True, seed=seed)
        self._past = past or Past()
        self._search_space = self._past.space

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """TPESampler's, with arrays in the place of lists of trials."""
        if study.directions != [StudyDirection.MINIMIZE]:
            raise ValueError("Tpe follows one loss that is minimised; this study does not minimise one")
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        others = {each.number: each for each in study._get_trials(deepcopy=False, states=states)}
        del others[trial.number]
        running = TrialState.RUNNING
        ended = {number: each for number, each in others.items() if each.state is not running}
        rows = self._past.rows(ended, search_space)
        first, second, third = self._past.ranks[rows].T
        good = np.zeros(len(rows), dtype=bool)
        good[np.lexsort((third, second, first))[: optunas.default_gamma(len(rows))]] = True
        # those that run are lied of: they are bad ones too, and all stand in the order of their numbers
        lied = {number: each for number, each in others.items() if each.state is running}
        supposed = [inside(self._get_params(each, study), search_space) for each in lied.values()]
        bad = np.concatenate([self._past.params[rows[~good]], np.reshape(supposed, (-1, len(search_space)))])
        order = np.argsort([*np.array([*ended], dtype=int)[~good], *lied])
        below, above = (
            self._parzen_estimator_cls(_observed(params, search_space), search_space, self._parzen_estimator_parameters)
            for params in (self._past.params[rows[good]], bad[order])
        )
        samples = below.sample(self._rng.rng, self._n_ei_candidates)
        found = self._compare(samples, self._compute_acquisition_func(samples, below, above))
        return {name: distribution.to_external_repr(found[name]) for name, distribution in search_space.items()}


def _observed(params: Array, space: Mapping[str, BaseDistribution]) -> dict[str, Array]:
    """By name, of those that have them all."""
    there = ~np.isnan(params).any(axis=1)
    return dict(zip(space, params[there].T, strict=True))


def inside(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> list[float]:
    """Parameters as the distributions have them inside; NaN: some are missing."""
    if not space.keys() <= params.keys():
        return [np.nan] * len(space)
    return [distribution.to_internal_repr(params[name]) for name, distribution in space.items()]


def _rank(trial: FrozenTrial) -> tuple[float, float, float]:
    """The complete by their values, then the pruned, the longest first, then those that break a constraint."""
    if (broken := optunas._get_infeasible_trial_score(trial)) > 0:
        return 2.0, broken, 0.0
    if trial.state is TrialState.COMPLETE:
        assert trial.value is not None
        return 0.0, trial.value, 0.0
    if not trial.intermediate_values:
        return 1.0, 1.0, 0.0
    step, value = max(trial.intermediate_values.items())
    return 1.0, -step, np.inf if np.isnan(value) else value
