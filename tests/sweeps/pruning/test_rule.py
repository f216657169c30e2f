"""The pruning rule by itself: what it must never do, and chances by counting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, hypergeom, t

from sweeps.pruning import rule as rule_module
from sweeps.pruning.forecast import MOST, Curve, forecast
from sweeps.pruning.gaussian_process import Prediction, predict
from sweeps.pruning.law import Schedule
from sweeps.pruning.plateau import CurveState, verdict
from sweeps.pruning.rule import BEST_SHARE, Decision, Rule, chance_among_best, decide

END = 20
X = np.arange(END + 1) / END
SCHEDULE = Schedule.of(1 - 0.9 * X)


def curve(final: float, *, seen: int = END, knob: float = 0.5, complete: bool = True) -> Curve:
    """Return a curve that falls to `final`; all curves have the same shape."""
    losses = final + 2.0 * (1 - X[: seen + 1]) ** 2
    return Curve(losses=losses, schedule=SCHEDULE, knobs=np.array([knob]), final=final if complete else None)


OTHERS = [curve(3.0 + 0.1 * i, knob=i / 10) for i in range(8)]


def test_it_stops_the_hopeless_and_keeps_the_best() -> None:
    decision = decide(Rule(trials=40), curve(6.0, seen=5, complete=False), OTHERS)
    assert (decision.prune, decision.reason) == (True, "dominated")
    assert decision.prediction is not None
    assert decision.low is not None
    assert decision.low < decision.prediction.mean < (decision.high or 0)
    assert not decide(Rule(trials=40), curve(2.9, seen=5, complete=False), OTHERS).prune


@pytest.mark.parametrize(
    ("rule", "seen", "others"),
    [
        (Rule(), 1, OTHERS),  # before the first look
        (Rule(), 17, OTHERS),  # after the last
        (Rule(), 5, OTHERS[:4]),  # too few
        (Rule(), 5, [Curve(losses=trial.losses, schedule=SCHEDULE, knobs=trial.knobs) for trial in OTHERS]),
        (Rule(), 5, [curve(3.0, seen=4) for _ in range(8)]),  # none got that far
    ],
)
def test_no_decision_without_a_look_or_something_to_compare(rule: Rule, seen: int, others: list[Curve]) -> None:
    decision = decide(rule, curve(9.0, seen=seen, complete=False), others)
    assert not decision.prune
    assert decision.prediction is None


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_no_decision_where_there_is_no_loss(last: float) -> None:
    hopeless = curve(9.0, seen=8, complete=False)
    gap = dataclasses.replace(hopeless, losses=np.append(hopeless.losses, last))
    assert decide(Rule(), hopeless, OTHERS).prune
    assert decide(Rule(), gap, OTHERS) == Decision(evaluation=9)


def test_never_in_the_warm_up() -> None:
    slow = Schedule.of(np.concatenate([np.linspace(0, 1, 11), np.linspace(1, 0, 10)]))
    hopeless = curve(9.0, seen=8, complete=False)
    warming = Curve(losses=hopeless.losses, schedule=slow, knobs=hopeless.knobs)
    assert decide(Rule(), hopeless, OTHERS).prune
    assert not decide(Rule(), warming, OTHERS).prune


@given(
    end=st.integers(1, 60),
    peak=st.integers(0, 60),
    looks=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda shares: (min(shares), max(shares))),
)
@example(end=20, peak=0, looks=(0.0, 1.0))
def test_looks_lie_between_two_shares_after_the_warm_up_and_before_the_end(
    end: int, peak: int, looks: tuple[float, float]
) -> None:
    schedule = Schedule.of([1.0 + (k == peak) for k in range(end + 1)])
    evaluations = Rule(looks=looks).looks_at(schedule)
    warm = peak if peak <= end else 0
    assert list(evaluations) == [k for k in range(max(1, warm), end) if looks[0] * end <= k <= looks[1] * end]


def informs(trial: Curve, end: int, *, k: int) -> bool:
    """Whether a trial's final loss and its loss at k are known, over a horizon of `end` evaluations."""
    final = trial.final is not None and math.isfinite(trial.final)
    return final and trial.schedule.end == end and k < len(trial.losses) and math.isfinite(trial.losses[k])


def features(trial: Curve, k: int) -> list[float]:
    """Return the features of a prediction at evaluation k."""
    present = [at for at in range(k + 1) if math.isfinite(trial.losses[at])]
    now, third, last = np.interp([k, max(0, k - max(2, k // 3)), k - 1], present, trial.losses[present])
    spent = trial.schedule.progress[k]
    return [now, third - now, last - now, 1 - spent, math.log(spent * trial.schedule.total)]


def by_hand(trial: Curve, others: Sequence[Curve]) -> Prediction:
    """Return the prediction of the final loss of `trial`, computed trial by trial."""
    k = len(trial.losses) - 1
    useful = [other for other in others if informs(other, trial.schedule.end, k=k)]
    rows = np.array([features(other, k) for other in useful])
    query = (np.array(features(trial, k)) - rows.mean(axis=0)) / (rows.std(axis=0) + 0.02) / math.sqrt(5)
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 0.02) / math.sqrt(5)
    near = [math.dist((*row, *other.knobs), (*query, *trial.knobs)) for row, other in zip(rows, useful, strict=True)]
    chosen = np.argsort(near)[:64]
    remaining = predict(
        rows[chosen],
        np.array([useful[at].knobs for at in chosen]),
        np.array([useful[at].losses[k] - (useful[at].final or 0.0) for at in chosen]),
        feature=query,
        place=trial.knobs,
        relative_scale=0.2,
    )
    return Prediction(mean=trial.losses[k] - remaining.mean, scale=remaining.scale, degrees=remaining.degrees)


def drawn(rng: np.random.Generator, *, seen: int = END, end: int = END, gaps: float = 0.0, **known: Any) -> Curve:
    """Return a random curve and schedule, with a share of gaps except at the start, at 6, at 9 and at the end."""
    losses = (
        3 + rng.exponential() + 2 * rng.random() * (1 - np.arange(seen + 1) / end) ** 2 + 0.05 * rng.random(seen + 1)
    )
    missing = rng.random(seen + 1) < gaps
    missing[[0, *(at for at in (6, 9, seen) if at <= seen)]] = False
    losses[missing] = rng.choice([math.nan, math.inf], size=missing.sum())
    peak = np.minimum(1, (np.arange(end + 1) + 1) / rng.integers(1, 4)) * 10 ** rng.uniform(-4, -2)
    schedule = Schedule.of(peak * (1 - rng.random() * np.arange(end + 1) / end))
    return Curve(losses=losses, schedule=schedule, knobs=rng.random(3), **known)


@pytest.mark.parametrize("k", [2, 6, 9])
@pytest.mark.parametrize(("complete", "gaps"), [(8, 0.0), (8, 0.3), (MOST, 0.0), (MOST + 20, 0.1)])
def test_a_prediction_rests_on_the_nearest_complete_trials_of_the_same_horizon(
    complete: int, gaps: float, k: int
) -> None:
    rng = np.random.default_rng(complete + k)
    others = [
        *(drawn(rng, gaps=gaps, final=float(rng.uniform(3, 4))) for _ in range(complete)),
        *(drawn(rng, seen=9, predicted=3.0) for _ in range(3)),
        *(drawn(rng, final=math.inf) for _ in range(3)),
        *(drawn(rng, end=END + 4, seen=END + 4, final=2.0) for _ in range(3)),
        *(drawn(rng, end=END - 4, seen=END - 4, final=2.0) for _ in range(3)),
        *(drawn(rng, seen=1, final=2.0) for _ in range(3)),
    ]
    if k == 2:  # without a loss at k it informs nothing
        others[0] = dataclasses.replace(others[0], losses=np.where(np.arange(END + 1) == k, math.inf, others[0].losses))
    trial = drawn(rng, seen=k, gaps=gaps)
    expected = by_hand(trial, others)
    for order in (others, [others[at] for at in rng.permutation(len(others))]):
        prediction = forecast(trial, order, min_completed=5)
        assert prediction is not None
        assert prediction.mean == pytest.approx(expected.mean, abs=1e-9)
        assert prediction.scale == pytest.approx(expected.scale, rel=1e-9)
        informing = sum(informs(other, END, k=k) for other in others)
        assert prediction.degrees == expected.degrees == 2 + min(MOST, informing)


@pytest.mark.parametrize("complete", range(4))
def test_a_prediction_needs_as_many_trials_as_it_is_told_to_and_at_least_one(complete: int) -> None:
    trial = curve(4.0, seen=5, complete=False)
    for needed in range(4):
        prediction = forecast(trial, OTHERS[:complete], min_completed=needed)
        assert (prediction is not None) is (complete >= max(needed, 1))


@settings(deadline=None, max_examples=30)
@given(
    final=st.floats(2.5, 5),
    epsilon=st.floats(0.01, 0.5),
    margin=st.floats(0, 0.5),
    total=st.sampled_from([None, 14, 50]),
)
def test_a_decisions_numbers(final: float, epsilon: float, margin: float, total: int | None) -> None:
    """A pruned trial counts as predicted, a diverged one as worse than all. The best is a complete trial."""
    more = [
        dataclasses.replace(curve(4.0, seen=8, complete=False), predicted=2.9),
        dataclasses.replace(curve(4.0, seen=8, complete=False), final=math.inf),
        curve(2.0, seen=8, complete=False),
    ]
    rule = Rule(epsilon=epsilon, margin=margin, trials=total)
    decision = decide(rule, curve(final, seen=6, complete=False), [*OTHERS, *more])
    prediction = decision.prediction
    assert prediction is not None
    assert (decision.evaluation, decision.best, decision.completed) == (6, 3.0, 8)
    spread = t(prediction.degrees, prediction.mean, prediction.scale)
    assert (decision.low, decision.high) == pytest.approx((spread.ppf(epsilon), spread.ppf(1 - epsilon)))
    finals = np.array([*(other.final for other in OTHERS), 2.9, math.inf], dtype=float)
    chance = chance_among_best(prediction, finals, best=3.0, margin=margin, trials=total)
    assert decision.chance == pytest.approx(chance)
    assert decision.prune is (chance < epsilon)


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([7.0, 9.0, 9.0], True),
        ([7.0, 8.1, 8.1], True),
        ([7.0, 7.9, 9.0], False),
        ([7.0, 9.0, 7.9], False),
        ([9.0, 9.0], False),
        ([math.inf, math.inf], False),
        ([math.inf, math.inf, math.inf], True),
        ([math.nan, 7.0, 9.0, 9.0], True),
        ([math.inf, 7.0, 9.0, 9.0], True),
        ([7.0, 6.0, 9.0], False),  # one spike may pass
        ([7.0, math.inf, math.inf], True),
        ([7.0, math.inf, math.nan], False),  # a gap is no loss
        ([7.0, math.nan, 9.0], False),
        ([math.nan], False),
        ([7.0], False),
    ],
)
def test_diverged(losses: list[float], diverged: bool) -> None:
    decision = decide(Rule(), Curve(losses=np.array(losses), schedule=SCHEDULE, knobs=np.array([0.5])), OTHERS)
    assert (decision.reason == "diverged") is diverged
    assert decision.prune is diverged


@settings(deadline=None, max_examples=60)
@given(shift=st.floats(-3, 50), seen=st.integers(2, 16), final=st.floats(2.5, 6), order=st.permutations(range(8)))
def test_neither_a_constant_nor_the_order_of_trials_matters(
    shift: float, seen: int, final: float, order: list[int]
) -> None:
    def moved(trial: Curve, complete: bool = True) -> Curve:
        last = trial.losses[-1] + shift if complete else None
        return Curve(losses=trial.losses + shift, schedule=SCHEDULE, knobs=trial.knobs, final=last)

    trial = curve(final, seen=seen, complete=False)
    decision = decide(Rule(trials=20), trial, OTHERS)
    again = decide(Rule(trials=20), moved(trial, complete=False), [moved(OTHERS[i]) for i in order])
    assert decide(Rule(trials=20), trial, [OTHERS[i] for i in order]) == decision
    if decision.chance is not None:
        assert again.chance == pytest.approx(decision.chance, abs=1e-6)


_FALL = 6 + np.maximum(np.arange(41), 1.0) ** -0.5


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        (_FALL[:9], CurveState.UNDETERMINED),
        (_FALL[:31], CurveState.IMPROVING),
        (np.where(np.arange(31) < 14, _FALL[:31], _FALL[13]), CurveState.PLATEAU),
    ],
)
def test_a_hopeless_trial_that_is_also_stuck_has_both_reasons(losses: Any, word: CurveState) -> None:
    schedule, knobs = Schedule.of(np.ones(41)), np.zeros(1)
    finals = [3 + 0.1 * i for i in range(8)]
    others = [Curve(losses=final - 6 + _FALL, schedule=schedule, knobs=knobs, final=final) for final in finals]
    assert verdict(losses, schedule).word is word
    decision = decide(Rule(), Curve(losses=losses, schedule=schedule, knobs=knobs), others)
    assert decision.reason == ("plateau-and-dominated" if word is CurveState.PLATEAU else "dominated")


_LOSS = st.one_of(st.floats(0, 12), st.just(math.nan), st.just(math.inf))


@settings(deadline=None, max_examples=100)
@given(losses=st.lists(_LOSS, min_size=1, max_size=END + 1), other=st.lists(_LOSS, min_size=1, max_size=END + 1))
def test_gaps_never_raise_and_a_missing_loss_never_stops_a_trial(losses: list[float], other: list[float]) -> None:
    trial = Curve(losses=np.array(losses), schedule=SCHEDULE, knobs=np.array([0.1]))
    odd = Curve(losses=np.array(other), schedule=SCHEDULE, knobs=np.array([0.9]), final=3.0)
    decision = decide(Rule(), trial, [*OTHERS, odd])
    assert not (decision.prune and math.isnan(losses[-1]))


def test_a_rising_curve_above_all_others_is_stopped_for_being_dominated_alone() -> None:
    rising = Curve(losses=np.linspace(5, 5.5, 9), schedule=SCHEDULE, knobs=np.array([0.5]))
    decision = decide(Rule(trials=40), rising, OTHERS)
    assert decision.reason in ("", "dominated")


@pytest.mark.parametrize(
    ("others", "trials", "better"), [(9, 40, 0), (9, 40, 2), (19, 40, 3), (39, 40, 3), (39, 40, 4)]
)
def test_the_chance_is_that_of_drawing_ranks(others: int, trials: int, better: int) -> None:
    """If `better` of `others` end lower, the share of later trials that do is Beta(better + 1, others - better + 1)."""
    finals = np.arange(others, dtype=float)
    sure: dict[str, Any] = {"scale": 1e-9, "degrees": 1e6}
    chance = chance_among_best(Prediction(mean=better - 0.5, **sure), finals, best=-9.0, margin=0.0, trials=trials)
    room = math.ceil(trials / 10) - 1 - better
    expected = betabinom.cdf(room, trials - others - 1, better + 1, others - better + 1) if room >= 0 else 0.0
    assert chance == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("better", range(4))
@pytest.mark.parametrize(("others", "trials"), [(3, 4), (9, 10), (30, 25), (30, 31), (9, 95)])
def test_chances_among_so_many_trials_are_counted(others: int, trials: int, better: int) -> None:
    """`others` + 1 of all ranks are drawn, all sets equally likely; the trial's rank is the `better` + 1-th."""
    sure = Prediction(mean=better - 0.5, scale=1e-9, degrees=1e6)
    chance = chance_among_best(sure, np.arange(others, dtype=float), best=-9.0, margin=0.0, trials=trials)
    total = max(trials, others + 1)
    best = math.ceil(total / 10)
    sets = [math.comb(best, i) * math.comb(total - best, others + 1 - i) for i in range(better + 1, others + 2)]
    assert chance == pytest.approx(sum(sets) / math.comb(total, others + 1), abs=1e-9)


@pytest.mark.parametrize(("others", "better"), [(0, 0), (7, 0), (7, 3), (7, 7), (39, 2)])
def test_among_any_number_of_trials_a_tenth_is_the_best(others: int, better: int) -> None:
    """The chance that more than `better` of `others` + 1 uniform places lie in the best tenth."""
    sure = Prediction(mean=better - 0.5, scale=1e-9, degrees=1e6)
    chance = chance_among_best(sure, np.arange(others, dtype=float), best=-9.0, margin=0.0)
    counts = range(better + 1, others + 2)
    expected = sum(math.comb(others + 1, i) * 0.1**i * 0.9 ** (others + 1 - i) for i in counts)
    assert chance == pytest.approx(expected, abs=1e-9)


def test_the_chance_is_averaged_over_the_prediction() -> None:
    """Two trials in all: the better of them is the best tenth."""
    prediction = Prediction(mean=3.5, scale=0.4, degrees=7.0)
    chance = chance_among_best(prediction, np.array([3.2]), best=3.2, margin=0.0, trials=2)
    assert chance == pytest.approx(t.cdf((3.2 - 3.5) / 0.4, 7))


def test_within_the_margin_of_the_best_it_goes_on() -> None:
    near = Prediction(mean=3.02, scale=1e-6, degrees=30.0)
    finals = np.full(39, 3.0)
    assert chance_among_best(near, finals, best=3.0, margin=0.03, trials=40) == pytest.approx(1.0)
    assert chance_among_best(near, finals, best=3.0, margin=0.01, trials=40) == pytest.approx(0.0)


@given(st.integers(1, 200), st.integers(1, 2000))
def test_ranks_of_a_draw_are_hypergeometric(others: int, trials: int) -> None:
    """With `better` of the others ahead, more than `better` of the drawn ranks must be among the best."""
    total = max(trials, others + 1)
    best = math.ceil(BEST_SHARE * total)
    expected = hypergeom.sf(np.arange(others + 1), total, best, others + 1)
    assert rule_module._belongs(others, trials) == pytest.approx(expected, abs=1e-10)
