"""PlateauPruner in a plain Optuna study, without the rest of the project."""

from __future__ import annotations

import copy
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeps.pruning import pruner as module
from sweeps.pruning.pruner import PlateauPruner
from sweeps.pruning.rule import Decision, chance_among_best

E = 20
RATES = [1 - 0.9 * k / E for k in range(E + 1)]
KNOB = FloatDistribution(0, 1)


def objective(trial: Trial, *, rates: list[float] | None = RATES) -> float:
    """Fall to a loss that the knob sets, and report as the pruner's documentation says."""
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
    search = study(sentinel=0.0)
    search.optimize(lambda trial: objective(trial, rates=RATES if known else None), n_trials=25)
    pruned = search.get_trials(states=(TrialState.PRUNED,))
    assert len(pruned) >= 10
    assert min(trial.params["knob"] for trial in search.trials) == search.best_params["knob"]
    for trial in pruned:
        numbers = trial.user_attrs["pruned"]
        assert numbers["evaluation"] == trial.last_step
        assert numbers["val_loss"] == trial.intermediate_values[numbers["evaluation"]]
        assert numbers["schedule_known"] is known
        assert numbers["chance"] < numbers["epsilon"]
        assert numbers["low"] < numbers["predicted"]["mean"] < numbers["high"]
        assert "sentinel" not in trial.user_attrs


def test_sentinels_go_on_and_are_noted_once() -> None:
    search = study(sentinel=1.0)
    search.optimize(objective, n_trials=25)
    assert not search.get_trials(states=(TrialState.PRUNED,))
    sentinels = [trial for trial in search.trials if "sentinel" in trial.user_attrs]
    assert len(sentinels) >= 10
    without = study(sentinel=0.0)
    without.optimize(objective, n_trials=25)
    first = next(trial for trial in without.trials if trial.state is TrialState.PRUNED)
    assert search.trials[first.number].user_attrs["sentinel"]["evaluation"] == first.last_step


def test_a_share_of_trials_is_spared_by_their_number() -> None:
    search = study(sentinel=0.4)
    search.optimize(objective, n_trials=40)
    spared = [trial.number for trial in search.trials if "sentinel" in trial.user_attrs]
    stopped = [trial.number for trial in search.trials if trial.state is TrialState.PRUNED]
    assert spared
    assert stopped
    for number in (*spared, *stopped):
        assert (zlib.crc32(str(number).encode()) / 2**32 < 0.4) is (number in spared)
    assert sum(zlib.crc32(str(number).encode()) / 2**32 < 0.4 for number in range(1000)) == pytest.approx(400, abs=50)


def test_it_compares_with_all_that_have_ended_in_a_loss_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    search, seen = study(), list[int]()

    def recorded(self: PlateauPruner, trial: FrozenTrial, others: Sequence[FrozenTrial]) -> Decision:
        seen[:] = [other.number for other in others]
        return Decision(evaluation=0)

    monkeypatch.setattr(PlateauPruner, "decide", recorded)
    trials = [search.ask() for _ in range(5)]
    for trial in trials:
        trial.report(1.0, step=0)
    search.tell(trials[0], 1.0)
    search.tell(trials[1], state=TrialState.PRUNED)
    search.tell(trials[2], state=TrialState.FAIL)
    assert not trials[3].should_prune()
    assert seen == [0, 1]
    search.pruner.prune(search, search.trials[0])  # asked after its end
    assert seen == [1]


def test_two_losses_that_are_no_numbers_end_a_trial_and_one_does_not() -> None:
    search = study(sentinel=1.0)  # spares no diverged trial
    for losses, ends in (([7.0, math.nan], False), ([7.0, math.nan, math.nan], True), ([7.0, 9.0, 9.5], True)):
        trial = search.ask()
        assert not trial.should_prune()  # nothing to decide on yet
        for step, loss in enumerate(losses):
            trial.report(loss, step=step)
        assert trial.should_prune() is ends


def test_a_study_that_maximises_is_refused() -> None:
    search = optuna.create_study(direction="maximize", pruner=PlateauPruner())
    trial = search.ask()
    trial.report(1.0, step=0)
    with pytest.raises(ValueError, match="minimised"):
        trial.should_prune()


def test_choices_are_places_too() -> None:
    search = study(sentinel=0.0)

    def chosen(trial: Trial) -> float:
        width = trial.suggest_categorical("width", [32, 64, 128])
        trial.set_user_attr("lr", RATES)
        for k in range(E + 1):
            trial.report(3 + 64 / width + 2 * (1 - k / E) ** 2, step=k)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 3 + 64 / width

    search.optimize(chosen, n_trials=25)
    assert search.get_trials(states=(TrialState.PRUNED,))
    assert np.isclose(search.best_value, 3.5)


def falling(final: float, *, end: int = E) -> list[float]:
    return [final + 2 * (1 - k / end) ** 2 for k in range(end + 1)]


def frozen(losses: Sequence[float], state: TrialState, *, knob: float = 0.5, **changes: Any) -> FrozenTrial:
    """Return a trial in this state; the value of a complete trial is its last loss."""
    settings: dict[str, Any] = {
        "value": losses[-1] if state is TrialState.COMPLETE else None,
        "params": {"knob": knob},
        "distributions": {"knob": KNOB},
        "user_attrs": {"lr": RATES},
        "intermediate_values": dict(enumerate(losses)),
    }
    return optuna.trial.create_trial(state=state, **{**settings, **changes})


PREDICTED = {"pruned": {"reason": "dominated", "predicted": {"mean": 4.5, "scale": 0.1, "degrees": 9.0}}}
DIVERGED = {"pruned": {"reason": "diverged", "predicted": None}}


@pytest.mark.parametrize(
    ("losses", "attrs", "counts"),
    [
        ([7.0, 9.0, 9.5], {}, [math.inf]),  # as the trainer reports it
        ([7.0, 9.0, 9.5], DIVERGED, [math.inf]),
        ([7.0, 6.0, math.nan], {}, [math.inf]),
        ([7.0, math.inf, math.inf], {}, [math.inf]),
        ([7.0, 6.0, 5.0], PREDICTED, [4.5]),
        ([7.0, 6.0, 9.0], {}, []),  # stopped by another pruner at a spike: its final loss is unknown
        ([7.0, 6.0, 5.0], {}, []),
    ],
)
def test_a_trial_that_was_stopped_counts_as_predicted_and_a_diverged_one_as_worse(
    losses: list[float], attrs: dict[str, Any], counts: list[float]
) -> None:
    pruner = PlateauPruner(trials=20)
    finals = [3 + 0.2 * i for i in range(8)]
    complete = [frozen(falling(final), TrialState.COMPLETE) for final in finals]
    trial = frozen(falling(3.3)[:7], TrialState.RUNNING)
    without = pruner.decide(trial, complete)
    stopped = frozen(losses, TrialState.PRUNED, user_attrs={"lr": RATES, **attrs})
    decision = pruner.decide(trial, [*complete, stopped])
    assert without.prediction is not None
    assert decision.prediction == without.prediction
    known = np.array([*finals, *counts])
    assert decision.chance == chance_among_best(without.prediction, known, best=3.0, margin=0.03, trials=20)
    assert (decision.chance > (without.chance or 1.0)) is bool(counts)
    assert (decision.best, decision.completed) == (3.0, 8)


_STEP = st.tuples(
    st.sampled_from([0, 0, 0, 1]),  # which of two studies
    st.sampled_from([(1.0,), (1.0,), (1.0, 2.0)]),  # upper ends of the ranges of the trials judged after it
    st.floats(3, 5),
    st.sampled_from([("width",), ("width",), ("width", "depth"), ()]),  # parameters beside the knob
    st.sampled_from([E // 2, E]),
    st.sampled_from([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]),
)


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(_STEP, min_size=4, max_size=10), known=st.booleans(), anew=st.booleans())
def test_cached_curves_change_no_decision(steps: list[Any], known: bool, anew: bool) -> None:
    """A pruner for two studies whose parameters, ranges and horizons change, and for copies of their trials."""
    kept = PlateauPruner(min_completed=2)
    studies: tuple[list[FrozenTrial], list[FrozenTrial]] = ([], [])

    def trial_of(final: float, more: Sequence[str], end: int, state: TrialState, *, high: float = 1.0) -> FrozenTrial:
        names = ("knob", *more)
        return frozen(
            falling(final, end=end)[: 7 if state is TrialState.RUNNING else None],
            state,
            params={name: (final - 3) / (2 + index) for index, name in enumerate(names)},
            distributions=dict.fromkeys(names, FloatDistribution(0, high)),
            user_attrs={"lr": RATES[: end + 1]} if known else {},
        )

    for which, highs, *parts in steps:
        studies[which].append(trial_of(*parts))
        ended = [copy.copy(trial) for trial in studies[which]] if anew else studies[which]
        for high, others in itertools.product(highs, (ended[:], ended[1:], ended[:-1])):
            trial = trial_of(3.5, ("width",), E, TrialState.RUNNING, high=high)
            assert kept.decide(trial, others) == PlateauPruner(min_completed=2).decide(trial, others)


def test_without_a_schedule_the_complete_trials_say_where_the_horizon_is() -> None:
    """The first look is at a tenth of the horizon, even if an incomplete trial went further."""
    complete = [frozen(falling(3 + 0.1 * i), TrialState.COMPLETE, user_attrs={}) for i in range(8)]
    longer = frozen([7.0] * (2 * E + 1), TrialState.PRUNED, user_attrs={})
    for seen, looks in ((2, False), (3, True)):
        trial = frozen(falling(3.3)[:seen], TrialState.RUNNING, user_attrs={})
        assert (PlateauPruner().decide(trial, [*complete, longer]).prediction is not None) is looks


def test_a_longer_trial_moves_the_horizon_of_those_before_it() -> None:
    """All of them then inform the next prediction."""
    pruner = PlateauPruner()
    short = [frozen(falling(3 + 0.1 * i, end=E // 2), TrialState.COMPLETE, user_attrs={}) for i in range(8)]
    trial = frozen(falling(3.3)[:7], TrialState.RUNNING, user_attrs={})
    for others in (short, [*short, frozen(falling(3.0), TrialState.COMPLETE, user_attrs={})]):
        prediction = pruner.decide(trial, others).prediction
        assert prediction is not None
        assert prediction.degrees == 2 + len(others)


@pytest.mark.parametrize(
    ("value", "distribution", "place"),
    [
        (0.5, FloatDistribution(-1, 2), 0.5),
        (-1.0, FloatDistribution(-1, 2), 0.0),
        (10.0, FloatDistribution(1, 10_000, log=True), 0.25),
        (8, IntDistribution(4, 64, log=True), 0.25),
        (5, IntDistribution(4, 8), 0.25),
        (3.0, FloatDistribution(3, 3), 0.5),
    ],
)
def test_a_place_is_a_share_of_the_range(value: float, distribution: Any, place: float) -> None:
    assert module.places(value, distribution) == pytest.approx([place])


def test_choices_are_as_far_apart_as_ends_of_a_range() -> None:
    choices = CategoricalDistribution([32, 64, "wide"])
    places = [module.places(choice, choices) for choice in choices.choices]
    for first, second in itertools.combinations(places, 2):
        assert math.dist(first, second) == pytest.approx(1.0)


def test_the_curve_of_a_finished_trial_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    make, curves = module._curve, Counter[int]()

    def counted(trial: FrozenTrial, *rest: Any, **named: Any) -> Any:
        curves[trial.number] += trial.state.is_finished()
        return make(trial, *rest, **named)

    monkeypatch.setattr(module, "_curve", counted)
    study(sentinel=0.5).optimize(objective, n_trials=12)
    assert [curves[number] for number in range(12)] == [1] * 11 + [0]
