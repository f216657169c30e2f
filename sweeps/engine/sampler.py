"""A study's sampler and pruner as objects of Optuna."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from sweeps.analysis.pruning import rule_of
from sweeps.pruning.pruner import PlateauPruner
from sweeps.study.horizon import grid
from sweeps.study.sections import HyperbandPruning, MedianPruning, PlateauPruning
from sweeps.study.study import Study


def sampler_seed(study: Study, *, trial_number: int) -> int:
    """Return the seed of the sampler that proposes one trial, from the study's seed and the trial's number.

    With the same seed for every trial, a restarted sweep would repeat its first proposals. With a seed per trial it
    proposes what an uninterrupted sweep would.
    """
    return int(np.random.SeedSequence([study.seed, trial_number]).generate_state(1)[0])


def make_sampler(study: Study, *, trial_number: int) -> BaseSampler:
    """Return the sampler to ask for trial `trial_number`.

    Only QMC keeps the study's seed, because it counts its trials in the study and continues the sequence.
    """
    seed = sampler_seed(study, trial_number=trial_number)
    with no_experimental_warnings():
        match study.sampler.type:
            case "tpe":
                return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "qmc":
                return optuna.samplers.QMCSampler(
                    scramble=True,
                    seed=study.seed,
                    warn_asynchronous_seeding=False,
                    warn_independent_sampling=False,
                )
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)


@contextmanager
def no_experimental_warnings() -> Iterator[None]:
    """Silence Optuna's warnings of experimental features. These are our choice, so a user can't act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def make_pruner(study: Study) -> BasePruner:
    """Return the pruner, whose steps are evaluations: 0 at the start, then 1, 2, ... to the horizon."""
    evaluations, pruner, rule = grid(study).evaluations, study.pruner, rule_of(study)
    if isinstance(pruner, PlateauPruning) and rule is not None:
        return PlateauPruner(**dataclasses.asdict(rule), sentinel=pruner.sentinel)
    if isinstance(pruner, MedianPruning):
        return optuna.pruners.MedianPruner(
            n_startup_trials=pruner.startup_trials, n_warmup_steps=math.ceil(pruner.warmup * evaluations)
        )
    if isinstance(pruner, HyperbandPruning):
        return optuna.pruners.HyperbandPruner(
            min_resource=pruner.min_evaluations,
            max_resource=evaluations + 1,
            reduction_factor=pruner.reduction_factor,
        )
    return optuna.pruners.NopPruner()
