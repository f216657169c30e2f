"""A study in Optuna's terms: distributions of its parameters, its sampler and its pruner."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from sweeps.horizon import grid
from sweeps.knobs import PARAM, ChoicesKnob
from sweeps.proposals import (
    ParamValue,
    Proposal,
    baseline_config,
    baseline_params,
    baseline_proposals,
    candidate_proposals,
    config_of,
    star_proposals,
)
from sweeps.pruner import PlateauPruner
from sweeps.sections import HyperbandPruner, MedianPruner
from sweeps.sections import PlateauPruner as PlateauSettings
from sweeps.settings import WHOLE
from sweeps.study import Study
from sweeps.tpe import Past, Tpe

__all__ = [
    "PARAM",
    "ParamValue",
    "Proposal",
    "baseline_config",
    "baseline_params",
    "baseline_proposals",
    "candidate_proposals",
    "config_of",
    "distributions",
    "make_pruner",
    "make_sampler",
    "star_proposals",
]


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """The space, by parameter name."""
    space: dict[str, BaseDistribution] = {}
    for name, knob in study.sampled.items():
        param = PARAM.get(name, name)
        if isinstance(knob, ChoicesKnob):
            space[param] = CategoricalDistribution(knob.choices)
        elif name in WHOLE and name not in PARAM:
            space[param] = IntDistribution(int(knob.low), int(knob.high), log=knob.log, step=int(knob.step or 1))
        else:
            step = None if knob.step is None else float(knob.step)
            space[param] = FloatDistribution(float(knob.low), float(knob.high), log=knob.log, step=step)
    return space


def sampler_seed(study: Study, *, trial_number: int) -> int:
    """The seed of the sampler that proposes one trial.

    A sampler seeded alike again would repeat its start-up proposals after a restart; seeded from the
    trial's number it proposes what an undisturbed run would from the same history.
    """
    return int(np.random.SeedSequence([study.seed, trial_number]).generate_state(1)[0])


def make_sampler(study: Study, *, trial_number: int, past: Past | None = None) -> BaseSampler:
    """The sampler to ask for trial `trial_number`; `past` is one for all asks of a study, which take less time with it.

    QMC alone keeps its seed: it counts its own trials in the study and goes on with the sequence.
    """
    seed = sampler_seed(study, trial_number=trial_number)
    with _no_experimental_warnings():
        match study.sampler.type:
            case "tpe":
                return Tpe(seed=seed, past=past)
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
def _no_experimental_warnings() -> Iterator[None]:
    """Optuna 5 marks `multivariate`, `constant_liar` and whole samplers as experimental; a user can't act on that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def make_pruner(study: Study) -> BasePruner:
    """The pruner, whose steps are evaluations: 0 at the start, then 1, 2, ... to the horizon."""
    evaluations, pruner = grid(study).evaluations, study.pruner
    if isinstance(pruner, PlateauSettings):
        return PlateauPruner(**pruner.model_dump(exclude={"type"}), trials=1 + study.trials)  # the baseline is one too
    if isinstance(pruner, MedianPruner):
        return optuna.pruners.MedianPruner(
            n_startup_trials=pruner.startup_trials, n_warmup_steps=math.ceil(pruner.warmup * evaluations)
        )
    if isinstance(pruner, HyperbandPruner):
        return optuna.pruners.HyperbandPruner(
            min_resource=pruner.min_evaluations,
            max_resource=evaluations + 1,
            reduction_factor=pruner.reduction_factor,
        )
    return optuna.pruners.NopPruner()
