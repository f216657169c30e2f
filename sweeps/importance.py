"""How much of the loss's variance each knob explains over the search space, beside a knob that explains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import FloatDistribution

from sweeps import space
from sweeps.chosen import search_runs
from sweeps.results import Results, Run

FANOVA_TRIALS = 20
"""complete trials below which fANOVA's forest says nothing reliable"""
_FORESTS, _TREES = 3, 32


@dataclass(frozen=True, kw_only=True)
class Importances:
    """Share of the final loss's variance over the search space that each knob explains alone (fANOVA)."""

    shares: Mapping[str, float]
    """by Optuna parameter, largest first; empty where `reason` says why"""
    zero_line: float
    """what a knob without any effect gets from as many trials: shares near or below it mean nothing"""
    trials: int
    reason: str


def importances(results: Results) -> Importances:
    """fANOVA (Hutter et al. 2014) over the search's complete trials, averaged over a few seeded forests.

    Each forest also gets a dummy knob of random values; the largest share that a dummy gets is the
    zero line. Pruned trials have no final loss and are left out, which the reader should be told.
    """
    distributions = space.distributions(results.study)
    runs = [
        run for run in search_runs(results) if run.val_loss is not None and distributions.keys() <= run.params.keys()
    ]
    if len(runs) < FANOVA_TRIALS or not distributions:
        reason = f"importances need at least {FANOVA_TRIALS} complete trials of the search, and there are {len(runs)}"
        return Importances(shares={}, zero_line=0.0, trials=len(runs), reason=reason)
    shares = dict.fromkeys(distributions, 0.0)
    zero_line = 0.0
    for forest in range(_FORESTS):
        dummies = np.random.default_rng(forest).random(len(runs))
        found = _fanova(runs, distributions, dummies, seed=forest)
        zero_line = max(zero_line, found.pop(_DUMMY))
        for name, share in found.items():
            shares[name] += share / _FORESTS
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return Importances(shares=dict(ordered), zero_line=zero_line, trials=len(runs), reason="")


_DUMMY = "(dummy)"


def _fanova(
    runs: Sequence[Run],
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
    dummies: Sequence[float] | np.ndarray,
    *,
    seed: int,
) -> dict[str, float]:
    spaces = {**distributions, _DUMMY: FloatDistribution(0.0, 1.0)}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study in memory isn't news
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(verbosity)
    for run, dummy in zip(runs, dummies, strict=True):
        params = {name: run.params[name] for name in distributions} | {_DUMMY: float(dummy)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=run.val_loss))
    from optuna.importance import FanovaImportanceEvaluator  # loads scikit-learn, which takes seconds

    return FanovaImportanceEvaluator(n_trees=_TREES, seed=seed).evaluate(study, params=list(spaces))
