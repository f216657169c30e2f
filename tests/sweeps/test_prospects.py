"""The pruning rule by itself: what it must never do, and chances that can be counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from sweeps.gaussian_process import Prediction
from sweeps.law import Schedule
from sweeps.prospects import Curve, Rule, chance_among_best, decide

END = 20
X = np.arange(END + 1) / END
SCHEDULE = Schedule.of(1 - 0.9 * X)


def curve(final: float, *, seen: int = END, knob: float = 0.5, complete: bool = True) -> Curve:
    """Falls to `final` as all of them do."""
    losses = final + 2.0 * (1 - X[: seen + 1]) ** 2
    return Curve(losses=losses, schedule=SCHEDULE, knobs=np.array([knob]), final=final if complete else None)


OTHERS = [curve(3.0 + 0.1 * i, knob=i / 10) for i in range(8)]


def test_it_stops_the_hopeless_and_keeps_the_best() -> None:
    found = decide(Rule(trials=40), curve(6.0, seen=5, complete=False), OTHERS)
    assert (found.prune, found.reason) == (True, "dominated")
    assert found.prediction is not None
    assert found.low is not None
    assert found.low < found.prediction.mean < (found.high or 0)
    assert not decide(Rule(trials=40), curve(2.9, seen=5, complete=False), OTHERS).prune


@pytest.mark.parametrize(
    ("rule", "seen", "others"),
    [
        (Rule(), 1, OTHERS),  # before the first look
        (Rule(), 17, OTHERS),  # after the last
        (Rule(), 5, OTHERS[:4]),  # too few
        (Rule(), 5, [Curve(losses=one.losses, schedule=one.schedule, knobs=one.knobs) for one in OTHERS]),
        (Rule(), 5, [curve(3.0, seen=4) for _ in range(8)]),  # none got that far
    ],
)
def test_no_decision_without_a_look_or_something_to_compare(rule: Rule, seen: int, others: list[Curve]) -> None:
    found = decide(rule, curve(9.0, seen=seen, complete=False), others)
    assert not found.prune
    assert found.prediction is None


def test_never_in_the_warm_up() -> None:
    slow = Schedule.of(np.concatenate([np.linspace(0, 1, 11), np.linspace(1, 0, 10)]))
    hopeless = curve(9.0, seen=8, complete=False)
    warming = Curve(losses=hopeless.losses, schedule=slow, knobs=hopeless.knobs)
    assert decide(Rule(), hopeless, OTHERS).prune
    assert not decide(Rule(), warming, OTHERS).prune


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([7.0, 9.0, 9.0], True),
        ([7.0, 6.0, 9.0], False),  # one spike may pass
        ([7.0, math.inf, math.inf], True),
        ([7.0, math.inf, math.nan], False),  # a gap is no loss
        ([7.0, math.nan, 9.0], False),
        ([math.nan], False),
        ([7.0], False),
    ],
)
def test_diverged(losses: list[float], diverged: bool) -> None:
    found = decide(Rule(), Curve(losses=np.array(losses), schedule=SCHEDULE, knobs=np.array([0.5])), OTHERS)
    assert (found.reason == "diverged") is diverged
    assert found.prune is diverged


@settings(deadline=None, max_examples=60)
@given(shift=st.floats(-3, 50), seen=st.integers(2, 16), final=st.floats(2.5, 6), order=st.permutations(range(8)))
def test_neither_a_constant_nor_the_order_of_trials_matters(
    shift: float, seen: int, final: float, order: list[int]
) -> None:
    def moved(one: Curve, complete: bool = True) -> Curve:
        last = one.losses[-1] + shift if complete else None
        return Curve(losses=one.losses + shift, schedule=SCHEDULE, knobs=one.knobs, final=last)

    trial = curve(final, seen=seen, complete=False)
    found = decide(Rule(trials=20), trial, OTHERS)
    again = decide(Rule(trials=20), moved(trial, complete=False), [moved(OTHERS[i]) for i in order])
    assert decide(Rule(trials=20), trial, [OTHERS[i] for i in order]) == found
    if found.chance is not None:
        assert again.chance == pytest.approx(found.chance, abs=1e-6)


_LOSS = st.one_of(st.floats(0, 12), st.just(math.nan), st.just(math.inf))


@settings(deadline=None, max_examples=100)
@given(losses=st.lists(_LOSS, min_size=1, max_size=END + 1), other=st.lists(_LOSS, min_size=1, max_size=END + 1))
def test_gaps_never_raise_and_a_missing_loss_never_stops_a_trial(losses: list[float], other: list[float]) -> None:
    trial = Curve(losses=np.array(losses), schedule=SCHEDULE, knobs=np.array([0.1]))
    odd = Curve(losses=np.array(other), schedule=SCHEDULE, knobs=np.array([0.9]), final=3.0)
    found = decide(Rule(), trial, [*OTHERS, odd])
    assert not (found.prune and math.isnan(losses[-1]))


def test_a_rising_curve_above_all_others_is_stopped_for_being_dominated_alone() -> None:
    rising = Curve(losses=np.linspace(5, 5.5, 9), schedule=SCHEDULE, knobs=np.array([0.5]))
    found = decide(Rule(trials=40), rising, OTHERS)
    assert found.reason in ("", "dominated")


@pytest.mark.parametrize(
    ("others", "trials", "better"), [(9, 40, 0), (9, 40, 2), (19, 40, 3), (39, 40, 3), (39, 40, 4)]
)
def test_the_chance_is_that_of_drawing_ranks(others: int, trials: int, better: int) -> None:
    """Of `trials` ranks, `others` + 1 are drawn; the trial's is the `better` + 1-th of them."""
    finals = np.arange(others, dtype=float)
    sure: dict[str, Any] = {"scale": 1e-9, "degrees": 1e6}
    found = chance_among_best(Prediction(mean=better - 0.5, **sure), finals, best=-9.0, margin=0.0, trials=trials)
    room = math.ceil(trials / 10)
    # at least better + 1 of the drawn ranks lie among the best `room`
    expected = hypergeom.sf(better, trials, room, others + 1)
    assert found == pytest.approx(float(expected), abs=1e-9)


def test_within_the_margin_of_the_best_it_goes_on() -> None:
    near = Prediction(mean=3.02, scale=1e-6, degrees=30.0)
    finals = np.full(39, 3.0)
    assert chance_among_best(near, finals, best=3.0, margin=0.03, trials=40) == pytest.approx(1.0)
    assert chance_among_best(near, finals, best=3.0, margin=0.01, trials=40) == pytest.approx(0.0)
