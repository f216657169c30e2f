"""PlateauPruner in an Optuna study of its own, without the rest of the project."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.trial import Trial, TrialState

from sweeps.pruner import PlateauPruner

E = 20
RATES = [1 - 0.9 * k / E for k in range(E + 1)]


def objective(trial: Trial, *, rates: list[float] | None = RATES) -> float:
    """Falls to where the knob says; reports as the documentation does."""
    final = 3 + 4 * trial.suggest_float("knob", 0, 1) ** 2
    if rates:
        trial.set_user_attr("lr", rates)
    for k in range(E + 1):
        trial.report(final + 2 * (1 - k / E) ** 2, step=k)
        if trial.should_prune():
            raise optuna.TrialPruned
    return final


def study(**settings: float) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3), pruner=PlateauPruner(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [True, False])
def test_it_saves_work_and_keeps_the_best(known: bool) -> None:
    made = study(sentinel=0.0)
    made.optimize(lambda trial: objective(trial, rates=RATES if known else None), n_trials=25)
    pruned = made.get_trials(states=(TrialState.PRUNED,))
    assert len(pruned) >= 10
    assert min(trial.params["knob"] for trial in made.trials) == made.best_params["knob"]
    for trial in pruned:
        noted = trial.user_attrs["pruned"]
        assert noted["evaluation"] == trial.last_step
        assert noted["schedule_known"] is known
        assert noted["chance"] < noted["epsilon"]
        assert noted["low"] < noted["predicted"]["mean"] < noted["high"]
        assert "sentinel" not in trial.user_attrs


def test_sentinels_go_on_and_are_noted_once() -> None:
    made = study(sentinel=1.0)
    made.optimize(objective, n_trials=25)
    assert not made.get_trials(states=(TrialState.PRUNED,))
    noted = [trial.user_attrs["sentinel"] for trial in made.trials if "sentinel" in trial.user_attrs]
    assert len(noted) >= 10
    bare = study(sentinel=0.0)
    bare.optimize(objective, n_trials=25)
    first = next(trial for trial in bare.trials if trial.state is TrialState.PRUNED)
    assert made.trials[first.number].user_attrs["sentinel"]["evaluation"] == first.last_step


def test_two_losses_that_are_no_numbers_end_a_trial_and_one_does_not() -> None:
    made = study()
    for losses, ends in (([7.0, math.nan], False), ([7.0, math.nan, math.nan], True), ([7.0, 9.0, 9.5], True)):
        trial = made.ask()
        for step, loss in enumerate(losses):
            trial.report(loss, step=step)
        assert trial.should_prune() is ends


def test_a_study_that_maximises_is_refused() -> None:
    made = optuna.create_study(direction="maximize", pruner=PlateauPruner())
    trial = made.ask()
    trial.report(1.0, step=0)
    with pytest.raises(ValueError, match="minimised"):
        trial.should_prune()


def test_choices_are_places_too() -> None:
    made = study(sentinel=0.0)

    def chosen(trial: Trial) -> float:
        width = trial.suggest_categorical("width", [32, 64, 128])
        trial.set_user_attr("lr", RATES)
        for k in range(E + 1):
            trial.report(3 + 64 / width + 2 * (1 - k / E) ** 2, step=k)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 3 + 64 / width

    made.optimize(chosen, n_trials=25)
    assert made.get_trials(states=(TrialState.PRUNED,))
    assert np.isclose(made.best_value, 3.5)
