"""PlateauPruner in a plain Optuna study, without the rest of the project."""

from __future__ import annotations

import ast
import copy
import itertools
import math
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeps.pruner import PlateauPruner, decisions
from sweeps.pruning import pruner as module
from sweeps.pruning.rule import Decision, chance_among_best

E = 20
RATES = [1 - 0.9 * k / E for k in range(E + 1)]
KNOB = FloatDistribution(0, 1)


def objective(trial: Trial, *, rates: list[float] | None = RATES) -> float:
    """Fall to a loss that the knob sets, and report as the pruner's documentation says."""
    final = 3 + 4 * trial.suggest_float("knob", 0, 1) ** 2
    if rates:
        trial.set_user_attr("plateau:lr", rates)
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
        numbers = decisions(search)[trial.number]
        assert numbers["stopped"]
        assert (numbers["evaluation"], numbers["step"]) == (trial.last_step, trial.last_step)
        assert numbers["val_loss"] == trial.intermediate_values[numbers["evaluation"]]
        assert numbers["schedule_known"] is known
        assert numbers["chance"] < numbers["epsilon"]
        assert numbers["low"] < numbers["predicted"]["mean"] < numbers["high"]
    assert len(decisions(search)) == len(pruned)


def test_sentinels_go_on_and_are_noted_once() -> None:
    search = study(sentinel=1.0)
    search.optimize(objective, n_trials=25)
    assert not search.get_trials(states=(TrialState.PRUNED,))
    assert len(decisions(search)) >= 10
    assert not any(numbers["stopped"] for numbers in decisions(search).values())
    without = study(sentinel=0.0)
    without.optimize(objective, n_trials=25)
    first = next(trial for trial in without.trials if trial.state is TrialState.PRUNED)
    assert decisions(search)[first.number]["evaluation"] == first.last_step


def test_a_share_of_trials_is_spared_by_their_number() -> None:
    search = study(sentinel=0.4)
    search.optimize(objective, n_trials=40)
    spared = [number for number, numbers in decisions(search).items() if not numbers["stopped"]]
    stopped = [trial.number for trial in search.trials if trial.state is TrialState.PRUNED]
    assert spared
    assert stopped
    for number in (*spared, *stopped):
        assert (zlib.crc32(str(number).encode()) / 2**32 < 0.4) is (number in spared)
    assert sum(zlib.crc32(str(number).encode()) / 2**32 < 0.4 for number in range(1000)) == pytest.approx(400, abs=50)


def test_it_compares_with_all_that_have_ended_in_a_loss_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    search, seen = study(), list[int]()

    def recorded(self: PlateauPruner, trial: FrozenTrial, others: Sequence[FrozenTrial], **_: Any) -> Decision:
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
        trial.set_user_attr("plateau:lr", RATES)
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
    number = changes.pop("number", 0)
    settings: dict[str, Any] = {
        "value": losses[-1] if state is TrialState.COMPLETE else None,
        "params": {"knob": knob},
        "distributions": {"knob": KNOB},
        "user_attrs": {"plateau:lr": RATES},
        "intermediate_values": dict(enumerate(losses)),
    }
    trial = optuna.trial.create_trial(state=state, **{**settings, **changes})
    trial.number = number
    return trial


PREDICTED = {"reason": "dominated", "predicted": {"mean": 4.5, "scale": 0.1, "degrees": 9.0}}
DIVERGED = {"reason": "diverged", "predicted": None}


@pytest.mark.parametrize(
    ("losses", "decided", "counts"),
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
    losses: list[float], decided: dict[str, Any], counts: list[float]
) -> None:
    pruner = PlateauPruner(trials=20)
    finals = [3 + 0.2 * i for i in range(8)]
    complete = [frozen(falling(final), TrialState.COMPLETE) for final in finals]
    trial = frozen(falling(3.3)[:7], TrialState.RUNNING)
    without = pruner.decide(trial, complete)
    stopped = frozen(losses, TrialState.PRUNED, number=8)
    decision = pruner.decide(trial, [*complete, stopped], decided={8: decided})
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
            user_attrs={"plateau:lr": RATES[: end + 1]} if known else {},
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


UNEVEN = [0, 1, 2, 5, 9, 20, 50, 51, 60, 70, 77, 80, 81, 90, 97, 99, 100, 110, 150, 199, 200]


def outcomes(steps: Sequence[int], *, skipping: int = 1, rates: Sequence[float] | None = None) -> list[tuple[str, int]]:
    """Return the states of 40 trials that report at these steps, and their reports; odd ones skip some of them."""

    def reporting(trial: Trial) -> float:
        bad = 2 * abs(math.log10(trial.suggest_float("rate", 1e-5, 1e-1, log=True)) + 3)
        diverges = trial.number in (3, 17)
        if rates:
            trial.set_user_attr("plateau:lr", rates)
        noise = np.random.default_rng(trial.number).normal(0, 0.01, len(steps))
        for k in range(0, len(steps), skipping if trial.number % 2 else 1):
            loss = 3 + bad + 2 * (1 - k / (len(steps) - 1)) ** 2 + noise[k]
            trial.report(math.nan if diverges and k > 3 else loss, step=steps[k])
            if trial.should_prune():
                raise optuna.TrialPruned
        return 99.0 if diverges else loss

    search = study(sentinel=0.0)
    search.optimize(reporting, n_trials=40)
    return [(trial.state.name, len(trial.intermediate_values)) for trial in search.trials]


@pytest.mark.parametrize("rates", [None, RATES])
def test_the_unit_of_a_step_changes_nothing(rates: list[float] | None) -> None:
    """Evaluations, iterations and up to 10 billion tokens."""
    expected = outcomes(range(E + 1), rates=rates)
    assert [state for state, _ in expected].count("PRUNED") >= 20
    assert expected[3] == ("PRUNED", 6), "it diverges before any trial could be compared"
    for gap in (2, 250, 131_072, 500_000_000):
        assert outcomes(range(0, E * gap + 1, gap), rates=rates) == expected


@pytest.mark.parametrize(("steps", "skipping"), [(UNEVEN, 1), (range(0, 5001, 250), 2), (range(1, 22), 1)])
def test_uneven_and_mixed_steps_prune_about_as_many(steps: Sequence[int], skipping: int) -> None:
    ended = outcomes(steps, skipping=skipping)
    assert 20 <= [state for state, _ in ended].count("PRUNED") <= 28
    for number in (3, 17):
        assert ended[number][0] == "PRUNED"


@pytest.mark.parametrize("gap", [1, 2, 250, 500_000_000])
def test_a_first_trial_ends_at_its_second_nan_whatever_the_gap(gap: int) -> None:
    trial = study(sentinel=1.0).ask()
    answers = []
    for k, loss in enumerate([5.0, 4.9, math.nan, math.nan]):
        trial.report(loss, step=k * gap)
        answers.append(trial.should_prune())
    assert answers == [False, False, False, True]


def test_one_spike_passes_where_others_report_more_often() -> None:
    """Interpolation turns a spike of a coarse curve into two losses in a row that are far above the first."""
    pruner = PlateauPruner(margin=100.0)
    complete = [frozen(falling(3 + 0.1 * i), TrialState.COMPLETE, user_attrs={}) for i in range(8)]
    reports = {0: 5.0, 2: 4.8, 4: 4.6, 6: 12.0}
    assert not pruner.decide(spiking := frozen([], TrialState.RUNNING, intermediate_values=reports), complete).prune
    reports[8] = 12.0
    assert pruner.decide(spiking, complete).reason == "diverged"


def test_ten_billion_tokens_need_no_more_memory_than_twenty_evaluations() -> None:
    tracemalloc.start()
    try:
        outcomes(range(0, 10_000_000_001, 500_000_000), rates=RATES)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_report_at_every_iteration_is_compared_on_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial is compared where it reaches another step of the grid, and looks at nothing in between."""
    compared = Counter[int]()

    def counted(rule: Any, curve: Any, others: Any) -> Decision:
        compared[len(curve.losses) - 1] += 1
        return Decision(evaluation=len(curve.losses) - 1)

    monkeypatch.setattr(module, "compare", counted)
    end = 1000
    complete = [frozen(falling(3.0, end=end), TrialState.COMPLETE, user_attrs={})]
    pruner = PlateauPruner()
    for k in range(end + 1):
        pruner.decide(frozen(falling(3.3, end=end)[: k + 1], TrialState.RUNNING, user_attrs={}), complete)
    assert compared == dict.fromkeys(range(129), 1)


FOREIGN: dict[str, Any] = {"lr": 0.1, "pruned": True, "sentinel": "mine", "reason": 3, "plateau": [1], "predicted": {}}


def test_attributes_of_the_user_are_left_alone() -> None:
    def noted(trial: Trial) -> float:
        for name, value in FOREIGN.items():
            trial.set_user_attr(name, value)
        trial.study.set_user_attr("plateau:note", "mine")
        return objective(trial, rates=None)

    plain, search = study(sentinel=0.0), study(sentinel=0.0)
    plain.optimize(lambda trial: objective(trial, rates=None), n_trials=25)
    search.optimize(noted, n_trials=25)
    assert [trial.state for trial in search.trials] == [trial.state for trial in plain.trials]
    assert decisions(search) == decisions(plain) != {}
    assert all(trial.user_attrs == FOREIGN for trial in search.trials)
    assert all(not trial.user_attrs for trial in plain.trials)


@pytest.mark.parametrize("rates", [0.1, "fast", [0.1], [0.1, -0.1], [0.0, 0.0], [0.1, math.inf], [[0.1], [0.2]], True])
def test_rates_that_are_none_are_refused_with_the_trial_and_the_remedy(rates: Any) -> None:
    complete = [frozen(falling(3.0), TrialState.COMPLETE)]
    trial = frozen(falling(3.3)[:7], TrialState.RUNNING, user_attrs={"plateau:lr": rates}, number=12)
    with pytest.raises(ValueError, match=r"trial 12: its user attribute 'plateau:lr' is .*; it must be a list"):
        PlateauPruner().decide(trial, complete)


def test_a_new_pruner_knows_what_earlier_ones_decided() -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first = optuna.create_study(
        study_name="shared", storage=storage, sampler=optuna.samplers.RandomSampler(seed=3), pruner=PlateauPruner()
    )
    first.optimize(objective, n_trials=20)
    expected = [numbers["predicted"]["mean"] for numbers in decisions(first).values() if numbers["stopped"]]
    assert len(expected) >= 5
    again = optuna.load_study(study_name="shared", storage=storage, pruner=PlateauPruner())
    again.optimize(objective, n_trials=1)
    assert isinstance(again.pruner, PlateauPruner)
    assert [curve.predicted for curve in again.pruner._past.curves if curve.predicted is not None] == expected


def test_it_uses_optunas_public_interface() -> None:
    """No attribute that begins with an underscore, but of its own."""
    tree = ast.parse(Path(module.__file__).read_text())
    private = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and ast.unparse(node.value) != "self"
    }
    assert not private
