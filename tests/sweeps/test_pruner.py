"""PlateauPruner in an Optuna study of its own, without the rest of the project."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeps import pruner as module
from sweeps.prospects import chance_among_best
from sweeps.pruner import PlateauPruner

E = 20
RATES = [1 - 0.9 * k / E for k in range(E + 1)]
KNOB = FloatDistribution(0, 1)


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


def falling(final: float, *, end: int = E) -> list[float]:
    return [final + 2 * (1 - k / end) ** 2 for k in range(end + 1)]


def frozen(losses: Sequence[float], state: TrialState, *, knob: float = 0.5, **changes: Any) -> FrozenTrial:
    """A trial in that state; a complete one was told its last loss."""
    given: dict[str, Any] = {
        "value": losses[-1] if state is TrialState.COMPLETE else None,
        "params": {"knob": knob},
        "distributions": {"knob": KNOB},
        "user_attrs": {"lr": RATES},
        "intermediate_values": dict(enumerate(losses)),
    }
    return optuna.trial.create_trial(state=state, **{**given, **changes})


@pytest.mark.parametrize(
    ("losses", "counts"),
    [
        ([7.0, 9.0, 9.5], True),
        ([7.0, 6.0, math.nan], True),
        ([7.0, math.inf, math.inf], True),
        ([7.0, 6.0, 9.0], False),  # stopped by someone else at a spike: nobody knows where it would have ended
        ([7.0, 6.0, 5.0], False),
    ],
)
def test_a_diverged_trial_is_a_worse_one_however_it_ended(losses: list[float], counts: bool) -> None:
    pruner = PlateauPruner(trials=20)
    finals = [3 + 0.2 * i for i in range(8)]
    complete = [frozen(falling(final), TrialState.COMPLETE) for final in finals]
    trial = frozen(falling(3.3)[:7], TrialState.RUNNING)
    without = pruner.decide(trial, complete)
    found = pruner.decide(trial, [*complete, frozen(losses, TrialState.PRUNED)])
    assert without.prediction is not None
    assert found.prediction == without.prediction
    known = [*finals, *[math.inf] * counts]
    assert found.chance == chance_among_best(without.prediction, np.array(known), best=3.0, margin=0.03, trials=20)
    assert (found.chance > (without.chance or 1.0)) is counts
    assert (found.best, found.completed) == (3.0, 8)


_ENDED = st.tuples(
    st.integers(0, 1),  # which of two studies
    st.floats(3, 5),
    st.sampled_from([(), ("width",), ("width", "depth")]),  # its parameters beside the knob
    st.booleans(),  # whether its learning rates are known
    st.sampled_from([E // 2, E]),
    st.sampled_from([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]),
)


@settings(deadline=None, max_examples=20)
@given(ended=st.lists(_ENDED, min_size=4, max_size=8), anew=st.booleans())
def test_what_it_keeps_changes_no_decision(ended: list[Any], anew: bool) -> None:
    """One pruner for two studies of changing parameters and horizons, after each trial; copies of trials too."""
    kept = PlateauPruner(min_completed=2)
    studies: tuple[list[FrozenTrial], list[FrozenTrial]] = ([], [])

    def made(final: float, more: Sequence[str], known: bool, end: int, state: TrialState) -> FrozenTrial:
        names = ("knob", *more)
        return frozen(
            falling(final, end=end)[: 7 if state is TrialState.RUNNING else None],
            state,
            params={name: (final - 3) / (2 + at) for at, name in enumerate(names)},
            distributions=dict.fromkeys(names, KNOB),
            user_attrs={"lr": RATES[: end + 1]} if known else {},
        )

    for which, *parts in ended:
        studies[which].append(made(*parts))
        for others in studies:
            trial = made(3.5, ("width",), parts[2], E, TrialState.RUNNING)
            others = [copy.copy(other) for other in others] if anew else list(others)
            assert kept.decide(trial, others) == PlateauPruner(min_completed=2).decide(trial, others)


def test_a_finished_trials_curve_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    make, made = module._curve, Counter[int]()

    def counted(trial: FrozenTrial, *rest: Any, **named: Any) -> Any:
        made[trial.number] += trial.state.is_finished()
        return make(trial, *rest, **named)

    monkeypatch.setattr(module, "_curve", counted)
    study(sentinel=0.5).optimize(objective, n_trials=12)
    assert [made[number] for number in range(12)] == [1] * 11 + [0]
