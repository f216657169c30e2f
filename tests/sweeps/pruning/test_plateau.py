"""The plateau test: verdicts on curves of known truth, numbers by hand, and that no curve makes it raise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from sweeps.pruning.law import Schedule
from sweeps.pruning.plateau import WINDOW, CurveState, CurveVerdict, Slope, evaluation_noise, slope, verdict, verdicts
from tests.helpers.curves import cosine, curve, held

COSINE = cosine()
CLEAN = curve(COSINE)
TIME = np.arange(41)


def noisy(losses: Any, sigma: float, seed: int = 0) -> NDArray[np.float64]:
    return np.asarray(losses, float) + np.random.default_rng(seed).normal(0, sigma, len(losses))


def with_gaps(losses: NDArray[np.float64], *gaps: int, value: float = math.nan) -> NDArray[np.float64]:
    losses = losses.copy()
    losses[list(gaps)] = value
    return losses


def broken_through(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the curve stuck from evaluation 12 to 33, then falling fast."""
    return held(losses, 12) - 0.02 * np.maximum(TIME - 33, 0)


VERDICTS: dict[str, tuple[Any, Schedule, CurveState]] = {
    "a curve of the law": (CLEAN, COSINE, CurveState.IMPROVING),
    "with noise": (noisy(CLEAN, 0.003), COSINE, CurveState.IMPROVING),
    "the slow middle of a cosine": (noisy(CLEAN[:26], 0.003), COSINE, CurveState.IMPROVING),
    "its schedule unknown": (noisy(CLEAN, 0.0005), Schedule.constant(40), CurveState.IMPROVING),
    "noise hides all": (noisy(CLEAN, 0.1), COSINE, CurveState.UNDETERMINED),
    "stuck lately": (noisy(held(CLEAN, 30), 0.001), COSINE, CurveState.PLATEAU),
    "stuck for long": (noisy(held(CLEAN, 14), 0.003), COSINE, CurveState.PLATEAU),
    "stuck for long in much noise": (noisy(held(CLEAN, 14), 0.02), COSINE, CurveState.PLATEAU),
    "stuck, its schedule unknown": (noisy(held(CLEAN, 20), 0.003), Schedule.constant(40), CurveState.PLATEAU),
    "stuck, with gaps": (with_gaps(noisy(held(CLEAN, 20), 0.003), 5, 9, 15, 25, 33, 38), COSINE, CurveState.PLATEAU),
    "it rises after it fell": (np.where(TIME < 20, CLEAN, CLEAN[20] + 0.01 * (TIME - 20)), COSINE, CurveState.PLATEAU),
    "it broke through": (noisy(broken_through(CLEAN), 0.003), COSINE, CurveState.IMPROVING),
    "a late step down": (np.where(TIME < 36, 5.0, 4.0), COSINE, CurveState.IMPROVING),
    "a step down long ago": (np.where(TIME < 20, 5.0, 4.0), Schedule.constant(40), CurveState.UNDETERMINED),
    "a spike at the end": (with_gaps(noisy(CLEAN, 0.003), 38, value=4.0), COSINE, CurveState.IMPROVING),
    "a dip at the window's start": (with_gaps(noisy(CLEAN, 0.001), 32, value=2.0), COSINE, CurveState.IMPROVING),
    "constant": (np.full(41, 4.0), COSINE, CurveState.UNDETERMINED),
    "constant but for rounding": (4.0 + 1e-9 * TIME, COSINE, CurveState.UNDETERMINED),
    "constant at a constant rate": (noisy(np.full(41, 4.0), 0.01), Schedule.constant(40), CurveState.UNDETERMINED),
    "constant in noise": (noisy(np.full(41, 4.0), 0.01, 3), COSINE, CurveState.UNDETERMINED),
    "rising": (3 + 0.01 * TIME, COSINE, CurveState.UNDETERMINED),
    "it rose and stands": (3 + 0.01 * np.minimum(TIME, 30), Schedule.constant(40), CurveState.UNDETERMINED),
    "rising at a constant rate": (noisy(3 + 0.01 * TIME, 0.01), Schedule.constant(40), CurveState.UNDETERMINED),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_state_of_a_curve(name: str) -> None:
    losses, schedule, word = VERDICTS[name]
    result = verdict(losses, schedule)
    assert result.word is word
    assert result.schedule_known is schedule.known
    assert (result.since is not None) is (word is CurveState.PLATEAU)
    assert bool(result.reason) is (word is CurveState.UNDETERMINED)


REASONS: dict[str, tuple[Any, Schedule, str]] = {
    "no evaluation": ([], COSINE, "too few evaluations"),
    "one": ([9.0], Schedule.constant(40), "too few evaluations"),
    "in the warm-up": (CLEAN[:3], cosine(warm=0.2), "still in the warm-up"),
    "one short": (CLEAN[: 2 + 13], COSINE, "too few evaluations"),
    "diverged": (with_gaps(CLEAN, *range(30, 41), value=math.inf), COSINE, "too many gaps"),
    "every other one missing": (with_gaps(CLEAN, *range(1, 41, 2)), COSINE, "too many gaps"),
    "two of the last 4 missing": (with_gaps(CLEAN, 38, 39), COSINE, "too many gaps"),
    "two missing at the start of the last 10": (with_gaps(CLEAN, 31, 32), COSINE, "too many gaps"),
    "no three in a row": (with_gaps(CLEAN, *range(0, 41, 3)), COSINE, "too many gaps"),
    "nothing but gaps": (np.full(41, math.nan), COSINE, "too few evaluations"),
    "arrived": (np.full(41, 3.0), COSINE, "no drop to expect beyond the noise"),
    "noise hides the rest": (noisy(CLEAN, 0.02), COSINE, "too close to call"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_for_being_undetermined(name: str) -> None:
    losses, schedule, reason = REASONS[name]
    result = verdict(losses, schedule)
    assert (result.word, result.reason, result.since) == (CurveState.UNDETERMINED, reason, None)
    assert (result.expected is None) is (reason not in ("no drop to expect beyond the noise", "too close to call"))


def test_fourteen_evaluations_after_the_warm_up_will_do() -> None:
    assert COSINE.warm == 2
    assert verdict(CLEAN[: 2 + 14], COSINE).word is CurveState.IMPROVING


@pytest.mark.parametrize("since", [10, 15, 20, 25, 30])
@pytest.mark.parametrize("seed", range(4))
def test_since_is_where_it_got_stuck(since: int, seed: int) -> None:
    result = verdict(noisy(held(CLEAN, since), 0.002, seed), COSINE)
    assert result.word is CurveState.PLATEAU
    assert result.since == pytest.approx(since, abs=4)


def test_the_numbers_of_a_curve_of_the_law() -> None:
    """The expected drop is the true one between the means, the observed drop is between the medians."""
    result = verdict(noisy(CLEAN, 1e-4), COSINE)
    assert result.expected == pytest.approx(CLEAN[31:35].mean() - CLEAN[37:].mean(), abs=1e-3)
    assert result.observed == pytest.approx(np.median(CLEAN[31:35]) - np.median(CLEAN[37:]), abs=3e-4)
    assert result.expected_se is not None
    assert result.expected_se < 1e-3


def test_the_interval_is_that_of_two_medians_in_the_noise() -> None:
    losses = noisy(CLEAN, 0.01)
    result = verdict(losses, COSINE)
    median = np.median(np.random.default_rng(0).normal(size=(200_000, 4)), axis=1).var()
    expected = 1.1 * evaluation_noise(losses[COSINE.warm :]) * math.sqrt(2 * median)
    assert result.observed == pytest.approx(np.median(losses[31:35]) - np.median(losses[37:]))
    assert result.se == pytest.approx(expected, rel=0.01)
    assert result.observed is not None
    assert result.se is not None
    assert (result.low, result.high) == pytest.approx(
        (result.observed - 1.645 * result.se, result.observed + 1.645 * result.se)
    )


def test_a_gap_makes_the_interval_wider() -> None:
    losses = noisy(CLEAN, 0.01)
    median = np.median(np.random.default_rng(0).normal(size=(200_000, 3)), axis=1).var()
    holed = with_gaps(losses, 32, 39)
    result = verdict(holed, COSINE)
    assert result.observed == pytest.approx(np.median(losses[[31, 33, 34]]) - np.median(losses[[37, 38, 40]]))
    assert result.se == pytest.approx(1.1 * evaluation_noise(holed[COSINE.warm :]) * math.sqrt(2 * median), rel=0.01)


def test_a_plateau_tells_the_drop_that_is_missing_since() -> None:
    result = verdict(noisy(held(CLEAN, 20), 1e-4), COSINE)
    assert result.since is not None
    first = slice(result.since, result.since + 4)
    assert result.expected == pytest.approx(CLEAN[first].mean() - CLEAN[37:].mean(), rel=0.35)
    assert result.observed == pytest.approx(np.median(held(CLEAN, 20)[first]) - CLEAN[20], abs=1e-3)


def simulated(draw: Callable[[NDArray[np.float64], int], NDArray[np.float64]], sigma: float) -> list[CurveVerdict]:
    """Return verdicts on 150 curves, which end between evaluation 24 and 40."""
    rng = np.random.default_rng(11)
    losses, schedules = [], []
    for _ in range(150):
        schedule = cosine(warm=rng.uniform(0.01, 0.1), ratio=rng.uniform(0, 0.3))
        clean = curve(schedule, alpha=rng.uniform(0.3, 0.7), height=rng.uniform(0.2, 1), gain=rng.uniform(0.05, 0.3))
        now = int(rng.integers(24, 41))
        since = int(rng.integers(10, now - WINDOW + 2))
        losses.append((draw(clean, since) + rng.normal(0, sigma, 41))[: now + 1])
        schedules.append(schedule)
    return verdicts(losses, schedules)


@pytest.mark.parametrize(("sigma", "least"), [(0.001, 0.95), (0.003, 0.95), (0.01, 0.8), (0.03, 0.5)])
def test_alarms_are_true(sigma: float, least: float) -> None:
    improving = [result.word for result in simulated(lambda clean, since: clean, sigma)]
    stuck = [result.word for result in simulated(held, sigma)]
    assert improving.count(CurveState.PLATEAU) <= 0.02 * len(improving)
    assert stuck.count(CurveState.PLATEAU) >= least * len(stuck)
    assert stuck.count(CurveState.IMPROVING) <= 0.03 * len(stuck)


def test_many_curves_are_judged_like_one() -> None:
    cases = [(losses, schedule) for losses, schedule, _ in [*VERDICTS.values(), *REASONS.values()]]
    cases.append((noisy(curve(cosine(evaluations=90)), 0.01)[:70], cosine(evaluations=90)))
    together = verdicts([losses for losses, _ in cases], [schedule for _, schedule in cases])
    for result, (losses, schedule) in zip(together, cases, strict=True):
        alone = verdict(losses, schedule)
        assert (result.word, result.since, result.reason) == (alone.word, alone.since, alone.reason)
        assert (result.expected is None) is (alone.expected is None)
        assert result.expected is None or result.expected == pytest.approx(alone.expected, rel=1e-6, abs=1e-9)
    assert verdicts([], []) == []


def test_a_curve_longer_than_its_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="10 evaluations"):
        verdict(CLEAN, Schedule.constant(9))


RATES = st.one_of(
    st.builds(cosine, evaluations=st.just(40), warm=st.floats(0, 0.9), ratio=st.floats(0, 1)),
    st.just(Schedule.constant(40)),
    st.lists(st.floats(0, 1, width=16), min_size=40, max_size=40).map(lambda rates: Schedule.of([1e-3, *rates])),
)
ANY = st.one_of(st.floats(0, 12), st.floats(), st.just(4.0))


@given(losses=st.lists(ANY, max_size=41), schedule=RATES)
@example(losses=[0.0] * 41, schedule=Schedule.of([1, *[0] * 40]))
@example(losses=[1e308, -1e308] * 20, schedule=COSINE)
def test_nothing_makes_it_raise(losses: list[float], schedule: Schedule) -> None:
    result = verdict(losses, schedule)
    usable = sum(math.isfinite(loss) for loss in losses[max(schedule.warm, 1) :])
    assert usable >= 14 or result.word is CurveState.UNDETERMINED
    numbers = (result.expected, result.expected_se, result.observed, result.se, result.low, result.high)
    assert all(number is None or math.isfinite(number) for number in numbers)
    assert result.since is None or 0 < result.since <= len(losses) - WINDOW


@given(
    seed=st.integers(0, 200),
    sigma=st.sampled_from([0.001, 0.01, 0.03]),
    since=st.integers(8, 40),
    shift=st.floats(-100, 100),
)
def test_a_constant_added_changes_nothing(seed: int, sigma: float, since: int, shift: float) -> None:
    losses = noisy(held(CLEAN, since), sigma, seed)
    before, after = verdict(losses, COSINE), verdict(losses + shift, COSINE)
    assert (after.word, after.since, after.reason) == (before.word, before.since, before.reason)
    assert after.expected == pytest.approx(before.expected, abs=1e-8)
    assert (after.low, after.high) == pytest.approx((before.low, before.high), abs=1e-8)


@given(seed=st.integers(0, 100), gaps=st.sets(st.integers(0, 40), max_size=20))
def test_gaps_of_every_kind_are_the_same(seed: int, gaps: set[int]) -> None:
    losses = noisy(held(CLEAN, 18), 0.003, seed)
    assert (
        len({repr(verdict(with_gaps(losses, *gaps, value=value), COSINE)) for value in (math.nan, math.inf, -1e99)})
        == 1
    )


def test_noise_by_hand() -> None:
    assert evaluation_noise([5, 6, 5]) == pytest.approx(1.4826 * 2 / math.sqrt(6))
    assert evaluation_noise([0, 0, 1, 0, 0, 6]) == pytest.approx(1.4826 * 1.5 / math.sqrt(6))  # 1, 2, 1, 6
    assert evaluation_noise(3 - 0.25 * TIME) == 0
    assert math.isnan(evaluation_noise([4, 3]))
    assert math.isnan(evaluation_noise([]))
    assert math.isnan(evaluation_noise([4, math.nan, 3, 2, math.inf, 1]))


def test_noise_of_white_noise_is_its_sd() -> None:
    """Within 5 % on 5000 evaluations, and 15 % in the mean over 300 curves of 40; a smooth curve adds hardly any."""
    rng = np.random.default_rng(0)
    assert evaluation_noise(rng.normal(4, 0.02, 5000)) == pytest.approx(0.02, rel=0.05)
    sigmas = evaluation_noise(CLEAN[2:] + rng.normal(0, 0.02, (300, 39)))
    assert np.mean(sigmas) == pytest.approx(0.02, rel=0.15)


@given(st.lists(st.lists(ANY, min_size=7, max_size=7), min_size=1, max_size=4))
def test_noise_of_many_is_that_of_each(rows: list[list[float]]) -> None:
    sigmas = evaluation_noise(np.array(rows))
    for sigma, row in zip(np.atleast_1d(sigmas), rows, strict=True):
        good = [loss if abs(loss) < 1e9 else math.nan for loss in row]
        second = [abs(a - 2 * b + c) for a, b, c in zip(good, good[1:], good[2:], strict=False)]
        known = [difference for difference in second if not math.isnan(difference)]
        expected = 1.4826 * statistics.median(known) / math.sqrt(6) if known else math.nan
        assert sigma == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


def test_slope_of_a_straight_line() -> None:
    line = slope(6 - 0.02 * TIME, iterations=50)
    assert line is not None
    assert (line.value, line.low, line.high) == pytest.approx((-0.4, -0.4, -0.4))


@given(seed=st.integers(0, 50), gaps=st.sets(st.integers(31, 40), max_size=6))
def test_slope_is_that_of_least_squares(seed: int, gaps: set[int]) -> None:
    losses = with_gaps(noisy(CLEAN, 0.01, seed), *gaps)
    line = slope(losses, iterations=250)
    present = [n for n in range(31, 41) if n not in gaps]
    exact = stats.linregress([n * 0.25 for n in present], losses[present])
    reach = stats.t.ppf(0.95, len(present) - 2) * exact.stderr
    assert line == Slope(
        value=pytest.approx(exact.slope),
        low=pytest.approx(exact.slope - reach),
        high=pytest.approx(exact.slope + reach),
    )


@pytest.mark.parametrize("losses", [[], [4.0], [4.0, 3.9], [4.0, math.nan, 3.9, math.inf]])
def test_two_evaluations_have_no_slope(losses: list[float]) -> None:
    assert slope(losses, iterations=10) is None


def test_evaluations_must_lie_apart() -> None:
    with pytest.raises(ValueError, match="iterations=0"):
        slope(CLEAN, iterations=0)


def test_a_slope_at_uneven_steps_is_that_of_scipys_regression() -> None:
    steps = np.array([0.0, 100.0, 150.0, 600.0, 640.0, 900.0])
    losses = np.array([4.0, 3.9, 3.91, 3.6, math.nan, 3.5])
    found = slope(losses, iterations=steps, window=5)
    kept = np.isfinite(losses) & (steps > 0)
    line = stats.linregress(steps[kept] / 1000, losses[kept])
    assert found is not None
    assert found.value == pytest.approx(line.slope)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.95, 2) * line.stderr)
    with pytest.raises(ValueError, match="must be above 0"):
        slope(losses, iterations=steps[::-1])
