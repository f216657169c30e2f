"""The sampler and the pruner of a study: their settings, restarts, and that every proposal makes a config."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.engine import sampler
from sweeps.pruning.pruner import PlateauPruner
from sweeps.study import space
from sweeps.study.proposals import baseline_config, config_of
from sweeps.study.study import Study
from tests.helpers.stories import FOLLOWERS, differing, story, studies


@given(studies(), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_every_proposal_of_a_sampler_makes_a_config(study: Study, number: int) -> None:
    random = study.model_copy(update={"sampler": study.sampler.model_copy(update={"type": "random"})})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(sampler=sampler.make_sampler(random, trial_number=number))
    trial = search.ask(space.distributions(study))
    config = config_of(study, trial.params, seed=1, vocab_size=0)
    baseline = baseline_config(study, seed=1, vocab_size=0)
    followers = {name for names in FOLLOWERS.values() for name in names}
    assert differing(config, baseline) <= {*study.knobs, *followers}


def proposed(study: Study, count: int, *, restart_at: int | None = None) -> list[dict[str, Any]]:
    """Return the sampler's proposals for `count` trials. A restart loads the Optuna study again from its storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(study_name="s", storage=optuna.storages.InMemoryStorage())
    for number in range(count):
        if number == restart_at:
            search = optuna.load_study(study_name="s", storage=search._storage)
        search.sampler = sampler.make_sampler(study, trial_number=number)
        trial = search.ask(space.distributions(study))
        search.tell(trial, trial.params["dropout"] + trial.params["learning_rate"])
    return [trial.params for trial in search.trials]


SAMPLED = {
    "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
    "dropout": {"low": 0.0, "high": 0.3},
    "n_embd": {"low": 192, "high": 768, "step": 64},
    "beta2": {"choices": [0.95, 0.99]},
}


@pytest.mark.parametrize("kind", ["tpe", "random", "qmc", "gp", "cmaes"])
def test_a_restarted_sampler_proposes_the_same_without_a_warning(kind: str) -> None:
    study = story(knobs=SAMPLED, sampler={"type": kind})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proposals = proposed(study, 12)
        assert proposals == proposed(study, 12, restart_at=11)
    assert proposals[:2] != proposed(story(knobs=SAMPLED, sampler={"type": kind}, seed=2), 2)
    for name in SAMPLED:
        assert len({params[name] for params in proposals[1:]}) >= 2, name
    assert len({params["dropout"] for params in proposals}) > 8


def test_qmc_fills_the_space_evenly() -> None:
    """Each sixteenth of a range holds exactly one of 16 scrambled Sobol points. Random points would miss several."""
    study = story(
        knobs={"dropout": SAMPLED["dropout"], "learning_rate": SAMPLED["learning_rate"]}, sampler={"type": "qmc"}
    )
    proposals = proposed(study, 17)[1:]  # the first is random
    assert len({int(params["dropout"] / 0.3 * 16) for params in proposals}) == 16


def test_seeds_differ_between_trials_and_studies() -> None:
    seeds = {sampler.sampler_seed(story(seed=seed), trial_number=number) for seed in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_median_pruner_waits_for_its_share_of_the_evaluations() -> None:
    """A quarter of 30 evaluations is 8, so the evaluation at step 8, the ninth, is the first that can end a trial."""
    study = story(pruner={"type": "median", "startup_trials": 2, "warmup": 0.25})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(pruner=sampler.make_pruner(study), sampler=sampler.make_sampler(study, trial_number=0))
    for _ in range(2):
        trial = search.ask()
        for step in range(31):
            trial.report(1.0, step)
        search.tell(trial, 1.0)
    trial = search.ask()
    stops = []
    for step in range(12):
        trial.report(2.0, step)
        stops.append(trial.should_prune())
    assert stops.index(True) == 8


@pytest.mark.parametrize(("factor", "brackets"), [(3, 3), (2, 4)])
def test_hyperbands_brackets_follow_from_the_number_of_evaluations(factor: int, brackets: int) -> None:
    """31 evaluations with the first make floor(log(31 / 3, factor)) + 1 brackets (Li et al. 2018, algorithm 1)."""
    study = story(pruner={"type": "hyperband", "reduction_factor": factor})
    pruner = sampler.make_pruner(study)
    assert isinstance(pruner, optuna.pruners.HyperbandPruner)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(pruner=pruner)
    trial = search.ask()
    trial.report(1.0, 0)
    trial.should_prune()
    assert len(pruner._pruners) == brackets


def test_the_plateau_pruner_has_the_studys_settings() -> None:
    settings = {"epsilon": 0.05, "margin": 0.1, "looks": (0.2, 0.6), "min_completed": 8, "sentinel": 0.25}
    pruner = sampler.make_pruner(story(pruner={"type": "plateau", **settings}, trials=43))
    assert isinstance(pruner, PlateauPruner)
    # trials: the search's and the baseline
    assert {**dataclasses.asdict(pruner.rule), "sentinel": pruner.sentinel} == {**settings, "trials": 44}


def test_a_study_without_a_pruner_prunes_nothing() -> None:
    assert isinstance(sampler.make_pruner(story(pruner={"type": "none"})), optuna.pruners.NopPruner)
